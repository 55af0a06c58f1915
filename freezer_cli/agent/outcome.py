"""What a run gives: a document as the original writes it, a table of it, and the exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from freezer_cli.agent.settings import Place, Settings
from freezer_cli.app import program_version
from freezer_cli.documents import plain, problem_document
from freezer_cli.text import printable
from freezer_sdk.errors import FreezerError
from freezer_sdk.model import Backup, Status

PARTIAL = 3
_FIELDS = (
    "action",
    "always_level",
    "container",
    "dry_run",
    "path_to_backup",
    "max_level",
    "log_file",
    "storage",
    "mode",
    "proxy",
    "compression",
    "ssh_key",
    "ssh_username",
    "ssh_host",
    "ssh_port",
    "cindernative_backup_az",
    "cindernative_backup_container",
    "cindernative_vol_id",
    "nova_inst_id",
    "cinder_vol_id",
    "cinderbrick_vol_id",
    "glance_image_id",
)
"""Options that the original repeats in its result."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one action did.

    Attributes:
        document: for ``--metadata-out``; ``None``: nothing to tell.
        lines: for standard output.
    """

    document: Mapping[str, Any] | None = None
    lines: Sequence[str] = ()
    exit_code: int = 0


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What became of a backup in one storage."""

    place: Place
    backup: Backup | None = None
    error: FreezerError | None = None

    @property
    def document(self) -> dict[str, Any]:
        """For the list of storages."""
        backup, error = self.backup, self.error
        return {
            "name": self.place.name,
            "storage": self.place.storage,
            "container": self.place.container,
            "status": "failed" if backup is None else backup.status.value,
            "id": None if backup is None else backup.id,
            "curr_backup_level": None if backup is None else backup.level,
            "time_stamp": None if backup is None else time_stamp(backup),
            "error": None if error is None else plain(error.message),
        }


def time_stamp(backup: Backup) -> int:
    """The seconds in the name of the backup's directory."""
    return int(backup.time.timestamp())


def backup_document(settings: Settings, stored: Sequence[Stored], *, checksum: str | None) -> dict[str, Any]:
    """What the original writes of a backup, and what it leaves out: size, files, duration, problems.

    Args:
        settings: of the run.
        stored: by storage; one at least has the backup.
        checksum: of the files, if it was asked for.
    """
    first = next(each for each in stored if each.backup is not None)
    backup = first.backup
    assert backup is not None
    whole = all(each.backup is not None and each.backup.status is Status.COMPLETE for each in stored)
    document = {name: settings.values[name] or "" for name in _FIELDS}
    document |= {
        "container": first.place.container,
        "storage": first.place.storage,
        "proxy": _without_login(settings.values["proxy"] or ""),
        "path_to_backup": settings.path,
        "fs_real_path": settings.path,
        "vol_snap_path": settings.path,
        "curr_backup_level": backup.level or 0,
        "time_stamp": time_stamp(backup),
        "backup_name": settings.backup_name,
        "hostname": settings.hostname,
        "backup_media": "fs",
        "engine_name": settings.engine,
        "container_segments": "",
        "consistency_checksum": checksum or "",
        "client_os": sys.platform,
        "client_version": program_version(),
        "log_file": settings.logging.file or "",
        "id": backup.id,
        "status": (Status.COMPLETE if whole else Status.PARTIAL).value,
        "bytes": backup.stats.bytes,
        "files": backup.stats.files,
        "added_bytes": backup.stats.added_bytes,
        "duration": backup.stats.duration,
        "problems": [problem_document(problem) for problem in backup.problems],
    }
    if settings.values["backup_id"]:
        document["backup_id"] = settings.values["backup_id"]
    if len(stored) > 1:
        document["storages"] = [each.document for each in stored]
    return {key: plain(value) for key, value in document.items()}


def property_table(document: Mapping[str, Any]) -> list[str]:
    """A document as the original prints it: a table of properties; those without a value are left out."""
    rows = [(key.replace("_", " "), _cell(value)) for key, value in document.items() if value not in ("", [])]
    return table(("Property", "Value"), rows)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table with a frame."""
    cells = [[printable(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [
        "|" + "|".join(f" {cell:<{width}} " for cell, width in zip(row, widths, strict=True)) + "|" for row in cells
    ]
    return [rule, lines[0], rule, *lines[1:], rule]


def write_document(document: Mapping[str, Any], path: str) -> None:
    """Writes a document as one line of JSON; ``-``: on standard output.

    Raises:
        FreezerError: the file cannot be written.
    """
    text = json.dumps(document)
    if path == "-":
        print(text, flush=True)
        return
    try:
        with open(os.path.expanduser(path), "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise FreezerError(f"--metadata-out: {path} cannot be written: {error.strerror}") from error


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _without_login(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
