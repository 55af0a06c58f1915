"""The storage ``sftp``: the way to the server, by SSH configuration, jump hosts, proxies and programs."""

from __future__ import annotations

import selectors
import shutil
import socket
import socketserver
import sys
import threading
import time
from pathlib import Path

import pytest
from ssh_server import Sshd, descriptors
from tcp_proxy import TcpProxy

from freezer_sdk.errors import AccessDenied, ConfigurationError, StorageUnavailable
from freezer_sdk.storages.sftp import SftpStorage

pytestmark = pytest.mark.sshd


@pytest.fixture(scope="module")
def sshd():
    return Sshd.start()


@pytest.fixture
def config(sshd, tmp_path, monkeypatch):
    """Writes ``~/.ssh/config``, and gives options of a storage whose host is ``backups`` there."""
    folder = tmp_path / "home/.ssh"
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    shutil.copy(sshd.env["SSH_KNOWN_HOSTS"], folder / "known_hosts")

    def write(text, **others):
        words = {
            "PORT": str(sshd.port),
            "USER": sshd.env["SSH_USER"],
            "KEYS": sshd.env["SSH_KEYS"],
            "PYTHON": sys.executable,
        }
        for name, value in words.items():
            text = text.replace(f"<{name}>", value)
        (folder / "config").write_text(text)
        return {"host": "backups", "path": str(tmp_path / "store"), "timeout": 20.0, **others}

    return write


TARGET = """
Host backups
  HostName 127.0.0.1
  Port <PORT>
  User <USER>
  IdentityFile <KEYS>/ed25519
"""


def works(options):
    with SftpStorage(**options) as storage:
        storage.put("x", [b"content"])
        return storage.get("x") == b"content"


def refused(error, options):
    with SftpStorage(**options) as storage, pytest.raises(error) as caught:
        storage.stat("x")
    return f"{caught.value} {caught.value.hint}"


class TestConfiguration:
    def test_everything_from_it(self, config):
        assert works(config(TARGET))

    def test_options_win(self, config, sshd):
        text = TARGET.replace("<PORT>", "1").replace("<USER>", "nobody").replace("<KEYS>/ed25519", "/no/such/key")
        options = config(text, port=sshd.port, user=sshd.env["SSH_USER"], identity_file=[sshd.key()])
        assert works(options)

    def test_it_can_be_another_file_or_none(self, config, tmp_path):
        options = config(TARGET)
        (tmp_path / "home/.ssh/config").rename(tmp_path / "other")
        assert works({**options, "ssh_config": str(tmp_path / "other")})
        options["connect_timeout"] = 2.0
        refused(StorageUnavailable, {**options, "host": "127.0.0.1", "port": 1, "ssh_config": "none"})
        refused(ConfigurationError, {**options, "ssh_config": str(tmp_path / "missing")})

    def test_includes(self, config, tmp_path):
        """Relative to ~/.ssh, by pattern; sections of an included file end with it."""
        folder = tmp_path / "home/.ssh/more.d"
        folder.mkdir()
        options = config(f"Include more.d/*\n{TARGET}")
        text = (tmp_path / "home/.ssh/config").read_text()
        (folder / "a").write_text("Host other\n  User nobody\n")
        (folder / "b").write_text("Host backups\n  HostKeyAlias somebody\n")
        assert "host key" in refused(AccessDenied, options)
        (folder / "b").write_text("Host other\n  HostKeyAlias somebody\n")
        assert works(options)
        (folder / "b").write_text(text.partition("\n")[2])
        (tmp_path / "home/.ssh/config").write_text("Include more.d/b\n")
        assert works(options)

    def test_includes_in_a_circle(self, config):
        assert "circle" in refused(ConfigurationError, config("Include config\n" + TARGET))

    def test_known_hosts_and_alias(self, config, sshd, tmp_path):
        alias, key = (
            tmp_path / "alias",
            (tmp_path / "home/.ssh/known_hosts").read_text().splitlines()[0].partition(" ")[2],
        )
        alias.write_text(f"the-server {key}")
        text = f"{TARGET}  UserKnownHostsFile /no/such {alias}\n  HostKeyAlias The-Server\n"
        assert works(config(text))
        assert "not known" in refused(AccessDenied, config(text.replace("HostKeyAlias", "#")))

    def test_strict_checking_cannot_be_switched_off(self, config):
        text = f"{TARGET}  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
        assert "not known" in refused(AccessDenied, config(text))

    def test_matches(self, config):
        text = "Match host backups\n  HostName 127.0.0.1\n  IdentityFile <KEYS>/rsa\n"
        assert works(config(f"{text}Host b*\n  Port <PORT>\n  User <USER>\n"))

    def test_commands_are_not_run(self, config, tmp_path):
        text = f'Match exec "touch {tmp_path}/was-run"\n  User nobody\n{TARGET}'
        assert "Match exec" in refused(ConfigurationError, config(text))
        assert not (tmp_path / "was-run").exists()

    @pytest.mark.parametrize(
        "text",
        [
            "Port many",
            "Port 0",
            "ProxyJump a b/c",
            "nonsense",
            'ProxyCommand a "b',
            'UserKnownHostsFile "~/a b',
            'Include "a b',
        ],
    )
    def test_what_makes_no_sense(self, config, text):
        refused(ConfigurationError, config(f"Host backups\n  {text}\n"))

    def test_its_time_limit(self, config):
        """Nobody answers; the configuration says how long to wait for a connection."""
        with TcpProxy("127.0.0.1", 1) as silent:
            silent.cut("stall")
            options = config(f"Host backups\n  HostName 127.0.0.1\n  Port {silent.port}\n  ConnectTimeout 1\n")
            started = time.monotonic()
            refused(StorageUnavailable, options)
            assert time.monotonic() - started < 60


