from __future__ import annotations

import pytest

from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing.storage_suite import StorageSuite


class TestMemory(StorageSuite):
    many = 10_001
    make_storage = MemoryStorage


class TestLocal(StorageSuite):
    sync = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.options = {"path": str(tmp_path / "store"), "sync": self.sync}

    def make_storage(self):
        return LocalStorage(**self.options)


class TestLocalWithoutSync(TestLocal):
    sync = False
