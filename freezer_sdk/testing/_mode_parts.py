"""What the mode suite needs beside modes: a repository in memory, and snapshots that are watched."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import Context, Repository
from freezer_sdk.errors import SnapshotError
from freezer_sdk.model import Backup, BackupOptions, Problem, RestoreOptions, RestoreResult
from freezer_sdk.modes.base import Enter, Mode, Protected, SnapshotGroup, Source, Stream
from freezer_sdk.operation import BackupRestorer
from freezer_sdk.plugins import ENGINE, STORAGE, PluginRegistry
from freezer_sdk.snapshots.base import SnapshotProvider

_PIECE = 1 << 20


class MemoryRepository:
    """Backups of one mode, in memory."""

    def __init__(self) -> None:
        registry = PluginRegistry()
        storage = registry.build(STORAGE, "memory")
        engine = registry.build(ENGINE, "dedup")
        self._repository: Repository = engine.create(storage, password=lambda: None, encryption=False)

    def store(self, mode: Mode, protected: Protected) -> Backup:
        """Stores what a mode hands over."""
        options = BackupOptions(name="suite", host="suite", mode=mode.name, excludes=tuple(protected.excludes))
        return self._repository.backup(protected, options, Context())

    def backups(self) -> Sequence[Backup]:
        """What was committed."""
        return list(self._repository.backups())

    def restore(self, mode: Mode, backup: Backup, target: str, *, dry_run: bool = False) -> RestoreResult:
        """Has a mode bring a backup back."""
        boundary = Boundary({type(mode).__module__: f"mode {mode.name!r}"})
        options = RestoreOptions(dry_run=dry_run)
        return mode.restore(BackupRestorer(self._repository, backup, options, Context(), boundary), target)

    def close(self) -> None:
        """Forgets everything."""
        self._repository.close()


class WatchedGroup(SnapshotGroup):
    """A group of snapshots that can be spoilt."""

    def __init__(self, group: SnapshotGroup | None, views: Mapping[Path, Path | Stream], *, taken_ns: int) -> None:
        self._group = group
        self.views, self.taken_ns = views, taken_ns
        self.facts = {"provider": "suite"}
        self.missing = () if group is None else group.missing
        self.full = False

    def check(self) -> None:
        """As a snapshot without room would say it.

        Raises:
            SnapshotError: it was filled.
        """
        if self._group is not None:
            self._group.check()
        if self.full:
            raise SnapshotError("the snapshot is full")


class WatchedMaker:
    """A SnapshotMaker that tells what became of its snapshots; by default they are copies.

    Args:
        provider: makes the snapshots.
        fails: entering the context raises SnapshotError.

    Attributes:
        asked: what snapshots were made of.
        groups: all that were made.
        open: how many are still there.
    """

    def __init__(self, provider: SnapshotProvider | None, *, fails: bool = False) -> None:
        self._provider = provider
        self._fails = fails
        self.asked: list[Path] = []
        self.groups: list[WatchedGroup] = []
        self.open = 0

    @contextmanager
    def __call__(self, paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
        """Makes them."""
        self.asked += paths
        if self._fails:
            raise SnapshotError("there is no room for a snapshot")
        with self._made(paths) as group:
            self.groups.append(group)
            self.open += 1
            try:
                yield group
            finally:
                self.open -= 1

    @contextmanager
    def _made(self, paths: Sequence[Path]) -> Iterator[WatchedGroup]:
        taken_ns = time.time_ns()
        if self._provider is not None:
            with self._provider.create(paths) as group:
                yield WatchedGroup(group, group.views, taken_ns=taken_ns)
            return
        with tempfile.TemporaryDirectory(prefix="freezer-suite-") as folder:
            views = {path: Path(folder, str(number)) for number, path in enumerate(paths)}
            for path, view in views.items():
                if path.is_dir():
                    shutil.copytree(path, view, symlinks=True)
                else:
                    shutil.copy2(path, view)
            yield WatchedGroup(None, views, taken_ns=taken_ns)


def read_source(source: Source) -> tuple[int, list[Problem]]:
    """Reads a source to its end: how many entries a tree has or bytes a stream, and what could not be read."""
    problems: list[Problem] = []
    if not isinstance(source, Stream):
        steps = source.walk(problems.append)
        return sum(len(step.directory.names) for step in steps if isinstance(step, Enter)), problems
    count, buffer = 0, memoryview(bytearray(_PIECE))
    with source.open() as reader:
        while got := reader.readinto(buffer):
            count += got
    return count, problems