JUMPS = (
    TARGET
    + """
Host jump-1 jump-2
  HostName 127.0.0.1
  Port <PORT>
  User <USER>
  IdentityFile <KEYS>/ecdsa
Host jump-2
  ProxyJump jump-1
"""
)


class TestJumps:
    @pytest.fixture
    def counted(self, config, sshd, tmp_path):
        """Connects by a configuration, and tells how many connections to the server that took."""
        alias = tmp_path / "alias"
        alias.write_text(f"counted {Path(sshd.env['SSH_KNOWN_HOSTS']).read_text().splitlines()[0].partition(' ')[2]}\n")

        def connect(text, **options):
            with TcpProxy("127.0.0.1", sshd.port) as proxy:  # jump hosts go through it too
                text = text.replace("<PORT>", str(proxy.port))
                text = f"Host *\n  HostKeyAlias counted\n  UserKnownHostsFile {alias}\n{text}"
                options = {name: str(value).replace("<PORT>", str(proxy.port)) for name, value in options.items()}
                assert works(config(text, connections=1, **options))
                return proxy.connections

        return connect

    def test_one(self, counted):
        assert counted(JUMPS, proxy_jump="jump-1") == 2

    def test_several(self, counted, sshd):
        jump = f"ssh://{sshd.env['SSH_USER']}@127.0.0.1:<PORT>"
        text = f"{JUMPS}Host 127.0.0.1\n  IdentityFile <KEYS>/rsa\n"
        assert counted(text, proxy_jump=f"jump-1,{jump}") == 3

    def test_one_behind_another(self, counted):
        assert counted(JUMPS, proxy_jump="jump-2") == 3

    def test_from_the_configuration(self, counted):
        text = JUMPS + "Host backups\n  ProxyJump jump-2\n  ProxyCommand false\n"
        assert counted(text) == 3
        assert counted(text, proxy_jump="none") == 1

    def test_the_keys_that_were_named_are_for_all_of_them(self, config, sshd):
        text = JUMPS.replace("  IdentityFile <KEYS>/ecdsa\n", "")
        assert works(config(text, proxy_jump="jump-2", identity_file=[sshd.key()]))

    def test_in_a_circle(self, config):
        assert "circle" in refused(ConfigurationError, config("Host *\n  ProxyJump backups\n"))

    def test_the_key_of_a_jump_host_must_be_known_too(self, config, sshd):
        text = JUMPS.replace("Host jump-1 jump-2", "Host jump-1 jump-2\n  HostKeyAlias nobody-knows")
        options = config(text, proxy_jump="jump-1", host_key=sshd.env["SSH_FINGERPRINT"])
        assert "not known" in refused(AccessDenied, options)

    def test_jump_hosts_never_see_the_password(self, config, sshd):
        """The jump host takes no key of ours, and would take the password."""
        account = sshd.account("/")
        jump = f"{account['user']}@127.0.0.1:{sshd.port}"
        password = sshd.env["SSH_ACCOUNT_PASSWORD"]
        options = config(TARGET.replace("ed25519", "stranger"), proxy_jump=jump, password=password)
        assert "refuses the login" in refused(AccessDenied, options)

    def test_one_that_forwards_nothing(self, config, sshd):
        options = config(JUMPS, proxy_jump=f"{sshd.account('/')['user']}@127.0.0.1:{sshd.port}")
        message = refused(AccessDenied, {**options, "identity_file": [sshd.key()]})
        assert "AllowTcpForwarding" in message

    def test_a_target_that_is_not_there(self, config):
        options = config(JUMPS, proxy_jump="jump-1", host="127.0.0.1", port=1)
        assert "from" not in refused(StorageUnavailable, options).partition(":")[0]

    def test_nothing_is_left(self, config):
        threads, opened = set(threading.enumerate()), descriptors()
        assert works(config(JUMPS, proxy_jump="jump-2"))
        assert set(threading.enumerate()) == threads
        assert descriptors() == opened


