"""Option files are read as MariaDB and MySQL read them, and as the original Freezer reads its own."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest
from mariadb_server import PASSWORD

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.modes.mysql.login import Login, Tls, login_from
from freezer_sdk.modes.mysql.optionfile import private_option_file, read_option_file


def written(folder: Path, text: str) -> str:
    path = folder / "my.cnf"
    path.write_text(text, encoding="utf-8")
    return str(path)


def login(folder: Path, text: str, **given: object) -> Login:
    return login_from(given, defaults_file=written(folder, text))


ORIGINAL = 'host = 127.0.0.1\nport = 3307\nuser = backup\npassword = "se#cret"\n'


@pytest.mark.parametrize("text", [ORIGINAL, f"[default]\n{ORIGINAL}", f"# settings\n\n[default]\n{ORIGINAL}"])
def test_files_of_the_original_with_and_without_a_section(tmp_path: Path, text: str) -> None:
    found = login(tmp_path, text)
    assert (found.host, found.port, found.user, found.password) == ("127.0.0.1", 3307, "backup", "se#cret")
    assert found.socket is None


def test_a_comment_behind_a_value_is_one_only_where_servers_say_so(tmp_path: Path) -> None:
    assert login(tmp_path, "[default]\nuser=u\npassword=a#b").password == "a#b"
    assert login(tmp_path, "[client]\nuser=u\npassword=a #b").password == "a"
    assert login(tmp_path, "[client]\nuser=u\npassword='a #b' # why").password == "a #b"


def test_groups_quotes_escapes_and_includes(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/b.cnf").write_text("[freezer]\nuser = third\n")
    (tmp_path / "more/a.cnf").write_text("[freezer]\nuser = second\n")
    (tmp_path / "more/c.txt").write_text("[freezer]\nuser = never\n")
    (tmp_path / "other.cnf").write_text("[client]\nport = 3400\n")
    text = "\n".join(
        [
            "; a comment",
            "[mysqld]",
            "user = mysql",
            "[client]",
            "user = first",
            r'password = "a\tb\\c\"d\s"',
            "loose_ssl_ca = /ca.pem",
            "!include other.cnf",
            "!includedir more",
        ]
    )
    found = login(tmp_path, text, host="db.example.org")
    assert (found.user, found.port, found.password) == ("third", 3400, 'a\tb\\c"d ')
    assert (found.ca, found.tls) == ("/ca.pem", Tls.VERIFY_IDENTITY)


def test_options_win_over_the_file(tmp_path: Path) -> None:
    found = login(
        tmp_path, "[client]\nuser=u\nhost=a\nsocket=/s", user="v", host="b", port=4000, **{"ssl-mode": "REQUIRED"}
    )
    assert (found.user, found.host, found.port, found.socket, found.tls) == ("v", "b", 4000, None, Tls.REQUIRED)


def test_localhost_is_the_socket(tmp_path: Path) -> None:
    assert login(tmp_path, "[client]\nuser=u\nhost=localhost\nsocket=/s").place == "/s"
    assert login(tmp_path, "[client]\nuser=u\nsocket=/s").place == "/s"
    assert login(tmp_path, "[client]\nuser=u\nhost=127.0.0.1\nsocket=/s").place == "127.0.0.1:3306"


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", Tls.PREFERRED),
        ("skip-ssl", Tls.DISABLED),
        ("ssl=0", Tls.DISABLED),
        ("ssl", Tls.REQUIRED),
        ("ssl-ca=/c", Tls.VERIFY_IDENTITY),
        ("ssl-ca=/c\nssl-verify-server-cert=off", Tls.VERIFY_CA),
        ("ssl-ca=/c\nskip-ssl-verify-server-cert", Tls.VERIFY_CA),
        ("ssl-verify-server-cert", Tls.VERIFY_IDENTITY),
        ("ssl-mode=verify_ca", Tls.VERIFY_CA),
    ],
)
def test_what_is_asked_of_tls(tmp_path: Path, text: str, mode: Tls) -> None:
    assert login(tmp_path, f"[client]\nuser=u\nhost=a\n{text}\n").tls is mode


@pytest.mark.parametrize("text", ["port=0", "port=x", "ssl-mode=maybe", "!include my.cnf", "!include nope"])
def test_what_makes_no_sense(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        login(tmp_path, f"[client]\n{text}\n")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_option_file("/nowhere/my.cnf")


def test_a_file_for_programs_has_no_name_and_reads_back(tmp_path: Path) -> None:
    settings = {"user": "me", "password": PASSWORD + "\n\t\r", "port": "1"}
    with private_option_file(settings) as descriptor:
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
        assert os.fstat(descriptor).st_nlink == 0
        copy = written(tmp_path, Path(f"/proc/self/fd/{descriptor}").read_text(encoding="utf-8"))
    assert read_option_file(copy) == settings


def test_the_password_is_in_no_repr() -> None:
    assert "se#cret" not in repr(Login(user="u", password="se#cret"))


def test_files_for_tls_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="TLS"):
        Login(host="h", user="u", tls=Tls.VERIFY_CA, ca=str(tmp_path / "ca.pem")).arguments()
    with pytest.raises(ConfigurationError, match="TLS"):
        Login(host="h", user="u", tls=Tls.VERIFY_CA, ca="/nowhere").arguments()


@pytest.mark.parametrize("mode", list(Tls))
def test_what_tls_checks(tmp_path: Path, mode: Tls) -> None:
    context = Login(host="h", user="u", tls=mode).arguments().get("ssl")
    if mode in (Tls.DISABLED, Tls.PREFERRED):
        assert context is None
        return
    assert context.check_hostname == (mode is Tls.VERIFY_IDENTITY)
    assert (context.verify_mode == ssl.CERT_NONE) == (mode is Tls.REQUIRED)


def test_programs_read_it_as_we_do(tmp_path: Path) -> None:
    """MariaDB's own program that prints what it finds in option files."""
    program = "/usr/bin/my_print_defaults"
    if not os.path.exists(program):
        pytest.skip("needs my_print_defaults")
    with private_option_file({"password": PASSWORD, "user": "me"}) as descriptor:
        done = subprocess.run(
            [program, f"--defaults-file=/dev/fd/{descriptor}", "client"],
            pass_fds=[descriptor],
            capture_output=True,
            check=True,
        )
    assert done.stdout.decode().splitlines() == [f"--password={PASSWORD}", "--user=me"]
