"""The action ``backup``."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from freezer_cli.agent.admin import remove_from
from freezer_cli.agent.consistency import checksum
from freezer_cli.agent.consistent import DATABASES, live_path, mode_options, snapshot_request
from freezer_cli.agent.outcome import PARTIAL, Outcome, Stored, backup_document, property_table
from freezer_cli.agent.run import Run
from freezer_cli.agent.settings import Place
from freezer_sdk import Freezer, FreezerGroup, Target
from freezer_sdk.errors import ConfigurationError, FreezerError, RepositoryNotFound
from freezer_sdk.model import Status

LOG = logging.getLogger("freezer")


def back_up(run: Run) -> Outcome:
    """Stores the path in every storage, then removes old backups if that was asked for.

    Raises:
        ConfigurationError: there is no path.
        FreezerError: no storage has the backup.
    """
    settings = run.settings
    path = live_path(settings)
    if path is None and settings.mode not in DATABASES:  # a database knows where its data are
        raise ConfigurationError("--path-to-backup is missing: what is to be backed up?")
    if path is not None:
        _warn_of_itself(path, settings.places)
    found = None
    if settings.consistency_check and path is not None:
        found = checksum(path, follow=settings.follow in ("soft", "all"), exclude=settings.exclude)
    with ExitStack() as stack:
        targets = [_target(run, place, stack) for place in settings.places]
        if len(targets) == 1:
            stored, freezers = _in_one(run, targets[0], stack, path)
        else:
            stored, freezers = _in_several(run, targets, stack, path)
        document = backup_document(settings, stored, checksum=found)
        code = 0 if document["status"] == Status.COMPLETE else PARTIAL
        if settings.removal is not None and not _only_in_memory(freezers):
            code = max(code, _remove(run, freezers))
    return Outcome(document=document, lines=property_table(document), exit_code=code)


def _target(run: Run, place: Place, stack: ExitStack) -> Target | Freezer:
    """How a storage takes part; in a dry run, one without backups is represented by an empty one in memory."""
    if not run.settings.dry_run:
        return run.opener.target(place, create=True)
    target = run.opener.target(place)
    try:
        return stack.enter_context(target.open(run.events))
    except RepositoryNotFound:
        return stack.enter_context(run.opener.scratch().open(run.events))
    except FreezerError:
        return target  # fails again, and is reported with the others


def _in_one(
    run: Run, target: Target | Freezer, stack: ExitStack, path: str | None
) -> tuple[list[Stored], list[Freezer]]:
    freezer = target if isinstance(target, Freezer) else stack.enter_context(target.open(run.events))
    backup = freezer.backup(**_request(run, path), events=run.events, cancel=run.cancel)
    return [Stored(place=run.settings.places[0], backup=backup)], [freezer]


def _in_several(
    run: Run, targets: list[Target | Freezer], stack: ExitStack, path: str | None
) -> tuple[list[Stored], list[Freezer]]:
    group = stack.enter_context(FreezerGroup(targets, events=run.events))
    result = group.backup(**_request(run, path), events=run.events, cancel=run.cancel)
    stored = [
        Stored(place=place, backup=each.backup, error=each.error)
        for place, each in zip(run.settings.places, result.targets, strict=True)
    ]
    return stored, list(group.freezers.values())


def _request(run: Run, path: str | None) -> dict[str, Any]:
    settings = run.settings
    roots = []
    if path is not None and settings.mode not in DATABASES:
        # what a directory is reached by is no affair of the backup
        roots = [path + "/" if os.path.islink(path) and os.path.isdir(path) else path]
    excludes = [settings.exclude] if settings.exclude and not run.opener.excludes else []
    return {
        "paths": roots,
        "name": settings.backup_name,
        "host": settings.hostname,
        "mode": settings.mode,
        "mode_options": mode_options(settings, path),
        "excludes": excludes,
        "dry_run": settings.dry_run,
        **snapshot_request(settings),
    }


def _remove(run: Run, freezers: list[Freezer]) -> int:
    code = 0
    for freezer in freezers:
        try:
            remove_from(run, freezer, run.series(freezer))
        except FreezerError as error:
            LOG.error("%s: the backup was made; removing old ones failed: %s", freezer.location, error.message)
            code = PARTIAL
    return code


def _only_in_memory(freezers: list[Freezer]) -> bool:
    return all(freezer.location.startswith("memory:") for freezer in freezers)


def _warn_of_itself(path: str, places: tuple[Place, ...]) -> None:
    """A backup stays on its file system, so only a container there goes into it."""
    source = Path(path).resolve()
    for place in places:
        if place.storage != "local":
            continue
        container = Path(place.container).expanduser().resolve()
        there = next(each for each in (container, *container.parents) if each.exists())
        if container.is_relative_to(source) and there.stat().st_dev == source.stat().st_dev:
            LOG.warning("%s lies inside %s: backups contain the ones before; --exclude leaves it out", container, path)
