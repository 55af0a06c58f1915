"""One drill: restore, check, measure, and leave nothing behind."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from freezer_sdk.drill_model import MAX_FACTS, MAX_MESSAGE, Drill, Verifier
from freezer_sdk.drills.compare import Compared, Comparison
from freezer_sdk.drills.scratch import scratch_folder
from freezer_sdk.errors import Cancelled, ConfigurationError, FreezerError, RestoreError
from freezer_sdk.importing.feed import Feed
from freezer_sdk.model import JSON, Backup, Entry, EntryType, Event, Layout, Problem, RestoreResult
from freezer_sdk.operation import Operation
from freezer_sdk.options import secret_values
from freezer_sdk.subject import build_mode

if TYPE_CHECKING:
    from freezer_sdk.client import Freezer

_PLAIN: Final = "fs"
_SPARE: Final = 64 << 20  # bytes of the scratch space beyond the data
_INCOMPLETE: Final = "incomplete"


class DrillRun:
    """One drill of one backup.

    Args:
        verifier: what checks the restored data.
        queries, mode_options: for the application.
        place: parent of the scratch folder.
        operation: hears of problems, and its cancellation ends the drill.
    """

    def __init__(
        self,
        freezer: Freezer,
        backup: Backup,
        *,
        verifier: Verifier,
        queries: tuple[str, ...],
        mode_options: Mapping[str, Any] | None,
        place: str | None,
        operation: Operation,
    ) -> None:
        self._freezer, self._backup, self._verifier = freezer, backup, verifier
        self._queries, self._mode_options = queries, mode_options
        self._place, self._operation, self._context = place, operation, operation.context

    def run(self, drill: Drill) -> Drill:
        """What became of it; what is wrong with the backup is part of that.

        Args:
            drill: what is known before.

        Raises:
            ConfigurationError, Cancelled: it says nothing about the backup.
        """
        plain = self._verifier is Verifier.FILES
        try:
            paths, size = self._sample(drill.sample)
            with scratch_folder(self._place, needed=size + _SPARE, private=plain) as folder:
                begun = time.monotonic()
                result = self._restore(folder, paths)
                drill = replace(
                    drill, files=result.files, bytes=result.bytes, restore_seconds=round(time.monotonic() - begun, 3)
                )
                self._refuse_incomplete(result)
                begun = time.monotonic()
                drill = replace(drill, verifier=self._verifier)
                if plain:
                    compared = self._compare(folder, paths)
                    facts: JSON = {"entries": compared.entries, _INCOMPLETE: compared.incomplete}
                    drill = replace(drill, compared_bytes=compared.bytes)
                else:
                    facts = self._ask(folder)
                seconds = round(time.monotonic() - begun, 3)
            return replace(drill, passed=True, facts=_bounded(facts), verify_seconds=seconds)
        except (ConfigurationError, Cancelled):
            raise
        except FreezerError as error:
            problem = Problem(path=f"backup {self._backup.short_id}", kind="drill", message=error.message)
            self._context.events(Event(kind="problem", operation="drill", path=problem.path, problem=problem))
            return replace(drill, error=error.message[:MAX_MESSAGE], error_code=error.code)

    def _sample(self, share: float) -> tuple[frozenset[bytes] | None, int]:
        """Paths of the files that are restored, one at least, and how many bytes they have; ``None``: all."""
        if share == 1:
            return None, self._backup.stats.bytes
        dice = random.SystemRandom()
        chosen: list[bytes] = []
        size, first = 0, None
        for entry in self._entries():
            if entry.type is EntryType.FILE:
                first = first or entry
                if dice.random() < share:
                    chosen.append(entry.path)
                    size += entry.size
        if not chosen:
            if first is None:
                raise ConfigurationError(f"backup {self._backup.short_id} has no files to take a sample of")
            chosen, size = [first.path], first.size
        return frozenset(chosen), size

    def _restore(self, folder: Path, paths: frozenset[bytes] | None) -> RestoreResult:
        """Restores plain files under their full names; for an application as its mode does it."""
        restore = partial(
            self._freezer.restore, self._backup.id, folder, events=self._context.events, cancel=self._context.cancel
        )
        if self._verifier is Verifier.APPLICATION:
            return restore(mode_options=self._mode_options)
        return restore(mode=_PLAIN, layout=Layout.FULL, numeric_owner=True, paths=sorted(paths or ()))

    def _refuse_incomplete(self, result: RestoreResult) -> None:
        """What was not whole when it was backed up cannot come back whole; anything else must.

        Raises:
            RestoreError.
        """
        known = {problem.path for problem in self._backup.problems if problem.fatal}
        lost = [each for each in result.problems if each.fatal and each.kind != _INCOMPLETE and each.path not in known]
        if lost:
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            raise RestoreError(f"{lost[0].path}: {lost[0].message}{more}")

    def _compare(self, folder: Path, paths: frozenset[bytes] | None) -> Compared:
        """Compares the restored files with a second reading of the backup."""
        tick = self._context.cancel.check
        compare = partial(Comparison, os.fsencode(folder), owner=getattr(os, "geteuid", lambda: 1)() == 0, tick=tick)
        if not self._freezer.capabilities.whole:
            return compare(content=partial(self._freezer.open, self._backup.id)).run(self._entries(), paths)
        digests = self._digests(folder.parent, paths)
        return compare(digests=digests).run(self._entries(), paths)

    def _digests(self, scratch: Path, paths: frozenset[bytes] | None) -> Mapping[bytes, bytes]:
        """Of engines whose backups are read from one end to the other, all contents in one reading."""
        keys: dict[bytes, bytes] = {}  # names of one file have one content
        sizes: dict[bytes, int] = {}
        for entry in self._entries():
            if entry.type is EntryType.FILE and entry.size and (paths is None or entry.path in paths):
                keys[entry.path] = key = entry.link_group or entry.path
                sizes[key] = entry.size
        repository, problems = self._freezer._opened(), list[Problem]()
        with self._freezer._boundary.guard():
            source = repository.whole(self._backup.id, self._context, problem=problems.append)
            with Feed(
                source,
                sizes,
                key=lambda path: keys.get(path, path),
                expected=sizes.__contains__,
                folder=os.fspath(scratch),
            ) as feed:
                feed.digest_expected()
                return {path: feed.digests[key] for path, key in keys.items() if key in feed.digests}

    def _ask(self, folder: Path) -> JSON:
        """Has the application check what was restored."""
        backup, freezer = self._backup, self._freezer
        mode = build_mode(freezer._place.registry, backup.mode, (), (), self._mode_options)
        secrets = secret_values(mode.options, self._mode_options or {})
        around = freezer._boundary.around(f"mode {backup.mode!r}", type(mode).__module__, secrets=secrets)
        with around.guard():
            return mode.verify_restored(os.fspath(folder), facts=backup.facts, queries=self._queries)

    def _entries(self) -> Iterator[Entry]:
        return self._freezer.entries(self._backup.id)


def _bounded(facts: JSON) -> JSON:
    """Facts as a record can hold them: JSON, and not too much of it."""
    text = json.dumps(dict(facts), default=str)
    if len(text) <= MAX_FACTS:
        found: JSON = json.loads(text)
        return found
    kept = {name: value for name, value in json.loads(text).items() if len(json.dumps(value)) <= MAX_FACTS // 16}
    return {**dict(list(kept.items())[:15]), "left_out": True}
