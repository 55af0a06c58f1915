"""Dates that are wrong: 1970, 2106, 9999, a clock that runs backwards; and files from before and after all times."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli.program import Cli
from dedup.two import settle
from dedup.upkeep.world import Clocked, new_repository, opened
from hardening.forge import Entry, Forge

from freezer_sdk import Freezer, IntegrityError, LeaseLost, PolicyRefusal, RepositoryLocked, RetentionPolicy
from freezer_sdk.engines.dedup import backup as runs
from freezer_sdk.engines.dedup.layout import backup_name, parse_backup_name
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import ObjectInfo
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage

DATES = {
    "first": datetime(1, 1, 1, tzinfo=UTC),
    "year-999": datetime(999, 12, 31, 23, 59, 59, tzinfo=UTC),
    "epoch": datetime(1970, 1, 1, tzinfo=UTC),
    "before-epoch": datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    "unsigned": datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
    "last": datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = tmp_path / "source"
    base.mkdir()
    (base / "f").write_bytes(b"content")
    settle()
    return base


@pytest.mark.parametrize("moment", DATES.values(), ids=DATES.keys())
def test_names_of_backups_at_all_times(moment: datetime) -> None:
    assert parse_backup_name(backup_name(moment, 32 * "a")) == (moment, 32 * "a")


def test_names_sort_as_their_times() -> None:
    names = [backup_name(moment, 32 * "a") for moment in DATES.values()]
    by_time = [backup_name(moment, 32 * "a") for moment in sorted(DATES.values())]
    assert sorted(names) == by_time


@pytest.fixture
def dated() -> tuple[Forge, dict[str, str]]:
    """Backups of all dates."""
    made = Forge(MemoryStorage())
    ids = {}
    for name, moment in DATES.items():
        content = made.file(name.encode())
        text = moment.isoformat(timespec="microseconds")
        ids[name] = made.backup(Entry(b"f", content=content, size=len(name)), time=text)
    return made, ids


def test_the_library_takes_backups_of_all_dates(dated: tuple[Forge, dict[str, str]], tmp_path: Path) -> None:
    made, ids = dated
    other = Forge(MemoryStorage())
    with Freezer(made.storage) as freezer, Freezer(other.storage) as target:
        assert [backup.id for backup in freezer.backups()] == [ids[name] for name in sorted(DATES, key=DATES.get)]
        assert freezer.verify(read_data=True).ok
        assert {result.outcome for result in target.copy(freezer)} == {"copied"}
        for place in (freezer, target):
            assert len(place.backups()) == len(DATES)
            for name, backup in ids.items():
                out = tmp_path / str(id(place)) / name
                assert place.restore(backup, out).status == "complete"
                assert (out / "f").read_text() == name
                assert place.find_backup(backup).time == DATES[name]
            assert len(list(place.find("f"))) == len(DATES)
            assert place.find_backup("latest", host="node1", at=datetime(2000, 1, 1, tzinfo=UTC)).id == ids["epoch"]
            assert place.backups(before=datetime(1970, 1, 1))[0].id == ids["first"]
            assert place.backups(before=datetime.min) == []
            assert len(place.backups(after=datetime.min, before=datetime.max)) == len(DATES)
        freezer.forget(list(ids.values()))
        assert freezer.backups() == []


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_the_command_line_shows_backups_of_all_dates(cli: Cli, tmp_path: Path, zone: str) -> None:
    cli.env |= {"TZ": zone, "FREEZER_STORAGE": f"local:{tmp_path / 'repository'}"}
    with LocalStorage(path=str(tmp_path / "repository")) as storage:
        made = Forge(storage)
        for name, moment in DATES.items():
            text = moment.isoformat(timespec="microseconds")
            made.backup(Entry(b"f", content=made.file(b"x"), size=1, mtime=-(1 << 63)), time=text, name=name)
        storage.put("backups/99991231T235959.999Z-" + 32 * "f", [b"junk"])  # needs no key
        storage.put("backups/00010101T000000.000Z-" + 32 * "f", [b"junk"])
    for form in ("table", "json", "yaml", "csv", "value"):
        shown = cli.inside("backup", "list", "-f", form).out
        assert all(name in shown for name in DATES)
    for command in (("find", "f"), ("list", "--before", "1970-01-02"), ("list", "--after", "9999-12-30")):
        assert cli.inside("backup", *command).out
    assert cli.inside("backup", "ls", "latest", "--host", "node1", "--name", "last", "-l").out
    assert cli.inside("backup", "show", "latest", "--host", "node1", "--name", "first").out
    assert cli.inside("backup", "list", "--before", "0001-01-01", code=None).code in (0, 2)


def test_a_clock_that_runs_backwards(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of 2106, then of 1970, then of today: each is whole, and no change is overlooked."""
    clock = runs.clock_ns
    storage = MemoryStorage()
    Forge(storage)
    made: dict[str, bytes] = {}
    offsets = (80 * 365, 0, -56 * 365, -1, 0, 80 * 365)
    with Freezer(storage) as freezer:
        for number, days in enumerate(offsets):
            data = b"content %d" % number
            assert len(data) == 9
            before = (source / "f").stat()
            (source / "f").write_bytes(data)
            os.utime(source / "f", ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time stay the same
            shift = timedelta(days=days)

            class Clock(datetime):
                @classmethod
                def now(cls, tz=None):  # type: ignore[no-untyped-def, override]
                    return datetime.now(tz) + shift  # noqa: B023

            monkeypatch.setattr(runs, "datetime", Clock)
            monkeypatch.setattr(runs, "clock_ns", lambda: clock() + int(shift.total_seconds()) * 10**9)  # noqa: B023
            backup = freezer.backup(source, name="t")
            assert backup.status == "complete"
            made[backup.id] = data
        monkeypatch.undo()
        assert len(freezer.backups()) == len(offsets)
        times = [backup.time for backup in freezer.backups()]
        assert times == sorted(times)
        for backup_id, data in made.items():
            assert freezer.restore(backup_id, tmp_path / backup_id).status == "complete"
            assert (tmp_path / backup_id / "f").read_bytes() == data
        assert freezer.verify(read_data=True).ok


MOMENTS = [
    0,
    -1,
    -999_999_999,
    -1_000_000_001,
    1,
    123_456_789,
    (1 << 31) * 10**9 - 1,
    (1 << 31) * 10**9,
    (1 << 32) * 10**9 + 1,
    -(1 << 31) * 10**9,
    4_291_747_199_999_999_999,
    1_767_323_045_678_901_234,
]


def test_times_of_files_come_back_to_the_nanosecond(tmp_path: Path) -> None:
    base = tmp_path / "source"
    base.mkdir()
    wanted = {}
    for number, moment in enumerate(MOMENTS):
        for kind in ("file", "directory", "link"):
            path = base / f"{kind}-{number}"
            if kind == "file":
                path.write_bytes(b"x" * number)
            elif kind == "directory":
                path.mkdir()
            else:
                path.symlink_to("nowhere")
            os.utime(path, ns=(1, moment), follow_symlinks=False)
            wanted[path.name] = path.lstat().st_mtime_ns  # file systems end at different years
    assert len(set(wanted.values())) > 8
    storage = MemoryStorage()
    Forge(storage)
    with Freezer(storage) as freezer:
        backup = freezer.backup(base, name="t")
        assert backup.status == "complete"
        freezer.restore(backup.id, tmp_path / "out")
        entries = {entry.path.rpartition(b"/")[2].decode(): entry.mtime_ns for entry in freezer.entries(backup.id)}
        again = freezer.backup(base, name="t")
        assert again.status == "complete"
    found = {path.name: path.lstat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert found == wanted
    assert wanted.items() <= entries.items()


@pytest.mark.parametrize("moment", [(1 << 63) - 1, -(1 << 63)])
def test_times_that_no_file_system_has_fail_alone_or_are_clamped(tmp_path: Path, moment: int) -> None:
    made = Forge(MemoryStorage())
    content = made.file(b"x")
    backup = made.backup(Entry(b"a", content=content, size=1, mtime=moment), Entry(b"b", content=content, size=1))
    with Freezer(made.storage) as freezer:
        result = freezer.restore(backup, tmp_path / "out")
        assert (tmp_path / "out" / "b").read_bytes() == b"x"
        assert (tmp_path / "out" / "a").exists() or result.problems


class OddClock(Clocked):
    """What it says of the times of objects, and of its own, is up to a test."""

    modified: datetime | None = None
    clock: datetime | None = None

    def _odd(self, info: ObjectInfo) -> ObjectInfo:
        return info if self.modified is None else replace(info, modified=self.modified)

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        return map(self._odd, super().list(prefix, delimiter=delimiter))

    def stat(self, name: str) -> ObjectInfo:
        return self._odd(super().stat(name))

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        return self._odd(super().put(name, buffers, if_absent=if_absent))

    def now(self) -> datetime:
        return super().now() if self.clock is None else self.clock


ENDS = {
    "first": datetime.min.replace(tzinfo=UTC),
    "epoch": datetime(1970, 1, 1, tzinfo=UTC),
    "unsigned": datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
    "last": datetime.max.replace(tzinfo=UTC),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("what", ["modified", "clock"])
def test_a_storage_whose_clock_is_odd(source: Path, tmp_path: Path, what: str, end: datetime) -> None:
    """Whatever a server says of times: an answer or a plain refusal, and no backup is lost."""
    storage = OddClock()
    new_repository(storage)
    with opened(storage) as freezer:
        first = freezer.backup(source, name="t")
        second = freezer.backup(source, name="t")
        freezer.forget(second.id)
    setattr(storage, what, end)
    work: list[Callable[[Freezer], object]] = [
        lambda freezer: freezer.maintenance.leases(),
        lambda freezer: freezer.maintenance.unlock(),
        lambda freezer: freezer.retention.plan(RetentionPolicy(keep_last=1, keep_within=timedelta(days=1))),
        lambda freezer: freezer.retention.hold(first.id, reason="x"),
        lambda freezer: freezer.maintenance.check(read_data=True, max_age=timedelta(days=30)),
        lambda freezer: freezer.maintenance.prune(),
        lambda freezer: freezer.maintenance.repair(),
        lambda freezer: freezer.backup(source, name="t"),
        lambda freezer: freezer.maintenance.prune(),
    ]
    for step in work:
        with suppress(LeaseLost, RepositoryLocked, PolicyRefusal, IntegrityError), opened(storage) as freezer:
            step(freezer)
    with opened(storage) as freezer:
        assert first.id in {backup.id for backup in freezer.backups()}
        assert freezer.restore(first.id, tmp_path / "out").status == "complete"
    setattr(storage, what, None)
    with opened(storage) as freezer:
        assert freezer.find_backup(first.id).status == "complete"
        assert freezer.verify(read_data=True).ok
