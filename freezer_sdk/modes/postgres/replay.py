"""Dumps into a running server: roles that it does not have, and whole databases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any

from freezer_sdk.errors import CommandFailed, RestoreConflict, RestoreError, SourceUnreadable
from freezer_sdk.modes.postgres.connection import CLIENT_PACKAGE, Programs, Session, major_version
from freezer_sdk.streams.feeding import feed_program

_ROLE = re.compile(r'(?:CREATE|ALTER) ROLE ("(?:[^"]|"")+"|[^\s;"]+)[\s;]')
_PSQLS_OWN = ("\\restrict ", "\\unrestrict ")  # with which newer programs of PostgreSQL protect psql
_OBJECTS = """
SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class Dumps:
    """What is replayed.

    Attributes:
        open: gives a stream by its name.
        streams: the stream of each database.
        roles: stream of the roles.
        progress: told how many bytes were passed on.
    """

    open: Callable[[str], AbstractContextManager[Any]]
    streams: Mapping[str, str]
    roles: str
    progress: Callable[[int], None] | None = None


def replay(session: Session, dumps: Dumps, *, force: bool, dry_run: bool, timeout: float) -> int:
    """Creates the roles and databases; how many bytes that took.

    Args:
        force: replace databases that are there and hold something.
        dry_run: only look whether it can be done.
        timeout: seconds for all roles.

    Raises:
        RestoreConflict: a database holds something.
        RestoreError: the server refuses.
    """
    try:
        major, _ = major_version(session)
        programs = Programs(folder=session.login.programs.folder, major=major)
        session = replace(session, login=replace(session.login, programs=programs))
        there = {row[0] for row in session.rows("SELECT datname FROM pg_database")}
        filled = {name for name in dumps.streams if name in there and session.rows(_OBJECTS, database=name)}
        if filled and not force:
            raise RestoreConflict(
                f"these databases hold something already: {', '.join(sorted(filled))}",
                hint="name other databases, drop these, or replace them (--force)",
            )
        if dry_run:
            return 0
        _replay_roles(session, dumps, timeout)
        return sum(_replay_database(session, dumps, name, name in there) for name in dumps.streams)
    except (CommandFailed, SourceUnreadable) as error:
        raise RestoreError(error.message, hint=error.hint) from error


def _replay_roles(session: Session, dumps: Dumps, timeout: float) -> None:
    """Roles that are there keep their passwords and rights: this very session may depend on them."""
    there = {row[0] for row in session.rows("SELECT rolname FROM pg_roles")}
    with dumps.open(dumps.roles) as reader:
        pieces = []
        while piece := reader.read(1 << 20):
            pieces.append(piece)
    text = b"".join(pieces).decode("utf-8")
    session.run(_without_commands("\n".join(_new_roles(text.split("\n"), there))), timeout=timeout)


def _without_commands(sql: str) -> str:
    """The same statements as one that psql passes on without looking at it: its own commands can run programs."""
    tag = "freezer_" + token_hex(16)
    return f"DO ${tag}$BEGIN EXECUTE ${tag}_sql$\n{sql}\n${tag}_sql$; END${tag}$;\n"


def _new_roles(lines: Sequence[str], there: Set[str]) -> Iterator[str]:
    """What ``pg_dumpall`` wrote, one statement a line, without what changes roles that are there."""
    for line in lines:
        if line.startswith(_PSQLS_OWN):
            continue
        found = _ROLE.match(line)
        if found is None or _name(found[1]) not in there:
            yield line


def _name(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _replay_database(session: Session, dumps: Dumps, database: str, there: bool) -> int:
    stream = dumps.streams[database]
    home = session.login.database
    arguments = ["--exit-on-error", "--no-tablespaces"]
    if not there or database != home:  # one cannot drop where one is
        arguments.append("--create")
    if there:
        arguments += ["--clean", "--if-exists"]
    with dumps.open(stream) as reader:
        return feed_program(
            session.command("pg_restore", *arguments, database=home),
            reader,
            name=stream,
            package=CLIENT_PACKAGE,
            secrets=session.secrets,
            descriptors=session.descriptors,
            progress=dumps.progress,
        )
