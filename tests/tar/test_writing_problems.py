"""What the engine tar says of entries that it cannot store as they are, and of runs that end early."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
import trees
from files.helpers import as_nobody, everybodys_directory
from tar.chain import difference, disk
from tar.writer import Writer, names

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.tar.codec import TarCodec
from freezer_sdk.errors import (
    Cancelled,
    CommandFailed,
    ConfigurationError,
    IntegrityError,
    PluginUnavailable,
    SourceUnreadable,
)
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import Buffer, Problem
from freezer_sdk.modes.base import Protected, Stream, Tree
from freezer_sdk.streams.cancel import CancelToken

pytestmark = pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
TICK = 0.05  # longer than what the engine takes for the coarseness of a file's times


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


# -- what cannot be read -------------------------------------------------------------------------------------


@pytest.mark.skipif(not trees.is_root(), reason="needs two users")
def test_what_could_not_be_read_is_stored_as_soon_as_it_can_be(tmp_path: Path) -> None:
    with everybodys_directory() as path:
        (path / "open").write_text("open")
        (path / "secret").write_text("secret")
        (path / "vault").mkdir()
        (path / "vault" / "gold").write_text("gold")
        (path / "secret").chmod(0o600)
        (path / "vault").chmod(0o700)
        time.sleep(TICK)

        def run() -> Writer:
            writer = Writer(path)
            writer.backup()
            writer.backup()
            return writer

        writer = as_nobody(lambda: run().__dict__)
        mine = Writer(path)
        mine.__dict__.update(writer)
        assert mine.said(0) == [("unreadable", "secret", True), ("unreadable", "vault", True)]
        assert mine.said(1) == mine.said(0)
        assert names(mine.restored(tmp_path / "without")) == {"open"}
        mine.backup()  # nothing has changed but who reads
        assert mine.problems[2] == []
        assert difference(mine.restored(tmp_path / "with"), disk(path, fine=True)) == {}
        assert difference(mine.read(), disk(path, fine=True)) == {}


def test_sockets_are_left_out_with_a_note(source: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(source / "socket"))
        (source / "file").write_text("x")
        writer = Writer(source)
        writer.backup()
    assert writer.said() == [("socket", "socket", False)]
    assert writer.written[0].stats.files == 1


def test_a_root_that_cannot_be_read_is_an_error(tmp_path: Path, source: Path) -> None:
    with pytest.raises(SourceUnreadable, match="nowhere"):
        Writer(tmp_path / "nowhere").backup()
    with everybodys_directory() as path:
        (path / "locked").mkdir(mode=0)
        (path / "file").write_text("x")
        (path / "file").chmod(0)

        def attempt() -> list[str]:
            errors = []
            for name in ("locked", "file"):
                try:
                    Writer(path / name).backup()
                except SourceUnreadable as error:
                    errors.append(error.message)
            return errors

        locked, file = as_nobody(attempt)
        assert "locked" in locked
        assert "file" in file


class Paused:
    """Takes a stream, and lets something happen after its first bytes."""

    def __init__(self, then: object) -> None:
        self.then = then
        self.stream = bytearray()

    def __call__(self, data: Buffer) -> None:
        if not self.stream and callable(self.then):
            self.then()
        self.stream += data


def run_with(source: Path, output: object, **options: object) -> tuple[list[Problem], TarCodec]:
    problems: list[Problem] = []
    codec = TarCodec()
    protected = Protected(sources=[LocalTree([os.fsencode(source)])])
    codec.write(protected, level=0, base=None, output=output, context=Context(), problem=problems.append)
    return problems, codec


def big(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.write(os.urandom(1 << 20) * (size >> 20))


def test_files_that_change_meanwhile_are_told(source: Path) -> None:
    """GNU tar is held by the full pipe while the first bytes are looked at."""
    big(source / "0", 8 << 20)
    big(source / "stays", 2 << 20)
    (source / "vanishes").write_text("x")
    (source / "folder").mkdir()
    os.utime(source)

    def meddle() -> None:
        time.sleep(TICK)
        with open(source / "0", "ab") as file:
            file.write(b"more")
        (source / "vanishes").unlink()

    problems, _ = run_with(source, Paused(meddle))
    told = {(each.kind, os.path.basename(each.path), each.fatal) for each in problems}
    assert ("changed", "0", True) in told
    assert ("vanished", "vanishes", True) in told
    assert not {name for _, name, fatal in told if fatal} & {"stays", "folder"}


def test_a_file_that_shrinks_is_told(source: Path) -> None:
    big(source / "file", 16 << 20)
    problems, _ = run_with(source, Paused(lambda: os.truncate(source / "file", 12 << 20)))
    assert [(each.kind, each.fatal) for each in problems] == [("changed", True)]
    assert str(4 << 20) in problems[0].message


def test_a_directory_that_changes_meanwhile_is_only_a_note(source: Path) -> None:
    big(source / "0", 8 << 20)
    (source / "z").mkdir()
    problems, _ = run_with(source, Paused(lambda: (source / "z" / "new").write_text("x")))
    assert not [each for each in problems if each.fatal]


# -- cancelling and failing ----------------------------------------------------------------------------------


def test_cancelling_ends_gnu_tar_even_while_it_waits(source: Path) -> None:
    big(source / "file", 4 << 20)
    cancel = CancelToken()
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    before = set(children.read_text().split())

    def output(data: Buffer) -> None:
        cancel.cancel()

    with pytest.raises(Cancelled):
        TarCodec().write(
            Protected(sources=[LocalTree([os.fsencode(source)])]),
            level=0,
            base=None,
            output=output,
            context=Context(cancel=cancel),
            problem=print,
        )
    assert set(children.read_text().split()) <= before


def test_an_error_of_the_output_ends_gnu_tar(source: Path) -> None:
    big(source / "file", 4 << 20)

    def output(data: Buffer) -> None:
        raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        run_with(source, output)


def fake_tar(path: Path, script: str) -> None:
    path.mkdir(exist_ok=True)
    (path / "tar").write_text(f"#!/bin/sh\n{script}\n")
    (path / "tar").chmod(0o755)


def test_a_gnu_tar_that_dies_is_an_error(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("tar")
    fake_tar(tmp_path / "bin", f'test "$1" = --version && exec {real} --version\nkill -9 $$')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(CommandFailed, match="SIGKILL"):
        Writer(source).backup()
    fake_tar(
        tmp_path / "bin",
        f'test "$1" = --version && exec {real} --version\n'
        f'{real} "$@"; echo "tar: Error is not recoverable: exiting now" >&2; exit 2',
    )
    with pytest.raises(CommandFailed, match="not recoverable"):
        Writer(source).backup()


def test_where_gnu_tar_is_missing_the_package_is_named(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path / "bin"))
    with pytest.raises(PluginUnavailable, match="not installed") as missing:
        Writer(source).backup()
    assert "package tar" in str(missing.value.hint)
    fake_tar(tmp_path / "bin", "echo 'bsdtar 3.6.2 - libarchive 3.6.2'")
    with pytest.raises(PluginUnavailable, match=r"bsdtar 3\.6\.2"):
        Writer(source).backup()
    (tmp_path / "bin" / "gtar").symlink_to("/bin/tar")
    Writer(source).backup()


def test_options_of_the_environment_do_not_matter(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "file").write_text("x")
    monkeypatch.setenv("TAR_OPTIONS", "--exclude=*")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    writer = Writer(source)
    assert writer.backup().stats.files == 1


# -- sources that this format cannot hold --------------------------------------------------------------------


def attempt(*sources: object) -> None:
    TarCodec().write(
        Protected(sources=sources),  # type: ignore[arg-type]
        level=0,
        base=None,
        output=lambda data: None,
        context=Context(),
        problem=print,
    )


def test_only_one_root_and_no_streams(source: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with pytest.raises(ConfigurationError, match="not 2") as several:
        attempt(LocalTree([os.fsencode(source), os.fsencode(tmp_path / "second")]))
    assert "dedup" in str(several.value.hint)
    with pytest.raises(ConfigurationError, match=r"dump\.sql"):
        attempt(Stream(name="dump.sql", open=lambda: pytest.fail("opened")))
    with pytest.raises(ConfigurationError, match="nothing given"):
        attempt()

    class OwnTree(LocalTree):
        rules = Tree.rules

    with pytest.raises(ConfigurationError, match="Freezer itself"):
        attempt(OwnTree([os.fsencode(source)]))


def test_a_chain_keeps_to_its_kind_of_source(source: Path) -> None:
    (source / "file").write_text("x")
    writer = Writer(source)
    writer.backup()
    writer.source = os.fsencode(source / "file")
    with pytest.raises(ConfigurationError, match="another kind"):
        writer.backup()


@pytest.mark.parametrize(
    "state", [b"", b"nonsense", b"GNU tar-1.34-2\n12\x00", b"GNU tar-1.34-2\n1\x002\x000\x001\x00"]
)
def test_a_damaged_state_is_told_before_anything_is_written(source: Path, state: bytes) -> None:
    with pytest.raises(IntegrityError):
        TarCodec().check_state(state)
    with pytest.raises(IntegrityError):
        TarCodec().write(
            Protected(sources=[LocalTree([os.fsencode(source)])]),
            level=1,
            base=state,
            output=lambda data: pytest.fail("written"),
            context=Context(),
            problem=print,
        )
