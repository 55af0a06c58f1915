"""The command line: what was given, by key; and its help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from freezer_cli.agent.declaration import OPTIONS
from freezer_cli.agent.option import AgentOption, Kind
from freezer_cli.base import HelpFormatter
from freezer_sdk.errors import ConfigurationError

DESCRIPTION = """\
Back up and restore with the options of the original Freezer's agent.

An INI file may give any option (--config); the command line wins. New jobs are better off with `freezer`."""
EPILOG = """\
examples:
  freezer-agent --path-to-backup /data --storage local --container /srv/backups --backup-name data --max-level 6
  freezer-agent --action restore --restore-abs-path /tmp/out --storage local --container /srv/backups --backup-name data
  freezer-agent --action admin --storage local --container /srv/backups --backup-name data --remove-older-than 30
  freezer-agent --config /etc/freezer/data.ini"""
_TAKES_TEXT_TOO = "incremental"
"""Its negation was an option with a value in some agents."""


def parse(arguments: Sequence[str], *, program: str, version: str) -> dict[str, Any]:
    """What the command line gives, by key; what it does not give is not there.

    Options may be shortened as far as they stay unique, and written with ``_`` for ``-``, as it always was.

    Raises:
        SystemExit: wrong arguments, or help and version were asked for.
    """
    namespace = _parser(program, version).parse_args([_dashes(word) for word in arguments])
    return vars(namespace)


def _dashes(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _parser(program: str, version: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        usage="%(prog)s [OPTION ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=HelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("-V", "--version", action="version", version=f"%(prog)s {version}")
    groups: dict[str, Any] = {}
    for option in OPTIONS:
        group = groups.get(option.group)
        if group is None:
            group = groups[option.group] = parser.add_argument_group(option.group)
        _add(group, option)
    return parser


def _add(group: Any, option: AgentOption) -> None:
    dest: dict[str, Any] = {"dest": option.key}
    text = help_text(option).replace("%", "%%")
    if option.kind is Kind.FLAG:
        group.add_argument(*option.spellings, action="store_true", help=text, **dest)
        value = {"nargs": "?"} if option.name == _TAKES_TEXT_TOO else {"nargs": 0}
        group.add_argument(*option.negations, action=_Off, help=argparse.SUPPRESS, **value, **dest)
        return
    settings = {"type": _argument_type(option), "help": text, "metavar": option.metavar or None, **dest}
    if option.kind is Kind.WISH:
        settings |= {"nargs": "?", "const": True, "metavar": "yes"}
    elif option.choices:
        settings["metavar"] = "{" + ",".join(option.choices) + "}"
    group.add_argument(*option.spellings, **settings)


class _Off(argparse.Action):
    """Switches a flag off; ``--no-incremental False`` leaves it on."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_rest: Any
    ) -> None:
        setattr(namespace, self.dest, isinstance(values, str) and values.lower() in ("false", "no", "none", "0"))


def help_text(option: AgentOption) -> str:
    """What an option means, with its default."""
    text = option.help
    if option.secret:
        text += "; others can read command lines: better in an INI file"
    if option.kind is Kind.FLAG and option.default is True:
        text += f" (default: yes; {option.negations[-1]} switches it off)"
    elif option.default not in (None, False):
        text += f" (default: {option.default})"
    return text


def _argument_type(option: AgentOption) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return option.convert(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
