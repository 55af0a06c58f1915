"""Restores: a data directory that a server can be started on, dumps as files, dumps into a running server."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from freezer_sdk.errors import CommandFailed, ConfigurationError, RestoreConflict, RestoreError
from freezer_sdk.files.datadir import give_to, make_data_directory
from freezer_sdk.files.datadir import owner_of as files_owner
from freezer_sdk.model import Entry, EntryType, PlannedAction, RestoreResult
from freezer_sdk.modes.base import SERVER, Restorer, recorded_facts
from freezer_sdk.modes.mysql.archive import CheckedArchive
from freezer_sdk.modes.mysql.checking import check_directory
from freezer_sdk.modes.mysql.datadir import account_for, check_target, in_use
from freezer_sdk.modes.mysql.dump import ACCOUNTS, ALL, stream_name
from freezer_sdk.modes.mysql.physical import STREAM, backup_program
from freezer_sdk.modes.mysql.replay import Replay
from freezer_sdk.modes.mysql.server import INTERNAL, Server, connected
from freezer_sdk.modes.mysql.settings import Settings, Strategy
from freezer_sdk.streams.command import run_command
from freezer_sdk.streams.feeding import feed_program

_PREPARE_LIMIT = 24 * 3600.0


def bring_back(restorer: Restorer, target: str, settings: Settings) -> RestoreResult:
    """See :meth:`MysqlMode.restore`.

    Raises:
        RestoreError, SourceError, ConfigurationError, PluginUnavailable.
    """
    facts = recorded_facts(restorer, "mysql")
    strategy = facts.get("strategy")
    if strategy == Strategy.DUMP:
        if settings.start_check:
            raise ConfigurationError("start_check is for data directories; a drill checks dumps in a private server")
        return _replay(restorer, settings) if target == SERVER else restorer.files(target)
    if strategy not in (Strategy.SNAPSHOT, Strategy.PHYSICAL):
        raise ConfigurationError(
            f"backup {restorer.backup.short_id} was not made by this version of mode mysql",
            hint="--mode fs brings it back as plain files",
        )
    _check_choice(restorer, target)
    check_target(target, restorer.options)
    bring = _directory if strategy == Strategy.SNAPSHOT else _archive
    result = bring(restorer, target, facts)
    if settings.start_check and not restorer.options.dry_run and not any(each.fatal for each in result.problems):
        return replace(result, facts={"start_check": check_directory(target, facts, (), settings)})
    return result


def _check_choice(restorer: Restorer, target: str) -> None:
    options = restorer.options
    if options.paths or options.include or options.exclude:
        raise ConfigurationError(
            "a data directory is restored whole: parts of it are of no use to a server",
            hint="--mode fs brings back single files",
        )
    if target == SERVER:
        raise ConfigurationError(
            "a data directory cannot be restored into a running server", hint="name a folder as the target"
        )


def _directory(restorer: Restorer, target: str, facts: Mapping[str, Any]) -> RestoreResult:
    return restorer.files(target, root=restorer.backup.paths[0])


def _archive(restorer: Restorer, target: str, facts: Mapping[str, Any]) -> RestoreResult:
    """Unpacks and prepares beside what is there, and puts it in place when it is whole."""
    options = restorer.options
    entry = next(each for each in restorer.entries() if each.path == os.fsencode("/" + STREAM))
    empty = RestoreResult(backup=restorer.backup.id, target=target)
    if entry.incomplete:
        raise RestoreError(f"backup {restorer.backup.short_id} holds only a part of the stream of mariadb-backup")
    if options.dry_run:
        plan = PlannedAction(action="create", path=entry.path, size=entry.size)
        return replace(empty, plan=(plan,))
    program, began = backup_program(), time.monotonic()
    with _scratch(target) as scratch:
        with restorer.stream(STREAM) as reader:
            feed_program(
                ["mbstream", "-x", "-C", scratch],
                CheckedArchive(reader),
                name=STREAM,
                package="mariadb-backup",
                progress=lambda size: restorer.progress(size=size),
            )
        try:
            run_command([program, "--no-defaults", "--prepare", f"--target-dir={scratch}"], timeout=_PREPARE_LIMIT)
        except CommandFailed as error:
            raise RestoreError(f"the data directory could not be made ready for a server: {error}") from error
        files, directories, size = _put_in_place(scratch, target, facts, restorer)
    return replace(empty, files=files, directories=directories, bytes=size, duration=round(time.monotonic() - began, 3))


@contextmanager
def _scratch(target: str) -> Iterator[str]:
    make_data_directory(Path(target))
    scratch = tempfile.mkdtemp(prefix=".freezer-restore-", dir=target)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _put_in_place(scratch: str, target: str, facts: Mapping[str, Any], restorer: Restorer) -> tuple[int, int, int]:
    """Gives the files to the server's user and moves them up; what was there before is removed first."""
    owner, account = dict(facts.get("owner") or {}), None
    if restorer.options.owner is not False:
        account = account_for(owner, numeric=restorer.options.numeric_owner)
        give_to(Path(scratch), account, recursive=True)
    counted = _counted(scratch)
    if in_use(target):  # somebody started it meanwhile
        raise RestoreConflict(f"a database server runs on {target}", hint="stop it first, or choose another folder")
    for name in sorted(set(os.listdir(target)) - {os.path.basename(scratch), "lost+found"}):
        _remove(os.path.join(target, name))
    for name in os.listdir(scratch):
        os.rename(os.path.join(scratch, name), os.path.join(target, name))
    give_to(Path(target), account or files_owner(Path(target)), mode=int(owner.get("mode", 0o700)) & 0o777)
    return counted


