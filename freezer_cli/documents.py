"""The documents that machine formats print: the library's dataclasses as plain values with documented keys.

Keys equal the attribute names of :mod:`freezer_sdk.model`. ``docs/reference/machine-formats.md`` describes them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

from freezer_sdk.model import (
    Backup,
    Change,
    CopyOutcome,
    CopyResult,
    Entry,
    Event,
    GroupBackup,
    GroupResult,
    PlannedAction,
    Problem,
    RestoreResult,
    TargetResult,
    VerifyResult,
)

Document = dict[str, Any]


def plain(value: Any) -> Any:
    """A value of JSON types; text that is not Unicode has its wrong parts replaced by U+FFFD."""
    match value:
        case Enum():
            return value.value
        case str():
            return value if value.isascii() else _unicode(value)
        case None | bool() | int() | float():
            return value
        case datetime():
            return value.isoformat()
        case bytes():
            return value.decode("utf-8", "replace")
        case dict() | MappingProxyType():  # not Mapping: its first check of each type costs milliseconds
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case _ if is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return [plain(item) for item in value]


def _unicode(text: str) -> str:
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # halves of characters that stand for no byte
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def path_fields(key: str, path: bytes | str | None) -> Document:
    """``{key: text, key_base64: exact bytes}``; the second is ``None`` when the path is UTF-8."""
    if path is None:
        return {key: None, f"{key}_base64": None}
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    try:
        return {key: raw.decode("utf-8"), f"{key}_base64": None}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "replace"), f"{key}_base64": base64.b64encode(raw).decode("ascii")}


def problem_document(problem: Problem) -> Document:
    """A problem."""
    rest = {"kind": plain(problem.kind), "message": plain(problem.message), "fatal": problem.fatal}
    return path_fields("path", problem.path) | rest


def backup_document(backup: Backup) -> Document:
    """A backup, its statistics on the same level."""
    return {
        "id": backup.id,
        "time": backup.time.isoformat(),
        "host": plain(backup.host),
        "name": plain(backup.name),
        "mode": plain(backup.mode),
        "engine": plain(backup.engine),
        "status": backup.status.value,
        "paths": plain(backup.paths),
        "paths_base64": [path_fields("path", path)["path_base64"] for path in backup.paths],
        "tags": plain(backup.tags),
        **(plain(backup.stats) if backup.measured else dict.fromkeys(plain(backup.stats))),
        "problems": [problem_document(problem) for problem in backup.problems],
        "excludes": plain(backup.excludes),
        "mount_points": plain(backup.mount_points),
        "facts": plain(backup.facts),
        "username": plain(backup.username),
        "machine_id": plain(backup.machine_id),
        "program": plain(backup.program),
        "parent": plain(backup.parent),
        "level": backup.level,
        "chain": plain(backup.chain),
        "dry_run": backup.dry_run,
        "first_seen": None if backup.first_seen is None else backup.first_seen.isoformat(),
        "plausible": backup.plausible,
    }


def target_document(target: TargetResult, result: GroupResult) -> Document:
    """What became of a backup in one of several storages: all of the backup's keys, or an error."""
    error = target.error
    known = {"id": result.id, "time": result.time.isoformat(), "status": "failed"}
    return {
        "location": target.location,
        **(known if target.backup is None else backup_document(target.backup)),
        "error": None if error is None else plain(error.message),
        "error_code": None if error is None else error.code,
        "hint": None if error is None else plain(error.hint),
    }


def group_backup_document(found: GroupBackup) -> Document:
    """A backup, and which of several storages have it."""
    return {**backup_document(found.backup), "locations": list(found.locations)}


def group_document(result: GroupResult) -> Document:
    """A backup in several storages."""
    return {
        "id": result.id,
        "time": result.time.isoformat(),
        "status": result.status.value,
        "targets": [target_document(target, result) for target in result.targets],
    }


