"""Records of restore drills, signed by the maintainer who made them (repository-format, "Records")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from freezer_sdk.drill_model import Drill, DrillLog, drill_document, drill_of
from freezer_sdk.engines.dedup.documents import MAX_NUMBER
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.opening import Reported
from freezer_sdk.engines.dedup.records import Record, read_records, supersede, write_record
from freezer_sdk.errors import AccessDenied, StorageError
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import Storage

KIND: Final = "drill"
"""What such records are about."""

_MOST: Final = 32  # records of their own, before they are joined
_KEPT: Final = 100  # drills of one host and name that are kept when they are


class DrillRecords:
    """See :class:`~freezer_sdk.services.base.DrillService`."""

    def __init__(self, storage: Storage, keys: KeyRing) -> None:
        self._storage, self._keys = storage, keys

    def require(self) -> None:
        """Refuses to begin what could not be written down.

        Raises:
            AccessDenied: the slot may not maintain.
            UnsupportedFormat: a newer program is needed for that.
        """
        self._keys.require_role(Role.MAINTAINER)
        self._keys.require("maintain")

    def write(self, drill: Drill) -> Drill:
        """Stores and signs a record; of many records one is made.

        Raises:
            AccessDenied: the slot may not maintain.
            StorageError.
        """
        self.require()
        signed = replace(drill, signer=self._keys.slot_id.hex())
        write_record(self._storage, self._keys, KIND, _facts([signed]), secrecy="data")
        self._storage.flush()
        with suppress(AccessDenied, StorageError):  # it is stored; the next one joins them
            self._join()
        return signed

    def _join(self) -> None:
        """Makes one record of many. Where nothing can be deleted that is done as rarely, so that not much is added."""
        records = [each for each in read_records(self._storage, self._keys, KIND) if _understood(each)]
        drills = [_of_record(record, []) for record in records]
        longest = {drill.id for drill in max(drills, key=len, default=[])}
        if sum(drill.id not in longest for each in drills for drill in each) >= _MOST:
            supersede(self._storage, self._keys, KIND, _facts(_newest(records)), records, secrecy="data")

    def read(self) -> DrillLog:
        """All drills that maintainers have signed for, the oldest first.

        Raises:
            AccessDenied: only readers know.
            StorageError.
        """
        self._keys.require_role(Role.READER)
        problems: list[Problem] = []
        records = read_records(self._storage, self._keys, KIND, problems=problems)
        return DrillLog(drills=tuple(_drills(records, problems)), problems=tuple(problems))


def _newest(records: Iterable[Record]) -> Iterator[Drill]:
    """Of each host and name the last ones."""
    series: defaultdict[tuple[str, str], list[Drill]] = defaultdict(list)
    for drill in _drills(records, []):
        series[drill.host, drill.name].append(drill)
    return (drill for drills in series.values() for drill in drills[-_KEPT:])


def _drills(records: Iterable[Record], problems: list[Problem]) -> list[Drill]:
    """Each drill once: while records are joined, it is in two of them."""
    found: dict[str, Drill] = {}
    for record in records:
        for drill in _of_record(record, problems):
            found.setdefault(drill.id, drill)
    return sorted(found.values(), key=lambda drill: (drill.started, drill.id))


def _of_record(record: Record, problems: list[Problem]) -> list[Drill]:
    found: list[Drill] = []
    with Reported(record.name, problems):
        for fields in record.facts.objects("drills", limit=MAX_NUMBER):
            with Reported(record.name, problems):
                drill = drill_of(fields.rest())
                if drill.signer is None:
                    fields.fail("slot")
                found.append(drill)
    return found


def _understood(record: Record) -> bool:
    """Whether another record can say all that it says: a newer program may have said more."""
    return record.facts.rest() == _facts(_of_record(record, []))


def _facts(drills: Iterable[Drill]) -> Mapping[str, Any]:
    return {"drills": [drill_document(drill) for drill in drills]}
