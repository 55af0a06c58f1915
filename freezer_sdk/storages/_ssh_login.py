"""Whom to trust and how to log in: the checks between an SSH handshake and its first use."""

from __future__ import annotations

import contextlib
import hmac
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from freezer_sdk.errors import AccessDenied, StorageUnavailable
from freezer_sdk.storages._ssh_config import Hop
from freezer_sdk.storages._ssh_hosts import KnownHosts, fingerprint, known_name
from freezer_sdk.storages._ssh_keys import Candidate

if TYPE_CHECKING:
    from paramiko import PKey, Transport
    from paramiko.agent import AgentSSH


def name_of(hop: Hop) -> str:
    """What files of known hosts call a server."""
    return hop.known_as.lower() if hop.known_as else known_name(hop.host, hop.port)


def prefer(transport: Transport, kinds: Sequence[str]) -> None:
    """Puts fast and safe algorithms first, and those host keys that are known: the server shows only one."""
    options = transport.get_security_options()
    ciphers = [cipher for cipher in options.ciphers if not cipher.endswith("-cbc")]
    options.ciphers = tuple(sorted(ciphers, key=lambda cipher: "-gcm" not in cipher))
    options.key_types = tuple(sorted(options.key_types, key=lambda kind: _plain_kind(kind) not in kinds))


def _plain_kind(algorithm: str) -> str:
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def check_host_key(hop: Hop, known: KnownHosts, key: PKey, wanted: str | None) -> None:
    """Refuses a server whose key is not known.

    Args:
        wanted: the fingerprint that the key must have, whatever the files say.

    Raises:
        AccessDenied: the message shows the fingerprint.
    """
    where = f"{hop.host}:{hop.port}"
    shown = fingerprint(key.asbytes())
    verdict = known.judge(name_of(hop), key.asbytes())
    if verdict.revoked:
        raise AccessDenied(f"the host key of {where} is revoked: {key.get_name()} {shown}")
    if wanted is not None:
        if hmac.compare_digest(wanted, shown):
            return
        raise AccessDenied(
            f"{where} shows the host key {key.get_name()} {shown}, and not {wanted}",
            hint="somebody may have put himself in between; if the server's owner confirms the key, set host_key to it",
        )
    if verdict.known:
        return
    if verdict.others:
        raise AccessDenied(
            f"the host key of {where} is another than before: {key.get_name()} {shown}; see {verdict.others[0]}",
            hint="somebody may have put himself in between; if the server's owner confirms the key, replace that line",
        )
    raise AccessDenied(
        f"the host key of {where} is not known: {key.get_name()} {shown}",
        hint=f"compare it with what the server's owner says; then set host_key={shown}, or log in once with ssh",
    )


@contextlib.contextmanager
def agent_keys(wanted: bool, patience: float, problems: list[str]) -> Iterator[AgentSSH | None]:
    """The user's SSH agent, where there is one that answers.

    Args:
        patience: seconds for each answer.
        problems: gets a line when it does not.
    """
    from paramiko import SSHException
    from paramiko.agent import AgentSSH, get_agent_connection

    connection = get_agent_connection() if wanted else None
    if connection is None:
        yield None
        return
    agent = None
    try:
        if isinstance(connection, socket.socket):
            connection.settimeout(patience)  # paramiko's own Agent would wait for ever
        try:
            agent = AgentSSH()
            agent._connect(connection)  # type: ignore[attr-defined]  # the stubs lack it
        except (SSHException, OSError, ValueError, struct.error) as error:
            agent = None
            problems.append(f"the SSH agent does not answer as it should ({str(error) or type(error).__name__})")
        yield agent
    finally:
        connection.close()


class Login:
    """Logs in by keys, by a password, or by one after the other where the server wants both.

    Args:
        patience: seconds for each answer.

    Attributes:
        problems: what was tried in vain, and key files that could not be used.
    """

    def __init__(self, hop: Hop, transport: Transport, password: str | None, patience: float) -> None:
        self.problems: list[str] = []
        self._hop = hop
        self._transport = transport
        self._password = password
        self._patience = patience
        self._answers = 0
        self._more: Sequence[str] = ()  # what the server still wants after a first success

    def run(self, keys: Iterable[Candidate], *, password_first: bool) -> None:
        """Tries what there is.

        Raises:
            AccessDenied: nothing is enough for the server.
            StorageUnavailable: it does not answer.
        """
        if password_first and self._by_password():
            return
        if self._by_keys(keys) or ((self._more or not password_first) and self._by_password()):
            return
        tried = "; ".join(self.problems) or "there is neither a key nor a password to try"
        raise AccessDenied(
            f"{self._where} refuses the login of {self._hop.user!r}: {tried}",
            hint="check the user, and the options identity_file, passphrase and password",
        )

    @property
    def _where(self) -> str:
        return f"{self._hop.host}:{self._hop.port}"

    def _by_keys(self, keys: Iterable[Candidate]) -> bool:
        from paramiko import BadAuthenticationType

        for candidate in keys:
            with self._step(f"{candidate.label} was refused"):
                try:
                    self._more = self._transport.auth_publickey(self._hop.user, candidate.key)
                except BadAuthenticationType:
                    self.problems.append("the server takes no keys")
                    return False
                if self._more:
                    self.problems.append(f"after {candidate.label} it also wants: {', '.join(self._more)}")
                return not self._more
        return False

    def _by_password(self) -> bool:
        from paramiko import BadAuthenticationType

        if self._password is None:
            return False
        with self._step("the password was refused"):
            try:
                self._more = self._transport.auth_password(self._hop.user, self._password)
            except BadAuthenticationType:
                self.problems.append("the server takes no password")
                return False
            if self._more:
                self.problems.append(f"after the password it also wants: {', '.join(self._more)}")
            return not self._more
        return False

    @contextlib.contextmanager
    def _step(self, problem: str) -> Iterator[None]:
        from paramiko import AuthenticationException, SSHException

        if not self._transport.is_active():
            raise self._ended(None)
        started = time.monotonic()
        try:
            yield
        except SSHException as error:
            if time.monotonic() - started >= self._patience:
                raise StorageUnavailable(f"{self._where} does not answer to a login") from error
            if not self._transport.is_active():
                raise self._ended(None if isinstance(error, AuthenticationException) else error) from error
            self.problems.append(problem)
            self._answers += 1

    def _ended(self, error: Exception | None) -> Exception:
        if error is not None:  # an agent that does not sign, an algorithm that both sides lack
            return AccessDenied(f"no login at {self._where}: {error}")
        if self._answers:
            return AccessDenied(
                f"{self._where} ended the login of {self._hop.user!r} after {self._answers} attempts",
                hint="it may have been offered too many keys: name the right one by identity_file",
            )
        return StorageUnavailable(f"{self._where} ended the connection during the login")
