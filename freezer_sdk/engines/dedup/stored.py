"""Configurations and slots as they lie in a storage: first place, second place, each listed and read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup import documents, slots, unlisted
from freezer_sdk.engines.dedup.config import COPIES
from freezer_sdk.engines.dedup.slots import SlotObject, decode_slot
from freezer_sdk.errors import IntegrityError, UnsupportedFormat
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import Storage


class Place(NamedTuple):
    """What one place holds.

    Attributes:
        raw: ``None`` when there is nothing that could be valid.
    """

    name: str
    raw: bytes | None


class Stored:
    """One look at a storage. Nothing in it is trusted yet.

    Attributes:
        storage: that is looked at.
        problems: what was found damaged so far.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = self._storage = storage
        self._read: dict[str, Place] = {}
        # no cached_property: before Python 3.12 all repositories share its lock, also while a storage is waited for
        self._listed: dict[str, frozenset[str]] = {}
        self._stored_at: dict[str, datetime] = {}
        self._decoded: dict[str, SlotObject] | None = None
        self._numbers: frozenset[int] | None = None
        self.problems: list[Problem] = []

    @property
    def numbers(self) -> frozenset[int]:
        """Numbers of the configurations that lie in one of their places.

        The numbers follow each other, so what a listing lacks can be asked for: an older configuration would be taken
        for the newest, and a repository for none.

        Raises:
            StorageError.
        """
        if self._numbers is None:
            names = self._configs | self._copies
            numbers = {number for number in map(configs.number_of, names) if number is not None}
            while self._is_there(following := max(numbers, default=0) + 1, either=not numbers):
                unlisted.warn(self._storage, configs.name_of(following))
                numbers.add(following)
            self._numbers = frozenset(numbers)
        return self._numbers

    @property
    def lacking(self) -> frozenset[str]:
        """Names that nothing is stored under though the other of the two places has it.

        Raises:
            StorageError.
        """
        first = self._configs | self._slots
        known = {name for name in first | self._copies if configs.number_of(name) is not None or slots.is_name(name)}
        return frozenset({COPIES + name for name in known - self._copies} | (known - first))

    @property
    def slots(self) -> tuple[SlotObject, ...]:
        """All slots that lie undamaged in one of their places, the oldest objects first.

        Whoever can add objects can add any number of slots: they come after those that were there before.

        Raises:
            StorageError.
        """
        return tuple(self.named_slots.values())

    @property
    def named_slots(self) -> Mapping[str, SlotObject]:
        """The same by name, ``keys/<sha256>``.

        Raises:
            StorageError.
        """
        if self._decoded is None:
            self._decoded = dict(self._decode())
        return self._decoded

    def _age(self, name: str) -> tuple[datetime, str]:
        """When it was stored first, by the storage's clock."""
        places = (self._stored_at[place] for place in (name, COPIES + name) if place in self._stored_at)
        return min(places), name

    def _decode(self) -> Iterator[tuple[str, SlotObject]]:
        total = 0
        for name in sorted(filter(slots.is_name, self._slots | self._copies), key=self._age):
            raw = self._intact(name)
            total += len(raw)
            if total > slots.MAX_TOTAL:
                self.damaged(name, "there are more slots than there can be; this one and others were passed over")
                break
            try:
                if raw:
                    yield name, decode_slot(raw)
            except (IntegrityError, UnsupportedFormat) as error:
                self.damaged(name, error.message)

    def config(self, number: int) -> Iterator[Place]:
        """The two places of a configuration; the second is read only when the caller goes on.

        Raises:
            StorageError.
        """
        name = configs.name_of(number)
        for place in (name, COPIES + name):
            if place not in self._read:
                self._read[place] = Place(place, self._bounded(place, configs.MAX_SIZE))
            yield self._read[place]

    def _is_there(self, number: int, *, either: bool) -> bool:
        places = self.config(number)
        return next(places).raw is not None or (either and next(places).raw is not None)

    def damaged(self, name: str, message: str) -> None:
        """Notes a problem that a second copy makes good."""
        problem = Problem(path=name, kind="damaged", message=message, fatal=False)
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def _configs(self) -> frozenset[str]:
        return self._names(configs.PREFIX)

    @property
    def _slots(self) -> frozenset[str]:
        return self._names(slots.PREFIX)

    @property
    def _copies(self) -> frozenset[str]:
        return frozenset(name.removeprefix(COPIES) for name in self._names(COPIES))

    def _names(self, prefix: str) -> frozenset[str]:
        if prefix not in self._listed:
            infos = list(self._storage.list(prefix))
            self._stored_at.update((info.name, info.modified) for info in infos)
            self._listed[prefix] = frozenset(info.name for info in infos)
        return self._listed[prefix]

    def _intact(self, name: str) -> bytes:
        for place in (name, COPIES + name):
            raw = self._bounded(place, slots.MAX_SIZE)
            if raw is not None and slots.name_of(raw) == name:
                return raw
            self.damaged(place, "the slot is missing or damaged here")
        return b""

    def _bounded(self, name: str, limit: int) -> bytes | None:
        try:
            return documents.read_bounded(self._storage, name, limit)
        except IntegrityError:
            return None
