"""Marks, sweeps and tombstones, as writers and readers need them (repository-format, "Control objects").

What is forged, damaged or signed by somebody who may not is passed over and reported, never obeyed. Marking and
sweeping as a whole is maintenance; the functions here only write their objects.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from freezer_sdk.engines.dedup import control
from freezer_sdk.engines.dedup.config import parse_time, time_text
from freezer_sdk.engines.dedup.documents import MAX_NUMBER, Fields
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.opening import Reported, open_all
from freezer_sdk.engines.dedup.unlisted import find_object
from freezer_sdk.errors import ObjectExists
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import Storage

MARKS: Final = "marks/"
SWEEPS: Final = "sweeps/"
FORGOTTEN: Final = "forgotten/"
MARK, ANNOUNCEMENT, DECISION, TOMBSTONE = "mark", "announcement", "decision", "tombstone"

_MARK = re.compile(r"marks/[0-9a-f]{32}\Z")
_SWEEP = re.compile(r"sweeps/(\d{16})/(announced|decided)-[0-9a-f]{32}\Z")
_TOMBSTONE = re.compile(r"forgotten/([0-9a-f]{32})\Z")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Packs that a maintainer intends to delete.

    Attributes:
        packs: ids, 32 bytes each.
        stored: by the storage's clock.
    """

    name: str
    generation: int
    packs: frozenset[bytes]
    created: datetime
    stored: datetime


