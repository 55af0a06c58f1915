"""One connection to an FTP server: logging in, TLS, commands, errors. The protocol's lines are ftplib's affair.

FTP is RFC 959, with RFC 2389 (FEAT), RFC 2428 (EPSV), RFC 2640 (UTF-8), RFC 3659 (SIZE, MDTM, MLST, REST) and RFC 4217
(TLS).
"""

from __future__ import annotations

import contextlib
import ftplib
import re
import selectors
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from freezer_sdk.errors import (
    AccessDenied,
    CapabilityMissing,
    ReadOnlyStorage,
    StorageError,
    StorageFull,
    StorageThrottled,
    StorageUnavailable,
)
from freezer_sdk.streams.network import Proxy, connect

PROTOCOL_ERRORS = (ftplib.Error, OSError, EOFError, ValueError)
"""What the methods of a connection raise; :func:`reporting` turns them into errors of this library."""

_WINDOW = 64  # commands on their way at once
_IDLE = 30.0  # seconds after which a connection is asked whether it still lives
_PATIENCE = 10.0  # seconds for a reply that only tells how something already given up ended
_TIME = re.compile(r"(\d{14})(?:\.(\d{1,6})\d*)?", re.ASCII)
_CROWDED = re.compile(r"too many|maximum (?:number|allowed)|limit (?:reached|exceeded)", re.IGNORECASE)
_FULL = re.compile(r"no space|dis[ck] (?:is )?full|quota|insufficient (?:dis[ck] )?(?:space|storage)", re.IGNORECASE)
_READ_ONLY = re.compile(r"read-?only file ?system", re.IGNORECASE)
_WANTS_TLS = re.compile(r"\b(?:tls|ssl|encrypt\w*)\b", re.IGNORECASE)
_NOT_THERE = re.compile(r"no such file or directory", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where to connect, and how.

    Attributes:
        tls: ``None``: everything goes in the clear.
        implicit: TLS from the first byte, without being asked for.
    """

    host: str
    port: int
    user: str
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    proxy: Proxy | None = None
    connect_timeout: float
    timeout: float


@dataclass
class Features:
    """What was learned about a server; shared by the connections to it.

    Attributes:
        mlst: it has MLSD and MLST, with type, size and time.
        facts: the command that switches these facts on, where they are off.
        window: how many commands may be on their way at once.
        stat_folder: ``STAT -a`` lists the current folder; ``None``: not tried yet.
    """

    probed: bool = False
    mlst: bool = False
    facts: str | None = None
    utf8: bool = False
    window: int = _WINDOW
    stat_folder: bool | None = None

    def probe(self, reply: str) -> None:
        """Reads the answer to FEAT, ``""`` where there is none."""
        for line in reply.split("\n")[1:-1]:
            name, _, detail = line.strip().partition(" ")
            if name.upper() == "UTF8":
                self.utf8 = True
            elif name.upper() == "MLST":
                facts = {fact.strip().lower() for fact in detail.split(";")}
                wanted = ("type", "size", "modify")
                self.mlst = all(fact in facts or f"{fact}*" in facts for fact in wanted)
                if not all(f"{fact}*" in facts for fact in wanted):
                    self.facts = "OPTS MLST type;size;modify;"
        self.probed = True


@dataclass(frozen=True, slots=True)
class Facts:
    """Size and time of a file."""

    size: int
    modified: datetime


class Connection(ftplib.FTP):
    """A control connection that is logged in, used by one thread at a time.

    Attributes:
        moved: when the server last took or sent something (``time.monotonic``).
        reply: the last one.
    """

    def __init__(self, server: Server, features: Features) -> None:
        super().__init__(timeout=server.timeout)
        self.server = server
        self.features = features
        self.moved = time.monotonic()
        self.reply = ""
        self._due = 1  # replies that are still to come; the first is the welcome
        self._ended = False
        self._logged_in = False

    @classmethod
    def open(cls, server: Server, features: Features) -> Connection:
        """Connects and logs in.

        Raises:
            StorageThrottled: too many connections.
            AccessDenied: user or password is wrong.
            StorageUnavailable, StorageError.
        """
        connection = cls(server, features)
        try:
            with reporting(f"no connection to {server.host}:{server.port}"):
                connection._log_in()
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def clean(self) -> bool:
        """No reply is outstanding and the server did not say goodbye: the connection can be used again."""
        return self._due == 0 and not self._ended and self.sock is not None

    @property
    def secure(self) -> bool:
        """Data connections are encrypted: their end cannot be forged."""
        return self.server.tls is not None

    def alive(self) -> bool:
        """Whether an idle connection still works; asks the server only after a while."""
        sock = self._socket()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_READ)
                if selector.select(0) or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
                    return False  # the server has no reason to speak, but to say goodbye
            if time.monotonic() - self.moved > _IDLE:
                with self.patience():
                    self.voidcmd("NOOP")
        except PROTOCOL_ERRORS:
            return False
        return self.clean

    @contextlib.contextmanager
    def patience(self) -> Iterator[None]:
        """Waits a shorter time than usual."""
        sock = self._socket()
        sock.settimeout(min(_PATIENCE, self.server.timeout))
        try:
            yield
        finally:
            sock.settimeout(self.server.timeout)

    def leave(self) -> None:
        """Says goodbye without waiting for an answer, and closes."""
        with contextlib.suppress(*PROTOCOL_ERRORS):
            if self.clean:
                with self.patience():
                    self.putcmd("QUIT")
        self.close()

    # what ftplib calls

    def putcmd(self, line: str) -> None:
        """Sends a command."""
        if "\0" in line:
            raise ValueError("NUL in a command")
        self._due += 1
        super().putcmd(line)

    def getline(self) -> str:
        """One line of a reply; one that was cut off counts as the end of the connection."""
        assert self.file is not None
        raw: bytes = self.file.readline(self.maxline + 1)  # type: ignore[assignment]  # binary, see _adopt
        if len(raw) > self.maxline:
            raise ftplib.error_proto(f"a line of more than {self.maxline} bytes")
        if not raw.endswith(b"\n"):
            raise EOFError
        self.moved = time.monotonic()
        return raw.rstrip(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")

    def getmultiline(self) -> str:
        """A reply; counts it."""
        self.reply = reply = super().getmultiline()
        if reply[:1] != "1":
            self._due -= 1
        self._notice_end(reply)
        return reply

    def _notice_end(self, reply: str) -> None:
        """Whether a reply is the server's last word; that of vsftpd, when a session dies, looks like a refusal.

        Raises:
            OSError: the session has died.
        """
        if reply[:3] == "421":
            self._ended = True
        elif reply.startswith("500 OOPS") and self._logged_in:  # before, it says what is wrong with the account
            self._ended = True
            raise ConnectionAbortedError(f"the server's session has died: {_printable(reply)}")

    # commands

    def many(self, commands: Sequence[str]) -> list[str]:
        """Sends commands without waiting for each one's answer; replies in their order, refusals included.

        A server that cannot do this loses the connection once; afterwards they go one by one.
        """
        replies = []
        window = self.features.window
        try:
            for start in range(0, len(commands), window):
                batch = commands[start : start + window]
                if any(bad in command for command in batch for bad in "\r\n\0"):
                    raise ValueError("a line end in a command")
                self._due += len(batch)
                self._socket().sendall("".join(command + "\r\n" for command in batch).encode())
                for _ in batch:
                    replies.append(self.getmultiline())
                    if self._ended:
                        raise ftplib.error_temp(replies[-1])
        except (OSError, EOFError):
            self.features.window = 1
            raise
        return replies

    def lines_of(self, command: str) -> list[str] | None:
        """The lines that a reply has between its first and its last; ``None``: it is a refusal, or has none."""
        self.putcmd(command)
        first = self.getline()
        if first[3:4] != "-":
            self._due -= 1
            self._notice_end(first)
            if self._ended:
                raise ftplib.error_temp(first)
            return None
        lines: list[str] = []
        while not (line := self.getline()).startswith(first[:3] + " "):
            lines.append(line)
        self._due -= 1
        return lines if first[:1] == "2" else None

    def enters(self, path: str) -> bool:
        """Makes a folder the current one; whether it could."""
        try:
            self.voidcmd(f"CWD {path}")
        except ftplib.error_perm:
            return False
        return True

    def facts(self, path: str) -> Facts:
        """Size and time of a file.

        Raises:
            ftplib.error_perm: there is no file, or it may not be looked at.
        """
        if self.features.mlst:
            lines = self.lines_of(f"MLST {path}")
            if not lines:
                raise ftplib.error_perm("550 no facts")
            facts, _, _ = lines[0].lstrip(" ").partition(" ")
            return file_facts(facts)
        size, modified = self.many([f"SIZE {path}", f"MDTM {path}"])
        for reply in (size, modified):
            if reply[:3] != "213":
                raise (ftplib.error_temp if reply[:1] == "4" else ftplib.error_perm)(reply)
        return Facts(int(size[3:]), moment(modified[3:].strip()))

    def rename_file(self, source: str, target: str) -> None:
        """Renames; replaces the target where the server's system does."""
        reply = self.sendcmd(f"RNFR {source}")
        if reply[:1] != "3":
            raise ftplib.error_reply(reply)
        self.voidcmd(f"RNTO {target}")

    def transfer(self, command: str, *, offset: int = 0) -> tuple[socket.socket, int | None]:
        """Begins a transfer: its data connection, and the size that the server announces, if it does."""
        port = self._passive_port()
        address = self.server.host if self.server.proxy else self._socket().getpeername()[0]
        data = connect(address, port, timeout=self.server.connect_timeout, proxy=self.server.proxy)
        try:
            data.settimeout(self.server.timeout)
            if offset:
                self.sendcmd(f"REST {offset}")
            reply = self.sendcmd(command)
            if reply[:1] != "1":
                raise ftplib.error_reply(reply)
            if self.server.tls is not None:
                data = self._wrap(data, resume=True)
        except BaseException:
            data.close()
            raise
        return data, ftplib.parse150(reply) if reply.startswith("150") else None

    def _log_in(self) -> None:
        server = self.server
        self._adopt(connect(server.host, server.port, timeout=server.connect_timeout, proxy=server.proxy))
        if server.implicit:
            self._encrypt()
        try:
            self.welcome = self.getresp()
            if server.tls is not None and not server.implicit:
                self._ask_for_tls()
            self._authenticate()
        except (ftplib.error_temp, ftplib.error_perm) as error:
            raise self._login_error(error) from None  # a reply may repeat what was sent
        self._logged_in = True
        if server.tls is not None:
            self.voidcmd("PBSZ 0")
            self.voidcmd("PROT P")
        self.voidcmd("TYPE I")
        features = self.features
        if not features.probed:
            try:
                features.probe(self.sendcmd("FEAT"))
            except ftplib.error_perm:
                features.probe("")
        for option in ("OPTS UTF8 ON" if features.utf8 else None, features.facts):
            if option:
                with contextlib.suppress(ftplib.error_perm):
                    self.sendcmd(option)

    def _authenticate(self) -> None:
        server = self.server
        reply = self.sendcmd(f"USER {server.user}")
        if reply[:1] == "3":
            if server.password is None:
                raise AccessDenied(
                    f"{server.host} asks for the password of {server.user!r}", hint="set the option 'password'"
                )
            reply = self.sendcmd(f"PASS {server.password}")
        if reply[:1] != "2":
            raise AccessDenied(f"{server.host} wants more than a password of {server.user!r}")

    def _login_error(self, error: ftplib.Error) -> StorageError:
        text = str(error)
        if self.server.password:
            text = text.replace(self.server.password, "***")
        what = f"{self.server.host} refuses {self.server.user!r}: {_printable(text)}"
        if text[:3] == "421" or _CROWDED.search(text):
            return StorageThrottled(what, hint="the server limits connections; lower the option 'connections'")
        if isinstance(error, ftplib.error_temp):
            return StorageUnavailable(what)
        if self.server.tls is None and _WANTS_TLS.search(text):
            return AccessDenied(what, hint="the server insists on TLS; write ftps:// instead of ftp://")
        return AccessDenied(what, hint="check user and password")

    def _ask_for_tls(self) -> None:
        try:
            self.voidcmd("AUTH TLS")
        except ftplib.error_perm as error:
            raise StorageError(
                f"{self.server.host} does not offer TLS: {_printable(str(error))}",
                hint="write ftp:// only if password and data may be read by anybody on the way",
            ) from error
        self._encrypt()

    def _encrypt(self) -> None:
        assert self.file is not None
        self.file.close()  # what came in the clear after the answer is not listened to
        self._adopt(self._wrap(self._socket(), resume=False))

    def _wrap(self, sock: socket.socket, *, resume: bool) -> ssl.SSLSocket:
        """Encrypts; data connections resume the session of the control connection, on which servers insist."""
        assert self.server.tls is not None
        control = self._socket()
        session = control.session if resume and isinstance(control, ssl.SSLSocket) else None
        return self.server.tls.wrap_socket(
            sock, server_hostname=self.server.host, session=session, suppress_ragged_eofs=False
        )

    def _adopt(self, sock: socket.socket) -> None:
        sock.settimeout(self.server.timeout)
        self.sock = sock
        self.af = sock.family
        self.file = sock.makefile("rb")  # type: ignore[assignment]  # ftplib's text file splits lines at a bare CR

    def _passive_port(self) -> int:
        """Where the server waits for a data connection. The address that it names is never used."""
        extended = self.af == socket.AF_INET6 or self.server.proxy is not None
        for attempt in (extended, not extended):
            try:
                if attempt:
                    return int(ftplib.parse229(self.sendcmd("EPSV"), ("", 0))[1])
                return int(ftplib.parse227(self.sendcmd("PASV"))[1])
            except ftplib.error_perm as error:
                refusal = error
        raise refusal

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise EOFError
        return self.sock


def moment(text: str) -> datetime:
    """The time of MDTM and MLSD, which is UTC.

    Raises:
        ValueError: it is none.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time")
    whole = datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return whole + timedelta(microseconds=int((match[2] or "").ljust(6, "0")))


def fact_table(text: str) -> dict[str, str]:
    """The facts of MLSD and MLST: ``type=file;size=3;``."""
    pairs = (fact.partition("=") for fact in text.split(";") if fact)
    return {name.lower(): value for name, _, value in pairs}


def file_facts(text: str) -> Facts:
    """Size and time among the facts of a file.

    Raises:
        ftplib.error_perm: it is something else.
        ValueError: one of them is missing.
    """
    table = fact_table(text)
    if table.get("type", "").lower() != "file":
        raise ftplib.error_perm("550 not a file")
    return Facts(int(table.get("size", "")), moment(table.get("modify", "")))


def says_not_there(error: ftplib.Error) -> bool:
    """The refusal says that nothing has this name; that it does not say so means nothing."""
    return _NOT_THERE.search(str(error)) is not None


@contextlib.contextmanager
def reporting(what: str) -> Iterator[None]:
    """Turns errors of the protocol into those of this library."""
    try:
        yield
    except PROTOCOL_ERRORS as error:
        raise storage_error(error, what) from error


def storage_error(error: Exception, what: str) -> StorageError:
    """The error of this library for one of the protocol; ``what`` begins the message."""
    if isinstance(error, (ftplib.error_temp, ftplib.error_perm)):
        return _refusal(str(error), what)
    if isinstance(error, ssl.SSLCertVerificationError):
        return AccessDenied(
            f"{what}: the server's certificate is not accepted: {error.verify_message}",
            hint="name the authority that signed it with the option 'ca_file', or check the host name",
        )
    if isinstance(error, TimeoutError):
        return StorageUnavailable(f"{what}: the server says nothing")
    if isinstance(error, EOFError):
        return StorageUnavailable(f"{what}: the server closed the connection")
    if isinstance(error, OSError):
        return StorageUnavailable(f"{what}: {error.strerror or error}")
    return StorageUnavailable(f"{what}: an answer that is not understood: {_printable(str(error))}")


def _refusal(reply: str, what: str) -> StorageError:
    code, message = reply[:3], f"{what}: {_printable(reply)}"
    if code in ("452", "552") or (code[:1] in "45" and _FULL.search(reply)):
        return StorageFull(message, hint="free some space or raise the quota")
    if _READ_ONLY.search(reply):
        return ReadOnlyStorage(message)
    if code[:1] == "4" or code == "522":  # 522: the data connection's TLS session was too old
        return StorageUnavailable(message)
    if code in ("500", "502", "504"):
        return CapabilityMissing(message, hint="the server lacks a command that is needed here")
    if code in ("530", "532", "533", "534", "535", "550", "553"):
        return AccessDenied(message, hint="check what the user may do on the server")
    return StorageError(message)


def _printable(text: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= 300 else shown[:300] + "..."
