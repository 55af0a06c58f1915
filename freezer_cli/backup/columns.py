"""Columns of backups and entries. The keys are those of ``freezer_cli.documents``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freezer_cli.base import Column, Row, columns_of
from freezer_cli.text import human_count, human_duration, human_iso, human_size


def _short(value: str) -> str:
    return value[:8]


def _lines(value: Any) -> list[str]:
    return [str(item) for item in value]


def _problems(value: Any) -> list[str]:
    return [f"{problem['path']}: {problem['message']}" for problem in value]


_LEVEL = (Column("level", "Level"), Column("chain", "Chain", _short))

LISTED = (
    Column("id", "ID", _short),
    Column("time", "Time", human_iso),
    Column("host", "Host"),
    Column("name", "Name"),
    Column("mode", "Mode"),
    Column("engine", "Engine"),
    Column("status", "Status"),
    Column("files", "Files", human_count),
    Column("bytes", "Bytes", human_size),
    Column("added_bytes", "Added", human_size),
)
"""What ``backup list`` shows, in this order."""

_MORE = (
    Column("paths", "Paths", _lines),
    Column("paths_base64", "Paths base64", extra=True),
    Column("tags", "Tags", _lines),
    Column("directories", "Directories", human_count),
    Column("others", "Others", human_count),
    Column("new_files", "New files", human_count),
    Column("changed_files", "Changed files", human_count),
    Column("unmodified_files", "Unmodified files", human_count),
    Column("read_bytes", "Read", human_size),
    Column("added_raw_bytes", "Added before compression", human_size),
    Column("duration", "Duration", human_duration),
    Column("problems", "Problems", _problems),
    Column("excludes", "Excludes", _lines),
    Column("mount_points", "Mount points left out", _lines),
    Column("facts", "Facts"),
    Column("username", "User"),
    Column("machine_id", "Machine ID"),
    Column("program", "Program"),
    Column("parent", "Parent"),
    *_LEVEL,
    Column("dry_run", "Dry run", lambda value: "yes" if value else "no"),
    Column("first_seen", "First seen", human_iso),
    Column("plausible", "Time plausible", lambda value: "yes" if value else "NO"),
)

BACKUP = (Column("id", "ID"), *LISTED[1:], *_MORE)
"""Every field of a backup."""

_LOCATIONS = Column("locations", "Locations", _lines)

TARGET = (
    Column("location", "Location"),
    *BACKUP,
    Column("error", "Error"),
    Column("error_code", "Error code"),
    Column("hint", "Hint"),
)
"""Every field of a backup in one of several storages."""

TARGET_ROW = tuple(
    Column(
        each.key,
        each.title,
        each.human,
        each.key not in ("location", "id", "time", "name", "status", "files", "bytes", "added_bytes", "error"),
    )
    for each in TARGET
)
"""The same for lists."""

BACKUP_ROW = (*LISTED, *(Column(each.key, each.title, each.human, extra=True) for each in _MORE))
"""The same for lists: what the table does not show is in json and yaml."""

_AT = 1 + [each.key for each in LISTED].index("engine")
_REST = tuple(each for each in BACKUP_ROW[_AT:] if each.key not in ("level", "chain"))
LEVEL_ROW = (*BACKUP_ROW[:_AT], *_LEVEL, *_REST)
"""As ``BACKUP_ROW``, with level and chain beside the engine."""

GROUP_BACKUP = (*BACKUP, _LOCATIONS)
"""Every field of a backup, with the storages that have it."""

ENTRY = (
    Column("path", "Path"),
    Column("type", "Type"),
    Column("mode", "Mode"),
    Column("user", "User"),
    Column("group", "Group"),
    Column("size", "Size", human_size),
    Column("mtime", "Modified"),
    Column("link_target", "Link target"),
    *columns_of(
        (
            "path_base64",
            "uid",
            "gid",
            "mtime_ns",
            "ctime",
            "ctime_ns",
            "inode",
            "link_target_base64",
            "link_group",
            "device",
            "xattrs",
            "sparse",
            "incomplete",
        ),
        extra=True,
    ),
)

FOUND = (Column("backup", "Backup", _short), Column("time", "Time", human_iso), *ENTRY)
"""An entry, and the backup that it was found in."""

CHANGE = (
    Column("kind", "Kind"),
    Column("path", "Path"),
    Column("size_before", "Size before", human_size),
    Column("size_after", "Size after", human_size),
    Column("path_base64", "Path base64", extra=True),
)


def listed_columns(rows: Sequence[Row], *, several: bool) -> tuple[Column, ...]:
    """What ``backup list`` shows: level and chain only where there are any.

    Args:
        several: storages.
    """
    found = any(row["level"] is not None for row in rows)
    return (*(LEVEL_ROW if found else BACKUP_ROW), *((_LOCATIONS,) if several else ()))
