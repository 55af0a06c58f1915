"""The action ``admin``: removing old backups."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from freezer_cli.agent.outcome import PARTIAL, Outcome, time_stamp
from freezer_cli.agent.run import DETAILS, Run, in_each, series_name
from freezer_cli.agent.settings import Place
from freezer_cli.documents import plain
from freezer_cli.text import human_time
from freezer_sdk import Freezer, RetentionPolicy
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import Backup

LOG = logging.getLogger("freezer")


def administrate(run: Run) -> Outcome:
    """Removes old backups of the series from every storage.

    Raises:
        ConfigurationError: nothing says what is old.
        FreezerError: nothing could be removed from any storage.
    """
    if run.settings.removal is None:
        raise ConfigurationError(
            "what is to be removed?", hint="--remove-older-than DAYS or --remove-before-date DATE says it"
        )
    removed: list[dict[str, Any]] = []

    def work(place: Place) -> None:
        with run.with_series(place) as (freezer, backups):
            gone = remove_from(run, freezer, backups)
        removed.extend({"storage": place.storage, "container": place.container, **_document(each)} for each in gone)

    errors, _done = in_each(run, work, what="removing old backups")
    document = {"action": "admin", "dry_run": run.settings.dry_run, "removed": removed}
    return Outcome(document=document, exit_code=PARTIAL if errors else 0)


def remove_from(run: Run, freezer: Freezer, backups: Sequence[Backup]) -> list[Backup]:
    """Removes what is old, except what a younger backup needs, and the newest.

    Args:
        run: whose settings say what is old.
        freezer: the storage.
        backups: the series.

    Returns:
        What was removed; in a dry run, what would be.

    Raises:
        FreezerError: the storage refuses.
    """
    removal, dry_run = run.settings.removal, run.settings.dry_run
    assert removal is not None
    policy = RetentionPolicy(
        older_than=removal.older_than,
        before=None if removal.before is None else removal.before.moment,
        group_by=("host", "name"),
        floor=timedelta(0),
        max_share=1.0,
    )
    if removal.before is not None:
        LOG.info("removing what was backed up before %s", removal.before)
    gone: list[Backup] = []
    for host, name in dict.fromkeys((each.host, each.name) for each in backups):
        plan = freezer.retention.apply(
            policy, name=name, host=host, dry_run=dry_run, force=True, events=run.events, cancel=run.cancel
        )
        gone += plan.forgotten
    for backup in gone:
        told = LOG if dry_run else DETAILS
        verb = "would be removed" if dry_run else "removed"
        told.info("%s: %s of %s, level %s", verb, series_name(backup), human_time(backup.time), backup.level)
    return gone


def _document(backup: Backup) -> dict[str, Any]:
    return {
        "id": backup.id,
        "hostname": plain(backup.host),
        "backup_name": plain(backup.name),
        "curr_backup_level": backup.level,
        "time_stamp": time_stamp(backup),
    }
