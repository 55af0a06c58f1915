"""What the administration of keys takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class KeyRole(StrEnum):
    """What a key may do.

    ``maintainer`` includes ``reader``; ``owner`` is all three.
    """

    WRITER = "writer"
    READER = "reader"
    MAINTAINER = "maintainer"
    OWNER = "owner"


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """A holder of keys: a slot of the repository.

    Attributes:
        id: 32 hexadecimal digits.
        label: said by whoever added it; in clear text in the storage.
        roles: of ``writer``, ``reader`` and ``maintainer``, sorted.
        trusted: others build on what it stores: on its contents and its backups.
        hosts: whose backups it may make; ``None``: any host's.
        added: number of the configuration that added it.
        removed: epoch from which on it counts for nothing, or ``None``.
        own: it is the one that the repository was opened with.
    """

    id: str
    label: str
    roles: tuple[str, ...]
    trusted: bool
    hosts: tuple[str, ...] | None
    added: int
    removed: int | None
    own: bool

    @property
    def short_id(self) -> str:
        """Enough of the id for people."""
        return self.id[:8]

    @property
    def owner(self) -> bool:
        """Whether it may do everything."""
        return len(self.roles) == len(KeyRole) - 1


class Rewrite(StrEnum):
    """What becomes of data that are encrypted with keys from before a rotation.

    ``now``: what backups need is stored again at once, and the old packs are marked for a later prune to delete.
    ``lazily``: they stay until a prune rewrites their pack for another reason, or is told to.
    """

    NOW = "now"
    LAZILY = "lazily"


@dataclass(frozen=True, kw_only=True)
class RotationResult:
    """A rotation of the data key.

    Attributes:
        epoch: the new one: what is stored from now on is encrypted with its keys.
        removed: keys that were removed with it.
        rewritten_bytes: stored again with the new keys.
        marked_packs, marked_bytes: of old epochs, or of no use, to be deleted by a prune.
        due: when that can be, by the storage's clock.
    """

    epoch: int
    removed: tuple[KeyInfo, ...] = ()
    rewritten_bytes: int = 0
    marked_packs: int = 0
    marked_bytes: int = 0
    due: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class PasswordChange:
    """A change of the password of the key in use.

    Attributes:
        left: objects below ``keys/`` that the storage did not let go: with them the old password still works.
    """

    key: KeyInfo
    left: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class RecoveryKey:
    """A key that is printed and put away.

    Attributes:
        text: secret: what opens the repository wherever a password is asked for.
    """

    key: KeyInfo
    text: str

    def __repr__(self) -> str:
        return f"RecoveryKey(key={self.key!r})"


@dataclass(frozen=True, kw_only=True, repr=False)
class RecoverySheet:
    """What somebody needs who has nothing but the storage and a password.

    Attributes:
        location: a URL of the storage, without secrets.
        format: of the repository, with its version.
        epoch: number of the newest data key.
        keys: that open the repository.
        commands: of the installed program.
        tool_commands: of ``freezer_recover.py``, which needs no installation.
        recovery_key: secret; ``None``: it was not asked for.
    """

    location: str
    repository_id: str
    format: str
    encrypted: bool
    created: datetime
    printed: datetime
    epoch: int
    keys: tuple[KeyInfo, ...]
    commands: tuple[str, ...]
    tool_commands: tuple[str, ...]
    recovery_key: str | None = None
