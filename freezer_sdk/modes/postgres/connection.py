"""How to reach a PostgreSQL server: by its own programs, which are told a password through a file without a name."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from freezer_sdk.errors import CommandFailed, SourceError, SourceUnreadable
from freezer_sdk.streams.command import find_program, run_command
from freezer_sdk.streams.private import descriptor_path, unnamed_file
from freezer_sdk.streams.process import ProcessReader

_HOMES = ("/usr/lib/postgresql", "/usr/pgsql-")
CLIENT_PACKAGE = "postgresql-client"
SERVER_PACKAGE = "postgresql"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Where PostgreSQL's programs are; a server's own version is preferred, since older ones refuse it.

    Attributes:
        folder: the only place to look, when the user named one.
        major: version of the server.
    """

    folder: str | None = None
    major: int | None = None

    def path(self, name: str) -> str:
        """The path of a program, or its name where it is not found: running it says what to install then."""
        if self.folder is not None:
            return str(Path(self.folder, name))
        for home in self._homes():
            if (home / name).exists():
                return str(home / name)
        return find_program(name) or name

    def _homes(self) -> Iterator[Path]:
        if self.major is not None:
            yield Path(_HOMES[0], str(self.major), "bin")
            yield Path(f"{_HOMES[1]}{self.major}", "bin")
            return
        root = Path(_HOMES[0])
        majors = (each.name for each in root.iterdir() if each.name.isdigit()) if root.is_dir() else ()
        for major in sorted(majors, key=int, reverse=True):
            yield root / major / "bin"


@dataclass(frozen=True, kw_only=True)
class Login:
    """A server and an account; what is not said here, PostgreSQL's client library takes from where it always does.

    Attributes:
        parameters: keywords of a connection string, without a password.
        database: connected to for all that concerns no other one.
        timeout: seconds for one question to the server.
    """

    parameters: Mapping[str, str]
    password: str | None = field(default=None, repr=False)
    database: str = "postgres"
    timeout: float = 60.0
    programs: Programs = Programs()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """For programs that run before the context is left."""
        if self.password is None:
            yield Session(login=self)
            return
        entry = "*:*:*:*:" + re.sub(r"([\\:])", r"\\\1", self.password) + "\n"
        with unnamed_file(entry.encode()) as descriptor:
            yield Session(login=self, descriptors=(descriptor,))


@dataclass(frozen=True, kw_only=True)
class Session:
    """A login that programs can use now."""

    login: Login
    descriptors: tuple[int, ...] = ()

    def target(self, database: str | None = None) -> str:
        """The option that names the server and a database; it holds no secret."""
        words = {**self.login.parameters, "dbname": database or self.login.database}
        for descriptor in self.descriptors:
            words["passfile"] = descriptor_path(descriptor)
        return "--dbname=" + " ".join(f"{name}={_quoted(value)}" for name, value in words.items())

    def command(self, program: str, *arguments: str, database: str | None = None) -> list[str]:
        """A program with its arguments, which never waits for a password to be typed."""
        return [self.login.programs.path(program), "--no-password", self.target(database), *arguments]

    def rows(self, sql: str, *, database: str | None = None) -> list[list[str]]:
        """What the server answers.

        Raises:
            SourceUnreadable: it cannot be reached, or refuses.
        """
        return list(csv.reader(io.StringIO(self.run(sql, database=database))))

    def value(self, sql: str) -> str:
        """The one value that the server answers.

        Raises:
            SourceUnreadable: it cannot be reached, refuses, or has none.
        """
        rows = self.rows(sql)
        if not rows:
            raise SourceUnreadable(f"PostgreSQL has no answer to: {sql}")
        return rows[0][0]

    def run(self, sql: str, *, database: str | None = None, timeout: float | None = None) -> str:
        """Has the server execute statements from psql's standard input; gives rows as CSV.

        Raises:
            SourceUnreadable: it cannot be reached, or refuses.
        """
        arguments = ("--no-psqlrc", "--quiet", "--csv", "--tuples-only", "--set=ON_ERROR_STOP=1", "--file=-")
        try:
            return run_command(
                self.command("psql", *arguments, database=database),
                timeout=timeout or self.login.timeout,
                stdin=sql.encode(),
                package=CLIENT_PACKAGE,
                secrets=self.secrets,
                descriptors=self.descriptors,
            )
        except CommandFailed as error:
            raise SourceUnreadable(f"PostgreSQL: {error.message}", hint=error.hint) from error

    def reader(self, command: Sequence[str], *, name: str) -> ProcessReader:
        """Reads what one of the programs writes."""
        return ProcessReader(command, name=name, descriptors=self.descriptors, secrets=self.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show."""
        return (self.login.password,) if self.login.password else ()


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def major_version(session: Session) -> tuple[int, str]:
    """The server's major version, and what it calls itself.

    Raises:
        SourceError: it cannot be reached, or is too old.
    """
    number, name = session.rows("SELECT current_setting('server_version_num'), current_setting('server_version')")[0]
    major = int(number) // 10000
    if major < 12:
        raise SourceError(f"PostgreSQL {name} is too old for this mode", hint="versions from 12 on are supported")
    return major, name


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
