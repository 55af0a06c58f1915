"""A real server of MongoDB's protocol for tests, and somebody who writes into it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import servers
from running_writer import Writer

PAGE = servers.ROOT / "docs" / "how-to" / "mongo.md"


class Mongo:
    """A server and its administrator."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.port = int(env["MONGODB_PORT"])
        self.data = Path(env["MONGODB_DATA"])
        self.password = env["MONGODB_PASSWORD"]

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(
            "127.0.0.1", self.port, username="root", password=self.password, directConnection=True
        )

    def login(self, **options: Any) -> dict[str, Any]:
        """Options of the mode for the administrator; this server does not tell where its data lie."""
        login = {"host": "127.0.0.1", "port": self.port, "user": "root", "password": self.password}
        return {**login, "data_path": self.data, **options}

    @property
    def check_command(self) -> list[str]:
        """How this server is started on restored data; it stands in for mongod."""
        where = ["--host", "127.0.0.1", "--port", "{port}", "--storage-path", "{data}"]
        return [self.env["MONGODB_SERVER"], *where, "--cache-size", "64M", "--standalone"]

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The name of a database of the test's own."""
        name = f"t{secrets.token_hex(4)}"
        try:
            yield name
        finally:
            with self.client() as client:
                client.drop_database(name)


class MongoWriter(Writer):
    """One document for each number, acknowledged when the journal has it."""

    def __init__(self, server: Mongo, database: str, *, pause: float = 0.0) -> None:
        super().__init__(pause=pause)
        self._client = server.client()
        concern = pymongo.WriteConcern(w=1, j=True)
        self._collection = self._client[database].get_collection("t", write_concern=concern)

    def store(self, number: int) -> None:
        self._collection.insert_one({"_id": number, "filling": "x" * 300})

    def close(self) -> None:
        self._client.close()


@contextlib.contextmanager
def new_mongo(instance: str, *, data: Path | None = None, **how: str) -> Iterator[Mongo]:
    """A server of the test's own, with all that belongs to it."""
    where = how if data is None else {**how, "MONGODB_DATA": str(data)}
    server = Mongo(servers.start("mongodb", instance=instance, **where))
    try:
        yield server
    finally:
        servers.stop("mongodb", instance=instance)
        shutil.rmtree(servers.state_root() / f"mongodb-{instance}", ignore_errors=True)
