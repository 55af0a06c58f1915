"""Dates as people write them: local time unless they give an offset."""

from __future__ import annotations

import argparse
from datetime import datetime, time

HELP = "YYYY-MM-DD[ HH:MM[:SS]], local time unless an offset (+01:00, Z) is given"


def parse_date(text: str) -> datetime:
    """A moment; a day alone means its first moment. For argparse.

    Raises:
        argparse.ArgumentTypeError: not a date.
    """
    return _parse(text, time.min)


def parse_date_until(text: str) -> datetime:
    """A moment; a day alone means its last moment. For argparse.

    Raises:
        argparse.ArgumentTypeError: not a date.
    """
    return _parse(text, time.max)


def _parse(text: str, time_of_day: time) -> datetime:
    stripped = text.strip()
    try:
        moment = datetime.fromisoformat(stripped)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; write {HELP}") from None
    if len(stripped) <= len("YYYY-MM-DD"):
        moment = datetime.combine(moment.date(), time_of_day)
    try:
        return moment.astimezone()  # a time without an offset is local
    except (OverflowError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is out of range") from None
