"""Provider ``reflink``: clones that share their blocks with the files that they were made of, on btrfs and XFS.

The clone of a file shows one moment, and costs neither time nor room; so it suits the image of a virtual machine, or
the one file of an embedded database. A folder is cloned file by file: each shows one moment, but not all the same.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from freezer_sdk.errors import CommandFailed, SnapshotError
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.snapshots.base import COMMON_OPTIONS, Probe, SnapshotProvider
from freezer_sdk.snapshots.label import Label, check_prefix
from freezer_sdk.snapshots.mounts import located, mount_of, mounts
from freezer_sdk.streams.command import find_program, run_command

KINDS = ("btrfs", "xfs")
STORE = ".freezer-reflink"
"""Where clones are made: at the top of each file system, readable for nobody else."""
_TIMEOUT = 3600.0


class ReflinkProvider(SnapshotProvider):
    """Clones of files and folders; only needs to be root where the top of the file system belongs to root.

    Args:
        label_prefix: what the names of clones begin with.

    Raises:
        ConfigurationError: names cannot begin like that.
    """

    name = "reflink"
    api_version = 1
    summary = "clones of files, or folders file by file, on btrfs and XFS"
    preference = None  # who asks for any snapshot expects one moment of everything, which a folder does not get
    options = COMMON_OPTIONS

    def __init__(self, *, label_prefix: str = "freezer") -> None:
        self._prefix = check_prefix(label_prefix)

    @classmethod
    def available(cls) -> str | None:
        """Needs the program ``cp`` of GNU."""
        return None if find_program("cp") else "the program 'cp' is missing: apt-get install coreutils"

    def probe(self, paths: Sequence[Path]) -> Probe:
        """See :meth:`SnapshotProvider.probe`."""
        try:
            stores = [_store_of(path) for path in paths]
        except SnapshotError as error:
            return Probe(possible=False, reason=error.message)
        for store in stores:
            if not os.access(store if store.exists() else store.parent, os.W_OK):
                return Probe(possible=False, reason=f"clones are made in {store}, where this user may not write")
        return Probe(possible=True, reason=f"clones in {', '.join(sorted(map(str, set(stores))))}")

    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
        """See :meth:`SnapshotProvider.create`."""
        stores = [_store_of(path) for path in paths]
        label = Label.new(self._prefix)
        folders = {store: store / str(label) for store in stores}
        views: dict[Path, Path] = {}
        try:
            taken_ns = time.time_ns()
            for folder in folders.values():
                _make(folder)
            for number, (path, store) in enumerate(zip(paths, stores, strict=True)):
                views[path] = folders[store] / str(number)
                _clone(path, views[path])
            yield _ReflinkGroup(views, label=label, taken_ns=taken_ns)
        finally:
            for folder in folders.values():
                _remove(folder)

    def reap(self) -> Sequence[str]:
        """See :meth:`SnapshotProvider.reap`; looks on all file systems that are mounted."""
        removed = []
        for store in {each.point / STORE for each in mounts() if each.kind in KINDS}:
            for folder in sorted(store.iterdir()) if store.is_dir() else []:
                label = Label.parse(folder.name, prefix=self._prefix)
                if label is not None and not label.alive():
                    _remove(folder)
                    removed.append(f"clones {folder}")
        return removed


class _ReflinkGroup(SnapshotGroup):
    """Views are the clones; they need room only for what changes, and whoever has none notices it, not they."""

    def __init__(self, views: Mapping[Path, Path], *, label: Label, taken_ns: int) -> None:
        self.views = dict(views)
        self.taken_ns = taken_ns
        one = len(views) == 1 and all(view.is_file() for view in views.values())
        self.facts = {"provider": "reflink", "name": str(label), "paths": sorted(map(str, views)), "atomic": one}

    def check(self) -> None:
        """Whether the clones are still there.

        Raises:
            SnapshotError: one is not.
        """
        for path, view in self.views.items():
            if not os.path.lexists(str(view)):
                raise SnapshotError(f"the clone of {path} has been removed while it was in use")


def _store_of(path: Path) -> Path:
    """The folder for clones on the file system of a path.

    Raises:
        SnapshotError: there can be none.
    """
    place = located(path)
    mount = mount_of(place)
    if mount.kind not in KINDS:
        raise SnapshotError(f"{path} lies on {mount.kind}, which cannot clone files")
    if "ro" in mount.options:
        raise SnapshotError(f"{path} lies on a file system that is mounted read-only")
    if place == mount.point:
        raise SnapshotError(f"{path} is the top of its file system, where the clones are made; name what lies below it")
    return mount.point / STORE


def _make(folder: Path) -> None:
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SnapshotError(f"cannot make {folder}: {error.strerror}") from error


def _clone(path: Path, view: Path) -> None:
    command = ["cp", "--archive", "--reflink=always", "--no-target-directory", "--", path, view]
    try:
        run_command(command, timeout=_TIMEOUT, package="coreutils")
    except CommandFailed as error:
        raise SnapshotError(f"cannot clone {path}: {error.message}", hint=error.hint) from error


def _remove(folder: Path) -> None:
    """Removes the clones of one label, and the store when it is the last."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise SnapshotError(f"cannot remove {folder}: {error.strerror}") from error
    try:
        folder.parent.rmdir()
    except OSError:  # others are in it, or it is gone
        return
