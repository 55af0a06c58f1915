"""``Freezer.retention`` with public names only."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezer_sdk import (
    AmbiguousError,
    BackupNotFound,
    Cancelled,
    CancelToken,
    ConfigurationError,
    Event,
    Freezer,
    PolicyRefusal,
    RetentionPolicy,
)

NO_FLOOR = RetentionPolicy(keep_last=2, floor=timedelta(0))


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    with Freezer(f"local:{tmp_path}/store", create=True, encryption=False) as opened:
        yield opened


@pytest.fixture
def made(freezer: Freezer, tmp_path: Path) -> list[str]:
    """Three backups, the newest last."""
    source = tmp_path / "source"
    source.mkdir()
    found = []
    for number in range(3):
        (source / "state").write_text(str(number))
        found.append(freezer.backup(source, mode_options={"sync": False}).id)
    return found


def test_the_whole_way(freezer: Freezer, made: list[str], tmp_path: Path) -> None:
    plan = freezer.retention.plan(NO_FLOOR)
    assert [backup.id for backup in plan.kept] == made[:0:-1]
    assert [backup.id for backup in plan.forgotten] == made[:1]
    assert [backup.id for backup in freezer.backups()] == made
    assert freezer.retention.apply(NO_FLOOR).applied
    assert [backup.id for backup in freezer.backups()] == made[1:]
    (forgotten,) = freezer.retention.forgotten()
    assert forgotten.backup.id == made[0]
    assert forgotten.reason == "policy: last"
    assert abs(forgotten.forgotten - datetime.now(UTC)) < timedelta(minutes=1)
    back = freezer.retention.undelete(made[0][:10])
    freezer.restore(back.id, tmp_path / "out")
    assert (tmp_path / "out" / "state").read_text() == "0"
    hold = freezer.retention.hold("latest", reason="before the migration", until=datetime(2100, 1, 1))
    assert hold.until is not None
    assert hold.until.tzinfo is not None, "local time was meant"
    with pytest.raises(PolicyRefusal, match="before the migration"):
        freezer.forget("latest")
    assert list(freezer.retention.release("latest")) == [hold]
    freezer.forget("latest")


def test_nothing_young_is_forgotten_by_default(freezer: Freezer, made: list[str]) -> None:
    assert not freezer.retention.plan(RetentionPolicy(keep_last=1)).forgotten


def test_events_and_cancellation(freezer: Freezer, made: list[str]) -> None:
    events: list[Event] = []
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        freezer.retention.apply(NO_FLOOR, cancel=cancel)
    freezer.retention.apply(NO_FLOOR, events=events.append)
    assert [(event.kind, event.operation) for event in events] == [("start", "forget"), ("finish", "forget")]
    assert events[-1].data == {"forgotten": 1, "kept": 2}
    events.clear()
    with pytest.raises(Cancelled):
        freezer.retention.undelete(made[0], cancel=cancel)
    freezer.retention.undelete(made[0], events=events.append)
    assert events[0].kind == "start"
    assert events[-1].kind == "finish"
    assert {event.operation for event in events} == {"undelete"}


def test_choosing_what_comes_back(freezer: Freezer, made: list[str]) -> None:
    for selector, error in (
        ("latest", ConfigurationError),
        ("not an id", ConfigurationError),
        (made[0], BackupNotFound),
        ("f" * 32, BackupNotFound),
    ):
        with pytest.raises(error):
            freezer.retention.undelete(selector)
    freezer.forget(made)
    with pytest.raises(ConfigurationError):
        freezer.retention.undelete("")
    alike = {each[0] for each in made}
    if len(alike) < 3:  # ids are random
        with pytest.raises(AmbiguousError):
            freezer.retention.undelete(next(first for first in alike if sum(each[0] == first for each in made) > 1))


def test_a_closed_freezer_retains_nothing(freezer: Freezer, made: list[str]) -> None:
    retention = freezer.retention
    freezer.close()
    for call in (retention.holds, retention.forgotten, lambda: retention.plan(NO_FLOOR)):
        with pytest.raises(Exception, match="closed"):
            call()


def test_two_at_once(freezer: Freezer, made: list[str]) -> None:
    """Rules that are applied by several threads, while one of the backups is brought back, forget nothing twice."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            freezer.retention.apply(NO_FLOOR, force=True)
            freezer.retention.undelete(made[0])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert set(made[1:]) <= {backup.id for backup in freezer.backups()}
    assert freezer.verify(read_data=True).ok


def test_the_example_of_the_guide_runs(freezer: Freezer, made: list[str], checkout: Path) -> None:
    text = (checkout / "docs/how-to/retention.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    freezer.close()
    block = block.replace('"local:/srv/backups", password="..."', repr(freezer.location))
    exec(compile(block, "retention.md", "exec"), {})


@pytest.fixture
def checkout() -> Path:
    return Path(__file__).parents[2]