@dataclass(frozen=True, kw_only=True)
class Marks:
    """All marks.

    Attributes:
        generation: the newest, 0 when there is none.
        condemned: packs in any mark: what lies only there must not be used again.
    """

    generation: int
    condemned: frozenset[bytes]
    marks: tuple[Mark, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a sweep decided.

    Attributes:
        condemned: ids of the packs that it deletes.
        alive, released: names of commit objects that it saw and keeps; and of those that it lets go.
        stored: by the storage's clock.
    """

    name: str
    generation: int
    condemned: frozenset[bytes]
    alive: frozenset[str]
    released: frozenset[str]
    stored: datetime


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """That a sweep begins.

    Attributes:
        stored: by the storage's clock.
    """

    name: str
    generation: int
    stored: datetime


@dataclass(frozen=True, kw_only=True)
class Sweeps:
    """All sweeps.

    Attributes:
        generation: the newest announced or decided, 0 when there is none.
    """

    generation: int
    announcements: tuple[Announcement, ...]
    decisions: tuple[Decision, ...]
    problems: tuple[Problem, ...]

    def void(self, name: str, generation: int) -> bool:
        """Whether a backup does not count.

        Args:
            name: of its commit object.
            generation: the newest that its writer knew.
        """
        return any(
            name in decision.released or (decision.generation > generation and name not in decision.alive)
            for decision in self.decisions
        )


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """A backup that a maintainer has forgotten.

    Attributes:
        backup: its id.
        created: by the maintainer's clock.
        stored: by the storage's clock.
    """

    backup: str
    reason: str
    created: datetime
    stored: datetime


@dataclass(frozen=True, kw_only=True)
class Tombstones:
    """Backups that a maintainer has forgotten.

    Attributes:
        ids: of backups, 32 hexadecimal digits.
        tombstones: the same with all that they say, as far as it can be read.
    """

    ids: frozenset[str]
    tombstones: tuple[Tombstone, ...]
    problems: tuple[Problem, ...]


def read_marks(storage: Storage, keys: KeyRing) -> Marks:
    """All marks of maintainers.

    Raises:
        StorageError.
    """
    problems: list[Problem] = []
    marks = []
    names = (info for info in storage.list(MARKS) if _MARK.match(info.name))
    for found in open_all(storage, keys, names, kind=lambda _name: MARK, role=Role.MAINTAINER, problems=problems):
        with Reported(found.info.name, problems):
            marks.append(
                Mark(
                    name=found.info.name,
                    generation=found.fields.number("generation", low=1),
                    packs=_packs(found.fields, "packs"),
                    created=parse_time(found.fields, "created"),
                    stored=found.info.modified,
                )
            )
    return Marks(
        generation=max((mark.generation for mark in marks), default=0),
        condemned=frozenset().union(*(mark.packs for mark in marks)),
        marks=tuple(sorted(marks, key=lambda mark: (mark.generation, mark.name))),
        problems=tuple(problems),
    )


def read_sweeps(storage: Storage, keys: KeyRing) -> Sweeps:
    """All announcements and decisions of maintainers.

    Raises:
        StorageError.
    """
    problems: list[Problem] = []
    announced = []
    decisions = []
    names = (info for info in storage.list(SWEEPS) if _SWEEP.match(info.name))
    for found in open_all(storage, keys, names, kind=_sweep_kind, role=Role.MAINTAINER, problems=problems):
        with Reported(found.info.name, problems):
            generation = found.fields.number("generation", low=1)
            if generation != int(found.info.name.split("/")[1]):
                found.fields.fail("generation")
            if _sweep_kind(found.info.name) == ANNOUNCEMENT:
                announced.append(Announcement(name=found.info.name, generation=generation, stored=found.info.modified))
                continue
            decisions.append(
                Decision(
                    name=found.info.name,
                    generation=generation,
                    condemned=_packs(found.fields, "condemned"),
                    alive=frozenset(found.fields.texts("alive")),
                    released=frozenset(found.fields.texts("released")),
                    stored=found.info.modified,
                )
            )
    return Sweeps(
        generation=max([0, *(each.generation for each in announced), *(each.generation for each in decisions)]),
        announcements=tuple(sorted(announced, key=lambda each: (each.generation, each.name))),
        decisions=tuple(sorted(decisions, key=lambda decision: (decision.generation, decision.name))),
        problems=tuple(problems),
    )


def read_tombstones(storage: Storage, keys: KeyRing, *, among: Collection[str] | None = None) -> Tombstones:
    """All backups that a maintainer has forgotten.

    Args:
        among: only these ids matter: tombstones outlive backups, and there are more of them every day.

    Raises:
        StorageError.
    """
    problems: list[Problem] = []
    ids, tombstones = set[str](), list[Tombstone]()
    names = (
        info
        for info in storage.list(FORGOTTEN)
        if (match := _TOMBSTONE.match(info.name)) and (among is None or match[1] in among)
    )
    for found in open_all(storage, keys, names, kind=lambda _name: TOMBSTONE, role=Role.MAINTAINER, problems=problems):
        with Reported(found.info.name, problems):
            backup = found.fields.text("backup")
            if backup != found.info.name.removeprefix(FORGOTTEN):
                found.fields.fail("backup")
            ids.add(backup)  # whatever else it says
            reason, created = found.fields.text("reason"), parse_time(found.fields, "created")
            tombstones.append(Tombstone(backup=backup, reason=reason, created=created, stored=found.info.modified))
    return Tombstones(ids=frozenset(ids), tombstones=tuple(tombstones), problems=tuple(problems))


def forgotten(storage: Storage, keys: KeyRing, *, among: Collection[str] | None = None) -> frozenset[str]:
    """Ids of the backups that have a valid tombstone.

    Args:
        among: only these ids matter.

    Raises:
        StorageError.
    """
    return read_tombstones(storage, keys, among=among).ids


def is_forgotten(storage: Storage, keys: KeyRing, backup: str) -> bool:
    """Whether a backup has a valid tombstone; asked for by name.

    Args:
        backup: its id, 32 hexadecimal digits.

    Raises:
        StorageError.
    """
    return _is_tombstone(storage, keys, FORGOTTEN + backup)


def next_generation(storage: Storage, keys: KeyRing) -> int:
    """One more than any that is known.

    Raises:
        StorageError.
    """
    return 1 + max(read_marks(storage, keys).generation, read_sweeps(storage, keys).generation)


def write_mark(storage: Storage, keys: KeyRing, packs: Iterable[bytes], *, generation: int | None = None) -> str:
    """Marks packs for deletion, in the next generation unless one is given; returns the object's name.

    Raises:
        AccessDenied: the slot may not maintain.
        StorageError.
    """
    number = next_generation(storage, keys) if generation is None else generation
    document = {"generation": number, "packs": sorted(pack.hex() for pack in packs), "created": _now()}
    return _put(storage, keys, MARK, MARKS + secrets.token_hex(16), document)


def announce(storage: Storage, keys: KeyRing, generation: int) -> str:
    """Announces a sweep, before it lists backups; returns the object's name.

    Raises:
        AccessDenied: the slot may not maintain.
        StorageError.
    """
    name = f"{SWEEPS}{generation:016d}/announced-{secrets.token_hex(16)}"
    return _put(storage, keys, ANNOUNCEMENT, name, {"generation": generation, "created": _now()})


def decide(
    storage: Storage,
    keys: KeyRing,
    generation: int,
    *,
    condemned: Iterable[bytes],
    alive: Iterable[str],
    released: Iterable[str] = (),
) -> str:
    """Stores the decision of a sweep, before it deletes anything; returns the object's name.

    Raises:
        AccessDenied: the slot may not maintain.
        StorageError.
    """
    name = f"{SWEEPS}{generation:016d}/decided-{secrets.token_hex(16)}"
    document = {
        "generation": generation,
        "condemned": sorted(pack.hex() for pack in condemned),
        "alive": sorted(alive),
        "released": sorted(released),
        "created": _now(),
    }
    return _put(storage, keys, DECISION, name, document)


def write_tombstone(storage: Storage, keys: KeyRing, backup: str, *, reason: str = "") -> None:
    """Forgets a backup; fine when it is forgotten already.

    Args:
        backup: its id, 32 hexadecimal digits.

    Raises:
        AccessDenied: the slot may not maintain.
        StorageError.
    """
    name = FORGOTTEN + backup
    document = {"backup": backup, "reason": reason, "created": _now()}
    conditional = storage.capabilities.conditional_put
    if not conditional and _is_tombstone(storage, keys, name):
        return
    try:
        _put(storage, keys, TOMBSTONE, name, document, if_absent=conditional)
    except ObjectExists:
        if not _is_tombstone(storage, keys, name):  # something else took the place
            _put(storage, keys, TOMBSTONE, name, document)


def _is_tombstone(storage: Storage, keys: KeyRing, name: str) -> bool:
    """Whether the object of this name forgets the backup; asked for by name: a listing may lack it."""
    info, problems = find_object(storage, name), list[Problem]()
    infos = [] if info is None else [info]
    for found in open_all(storage, keys, infos, kind=lambda _name: TOMBSTONE, role=Role.MAINTAINER, problems=problems):
        with Reported(name, problems):
            return name == FORGOTTEN + found.fields.text("backup")
    return False


def _put(
    storage: Storage, keys: KeyRing, kind: str, name: str, document: Mapping[str, Any], *, if_absent: bool = False
) -> str:
    keys.require_role(Role.MAINTAINER)
    storage.put(name, [control.seal(keys, kind, name, document, secrecy="index")], if_absent=if_absent)
    return name


def _packs(fields: Fields, name: str) -> frozenset[bytes]:
    try:
        packs = frozenset(bytes.fromhex(pack) for pack in fields.texts(name, limit=MAX_NUMBER, each=64))
    except ValueError:
        fields.fail(name)
    return packs if all(len(pack) == 32 for pack in packs) else fields.fail(name)


def _sweep_kind(name: str) -> str:
    return ANNOUNCEMENT if "/announced-" in name else DECISION


def _now() -> str:
    return time_text(datetime.now(UTC))
