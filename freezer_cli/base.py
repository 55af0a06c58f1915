"""What all commands share: global options, help with examples, settings, and output with documented keys."""

from __future__ import annotations

import abc
import argparse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cliff import _argparse, command, lister, show
from cliff.formatters.base import ListFormatter
from stevedore import ExtensionManager
from stevedore.extension import Extension

from freezer_cli.formatters import (
    CSVSingleFormatter,
    NumbersTableFormatter,
    QuotingShellFormatter,
    Right,
    StreamingJSONFormatter,
    TextFormatter,
)
from freezer_cli.global_options import add_global_options
from freezer_cli.settings import Settings
from freezer_cli.text import is_terminal, printable
from freezer_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from freezer_cli.app import FreezerApp

Row = Mapping[str, Any]
USAGE_ERROR = 2


class HelpFormatter(_argparse.SmartHelpFormatter):
    """Keeps the lines of descriptions and examples as they were written; the usage does not repeat all options."""

    def add_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Iterable[Any], prefix: str | None = None
    ) -> None:
        """Adds the usage line."""
        words = [_usage_word(action) for action in actions if not action.option_strings]
        super().add_usage(usage or " ".join(["%(prog)s [OPTION ...]", *words]), actions, groups, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())


def _usage_word(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest).replace("%", "%%")
    forms = {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}
    return forms.get(str(action.nargs), name)


class FreezerCommand(command.Command):
    """Base of all commands.

    Attributes:
        examples: command lines for ``--help``.
        arguments: what follows the verb, for parsers that depend on it.
        exit_code: what the program ends with when the command raises nothing.
        resources: what stays open until the output is written.
    """

    app: FreezerApp
    conflict_handler = "error"
    examples: tuple[str, ...] = ()
    arguments: Sequence[str] = ()
    exit_code = 0
    resources: ExitStack

    def get_epilog(self) -> str:
        """The examples; unlike cliff's it does not search all distributions for the command's owner."""
        title = "example:" if len(self.examples) == 1 else "examples:"
        return "\n".join([title, *(f"  {line}" for line in self.examples)])

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The command's own options, then the global ones."""
        parser = super().get_parser(prog_name)
        parser.formatter_class = HelpFormatter
        parser.allow_abbrev = False  # an abbreviation in a script breaks when an option is added
        add_global_options(parser.add_argument_group("global options"), after_verb=True)
        return parser

    def advice(self, known: Collection[str]) -> str | None:
        """What may help where the arguments are wrong.

        Args:
            known: flags of the parser.
        """
        return None

    def wrong_arguments(self) -> int:
        """The exit code where the arguments are wrong; the message is written already."""
        return USAGE_ERROR

    @property
    def settings(self) -> Settings:
        """What the command runs with."""
        return self.app.settings

    def prepare(self, arguments: Sequence[str]) -> list[str]:
        """What the parser gets of the arguments after the verb."""
        return list(arguments)

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Runs the command and gives its exit code; what it opened is closed after the output."""
        with ExitStack() as self.resources:
            return super().run(parsed_args) or self.exit_code


@dataclass(frozen=True)
class Column:
    """One column of a list, or one field of a document.

    Attributes:
        key: in machine formats; documented.
        title: in tables.
        human: how a table shows a value; a list gives several lines.
        extra: only in json and yaml, or when chosen with ``-c``.
    """

    key: str
    title: str
    human: Callable[[Any], str | list[str]] = str
    extra: bool = False

    def matches(self, name: str) -> bool:
        """Whether ``-c NAME`` means this column."""
        wanted = name.strip().lower().replace(" ", "_")
        return wanted in (self.key, self.title.lower().replace(" ", "_"))

    def cell(self, value: Any) -> str:
        """The text of a table cell."""
        shown = "" if value is None else self.human(value)
        if not isinstance(shown, str):
            return "\n".join(printable(line) for line in shown)
        return Right(shown) if isinstance(value, (int, float)) and not isinstance(value, bool) else printable(shown)


def columns_of(names: Iterable[str], *, extra: bool = False) -> tuple[Column, ...]:
    """Columns whose titles follow from their keys."""
    return tuple(Column(name, name.replace("_", " ").capitalize(), _joined, extra) for name in names)


def _joined(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)


def flat(value: Any) -> Any:
    """A value of csv, value and shell formats: no lists, no ``None``, true and false as in JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list, tuple)):
        import json

        simple = not isinstance(value, dict) and all(isinstance(item, (str, int, float)) for item in value)
        return ",".join(str(item) for item in value) if simple else json.dumps(value, ensure_ascii=False)
    return value


