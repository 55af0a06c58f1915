"""When the storage got a backup first, in the words of a maintainer: a time that survives a copy of the storage.

Clocks of writers may be wrong or lie, and the storage's own times are lost when somebody copies the objects elsewhere.
So a maintainer who forgets backups by a policy writes down what the storage says of all that are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from freezer_sdk.engines.dedup.config import parse_time, time_text
from freezer_sdk.engines.dedup.documents import Fields
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import is_backup_id
from freezer_sdk.engines.dedup.records import Record, read_records, supersede, write_record
from freezer_sdk.errors import AccessDenied, IntegrityError
from freezer_sdk.model import Backup
from freezer_sdk.storages.base import Storage

KIND: Final = "seen"
"""What such records are about."""

_MOST: Final = 32  # records, before they are joined


@dataclass(frozen=True)
class FirstSeen:
    """What the records say.

    Attributes:
        times: by id of the backup.
        records: that it comes from.
    """

    times: Mapping[str, datetime]
    records: tuple[Record, ...]


def read_first_seen(storage: Storage, keys: KeyRing) -> FirstSeen:
    """Everything that maintainers have written down; of several times of one backup the first.

    Raises:
        StorageError.
    """
    times: dict[str, datetime] = {}
    records = tuple(read_records(storage, keys, KIND))
    for record in records:
        for backup, time in _times(record.facts).items():
            times[backup] = min(time, times.get(backup, time))
    return FirstSeen(times, records)


def write_first_seen(
    storage: Storage, keys: KeyRing, known: FirstSeen, times: Mapping[str, datetime], *, present: Collection[str]
) -> None:
    """Writes down what is new; many records become one.

    Args:
        times: of all backups.
        present: ids of all commits that the storage holds; what it says of others is dropped when records are joined.

    Raises:
        AccessDenied: the slot may not maintain.
        StorageError.
    """
    new = {backup: time for backup, time in times.items() if backup not in known.times}
    if not new:
        return
    if len(known.records) < _MOST:
        write_record(storage, keys, KIND, _facts(new))
        return
    kept = {backup: time for backup, time in known.times.items() if backup in present}
    try:
        supersede(storage, keys, KIND, _facts({**kept, **new}), known.records)
    except AccessDenied:  # a storage that lets nobody delete keeps them all
        return


def believed(backups: Iterable[Backup], storage: Storage, keys: KeyRing) -> list[Backup]:
    """The same, with the times of records where the storage's own are odd.

    Raises:
        StorageError.
    """
    found = list(backups)
    if all(each.plausible for each in found):
        return found
    times = read_first_seen(storage, keys).times
    return [each if each.plausible else replace(each, first_seen=times.get(each.id, each.first_seen)) for each in found]


def _facts(times: Mapping[str, datetime]) -> dict[str, dict[str, str]]:
    return {"backups": {backup: time_text(time) for backup, time in times.items()}}


def _times(facts: Fields) -> dict[str, datetime]:
    """What of a record can be used."""
    try:
        backups = facts.fields("backups")
        return {backup: parse_time(backups, backup) for backup in backups.rest() if is_backup_id(backup)}
    except IntegrityError:
        return {}
