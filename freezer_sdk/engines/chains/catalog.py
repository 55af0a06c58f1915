"""What lies in a storage: series, their chains, and the levels of these."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from freezer_sdk.engines.chains.layout import DATA, METADATA, OWN, SEALED, LevelId
from freezer_sdk.errors import BackupNotFound, IntegrityError
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import Storage

_MARK = "/metadata"
_STARTED = "/started"
_SHOWN = 10  # numbers of missing levels in a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """A level 0 with what was built upon it.

    Attributes:
        time: its name, the time of level 0.
        levels: in the order in which they were made.
    """

    folder: str
    series: str
    time: int
    levels: tuple[LevelId, ...]

    def needed(self, level: LevelId) -> tuple[LevelId, ...]:
        """What a restore of a level reads, from level 0 to it; where a number repeats, the newest one before.

        Raises:
            IntegrityError: a level in between is missing; ``present`` gives what is there.
        """
        found = self.present(level)
        missing = sorted(set(range(level.level)) - {each.level for each in found})
        if missing:
            numbers = ", ".join(str(number) for number in missing[:_SHOWN]) + (", ..." if missing[_SHOWN:] else "")
            raise IntegrityError(
                f"{level.path} needs levels that are missing: {numbers}",
                hint="a full backup starts a new chain; of this one, earlier levels may still be whole",
            )
        return found

    def present(self, level: LevelId) -> tuple[LevelId, ...]:
        """As :meth:`needed`, without what is missing."""
        below: dict[int, list[LevelId]] = {}  # by number, in the order of time; chains may have thousands of levels
        for each in self.levels:
            if each.level < level.level:
                below.setdefault(each.level, []).append(each)
        found = [level]
        for number in sorted(below, reverse=True):
            count = bisect_right(below[number], found[-1].time, key=lambda each: each.time)
            if count:
                found.append(below[number][count - 1])
        return tuple(reversed(found))


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """A listing of what counts; made by :meth:`read`, and never changed.

    Attributes:
        chains: by series and time.
        problems: names below ``metadata/`` that belong to no level; warnings.
    """

    chains: tuple[Chain, ...]
    problems: tuple[Problem, ...] = ()

    @classmethod
    def read(cls, storage: Storage, folder: str, *, series: str | None = None) -> Self:
        """Lists the levels of an engine, in the exchange folder and in the sealed one.

        Args:
            folder: that of the codec.
            series: only this one.

        Raises:
            StorageError.
        """
        levels: list[LevelId] = []
        problems: list[Problem] = []
        for each in (folder, folder + SEALED):
            prefix = f"{METADATA}/{each}/"
            for item in storage.list(prefix if series is None else f"{prefix}{series}/"):
                level = None
                if item.name.endswith(_MARK):
                    level = LevelId.parse(each, item.name[len(prefix) : -len(_MARK)])
                if level is None:
                    message = "this is no backup; the original's agent stops at such names"
                    problems.append(Problem(path=item.name, kind="foreign", message=message, fatal=False))
                elif series is None or level.series == series:
                    levels.append(level)
        return cls(chains=_chains(levels), problems=tuple(problems))

    @property
    def levels(self) -> tuple[LevelId, ...]:
        """All levels, by the time they were made."""
        found = (level for chain in self.chains for level in chain.levels)
        return tuple(sorted(found, key=lambda level: (level.time, level.path)))

    def of(self, folder: str, series: str) -> tuple[Chain, ...]:
        """The chains of a series, the oldest first."""
        return tuple(chain for chain in self.chains if chain.folder == folder and chain.series == series)

    def chain(self, level: LevelId) -> Chain:
        """The chain of a level.

        Raises:
            BackupNotFound: the level is not here.
        """
        for chain in self.chains:
            if level in chain.levels:
                return chain
        raise BackupNotFound(f"there is no backup {level.path}")


def _chains(levels: Iterable[LevelId]) -> tuple[Chain, ...]:
    by_chain: dict[tuple[str, str, int], list[LevelId]] = {}
    for level in levels:
        by_chain.setdefault((level.folder, level.series, level.chain), []).append(level)
    return tuple(
        Chain(
            folder=folder,
            series=series,
            time=time,
            levels=tuple(sorted(found, key=lambda level: (level.time, level.level))),
        )
        for (folder, series, time), found in sorted(by_chain.items())
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """Objects of a level that does not count.

    Attributes:
        objects: their names.
        ours: a run of this program left them; else they are the original's, which may still be at work.
        uncounted: the level was whole once: it has a record, and whoever begins or removes one says so beside it.
    """

    level: LevelId
    objects: tuple[str, ...]
    ours: bool
    uncounted: bool


def leftovers(storage: Storage, folder: str) -> Sequence[Leftover]:
    """What interrupted runs left, or what runs at work have stored so far. Lists everything.

    Args:
        folder: that of the codec.

    Raises:
        StorageError.
    """
    found: dict[LevelId, list[str]] = {}
    for each in (folder, folder + SEALED):
        for first in (DATA, OWN):
            prefix = f"{first}/{each}/"
            for item in storage.list(prefix):
                parent = item.name[len(prefix) :].rpartition("/")[0]
                level = LevelId.parse(each, parent.removesuffix("/segments"))
                if level is not None:
                    found.setdefault(level, []).append(item.name)
    # listed last: a level that was committed meanwhile must not look like a leftover
    whole = set(Catalog.read(storage, folder).levels)
    return [
        Leftover(
            level=level,
            objects=tuple(names),
            ours=level.started in names,
            uncounted=level.record in names and level.started not in names,
        )
        for level, names in sorted(found.items(), key=lambda item: item[0].path)
        if level not in whole
    ]


def begun(storage: Storage, folder: str, series: str) -> Sequence[LevelId]:
    """Levels that a run of this program began and did not tidy up; some of them may be whole.

    Raises:
        StorageError.
    """
    found = []
    for each in (folder, folder + SEALED):
        prefix = f"{OWN}/{each}/"
        for item in storage.list(f"{prefix}{series}/"):
            level = LevelId.parse(each, item.name[len(prefix) :].removesuffix(_STARTED))
            if level is not None and item.name == level.started:
                found.append(level)
    return found