def _counted(folder: str) -> tuple[int, int, int]:
    """Files, directories and bytes below."""
    files, directories, size = 0, 0, 0
    for place, names, others in os.walk(folder):
        directories += len(names)
        files += len(others)
        size += sum(os.lstat(os.path.join(place, name)).st_size for name in others)
    return files, directories, size


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _replay(restorer: Restorer, settings: Settings) -> RestoreResult:
    """Replays dumps into the running server: databases first, then who may use them."""
    began = time.monotonic()
    entries = _dumps(restorer)
    empty = RestoreResult(backup=restorer.backup.id, target=SERVER)
    login = settings.login
    with connected(login) as server:
        if not restorer.options.force:
            _check_free(server, [each for each in entries if each.path != os.fsencode("/" + ACCOUNTS)])
        mariadb = server.mariadb
    if restorer.options.dry_run:
        plan = [PlannedAction(action="create", path=each.path, size=each.size) for each in entries]
        return replace(empty, plan=tuple(plan))
    done: list[str] = []
    with Replay.into(login, mariadb=mariadb) as replay:
        for entry in entries:
            name = os.fsdecode(entry.path[1:])
            try:
                with restorer.stream(name) as reader:
                    replay.run(reader, name=name, progress=lambda size: restorer.progress(size=size))
            except CommandFailed as error:
                whole = ", ".join(done) or "none"
                raise RestoreError(f"{error}", hint=f"replayed before: {whole}; {name} is there in part") from error
            done.append(name)
    size = sum(each.size for each in entries)
    return replace(empty, files=len(entries), bytes=size, duration=round(time.monotonic() - began, 3))


def _dumps(restorer: Restorer) -> list[Entry]:
    """The chosen dumps; accounts last, because grants name databases and tables.

    Raises:
        RestoreError: none is chosen, or one was not read whole.
    """
    options = restorer.options
    if options.include or options.exclude:
        raise ConfigurationError("choose dumps by their paths, for example --path /shop.sql")
    wanted = {os.fsdecode(path).lstrip("/") for path in options.paths}
    entries = [each for each in restorer.entries() if each.type is EntryType.FILE]
    there = {os.fsdecode(each.path[1:]) for each in entries}
    if wanted - there:
        raise RestoreError(f"the backup has no {', '.join(sorted(wanted - there))}; it has {', '.join(sorted(there))}")
    chosen = [each for each in entries if not wanted or os.fsdecode(each.path[1:]) in wanted]
    part = [os.fsdecode(each.path[1:]) for each in chosen if each.incomplete]
    if part:
        raise RestoreError(f"not dumped whole: {', '.join(part)}", hint="choose the others by --path")
    return sorted(chosen, key=lambda each: (each.path == os.fsencode("/" + ACCOUNTS), each.path))


def _check_free(server: Server, entries: Sequence[Entry]) -> None:
    """Whether no table is there that a dump would replace."""
    names = {os.fsdecode(each.path[1:]) for each in entries}
    rows = server.rows("SELECT DISTINCT TABLE_SCHEMA AS d FROM information_schema.TABLES")
    databases = {row["d"] for row in rows}
    # those of the server itself are in the way only when the dump has them
    taken = [each for each in databases if stream_name(each) in names or (ALL in names and each not in INTERNAL)]
    if taken:
        raise RestoreConflict(
            f"the server has tables in {', '.join(sorted(taken))}, and the dump would replace those of the same name",
            hint="drop or rename these databases first, or allow it by --force (force=True)",
        )
