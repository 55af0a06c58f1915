"""The conformance suite of snapshot providers: it passes what is right, and finds what is wrong."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from copying_snapshots import CopyingProvider, Group

from freezer_sdk.snapshots.base import Probe
from freezer_sdk.testing import SnapshotSuite
from freezer_sdk.testing.suite import run


class CopyingSuite(SnapshotSuite):
    provider = CopyingProvider
    copies = True

    def use(self, folder: Path) -> None:
        self._folder = folder
        (folder / "store").mkdir()
        self.options = {"store": str(folder / "store"), "key": None, "fault": ""}

    def make_volume(self) -> Path:
        path = self._folder / secrets.token_hex(4)
        path.mkdir()
        (path / "volume").touch()
        return path

    def leftovers(self, prefix: str) -> list[str]:
        return [name for name in os.listdir(self._folder / "store") if name.startswith(f"{prefix}-")]


class TestCopying(CopyingSuite):
    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path: Path) -> None:
        self.use(tmp_path)


class Live(CopyingProvider):
    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[Group]:
        with super().create(paths) as group:
            group.views = {path: path for path in paths}
            yield group


class Partial(CopyingProvider):
    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[Group]:
        with super().create(paths) as group:
            del group.views[paths[-1]]
            yield group


class Forgetful(CopyingProvider):
    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[Group]:
        with super().create(paths) as group:
            Path(group.facts["folder"] + "-1").mkdir()
            yield group


class Careless(CopyingProvider):
    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[Group]:
        folder = Path(self._store) / f"{self._prefix}-1-1-0123456789ab"
        folder.mkdir()
        yield Group(dict.fromkeys(paths, folder), folder)
        folder.rmdir()


class Ruthless(CopyingProvider):
    def reap(self) -> Sequence[str]:
        found = [name for name in os.listdir(self._store) if name.startswith(f"{self._prefix}-")]
        for name in found:
            shutil.rmtree(self._store / name)
        return found


class Lazy(CopyingProvider):
    def reap(self) -> Sequence[str]:
        return []


class Boastful(CopyingProvider):
    def probe(self, paths: Sequence[Path]) -> Probe:
        return Probe(possible=True, reason="why not")


@pytest.mark.parametrize(
    ("provider", "test"),
    [
        (Live, "views_show_one_moment"),
        (Live, "writing_into_a_view_does_not_reach_the_volume"),
        (Partial, "every_path_has_its_view"),
        (Forgetful, "what_is_made_bears_the_label_and_is_removed"),
        (Careless, "it_is_removed_after_an_error"),
        (Careless, "it_is_removed_after_an_interruption"),
        (Ruthless, "reap_removes_what_a_killed_run_left"),
        (Lazy, "reap_removes_what_a_killed_run_left"),
        (Boastful, "probe_tells_and_changes_nothing"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, provider: type[CopyingProvider], test: str) -> None:
    suite = CopyingSuite()
    suite.use(tmp_path)
    suite.provider = provider  # type: ignore[misc]
    results = {each.name: each.outcome for each in run(suite, only=f"test_{test}")}
    assert results == {test: "failed"}


def test_copies_are_told_from_snapshots(tmp_path: Path) -> None:
    suite = CopyingSuite()
    suite.use(tmp_path)
    suite.copies = False
    (result,) = run(suite, only="test_views_keep_what_is_known_of_files")
    assert "inode" in result.message
