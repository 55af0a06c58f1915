"""Declared options: one declaration gives validation, CLI flags, a JSON schema and the reference page."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from freezer_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

OptionType = Literal["str", "int", "float", "bool", "size", "duration", "path"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB])?\s*", re.ASCII)
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*", re.ASCII)
_UNIT = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, None: 1.0}
_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a plug-in.

    Attributes:
        name: snake_case; the CLI flag is ``--name-with-dashes``.
        type: how text becomes a value: ``size`` gives bytes (int), ``duration`` seconds (float).
        help: one sentence; names units.
        secret: never shown, logged or written anywhere.
        multiple: a list of values.
        env: environment variables that the command line fills it from, the first that is set; the library reads none.
        env_unless: options that stand for this one too: where one of them is given, the environment is not looked at.
    """

    name: str
    help: str
    type: OptionType = "str"
    default: Any = None
    required: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()
    multiple: bool = False
    env: tuple[str, ...] = ()
    env_unless: tuple[str, ...] = ()

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
            single = isinstance(value, (str, bytes, os.PathLike)) or not isinstance(value, Sequence)
            return tuple(self.convert_one(item) for item in ([value] if single else value))
        return self.convert_one(value)

    def convert_one(self, value: Any) -> Any:
        """One value of an option that takes several; the same as :meth:`convert` for the others.

        Raises:
            ConfigurationError: it cannot be one.
        """
        if self.choices and value not in self.choices:
            raise ConfigurationError(f"{value!r} is none of {', '.join(self.choices)}")
        return _CONVERTERS[self.type](value)


def parse_size(text: str | int) -> int:
    """``"16M"`` -> 16777216 bytes; units are powers of 1024.

    Raises:
        ConfigurationError: not a size.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ConfigurationError(f"{text!r} is not a size", hint="write for example 500K, 16M or 2G")
    number = float(match[1]) if "." in match[1] else int(match[1])  # a float would round sizes above 8 PiB
    return int(number * _UNIT[match[2].lower()])


def parse_duration(text: str | float) -> float:
    """``"26h"`` -> 93600.0 seconds; without a unit: seconds.

    Raises:
        ConfigurationError: not a duration.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool) and math.isfinite(text) and text >= 0:
        return float(text)
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
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
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ConfigurationError(f"{text!r} is neither yes nor no")


def _parse_int(value: Any) -> int:
    try:
        if isinstance(value, (bool, float)):
            raise ValueError
        return int(value)
    except (ValueError, TypeError):
        raise ConfigurationError(f"{value!r} is not a whole number") from None