CAT = """
import os, socket, sys, threading
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def pump(read, write):
    while data := read(65536):
        write(data)
    os._exit(0)
threading.Thread(target=pump, args=(lambda n: os.read(0, n), there.sendall)).start()
pump(there.recv, lambda data: os.write(1, data))
"""


class TestPrograms:
    @pytest.fixture
    def program(self, tmp_path):
        (tmp_path / "cat.py").write_text(CAT)
        return f"<PYTHON> {tmp_path}/cat.py %h %p"

    @pytest.mark.parametrize("word", ["", "exec "])
    def test_its_input_and_output_are_the_connection(self, config, program, word):
        opened = descriptors()
        assert works(config(f"{TARGET}  ProxyCommand {word}{program}\n"))
        assert descriptors() == opened

    def test_no_shell_sees_it(self, config, program, tmp_path):
        refused(ConfigurationError, config(f"{TARGET}  ProxyCommand false; touch {tmp_path}/was-run\n"))
        assert not (tmp_path / "was-run").exists()

    def test_one_that_is_not_there(self, config):
        assert "/no/such" in refused(ConfigurationError, config(f"{TARGET}  ProxyCommand /no/such/program\n"))

    def test_one_that_ends_at_once(self, config):
        refused(StorageUnavailable, config(f"{TARGET}  ProxyCommand false\n"))

    def test_none(self, config):
        assert works(config(f"{TARGET}  ProxyCommand none\n"))


class _Tunnel(socketserver.BaseRequestHandler):
    """One connection to a proxy for HTTP that knows CONNECT."""

    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.request.recv(1)
        self.server.seen.append(head.decode())
        host, port = head.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port))) as there:
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with selectors.DefaultSelector() as selector:
                selector.register(self.request, selectors.EVENT_READ, there)
                selector.register(there, selectors.EVENT_READ, self.request)
                while True:
                    for key, _events in selector.select():
                        if not (data := key.fileobj.recv(65536)):
                            return
                        key.data.sendall(data)


class TestProxy:
    @pytest.fixture
    def proxy(self):
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Tunnel) as server:
            server.seen = []
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            yield server
            server.shutdown()

    def test_through_it(self, config, proxy):
        options = config(TARGET, proxy=f"http://127.0.0.1:{proxy.server_address[1]}", connections=1)
        assert works(options)
        assert len(proxy.seen) == 1

    def test_to_the_first_jump_host(self, config, proxy, sshd):
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        assert works(config(JUMPS, proxy=url, proxy_jump="jump-2", connections=1))
        assert [head.split()[1] for head in proxy.seen] == [f"127.0.0.1:{sshd.port}"]

    def test_instead_of_a_program(self, config, proxy):
        text = f"{TARGET}  ProxyCommand false\n"
        assert works(config(text, proxy=f"http://127.0.0.1:{proxy.server_address[1]}"))
        assert proxy.seen

    def test_one_that_is_not_there(self, config):
        assert "127.0.0.1:1" in refused(StorageUnavailable, config(TARGET, proxy="socks5://127.0.0.1:1"))
