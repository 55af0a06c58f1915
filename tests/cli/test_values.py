"""What people and programs see of single values."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta

import pytest

from freezer_cli.backup.lines import permissions
from freezer_cli.dates import parse_date, parse_date_until
from freezer_cli.documents import path_fields, plain, time_of_ns
from freezer_cli.priority import parse_ionice
from freezer_cli.text import human_duration, human_size, printable, printable_path


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 30, "1.0 GiB"),
        ((1 << 20) - 1, "1.0 MiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert human_size(size) == text


def test_durations() -> None:
    assert [human_duration(each) for each in (0.04, 59.9, 75.2, 7500)] == [
        "0.0 s",
        "59.9 s",
        "1 min 15 s",
        "2 h 05 min",
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"/etc/hosts", "/etc/hosts"),
        ("/Übung/日本".encode(), "/Übung/日本"),
        (b"/a\x1b[31mred", "/a\\x1b[31mred"),
        (b"/two\nlines", "/two\\nlines"),
        (b"/latin1 \xfc", "/latin1 \\xfc"),
        ("/evil\u202etxt.exe".encode(), "/evil\\u202etxt.exe"),
        ("/c1\u0085".encode(), "/c1\\u0085"),
    ],
)
def test_names_cannot_disturb_a_terminal(path: bytes, text: str) -> None:
    assert printable_path(path) == text
    assert printable(text) == text


def test_documents_keep_the_exact_bytes_of_names() -> None:
    assert path_fields("path", b"/ok") == {"path": "/ok", "path_base64": None}
    assert path_fields("path", b"/\xff") == {"path": "/\ufffd", "path_base64": "L/8="}
    assert path_fields("path", "/\udcff") == {"path": "/\ufffd", "path_base64": "L/8="}
    assert plain({"a": ("x\udcff", 1, None, True)}) == {"a": ["x\ufffd", 1, None, True]}


def test_times_of_files_keep_nanoseconds() -> None:
    assert time_of_ns(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456789+00:00"
    assert time_of_ns(-1) == "1969-12-31T23:59:59.999999999+00:00"
    assert time_of_ns(10**21) == "@1000000000000.000000000"


def test_permissions() -> None:
    assert permissions(0o755) == "rwxr-xr-x"
    assert permissions(0o4755) == "rwsr-xr-x"
    assert permissions(0o7644) == "rwSr-Sr-T"


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
    time.tzset()


def test_a_date_is_local_unless_it_has_an_offset(new_york: None) -> None:
    winter = datetime(2026, 1, 15, 17, 30, tzinfo=UTC)
    assert parse_date("2026-01-15 12:30") == winter
    assert parse_date("2026-01-15T12:30:00") == winter
    assert parse_date("2026-01-15T12:30-05:00") == winter
    assert parse_date("2026-01-15T17:30Z") == winter
    assert parse_date("2026-07-15 13:30") == datetime(2026, 7, 15, 17, 30, tzinfo=UTC), "daylight saving time"


def test_a_day_is_its_start_or_its_end(new_york: None) -> None:
    assert parse_date("2026-01-15") == datetime(2026, 1, 15, 5, tzinfo=UTC)
    assert parse_date_until("2026-01-15") == datetime(2026, 1, 16, 5, tzinfo=UTC) - timedelta(microseconds=1)
    assert parse_date_until("2026-01-15 12:00") == datetime(2026, 1, 15, 17, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-01-15 25:00", "12:30"])
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_date(text)


def test_io_priorities() -> None:
    assert parse_ionice("idle") == (3, None)
    assert parse_ionice("best-effort:7") == (2, 7)
    assert parse_ionice("2:0") == (2, 0)
    for wrong in ("fast", "idle:3", "best-effort:8", "2:x", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            parse_ionice(wrong)
