"""Provider ``btrfs`` on a real file system."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from btrfs_volume import make_subvolume, names_at_top, new_subvolume
from killing import killed_at_each_step

from freezer_sdk.errors import ConfigurationError, SnapshotError
from freezer_sdk.snapshots.btrfs import BtrfsProvider
from freezer_sdk.snapshots.label import RUN
from freezer_sdk.testing import SnapshotSuite

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def volume() -> Iterator[Path]:
    with new_subvolume() as path:
        yield path


@pytest.fixture
def prefix(volume: Path) -> str:
    """A prefix of this test alone, so that tests beside each other do not count each other's leftovers."""
    return f"t{volume.name.partition('-')[2]}"


@pytest.fixture
def provider(prefix: str) -> BtrfsProvider:
    return BtrfsProvider(label_prefix=prefix)


def leftovers(prefix: str) -> list[str]:
    folders = [each.name for each in RUN.iterdir()] if RUN.is_dir() else []
    return [name for name in [*names_at_top(), *folders] if name.startswith(f"{prefix}-")]


class TestConformance(SnapshotSuite):
    provider = BtrfsProvider

    @pytest.fixture(autouse=True)
    def _volume(self, volume: Path) -> None:
        self._top = volume

    def make_volume(self) -> Path:
        return make_subvolume(self._top / secrets.token_hex(6))

    def leftovers(self, prefix: str) -> list[str]:
        return leftovers(prefix)


def test_a_view_shows_one_moment(volume: Path, provider: BtrfsProvider, prefix: str) -> None:
    (volume / "folder").mkdir()
    (volume / "folder/file").write_text("before")
    with provider.create([volume, volume / "folder"]) as group:
        (volume / "folder/file").write_text("after")
        (volume / "new").touch()
        view = group.views[volume]
        assert isinstance(view, Path)
        assert (view / "folder/file").read_text() == "before"
        assert os.listdir(view) == ["folder"]
        assert os.listdir(str(group.views[volume / "folder"])) == ["file"]
        with pytest.raises(OSError, match="Read-only"):
            (view / "folder/file").write_text("never")
        group.check()
    assert leftovers(prefix) == []
    assert (volume / "folder/file").read_text() == "after"


def test_the_record_tells_what_was_made(volume: Path, provider: BtrfsProvider, prefix: str) -> None:
    other = make_subvolume(volume / "other")
    with provider.create([volume, other, other]) as group:
        first, second = group.facts["snapshots"]
        assert group.facts["provider"] == "btrfs"
        assert not group.facts["atomic"]
        assert first["name"].startswith(f"{prefix}-{os.getpid()}-")
        assert (first["subvolume"], first["paths"]) == (f"/{volume.name}", [str(volume)])
        assert (second["subvolume"], second["paths"]) == (f"/{volume.name}/other", [str(other)] * 2)


def test_nested_subvolumes_are_named(volume: Path, provider: BtrfsProvider) -> None:
    (volume / "folder").mkdir()
    nested = [make_subvolume(volume / "folder/with space"), make_subvolume(volume / "other")]
    make_subvolume(nested[0] / "deeper")
    with provider.create([volume]) as group:
        assert sorted(group.missing) == [nested[0], nested[0] / "deeper", nested[1]]
    with provider.create([nested[0], volume / "other"]) as group:
        assert list(group.missing) == [nested[0] / "deeper"]
    with provider.create([volume.parent]) as group:
        assert set(nested) < set(group.missing)
        assert all("-" not in path.name or path.name.startswith("test-") for path in group.missing)


def test_paths_are_found_through_mounts_and_links(volume: Path, provider: BtrfsProvider, tmp_path: Path) -> None:
    (volume / "folder/inner").mkdir(parents=True)
    (volume / "folder/inner/file").write_text("before")
    (volume / "link").symlink_to("folder")
    bound = tmp_path / "bound with space"
    bound.mkdir()
    subprocess.run(["mount", "--bind", volume / "folder", bound], check=True)
    try:
        with provider.create([bound, bound / "inner/file", volume / "link/inner", volume / "link"]) as group:
            (volume / "folder/inner/file").write_text("after")
            views = {path: Path(str(view)) for path, view in group.views.items()}
            assert (views[bound] / "inner/file").read_text() == "before"
            assert views[bound / "inner/file"].read_text() == "before"
            assert (views[volume / "link/inner"] / "file").read_text() == "before"
            assert os.readlink(views[volume / "link"]) == "folder"
    finally:
        subprocess.run(["umount", bound], check=True)


def test_it_is_removed_after_an_error(volume: Path, provider: BtrfsProvider, prefix: str) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), provider.create([volume]):
        raise RuntimeError("in the middle")
    assert leftovers(prefix) == []


def test_a_removed_snapshot_is_noticed(volume: Path, provider: BtrfsProvider) -> None:
    with provider.create([volume]) as group:
        subprocess.run(["btrfs", "-q", "subvolume", "delete", str(group.views[volume])], check=True)
        with pytest.raises(SnapshotError, match="removed while it was in use"):
            group.check()


def test_other_file_systems_are_refused(volume: Path, provider: BtrfsProvider, tmp_path: Path) -> None:
    assert provider.probe([volume]).possible
    for path, message in ((Path("/proc"), "lies on proc, not on btrfs"), (volume / "none", "No such file")):
        probe = provider.probe([volume, path])
        assert not probe.possible
        assert message in probe.reason
        with pytest.raises(SnapshotError, match=message), provider.create([volume, path]):
            pass
    with pytest.raises(ConfigurationError, match="cannot begin the name"):
        BtrfsProvider(label_prefix="../x")


SCRIPT = """
import sys
from pathlib import Path
from freezer_sdk.snapshots.btrfs import BtrfsProvider
with BtrfsProvider(label_prefix=sys.argv[1]).create([Path(sys.argv[2])]):
    pass
"""


def test_what_a_killed_run_left_is_reaped(volume: Path, provider: BtrfsProvider, prefix: str, tmp_path: Path) -> None:
    strange = make_subvolume(volume.parent / f"{prefix}-1-not-ours")
    with provider.create([volume]) as group:  # of a process that lives
        ours = leftovers(prefix)
        found = 0
        for step in killed_at_each_step(tmp_path, ["btrfs", "mount", "umount"], SCRIPT, prefix, str(volume)):
            before = set(leftovers(prefix)) - set(ours)
            removed = provider.reap()
            assert leftovers(prefix) == ours, step
            assert len(removed) == sum(1 for name in before if name.endswith("-0")), step
            found += len(removed)
        assert found
        group.check()
    assert leftovers(prefix) == [strange.name]
    assert list(provider.reap()) == []
    subprocess.run(["btrfs", "-q", "subvolume", "delete", strange], check=True)


def test_a_reaper_needs_no_snapshots_to_be_there(prefix: str) -> None:
    imports = "import sys; from freezer_sdk.snapshots.btrfs import BtrfsProvider"
    script = f"{imports}; print(BtrfsProvider(label_prefix=sys.argv[1]).reap())"
    command = ["unshare", "--mount", "sh", "-c", 'umount -a -t btrfs && exec "$@"', "sh"]
    done = subprocess.run([*command, sys.executable, "-c", script, prefix], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
