"""Links below the folder of a LocalStorage lead nowhere, whoever has planted them."""

from __future__ import annotations

import os

import pytest

from freezer_sdk.errors import InvalidName, ObjectExists, ObjectNotFound, StorageError
from freezer_sdk.storages.local import LocalStorage


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture
def storage(path):
    with LocalStorage(path=path) as storage:
        yield storage


def names(storage, prefix=""):
    return [info.name for info in storage.list(prefix)]


class TestLinks:
    @pytest.fixture
    def outside(self, tmp_path):
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "secret").write_text("secret")
        return folder

    def test_a_planted_folder_link_is_not_followed(self, storage, path, outside):
        storage.put("a/b", [b"x"])
        os.symlink(outside, os.path.join(path, "packs"))
        os.symlink(outside, os.path.join(path, "a", "deeper"))
        for name in ("packs/secret", "a/deeper/secret"):
            with pytest.raises(ObjectNotFound):
                storage.get(name)
            with pytest.raises(InvalidName, match="link"):
                storage.put(name, [b"overwritten"])
            storage.delete(name)
        assert names(storage) == ["a/b"]
        assert names(storage, "packs/") == []
        assert (outside / "secret").read_text() == "secret"
        assert os.listdir(outside) == ["secret"]

    def test_a_planted_file_link_is_replaced_not_followed(self, storage, path, outside):
        storage.put("a/b", [b"x"])
        for name in ("a/link", "a/other"):
            os.symlink(outside / "secret", os.path.join(path, name))
        with pytest.raises(ObjectNotFound):
            storage.get("a/link")
        with pytest.raises(ObjectExists):
            storage.put("a/link", [b"mine"], if_absent=True)
        storage.put("a/link", [b"mine"])
        storage.delete("a/other")
        assert storage.get("a/link") == b"mine"
        assert (outside / "secret").read_text() == "secret"

    def test_a_planted_link_for_unfinished_files(self, storage, path, outside):
        os.mkdir(path)
        os.symlink(outside, os.path.join(path, ".freezer-tmp"))
        with pytest.raises(StorageError):
            storage.put("x", [b"x"])
        assert os.listdir(outside) == ["secret"]

    def test_the_root_itself_may_be_a_link(self, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "backups").symlink_to(tmp_path / "disk")
        LocalStorage(path=str(tmp_path / "backups")).put("x", [b"x"])
        assert (tmp_path / "disk" / "x").read_bytes() == b"x"
