"""The commit: the one small object that makes a backup visible (repository-format, section "Commits")."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from freezer_sdk.engines.dedup.config import time_text
from freezer_sdk.engines.dedup.documents import MAX_NUMBER
from freezer_sdk.engines.dedup.layout import INDEX, digest_of
from freezer_sdk.engines.dedup.page import INLINE, MAX_DEPTH, Content
from freezer_sdk.engines.dedup.tree import Owners
from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.model import Backup, BackupStats, Problem, Status

MAX_PROBLEMS = 10_000
"""A commit lists so many, so that it stays readable whatever goes wrong."""
_DEEPEST_FACT = 64  # objects and lists in each other
_LONGEST_NUMBER = 20  # digits of an owner


class Origin(NamedTuple):
    """Where a copy was made from.

    Attributes:
        repository: id, 32 hexadecimal digits.
        root: the roots directory there.
    """

    repository: str
    root: Content


@dataclass(frozen=True)
class Commit:
    """A backup with what only the engine needs.

    Attributes:
        root: the roots directory.
        owners: names of the numeric owners in it.
        generation: the newest sweep that the writer knew.
        lease: id of the lease that it was written under.
        indexes: names of the index objects that the run wrote.
        scan_start_ns: entries changed later may have been read before the change.
        origin: of a copy.
        signer: id of the slot that signed it; empty until it is stored.
        seen: of a copy, or of a backup that was brought back: when the storage of the original got it.
    """

    backup: Backup
    root: Content
    owners: Owners
    generation: int
    lease: str
    indexes: tuple[str, ...]
    scan_start_ns: int
    origin: Origin | None = None
    signer: bytes = b""
    seen: datetime | None = None


def _text(data: str) -> str:
    """Text that may hold surrogate escapes, as base64 of its bytes."""
    return base64.b64encode(data.encode("utf-8", "surrogateescape")).decode("ascii")


def _untext(data: str) -> str:
    return base64.b64decode(data, validate=True).decode("utf-8", "surrogateescape")


def encode_commit(commit: Commit) -> dict[str, Any]:
    """The JSON document.

    Raises:
        ConfigurationError: it could not be read again: a name that is no text, say.
    """
    backup, origin = commit.backup, commit.origin
    document = {
        "version": 1,
        "id": backup.id,
        "time": time_text(backup.time),
        "host": backup.host,
        "name": backup.name,
        "mode": backup.mode,
        "engine": backup.engine,
        "status": str(backup.status),
        "paths": [_text(path) for path in backup.paths],
        "tags": list(backup.tags),
        "stats": asdict(backup.stats),
        "problems": [
            {"path": _text(p.path), "kind": p.kind, "message": _text(p.message), "fatal": p.fatal}
            for p in backup.problems[: MAX_PROBLEMS + 1]
        ],
        "excludes": [_text(pattern) for pattern in backup.excludes],
        "mount_points": [_text(path) for path in backup.mount_points],
        "facts": dict(backup.facts),
        "username": backup.username,
        "machine_id": backup.machine_id,
        "program": backup.program,
        "parent": backup.parent,
        "root": _encode_root(commit.root),
        "users": {str(number): name for number, name in commit.owners.users.items()},
        "groups": {str(number): name for number, name in commit.owners.groups.items()},
        "generation": commit.generation,
        "lease": commit.lease,
        "indexes": list(commit.indexes),
        "scan_start_ns": str(commit.scan_start_ns),  # beyond the integers that every reader of JSON holds
    }
    if origin is not None:
        document["origin"] = {"repository": origin.repository, "root": _encode_root(origin.root)}
    if commit.seen is not None:
        document["seen"] = time_text(commit.seen.astimezone(UTC))
    try:
        decode_commit(document, backup_id=backup.id)
    except IntegrityError as error:
        raise ConfigurationError(f"the backup cannot be recorded: {error.message}") from None
    return document


def _encode_root(root: Content) -> dict[str, Any]:
    return {"depth": root.depth, "ids": root.ids.hex()}


def _decode_root(data: Mapping[str, Any]) -> Content:
    root = Content(_decode_number(data, "depth"), bytes.fromhex(data["ids"]))
    if not 0 <= root.depth <= MAX_DEPTH or len(root.ids) % 32 or len(root.ids) > 32 * INLINE:
        raise ValueError("the root is no reference to content")
    return root


def _decode_origin(data: Mapping[str, Any] | None) -> Origin | None:
    return None if data is None else Origin(_decode_text(data, "repository"), _decode_root(data["root"]))


def _decode_stats(data: Mapping[str, Any]) -> BackupStats:
    usual = asdict(BackupStats())
    found = {key: value for key, value in data.items() if key in usual}
    if any(type(value) not in (int, type(usual[key])) or not 0 <= value <= MAX_NUMBER for key, value in found.items()):
        raise ValueError("the statistics are no numbers")
    return BackupStats(**found)


def _decode_text(data: Mapping[str, Any], name: str) -> str:
    """A text whose lone surrogates, if any, stand for bytes."""
    value = data[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    if not value.isascii():
        value.encode("utf-8", "surrogateescape")
    return value


def _decode_texts(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = data[name]
    if not isinstance(values, list):
        raise TypeError(f"{name} is no list")
    return tuple(_decode_text({name: value}, name) for value in values)


def _decode_number(data: Mapping[str, Any], name: str) -> int:
    value = data[name]
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"{name} is no number")
    return value


def _decode_time(data: Mapping[str, Any], name: str) -> datetime:
    time = datetime.fromisoformat(_decode_text(data, name))
    if time.tzinfo is None:
        raise ValueError(f"{name} is a time without an offset")
    return time.astimezone(UTC)


def _decode_indexes(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of indexes, and of nothing else: readers ask for them."""
    names = _decode_texts(data, "indexes")
    if not all(name.startswith(INDEX) and digest_of(name) for name in names):
        raise ValueError("indexes has names of other objects")
    return names


