"""The contract, as Freezer SDK tests it for everybody, and what is special here.

FREEZER_REFLINK_FOLDER names a folder on btrfs or XFS, where the tests may write.
"""

import os
import secrets
import shutil
from pathlib import Path

import pytest
from freezer_snapshot_reflink.provider import STORE, ReflinkProvider

import freezer_sdk
from freezer_sdk import Freezer
from freezer_sdk.errors import SnapshotError
from freezer_sdk.snapshots.mounts import mount_of
from freezer_sdk.testing import SnapshotSuite

FOLDER = os.environ.get("FREEZER_REFLINK_FOLDER", "")

pytestmark = pytest.mark.skipif(not FOLDER, reason="set FREEZER_REFLINK_FOLDER to a folder on btrfs or XFS")


@pytest.fixture
def volume():
    folder = Path(FOLDER, f"test-{secrets.token_hex(6)}")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def prefix():
    return f"test{secrets.token_hex(4)}"


def top(path):
    return mount_of(path).point  # that of a subvolume is that of its file system


def leftovers(volume, prefix):
    store = top(volume) / STORE
    return [path.name for path in store.iterdir() if path.name.startswith(f"{prefix}-")] if store.is_dir() else []


class TestContract(SnapshotSuite):
    provider = ReflinkProvider
    copies = True

    @pytest.fixture(autouse=True)
    def _volume(self, volume):
        self.volume = volume

    def make_volume(self):
        folder = self.volume / secrets.token_hex(4)
        folder.mkdir()
        return folder

    def leftovers(self, prefix):
        return leftovers(self.volume, prefix)


def test_a_clone_needs_no_room(volume, prefix):
    image = volume / "disk.img"
    image.write_bytes(os.urandom(1 << 20) * 64)
    os.sync()
    before = shutil.disk_usage(volume).used
    with freezer_sdk.snapshot(image, "reflink", options={"label_prefix": prefix}) as clone:
        os.sync()
        assert clone.read_bytes() == image.read_bytes()
        assert shutil.disk_usage(volume).used - before < 32 << 20
    assert not leftovers(volume, prefix)


def test_the_record_tells_what_is_one_moment(volume, prefix):
    (volume / "one").write_text("1")
    (volume / "two").write_text("2")
    provider = ReflinkProvider(label_prefix=prefix)
    with provider.create([volume / "one"]) as group:
        assert group.facts["atomic"]
        assert group.facts["name"].startswith(f"{prefix}-{os.getpid()}-")
    with provider.create([volume]) as group:
        assert not group.facts["atomic"]
    with provider.create([volume / "one", volume / "two"]) as group:
        assert not group.facts["atomic"]


def test_a_backup_of_the_moment_that_was_cloned(volume, prefix, tmp_path):
    file = volume / "database"
    file.write_text("before")
    with Freezer.create(f"local:{tmp_path}/repository", encryption=False) as freezer:
        backup = freezer.backup(file, snapshot="reflink", snapshot_options={"label_prefix": prefix})
        assert backup.paths == (str(file),)
        assert backup.facts["snapshot"]["provider"] == "reflink"
        file.write_text("after")
        freezer.restore("latest", tmp_path / "target")
    assert next((tmp_path / "target").rglob("database")).read_text() == "before"
    assert not leftovers(volume, prefix)


def test_what_cannot_be_cloned_is_told(volume, prefix, tmp_path):
    provider = ReflinkProvider(label_prefix=prefix)
    assert "top of its file system" in provider.probe([top(volume)]).reason
    elsewhere = Path("/proc/self")
    assert "cannot clone files" in provider.probe([elsewhere]).reason
    with pytest.raises(SnapshotError, match="cannot clone files"), provider.create([volume, elsewhere]):
        pass
    assert not leftovers(volume, prefix)


def test_a_clone_that_somebody_removed_is_noticed(volume, prefix):
    (volume / "file").write_text("text")
    with ReflinkProvider(label_prefix=prefix).create([volume]) as group:
        shutil.rmtree(group.views[volume])
        with pytest.raises(SnapshotError, match="removed while it was in use"):
            group.check()
