"""The strategy ``dump``: the stream of ``mongodump --archive``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.modes.base import Protected, Stream
from freezer_sdk.modes.mongo.server import Server
from freezer_sdk.modes.mongo.settings import Settings, Strategy
from freezer_sdk.streams.command import find_program
from freezer_sdk.streams.process import ProcessReader

STREAM = "dump.archive"
TOOLS = "install MongoDB's database tools (mongodb-database-tools)"


@contextmanager
def from_dump(settings: Settings) -> Iterator[Protected]:
    """All databases, or the chosen one, in MongoDB's archive format.

    Raises:
        SourceError: the server refuses.
        ConfigurationError: ``mongodump`` is not installed.
    """
    program = find_program("mongodump")
    if program is None:
        raise ConfigurationError("the program 'mongodump' is missing", hint=f"{TOOLS}, or use the strategy snapshot")
    with settings.login.connected() as client:
        server = Server.of(client)
        server.check_member(settings.member)
    # only whole members of a replica set have an oplog that makes the dump one of a single moment
    oplog = settings.database is None and server.role in ("primary", "secondary")
    chosen = ["--oplog"] if oplog else [] if settings.database is None else [f"--db={settings.database}"]
    with settings.login.tool_options() as (options, descriptors):
        command = [program, *options, "--archive", *chosen]
        stream = Stream(
            name=STREAM,
            open=lambda: ProcessReader(command, name=STREAM, secrets=settings.login.secrets, descriptors=descriptors),
        )
        facts = {**server.facts(Strategy.DUMP), "stream": STREAM, "oplog_in_dump": oplog}
        yield Protected(sources=[stream], facts={"mongo": {**facts, "database": settings.database}})
