"""Records of levels: what is written is read again, and what is damaged is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.record import Record, Stored
from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.model import Backup, BackupStats, Problem, Status

LEVEL = LevelId(folder="tar", series="h_n", chain=5, level=1, time=9)
BYTES_AS_TEXT = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
STORED = Stored(size=3, sha256="ab" * 32)


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": "0" * 32,
        "time": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        "host": "h",
        "name": "n",
        "mode": "fs",
        "engine": "tar",
        "status": Status.PARTIAL,
        "level": 1,
        "chain": "1" * 32,
        "parent": "1" * 32,
        **changes,
    }
    backup = Backup(**values)
    return Record(
        backup=backup, data=STORED, state=STORED, metadata=STORED, raw_size=7, compression="gzip", cipher="none"
    )


@given(path=BYTES_AS_TEXT, text=BYTES_AS_TEXT, size=st.integers(0, 2**60), duration=st.floats(0, 1e6))
def test_what_is_written_is_read_again(path: str, text: str, size: int, duration: float) -> None:
    made = record(
        paths=(path,),
        tags=("a", "b"),
        excludes=(text,),
        problems=(
            Problem(path=path, kind="unreadable", message=text),
            Problem(path="", kind="x", message="", fatal=False),
        ),
        stats=BackupStats(files=3, bytes=size, duration=duration),
        facts={"deep": [1, {"a": None}]},
        mount_points=("/mnt",),
    )
    assert Record.decode(made.encode(), LEVEL) == made


def without_digest(encoded: bytes) -> dict[str, Any]:
    """As the first releases wrote it."""
    document: dict[str, Any] = json.loads(encoded)
    del document["digest"], document["record_sha256"]
    return document


def test_records_without_a_hash_of_their_own_are_read() -> None:
    assert Record.decode(json.dumps(without_digest(record().encode())).encode(), LEVEL) == record()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("level", 2),
        ("id", "no id"),
        ("parent", 5),
        ("time", "yesterday"),
        ("time", "2026-01-01T00:00:00"),
        ("paths", ["/a", 5]),
        ("problems", [{}]),
        ("stats", {"files": -1}),
        ("stats", {"files": "many"}),
        ("data", {"size": 3, "sha256": "short"}),
        ("status", "splendid"),
    ],
)
def test_a_wrong_field_is_damage(field: str, value: object) -> None:
    document = without_digest(record().encode())
    document[field] = value
    with pytest.raises(IntegrityError, match="record is damaged"):
        Record.decode(json.dumps(document).encode(), LEVEL)


@given(raw=st.binary(max_size=200))
def test_junk_is_damage(raw: bytes) -> None:
    with pytest.raises(IntegrityError):
        Record.decode(raw, LEVEL)


@given(position=st.integers(0, 10**6), mask=st.integers(1, 255))
def test_a_changed_byte_is_found(position: int, mask: int) -> None:
    raw = bytearray(record(paths=("/srv",)).encode())
    raw[position % len(raw)] ^= mask
    with pytest.raises(IntegrityError):
        Record.decode(raw, LEVEL)


def test_facts_that_are_no_json_are_refused_before_anything_is_stored() -> None:
    with pytest.raises(ConfigurationError):
        record(facts={"when": datetime(2026, 1, 1, tzinfo=UTC)}).encode()
