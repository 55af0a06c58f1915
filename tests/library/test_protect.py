"""Modes by themselves, and backups that come back as plain files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import copying_snapshots
import pytest

import freezer_sdk
from freezer_sdk import ConfigurationError, Freezer, FreezerGroup, PluginError, PluginNotFound, SnapshotError
from freezer_sdk.modes.base import SERVER, Enter, Stream, Tree

MODE = """
import io
from contextlib import contextmanager

from freezer_sdk.errors import SourceError
from freezer_sdk.modes.base import Mode, Protected, Stream
from freezer_sdk.options import Option


class FragileMode(Mode):
    name = "fragile"
    api_version = 1
    summary = "one stream"
    options = (Option(name="key", help="a key", secret=True), Option(name="fault", help="what goes wrong"))

    def __init__(self, *, key, fault):
        self._key, self._fault = key, fault

    @contextmanager
    def protect(self, *, snapshots=None):
        if self._fault == "entering":
            raise RuntimeError(f"no way in with {self._key}")
        yield Protected(sources=[Stream(name="dump", open=opened)], confirm=self._confirm)
        if self._fault == "leaving":
            raise RuntimeError(f"no way out with {self._key}")

    def _confirm(self):
        if self._fault == "confirming":
            raise SourceError("it was not consistent")
        return {}

    def restore(self, restorer, target):
        raise RuntimeError("only plain files come back")

    def default_name(self):
        return "fragile"


@contextmanager
def opened():
    yield io.BytesIO(b"dumped")
"""


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    copying_snapshots.install(site)
    (site / "fragile_mode.py").write_text(MODE)
    points = site / "copying_snapshots-1.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "[freezer_sdk.modes]\nfragile = fragile_mode:FragileMode\n")
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "volume").touch()
    (folder / "file").write_text("one")
    return folder


def test_a_mode_hands_over_its_sources(data: Path) -> None:
    options = {"command": "said", "command_arguments": ["echo", "hello"]}
    with freezer_sdk.protect("fs", data, mode_options=options, excludes=["volume"]) as protected:
        tree, stream = protected.sources
        assert isinstance(tree, Tree)
        names = [step.directory.names for step in tree.walk(lambda problem: None) if isinstance(step, Enter)]
        assert names == [[os.fsencode(data)], [b"file"]]
        assert isinstance(stream, Stream)
        buffer = bytearray(10)
        with stream.open() as reader:
            assert buffer[: reader.readinto(memoryview(buffer))] == b"hello\n"
    assert protected.excludes == ("volume",)


def test_a_mode_reads_from_a_snapshot(data: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with freezer_sdk.protect("fs", data, snapshot="auto", snapshot_options={"store": tmp_path / "store"}) as protected:
        (data / "later").touch()
        (tree,) = protected.sources
        assert isinstance(tree, Tree)
        names = [step.directory.names for step in tree.walk(lambda problem: None) if isinstance(step, Enter)]
        assert names[1] == [b"file", b"volume"]
        assert tree.roots == (os.fsencode(data),)
        assert protected.facts["snapshot"]["provider"] == "copying"
    assert os.listdir(tmp_path / "store") == []


def test_a_spoilt_snapshot_is_told_on_leaving(data: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    options = {"store": tmp_path / "store"}
    with (
        pytest.raises(SnapshotError, match="full"),
        freezer_sdk.protect("fs", data, snapshot="copying", snapshot_options=options) as protected,
    ):
        Path(protected.facts["snapshot"]["folder"], "full").touch()
    assert os.listdir(tmp_path / "store") == []


@pytest.mark.parametrize("fault", ["entering", "leaving"])
def test_a_faulty_mode_is_named_and_tells_no_secret(fault: str) -> None:
    options = {"key": "canary", "fault": fault}
    wrapped = pytest.raises(PluginError, match="mode 'fragile'")
    with wrapped as caught, freezer_sdk.protect("fragile", mode_options=options):
        pass
    assert "canary" not in str(caught.value)


def test_data_that_were_not_consistent_are_told_on_leaving() -> None:
    inconsistent = pytest.raises(freezer_sdk.SourceError, match="not consistent")
    with inconsistent, freezer_sdk.protect("fragile", mode_options={"fault": "confirming"}):
        pass


def test_what_the_program_raises_comes_through() -> None:
    with pytest.raises(KeyError), freezer_sdk.protect("fragile", mode_options={"fault": "confirming"}):
        raise KeyError


def test_wrong_requests(data: Path) -> None:
    for error, request in (
        (PluginNotFound, {"mode": "nope"}),
        (ConfigurationError, {"mode": "fragile", "paths": data}),
        (ConfigurationError, {"mode": "fragile", "snapshot": "auto"}),
        (ConfigurationError, {"mode": "fs", "paths": data, "snapshot_options": {"store": "/nowhere"}}),
    ):
        with pytest.raises(error), freezer_sdk.protect(**request):
            pass


# -- plain files -------------------------------------------------------------------------------------------


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    with Freezer(f"local:{tmp_path / 'repository'}", create=True, encryption=False) as opened:
        opened.backup(mode="fragile")
        yield opened


def test_the_backup_of_any_mode_comes_back_as_plain_files(freezer: Freezer, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="mode 'fragile'"):
        freezer.restore("latest", tmp_path / "out")
    freezer.restore("latest", tmp_path / "out", mode="fs")
    assert (tmp_path / "out" / "dump").read_text() == "dumped"


def test_also_where_the_mode_is_not_installed(
    freezer: Freezer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path / "site")])
    with pytest.raises(PluginNotFound):
        freezer.restore("latest", tmp_path / "out")
    freezer.restore("latest", tmp_path / "out", mode="fs")
    assert (tmp_path / "out" / "dump").read_text() == "dumped"


def test_also_from_a_group(freezer: Freezer, tmp_path: Path) -> None:
    with FreezerGroup([freezer]) as group:
        group.restore("latest", tmp_path / "out", mode="fs")
    assert (tmp_path / "out" / "dump").read_text() == "dumped"


def test_plain_files_go_into_folders(freezer: Freezer) -> None:
    with pytest.raises(ConfigurationError, match="not into servers"):
        freezer.restore("latest", SERVER, mode="fs")


def test_options_of_another_mode(freezer: Freezer, tmp_path: Path) -> None:
    options: dict[str, Any] = {"key": "canary"}
    with pytest.raises(ConfigurationError, match="unknown option 'key'") as caught:
        freezer.restore("latest", tmp_path / "out", mode="fs", mode_options=options)
    assert "canary" not in str(caught.value)
