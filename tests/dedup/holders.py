"""Repositories with several holders of keys, whose passwords cost no time."""

from __future__ import annotations

from pathlib import Path

from freezer_sdk import Freezer
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.keyservice import DedupKeys
from freezer_sdk.engines.dedup.repository import DedupRepository
from freezer_sdk.errors import IntegrityError, WrongPassword
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.memory import MemoryStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
CLIENT = (Role.WRITER, Role.READER)


def made(storage: Storage, *, grace: int | None = None) -> KeyRing:
    """A repository whose owner's password is "owner".

    Args:
        grace: seconds.
    """
    if grace is None:
        return create_repository(storage, password="owner", kdf=CHEAP, label="owner")
    return create_repository(storage, password="owner", kdf=CHEAP, label="owner", grace=grace, short_grace=True)


def join(
    storage: Storage,
    name: str,
    *roles: Role,
    trusted: bool | None = None,
    hosts: list[str] | None = None,
) -> KeyRing:
    """Lets somebody in whose password is their name."""
    owner = open_repository(storage, lambda: "owner")
    add_slot(storage, owner, password=name, roles=roles, label=name, trusted=trusted, hosts=hosts, kdf=CHEAP)
    return open_repository(storage, lambda: name)


def opened(storage: Storage, name: str) -> Freezer:
    """The repository, with somebody's password."""
    return Freezer(storage, password=name)


def handle_of(storage: Storage, name: str) -> Handle:
    """What the engine works with."""
    repository = DedupEngine().open(storage, password=lambda: name)
    assert isinstance(repository, DedupRepository)
    return repository._handle


def service(storage: Storage, name: str = "owner") -> DedupKeys:
    """Administration of keys by somebody."""
    return DedupKeys(handle_of(storage, name), lambda keys: None, kdf=CHEAP)


def opens(storage: Storage, password: str) -> bool:
    """Whether this password opens the repository."""
    try:
        open_repository(storage, lambda: password)
    except (WrongPassword, IntegrityError):
        return False
    return True


def copied(storage: Storage) -> MemoryStorage:
    """The same objects in another storage, in the order of their age."""
    twin = MemoryStorage()
    for info in sorted(storage.list(), key=lambda info: (info.modified, info.name)):
        twin.put(info.name, [storage.get(info.name)])
    return twin


def content(base: Path) -> dict[str, bytes]:
    """Relative path to content of all files."""
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}
