"""A real PostgreSQL for tests, and somebody who writes into it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import servers
from running_writer import Writer

PAGE = servers.ROOT / "docs" / "how-to" / "postgres.md"


class Cluster:
    """A server and its administrator."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.programs = Path(env["POSTGRES_BIN"])
        self.sockets = env["POSTGRES_SOCKETS"]
        self.port = env["POSTGRES_PORT"]
        self.data = Path(env["POSTGRES_DATA"])
        self.account = env["POSTGRES_ACCOUNT"]
        self.password = env["POSTGRES_PASSWORD"]

    def psql(self, sql: str, *, database: str = "postgres", user: str = "postgres") -> str:
        """Executes statements, each for itself; gives rows, with ``|`` between the columns."""
        done = subprocess.run(
            [*self.client(database, user), "--set=ON_ERROR_STOP=1"],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def client(self, database: str = "postgres", user: str = "postgres") -> list[str]:
        where = f"host={self.sockets} port={self.port} user={user} dbname='{database}'"
        return [str(self.programs / "psql"), "-XAtq", where]

    def login(self, **options: Any) -> dict[str, Any]:
        """Options of the mode for the administrator, over TCP."""
        return {"host": "127.0.0.1", "port": self.port, "user": "postgres", "password": self.password, **options}

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A database of the test's own with a table for a :class:`PostgresWriter`; its name."""
        name = f"t{secrets.token_hex(4)}"
        self.psql(f"CREATE DATABASE {name}")
        self.psql("CREATE TABLE t (i int PRIMARY KEY, filling text)", database=name)
        try:
            yield name
        finally:
            self.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class PostgresWriter(Writer):
    """One transaction for each number."""

    def __init__(self, cluster: Cluster, database: str) -> None:
        super().__init__()
        self._psql = subprocess.Popen(
            cluster.client(database), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def store(self, number: int) -> None:
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        self._psql.stdin.write(f"INSERT INTO t VALUES ({number}, repeat('x', 100)) RETURNING i;\n")
        self._psql.stdin.flush()
        answer = self._psql.stdout.readline().strip()
        assert answer == str(number), answer

    def close(self) -> None:
        self._psql.communicate()


@contextlib.contextmanager
def new_cluster(instance: str, *, data: Path | None = None) -> Iterator[Cluster]:
    """A server of the test's own, with all that belongs to it."""
    where = {} if data is None else {"POSTGRES_DATA": str(data)}
    cluster = Cluster(servers.start("postgresql", instance=instance, **where))
    try:
        yield cluster
    finally:
        servers.stop("postgresql", instance=instance)
        for folder in (Path(cluster.sockets), servers.state_root() / f"postgresql-{instance}"):
            shutil.rmtree(folder, ignore_errors=True)
