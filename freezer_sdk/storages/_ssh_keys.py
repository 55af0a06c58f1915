"""Private keys: in files, locked or not, and in an agent."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezer_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from paramiko import PKey
    from paramiko.agent import AgentSSH

_OPENSSH = b"openssh-key-v1\0"
_OLD_FORMAT = re.compile(rb"-----BEGIN (RSA|EC) PRIVATE")


class Unusable(Exception):
    """A key file cannot be used; the message says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key to log in with; ``label`` names it in messages."""

    label: str
    key: PKey


class KeyRing:
    """Opens key files once, however many connections need them.

    Args:
        passphrase: of locked key files.
    """

    def __init__(self, passphrase: str | None) -> None:
        self._passphrase = passphrase
        self._opened: dict[str, PKey] = {}
        self._lock = threading.Lock()

    def candidates(
        self, files: Sequence[str], agent: AgentSSH | None, *, needed: bool, only_files: bool, problems: list[str]
    ) -> Iterator[Candidate]:
        """Keys in the order in which they are tried.

        A file whose key the agent has needs no passphrase.

        Args:
            needed: a missing file is an error.
            only_files: other keys of the agent are left alone.
            problems: gets a line for each file that cannot be used.

        Raises:
            ConfigurationError: a file that was asked for is missing.
        """
        held = {} if agent is None else {bytes(key.asbytes()): key for key in agent.get_keys()}
        for path in files:
            try:
                public = _public_key(path)
            except FileNotFoundError:
                public = _public_file(path)  # a hardware key or an agent may hold the private part
                if public not in held:
                    if needed:
                        raise ConfigurationError(f"there is no private key {path}") from None
                    continue
            except OSError as error:
                problems.append(f"{path}: {error.strerror}")
                continue
            if public in held:
                yield Candidate(f"{path} (agent)", held.pop(public))
                continue
            try:
                yield Candidate(path, self._open(path))
            except Unusable as error:
                problems.append(f"{path}: {error}")
        if not only_files:
            for key in held.values():
                yield Candidate("a key of the agent", key)

    def _open(self, path: str) -> PKey:
        with self._lock:
            key = self._opened.get(path)
            if key is None:
                key = self._opened[path] = _load(path, self._passphrase)
            return key


def _load(path: str, passphrase: str | None) -> PKey:
    from paramiko import ECDSAKey, Ed25519Key, PasswordRequiredException, RSAKey, SSHException

    kind = _kind(path)
    classes: dict[str, type[PKey]] = {"ed25519": Ed25519Key, "rsa": RSAKey, "ecdsa": ECDSAKey}
    if kind not in classes:
        raise Unusable("keys of this kind cannot be used (ed25519, RSA and ECDSA can)")
    try:
        return classes[kind].from_private_key_file(path, passphrase)
    except PasswordRequiredException:
        raise Unusable("it is locked, and no passphrase is given") from None
    except (SSHException, ValueError, IndexError, TypeError, struct.error) as error:
        if passphrase is None:
            raise Unusable(f"it cannot be read ({type(error).__name__})") from None
        raise Unusable("it does not open with this passphrase, or is damaged") from None
    except OSError as error:
        raise Unusable(error.strerror or "it cannot be read") from None


def _kind(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(4096)
    if old := _OLD_FORMAT.search(head):
        return "rsa" if old[1] == b"RSA" else "ecdsa"
    kind = _kind_of(_public_key(path) or b"")
    return next((name for name in ("ed25519", "rsa", "ecdsa") if kind.removeprefix("ssh-").startswith(name)), kind)


def _kind_of(public: bytes) -> str:
    with contextlib.suppress(struct.error):
        size = struct.unpack_from(">I", public)[0]
        return public[4 : 4 + size].decode("ascii", "replace")
    return ""


def _public_key(path: str) -> bytes | None:
    """The public part of a key file, which is in clear in OpenSSH's format; of others, what lies beside it.

    A file with only the public part is fine too: an agent may have the other one.
    """
    with open(path, "rb") as file:
        lines = file.read(1 << 20).split(b"\n")
    if lines[0].startswith((b"ssh-", b"ecdsa-", b"sk-")):
        return _public_line(lines[0])
    body = b"".join(line.strip() for line in lines if line and not line.startswith(b"-"))
    try:
        data = base64.b64decode(body) if lines[0].startswith(b"-----BEGIN OPENSSH") else b""
        if data.startswith(_OPENSSH):
            at = len(_OPENSSH)
            for _ in range(3):  # cipher, key derivation, its options
                at += 4 + struct.unpack_from(">I", data, at)[0]
            size = struct.unpack_from(">I", data, at + 4)[0]
            return data[at + 8 : at + 8 + size]
    except (binascii.Error, struct.error):
        return None
    return _public_file(path)


def _public_file(path: str) -> bytes | None:
    try:
        with open(path + ".pub", "rb") as file:
            return _public_line(file.readline())
    except OSError:
        return None


def _public_line(line: bytes) -> bytes | None:
    with contextlib.suppress(IndexError, ValueError):
        return base64.b64decode(line.split()[1])
    return None
