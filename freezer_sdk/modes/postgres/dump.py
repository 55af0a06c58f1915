"""The strategy ``dump``: one stream of ``pg_dump`` for each database, and one with the roles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.modes.base import Protected, Stream
from freezer_sdk.modes.postgres.connection import Programs, Session, major_version
from freezer_sdk.modes.postgres.facts import described
from freezer_sdk.modes.postgres.settings import Settings, Strategy

ROLES = "roles.sql"


def stream_name(database: str) -> str:
    """The stream of a database; its name may hold characters that no file name can."""
    return quote(database, safe=" !#$&'()+,;=@[]{}^~") + ".dump"


@contextmanager
def from_dump(settings: Settings) -> Iterator[Protected]:
    """All databases, or the chosen ones, each as of the moment when its own dump begins.

    Raises:
        SourceError: the server refuses.
        ConfigurationError: a database that was asked for does not exist.
    """
    with settings.login.session() as session:
        major, version = major_version(session)
        facts = described(session, strategy=Strategy.DUMP, major=major, version=version)
        there: list[str] = facts["databases"]
        unknown = [name for name in settings.databases if name not in there]
        if unknown:
            raise ConfigurationError(f"there is no database {unknown[0]!r}", hint=f"there are: {', '.join(there)}")
        chosen = list(settings.databases) or there
        programs = Programs(folder=settings.login.programs.folder, major=major)
        ready = replace(session, login=replace(settings.login, programs=programs))
        facts |= {"databases": chosen, "streams": {name: stream_name(name) for name in chosen}}
        yield Protected(
            sources=[_roles(ready, settings), *(_database(ready, name) for name in chosen)],
            facts={"postgres": {**facts, "roles": ROLES}},
        )


def _database(session: Session, database: str) -> Stream:
    name = stream_name(database)
    # not compressed: what did not change since the last dump is then stored once only
    command = session.command("pg_dump", "--format=custom", "--compress=0", database=database)
    return Stream(name=name, open=lambda: session.reader(command, name=name))


def _roles(session: Session, settings: Settings) -> Stream:
    passwords = () if settings.role_passwords else ("--no-role-passwords",)
    command = session.command("pg_dumpall", "--roles-only", *passwords)
    return Stream(name=ROLES, open=lambda: session.reader(command, name=ROLES))
