from __future__ import annotations

import pytest
from joining_storage import JoiningStorage

from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing.storage_suite import StorageSuite


class TestMemory(StorageSuite):
    many = 10_001
    make_storage = MemoryStorage


class TestJoining(StorageSuite):
    many = 20
    make_storage = JoiningStorage


class TestLocal(StorageSuite):
    sync = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory):  # not tmp_path: it is gone before the suite has cleaned up
        self.options = {"path": str(tmp_path_factory.mktemp("local") / "store"), "sync": self.sync}

    def make_storage(self):
        return LocalStorage(**self.options)


class TestLocalWithoutSync(TestLocal):
    sync = False