class _Output(FreezerCommand):
    """Maps columns to titles for people, to keys for machines."""

    def select(self, columns: Sequence[Column], parsed_args: argparse.Namespace) -> list[Column]:
        """The columns to print.

        Raises:
            ConfigurationError: ``-c`` names none that exists.
        """
        if parsed_args.columns:
            unknown = [name for name in parsed_args.columns if not any(column.matches(name) for column in columns)]
            if unknown:
                known = ", ".join(column.key for column in columns)
                raise ConfigurationError(f"there is no column {', '.join(unknown)}", hint=f"columns: {known}")
            return [column for column in columns if any(column.matches(name) for name in parsed_args.columns)]
        everything = parsed_args.formatter in ("json", "yaml", "text")
        return [column for column in columns if everything or not column.extra]

    def cells(self, columns: Sequence[Column], row: Row, parsed_args: argparse.Namespace) -> list[Any]:
        """One row in the chosen format."""
        if parsed_args.formatter == "table":
            return [column.cell(row.get(column.key)) for column in columns]
        values = [row.get(column.key) for column in columns]
        if parsed_args.formatter in ("json", "yaml", "text"):
            return values
        shown = [flat(value) for value in values]
        if is_terminal(self.app.stdout):
            return [printable(value) if isinstance(value, str) else value for value in shown]
        return shown

    def names(self, columns: Sequence[Column], parsed_args: argparse.Namespace) -> list[str]:
        """Titles or keys."""
        return [column.title if parsed_args.formatter == "table" else column.key for column in columns]


class ListCommand(_Output, lister.Lister):
    """Base of commands that print rows: ``take_action`` gives columns and documents."""

    def _load_formatter_plugins(self) -> ExtensionManager[Any]:
        return with_formatters(
            super()._load_formatter_plugins(), json=StreamingJSONFormatter(), table=NumbersTableFormatter()
        )

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[Any], data: Iterable[Any]) -> int:
        """Prints the rows."""
        columns: Sequence[Column] = column_names
        rows: Iterable[Row] = data
        for name in reversed(parsed_args.sort_columns):
            keys = [column.key for column in columns if column.matches(name)]
            if not keys:
                raise ConfigurationError(f"there is no column {name} to sort by")
            rows = sorted(rows, key=_sort_key(keys[0]), reverse=parsed_args.sort_direction == "desc")
        chosen = self.select(columns, parsed_args)
        cells = (self.cells(chosen, row, parsed_args) for row in rows)
        self.formatter.emit_list(self.names(chosen, parsed_args), cells, self.app.stdout, parsed_args)
        return 0


class ShowCommand(_Output, show.ShowOne):
    """Base of commands that print one document: ``take_action`` gives columns and the document."""

    def _load_formatter_plugins(self) -> ExtensionManager[Any]:
        manager = super()._load_formatter_plugins()
        return with_formatters(manager, csv=CSVSingleFormatter(), shell=QuotingShellFormatter())

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[Any], data: Any) -> int:
        """Prints the document."""
        chosen = self.select(column_names, parsed_args)
        names, cells = self.names(chosen, parsed_args), self.cells(chosen, data, parsed_args)
        self.formatter.emit_one(names, cells, self.app.stdout, parsed_args)
        return 0


@dataclass(frozen=True)
class Rows:
    """Several results of one command, in place of one document.

    Attributes:
        summary: the lines that people see.
    """

    rows: Sequence[Row]
    summary: Sequence[str]


class ResultCommand(ShowCommand):
    """Base of commands that do something: a short summary for people, the result's document for machines."""

    @property
    def formatter_default(self) -> str:
        """People come first."""
        return "text"

    def _load_formatter_plugins(self) -> ExtensionManager[Any]:
        return with_formatters(super()._load_formatter_plugins(), text=TextFormatter(self.summary))

    @abc.abstractmethod
    def summary(self, document: Row) -> Iterable[str]:
        """The lines that people see."""

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[Any], data: Any) -> int:
        """Prints the result, unless events told it already or nobody wants it."""
        events = getattr(parsed_args, "json_events", False)
        if events or (parsed_args.formatter == "text" and self.app.options.quiet):
            return 0
        if isinstance(data, Rows):
            return self._produce_rows(parsed_args, column_names, data)
        return super().produce_output(parsed_args, column_names, data)

    def _produce_rows(self, parsed_args: argparse.Namespace, columns: Sequence[Column], data: Rows) -> int:
        if parsed_args.formatter == "text":
            for line in data.summary:
                self.app.stdout.write(printable(line) + "\n")
            return 0
        if not isinstance(self.formatter, ListFormatter):
            raise ConfigurationError(f"-f {parsed_args.formatter} takes one result, and there are several")
        chosen = self.select(columns, parsed_args)
        cells = [self.cells(chosen, row, parsed_args) for row in data.rows]
        self.formatter.emit_list(self.names(chosen, parsed_args), cells, self.app.stdout, parsed_args)
        return 0


def with_formatters(manager: ExtensionManager[Any], **formatters: Any) -> ExtensionManager[Any]:
    """The manager with formatters of ours added, or put in the place of those that it found."""
    kept = [extension for extension in manager if extension.name not in formatters]
    ours = [Extension(name, None, type(each), each) for name, each in formatters.items()]  # type: ignore[arg-type]
    return ExtensionManager.make_test_instance([*kept, *ours], namespace=manager.namespace)


def _sort_key(key: str) -> Callable[[Row], Any]:
    def value(row: Row) -> Any:
        found = row.get(key)
        return (found is None, found if isinstance(found, (int, float)) else str(found))

    return value
