"""Declared options: one declaration gives validation, CLI flags, a JSON schema and the reference page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from freezer_sdk.errors import ConfigurationError

OptionType = Literal["str", "int", "float", "bool", "size", "duration", "path"]

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(i?[bB]?)\s*$")
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*$")
_UNIT = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, None: 1.0}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a plug-in.

    Attributes:
        name: snake_case; the CLI flag is ``--name-with-dashes``.
        type: how text becomes a value: ``size`` gives bytes (int), ``duration`` seconds (float).
        help: one sentence; names units.
        secret: never shown, logged or written anywhere.
        multiple: a list of values.
    """

    name: str
    help: str
    type: OptionType = "str"
    default: Any = None
    required: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()
    multiple: bool = False

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    def convert(self, value: Any) -> Any:
        """A value of the declared type, from text or from a value that has it already.

        Raises:
            ConfigurationError: it cannot be one.
        """
        if self.multiple:
            items = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
            return tuple(self._one(item) for item in items)
        return self._one(value)

    def _one(self, value: Any) -> Any:
        if self.choices and value not in self.choices:
            raise ConfigurationError(f"{value!r} is none of {', '.join(self.choices)}")
        match self.type:
            case "size":
                return parse_size(value)
            case "duration":
                return parse_duration(value)
            case "bool":
                return parse_bool(value)
            case "int":
                return int(value)
            case "float":
                return float(value)
            case _:
                return str(value)


def parse_size(text: str | int) -> int:
    """``"16M"`` -> 16777216 bytes; units are powers of 1024.

    Raises:
        ConfigurationError: not a size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.match(text)
    if not match:
        raise ConfigurationError(f"{text!r} is not a size", hint="write for example 500K, 16M or 2G")
    return int(float(match[1]) * _UNIT[match[2].lower()])


def parse_duration(text: str | float) -> float:
    """``"26h"`` -> 93600.0 seconds; without a unit: seconds.

    Raises:
        ConfigurationError: not a duration.
    """
    if isinstance(text, (int, float)):
        return float(text)
    match = _DURATION.match(text)
    if not match:
        raise ConfigurationError(f"{text!r} is not a duration", hint="write for example 90s, 15m, 26h or 7d")
    return float(match[1]) * _SECONDS[match[2]]


def parse_bool(text: str | bool) -> bool:
    """``yes``, ``true``, ``on``, ``1`` and their opposites.

    Raises:
        ConfigurationError: none of these.
    """
    if isinstance(text, bool):
        return text
    word = str(text).strip().lower()
    if word in ("1", "yes", "true", "on"):
        return True
    if word in ("0", "no", "false", "off"):
        return False
    raise ConfigurationError(f"{text!r} is neither yes nor no")


def validate(options: Sequence[Option], values: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """Checks and converts values; fills in defaults.

    Args:
        options: what is declared.
        values: what the user gave; text is converted, ``None`` counts as not given.
        owner: named in messages, for example ``storage 'local'``.

    Raises:
        ConfigurationError: lists every unknown, missing or wrong option at once.
    """
    known = {option.name: option for option in options}
    given = {name: value for name, value in values.items() if value is not None}
    wrong = [f"unknown option {name!r}" for name in given if name not in known]
    result: dict[str, Any] = {}
    for option in options:
        if option.name not in given:
            if option.required:
                wrong.append(f"option {option.name!r} is required ({option.help})")
            result[option.name] = option.default
            continue
        try:
            result[option.name] = option.convert(given[option.name])
        except (ConfigurationError, ValueError, TypeError) as error:
            wrong.append(f"option {option.name!r}: {'its value is not valid' if option.secret else error}")
    if wrong:
        hint = f"known options: {', '.join(sorted(known))}" if known else "it has no options"
        raise ConfigurationError(f"{owner}: {'; '.join(wrong)}", hint=hint)
    return result