def _parse_float(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigurationError(f"{value!r} is not a number")
    return number


def _parse_path(value: Any) -> str:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise ConfigurationError(f"{value!r} is not a path")
    path = os.fsdecode(value)
    if not path or "\0" in path:
        raise ConfigurationError(f"{path!r} cannot be a path")
    return path


def _parse_str(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        raise ConfigurationError("text is expected, not bytes")
    return str(value)


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "str": _parse_str,
    "int": _parse_int,
    "float": _parse_float,
    "bool": parse_bool,
    "size": parse_size,
    "duration": parse_duration,
    "path": _parse_path,
}


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
        except ConfigurationError as error:
            wrong.append(f"option {option.name!r}: {'its value is not valid' if option.secret else error}")
    if wrong:
        hint = f"known options: {', '.join(sorted(known))}" if known else "it has no options"
        raise ConfigurationError(f"{owner}: {'; '.join(wrong)}", hint=hint)
    return result


def secret_values(options: Iterable[Option], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts among ``values`` that no message may show."""
    found: list[str] = []
    for option in options:
        value = values.get(option.name) if option.secret else None
        if value is not None:
            found.extend(str(each) for each in (value if isinstance(value, tuple) else (value,)))
    return tuple(found)


def json_schema(options: Sequence[Option], *, title: str | None = None) -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of an object with these options as members."""
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    if title is not None:
        schema["title"] = title
    schema |= {
        "type": "object",
        "properties": {option.name: _member_schema(option) for option in options},
        "required": [option.name for option in options if option.required],
        "additionalProperties": False,
    }
    return schema


def _member_schema(option: Option) -> dict[str, Any]:
    schema: dict[str, Any]
    match option.type:
        case "bool":
            schema = {"type": "boolean"}
        case "int":
            schema = {"type": "integer"}
        case "float":
            schema = {"type": "number"}
        case "size":
            schema = {"type": ["integer", "string"], "minimum": 0, "pattern": f"^{_SIZE.pattern}$"}
        case "duration":
            schema = {"type": ["number", "string"], "minimum": 0, "pattern": f"^{_DURATION.pattern}$"}
        case _:
            schema = {"type": "string"}
    if option.choices:
        schema["enum"] = list(option.choices)
    if option.multiple:
        schema = {"type": "array", "items": schema}
    schema["description"] = option.help
    if option.secret:
        schema["writeOnly"] = True
    elif option.default is not None:
        schema["default"] = list(option.default) if isinstance(option.default, tuple) else option.default
    return schema


def add_arguments(
    parser: argparse._ActionsContainer, options: Sequence[Option], *, prefix: str = "", title: str | None = None
) -> None:
    """Adds a command-line flag for each option; :func:`values_from` reads them back.

    A secret never gets a flag of its own, because command lines are public: it is read from the first line of
    the file that ``--NAME-file`` names.

    Args:
        parser: an argument parser or group.
        options: what is declared.
        prefix: put before each name, for example ``"storage-"``, where flags of several plug-ins meet.
        title: makes a group of this title.
    """
    import argparse

    where = parser.add_argument_group(title) if title is not None else parser
    for option in options:
        settings: dict[str, Any] = {"dest": _destination(option, prefix), "default": None}
        flag = f"--{prefix}{option.flag[2:]}"
        if option.secret:
            flag += "-file"
            settings |= {"metavar": "FILE", "help": f"read from the first line of this file: {_help(option)}"}
        elif option.type == "bool" and not option.multiple:
            settings |= {"action": argparse.BooleanOptionalAction, "help": _help(option)}
        else:
            metavar = "{" + ",".join(option.choices) + "}" if option.choices else option.type.upper()
            settings |= {"type": _argument_type(option), "metavar": metavar, "help": _help(option)}
            if option.multiple:
                settings["action"] = "append"
        where.add_argument(flag, **settings)


def values_from(namespace: argparse.Namespace, options: Sequence[Option], *, prefix: str = "") -> dict[str, Any]:
    """The values that the user gave on the command line, by option name.

    Raises:
        ConfigurationError: the file of a secret cannot be read.
    """
    values: dict[str, Any] = {}
    for option in options:
        value = getattr(namespace, _destination(option, prefix), None)
        if value is not None:
            values[option.name] = _first_line(value, option) if option.secret else value
    return values


def markdown_table(options: Sequence[Option]) -> str:
    """A Markdown table of options for the reference documentation."""
    if not options:
        return "It has no options."
    lines = ["| Option | Type | Default | Meaning |", "|---|---|---|---|"]
    for option in options:
        kind = " \\| ".join(f"`{choice}`" for choice in option.choices) or option.type
        kind += ", several" if option.multiple else ""
        kind += ", secret" if option.secret else ""
        value = _default_text(option)
        default = "required" if option.required else f"`{value}`" if value else ""
        meaning = option.help.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{option.name}` | {kind} | {default} | {meaning} |")
    return "\n".join(lines)


def _destination(option: Option, prefix: str) -> str:
    return "option_" + prefix.replace("-", "_") + option.name


def _argument_type(option: Option) -> Callable[[str], Any]:
    import argparse

    def convert(text: str) -> Any:
        try:
            return option.convert_one(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _help(option: Option) -> str:
    default = _default_text(option)
    note = " (required)" if option.required else f" (default: {default})" if default else ""
    return (option.help + note).replace("%", "%%")


def _default_text(option: Option) -> str:
    """The default as a user would write it; empty when there is none to tell."""
    if option.default is None or option.secret:
        return ""
    values = option.default if isinstance(option.default, tuple) else (option.default,)
    return ", ".join(_plain(value, option.type) for value in values)


def _plain(value: Any, kind: OptionType) -> str:
    if kind == "bool":
        return "yes" if value else "no"
    if kind == "size":
        unit = next((unit for unit in "tgmk" if value and value % _UNIT[unit] == 0), "")
        return f"{value // _UNIT[unit]}{unit.upper()}"
    if kind == "duration":
        unit = next((unit for unit in "wdhm" if value and value % _SECONDS[unit] == 0), "s")
        return f"{value / _SECONDS[unit]:g}{unit}"
    return str(value)


def _first_line(path: str, option: Option) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"the file for option {option.name!r} cannot be read: {path}: {reason}") from error
