"""INI files: ``[default]`` or any other sections with options, and ``[storage:NAME]`` sections."""

from __future__ import annotations

import configparser
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freezer_cli.agent.declaration import INI_NAMES
from freezer_cli.agent.option import Kind
from freezer_sdk.errors import ConfigurationError

LOG = logging.getLogger("freezer")
_STORAGE = "storage:"
_OSLO = "DEFAULT"
"""The section of the files that the original's configuration library reads; others are for other programs."""


@dataclass(frozen=True, kw_only=True)
class IniFile:
    """What a file gives; shown nowhere, because passwords may be among it.

    Attributes:
        values: by key.
        storages: the same for each ``[storage:NAME]``, by its name.
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    storages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


def read_directory(path: str) -> IniFile:
    """Section ``[DEFAULT]`` of all ``*.conf`` of a directory in the order of their names; later ones win.

    Raises:
        ConfigurationError: it cannot be read, or a file makes no sense.
    """
    folder = Path(path).expanduser()
    try:
        names = sorted(each for each in folder.iterdir() if each.suffix == ".conf")
    except OSError as error:
        raise ConfigurationError(f"the directory {path} cannot be read: {error.strerror}") from None
    values: dict[str, Any] = {}
    for name in names:
        values |= read_default(str(name)).values
    return IniFile(values=values)


def read_default(path: str) -> IniFile:
    """Section ``[DEFAULT]`` of a file, where other programs may have sections, too.

    Raises:
        ConfigurationError: it cannot be read, is no INI file, or a value does not fit its option.
    """
    parser, exposed = _parse(path)
    values = _section(parser, _OSLO, path, []) if parser.has_section(_OSLO) else {}
    if exposed:
        _warn_if_exposed(path, [values])
    return IniFile(values=values)


def read_ini(path: str) -> IniFile:
    """Reads a file. Sections other than ``[storage:NAME]`` count as one; in them a later line wins.

    Raises:
        ConfigurationError: it cannot be read, is no INI file, or a value does not fit its option.
    """
    parser, exposed = _parse(path)
    values: dict[str, Any] = {}
    storages: dict[str, Mapping[str, Any]] = {}
    unknown: list[str] = []
    for section in parser.sections():
        found = _section(parser, section, path, unknown)
        if section.startswith(_STORAGE):
            storages[section.removeprefix(_STORAGE).strip()] = found
        else:
            values |= found
    if unknown:
        LOG.warning("%s: unknown options have no effect: %s", path, ", ".join(dict.fromkeys(unknown)))
    if exposed:
        _warn_if_exposed(path, [values, *storages.values()])
    return IniFile(values=values, storages=storages)


def read_login(path: str, known: Sequence[str]) -> dict[str, str]:
    """Names and values of all sections of a file with the login of a server; a later line wins.

    Raises:
        ConfigurationError: it cannot be read, is no INI file, or has a name that is not known.
    """
    parser, exposed = _parse(path)
    values = {
        name.replace("-", "_"): parser.get(section, name, raw=True)
        for section in parser.sections()
        for name in parser.options(section)
    }
    unknown = ", ".join(name for name in values if name not in known)
    if unknown:
        raise ConfigurationError(f"{path}: there is no {unknown}", hint=f"known are {', '.join(known)}")
    if exposed and values.keys() & {"password", "uri"}:
        LOG.warning("%s holds secrets and others can read it: chmod 600 %s", path, path)
    return values


def _parse(path: str) -> tuple[configparser.ConfigParser, bool]:
    """The sections of a file, and whether others than its owner can read it."""
    parser = configparser.ConfigParser(default_section="")
    file = Path(path).expanduser()
    try:
        with file.open(encoding="utf-8") as stream:
            exposed = os.name == "posix" and bool(os.fstat(stream.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO))
            parser.read_file(stream, source=path)
    except OSError as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the configuration file {path} is not UTF-8 text") from None
    except configparser.Error as error:
        raise ConfigurationError(f"the configuration file {path} is no INI file: {_reason(error)}") from None
    return parser, exposed


def _section(parser: configparser.ConfigParser, section: str, path: str, unknown: list[str]) -> dict[str, Any]:
    values = {}
    for name in parser.options(section):
        option, on = INI_NAMES.get(name.replace("-", "_"), (None, True))
        if option is None:
            unknown.append(name)
            continue
        try:
            value = option.convert_setting(_text(parser, section, name))
        except ConfigurationError as error:
            reason = "its value does not fit" if option.secret else str(error)
            raise ConfigurationError(f"{path}: [{section}] {name}: {reason}") from None
        values[option.key] = value if on or option.kind is not Kind.FLAG else not value
    return values


def _text(parser: configparser.ConfigParser, section: str, name: str) -> str:
    """The text, with ``%(name)s`` and ``%%`` as Python's configuration files have them, where that is meant."""
    try:
        return parser.get(section, name)
    except configparser.InterpolationError:
        return parser.get(section, name, raw=True)  # 80%FREE, or a password


def _warn_if_exposed(path: str, sections: Sequence[Mapping[str, Any]]) -> None:
    if any(INI_NAMES[key][0].secret and value for values in sections for key, value in values.items()):
        LOG.warning("%s holds secrets and others can read it: chmod 600 %s", path, path)


def _reason(error: configparser.Error) -> str:
    """What is wrong, without the line itself: it may be a password."""
    match error:
        case configparser.DuplicateOptionError():
            return f"line {error.lineno}: {error.option} is given twice in [{error.section}]"
        case configparser.DuplicateSectionError():
            return f"line {error.lineno}: there are two sections [{error.section}]"
        case configparser.MissingSectionHeaderError():
            return f"line {error.lineno}: a section such as [default] must come first"
        case configparser.ParsingError():
            return f"line {error.errors[0][0]} cannot be understood" if error.errors else "it cannot be understood"
        case _:
            return "it cannot be understood"
