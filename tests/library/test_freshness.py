"""Freshness: what is overdue or undrilled, by what the repository says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezer_sdk import ConfigurationError, Freezer, Overdue
from freezer_sdk.drill_model import Drill
from freezer_sdk.freshness import report
from freezer_sdk.storages.memory import MemoryStorage

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_text("alpha\n")
    return tmp_path / "source"


@pytest.fixture(params=["dedup", "tar"])
def freezer(request: pytest.FixtureRequest) -> Iterator[Freezer]:
    with Freezer(MemoryStorage(), engine=request.param, create=True, encryption=False) as opened:
        yield opened


def look(freezer: Freezer, after: timedelta = timedelta(), **options: object):
    arguments = {"max_age": 26 * HOUR, "drill_max_age": None, "names": (), "host": None, "expected": ()}
    return report(freezer, now=datetime.now(UTC) + after, **{**arguments, **options})


def states(found) -> dict[str, str]:
    return {each.name: str(each.state) for each in found.series}


def test_backups_grow_old(freezer: Freezer, source: Path) -> None:
    freezer.backup(source, name="etc", host="node1")
    fresh = look(freezer)
    assert states(fresh) == {"etc": "ok"}
    fresh.check()
    assert look(freezer, 25 * HOUR).late == ()
    late = look(freezer, 27 * HOUR)
    assert states(late) == {"etc": "overdue"}
    assert late.series[0].age >= 27 * HOUR
    with pytest.raises(Overdue, match=r"etc of node1 \(overdue\)") as caught:
        late.check()
    assert caught.value.exit_code == 15
    assert states(look(freezer, 1000 * DAY, max_age=None)) == {"etc": "ok"}


def test_names_that_must_be_there(freezer: Freezer, source: Path) -> None:
    freezer.backup(source, name="etc", host="node1")
    freezer.backup(source, name="home", host="node2")
    assert states(look(freezer, expected=["etc", "db"])) == {"db": "overdue", "etc": "ok", "home": "ok"}
    assert states(look(freezer, names=["etc", "db"])) == {"db": "overdue", "etc": "ok"}
    assert states(look(freezer, host="node2")) == {"home": "ok"}
    assert states(look(freezer, host="node3", names=["etc"])) == {"etc": "overdue"}


def test_drills_count_until_they_are_old_and_a_failed_one_counts_at_once(freezer: Freezer, source: Path) -> None:
    freezer.backup(source, name="etc", host="node1")
    limits = {"max_age": None, "drill_max_age": 30 * DAY}
    assert states(look(freezer, **limits)) == {"etc": "undrilled"}
    drill = freezer.drills.run(name="etc", host="node1")
    (found,) = look(freezer, **limits).series
    assert (found.state, found.drill, found.passed) == ("ok", drill, drill)
    assert states(look(freezer, 31 * DAY, **limits)) == {"etc": "undrilled"}
    failed = _drill(drill, 1, passed=False)
    freezer._opened().drills().write(failed)
    (found,) = look(freezer, 2 * HOUR, **limits).series
    assert (found.state, found.drill.id, found.passed) == ("undrilled", failed.id, drill)
    freezer._opened().drills().write(_drill(drill, 2, passed=True))
    assert states(look(freezer, 3 * HOUR, **limits)) == {"etc": "ok"}
    assert states(look(freezer, 3 * HOUR, max_age=HOUR, drill_max_age=HOUR)) == {"etc": "overdue"}


def test_drills_of_other_names_or_from_the_future_do_not_count(freezer: Freezer, source: Path) -> None:
    freezer.backup(source, name="etc", host="node1")
    freezer.backup(source, name="home", host="node1")
    drill = freezer.drills.run(name="etc", host="node1")
    freezer._opened().drills().write(_drill(drill, 24 * 300, passed=True, name="home"))
    limits = {"max_age": None, "drill_max_age": 30 * DAY}
    assert states(look(freezer, **limits)) == {"etc": "ok", "home": "undrilled"}


def test_the_newest_may_lack_something(source: Path) -> None:
    with Freezer(MemoryStorage(), create=True, encryption=False) as freezer:
        half = {"command": "db.sql", "command_arguments": ["sh", "-c", "echo half; exit 3"]}
        freezer.backup(source, name="etc", mode_options=half)
        found = look(freezer)
        assert states(found) == {"etc": "partial"}
        assert found.late == ()


def test_clocks_that_are_ahead_make_nothing_young(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that dates its backups into the future would never be overdue."""
    from freezer_sdk.engines.dedup import backup as engine

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + 400 * DAY

    with Freezer(MemoryStorage(), create=True, encryption=False) as freezer:
        freezer.backup(source, name="etc")
        monkeypatch.setattr(engine, "datetime", Ahead)
        freezer.backup(source, name="etc")
        assert [each.plausible for each in freezer.backups()] == [True, False]
        assert states(look(freezer, 27 * HOUR)) == {"etc": "overdue"}


def test_forged_records_are_told(source: Path) -> None:
    storage = MemoryStorage()
    with Freezer(storage, create=True, encryption=False) as freezer:
        freezer.backup(source, name="etc")
        freezer.drills.run(name="etc")
        (record,) = storage.list("records/drill/")
        data = bytearray(storage.get(record.name))
        data[-1] ^= 1
        storage.delete(record.name)
        storage.put(record.name, [bytes(data)])
        found = look(freezer, drill_max_age=DAY)
        assert states(found) == {"etc": "undrilled"}
        assert [problem.path for problem in found.problems] == [record.name]


def test_no_backup_at_all_is_none_that_is_young() -> None:
    with Freezer(MemoryStorage(), create=True, encryption=False) as freezer:
        look(freezer, max_age=None).check()
        found = look(freezer, max_age=DAY)
        assert found.missing
        with pytest.raises(Overdue, match="no backup at all"):
            found.check()


@pytest.mark.parametrize("wrong", [{"max_age": timedelta()}, {"drill_max_age": -DAY}, {"names": "etc"}])
def test_limits_that_make_no_sense(wrong: dict[str, object]) -> None:
    with (
        Freezer(MemoryStorage(), create=True, encryption=False) as freezer,
        pytest.raises(ConfigurationError),
    ):
        freezer.freshness(**wrong)


def _drill(like: Drill, hours: float, **changes: object) -> Drill:
    import secrets
    from dataclasses import replace

    return replace(like, id=secrets.token_hex(16), started=like.started + hours * HOUR, **changes)
