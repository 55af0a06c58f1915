"""The conformance suite for modes: mariadb-backup, and snapshots that the suite makes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import servers
from mariadb_server import Database

from freezer_sdk.modes.mysql.mode import MysqlMode
from freezer_sdk.testing import ModeSuite

pytestmark = pytest.mark.mariadb


class TestMysql(ModeSuite):
    mode = MysqlMode

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        self.database = Database(servers.start("mariadb", instance=os.environ.get("PYTEST_XDIST_WORKER", "")))
        self.numbers = itertools.count(1)
        with self.database.table() as self.name:
            self.change()
            yield

    @property
    def options(self) -> Mapping[str, Any]:  # type: ignore[override]
        return self.database.login("physical")

    @property
    def snapshot_options(self) -> Mapping[str, Any]:  # type: ignore[override]
        return self.database.login("snapshot")

    def change(self) -> None:
        self.database.rows(f"INSERT INTO {self.name}.t VALUES ({next(self.numbers)}, '')")

    def content(self) -> object:
        (((count,),),) = (self.database.rows(f"SELECT COUNT(*) FROM {self.name}.t"),)
        return count

    def restored(self, target: str) -> object:
        Path(target).parent.chmod(0o711)  # the server's user has to get there
        facts = {"mysql": {"strategy": "physical"}}
        found = MysqlMode().verify_restored(target, facts=facts, queries=[f"SELECT COUNT(*) FROM {self.name}.t"])
        (((count,),),) = found["queries"]
        return count

    def check_resumed(self) -> None:
        self.change()
        self.database.rows(f"DELETE FROM {self.name}.t ORDER BY i DESC LIMIT 1")
        assert not self.database.rows("SELECT ID FROM information_schema.PROCESSLIST WHERE USER LIKE 'freezer%'")
