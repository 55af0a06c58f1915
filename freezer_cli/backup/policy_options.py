"""The rules of retention: flags of the command line over the profile's ``retention`` table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from freezer_cli.dates import HELP, parse_date
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_duration

if TYPE_CHECKING:
    from freezer_sdk import RetentionPolicy

_PERIODS = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month", "yearly": "year"}


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each rule."""
    rules = parser.add_argument_group("rules", "A backup is kept when any of them keeps it.")
    rules.add_argument("--keep-last", metavar="N", type=int, help="the newest N backups")
    for name, noun in _PERIODS.items():
        rules.add_argument(
            f"--keep-{name}", metavar="N", type=int, help=f"one backup of each of the newest N {noun}s that have any"
        )
    within = "everything that is at most so much older than the newest backup of its group, e.g. 14d, 36h or 8w"
    rules.add_argument("--keep-within", metavar="AGE", type=_age, help=within)
    for name, noun in _PERIODS.items():
        rules.add_argument(
            f"--keep-within-{name}", metavar="AGE", type=_age, help=f"one backup of each {noun} in such a time"
        )
    rules.add_argument("--keep-tag", metavar="TAG", action="append", help="all with this tag (repeatable)")
    rules.add_argument("--older-than", metavar="AGE", type=_age, help="forget nothing that is younger")
    rules.add_argument("--before", metavar="DATE", type=parse_date, help=f"forget nothing from then on: {HELP}")
    how = parser.add_argument_group("how the rules are applied")
    how.add_argument(
        "--group-by",
        metavar="FIELD,...",
        type=_fields,
        help="the rules hold for each group on its own: host, name, paths, tags, mode (default: host,name,paths)",
    )
    how.add_argument("--floor", metavar="AGE", type=_age, help="never forget anything younger (default: 7d)")
    how.add_argument(
        "--max-share", metavar="PERCENT", type=_share, help="refuse to forget more than this of a group (default: 50)"
    )


def policy_from(parsed_args: argparse.Namespace, table: Mapping[str, Any], *, profile: str) -> RetentionPolicy:
    """The policy that the command line and the profile make.

    Args:
        table: of the profile, keys as in the file.
        profile: its name, for messages.

    Raises:
        ConfigurationError: a value of the profile makes no sense.
    """
    from freezer_sdk import RetentionPolicy

    values = {}
    for key, text in table.items():
        try:
            values[key.replace("-", "_")] = _CONVERTERS.get(key, _itself)(text)
        except argparse.ArgumentTypeError as error:
            raise ConfigurationError(f"profile {profile}: retention: {key}: {error}") from None
    given = {key: getattr(parsed_args, key, None) for key in _names()}
    values |= {key: value for key, value in given.items() if value is not None}
    if "keep_tag" in values:
        values["keep_tags"] = tuple(values.pop("keep_tag"))
    return RetentionPolicy(**values)


def _names() -> list[str]:
    periods = [*_PERIODS, *(f"within_{name}" for name in _PERIODS)]
    keeps = [f"keep_{name}" for name in ("last", "within", "tag", *periods)]
    return [*keeps, "older_than", "before", "group_by", "floor", "max_share"]


def _age(text: str) -> timedelta:
    if str(text).strip().isdigit() and int(text):  # the original's days, and seconds elsewhere
        raise argparse.ArgumentTypeError(f"{text!r} has no unit; write for example {text}d")
    try:
        return timedelta(seconds=parse_duration(text))
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(f"{error}; {error.hint}") from None
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r} is too long") from None


def _share(text: str | float) -> float:
    try:
        return float(str(text).strip().removesuffix("%")) / 100
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage") from None


def _fields(text: str | list[str]) -> tuple[str, ...]:
    parts = text.split(",") if isinstance(text, str) else text
    return tuple(part.strip() for part in parts if part.strip())


def _tags(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _moment(value: str | datetime) -> datetime:
    return value if isinstance(value, datetime) else parse_date(value)


def _itself(value: Any) -> Any:
    return value


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("keep-within", *(f"keep-within-{name}" for name in _PERIODS), "older-than", "floor"), _age),
    "keep-tag": _tags,
    "before": _moment,
    "group-by": _fields,
    "max-share": _share,
}
