"""Where things lie in a storage: the original's layout, and ours beside it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from freezer_sdk.errors import ConfigurationError

METADATA = "metadata"
DATA = "data"
OWN = "freezer-sdk"
"""First parts of object names; the original never looks below the last one."""

STORE = f"{OWN}/store"
"""What a store made by this program says about itself."""

SEALED = "-sealed"
"""Ends the folder of streams that only this program reads."""

LAST_TIME = 253_402_300_799
"""The end of the year 9999: later times, and levels of more than four digits, are junk that nobody has written."""

_NUMBER = r"0|[1-9]\d{0,11}"
_SMALL = r"0|[1-9]\d{0,3}"
_LEVEL = re.compile(
    rf"(?P<series>.+)/(?P<chain>{_NUMBER})/(?P<level>{_SMALL})_(?P<time>{_NUMBER})", re.ASCII | re.DOTALL
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelId:
    """One backup of a chain, and the names of its objects.

    Attributes:
        folder: ``tar``, ``rsync``, or one of them with :data:`SEALED`.
        series: ``<host>_<name>``, as the original writes it.
        chain: time of the chain's level 0, in seconds since 1970.
        level: 0 is complete, n holds what changed since n - 1.
        time: of this backup, in seconds since 1970.
    """

    folder: str
    series: str
    chain: int
    level: int
    time: int

    @classmethod
    def parse(cls, folder: str, path: str) -> Self | None:
        """From ``<series>/<T0>/<L>_<T>``; ``None``: it is something else."""
        match = _LEVEL.fullmatch(path)
        if match is None:
            return None
        chain, level, time = (int(match[part]) for part in ("chain", "level", "time"))
        if max(chain, time) > LAST_TIME:
            return None
        return cls(folder=folder, series=match["series"], chain=chain, level=level, time=time)

    @property
    def path(self) -> str:
        """``<folder>/<series>/<T0>/<L>_<T>``."""
        return f"{self.folder}/{self.series}/{self.chain}/{self.level}_{self.time}"

    @property
    def sealed(self) -> bool:
        """It lies in a folder of streams that only this program reads."""
        return self.folder.endswith(SEALED)

    @property
    def metadata(self) -> str:
        """The original's commit mark, written last: a level counts when this object is there."""
        return f"{METADATA}/{self.path}/metadata"

    @property
    def data(self) -> str:
        """The stream."""
        return f"{DATA}/{self.path}/data"

    @property
    def engine_metadata(self) -> str:
        """What the next level needs to know."""
        return f"{DATA}/{self.path}/engine_metadata"

    @property
    def segments(self) -> str:
        """On Swift the pieces of the stream lie below this name."""
        return f"{DATA}/{self.path}/segments"

    @property
    def record(self) -> str:
        """What is known beyond what the original records; sealed where the stream is."""
        return f"{OWN}/{self.path}/record"

    @property
    def started(self) -> str:
        """Says, while the level is being made, that its objects are ours to remove should the run die."""
        return f"{OWN}/{self.path}/started"

    @property
    def places(self) -> tuple[str, ...]:
        """Prefixes of all its objects."""
        return tuple(f"{first}/{self.path}/" for first in (METADATA, DATA, OWN))

    @property
    def default_id(self) -> str:
        """Id of a backup without a record: 32 hexadecimal digits made of where it lies."""
        return hashlib.sha256(self.path.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def host_and_name(self) -> tuple[str, str]:
        """Of a backup without a record: the series, split at its first underscore."""
        host, _, name = self.series.partition("_")
        return host, name


def locks_of(folder: str, series: str) -> str:
    """Prefix of the locks of a series; the same for both folders of an engine.

    Args:
        folder: with or without :data:`SEALED`.
    """
    return f"{OWN}/locks/{folder.removesuffix(SEALED)}/{series}/"


def series_name(host: str, name: str) -> str:
    """``<host>_<name>``.

    Raises:
        ConfigurationError: it cannot be a part of an object's name, or the original could not read it.
    """
    for what, text in (("host", host), ("name", name)):
        if not text:
            raise ConfigurationError(f"a backup needs a {what}", hint=f"give one with --{what}")
        if "/" in text or "\0" in text:
            raise ConfigurationError(
                f"{text!r} cannot be the {what} of a backup here: it has a '/' or NUL",
                hint="names are folders of the store; choose another one",
            )
    series = f"{host}_{name}"
    try:
        series.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{series!r} cannot be a name: it is not valid UTF-8") from None
    return series
