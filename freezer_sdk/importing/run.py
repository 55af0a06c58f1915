"""Backups of another engine become backups of this one: series after series, the oldest first."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import Context, Repository, WholeBackup
from freezer_sdk.errors import RepositoryError, SourceError
from freezer_sdk.importing.check import compare
from freezer_sdk.importing.feed import Feed
from freezer_sdk.importing.tree import ImportedTree, recorded_roots
from freezer_sdk.model import Backup, BackupOptions, CopyOutcome, CopyResult, Event, Problem
from freezer_sdk.modes.base import Protected
from freezer_sdk.operation import Operation


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Imports backups from one repository into another.

    Attributes:
        present: backups that the target has, by id.
        forgotten: ids of those that it had.
        verify: read back what was imported.
        staging: folder for contents that come before their time; ``None``: where temporary files go.
        boundary: around the plug-ins of both.
        operation: gives one for each backup.
    """

    source: Repository
    target: Repository
    location: str
    present: Collection[str]
    forgotten: Collection[str]
    verify: bool
    staging: str | None
    boundary: Boundary
    operation: Callable[[], Operation]

    def run(self, backups: Sequence[Backup], *, dry_run: bool) -> list[CopyResult]:
        """Imports what is not there.

        Raises:
            ConfigurationError, PluginError, StorageError, Cancelled: what was imported before stays.
        """
        ordered = sorted(backups, key=lambda each: (each.host, each.name, each.time, each.id))
        results: list[CopyResult] = []
        before: Backup | None = None
        tree: ImportedTree | None = None
        for number, backup in enumerate(ordered):
            if before is not None and (before.host, before.name) != (backup.host, backup.name):
                before = tree = None
            run = self.operation()
            run.start(backup=backup.id, name=backup.name, host=backup.host, dry_run=dry_run)
            if backup.id in self.present:
                last = number + 1 == len(ordered) or ordered[number + 1].id not in self.present
                result, tree = self._present(backup, before, run, check=last and self.verify and not dry_run)
            elif backup.id in self.forgotten or dry_run:
                outcome = CopyOutcome.FORGOTTEN if backup.id in self.forgotten else CopyOutcome.MISSING
                result, tree = CopyResult(backup=backup, outcome=outcome), None
            else:
                result, tree = self._import(backup, before, tree, run)
            if result.outcome in (CopyOutcome.COPIED, CopyOutcome.PRESENT):
                before = backup
            run.finish(size=result.read_bytes, added=result.added_bytes, backup=backup.id, outcome=str(result.outcome))
            results.append(result)
        return results

    def _present(
        self, backup: Backup, before: Backup | None, run: Operation, *, check: bool
    ) -> tuple[CopyResult, ImportedTree | None]:
        """The last one that is there may have come with a run that ended before it was read back."""
        result = CopyResult(backup=backup, outcome=CopyOutcome.PRESENT)
        if not check:
            return result, None
        try:
            with self.boundary.guard():
                tree_before = None if before is None else self._known(before, run.context)
                whole, tree = self._tree(backup, run.context, [])
                expected = tree.changed_since(tree_before)
                with Feed(whole, tree.sizes, key=tree.key, expected=expected, folder=self.staging) as feed:
                    feed.digest_expected()
                    compare(self.target, backup.id, tree, feed.digests, tick=run.context.cancel.check)
            return result, tree
        except (RepositoryError, SourceError) as error:
            return _failed(backup, error, run), None

    def _import(
        self, backup: Backup, before: Backup | None, tree_before: ImportedTree | None, run: Operation
    ) -> tuple[CopyResult, ImportedTree | None]:
        started, context = time.monotonic(), run.context
        try:
            with self.boundary.guard():
                if tree_before is None and before is not None:
                    tree_before = self._known(before, context)
                problems: list[Problem] = list(backup.problems)
                whole, tree = self._tree(backup, context, problems)
                expected = tree.changed_since(tree_before)
                with Feed(whole, tree.sizes, key=tree.key, expected=expected, folder=self.staging) as feed:
                    tree.feed(feed.open)
                    parent = None if tree_before is None or before is None else before.id
                    made = self.target.backup(self._protected(backup, tree), _options(backup, parent), context)
                    if self.verify:
                        compare(self.target, made.id, tree, feed.digests, tick=context.cancel.check)
        except (RepositoryError, SourceError) as error:  # what is wrong with one does not keep the others back
            return _failed(backup, error, run), None
        result = CopyResult(
            backup=made,
            outcome=CopyOutcome.COPIED,
            read_bytes=made.stats.read_bytes,
            added_bytes=made.stats.added_bytes,
            added_raw_bytes=made.stats.added_raw_bytes,
            duration=time.monotonic() - started,
        )
        return result, tree

    def _tree(self, backup: Backup, context: Context, problems: list[Problem]) -> tuple[WholeBackup, ImportedTree]:
        """The backup, and what it holds; problems that reading it tells are added to those that are known."""

        def told(problem: Problem) -> None:
            problems.append(problem)

        whole = self.source.whole(backup.id, context, problem=told)
        stamp = int(backup.time.timestamp()) & 0xFFFFFFFF
        return whole, ImportedTree(recorded_roots(backup.paths), whole.entries(), problems, stamp=stamp)

    def _known(self, backup: Backup, context: Context) -> ImportedTree | None:
        """The tree of the backup before, which an earlier run has imported."""
        try:
            return self._tree(backup, context, [])[1]
        except RepositoryError:
            return None

    def _protected(self, backup: Backup, tree: ImportedTree) -> Protected:
        imported = {
            "engine": backup.engine,
            "location": self.location,
            "level": backup.level,
            "chain": backup.chain,
            "program": backup.program,
        }
        return Protected(sources=[tree], facts={**backup.facts, "imported": imported}, excludes=backup.excludes)


def _options(backup: Backup, parent: str | None) -> BackupOptions:
    return BackupOptions(
        name=backup.name,
        host=backup.host,
        id=backup.id,
        time=backup.time,
        tags=backup.tags,
        excludes=backup.excludes,
        parent=parent,
        force_read=parent is None,
        username=backup.username,
        machine_id=backup.machine_id,
        mode=backup.mode,
        first_seen=backup.first_seen or backup.time,
    )


def _failed(backup: Backup, error: RepositoryError | SourceError, run: Operation) -> CopyResult:
    problem = Problem(path=f"backup {backup.short_id}", kind="damaged", message=error.message)
    run.context.events(Event(kind="problem", operation=run.name, path=problem.path, problem=problem))
    return CopyResult(backup=backup, outcome=CopyOutcome.FAILED, error=error)
