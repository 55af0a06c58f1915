"""Which packs a check reads, and in which order."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.engines.dedup.layout import digest_of
from freezer_sdk.engines.dedup.upkeep.readings import Readings
from freezer_sdk.engines.dedup.upkeep.survey import Pack
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.upkeep_model import CheckOptions

_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%\Z")
_PART: Final = re.compile(r"(\d{1,9})/(\d{1,9})\Z")
_NEVER: Final = datetime.min.replace(tzinfo=UTC)

Choice = Callable[[Sequence[Pack]], list[Pack]]


def chosen(options: CheckOptions, packs: Sequence[Pack], readings: Readings, now: datetime) -> list[Pack]:
    """The packs to read, those first that were not read for the longest time; chance decides among equals.

    Raises:
        ConfigurationError: options that make no sense.
    """
    if not reads(options):
        return []
    mixed = list(packs)
    random.SystemRandom().shuffle(mixed)
    ordered = sorted(mixed, key=lambda pack: readings.last(_digest(pack)) or _NEVER)
    if options.max_age is not None:
        limit = now - options.max_age
        ordered = [pack for pack in ordered if (readings.last(_digest(pack)) or _NEVER) <= limit]
    return ordered if options.subset is None else _subset(options.subset)(ordered)


def reads(options: CheckOptions) -> bool:
    """Whether data are to be read at all.

    Raises:
        ConfigurationError: options that make no sense.
    """
    if options.max_age is not None and options.max_age.total_seconds() < 0:
        raise ConfigurationError("an age cannot be negative")
    if options.max_duration is not None and options.max_duration.total_seconds() <= 0:
        raise ConfigurationError("a duration must be more than nothing")
    if options.subset is not None:
        _subset(options.subset)
    return options.read_data or any(
        each is not None for each in (options.subset, options.max_age, options.max_duration)
    )


def _subset(text: str) -> Choice:
    share, part = _SHARE.match(text), _PART.match(text)
    if share and 0 < float(share[1]) <= 100:
        return lambda packs: _share(packs, float(share[1]) / 100)
    if part and 1 <= int(part[1]) <= int(part[2]):
        number, of = int(part[1]), int(part[2])
        return lambda packs: [pack for pack in packs if int.from_bytes(_digest(pack)[:8], "big") % of == number - 1]
    raise ConfigurationError(
        f"{text!r} is no part of a repository", hint="write a share, such as 5%, or one of several parts, such as 2/7"
    )


def _share(packs: Sequence[Pack], share: float) -> list[Pack]:
    """The first packs that have this share of all bytes; one at least."""
    wanted, taken, found = sum(info.size for _kind, info in packs) * share, 0, []
    for pack in packs:
        if taken >= wanted:
            break
        found.append(pack)
        taken += pack[1].size
    return found


def _digest(pack: Pack) -> bytes:
    return digest_of(pack[1].name) or b""
