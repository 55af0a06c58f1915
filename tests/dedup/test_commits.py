"""What a commit says is checked before it is believed: its writer may be hostile."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from freezer_sdk.engines.dedup.commit import Commit, decode_commit, encode_commit
from freezer_sdk.engines.dedup.page import INLINE, MAX_DEPTH, Content
from freezer_sdk.engines.dedup.tree import Owners
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Backup, BackupStats, Problem, Status

ID = "0123456789abcdef" * 2


def make() -> Commit:
    backup = Backup(
        id=ID,
        time=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        host="node1",
        name="etc",
        mode="fs",
        engine="dedup",
        status=Status.PARTIAL,
        paths=("/etc", "/odd-\udcff"),
        stats=BackupStats(files=3, bytes=1 << 40, duration=1.5),
        problems=(Problem(path="/odd-\udcff", kind="unreadable", message="no"),),
        parent="f" * 32,
    )
    return Commit(
        backup=backup,
        root=Content(MAX_DEPTH, bytes(32 * INLINE)),
        owners=Owners({0: "root"}, {0: "root"}),
        generation=7,
        lease="a" * 32,
        indexes=("index/" + "0" * 64,),
        scan_start_ns=1 << 60,
    )


def document() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(encode_commit(make())))
    return stored


def test_what_goes_in_comes_out() -> None:
    assert decode_commit(document(), backup_id=ID) == make()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("root", {"depth": -1, "ids": "00" * 32}),
        ("root", {"depth": MAX_DEPTH + 1, "ids": "00" * 32}),
        ("root", {"depth": 0, "ids": "00" * 31}),
        ("root", {"depth": 0, "ids": "00" * 32 * (INLINE + 1)}),
        ("root", {"depth": 0}),
        ("root", None),
        ("stats", {"files": "many"}),
        ("stats", {"files": 1.5}),
        ("stats", {"files": True}),
        ("stats", {"bytes": -1}),
        ("stats", {"duration": None}),
        ("stats", [1]),
        ("time", "2026-01-02T03:04:05"),
        ("status", "perfect"),
        ("paths", ["not base64"]),
        ("problems", [{"path": ""}]),
        ("users", {"nobody": "root"}),
        ("generation", "newest"),
        ("id", "f" * 32),
        ("version", 2),
    ],
)
def test_what_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(IntegrityError):
        decode_commit({**document(), field: value}, backup_id=ID)


@pytest.mark.parametrize("field", sorted(document()))
def test_a_missing_field_is_refused(field: str) -> None:
    stored = document()
    del stored[field]
    with pytest.raises(IntegrityError):
        decode_commit(stored, backup_id=ID)


def test_unknown_fields_are_passed_over() -> None:
    stored = document()
    stored["later"], stored["stats"]["later"] = 1, "text"
    assert decode_commit(stored, backup_id=ID) == make()
