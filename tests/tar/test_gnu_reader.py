"""Restores by GNU tar: the same trees as by our own reader, into empty folders only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tar.chain import TAR, Chain, difference, disk, levels_of
from tar.test_reading import make_source

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Restored
from freezer_sdk.engines.tar.codec import TarCodec
from freezer_sdk.errors import Cancelled, ConfigurationError, PluginUnavailable, RestoreConflict
from freezer_sdk.model import Overwrite, Problem, RestoreOptions
from freezer_sdk.streams.cancel import CancelToken

pytestmark = pytest.mark.skipif(TAR is None, reason="GNU tar is not installed")


def restore(chain: Chain, target: Path, options: RestoreOptions | None = None) -> tuple[Restored, list[Problem]]:
    problems: list[Problem] = []
    restored = TarCodec(reader="gnu").restore(
        levels_of(chain.streams), str(target), options or RestoreOptions(), Context(), problem=problems.append
    )
    assert restored is not None
    return restored, problems


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Three levels, with a link that is broken up, and directories that change places."""
    source = tmp_path / "source"
    make_source(source)
    (source / "one").mkdir()
    (source / "one" / "file").write_text("1")
    (source / "two").mkdir()
    chain = Chain(source, tmp_path, "--format=posix", "--sparse", "--xattrs", "--acls")
    chain.backup()
    os.rename(source / "one", source / "three")
    os.rename(source / "two", source / "one")
    os.rename(source / "three", source / "two")
    chain.backup()
    (source / "new").write_text("another file")
    os.rename(source / "new", source / "zz-link")
    chain.backup()
    return chain


def test_the_last_level_comes_back(chain: Chain, tmp_path: Path) -> None:
    restored, problems = restore(chain, tmp_path / "target")
    assert problems == []
    assert difference(disk(chain.source, fine=True), disk(tmp_path / "target", fine=True)) == {}
    assert restored.files == sum(facts[0] == 0o100000 for facts in disk(chain.source, fine=True).values())
    assert restored.bytes > 3_000_000


def test_only_empty_targets(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").write_text("x")
    with pytest.raises(RestoreConflict, match="not empty"):
        restore(chain, tmp_path / "target")
    assert os.listdir(tmp_path / "target") == ["mine"]


@pytest.mark.parametrize(
    "options",
    [
        RestoreOptions(paths=(b"/a",)),
        RestoreOptions(exclude=("*.log",)),
        RestoreOptions(overwrite=Overwrite.ALWAYS),
        RestoreOptions(dry_run=True),
        RestoreOptions(delete=True),
    ],
)
def test_only_whole_backups(chain: Chain, tmp_path: Path, options: RestoreOptions) -> None:
    with pytest.raises(ConfigurationError, match="reader gnu"):
        restore(chain, tmp_path / "target", options)
    assert not (tmp_path / "target").exists()


def test_damage_is_told(chain: Chain, tmp_path: Path) -> None:
    chain.streams[1] = chain.streams[1][:3000]
    _, problems = restore(chain, tmp_path / "target")
    assert ("data/tar/h_n/100/1_101/data", True) in {(problem.path, problem.fatal) for problem in problems}
    assert (tmp_path / "target" / "zz-link").read_text() == "another file"


def test_cancelling_leaves_no_program(chain: Chain, tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        TarCodec(reader="gnu").restore(
            levels_of(chain.streams),
            str(tmp_path / "target"),
            RestoreOptions(),
            Context(cancel=token),
            problem=lambda problem: None,
        )


def test_without_gnu_tar(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginUnavailable, match="GNU tar"):
        restore(chain, tmp_path / "target")


def test_other_readers_leave_it_to_us(chain: Chain, tmp_path: Path) -> None:
    for reader in ("auto", "python"):
        codec = TarCodec(reader=reader)
        target = str(tmp_path / "target")
        assert codec.restore([], target, RestoreOptions(), Context(), problem=lambda problem: None) is None