def _decode_facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """The mode's document; how deep it is decides whether others can walk through it."""
    facts = data["facts"]
    if not isinstance(facts, dict):
        raise TypeError("facts is no object")
    level: list[Any] = [facts]
    for _ in range(_DEEPEST_FACT):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return facts
    raise ValueError("facts is nested too deeply")


def _decode_owners(data: Mapping[str, Any], name: str) -> dict[int, str]:
    found = data[name]
    if not all(len(number) <= _LONGEST_NUMBER for number in found):
        raise ValueError(f"{name} has numbers that no owner can have")
    return {int(number): _decode_text(found, number) for number in found}


def decode_commit(data: Mapping[str, Any], *, backup_id: str, signer: bytes = b"") -> Commit:
    """The inverse of :func:`encode_commit`; unknown fields are passed over.

    Raises:
        IntegrityError: a field is missing or of another type, or the document is of another backup.
    """
    try:
        if data["version"] != 1 or data["id"] != backup_id:
            raise IntegrityError(f"the commit of backup {backup_id} is of another version or backup")
        backup = Backup(
            id=backup_id,
            time=_decode_time(data, "time"),
            host=_decode_text(data, "host"),
            name=_decode_text(data, "name"),
            mode=_decode_text(data, "mode"),
            engine=_decode_text(data, "engine"),
            status=Status(data["status"]),
            paths=tuple(_untext(path) for path in data["paths"]),
            tags=_decode_texts(data, "tags"),
            stats=_decode_stats(data["stats"]),
            problems=tuple(
                Problem(
                    path=_untext(p["path"]),
                    kind=_decode_text(p, "kind"),
                    message=_untext(p["message"]),
                    fatal=bool(p["fatal"]),
                )
                for p in data["problems"]
            ),
            excludes=tuple(_untext(pattern) for pattern in data["excludes"]),
            mount_points=tuple(_untext(path) for path in data["mount_points"]),
            facts=_decode_facts(data),
            username=_decode_text(data, "username"),
            machine_id=_decode_text(data, "machine_id"),
            program=_decode_text(data, "program"),
            parent=None if data["parent"] is None else _decode_text(data, "parent"),
        )
        return Commit(
            backup=backup,
            root=_decode_root(data["root"]),
            owners=Owners(_decode_owners(data, "users"), _decode_owners(data, "groups")),
            generation=_decode_number(data, "generation"),
            lease=_decode_text(data, "lease"),
            indexes=_decode_indexes(data),
            scan_start_ns=int(_decode_text(data, "scan_start_ns")),
            origin=_decode_origin(data.get("origin")),
            signer=signer,
            seen=_decode_time(data, "seen") if "seen" in data else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, binascii.Error) as error:
        raise IntegrityError(f"the commit of backup {backup_id} is damaged: {error!r}") from None
