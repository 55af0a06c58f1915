"""Backups that another mode made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from freezer_sdk import ConfigurationError, Freezer
from freezer_sdk.storages.memory import MemoryStorage


@pytest.fixture(scope="module")
def freezer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Freezer]:
    tree = tmp_path_factory.mktemp("tree")
    (tree / "file").write_text("content")
    with Freezer(MemoryStorage(), create=True, encryption=False) as opened:
        opened.backup(tree, name="files")
        yield opened


@pytest.mark.parametrize("mode", ["mysql", "mongo", "postgres", "glance"])
@pytest.mark.parametrize("target", ["folder", "server:"])
def test_a_mode_refuses_what_it_did_not_make(freezer: Freezer, mode: str, target: str, tmp_path: Path) -> None:
    place = target if target == "server:" else str(tmp_path / target)
    with pytest.raises(ConfigurationError, match="was not made by") as caught:
        freezer.restore("latest", place, mode=mode)
    assert "mode fs" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
