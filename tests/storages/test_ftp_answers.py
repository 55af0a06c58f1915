"""What the FTP storages make of answers that no real server here gives: by a scripted one."""

from __future__ import annotations

import contextlib
import time

import pytest
from ftp_server import ScriptedServer

from freezer_sdk.errors import AccessDenied, StorageError, StorageThrottled, StorageUnavailable

pytestmark = pytest.mark.ftp


def names(opened):
    return [info.name for info in opened.list()]


def use(far):
    """Nothing is wrong with what a scripted server holds, unless something raises."""
    assert far.get("there") == b"whole"
    assert far.stat("there").size == 5
    assert names(far) == ["there"]
    pytest.fail("nothing was wrong")


class TestAnswers:
    def test_as_it_should_be(self):
        with ScriptedServer({}) as server, server.storage() as far:
            assert [(info.name, info.size) for info in far.list()] == [("there", 5)]
            assert far.get("there") == b"whole"
            with far.open("there") as reader:
                assert reader.read() == b"whole"

    @pytest.mark.parametrize(
        ("line", "found"),
        [
            ("-rw-r--r--    1 1001     1001            5 Nov 23 09:04 there", ["there"]),
            ("-rw-r--r--+ 1 a b 5 Feb 29  2024  there ", [" there "]),
            ("-rw-rw-r-- 1 Domain Users Domain Admins 5 Jan  2 03:04 there", ["there"]),
            ("-rw-r--r-- 1 u 5 Jan  2 03:04 there", ["there"]),
            ("-rw-r--r-- 1 u 2026 5 Jan  2 03:04 Jan  2 03:04 there", ["Jan  2 03:04 there"]),
            ("lrwxrwxrwx 1 u g 5 Jan  2 03:04 there -> here", []),
            ("crw------- 1 u g 5, 1 Jan  2 03:04 there", []),
            ("total 12", []),
        ],
    )
    def test_lines_of_listings(self, line, found):
        with ScriptedServer({}) as server, server.storage() as far:
            server.listing = lambda: f"{line}\r\n".encode()
            assert names(far) == found

    @pytest.mark.parametrize(
        "line",
        [
            b"01-02-26  03:04AM       5 there",
            b"-rw-r--r-- 1 u g 5 Xyz  2 03:04 there",
            b"-rw-r--r-- 1 u g five Jan  2 03:04 there",
            b"there",
            b"",
        ],
    )
    def test_a_line_that_is_not_understood_is_an_error(self, line):
        with ScriptedServer({}) as server, server.storage() as far:
            good = server.listing()
            server.listing = lambda: good + line + b"\r\n" + good
            with pytest.raises(StorageUnavailable, match="not understood"):
                names(far)

    @pytest.mark.parametrize(
        "answers",
        [
            {"RETR": lambda control, _: control.close()},
            {"LIST": lambda control, _: control.close(), "RETR": "150 here it comes\r\n"},
            {"SIZE /there": "213 5", "MDTM": lambda control, _: control.close()},
            {"SIZE /there": "213 five\r\n"},
            {"MDTM": "213 yesterday\r\n"},
            {"": "220 ready\r\n220 again\r\n"},
            {"USER": "331 " + "x" * 20_000 + "\r\n"},
            {"PASV": "227 somewhere\r\n", "EPSV": "229 somewhere\r\n"},
            {"": lambda control, _: None},
        ],
        ids=["gone", "silent", "cut", "no-number", "no-time", "two-answers", "endless-line", "no-port", "mute"],
    )
    def test_nonsense_is_an_error_in_time(self, answers):
        started = time.monotonic()
        with ScriptedServer(answers) as server, server.storage() as far, pytest.raises(StorageError):
            use(far)
        assert time.monotonic() - started < 60

    @pytest.mark.parametrize("ending", ["426 broken off\r\n", "451 local error\r\n", "", "226 do"])
    def test_no_content_without_the_last_answer(self, ending):
        with ScriptedServer({}) as server, server.storage() as far:
            server.answers["RETR"] = server.sends(b"whole", ending)
            with pytest.raises(StorageUnavailable):
                far.get("there")
            with far.open("there") as reader, pytest.raises(StorageUnavailable):
                b"".join(iter(lambda: reader.read(100), b""))

    def test_a_shorter_object_than_the_server_says(self):
        with ScriptedServer({"REST": "350 go on\r\n"}) as server, server.storage() as far:
            server.answers["RETR"] = server.sends(b"who")
            with pytest.raises(StorageUnavailable, match="cut short"):
                far.get("there")
            with far.open("there") as reader, pytest.raises(StorageUnavailable, match="cut short"):
                reader.read()
            for offset, length in ((1, None), (-4, None), (0, 4)):
                with pytest.raises(StorageUnavailable):
                    far.get("there", offset=offset, length=length)

    def test_a_password_that_the_server_repeats(self):
        with ScriptedServer({"PASS": "530 not canary, surely\r\n"}) as server, server.storage() as far:
            with pytest.raises(AccessDenied) as caught:
                far.get("there")
            error = caught.value
            while error is not None:
                assert "canary" not in f"{error} {error!r}"
                error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

    @pytest.mark.parametrize(
        ("command", "call"),
        [
            ("MDTM", lambda far: far.stat("there")),
            ("RETR", lambda far: far.get("there")),
            ("PASV", lambda far: far.get("there")),
            ("CWD", names),
            ("LIST", names),
        ],
    )
    def test_the_last_words_of_a_session(self, command, call):
        """vsftpd's look like a refusal; nothing is known of files, and the next call connects anew."""
        with ScriptedServer({}) as server, server.storage() as far:
            good = server.answers[command]
            server.answers[command] = "500 OOPS: priv_sock_get_cmd\r\n"
            with pytest.raises(StorageUnavailable, match="died"):
                call(far)
            server.answers[command] = good
            assert far.get("there") == b"whole"
            assert names(far) == ["there"]

    def test_last_words_at_the_login_say_what_is_wrong(self):
        said = "500 OOPS: vsftpd: refusing to run with writable root inside chroot()\r\n"
        with ScriptedServer({"PASS": said}) as server, server.storage() as far:
            with pytest.raises(AccessDenied, match="writable root"):
                far.get("there")
            assert server.commands[-1].startswith("PASS")

    def test_commands_one_by_one_where_several_get_lost(self):
        """The first try fails for a while; the next one takes what the server can."""

        class Forgetful(ScriptedServer):
            def _serve(self, control):
                with control, contextlib.suppress(OSError):
                    self._answer(control, "")
                    while piece := control.recv(65536):
                        self._answer(control, piece.partition(b"\r\n")[0].decode())

        with Forgetful({}) as server, server.storage() as far:
            with pytest.raises(StorageUnavailable):
                far.stat("there")
            assert far.stat("there").size == 5

    def test_too_many_clients_by_another_code(self):
        answers = {"USER": "530 Sorry, the maximum number of clients (9) are already connected.\r\n"}
        with ScriptedServer(answers) as server, server.storage() as far, pytest.raises(StorageThrottled):
            far.get("there")

    def test_a_listing_that_the_server_cuts(self):
        with ScriptedServer({}) as server, server.storage() as far:
            server.answers["LIST"] = server.sends(server.listing(), "226-Output truncated to 1 matches\r\n226 1\r\n")
            with pytest.raises(StorageError, match="truncated"):
                names(far)
