"""The conformance suite of modes: it passes what is right, and finds what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import RestoreResult
from freezer_sdk.modes.base import Mode, Protected, Restorer, SnapshotMaker
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.testing import ModeSuite
from freezer_sdk.testing.suite import run


class FilesSuite(ModeSuite):
    mode = FilesystemMode

    def use(self, folder: Path) -> None:
        self._data = folder / "data"
        self._data.mkdir()
        (self._data / "file").write_text("one")
        self.options = {"paths": [str(self._data)], "command": "said", "command_arguments": ["echo", "hello"]}

    def change(self) -> None:
        (self._data / "file").write_text("two")

    def content(self) -> object:
        return (self._data / "file").read_text(), "hello\n"

    def restored(self, target: str) -> object:
        (file,) = Path(target).rglob("file")
        return file.read_text(), Path(target, "said").read_text()

    def check_resumed(self) -> None:
        assert not (self._data / "lock").exists()


class TestFilesystem(FilesSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.use(tmp_path)


class Toy(FilesystemMode):
    """Locks while a snapshot is made, as databases are."""

    fault = ""

    @contextmanager
    def protect(self, *, snapshots: SnapshotMaker | None = None) -> Iterator[Protected]:
        root = Path(os.fsdecode(self._paths[0]))
        if snapshots is None or self.fault == "ignores":
            yield Protected(
                sources=[LocalTree([os.fsencode(root)])], facts={"toy": ()} if self.fault == "tuple" else {}
            )
            return
        (root / "lock").touch()
        if self.fault != "locked":
            (root / "lock").unlink()
        with snapshots([root]) as group:
            confirm = None if self.fault == "trusts" else lambda: group.check() or {}
            shadow = {os.fsencode(root): os.fsencode(str(group.views[root]))}
            tree = LocalTree([os.fsencode(root)], snapshot=group)
            if self.fault == "timeless":
                tree = LocalTree([os.fsencode(root)], shadow=shadow)
            facts = {} if self.fault == "mute" else {"snapshot": group.facts}
            yield Protected(sources=[tree], facts=facts, confirm=confirm)

    def restore(self, restorer: Restorer, target: str) -> RestoreResult:
        if self.fault == "writes":
            os.mkdir(target)
        return restorer.files(target)


class ToySuite(FilesSuite):
    def content(self) -> object:
        return (self._data / "file").read_text()

    def restored(self, target: str) -> object:
        return Path(target, "file").read_text()


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("ignores", "reads_from_snapshots"),
        ("locked", "the_application_goes_on_while_snapshots_are_read"),
        ("locked", "a_snapshot_that_cannot_be_made_locks_nobody_out"),
        ("trusts", "a_spoilt_snapshot_is_never_committed"),
        ("timeless", "the_application_goes_on_while_snapshots_are_read"),
        ("mute", "the_application_goes_on_while_snapshots_are_read"),
        ("tuple", "facts_can_be_recorded"),
        ("writes", "what_was_protected_comes_back"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, fault: str, test: str) -> None:
    suite = ToySuite()
    suite.use(tmp_path)
    suite.options = {"paths": suite.options["paths"]}
    suite.mode = Toy  # type: ignore[misc]
    assert all(each.outcome == "passed" for each in run(suite, only=f"test_{test}")), "without a fault it passes"
    (tmp_path / "data/file").write_text("one")
    suite.mode = type("Faulty", (Toy,), {"fault": fault})  # type: ignore[misc]
    (result,) = run(suite, only=f"test_{test}")
    assert result.outcome == "failed"
    assert isinstance(suite.mode, type(Mode))
