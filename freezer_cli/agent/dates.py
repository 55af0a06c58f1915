"""Dates of the original's options: local time, unless they have an offset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from freezer_sdk.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Instant:
    """A date that was given, and the moment that it means.

    Attributes:
        given: as it was written.
        local: it had no offset, and is taken as local time.
    """

    given: str
    moment: datetime
    local: bool

    def __str__(self) -> str:
        """For messages: which moment was taken, and why."""
        why = "local time, because the date has no offset" if self.local else f"given as {self.given}"
        return f"{self.moment.isoformat(sep=' ')} ({why})"


def parse_instant(text: str, option: str) -> Instant:
    """A moment such as ``2026-11-23T04:17:16``, with ``Z`` or ``+01:00`` at its end or without.

    Args:
        text: what was given.
        option: named in messages.

    Raises:
        ConfigurationError: not a date.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        local = moment.tzinfo is None
        return Instant(given=text, moment=moment.astimezone() if local else moment, local=local)
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(
            f"--{option}: {text!r} is not a date", hint="write YYYY-MM-DDThh:mm:ss, with an offset such as +01:00 or Z"
        ) from None
