"""``--snapshot`` of the agent, where LVM is not what the path lies on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent.program import Agent
from agent.store import contents
from btrfs_volume import names_at_top, new_subvolume

PLACES = """\
[default]
backup_name = b
path_to_backup = {volume}
snapshot = true

[storage:one]
storage = local
container = {folder}/one

[storage:two]
storage = local
container = {folder}/two
"""


@pytest.fixture
def volume() -> Iterator[Path]:
    with new_subvolume() as path:
        (path / "sub").mkdir()
        (path / "sub/file").write_text("content")
        yield path


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_one_snapshot_for_all_storages(agent: Agent, volume: Path, tmp_path: Path) -> None:
    file = tmp_path / "job.ini"
    file.write_text(PLACES.format(volume=volume, folder=tmp_path))
    expected = contents(volume)
    for engine in ("tar", "rsyncv2"):
        assert agent("--config", file, "--engine", engine, "--metadata-out", "-").json["status"] == "complete"
        assert not any(name.startswith("freezer-") for name in names_at_top() if f"-{os.getpid()}-" in name)
        for place in ("one", "two"):
            target = tmp_path / f"{engine}-{place}"
            where = ("--storage", "local", "--container", tmp_path / place, "--backup-name", "b", "--engine", engine)
            agent("--action", "restore", "--restore-abs-path", target, *where)
            assert contents(target) == expected


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_why_there_is_no_snapshot_is_told(agent: Agent, tmp_path: Path) -> None:
    place = ("--storage", "local", "--container", tmp_path / "store", "--path-to-backup", "/proc")
    result = agent("--snapshot", *place, code=1)
    assert "/proc lies on proc, not on btrfs" in result.err
    named = agent("--lvm-volgroup", "vg", *place, code=1)
    assert "no snapshot of /proc" in named.err
    assert not list((tmp_path / "store").rglob("metadata"))
