"""Restores: a data directory that a server starts on, or dumps that a running server replays."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from freezer_sdk.errors import CommandFailed, ConfigurationError, RestoreConflict, RestoreError, UnsafePath
from freezer_sdk.files.datadir import check_data_directory, give_to, make_data_directory, owner_of
from freezer_sdk.model import PlannedAction, RestoreOptions, RestoreResult
from freezer_sdk.modes.base import SERVER, Restorer, recorded_facts
from freezer_sdk.modes.postgres.replay import Dumps, replay
from freezer_sdk.modes.postgres.settings import Settings, Strategy
from freezer_sdk.streams.feeding import feed_program

_LINKED = re.compile(r"pg_wal|pg_tblspc/[0-9]+", re.ASCII)
_PART = "; with mode fs any part of it can be restored"


def bring_back(restorer: Restorer, target: str, settings: Settings) -> RestoreResult:
    """See :meth:`PostgresMode.restore`.

    Raises:
        RestoreError, SourceError, ConfigurationError.
    """
    facts = recorded_facts(restorer, "postgres")
    if facts.get("strategy") == Strategy.DUMP:
        if settings.start_check:
            raise ConfigurationError("start_check is for data directories; a drill checks dumps in a private server")
        return _replayed(restorer, facts, settings) if target == SERVER else restorer.files(target)
    if target == SERVER:
        raise ConfigurationError("a data directory cannot be restored into a running server", hint="name a folder")
    options = restorer.options
    if options.paths or options.include or options.exclude:
        raise ConfigurationError(f"a part of a data directory is of no use to a server{_PART}")
    folder = Path(os.path.abspath(target))
    check_data_directory(folder, options)
    _check_unused(folder)
    began = time.monotonic()
    bring = _from_tree if facts.get("strategy") == Strategy.SNAPSHOT else _from_stream
    result = replace(bring(restorer, folder, facts), duration=time.monotonic() - began)
    if settings.start_check and not options.dry_run and not any(each.fatal for each in result.problems):
        from freezer_sdk.modes.postgres.checking import check_restored

        return replace(result, facts={"start_check": check_restored(str(folder), restorer.facts, (), settings)})
    return result


def _check_unused(folder: Path) -> None:
    with suppress(OSError, ValueError):
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
        if Path(f"/proc/{pid}").exists():
            raise RestoreConflict(f"a server (process {pid}) runs on {folder}", hint="stop it first")


def _place(folder: Path, name: str) -> Path:
    """Where the content of a link is put.

    Raises:
        UnsafePath: outside of the data directory, which only a forged backup asks for.
    """
    place = folder / name
    if _LINKED.fullmatch(name) is None or place.parent.is_symlink():
        raise UnsafePath(f"the backup would put a tablespace to {place}, which is no place of one")
    return place


def _from_tree(restorer: Restorer, folder: Path, facts: Mapping[str, Any]) -> RestoreResult:
    """The data directory; what its links led to lies in the links' places then, so that nothing leads outside."""
    for name in facts["linked"]:
        _place(folder, name)
    result = restorer.files(str(folder), root=facts["data_directory"])
    for name, path in facts["linked"].items():
        place = _place(folder, name)
        if not restorer.options.dry_run and place.is_symlink():
            place.unlink()
        more = restorer.files(str(place), root=path)
        result = replace(
            result,
            files=result.files + more.files,
            directories=result.directories + more.directories,
            others=result.others + more.others,
            bytes=result.bytes + more.bytes,
            problems=(*result.problems, *more.problems),
            plan=(*result.plan, *more.plan),
        )
    return result


def _from_stream(restorer: Restorer, folder: Path, facts: Mapping[str, Any]) -> RestoreResult:
    name = facts["stream"]
    options: RestoreOptions = restorer.options
    if options.delete:
        raise ConfigurationError("what pg_basebackup wrote can only be restored into an empty folder")
    result = RestoreResult(backup=restorer.backup.id, target=str(folder))
    if options.dry_run:
        return replace(result, plan=(PlannedAction(action="create", path=os.fsencode(folder)),))
    make_data_directory(folder)
    owned = os.geteuid() == 0 if options.owner is None else options.owner
    owners = ["--same-owner", *(["--numeric-owner"] if options.numeric_owner else [])] if owned else ["--no-same-owner"]
    try:
        with restorer.stream(name) as reader:
            size = feed_program(
                ["tar", "--extract", "--file=-", f"--directory={folder}", "--preserve-permissions", *owners],
                reader,
                name=name,
                package="tar",
                progress=lambda count: restorer.progress(size=count),
            )
        # the server refuses a directory that others may enter
        give_to(folder, owner_of(folder / "PG_VERSION"), mode=int(facts["directory_mode"], 8) & 0o750)
    except BaseException as error:
        _clear(folder)  # half a data directory must not be taken for a whole one
        if isinstance(error, CommandFailed):
            raise RestoreError(error.message, hint=error.hint) from error
        raise
    files = directories = 0
    for _, folders, names in os.walk(folder):
        files, directories = files + len(names), directories + len(folders)
    return replace(result, files=files, directories=directories, bytes=size)


def _clear(folder: Path) -> None:
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(entry.path)


def _replayed(restorer: Restorer, facts: Mapping[str, Any], settings: Settings) -> RestoreResult:
    streams = facts["streams"]
    chosen = settings.databases or tuple(streams)
    unknown = [name for name in chosen if name not in streams]
    if unknown:
        raise ConfigurationError(f"the backup has no database {unknown[0]!r}", hint=f"it has: {', '.join(streams)}")
    dumps = Dumps(
        open=restorer.stream,
        streams={name: streams[name] for name in chosen},
        roles=facts["roles"],
        progress=lambda size: restorer.progress(size=size),
    )
    began = time.monotonic()
    result = RestoreResult(backup=restorer.backup.id, target=SERVER)
    with settings.login.session() as session:
        options = restorer.options
        size = replay(session, dumps, force=options.force, dry_run=options.dry_run, timeout=settings.start_timeout)
    if options.dry_run:
        return replace(result, plan=tuple(PlannedAction(action="create", path=os.fsencode(name)) for name in chosen))
    return replace(result, files=len(chosen), bytes=size, duration=time.monotonic() - began)
