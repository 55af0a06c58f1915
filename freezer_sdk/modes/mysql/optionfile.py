"""Option files of MySQL and MariaDB, and those of the original's ``--mysql-conf``.

The syntax is that of https://mariadb.com/kb/en/configuring-mariadb-with-option-files/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.streams.private import unnamed_file

GROUPS = ("", "default", "client", "client-server", "client-mariadb", "freezer")
"""Groups that tell how to reach a server, later ones over earlier ones; the first is what stands before any group."""
_FREEZERS_OWN = ("", "default")
_DEEPEST = 10
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "s": " ", "\\": "\\", '"': '"', "'": "'"}


def read_option_file(path: str) -> dict[str, str]:
    """The settings of all :data:`GROUPS`, names with dashes; a setting without a value is an empty text.

    Raises:
        ConfigurationError: it cannot be read, or includes files in a circle.
    """
    found: dict[str, dict[str, str]] = {}
    _read(Path(path), found, "", 0)
    merged: dict[str, str] = {}
    for group in GROUPS:
        merged |= found.get(group, {})
    return merged


def _read(path: Path, found: dict[str, dict[str, str]], group: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise ConfigurationError(f"option files include each other too deeply: {path}")
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigurationError(f"the option file cannot be read: {path}: {error.strerror}") from error
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("!"):
            for included in _included(line, path):
                _read(included, found, group, depth + 1)
        elif line.startswith("[") and "]" in line:
            group = line[1 : line.index("]")].strip().lower()
        else:
            name, _, value = line.partition("=")
            value = _value(value.strip(), comments=group not in _FREEZERS_OWN)
            found.setdefault(group, {})[_name(name)] = value


def _name(text: str) -> str:
    return re.sub(r"#.*", "", text).strip().lower().replace("_", "-").removeprefix("loose-")


def _included(line: str, path: Path) -> Iterator[Path]:
    word, _, place = line.partition(" ")
    where = path.parent / place.strip()
    if word == "!include":
        yield where
    elif word == "!includedir":
        try:
            yield from sorted(each for each in where.iterdir() if each.suffix == ".cnf")
        except OSError as error:
            raise ConfigurationError(f"the folder of option files cannot be read: {where}: {error.strerror}") from error


def _value(text: str, *, comments: bool) -> str:
    """A value without quotes; the original's own files know neither escapes nor comments behind a value."""
    if comments:
        text = _without_comment(text)
    if len(text) > 1 and text[0] in "\"'" and text[0] == text[-1]:
        text = text[1:-1]
    if not comments:
        return text
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text)


def _without_comment(text: str) -> str:
    quote, escaped = "", False
    for number, letter in enumerate(text):
        if letter in "\"'" and not escaped and quote in ("", letter):
            quote = "" if quote else letter
        elif letter == "#" and not quote:
            return text[:number].rstrip()
        escaped = letter == "\\" and quote != "" and not escaped
    return text


@contextmanager
def private_option_file(settings: Mapping[str, str]) -> Iterator[int]:
    """A descriptor of an option file with a group ``[client]``, that programs inherit as ``--defaults-file``."""
    lines = ["[client]", *(f'{name}="{_quoted(value)}"' for name, value in settings.items()), ""]
    with unnamed_file("\n".join(lines).encode("utf-8", "surrogateescape")) as descriptor:
        yield descriptor


def _quoted(value: str) -> str:
    for letter, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        value = value.replace(letter, escape)
    return value
