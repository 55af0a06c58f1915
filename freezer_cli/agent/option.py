"""What one option of the original is called, takes and means; the parser, INI files and the reference come from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_bool, parse_size

_NO = ("", "no", "off", "0", "false", "none")


class Kind(StrEnum):
    """How text becomes a value.

    ``flag``: ``--x``, ``--nox`` or ``--no-x``. ``wish``: was a flag once and took any text later; both are understood.
    ``days``: a number of days. ``rate``: bytes a second, -1 for no limit.
    """

    TEXT = "text"
    INTEGER = "integer"
    DAYS = "days"
    RATE = "rate"
    FLAG = "flag"
    WISH = "wish"


@dataclass(frozen=True, kw_only=True)
class AgentOption:
    """One option of ``freezer-agent``.

    Attributes:
        name: as the last agents spell it.
        group: title in the help.
        short: ``-F``.
        aliases: what earlier agents called it, on the command line and in INI files.
        inner: what INI files may also call it: the names that earlier agents used inside.
        default: in force when nobody gives a value; ``None``: no value.
        place: belongs to a storage, and may stand in ``[storage:NAME]``.
        secret: shown nowhere.
        instead: it makes no sense any more; what does.
    """

    name: str
    help: str
    group: str
    kind: Kind = Kind.TEXT
    short: str = ""
    aliases: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    default: Any = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    place: bool = False
    secret: bool = False
    instead: str = ""

    @property
    def key(self) -> str:
        """Its name in settings and INI files."""
        return self.name.replace("-", "_")

    @property
    def spellings(self) -> tuple[str, ...]:
        """On the command line, without those that switch off."""
        return (*((self.short,) if self.short else ()), *(f"--{name}" for name in (self.name, *self.aliases)))

    @property
    def negations(self) -> tuple[str, ...]:
        """On the command line, what switches a flag off."""
        names = (self.name, *self.aliases)
        return tuple(f"--{no}{name}" for name in names for no in ("no", "no-")) if self.kind is Kind.FLAG else ()

    def convert(self, text: str) -> Any:
        """The value of a text; an empty one switches the option off.

        Raises:
            ConfigurationError: the text does not fit.
        """
        if not text and self.kind is not Kind.TEXT:
            return None
        value = _CONVERTERS[self.kind](text)
        if text and self.choices and value not in self.choices:
            raise ConfigurationError(f"{text!r} is none of {', '.join(self.choices)}")
        return value

    def convert_setting(self, text: str) -> Any:
        """The value of a text of an INI file, where ``False`` and ``None`` switch any option off.

        Raises:
            ConfigurationError: the text does not fit.
        """
        if text in ("False", "false", "None"):
            return False if self.kind in (Kind.FLAG, Kind.WISH) else None
        return self.convert(text)


def _wish(text: str) -> bool:
    return text.strip().lower() not in _NO


def _integer(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not a whole number") from None
    if value < 0:
        raise ConfigurationError(f"{text!r} is negative")
    return value


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not a number of days") from None
    if not 0 <= value <= 1e6:
        raise ConfigurationError(f"{text!r} is not a possible number of days")
    return value


def _rate(text: str) -> int | None:
    stripped = text.strip()
    return None if stripped == "-1" else parse_size(stripped) or None


_CONVERTERS: Mapping[Kind, Callable[[str], Any]] = {
    Kind.TEXT: str,
    Kind.INTEGER: _integer,
    Kind.DAYS: _days,
    Kind.RATE: _rate,
    Kind.FLAG: parse_bool,
    Kind.WISH: _wish,
}
