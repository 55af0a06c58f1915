"""A server of our own on a restored data directory, which nobody else can reach."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freezer_sdk.errors import CommandFailed, ConfigurationError, RestoreError, SourceError
from freezer_sdk.files import posix
from freezer_sdk.files.datadir import give_to, owner_of
from freezer_sdk.modes.mysql.login import Login
from freezer_sdk.modes.mysql.server import Server, connected
from freezer_sdk.streams import server as servers
from freezer_sdk.streams.command import find_program, run_command

_PROGRAMS = ("mariadbd", "mysqld")
_SMALL = ("--innodb-buffer-pool-size=64M", "--loose-innodb-buffer-pool-size-max=256M")
_INSTALL_LIMIT = 600.0
_VERSION = re.compile(r"\d+\.\d+(?=\.\d)")


def server_program(product: str) -> str:
    """The path of the server program.

    Raises:
        ConfigurationError: it is not installed.
    """
    names = _PROGRAMS if product == "MariaDB" else _PROGRAMS[::-1]
    program = next(filter(None, map(find_program, names)), None)
    if program is None:
        raise ConfigurationError(
            f"the program {names[0]} is missing, so no private server can be started",
            hint="install the server's package here, or check on a machine that has it",
        )
    return program


def check_version(facts: Mapping[str, Any]) -> None:
    """Whether the server program is of the kind and version that wrote the files: a newer one would change them.

    Raises:
        ConfigurationError: it is not.
    """
    product, written = _product(facts), str((facts.get("server") or {}).get("version", ""))
    program = server_program(product)
    said = run_command([program, "--no-defaults", "--version"], timeout=60)
    here, there = _VERSION.search(said), _VERSION.search(written)
    if there is None:  # nobody recorded it
        return
    if here is None or here[0] != there[0] or ("mariadb" in said.lower()) != (product == "MariaDB"):
        raise ConfigurationError(
            f"{program} is not of the version that wrote these files ({product} {written}): it could change them",
            hint="check on a machine with that version; start_check off restores without a check",
        )


@contextmanager
def private_server(
    directory: str, facts: Mapping[str, Any], options: Sequence[str], *, limit: float, grants: bool
) -> Iterator[tuple[Server, Login]]:
    """A server that listens on nothing but a socket in a folder of its own, and runs as the owner of the files.

    It replicates nothing, runs no events, and writes no binary log. It is stopped on every way out.

    Args:
        facts: what the mode recorded about the server that wrote the files.
        options: further options of the program.
        limit: seconds until it must be ready; recovery takes its time.
        grants: it looks at its accounts; else everybody who reaches the socket may do everything.

    Raises:
        RestoreError: it does not start or stop well, with what it said.
        ConfigurationError: the program is missing.
    """
    program = server_program(_product(facts))
    owner = owner_of(Path(directory))
    root = posix.effective_user()[0] == 0
    with servers.private_folder(owner=owner if root else None) as folder:
        login = Login(socket=f"{folder}/s", user="root")
        command = [program, "--no-defaults", *_arguments(directory, folder, facts, grants=grants), *options]
        if root and owner[0] == 0:
            command.append("--user=root")
        try:
            with (
                servers.private_server(
                    command, ready=lambda: _answers(login), patience=limit, owner=owner if root else None
                ),
                connected(login) as server,
            ):
                yield server, login
        except CommandFailed as error:
            hint = "recovery may need longer (start_timeout), or settings of the old server (server_options)"
            if "Permission denied" in error.message:
                hint = "the server runs as the owner of the data, whom all folders above must let through"
            raise RestoreError(f"no server runs on the restored data: {error}", hint=error.hint or hint) from error


def _answers(login: Login) -> bool:
    with socket.socket(socket.AF_UNIX) as knocking:
        try:
            knocking.connect(login.place)
        except OSError:  # PyMySQL would leave its own socket open
            return False
    try:
        with connected(login):
            return True
    except SourceError:
        return False


def _product(facts: Mapping[str, Any]) -> str:
    return str((facts.get("server") or {}).get("product", "MariaDB"))


def _arguments(directory: str, folder: Path, facts: Mapping[str, Any], *, grants: bool) -> list[str]:
    arguments = [
        f"--datadir={directory}",
        f"--socket={folder}/s",
        f"--pid-file={folder}/pid",
        f"--tmpdir={folder}",
        f"--secure-file-priv={folder}",  # whatever SQL is replayed or asked reads and writes no other files
        "--skip-networking",
        "--skip-log-bin",
        "--skip-slave-start",
        "--loose-innodb-buffer-pool-load-at-startup=0",
        "--loose-innodb-buffer-pool-dump-at-shutdown=0",
        *_SMALL,
    ]
    if not grants:
        arguments.append("--skip-grant-tables")
    settings = facts.get("settings") or {}
    return [*arguments, *(f"--loose-{name.replace('_', '-')}={value}" for name, value in sorted(settings.items()))]


@contextmanager
def empty_directory(parent: str, facts: Mapping[str, Any]) -> Iterator[str]:
    """A data directory without databases, whose user root needs no password; removed afterwards.

    It belongs to whom the parent belongs to.

    Raises:
        RestoreError: it cannot be made.
        ConfigurationError: a program is missing.
    """
    directory = tempfile.mkdtemp(prefix=".freezer-check-", dir=parent)
    try:
        if _product(facts) == "MariaDB":
            command = ["mariadb-install-db", "--no-defaults", f"--datadir={directory}", "--skip-test-db"]
            command += ["--auth-root-authentication-method=normal", *_SMALL]
        else:
            command = [server_program("MySQL"), "--no-defaults", "--initialize-insecure", f"--datadir={directory}"]
        if posix.effective_user()[0] == 0:
            command.append("--user=root")
        run_command(command, timeout=_INSTALL_LIMIT, package="mariadb-server")
        give_to(Path(directory), owner_of(Path(parent)), recursive=True)
        yield directory
    except CommandFailed as error:
        raise RestoreError(f"no data directory for a private server: {error}", hint=error.hint) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
