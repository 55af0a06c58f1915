"""The commit: the one small object that makes a backup visible (repository-format, section "Commits")."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from freezer_sdk.engines.dedup.config import time_text
from freezer_sdk.engines.dedup.page import INLINE, MAX_DEPTH, Content
from freezer_sdk.engines.dedup.tree import Owners
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Backup, BackupStats, Problem, Status

MAX_PROBLEMS = 10_000
"""A commit lists so many, so that it stays readable whatever goes wrong."""


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
    """

    backup: Backup
    root: Content
    owners: Owners
    generation: int
    lease: str
    indexes: tuple[str, ...]
    scan_start_ns: int
    origin: Origin | None = None


def _text(data: str) -> str:
    """Text that may hold surrogate escapes, as base64 of its bytes."""
    return base64.b64encode(data.encode("utf-8", "surrogateescape")).decode("ascii")


def _untext(data: str) -> str:
    return base64.b64decode(data, validate=True).decode("utf-8", "surrogateescape")


def encode_commit(commit: Commit) -> dict[str, Any]:
    """The JSON document."""
    backup, origin = commit.backup, commit.origin
    document = {
        "version": 0,
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
    return document


def _encode_root(root: Content) -> dict[str, Any]:
    return {"depth": root.depth, "ids": root.ids.hex()}


def _decode_root(data: Mapping[str, Any]) -> Content:
    root = Content(int(data["depth"]), bytes.fromhex(data["ids"]))
    if not 0 <= root.depth <= MAX_DEPTH or len(root.ids) % 32 or len(root.ids) > 32 * INLINE:
        raise ValueError("the root is no reference to content")
    return root


def _decode_origin(data: Mapping[str, Any] | None) -> Origin | None:
    return None if data is None else Origin(str(data["repository"]), _decode_root(data["root"]))


def _decode_stats(data: Mapping[str, Any]) -> BackupStats:
    usual = asdict(BackupStats())
    found = {key: value for key, value in data.items() if key in usual}
    if any(type(value) not in (int, type(usual[key])) or not 0 <= value < math.inf for key, value in found.items()):
        raise ValueError("the statistics are no numbers")
    return BackupStats(**found)


def decode_commit(data: Mapping[str, Any], *, backup_id: str) -> Commit:
    """The inverse of :func:`encode_commit`; unknown fields are passed over.

    Raises:
        IntegrityError: a field is missing or of another type, or the document is of another backup.
    """
    try:
        if data["version"] != 0 or data["id"] != backup_id:
            raise IntegrityError(f"the commit of backup {backup_id} is of another version or backup")
        time = datetime.fromisoformat(data["time"])
        if time.tzinfo is None:
            raise ValueError("a time without an offset")
        backup = Backup(
            id=backup_id,
            time=time,
            host=str(data["host"]),
            name=str(data["name"]),
            mode=str(data["mode"]),
            engine=str(data["engine"]),
            status=Status(data["status"]),
            paths=tuple(_untext(path) for path in data["paths"]),
            tags=tuple(str(tag) for tag in data["tags"]),
            stats=_decode_stats(data["stats"]),
            problems=tuple(
                Problem(
                    path=_untext(p["path"]), kind=str(p["kind"]), message=_untext(p["message"]), fatal=bool(p["fatal"])
                )
                for p in data["problems"]
            ),
            excludes=tuple(_untext(pattern) for pattern in data["excludes"]),
            mount_points=tuple(_untext(path) for path in data["mount_points"]),
            facts=dict(data["facts"]),
            username=str(data["username"]),
            machine_id=str(data["machine_id"]),
            program=str(data["program"]),
            parent=None if data["parent"] is None else str(data["parent"]),
        )
        return Commit(
            backup=backup,
            root=_decode_root(data["root"]),
            owners=Owners(
                {int(number): str(name) for number, name in data["users"].items()},
                {int(number): str(name) for number, name in data["groups"].items()},
            ),
            generation=int(data["generation"]),
            lease=str(data["lease"]),
            indexes=tuple(str(name) for name in data["indexes"]),
            scan_start_ns=int(data["scan_start_ns"]),
            origin=_decode_origin(data.get("origin")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise IntegrityError(f"the commit of backup {backup_id} is damaged: {error!r}") from None
