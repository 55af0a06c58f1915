"""Backups copied from one repository to another, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import Repository
from freezer_sdk.errors import RepositoryError
from freezer_sdk.model import Backup, CopyOutcome, CopyResult, Event, Problem
from freezer_sdk.operation import Operation


def copy_backups(
    source: Repository,
    target: Repository,
    backups: Sequence[Backup],
    *,
    present: Sequence[Backup],
    dry_run: bool,
    boundary: Boundary,
    operation: Callable[[], Operation],
) -> list[CopyResult]:
    """Copies, oldest first, so that each finds what the one before it brought.

    Args:
        present: what the target has; somebody may have stored another backup under the id of one that is copied.
        boundary: around the plug-ins of both.
        operation: gives one for each backup.

    Raises:
        ConfigurationError, PluginError, StorageError, Cancelled: what was copied before stays.
    """
    results = []
    there = {_likeness(backup) for backup in present}
    for backup in sorted(backups, key=lambda each: (each.time, each.id)):
        run = operation()
        run.start(backup=backup.id, name=backup.name, host=backup.host, dry_run=dry_run)
        if _likeness(backup) in there:
            result = CopyResult(backup=backup, outcome=CopyOutcome.PRESENT)
        else:
            result = _copy(source, target, backup, dry_run=dry_run, boundary=boundary, run=run)
        run.finish(size=result.read_bytes, added=result.added_bytes, backup=backup.id, outcome=str(result.outcome))
        results.append(result)
    return results


def _likeness(backup: Backup) -> tuple[object, ...]:
    """What a copy has from its original."""
    return backup.id, backup.time, backup.host, backup.machine_id, backup.name, backup.paths, backup.stats


def _copy(
    source: Repository, target: Repository, backup: Backup, *, dry_run: bool, boundary: Boundary, run: Operation
) -> CopyResult:
    try:
        with boundary.guard():
            return target.copy(source, backup.id, run.context, dry_run=dry_run)
    except RepositoryError as error:  # damage to one backup does not keep the others back
        problem = Problem(path=f"backup {backup.short_id}", kind="damaged", message=error.message)
        run.context.events(Event(kind="problem", operation=run.name, path=problem.path, problem=problem))
        return CopyResult(backup=backup, outcome=CopyOutcome.FAILED, error=error)
