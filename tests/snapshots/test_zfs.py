"""Provider ``zfs`` on a real pool, by zfs-fuse."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import killed_at_each_step
from servers import start

from freezer_sdk.errors import SnapshotError
from freezer_sdk.snapshots.label import RUN
from freezer_sdk.snapshots.zfs import ZfsProvider
from freezer_sdk.testing import SnapshotSuite

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def zfs(*arguments: str) -> str:
    return subprocess.run(["zfs", *arguments], check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture
def dataset() -> Iterator[str]:
    """A new file system, with another one in it."""
    name = f"{start('zfs')['ZFS_POOL']}/t{secrets.token_hex(6)}"
    zfs("create", name)
    zfs("create", f"{name}/inner")
    yield name
    for each in (f"{name}/inner", name):
        destroy = ["zfs", "destroy", each]
        for _ in range(100):  # zfs-fuse is busy for a moment after it has unmounted one
            if subprocess.run(destroy, capture_output=True, timeout=120, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{each} cannot be removed")


@pytest.fixture
def volume(dataset: str) -> Path:
    return Path(start("zfs")["ZFS_MOUNT"]) / dataset.partition("/")[2]


@pytest.fixture
def prefix(volume: Path) -> str:
    return volume.name


@pytest.fixture
def provider(prefix: str) -> ZfsProvider:
    return ZfsProvider(label_prefix=prefix)


def leftovers(prefix: str) -> list[str]:
    names = zfs("list", "-H", "-t", "filesystem,snapshot", "-o", "name").split()
    folders = [each.name for each in RUN.iterdir()] if RUN.is_dir() else []
    return [name for name in [*names, *folders] if f"{prefix}-" in name]


class TestConformance(SnapshotSuite):
    provider = ZfsProvider

    @pytest.fixture(autouse=True)
    def _volume(self, volume: Path) -> None:
        self._top = volume

    def make_volume(self) -> Path:
        path = self._top / secrets.token_hex(6)
        path.mkdir()
        return path

    def leftovers(self, prefix: str) -> list[str]:
        return leftovers(prefix)


def test_a_view_shows_one_moment(volume: Path, dataset: str, provider: ZfsProvider, prefix: str) -> None:
    (volume / "folder").mkdir()
    (volume / "folder/file").write_text("before")
    (volume / "inner/file").write_text("before")
    with provider.create([volume, volume / "folder/file", volume / "inner"]) as group:
        (volume / "folder/file").write_text("after")
        (volume / "inner/file").write_text("after")
        views = {path: Path(str(view)) for path, view in group.views.items()}
        assert (views[volume] / "folder/file").read_text() == "before"
        assert views[volume / "folder/file"].read_text() == "before"
        assert (views[volume / "inner"] / "file").read_text() == "before"
        with pytest.raises(OSError, match="Read-only"):
            (views[volume] / "folder/file").write_text("never")
        assert [each["volume"] for each in group.facts["snapshots"]] == [dataset, f"{dataset}/inner"]
        assert not group.facts["atomic"]  # zfs-fuse makes one at a time
        group.check()
    assert leftovers(prefix) == []
    assert (volume / "folder/file").read_text() == "after"


def test_it_is_removed_after_an_error(volume: Path, provider: ZfsProvider, prefix: str) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), provider.create([volume]):
        raise RuntimeError("in the middle")
    assert leftovers(prefix) == []


def test_somebody_who_looks_into_it_is_waited_for(volume: Path, provider: ZfsProvider, prefix: str) -> None:
    (volume / "file").touch()
    with provider.create([volume]) as group:
        assert group.facts["atomic"]
        looking = subprocess.Popen(["sh", "-c", f"exec 3<{group.views[volume]}/file; echo; sleep 1"], stdout=-1)
        assert looking.stdout is not None
        with looking.stdout:
            looking.stdout.readline()
    assert looking.wait(30) == 0
    assert leftovers(prefix) == []


def test_an_unmounted_clone_is_noticed(volume: Path, provider: ZfsProvider) -> None:
    with provider.create([volume]) as group:
        subprocess.run(["umount", str(group.views[volume])], check=True)
        with pytest.raises(SnapshotError, match="unmounted while it was in use"):
            group.check()


def test_other_file_systems_are_refused(volume: Path, provider: ZfsProvider) -> None:
    assert provider.probe([volume]).possible
    probe = provider.probe([volume, Path("/proc")])
    assert not probe.possible
    assert "lies on proc, not on ZFS" in probe.reason
    with pytest.raises(SnapshotError, match="not on ZFS"), provider.create([Path("/proc")]):
        pass


SCRIPT = """
import sys
import time
from pathlib import Path
from freezer_sdk.snapshots.zfs import ZfsProvider
with ZfsProvider(label_prefix=sys.argv[1]).create([Path(sys.argv[2])]):
    pass
"""


def test_what_a_killed_run_left_is_reaped(volume: Path, provider: ZfsProvider, prefix: str, tmp_path: Path) -> None:
    with provider.create([volume]) as group:  # of a process that lives
        ours = leftovers(prefix)
        found = 0
        for step in killed_at_each_step(tmp_path, ["zfs", "umount"], SCRIPT, prefix, str(volume)):
            before = set(leftovers(prefix)) - set(ours)
            removed = provider.reap()
            assert leftovers(prefix) == ours, step
            assert len(removed) == sum(1 for name in before if name.endswith("-0")), step
            found += len(removed)
        assert found
        group.check()
    assert leftovers(prefix) == []


def test_a_machine_without_a_pool_has_nothing_to_reap(tmp_path: Path) -> None:
    (tmp_path / "zfs").write_text("#!/bin/sh\necho 'The ZFS modules are not loaded.' >&2; exit 1\n")
    (tmp_path / "zfs").chmod(0o755)
    script = "from freezer_sdk.snapshots.zfs import ZfsProvider; print(ZfsProvider(label_prefix='none').reap())"
    command = ["unshare", "--mount", "sh", "-c", 'umount -a -t fuse.zfs,zfs; exec "$@"', "sh", sys.executable]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([*command, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
