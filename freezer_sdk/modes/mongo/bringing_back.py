"""Restores: a data directory that a server starts on, or a dump that a running server takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freezer_sdk.errors import CommandFailed, ConfigurationError, RestoreConflict, RestoreError
from freezer_sdk.files.datadir import check_data_directory
from freezer_sdk.model import PlannedAction, RestoreResult
from freezer_sdk.modes.base import SERVER, Restorer, recorded_facts
from freezer_sdk.modes.mongo.dump import TOOLS
from freezer_sdk.modes.mongo.login import Login
from freezer_sdk.modes.mongo.settings import Settings, Strategy
from freezer_sdk.streams.command import find_program
from freezer_sdk.streams.feeding import feed_program

OWN_DATABASES = ("admin", "config", "local")


def bring_back(restorer: Restorer, target: str, settings: Settings) -> RestoreResult:
    """See :meth:`MongoMode.restore`.

    Raises:
        RestoreError, SourceError, ConfigurationError.
    """
    facts = recorded_facts(restorer, "mongo")
    if facts.get("strategy") == Strategy.DUMP:
        if settings.start_check:
            raise ConfigurationError("start_check is for data directories; a drill checks dumps in a private server")
        return _replayed(restorer, facts, settings) if target == SERVER else restorer.files(target)
    if target == SERVER:
        raise ConfigurationError("a data directory cannot be restored into a running server", hint="name a folder")
    options = restorer.options
    if options.paths or options.include or options.exclude:
        raise ConfigurationError(
            "a part of a data directory is of no use to a server; with mode fs any part of it can be restored"
        )
    folder = Path(os.path.abspath(target))
    check_data_directory(folder, options)
    _check_unused(folder)
    result = restorer.files(str(folder), root=facts["data_path"])
    if settings.start_check and not options.dry_run and not any(each.fatal for each in result.problems):
        from freezer_sdk.modes.mongo.checking import check_restored

        return replace(result, facts={"start_check": check_restored(str(folder), restorer.facts, (), settings)})
    return result


def _check_unused(folder: Path) -> None:
    with suppress(OSError, ValueError):
        pid = int((folder / "mongod.lock").read_text())
        if Path(f"/proc/{pid}").exists():
            raise RestoreConflict(f"a server (process {pid}) runs on {folder}", hint="stop it first")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A dump that can be read, and whether it has an oplog of its own time."""

    open: Callable[[], AbstractContextManager[Any]]
    name: str
    oplog: bool
    progress: Callable[[int], None] | None = None

    def replay(self, login: Login, *, drop: bool = False) -> int:
        """Has a running server take it; how many bytes that took.

        Raises:
            RestoreError: the server refuses.
            ConfigurationError: ``mongorestore`` is not installed.
        """
        if find_program("mongorestore") is None:
            raise ConfigurationError("the program 'mongorestore' is missing", hint=TOOLS)
        how = [*(["--oplogReplay"] if self.oplog else []), *(["--drop"] if drop else [])]
        with login.tool_options() as (options, descriptors), self.open() as reader:
            try:
                return feed_program(
                    ["mongorestore", *options, "--archive", "--stopOnError", *how],
                    reader,
                    name=self.name,
                    secrets=login.secrets,
                    descriptors=descriptors,
                    progress=self.progress,
                )
            except CommandFailed as error:
                raise RestoreError(error.message, hint=error.hint) from error


def _replayed(restorer: Restorer, facts: Mapping[str, Any], settings: Settings) -> RestoreResult:
    force, began = restorer.options.force, time.monotonic()
    with settings.login.connected() as client:
        filled = sorted(set(client.list_database_names()) - set(OWN_DATABASES))
    if filled and not force:
        raise RestoreConflict(
            f"the server holds databases already: {', '.join(filled)}",
            hint="choose an empty server; --force replaces the collections that the dump has",
        )
    result = RestoreResult(backup=restorer.backup.id, target=SERVER)
    if restorer.options.dry_run:
        return replace(result, plan=(PlannedAction(action="create", path=facts["stream"].encode()),))
    archive = Archive(
        open=lambda: restorer.stream(facts["stream"]),
        name=facts["stream"],
        oplog=facts["oplog_in_dump"],
        progress=lambda size: restorer.progress(size=size),
    )
    size = archive.replay(settings.login, drop=force)
    return replace(result, files=1, bytes=size, duration=time.monotonic() - began)