def time_of_ns(nanoseconds: int) -> str:
    """ISO 8601 with all nine digits, in UTC."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):  # a file system keeps years that Python cannot write
        return f"@{seconds}.{rest:09d}"
    return f"{text}.{rest:09d}+00:00"


def entry_document(entry: Entry) -> Document:
    """A recorded file system entry."""
    return {
        **path_fields("path", entry.path),
        "type": entry.type.value,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": plain(entry.user),
        "group": plain(entry.group),
        "size": entry.size,
        "mtime": time_of_ns(entry.mtime_ns),
        "mtime_ns": entry.mtime_ns,
        "ctime": time_of_ns(entry.ctime_ns),
        "ctime_ns": entry.ctime_ns,
        "inode": entry.inode,
        **path_fields("link_target", entry.link_target),
        "link_group": entry.link_group.hex() if entry.link_group is not None else None,
        "device": f"{entry.device[0]}:{entry.device[1]}" if entry.device is not None else None,
        "xattrs": [plain(name) for name, _ in entry.xattrs],
        "sparse": entry.extents is not None,
        "incomplete": entry.incomplete,
    }


def change_document(change: Change) -> Document:
    """A difference between two backups."""
    return {
        **path_fields("path", change.path),
        "kind": change.kind,
        "size_before": change.before.size if change.before is not None else None,
        "size_after": change.after.size if change.after is not None else None,
    }


def action_document(action: PlannedAction) -> Document:
    """One step of a restore plan."""
    return {"action": action.action, **path_fields("path", action.path), "size": action.size}


def restore_document(result: RestoreResult) -> Document:
    """What a restore did."""
    return {
        "backup": result.backup,
        **path_fields("target", result.target),
        "status": result.status.value,
        "files": result.files,
        "directories": result.directories,
        "others": result.others,
        "bytes": result.bytes,
        "skipped": result.skipped,
        "deleted": result.deleted,
        "duration": result.duration,
        "problems": [problem_document(problem) for problem in result.problems],
        "plan": [action_document(action) for action in result.plan],
        "facts": dict(result.facts),
    }


def copies_document(results: Sequence[CopyResult]) -> Document:
    """What became of backups that were to be copied."""
    document: Document = {
        outcome.value: sum(result.outcome is outcome for result in results) for outcome in CopyOutcome
    }
    for key in ("read_bytes", "added_bytes", "added_raw_bytes", "duration"):
        document[key] = sum(getattr(result, key) for result in results)
    document["backups"] = [copy_document(result) for result in results]
    return document


def copy_document(result: CopyResult) -> Document:
    """What became of one of them."""
    backup, error = result.backup, result.error
    return {
        "id": backup.id,
        "time": backup.time.isoformat(),
        "host": plain(backup.host),
        "name": plain(backup.name),
        "outcome": result.outcome.value,
        "read_bytes": result.read_bytes,
        "added_bytes": result.added_bytes,
        "added_raw_bytes": result.added_raw_bytes,
        "duration": result.duration,
        "error": None if error is None else {"code": error.code, "message": plain(error.message)},
    }


def verify_document(result: VerifyResult) -> Document:
    """What a verification found."""
    document: Document = plain(result)
    document["ok"] = result.ok
    document["problems"] = [problem_document(problem) for problem in result.problems]
    return document


def event_document(event: Event) -> Document:
    """An event; keys without a value are left out."""
    document: Document = {"event": event.kind, "operation": event.operation, "files": event.files, "bytes": event.bytes}
    if event.target is not None:
        document["target"] = event.target
    if event.path is not None:
        document |= {key: value for key, value in path_fields("path", event.path).items() if value is not None}
    for key in ("total_files", "total_bytes", "added_bytes", "message"):
        value = getattr(event, key)
        if value not in (None, 0):
            document[key] = plain(value)
    if event.problem is not None:
        document["problem"] = problem_document(event.problem)
    if event.data:
        document["data"] = plain(event.data)
    return document
