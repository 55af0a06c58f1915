"""Feeding dumps to a server through its own client program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from freezer_sdk.errors import CommandFailed
from freezer_sdk.modes.mysql.login import Login
from freezer_sdk.modes.mysql.optionfile import private_option_file
from freezer_sdk.streams.command import find_program
from freezer_sdk.streams.feeding import feed_program


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The client program, and how it reaches the server."""

    program: str
    package: str
    descriptor: int
    secrets: tuple[str, ...]

    @classmethod
    @contextmanager
    def into(cls, login: Login, *, mariadb: bool) -> Iterator[Replay]:
        """A replay that knows the login for as long as the context lasts."""
        names = ("mariadb", "mysql") if mariadb else ("mysql", "mariadb")
        program = next((name for name in names if find_program(name)), names[0])
        with private_option_file(login.client_group()) as descriptor:
            secrets = (login.password,) if login.password else ()
            package = "mariadb-client" if mariadb else "mysql-client"
            yield cls(program=program, package=package, descriptor=descriptor, secrets=secrets)

    def run(self, reader: Any, *, name: str, progress: Callable[[int], None] | None = None) -> None:
        """Replays one dump, up to its first error.

        In binary mode the client knows no commands of its own, such as the one that runs a shell.

        Raises:
            CommandFailed: the program is missing, or the server refused a statement.
        """
        command = [
            self.program,
            f"--defaults-file=/dev/fd/{self.descriptor}",
            "--batch",
            "--binary-mode",
            "--local-infile=0",
            "--default-character-set=utf8mb4",
        ]
        try:
            feed_program(
                command,
                reader,
                name=name,
                package=self.package,
                descriptors=(self.descriptor,),
                secrets=self.secrets,
                progress=progress,
            )
        except CommandFailed as error:
            _, mark, reason = error.message.rpartition("\nERROR ")
            if not mark:
                raise
            # what stands before it is the statement, with data of users
            raise CommandFailed(f"{name}: {self.program}: ERROR {reason}", hint=error.hint) from None
