"""Somebody who writes into a database while it is backed up, and what a snapshot of that moment must hold."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.snapshots.base import SnapshotProvider


class Writer(ABC):
    """Stores 1, 2, 3, ..., one after the other, for as long as the context lasts.

    Args:
        pause: seconds between two of them, where there is little to compute with.

    Attributes:
        acknowledged: the last number that the server said to be stored.
    """

    def __init__(self, *, pause: float = 0.0) -> None:
        self.acknowledged = 0
        self._pause = pause
        self.failure: Exception | None = None
        self._stop = threading.Event()
        self._some = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    @abstractmethod
    def store(self, number: int) -> None:
        """Returns once the server has acknowledged it."""

    @abstractmethod
    def close(self) -> None:
        """Leaves the server."""

    def _write(self) -> None:
        try:
            while not self._stop.wait(self._pause):
                self.store(self.acknowledged + 1)
                self.acknowledged += 1
                if self.acknowledged >= 20:
                    self._some.set()
        except Exception as error:
            self.failure = error
            self._some.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._some.wait(300)
        assert self.failure is None, self.failure
        return self

    def goes_on(self) -> bool:
        """Whether something is stored after now; waits for it."""
        seen = self.acknowledged
        for _ in range(1200):
            if self.acknowledged > seen + 1:
                return True
            self._stop.wait(0.05)
        return False

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)
        self.close()


@dataclass
class Moment:
    """The last numbers acknowledged before the latest snapshot was begun, and after it was done."""

    before: int = 0
    after: int = 0


def watch(monkeypatch: pytest.MonkeyPatch, provider: type[SnapshotProvider], writer: Writer) -> Moment:
    """Notes when the provider makes its next snapshot; it is still the real one."""
    moment, create = Moment(), provider.create

    @contextlib.contextmanager
    def watched(self: Any, paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
        moment.before = writer.acknowledged
        with create(self, paths) as group:
            moment.after = writer.acknowledged
            yield group

    monkeypatch.setattr(provider, "create", watched)
    return moment


@contextlib.contextmanager
def reachable(folder: Path) -> Iterator[Path]:
    """Another name of a folder, which every user can get to, unlike those of tests; only root can make one."""
    with open_folder() as place:
        point = place / "mounted"
        point.mkdir()
        subprocess.run(["mount", "--bind", folder, point], check=True)
        try:
            yield point
        finally:
            subprocess.run(["umount", point], check=True)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """An empty folder that every user can get to, unlike those of pytest."""
    place = Path(tempfile.mkdtemp(prefix="freezer-tests-", dir="/var/tmp"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        if not any(os.path.ismount(each) for each in place.iterdir()):
            shutil.rmtree(place, ignore_errors=True)


def commands(page: Path, heading: str, kind: str) -> list[str]:
    """The blocks of code of one language below a heading of a page of the documentation."""
    text = page.read_text()
    assert f"\n{heading}\n" in text, heading
    level = heading.split(" ", 1)[0]
    section = text.split(f"\n{heading}\n", 1)[1]
    for mark in ("#" * count for count in range(2, len(level) + 1)):
        section = section.split(f"\n{mark} ", 1)[0]
    blocks = [block.split("```", 1)[0] for block in section.split(f"```{kind}\n")[1:]]
    assert blocks, f"{heading} has no block of {kind}"
    return blocks
