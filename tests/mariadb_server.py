"""A real MariaDB for tests: accounts with the privileges that the documentation names, and somebody who writes."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import servers

PAGE = servers.ROOT / "docs" / "how-to" / "mysql.md"
PASSWORD = "käse #1\"'\\ ;x"
"""With everything that option files, shells and URLs know as special."""


class Database:
    """A server and its administrator."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.socket = env["MARIADB_SOCKET"]
        self.data = Path(env["MARIADB_DATA"])
        self.port = int(env["MARIADB_PORT"])

    def connect(self, **login: Any) -> Any:
        """A cursor; root's, unless another login is given."""
        login = login or {"unix_socket": self.socket, "user": "root"}
        return pymysql.connect(**login, autocommit=True).cursor()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        outer = self.connect()
        with contextlib.closing(outer.connection), contextlib.closing(outer) as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def account(self, strategy: str) -> str:
        """Makes an account with the privileges that the documentation gives for a strategy; its name."""
        name = f"freezer_{strategy}"
        self.rows(f"CREATE OR REPLACE USER {name}@'localhost' IDENTIFIED BY '{escaped(PASSWORD)}'")
        self.rows(f"CREATE OR REPLACE USER {name}@'127.0.0.1' IDENTIFIED BY '{escaped(PASSWORD)}'")
        for host in ("localhost", "127.0.0.1"):
            for grant in grants(strategy):
                self.rows(grant.replace("freezer@localhost", f"{name}@'{host}'"))
        return name

    def login(self, strategy: str, **options: Any) -> dict[str, Any]:
        """Options of the mode for such an account."""
        user = self.account(strategy)
        return {"strategy": strategy, "socket": self.socket, "user": user, "password": PASSWORD, **options}

    @contextlib.contextmanager
    def table(self) -> Iterator[str]:
        """A database of the test's own with a table for a :class:`Writer`; its name."""
        name = f"t{secrets.token_hex(4)}"
        self.rows(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        self.rows(f"CREATE TABLE {name}.t (i INT PRIMARY KEY, filling VARCHAR(200)) ENGINE=InnoDB")
        try:
            yield name
        finally:
            self.rows(f"DROP DATABASE IF EXISTS {name}")


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def grants(strategy: str) -> list[str]:
    """The statements of the documentation, between the heading of the strategy's privileges and the next one."""
    part = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)
    section = next(each for each in part if each.startswith(f"Privileges for `{strategy}`"))
    (block,) = re.findall(r"^```sql\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [each.strip() for each in block.split(";") if each.strip().startswith("GRANT")]


class Writer:
    """Inserts 1, 2, 3, ... into a table, one transaction each, for as long as the context lasts.

    Nobody else may write into the server: then the binary log's numbers tell which rows a position stands for.

    Args:
        pause: seconds between two of them, where there is little to compute with.

    Attributes:
        acknowledged: the last row that the server said to be stored.
        before: the sequence number of the last transaction before the first row.
    """

    def __init__(self, database: Database, name: str, *, pause: float = 0.0) -> None:
        self._cursor, self._pause = database.connect(), pause
        self._table = f"{name}.t"
        self._stop = threading.Event()
        self._some = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._cursor.execute("SELECT @@gtid_binlog_pos")
        self.before = sequence(self._cursor.fetchone()[0])
        self.acknowledged = 0
        self.failure: Exception | None = None

    def _write(self) -> None:
        try:
            while not self._stop.wait(self._pause):
                number = self.acknowledged + 1
                self._cursor.execute(f"INSERT INTO {self._table} VALUES (%s, %s)", (number, "x" * 100))
                self.acknowledged = number
                if number >= 50:
                    self._some.set()
        except pymysql.Error as error:
            self.failure = error
            self._some.set()

    def __enter__(self) -> Writer:
        self._thread.start()
        assert self._some.wait(120)
        assert self.failure is None
        return self

    def goes_on(self) -> bool:
        """Whether rows are acknowledged after now; waits for one."""
        seen = self.acknowledged
        for _ in range(600):
            if self.acknowledged > seen + 1:
                return True
            self._stop.wait(0.1)
        return False

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._cursor.connection.close()


def sequence(gtid: str) -> int:
    """The number of a transaction in ``0-1-NUMBER``."""
    return int(gtid.rsplit("-", 1)[-1] or 0)


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """An empty folder that the server's user can get to, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="freezer-tests-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def owners(folder: Path) -> set[str]:
    """Whose everything below a folder is, itself included."""
    return {f"{each.owner()}:{each.group()}" for each in (folder, *folder.rglob("*"))}


def run_freezer(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **settings)
