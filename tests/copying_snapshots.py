"""A snapshot provider for tests of what surrounds providers: it copies.

Folders that hold a file ``volume`` are its volumes. Providers of real volumes have tests of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import SnapshotError
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.options import Option
from freezer_sdk.snapshots.base import COMMON_OPTIONS, Probe, SnapshotProvider
from freezer_sdk.snapshots.label import Label, check_prefix


class Group(SnapshotGroup):
    def __init__(self, views: dict[Path, Path], folder: Path) -> None:
        self.views = views
        self.facts = {"folder": str(folder)}
        self._folder = folder

    def check(self) -> None:
        if (self._folder / "full").exists():
            raise SnapshotError("the snapshot is full")


class CopyingProvider(SnapshotProvider):
    """Args as the options say."""

    name: ClassVar[str] = "copying"
    api_version: ClassVar[int] = API_VERSION
    summary: ClassVar[str] = "copies in place of snapshots"
    preference: ClassVar[int | None] = 50
    options: ClassVar[tuple[Option, ...]] = (
        *COMMON_OPTIONS,
        Option(name="store", type="path", required=True, help="Where snapshots are made."),
        Option(name="key", secret=True, help="A secret."),
        Option(name="fault", default="", help="What goes wrong."),
    )

    def __init__(self, *, label_prefix: str, store: str, key: str | None, fault: str) -> None:
        self._prefix, self._store, self._key, self._fault = check_prefix(label_prefix), Path(store), key, fault

    def probe(self, paths: Sequence[Path]) -> Probe:
        if self._fault == "probe":
            raise RuntimeError(f"nobody knows {self._key}")
        for path in paths:
            if not path.exists():
                return Probe(possible=False, reason=f"there is no {path}")
            if not any((each / "volume").exists() for each in (path, *path.parents)):
                return Probe(possible=False, reason=f"{path} lies on no volume")
        return Probe(possible=True, reason="volumes of folders")

    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[Group]:
        if self._fault == "bug":
            raise RuntimeError(f"something odd with {self._key}")
        folder = self._store / str(Label.new(self._prefix))
        folder.mkdir()
        try:
            views = {}
            for number, path in enumerate(paths):
                views[path] = folder / str(number)
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, views[path], **({"symlinks": True} if path.is_dir() else {}))
        except OSError as error:
            shutil.rmtree(folder)
            raise SnapshotError(f"cannot copy: {error}") from error
        try:
            yield Group({} if self._fault == "no views" else views, folder)
        finally:
            if self._fault == "stays":
                raise SnapshotError("the snapshot cannot be removed")
            shutil.rmtree(folder)

    def reap(self) -> Sequence[str]:
        found = []
        for entry in sorted(os.listdir(self._store)):
            label = Label.parse(entry, prefix=self._prefix)
            if label is not None and not label.alive():
                shutil.rmtree(self._store / entry)
                found.append(entry)
        return found


class PickyProvider(CopyingProvider):
    """Can do nothing."""

    name: ClassVar[str] = "picky"
    preference: ClassVar[int | None] = 1
    options: ClassVar[tuple[Option, ...]] = COMMON_OPTIONS

    def __init__(self, *, label_prefix: str) -> None:
        super().__init__(label_prefix=label_prefix, store="/nowhere", key=None, fault="")

    def probe(self, paths: Sequence[Path]) -> Probe:
        return Probe(possible=False, reason="never")

    def reap(self) -> Sequence[str]:
        return []


class NamedProvider(CopyingProvider):
    """Costs something."""

    name: ClassVar[str] = "costly"
    preference: ClassVar[int | None] = None


class AbsentProvider(PickyProvider):
    """Cannot be used."""

    name: ClassVar[str] = "absent"

    @classmethod
    def available(cls) -> str | None:
        return "apt-get install absent"


def install(site: Path) -> None:
    """Makes an importable distribution of these providers."""
    info = site / "copying_snapshots-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: copying-snapshots\nVersion: 1\n")
    classes = {"copying": "Copying", "picky": "Picky", "costly": "Named", "absent": "Absent"}
    points = [f"{name} = copying_snapshots:{kind}Provider" for name, kind in classes.items()]
    (info / "entry_points.txt").write_text("\n".join(["[freezer_sdk.snapshots]", *points, ""]))
