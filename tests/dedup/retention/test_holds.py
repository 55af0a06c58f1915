"""Holds: what nobody may forget for now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dedup.retention.dated import DAILY, DAY, NOW, Dated, daily, decisions, ids, make_backup

from freezer_sdk import (
    BackupNotFound,
    ConfigurationError,
    Freezer,
    PolicyRefusal,
)
from freezer_sdk.engines.dedup import holds
from freezer_sdk.engines.dedup.keyring import KeyRing


def test_holds(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = [each.id for each in daily(freezer, storage, tree, 14)]
    for_ever = freezer.retention.hold(made[0], reason="case 4711")
    freezer.retention.hold(made[1][:8], reason="audit", until=datetime(2100, 1, 1, tzinfo=UTC))
    assert [(hold.backup, hold.reason) for hold in freezer.retention.holds()] == [
        (made[0], "case 4711"),
        (made[1], "audit"),
    ]
    found = freezer.retention.apply(DAILY)
    assert {backup.id for backup in found.forgotten} == set(made[2:4])
    assert decisions(found)[made[0]] == (True, ["held case 4711"])
    with pytest.raises(PolicyRefusal, match="case 4711"):
        freezer.forget([made[5], made[0]])
    assert made[5] in ids(freezer), "all or nothing"
    assert list(freezer.retention.release(made[0])) == [for_ever]
    with pytest.raises(PolicyRefusal, match="not held"):
        freezer.retention.release(made[0])
    freezer.forget(made[0])
    assert [hold.backup for hold in freezer.retention.holds()] == [made[1]]


def test_several_holds_of_one_backup_stand_beside_each_other(
    freezer: Freezer, storage: Dated, keys: KeyRing, tree: Path
) -> None:
    made = make_backup(freezer, storage, tree, NOW - DAY)
    short = holds.write_hold(storage, keys, made.id, reason="short", until=NOW - timedelta(seconds=1))
    freezer.retention.hold(made.id, reason="long", until=datetime(2100, 1, 1, tzinfo=UTC))
    freezer.retention.hold(made.id, reason="longer")
    assert [hold.reason for hold in freezer.retention.holds()] == ["long", "longer"]
    assert short in holds.read_holds(storage, keys)
    assert len(freezer.retention.release(made.id)) == 2
    assert not freezer.retention.holds()
    assert [hold.reason for hold in holds.read_holds(storage, keys)] == ["short"]


def test_what_a_hold_must_have(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = make_backup(freezer, storage, tree, NOW - DAY)
    for values in (
        {"reason": " "},
        {"reason": "x" * 501},
        {"reason": "x", "until": datetime(2020, 1, 1)},
    ):
        with pytest.raises(ConfigurationError):
            freezer.retention.hold(made.id, **values)
    with pytest.raises(BackupNotFound):
        freezer.retention.hold("f" * 32, reason="x")
    assert not freezer.retention.holds()
    assert not list(storage.list("holds/"))


def test_a_damaged_hold_holds_nothing_and_is_reported(
    freezer: Freezer, storage: Dated, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = daily(freezer, storage, tree, 12)
    freezer.retention.hold(made[0].id, reason="x")
    freezer.retention.hold(made[1].id, reason="moved")
    first, second = (info.name for info in storage.list("holds/"))
    contents = {name: storage.get(name) for name in (first, second)}
    storage.put(first, [contents[second]])
    storage.put(second, [contents[second][:-1]])
    assert not freezer.retention.holds()
    assert first in caplog.text
    assert second in caplog.text
    assert {problem.path for problem in freezer.verify().problems} >= {first, second}
