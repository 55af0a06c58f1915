"""SSH connections: over jump hosts and proxies, to known hosts only, logged in, with SFTP running."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from freezer_sdk.errors import AccessDenied, ConfigurationError, StorageError, StorageUnavailable
from freezer_sdk.storages._sftp_session import ConnectionLost, NoSftp, Session
from freezer_sdk.storages._ssh_config import Hop, Wishes, route
from freezer_sdk.storages._ssh_hosts import KnownHosts
from freezer_sdk.storages._ssh_keys import KeyRing
from freezer_sdk.storages._ssh_login import Login, agent_keys, check_host_key, name_of, prefer
from freezer_sdk.streams.network import Proxy, connect

if TYPE_CHECKING:
    from paramiko import Transport

_LOG = "freezer_sdk.storages.ssh"

_PATIENCE = 5.0  # seconds for a thread or a program to end
_WINDOW = 8 << 20  # bytes that the server may send ahead: all that is asked for at once, and more
_PACKET = 128 << 10  # bytes of SSH's packets towards us: each costs Python the same, whatever its size
_PROHIBITED = 1  # a channel is "administratively prohibited"


class _ForDebugging(logging.Filter):
    """paramiko logs what it also raises, as errors with tracebacks, which nobody wants to see twice."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(_LOG).isEnabledFor(logging.DEBUG)


logging.getLogger(_LOG).addFilter(_ForDebugging())


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to connect.

    Attributes:
        password: of the user on the target; jump hosts never see it.
        passphrase: of key files.
        agent: keys of an SSH agent may be used.
        host_key: the fingerprint that the target's key must have; ``None``: it must be in a file of known hosts.
        connect_timeout: seconds; ``None``: what the SSH configuration says, else 30.
        timeout: seconds for every answer.
        keepalive: seconds of silence after which something is sent; 0: never.
    """

    wishes: Wishes
    password: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    agent: bool = True
    host_key: str | None = None
    proxy: Proxy | None = None
    connect_timeout: float | None = None
    timeout: float = 60.0
    keepalive: float = 30.0


class SftpLink:
    """An SFTP session with everything below it: connections, and the program of a ``ProxyCommand``."""

    def __init__(self, session: Session, transports: Sequence[Transport], closing: _Closing) -> None:
        self.session = session
        self._transports = transports
        self._closing = closing

    @property
    def alive(self) -> bool:
        """Whether no connection on the way is known to have ended."""
        return all(transport.is_active() for transport in self._transports)

    def close(self) -> None:
        """Ends all of it at once."""
        self._closing.run()


class Connector:
    """Connects as often as asked; the SSH configuration is read and keys are unlocked once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ring = KeyRing(settings.passphrase)
        self._lock = threading.Lock()
        self._route: list[Hop] | None = None

    def connect(self) -> SftpLink:
        """A new connection with SFTP on it.

        Raises:
            StorageUnavailable: no connection, or no answer in time.
            AccessDenied: the server refuses the user, or its host key is not known.
            StorageError: it has no SFTP for this user.
            ConfigurationError: of the SSH configuration, a key file or the proxy.
        """
        *jumps, target = self._hops()
        transports: list[Transport] = []
        closing = _Closing()
        try:
            for hop in jumps:
                transports.append(self._log_in(hop, transports, closing, password=None, host_key=None))
            settings = self._settings
            transports.append(
                self._log_in(target, transports, closing, password=settings.password, host_key=settings.host_key)
            )
            return SftpLink(self._start_sftp(target, transports[-1]), transports, closing)
        except BaseException:
            closing.run()
            raise

    def _hops(self) -> list[Hop]:
        with self._lock:
            if self._route is None:
                self._route = route(self._settings.wishes)
            return self._route

    def _patience(self, hop: Hop) -> float:
        return self._settings.connect_timeout or hop.connect_timeout or 30.0

    def _log_in(
        self, hop: Hop, below: Sequence[Transport], closing: _Closing, *, password: str | None, host_key: str | None
    ) -> Transport:
        from paramiko import Transport

        known = _known_hosts(hop)
        patience = self._patience(hop)
        where = f"{hop.host}:{hop.port}"
        with _reporting(f"no connection to {where}"):
            wire = _Wire(self._socket(hop, below, closing), self._settings.timeout)
            closing.add(wire.close)
            transport = Transport(wire)  # type: ignore[arg-type]  # it has all that is used of a socket
            closing.insert(lambda: _end(transport))
            transport.set_log_channel(_LOG)
            transport.banner_timeout = transport.handshake_timeout = patience
            transport.auth_timeout = self._settings.timeout
            prefer(transport, known.kinds(name_of(hop)))
            transport.start_client(timeout=patience)
            if transport.host_key is None:
                raise TimeoutError
        check_host_key(hop, known, transport.host_key, host_key)
        login = Login(hop, transport, password, self._settings.timeout)
        with (
            _reporting(f"no login at {where}"),
            agent_keys(hop.agent and self._settings.agent, self._settings.timeout, login.problems) as agent,
        ):
            keys = self._ring.candidates(
                hop.keys, agent, needed=hop.keys_needed, only_files=hop.only_keys, problems=login.problems
            )
            # a password that was given is meant, unless a key was named too
            login.run(keys, password_first=password is not None and not hop.keys_needed)
        transport.set_keepalive(round(self._settings.keepalive))
        return transport

    def _socket(self, hop: Hop, below: Sequence[Transport], closing: _Closing) -> Socket:
        if below:
            address = (hop.host, hop.port)
            return below[-1].open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=self._patience(hop))
        if hop.proxy_command:
            return _run(hop.proxy_command, closing)
        return connect(hop.host, hop.port, timeout=self._patience(hop), proxy=self._settings.proxy)

    def _start_sftp(self, hop: Hop, transport: Transport) -> Session:
        from paramiko import SSHException

        timeout = self._settings.timeout
        where = f"{hop.host}:{hop.port}"
        with _reporting(f"no SFTP at {where}"):
            channel = transport.open_session(window_size=_WINDOW, max_packet_size=_PACKET, timeout=timeout)
            channel.settimeout(timeout)
            with _watchdog(timeout, transport.close):
                try:
                    channel.invoke_subsystem("sftp")
                except SSHException as error:
                    if transport.is_active():
                        raise StorageError(f"{where} has no SFTP for {hop.user!r}") from error
                    raise
            try:
                return Session(channel)
            except NoSftp as error:
                raise StorageError(f"{where}: {error}", hint="is the account allowed to use SFTP?") from error


