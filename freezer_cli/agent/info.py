"""The action ``info``: what the storages hold."""

from __future__ import annotations

from typing import Any

from freezer_cli.agent.outcome import PARTIAL, Outcome, table, time_stamp
from freezer_cli.agent.places import other_containers
from freezer_cli.agent.run import Run, in_each, series_name
from freezer_cli.agent.settings import Place
from freezer_cli.documents import backup_document
from freezer_cli.text import human_count, human_size, human_time
from freezer_sdk import Freezer
from freezer_sdk.errors import RepositoryNotFound
from freezer_sdk.model import Backup, RepositoryStats


def inform(run: Run) -> Outcome:
    """Lists size and backups of every storage; with ``--hostname`` and ``--backup-name`` only theirs.

    Raises:
        FreezerError: no storage can be read.
    """
    containers: list[dict[str, Any]] = []
    lines: list[str] = []

    def work(place: Place) -> None:
        where, stats, backups = _read(run, place)
        containers.append(_document(where, stats, backups))
        lines.extend(_lines(where, stats, backups))

    errors, _done = in_each(run, work, what="reading")
    document = {"action": "info", "containers": containers}
    return Outcome(document=document, lines=lines, exit_code=PARTIAL if errors else 0)


def _read(run: Run, place: Place) -> tuple[Place, RepositoryStats, list[Backup]]:
    candidates = (place, *other_containers(place))
    for each in candidates:
        try:
            with run.opened(each) as freezer:
                return each, freezer.stats(), _wanted(run, freezer)
        except RepositoryNotFound:
            if each is candidates[-1]:
                raise
    raise AssertionError("there is one candidate at least")


def _wanted(run: Run, freezer: Freezer) -> list[Backup]:
    settings = run.settings
    backups = sorted(freezer.backups(), key=lambda each: (series_name(each), each.time))
    if settings.name_given and settings.host_given:
        return [each for each in backups if series_name(each) in run.names]
    if settings.name_given:
        return [each for each in backups if series_name(each).endswith(f"_{settings.backup_name}")]
    if settings.host_given:
        return [each for each in backups if series_name(each).startswith(f"{settings.hostname}_")]
    return backups


def _document(place: Place, stats: RepositoryStats, backups: list[Backup]) -> dict[str, Any]:
    return {
        "container_name": place.container,
        "storage": place.storage,
        "size": stats.stored_bytes,
        "objects_count": stats.objects,
        "backups": [backup_document(each) | {"time_stamp": time_stamp(each)} for each in backups],
    }


def _lines(place: Place, stats: RepositoryStats, backups: list[Backup]) -> list[str]:
    whole = [(place.container, human_size(stats.stored_bytes), human_count(stats.objects))]
    rows = [
        (
            each.host,
            each.name,
            "" if each.level is None else str(each.level),
            human_time(each.time),
            human_size(each.stats.bytes) if each.stats.bytes else "",
            each.status.value,
        )
        for each in backups
    ]
    lines = table(("Container", "Size", "Object Count"), whole)
    return lines + table(("Host", "Backup name", "Level", "Date", "Size", "Status"), rows) if rows else lines
