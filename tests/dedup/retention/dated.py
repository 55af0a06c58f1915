"""Repositories whose storage has a clock that tests set."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from freezer_sdk import (
    Backup,
    Freezer,
    RetentionPlan,
    RetentionPolicy,
)
from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import Context
from freezer_sdk.plugins import PluginRegistry
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.subject import build_subject

NOW = datetime(2026, 6, 15, 3, tzinfo=UTC)
DAY = timedelta(days=1)
DAILY = RetentionPolicy(keep_daily=10, zone=UTC)
WRITER = "a writer's password"


class Dated(MemoryStorage):
    """A storage whose clock stands where a test sets it."""

    clock = NOW

    def now(self) -> datetime:
        return self.clock

    def copied(self, *, keep_times: bool) -> Dated:
        """As ``cp -a`` copies a repository, or ``cp -r``."""
        other = Dated()
        other.clock = self.clock
        for name, item in self._space.objects.items():
            info = item.info if keep_times else replace(item.info, modified=self.clock)
            other._space.objects[name] = replace(item, info=info)
        return other


def make_backup(freezer: Freezer, storage: Dated, tree: Path, time: datetime, **values: Any) -> Backup:
    """A backup whose writer believes that it is ``time``.

    Args:
        stored: what the storage's clock says.
    """
    before, storage.clock = storage.clock, values.pop("stored", time)
    try:
        subject = build_subject(
            PluginRegistry(),
            [tree],
            boundary=Boundary({"x": "x"}),
            name=values.pop("name", "etc"),
            mode="fs",
            mode_options={"sync": False},
            tags=values.pop("tags", ()),
            host=values.pop("host", "node1"),
            excludes=(),
            force_read=False,
            dry_run=False,
            snapshot=None,
            snapshot_options=None,
            locations=(),
        )
        with subject.protect(Boundary({"x": "x"})) as protected:
            options = replace(subject.options, time=time, **values)
            return freezer._opened().backup(protected, options, Context())
    finally:
        storage.clock = before


def daily(freezer: Freezer, storage: Dated, tree: Path, count: int) -> list[Backup]:
    """A backup every night, the newest last."""
    return [make_backup(freezer, storage, tree, NOW - n * DAY) for n in reversed(range(count))]


def ids(freezer: Freezer) -> list[str]:
    return [backup.id for backup in freezer.backups()]


def decisions(found: RetentionPlan) -> dict[str, tuple[bool, list[str]]]:
    return {
        each.backup.id: (each.keep, [f"{reason.rule} {reason.slot}" for reason in each.reasons])
        for group in found.groups
        for each in group.decisions
    }
