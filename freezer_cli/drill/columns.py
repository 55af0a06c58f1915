"""Columns of drills. ``docs/reference/machine-formats.md`` describes the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezer_cli.base import Column
from freezer_cli.documents import Document, plain
from freezer_cli.text import human_duration, human_iso, human_size

if TYPE_CHECKING:
    from freezer_sdk import Drill


def _short(value: str) -> str:
    return value[:8]


def _share(value: float) -> str:
    return "all" if value == 1 else f"{100 * value:.3g} %"


DRILL = (
    Column("started", "Drilled", human_iso),
    Column("passed", "Passed", lambda value: "yes" if value else "NO"),
    Column("name", "Name"),
    Column("host", "Host"),
    Column("backup", "Backup", _short),
    Column("sample", "Sample", _share),
    Column("verifier", "Verifier"),
    Column("files", "Files"),
    Column("bytes", "Size", human_size),
    Column("restore_seconds", "Restored in", human_duration),
    Column("verify_seconds", "Checked in", human_duration),
    Column("error", "Error"),
    Column("id", "ID", extra=True),
    Column("backup_time", "Backup of", human_iso, extra=True),
    Column("mode", "Mode", extra=True),
    Column("compared_bytes", "Compared", human_size, extra=True),
    Column("facts", "Facts", extra=True),
    Column("error_code", "Error code", extra=True),
    Column("drilled_on", "Drilled on", extra=True),
    Column("signer", "Signed by", extra=True),
)


def drill_document(drill: Drill) -> Document:
    """A drill."""
    document: Document = plain(drill)
    return document
