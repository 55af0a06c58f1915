"""The action ``restore``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence

from freezer_cli.agent.admin import remove_from
from freezer_cli.agent.consistency import check_restored
from freezer_cli.agent.outcome import PARTIAL, Outcome
from freezer_cli.agent.run import DETAILS, Run
from freezer_cli.agent.settings import Place, until
from freezer_cli.documents import restore_document
from freezer_cli.text import human_size, human_time, printable_path
from freezer_sdk.errors import BackupNotFound, Cancelled, ConfigurationError, FreezerError, RestoreConflict, UnsafePath
from freezer_sdk.model import Backup, Overwrite, RestoreResult, Status

LOG = logging.getLogger("freezer")


def restore(run: Run) -> Outcome:
    """Brings the last backup, or that of a date, back from the first storage that can give it.

    Raises:
        ConfigurationError: there is no target.
        FreezerError: no storage can give it.
    """
    settings = run.settings
    if settings.target is None:
        raise ConfigurationError("--restore-abs-path is missing: where to?")
    if settings.at is not None:
        LOG.info("restoring what was backed up until %s", settings.at)
    first: FreezerError | None = None
    for place in settings.places:
        try:
            return _restore_from(run, place, settings.target)
        except (Cancelled, RestoreConflict, UnsafePath, ConfigurationError):
            raise
        except FreezerError as error:
            first = first or error
            if len(settings.places) > 1:
                LOG.error("%s: %s", place.title, error.message)
    assert first is not None
    raise first


def _restore_from(run: Run, place: Place, target: str) -> Outcome:
    settings = run.settings
    with run.with_series(place) as (freezer, backups):
        backup = _chosen(run, backups)
        DETAILS.info("backup %s of %s, level %s", backup.id, human_time(backup.time), backup.level)
        result = freezer.restore(
            backup.id,
            target,
            overwrite=Overwrite.ALWAYS if settings.overwrite else None,
            force=settings.overwrite,
            dry_run=settings.dry_run,
            events=run.events,
            cancel=run.cancel,
        )
        if settings.consistency_checksum and not settings.dry_run:
            check_restored(target, settings.consistency_checksum)
        if settings.removal is not None:
            remove_from(run, freezer, backups)
    document = {"action": "restore", "curr_backup_level": backup.level or 0, **restore_document(result)}
    code = PARTIAL if result.status is not Status.COMPLETE else 0
    return Outcome(document=document, lines=list(_plan(result)), exit_code=code)


def _chosen(run: Run, backups: Sequence[Backup]) -> Backup:
    """The newest backup, or the newest that was made until the date.

    Raises:
        BackupNotFound: all are younger; the message says which moment was looked for.
    """
    at = run.settings.at
    if at is None:
        return backups[-1]
    moment = until(at)
    found = [each for each in backups if each.time <= moment]
    if not found:
        raise BackupNotFound(
            f"no backup of {run.settings.backup_name} was made until {at}",
            hint=f"the first one is of {backups[0].time.astimezone().isoformat(sep=' ')}",
        )
    return found[-1]


def _plan(result: RestoreResult) -> Iterable[str]:
    """What a dry run would do."""
    for action in result.plan:
        size = f" ({human_size(action.size)})" if action.size else ""
        yield f"{action.action} {printable_path(os.fsencode(action.path))}{size}"
