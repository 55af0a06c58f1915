"""The strategy ``physical``: the stream of ``pg_basebackup``, with the part of the write-ahead log that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from freezer_sdk.errors import SourceError
from freezer_sdk.modes.base import Protected, Stream
from freezer_sdk.modes.postgres.connection import Programs, major_version
from freezer_sdk.modes.postgres.facts import described
from freezer_sdk.modes.postgres.settings import Settings, Strategy

STREAM = "base.tar"


@contextmanager
def from_physical(settings: Settings) -> Iterator[Protected]:
    """The whole server as one stream.

    Raises:
        SourceError: the server refuses, or has tablespaces, of which the program writes no stream.
    """
    with settings.login.session() as session:
        major, version = major_version(session)
        if session.rows("SELECT 1 FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')"):
            raise SourceError(
                "the server has tablespaces of its own, of which pg_basebackup makes no stream",
                hint="use the strategy snapshot or dump",
            )
        facts = described(session, strategy=Strategy.PHYSICAL, major=major, version=version)
        facts |= {"stream": STREAM, "directory_mode": session.value("SHOW data_directory_mode")}
        programs = settings.login.programs
        login = replace(settings.login, programs=Programs(folder=programs.folder, major=major))
        ready = replace(session, login=login)
        command = ready.command(
            "pg_basebackup",
            "--pgdata=-",
            "--format=tar",
            "--wal-method=fetch",
            "--checkpoint=fast",
            "--label=freezer",
        )
        yield Protected(
            sources=[Stream(name=STREAM, open=lambda: ready.reader(command, name=STREAM))],
            facts={"postgres": facts},
        )