class Socket(Protocol):
    """What an SSH connection goes over: a socket, or a channel of another SSH connection."""

    def send(self, data: bytes, /) -> int:
        """Sends some of it."""

    def recv(self, size: int, /) -> bytes:
        """Some bytes."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Longest wait of the others."""

    def close(self) -> None:
        """Ends it."""


class _Wire:
    """A socket whose peer may not refuse to take anything for longer than some seconds: paramiko would wait forever."""

    def __init__(self, inner: Socket, patience: float) -> None:
        self._inner = inner
        self._patience = patience
        self._stuck_since: float | None = None
        self._closed = False  # paramiko looks at it

    def send(self, data: bytes) -> int:
        try:
            done = self._inner.send(data)
        except TimeoutError:
            now = time.monotonic()
            self._stuck_since = self._stuck_since or now
            if now - self._stuck_since > self._patience:
                raise OSError(errno.ETIMEDOUT, "the server takes nothing any more") from None
            raise
        self._stuck_since = None
        return done

    def recv(self, size: int) -> bytes:
        return self._inner.recv(size)

    def settimeout(self, seconds: float | None) -> None:
        self._inner.settimeout(seconds)

    def close(self) -> None:
        self._closed = True
        if isinstance(self._inner, socket.socket):
            with contextlib.suppress(OSError):
                self._inner.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for something to arrive
        self._inner.close()


class _Closing:
    """What is to be done to end a connection: from the network up, so that nothing waits for a dead peer."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def add(self, step: Callable[[], object]) -> None:
        self._steps.append(step)

    def insert(self, step: Callable[[], object]) -> None:
        """To be done before what was added last."""
        self._steps.insert(len(self._steps) - 1, step)

    def run(self) -> None:
        with self._lock:
            steps, self._steps = self._steps, []
            for step in steps:
                with contextlib.suppress(Exception):  # the others are to be ended too
                    step()


def _end(transport: Transport) -> None:
    transport.close()
    if transport.is_alive():
        transport.join(_PATIENCE)
    transport.packetizer.complete_handshake()  # ends a timer of paramiko's, which would outlive a failed handshake


def _run(command: Sequence[str], closing: _Closing) -> socket.socket:
    """A socket whose other end is a program's standard input and output."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        ours.close()
        raise ConfigurationError(f"ProxyCommand {command[0]!r} cannot be run: {error.strerror}") from error
    finally:
        theirs.close()

    def end() -> None:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    closing.add(end)
    return ours


def _known_hosts(hop: Hop) -> KnownHosts:
    try:
        return KnownHosts(hop.known_hosts)
    except OSError as error:
        raise ConfigurationError(f"known host keys cannot be read: {error.filename}: {error.strerror}") from error


@contextlib.contextmanager
def _watchdog(seconds: float, bite: Callable[[], object]) -> Iterator[None]:
    """Ends what has no time limit of its own."""
    timer = threading.Timer(seconds, bite)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join(_PATIENCE)


@contextlib.contextmanager
def _reporting(what: str) -> Iterator[None]:
    """Turns what paramiko raises into errors of this library."""
    from paramiko import ChannelException, SSHException
    from paramiko.ssh_exception import IncompatiblePeer

    try:
        yield
    except ChannelException as error:
        if error.code == _PROHIBITED:
            raise AccessDenied(f"{what}: the jump host does not allow it", hint="see its AllowTcpForwarding") from error
        raise StorageUnavailable(f"{what}: {error.text or error}") from error
    except IncompatiblePeer as error:
        raise StorageError(f"{what}: {error}", hint="the server knows only algorithms that are not safe") from error
    except TimeoutError as error:
        raise StorageUnavailable(f"{what}: no answer in time") from error
    except (SSHException, EOFError, OSError, ConnectionLost) as error:
        raise StorageUnavailable(f"{what}: {str(error) or type(error).__name__}") from error
