"""Whether a server can use what was restored: a private one is started on it, reads all tables, and is asked."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freezer_sdk.errors import CommandFailed, ConfigurationError, RestoreError, SourceError, SourceUnreadable
from freezer_sdk.files.datadir import give_to, owner_of
from freezer_sdk.model import JSON
from freezer_sdk.modes.postgres.connection import SERVER_PACKAGE, Login, Programs, Session
from freezer_sdk.modes.postgres.facts import databases
from freezer_sdk.modes.postgres.replay import Dumps, replay
from freezer_sdk.modes.postgres.settings import Settings, Strategy
from freezer_sdk.streams.command import run_command
from freezer_sdk.streams.server import private_folder, private_server

_PORT = "5432"  # no more than the name of a socket in a private folder
_QUERY = re.compile(r"(?s)([A-Za-z_][\w$-]*):\s(.+)")
_TABLES = """
SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'm') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
"""
_OF_THE_BACKED_UP_SERVER = {  # recovery needs room for as many as there were
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
_PRIVATE = {
    "listen_addresses": "",
    "archive_mode": "off",
    "archive_command": "",
    "archive_cleanup_command": "",
    "restore_command": "",
    "recovery_end_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "synchronous_standby_names": "",
    "external_pid_file": "",
    "hot_standby": "on",
    "jit": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "ssl": "off",
    "autovacuum": "off",
}
_SETTING = re.compile(r"(\S.*?):\s+(.*)")


def check_restored(target: str, facts: Mapping[str, Any], queries: Sequence[str], settings: Settings) -> JSON:
    """See :meth:`PostgresMode.verify_restored`.

    Raises:
        RestoreError, ConfigurationError.
    """
    known = facts.get("postgres")
    if not isinstance(known, Mapping):
        raise ConfigurationError("these are no facts of a backup made by mode postgres")
    programs = Programs(folder=settings.login.programs.folder, major=int(known["major"]))
    folder = Path(os.path.abspath(target))
    try:
        if known["strategy"] == Strategy.DUMP:
            with _replayed(folder, known, programs, settings) as session:
                return _asked(session, queries)
        _verify_manifest(folder, programs, settings)
        with _started(folder, known["superuser"], programs, settings) as session:
            return _asked(session, queries)
    except (CommandFailed, SourceError) as error:
        hint = error.hint or "the log above is the private server's; all folders above must let its user through"
        raise RestoreError(f"{folder} is of no use to PostgreSQL: {error.message}", hint=hint) from error


def _verify_manifest(folder: Path, programs: Programs, settings: Settings) -> None:
    """What ``pg_basebackup`` wrote has a list of its files with checksums, good until a server has started on it."""
    if (folder / "backup_manifest").exists() and (folder / "backup_label").exists():
        run_command(
            [programs.path("pg_verifybackup"), "--quiet", folder],
            timeout=settings.start_timeout,
            package=SERVER_PACKAGE,
        )


@contextmanager
def _started(folder: Path, superuser: str, programs: Programs, settings: Settings) -> Iterator[Session]:
    """A server on a data directory, which nobody else can reach."""
    owner = owner_of(folder / "PG_VERSION")
    if owner[0] == 0:
        raise ConfigurationError(f"{folder} belongs to root, and PostgreSQL never runs as root", hint="chown it")
    with private_folder(owner=owner) as home:
        (home / "postgresql.conf").touch()
        (home / "pg_hba.conf").write_text("local all all trust\n")
        (home / "pg_ident.conf").touch()
        wanted = {
            **_PRIVATE,
            **_recorded(folder, programs),
            "config_file": str(home / "postgresql.conf"),
            "hba_file": str(home / "pg_hba.conf"),
            "ident_file": str(home / "pg_ident.conf"),
            "unix_socket_directories": str(home),
        }
        arguments = [f"--{name}={value}" for name, value in wanted.items()]
        login = Login(
            parameters={"host": str(home), "port": _PORT, "user": superuser, "sslmode": "disable"},
            database=settings.login.database,
            timeout=settings.start_timeout,
            programs=programs,
        )
        (folder / "postmaster.pid").unlink(missing_ok=True)
        with (
            login.session() as session,
            private_server(
                [programs.path("postgres"), "-D", folder, "-p", _PORT, *arguments],
                ready=lambda: _answers(session),
                patience=settings.start_timeout,
                owner=owner,
                package=SERVER_PACKAGE,
            ),
        ):
            yield session


def _answers(session: Session) -> bool:
    try:
        return session.value("SELECT 1") == "1"
    except SourceUnreadable:
        return False


def _recorded(folder: Path, programs: Programs) -> dict[str, str]:
    """Settings of the server that wrote the data, from its control file."""
    said = run_command(
        [programs.path("pg_controldata"), "-D", folder], timeout=60, environment={"LC_ALL": "C"}, package=SERVER_PACKAGE
    )
    lines = {found[1]: found[2] for found in map(_SETTING.fullmatch, said.splitlines()) if found is not None}
    return {name: lines[line] for line, name in _OF_THE_BACKED_UP_SERVER.items() if line in lines}


def _asked(session: Session, queries: Sequence[str]) -> JSON:
    names = databases(session)
    tables = sum(int(session.rows(_TABLES, database=name)[0][0]) for name in names)
    size = 0
    buffer = memoryview(bytearray(1 << 20))
    with session.reader(session.command("pg_dumpall"), name="all tables") as reader:
        while count := reader.readinto(buffer):
            size += count
    answers = []
    for query in queries:
        found = _QUERY.fullmatch(query)
        rows = session.rows(found[2] if found else query, database=found[1] if found else None)
        if not rows:
            raise SourceUnreadable(f"no row answers the query {query!r}")
        answers.append(rows)
    version = session.value("SHOW server_version")
    return {"server": version, "databases": len(names), "tables": tables, "read": size, "queries": answers}


@contextmanager
def _replayed(folder: Path, known: Mapping[str, Any], programs: Programs, settings: Settings) -> Iterator[Session]:
    """A server on a new data directory, with the dumps that lie in a folder."""
    owner = _account(settings.account)
    place = Path(tempfile.mkdtemp(prefix=".freezer-check-", dir=folder))
    try:
        give_to(place, owner)
        data = place / "data"
        drop = ["setpriv", f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups", "--"]
        initdb = ["initdb", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        run_command(
            [
                *(drop if os.geteuid() == 0 else ()),
                programs.path(initdb[0]),
                *initdb[1:],
                f"--username={known['superuser']}",
                f"--pgdata={data}",
            ],
            timeout=settings.start_timeout,
            package=SERVER_PACKAGE,
        )
        with _started(data, known["superuser"], programs, settings) as session:
            dumps = Dumps(
                open=lambda name: (folder / name).open("rb"),
                streams=known["streams"],
                roles=known["roles"],
            )
            replay(session, dumps, force=False, dry_run=False, timeout=settings.start_timeout)
            yield session
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _account(name: str) -> tuple[int, int]:
    import pwd  # not on every platform

    if os.geteuid():
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(f"there is no system user {name!r}", hint="option account names another one") from None
    return entry.pw_uid, entry.pw_gid
