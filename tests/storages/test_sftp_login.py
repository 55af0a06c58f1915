"""The storage ``sftp``: host keys, keys, agents, passwords, SSH configuration, jump hosts, proxies."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from ssh_server import Sshd
from tcp_proxy import TcpProxy

from freezer_sdk.errors import AccessDenied, ConfigurationError, StorageError
from freezer_sdk.storages.sftp import SftpStorage

pytestmark = pytest.mark.sshd


@pytest.fixture(scope="module")
def sshd():
    return Sshd.start()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's home with a folder ``.ssh``."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """A running SSH agent without keys; gives a function that adds one."""
    address = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL)
    while not os.path.exists(address):
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", address)
    yield lambda key: subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
    process.terminate()
    process.wait()


def works(**options):
    """Whether an object can be stored and read with these options."""
    with SftpStorage(**options) as storage:
        storage.put("x", [b"content"])
        return storage.get("x") == b"content"


def text(path):
    return Path(path).read_text()


def host_key(sshd):
    """The key that the server shows when nobody asks for another, as in a file of known hosts."""
    return " ".join(text(sshd.env["SSH_KNOWN_HOSTS"]).split()[1:3])


def refused(error=AccessDenied, **options):
    """The message and the hint of the refusal."""
    with SftpStorage(**options) as storage, pytest.raises(error) as caught:
        storage.stat("x")
    return f"{caught.value} {caught.value.hint}"


class TestHostKeys:
    def test_unknown_is_refused_with_its_fingerprint(self, sshd, path, home):
        message = refused(**sshd.options(path, known_hosts=None))
        assert "not known" in message
        assert sshd.env["SSH_FINGERPRINT"] in message
        assert os.listdir(home / ".ssh") == []

    def test_accepted_by_fingerprint(self, sshd, path, home):
        assert works(**sshd.options(path, known_hosts=None, host_key=sshd.env["SSH_FINGERPRINT"]))
        assert os.listdir(home / ".ssh") == []

    def test_only_that_one_by_fingerprint(self, sshd, path):
        other = "SHA256:" + "A" * 43
        message = refused(**sshd.options(path, host_key=other))
        assert other in message
        assert sshd.env["SSH_FINGERPRINT"] in message

    def test_another_than_before_is_refused(self, sshd, path, tmp_path):
        hosts = tmp_path / "hosts"
        stranger = " ".join(text(sshd.key("stranger.pub")).split()[:2])
        hosts.write_text(f"# comment\n\n[127.0.0.1]:{sshd.port} {stranger}\n")
        message = refused(**sshd.options(path, known_hosts=[str(hosts)]))
        assert "another than before" in message
        assert f"{hosts}:3" in message
        assert sshd.env["SSH_FINGERPRINT"] in message

    def test_the_users_file_counts(self, sshd, path, home):
        shutil.copy(sshd.env["SSH_KNOWN_HOSTS"], home / ".ssh/known_hosts")
        assert works(**sshd.options(path, known_hosts=None))

    def test_hashed_names(self, sshd, path, tmp_path):
        hosts = tmp_path / "hosts"
        shutil.copy(sshd.env["SSH_KNOWN_HOSTS"], hosts)
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(hosts)], check=True, capture_output=True)
        assert "127.0.0.1" not in hosts.read_text()
        assert works(**sshd.options(path, known_hosts=[str(hosts)]))

    def test_patterns(self, sshd, path, tmp_path):
        key = host_key(sshd)
        hosts = tmp_path / "hosts"
        hosts.write_text(f"other,[127.0.0.*]:* {key}\n")
        assert works(**sshd.options(path, known_hosts=[str(hosts)]))
        hosts.write_text(f"[127.*]:*,![127.0.0.1]:{sshd.port} {key}\n")
        assert "not known" in refused(**sshd.options(path, known_hosts=[str(hosts)]))

    def test_the_one_that_is_known_is_asked_for(self, sshd, path, tmp_path):
        """The server has two keys, and by itself it would show the other one."""
        hosts = tmp_path / "hosts"
        known = [line for line in text(sshd.env["SSH_KNOWN_HOSTS"]).splitlines() if " ssh-rsa " in line]
        hosts.write_text("\n".join(known))
        assert works(**sshd.options(path, known_hosts=[str(hosts)]))

    def test_revoked(self, sshd, path, tmp_path):
        hosts = tmp_path / "hosts"
        key = host_key(sshd)
        hosts.write_text(f"@revoked * {key}\n")
        for wanted in (None, sshd.env["SSH_FINGERPRINT"]):
            files = [sshd.env["SSH_KNOWN_HOSTS"], str(hosts)]
            assert "revoked" in refused(**sshd.options(path, known_hosts=files, host_key=wanted))

    def test_a_certificate_authority_is_no_host_key(self, sshd, path, tmp_path):
        hosts = tmp_path / "hosts"
        key = host_key(sshd)
        hosts.write_text(f"@cert-authority * {key}\n|1|broken|hash {key}\nshort line\n* ssh-ed25519 no-base64!\n")
        assert "not known" in refused(**sshd.options(path, known_hosts=[str(hosts)]))


class TestKeys:
    @pytest.mark.parametrize("name", ["ed25519", "rsa", "ecdsa"])
    def test_of_each_kind(self, sshd, path, name):
        assert works(**sshd.options(path, identity_file=[sshd.key(name)]))

    @pytest.mark.parametrize("name", ["ed25519-locked", "rsa-pem-locked"])
    def test_locked(self, sshd, path, name):
        options = sshd.options(path, identity_file=[sshd.key(name)])
        assert works(**options, passphrase=sshd.env["SSH_PASSPHRASE"])
        assert "passphrase" in refused(**options)
        message = refused(**options, passphrase="canary-wrong")
        assert "does not open with this passphrase" in message
        assert "canary" not in message

    def test_a_key_that_the_server_does_not_know(self, sshd, path):
        message = refused(**sshd.options(path, identity_file=[sshd.key("stranger")]))
        assert "stranger was refused" in message
        assert repr(sshd.env["SSH_USER"]) in message

    def test_the_next_one_is_tried(self, sshd, path):
        files = [sshd.key("stranger"), sshd.key("ed25519-locked"), sshd.key("ecdsa")]
        assert works(**sshd.options(path, identity_file=files))

    def test_a_file_that_is_not_there(self, sshd, path):
        assert "/no/such" in refused(ConfigurationError, **sshd.options(path, identity_file=["/no/such"]))

    def test_files_that_are_no_keys(self, sshd, path, tmp_path):
        broken, words, kind = tmp_path / "broken", tmp_path / "words", tmp_path / "kind"
        lines = text(sshd.key()).splitlines()
        broken.write_text("\n".join([lines[0], lines[1], lines[-1]]))
        words.write_text("hello")
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(kind)], check=True)
        message = refused(**sshd.options(path, identity_file=[str(broken), str(words), str(kind)]))
        assert message.count("cannot be") == 3

    def test_the_usual_files(self, sshd, path, home):
        shutil.copy(sshd.key("ecdsa"), home / ".ssh/id_ecdsa")
        assert works(**sshd.options(path, identity_file=None))

    def test_nothing_to_log_in_with(self, sshd, path, home):
        assert "neither a key nor a password" in refused(**sshd.options(path, identity_file=None))

    def test_they_are_unlocked_once(self, sshd, path, tmp_path):
        """Later connections need the file no more."""
        key = tmp_path / "key"
        for end in ("", ".pub"):
            shutil.copy(sshd.key("ed25519-locked") + end, f"{key}{end}")
        with sshd.storage(path, identity_file=[str(key)], passphrase=sshd.env["SSH_PASSPHRASE"]) as storage:
            storage.put("x", [b"x"])
            lines = key.read_text().splitlines()
            key.write_text("\n".join([*lines[:-3], "AAAA", lines[-1]]))
            with storage.open("x") as one, storage.open("x") as other:
                assert one.read() == other.read() == b"x"


class TestAgent:
    def test_its_keys(self, sshd, path, home, agent):
        options = sshd.options(path, identity_file=None)
        agent(sshd.key("rsa"))
        assert works(**{**options, "agent": True})
        assert "neither a key" in refused(**options)

    def test_a_locked_file_whose_key_it_has(self, sshd, path, agent, tmp_path, monkeypatch):
        ask = tmp_path / "ask"
        ask.write_text(f"#!/bin/sh\necho {sshd.env['SSH_PASSPHRASE']}\n")
        ask.chmod(0o700)
        monkeypatch.setenv("SSH_ASKPASS", str(ask))
        monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
        agent(sshd.key("ed25519-locked"))
        for file in ("ed25519-locked", "ed25519-locked.pub"):
            assert works(**sshd.options(path, identity_file=[sshd.key(file)], agent=True))
        assert "locked.pub" in refused(**sshd.options(path, identity_file=[sshd.key("ed25519-locked.pub")]))

    def test_only_the_key_that_was_named(self, sshd, path, agent):
        agent(sshd.key("ed25519"))
        message = refused(**sshd.options(path, identity_file=[sshd.key("stranger")], agent=True))
        assert "agent" not in message

    def test_too_many_keys(self, sshd, path, home, agent, tmp_path):
        for number in range(8):
            key = str(tmp_path / f"key{number}")
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            agent(key)
        message = refused(**sshd.options(path, identity_file=None, agent=True))
        assert "attempts" in message
        assert "identity_file" in message

    @pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # paramiko forgets the socket
    def test_one_that_is_gone(self, sshd, path, monkeypatch, tmp_path):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nobody"))
        assert works(**sshd.options(path, agent=True))

    @pytest.mark.parametrize("says", [b"", b"\0\0\0\1\5"])
    def test_one_that_says_nothing_of_use(self, sshd, path, monkeypatch, tmp_path, says):
        """The keys in files are tried all the same; paramiko alone would wait for ever."""
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as taken:
            listener.bind(str(tmp_path / "agent"))
            listener.listen()

            def answer():
                with contextlib.suppress(OSError):
                    while True:
                        connection = taken.enter_context(listener.accept()[0])
                        connection.sendall(says)

            thread = threading.Thread(target=answer)
            thread.start()
            try:
                assert works(**sshd.options(path, agent=True, timeout=2.0))
                stranger = [sshd.key("stranger")]
                message = refused(**sshd.options(path, identity_file=stranger, agent=True, timeout=2.0))
                assert "the SSH agent does not answer" in message
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()


class TestPassword:
    @pytest.fixture
    def account(self, sshd):
        folder = sshd.account_folder("login")
        yield sshd.account("/data/login", identity_file=None, password=sshd.env["SSH_ACCOUNT_PASSWORD"])
        if folder.exists():
            shutil.rmtree(folder)

    def test_password(self, account):
        assert works(**account)

    def test_in_the_url(self, account):
        url = f"sftp://{account['user']}:{account['password']}@{account['host']}:{account['port']}{account['path']}"
        options = {**account, **SftpStorage.parse_url(url)}
        assert works(**options)
        assert account["password"] not in SftpStorage(**options).location

    def test_wrong(self, account):
        message = refused(**{**account, "password": "canary-wrong"})
        assert "the password was refused" in message
        assert "canary" not in message

    def test_where_the_server_takes_none(self, sshd, path, home):
        message = refused(**sshd.options(path, identity_file=None, password="canary-wrong"))
        assert "takes no password" in message

    def test_a_key_helps_when_the_password_does_not(self, sshd, account):
        assert works(**{**account, "password": "canary-wrong", "identity_file": [sshd.key()]})


class TestSecrets:
    def test_they_are_nowhere(self, sshd, path, caplog, capfd, home):
        """Neither in any log, nor in messages, nor in what programs show of objects."""
        caplog.set_level(logging.DEBUG)
        shown = []
        canaries = {"password": "canary-password", "passphrase": "canary-passphrase", "proxy_password": "canary-proxy"}
        for others in (
            {"identity_file": [sshd.key("ed25519-locked")]},
            {"identity_file": [sshd.key("rsa-pem-locked")]},
            {"identity_file": None},
            {"proxy": "socks5://user@127.0.0.1:1"},
        ):
            storage = sshd.storage(path, **{**canaries, **others})
            with storage, pytest.raises(StorageError) as caught:
                storage.put("x", [b""])
            error = caught.value
            while error is not None:
                shown += [str(error), repr(error), str(getattr(error, "hint", ""))]
                error = error.__cause__ or error.__context__
            shown += [repr(storage), storage.location, repr(vars(storage)), repr(vars(storage._server.pool))]
        shown += [caplog.text, *capfd.readouterr()]
        assert "SSH-2.0" in caplog.text
        assert [text for text in shown if "canary" in text] == []

    @pytest.mark.parametrize("handler", ["pass", "logging.basicConfig()"])
    def test_failures_are_not_printed(self, sshd, handler):
        """paramiko logs tracebacks as errors, and without any handler Python would print them."""
        code = f"""
            import logging, sys
            from freezer_sdk.storages.sftp import SftpStorage
            {handler}
            for port in sys.argv[1:]:
                try:
                    SftpStorage(host="127.0.0.1", port=int(port), path="/x", ssh_config="none",
                                known_hosts=["/dev/null"]).stat("x")
                except Exception as error:
                    print(type(error).__name__)
        """
        with TcpProxy("127.0.0.1", 1) as other:  # ends every connection at once
            command = [sys.executable, "-c", textwrap.dedent(code), str(sshd.port), str(other.port)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("AccessDenied\nStorageUnavailable\n", "")
