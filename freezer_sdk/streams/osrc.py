"""Files of shell assignments (``export OS_USERNAME=backup``), as OpenStack's dashboard makes them: read, never run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from freezer_sdk.errors import ConfigurationError

_ASSIGNMENT = re.compile(r"[ \t]*(?:(?:export|declare -x|typeset -x)[ \t]+)?([A-Za-z_]\w*)=", re.ASCII)
_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_PLAIN = re.compile(r"[^\s'\"\\$`;&|<>()]+")
_LONGEST = 8192  # characters of a value
_ENDS = " \t;&|"
_SPECIAL = "({@*#?$!-"  # after a dollar sign


@dataclass(frozen=True)
class Assignments:
    """What a file assigns.

    Attributes:
        values: by variable; shown nowhere, because passwords are among them.
        unknown: variables whose value only a shell could tell, with the number of their line.
    """

    values: dict[str, str] = field(default_factory=dict, repr=False)
    unknown: dict[str, int] = field(default_factory=dict)


def read_osrc(path: str) -> Assignments:
    """Reads a file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return parse_osrc(file.read())
    except OSError as error:
        raise ConfigurationError(f"the osrc file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"the osrc file {path} is not UTF-8 text") from None


def parse_osrc(text: str) -> Assignments:
    """Reads assignments of whole lines; other lines are passed over. A later assignment replaces an earlier one.

    Quotes and backslashes mean what they mean in a shell; ``$NAME`` stands for what the file assigned before. What
    would run a command, or needs a variable from elsewhere, has no known value.
    """
    found = Assignments()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        match = _ASSIGNMENT.match(line)
        if match is None:
            continue
        value = _word(line[match.end() :], found.values)
        found.values.pop(match[1], None)
        found.unknown.pop(match[1], None)
        if value is None:
            found.unknown[match[1]] = number
        else:
            found.values[match[1]] = value
    return found


def _word(text: str, values: dict[str, str]) -> str | None:
    """The first word of a shell's line, or ``None`` when it cannot be told."""
    parts: list[str] = []
    position = size = 0
    while position < len(text) and text[position] not in _ENDS:
        taken = _part(text, position, values)
        if taken is None:
            return None
        part, position = taken
        size += len(part)
        if size > _LONGEST:  # references to references grow without end
            return None
        parts.append(part)
    return "".join(parts)


def _part(text: str, position: int, values: dict[str, str]) -> tuple[str, int] | None:
    """One piece of a word, quoted in one way, and where the next one begins."""
    match text[position]:
        case "'":
            end = text.find("'", position + 1)
            return None if end < 0 else (text[position + 1 : end], end + 1)
        case '"':
            return _double_quoted(text, position + 1, values)
        case "\\":
            return text[position + 1 : position + 2], position + 2
        case "$":
            return _reference(text, position, values, _SPECIAL + "'\"")
    plain = _PLAIN.match(text, position)
    return None if plain is None else (plain[0], plain.end())


def _double_quoted(text: str, position: int, values: dict[str, str]) -> tuple[str, int] | None:
    parts: list[str] = []
    size = 0
    while position < len(text) and size <= _LONGEST:
        match text[position]:
            case '"':
                return "".join(parts), position + 1
            case "`":
                return None
            case "$":
                taken = _reference(text, position, values, _SPECIAL)
                if taken is None:
                    return None
                part, position = taken
                size += len(part)
                parts.append(part)
            case "\\" if text[position + 1 : position + 2] in ("$", "`", '"', "\\"):
                parts.append(text[position + 1])
                position += 2
            case character:
                parts.append(character)
                position += 1
    return None


def _reference(text: str, position: int, values: dict[str, str], special: str) -> tuple[str, int] | None:
    match = _REFERENCE.match(text, position)
    if match is None:
        following = text[position + 1 : position + 2]
        return None if following and following in special else ("$", position + 1)
    value = values.get(match[1] or match[2])
    return None if value is None else (value, match.end())
