"""The mode fs hands over trees and streams."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from freezer_sdk.errors import CommandFailed, ConfigurationError
from freezer_sdk.files import posix
from freezer_sdk.modes.base import Enter, Stream, Tree
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.options import validate


def make(**values: object) -> FilesystemMode:
    return FilesystemMode(**validate(FilesystemMode.options, values, owner="mode 'fs'"))


def recorded(mode: FilesystemMode) -> set[bytes]:
    """Every recorded path."""
    found: set[bytes] = set()
    with mode.protect() as protected:
        for source in protected.sources:
            assert isinstance(source, Tree)
            for event in source.walk(lambda problem: pytest.fail(problem.message)):
                if isinstance(event, Enter):
                    path = event.directory.path
                    found |= {os.path.join(path, name) for name in event.directory.names}
    return found


def content(stream: Stream) -> bytes:
    buffer = memoryview(bytearray(1000))
    with stream.open() as reader:
        read = b""
        while count := reader.readinto(buffer):
            read += buffer[:count]
    return read


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    for name in ("keep.txt", "drop.tmp", "cache/thing", "cache/CACHEDIR.TAG", "sub/drop.tmp"):
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    return home


def below(home: Path, *names: str) -> set[bytes]:
    return {os.fsencode(home / name) if name else os.fsencode(home) for name in names}


def test_everything_below_the_paths(home: Path) -> None:
    found = recorded(make(paths=[home], sync=False))
    files = ("keep.txt", "drop.tmp", "cache", "cache/thing", "cache/CACHEDIR.TAG", "sub", "sub/drop.tmp")
    assert found == below(home, "", *files)


def test_excludes_come_from_options_and_files_and_are_recorded(home: Path, tmp_path: Path) -> None:
    patterns = tmp_path / "patterns"
    patterns.write_text("# temporary files\n\n*.tmp  \n")
    mode = make(paths=[str(home)], excludes=["/cache/"], exclude_from=[str(patterns)], sync=False)
    with mode.protect() as protected:
        assert protected.excludes == ("/cache/", "*.tmp")
    assert recorded(mode) == below(home, "", "keep.txt", "sub")


def test_an_exclude_file_that_is_not_there(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="exclude file"), make(paths=[home], exclude_from=["/nope"]).protect():
        pass


def test_tagged_caches_are_left_out_but_for_their_tag(home: Path) -> None:
    found = recorded(make(paths=[home], exclude_caches=True, sync=False))
    assert os.fsencode(home / "cache/CACHEDIR.TAG") in found
    assert os.fsencode(home / "cache/thing") not in found


def test_a_relative_path_starts_at_the_working_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert recorded(make(paths=["sub"], sync=False)) == below(home, "sub", "sub/drop.tmp")


def test_a_trailing_slash_follows_a_link(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home / "sub")
    assert recorded(make(paths=[f"{tmp_path}/link/"], sync=False)) == below(home, "sub", "sub/drop.tmp")


def test_dots_behind_a_link_mean_what_the_system_says(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home / "sub")
    assert below(home, "keep.txt") <= recorded(make(paths=[f"{tmp_path}/link/../keep.txt"], sync=False))


def test_the_output_of_a_program() -> None:
    mode = make(command="dump.sql", command_arguments=["echo", "$HOME; data"])
    assert mode.default_name() == "dump.sql"
    with mode.protect() as protected:
        (stream,) = protected.sources
        assert isinstance(stream, Stream)
        assert (stream.name, content(stream)) == ("dump.sql", b"$HOME; data\n")


def test_a_failing_program_fails_its_stream() -> None:
    with make(command="dump", command_arguments=["false"]).protect() as protected:
        (stream,) = protected.sources
        assert isinstance(stream, Stream)
        with pytest.raises(CommandFailed):
            content(stream)


def test_standard_input(tmp_path: Path) -> None:
    code = (
        "import sys; from freezer_sdk.modes.fs import FilesystemMode as Mode\n"
        "with Mode(stdin='piped').protect() as protected:\n"
        "    with protected.sources[0].open() as reader:\n"
        "        buffer = memoryview(bytearray(100)); count = reader.readinto(buffer)\n"
        "        print(protected.sources[0].name, bytes(buffer[:count]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"from a pipe", capture_output=True, check=True)
    assert done.stdout == b"piped b'from a pipe'\n"


@pytest.mark.parametrize(
    "values",
    [
        {"command": "name"},
        {"command_arguments": ["true"]},
        {"stdin": "a/b"},
        {"stdin": ".."},
        {"stdin": "x", "command": "x", "command_arguments": ["true"]},
        {"follow": "sometimes"},
    ],
)
def test_options_that_make_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        make(**values)


def test_nothing_to_back_up() -> None:
    with pytest.raises(ConfigurationError, match="nothing to back up"), make().protect():
        pass


def test_the_system_is_asked_to_write_first_unless_told_not_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[bytes]] = []
    monkeypatch.setattr(posix, "sync", lambda paths, patience: asked.append(list(paths)))
    for values in ({}, {"sync": False}):
        with make(paths=[home, home / "sub"], **values).protect():
            pass
    assert asked == [[os.fsencode(home), os.fsencode(home / "sub")]]


def test_a_sync_is_waited_for_but_not_for_ever(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [os.fsencode(home / "keep.txt"), b"/nowhere/at/all", os.fsencode(home)]
    assert posix.sync(paths, patience=60)
    release = threading.Event()
    monkeypatch.setattr(posix, "_sync_file_systems", lambda paths: release.wait(60))
    assert not posix.sync(paths, patience=0.05)
    release.set()
