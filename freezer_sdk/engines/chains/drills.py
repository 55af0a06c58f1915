"""Records of restore drills, each an object of its own below ``freezer-sdk/drills/``.

The object is JSON. Where there is a password it is sealed, so that nobody without it can claim a drill that never was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from typing import Final, NamedTuple

from freezer_sdk.crypto.sealed import MAGIC
from freezer_sdk.drill_model import Drill, DrillLog, drill_document, drill_of
from freezer_sdk.engines.chains.coding import NONE
from freezer_sdk.engines.chains.layout import OWN
from freezer_sdk.engines.chains.listing import Listing
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import IntegrityError, StorageError, UnsupportedFormat, WrongPassword
from freezer_sdk.model import Problem

PREFIX: Final = f"{OWN}/drills/"

_NAME: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{32}", re.ASCII)
_LIMIT: Final = 256 << 10
_KEPT: Final = 100  # drills of one host and name


class _Found(NamedTuple):
    name: str
    drill: Drill


class ChainDrills:
    """See :class:`~freezer_sdk.services.base.DrillService`."""

    def __init__(self, store: Store, listing: Listing) -> None:
        self._store, self._storage, self._listing = store, store.storage, listing

    def require(self) -> None:
        """Whoever may write to the storage may record a drill."""

    def write(self, drill: Drill) -> Drill:
        """Stores a record; of very many the oldest go.

        Raises:
            WrongPassword, StorageError.
        """
        unsigned = replace(drill, signer=None)
        name = f"{PREFIX}{drill.started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{drill.id}"
        data = json.dumps({"version": 1, **drill_document(unsigned)}).encode()
        if self._encrypted or drill.backup in self._sealed_backups():
            sealer = self._store.keys.seal().sealer(_context(name))
            data = sealer.update(data) + sealer.finalize()
        self._storage.put(name, [data])
        self._storage.flush()
        with suppress(StorageError):  # the next one does it
            same = [each for each in self._read([]) if (each.drill.host, each.drill.name) == (drill.host, drill.name)]
            for each in sorted(same, key=_age)[:-_KEPT]:
                self._storage.delete(each.name)
        return unsigned

    def read(self) -> DrillLog:
        """All records, the oldest first; in a store with a password those that were written with it.

        Raises:
            WrongPassword: no backup can be listed.
            StorageError.
        """
        problems: list[Problem] = []
        found = sorted(self._read(problems), key=_age)
        return DrillLog(drills=tuple(each.drill for each in found), problems=tuple(problems))

    def _read(self, problems: list[Problem]) -> Iterator[_Found]:
        """All that can be read: whoever may write to the storage can leave anything beside it."""
        sealed = frozenset[str]() if self._encrypted else self._sealed_backups()
        for info in self._storage.list(PREFIX):
            if not _NAME.fullmatch(info.name.removeprefix(PREFIX)):
                continue
            try:
                yield _Found(info.name, self._parse(info.name, sealed))
            except WrongPassword as error:
                problems.append(Problem(path=info.name, kind="locked", message=error.message, fatal=False))
            except (IntegrityError, UnsupportedFormat) as error:
                problems.append(Problem(path=info.name, kind="damaged", message=error.message, fatal=False))

    def _parse(self, name: str, sealed_backups: Collection[str]) -> Drill:
        data = self._store.coding.small(name, limit=_LIMIT)
        if data is None:
            raise IntegrityError("it has vanished")
        sealed = data.startswith(MAGIC)
        if sealed:
            opener = self._store.keys.seal().opener(_context(name))
            data = opener.update(data) + opener.finalize()
        try:
            drill = drill_of(json.loads(data))
        except (ValueError, AttributeError, RecursionError):
            raise IntegrityError("it is no record of a drill that this version understands") from None
        if not name.endswith(drill.id):
            raise IntegrityError("it does not belong to its name")
        if not sealed and (self._encrypted or drill.backup in sealed_backups):
            raise IntegrityError("anybody could have written it: it is not sealed with the password of the store")
        return replace(drill, signer=None)

    @property
    def _encrypted(self) -> bool:
        marker = self._store.marker
        return marker is not None and marker.cipher != NONE

    def _sealed_backups(self) -> frozenset[str]:
        return frozenset(each.backup.id for each in self._listing.read() if each.level.sealed)


def _age(found: _Found) -> tuple[object, str]:
    return found.drill.started, found.drill.id


def _context(name: str) -> bytes:
    return f"freezer-sdk {name}".encode()
