"""Which host keys are known: files in the format of ``known_hosts`` (sshd(8)), to which nothing is ever added."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

_DEFAULT_PORT = 22


def fingerprint(key: bytes) -> str:
    """The SHA-256 fingerprint of a public key, as OpenSSH shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def known_name(host: str, port: int) -> str:
    """How a host is called in the files."""
    return host.lower() if port == _DEFAULT_PORT else f"[{host.lower()}]:{port}"


@dataclass(frozen=True, slots=True)
class _Line:
    place: str
    marker: str
    hosts: str
    kind: str
    key: bytes

    def names(self, name: str) -> bool:
        """Whether it is about this host."""
        if self.hosts.startswith("|1|"):
            return _is_hash_of(self.hosts, name)
        matched = False
        for pattern in self.hosts.lower().split(","):
            if pattern.startswith("!") and _matches(name, pattern[1:]):
                return False
            matched = matched or _matches(name, pattern)
        return matched


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the files say of a key.

    Attributes:
        known: it is the host's.
        revoked: it must not be used.
        others: places that name other keys of the host.
    """

    known: bool
    revoked: bool
    others: tuple[str, ...]


class KnownHosts:
    """The keys in some files; those that do not exist are empty.

    Raises:
        OSError: a file cannot be read.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._lines = [line for path in files for line in _read(path)]

    def kinds(self, name: str) -> list[str]:
        """Kinds of keys that are known of a host (``ssh-ed25519``), in the order of the files."""
        return list(dict.fromkeys(line.kind for line in self._of(name)))

    def judge(self, name: str, key: bytes) -> Verdict:
        """What the files say of a key that a host showed."""
        lines = self._of(name)
        return Verdict(
            known=any(line.key == key for line in lines),
            revoked=any(line.key == key for line in self._lines if line.marker == "@revoked"),
            others=tuple(line.place for line in lines if line.key != key),
        )

    def _of(self, name: str) -> list[_Line]:
        # lines of certificate authorities say nothing about plain keys
        return [line for line in self._lines if not line.marker and line.names(name)]


def _read(path: str) -> Iterator[_Line]:
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        open(path, encoding="utf-8", errors="replace") as file,
    ):
        for number, text in enumerate(file, 1):
            fields = text.split()
            marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
            if len(fields) >= 3 and not fields[0].startswith("#"):
                with contextlib.suppress(binascii.Error, ValueError):
                    key = base64.b64decode(fields[2], validate=True)
                    yield _Line(f"{path}:{number}", marker, fields[0], fields[1], key)


def _is_hash_of(entry: str, name: str) -> bool:
    try:
        _, _, salt, digest = entry.split("|")
        expected = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
        return hmac.compare_digest(expected, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False


def _matches(name: str, pattern: str) -> bool:
    # only "*" and "?" mean something here, "[" begins a name with a port
    return fnmatchcase(name, pattern.replace("[", "[[]"))
