"""Output formats beside those of cliff: JSON that streams, and csv for single documents."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, TextIO, cast

from cliff.formatters.base import ListFormatter, SingleFormatter
from cliff.formatters.json_format import JSONFormatter
from cliff.formatters.shell import ShellFormatter
from cliff.formatters.table import TableFormatter

from freezer_cli.text import printable
from freezer_sdk.errors import ConfigurationError

_IN_QUOTES = {ord(character): "\\" + character for character in "\\$`"}
"""What means something to a shell between double quotes, besides these."""


class StreamingJSONFormatter(JSONFormatter):
    """A JSON array that is written row by row: a listing of millions of files needs no memory."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Writes the rows as objects."""
        indent = None if parsed_args.noindent else 2
        separator = "[\n"
        for row in data:
            item = json.dumps(dict(zip(column_names, row, strict=True)), indent=indent)
            stdout.write(separator + item)
            separator = ",\n"
        stdout.write("[]\n" if separator == "[\n" else "\n]\n")


class Right(str):
    """Text that a table aligns to the right: numbers for people."""

    __slots__ = ()


class NumbersTableFormatter(TableFormatter):
    """cliff's table, with numbers for people aligned as numbers."""

    def __init__(self) -> None:
        self.ALIGNMENTS = {**TableFormatter.ALIGNMENTS, Right: "r"}


class CSVSingleFormatter(SingleFormatter, ListFormatter):
    """A line of keys, and a line of values for each document."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """It has no options."""

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Writes the two lines."""
        self.emit_list(column_names, [data], stdout, parsed_args)

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Writes the lines."""
        writer = csv.writer(stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(column_names)
        writer.writerows(data)


class QuotingShellFormatter(ShellFormatter):
    """cliff's assignments, with values in which a shell finds nothing to run."""

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Writes the lines."""
        quoted = [value.translate(_IN_QUOTES) if isinstance(value, str) else value for value in data]
        super().emit_one(column_names, quoted, stdout, parsed_args)


class TextFormatter(SingleFormatter):
    """A summary for people.

    Args:
        render: the lines for a document.
    """

    def __init__(self, render: Callable[[Mapping[str, Any]], Iterable[str]]) -> None:
        self._render = render

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """It has no options."""

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Writes the lines."""
        for line in self._render(dict(zip(column_names, data, strict=True))):
            stdout.write(printable(line) + "\n")


def binary(stdout: TextIO) -> BinaryIO:
    """The byte stream below standard output.

    Raises:
        ConfigurationError: it has none.
    """
    stdout.flush()
    buffer = getattr(stdout, "buffer", None)
    if buffer is None:
        raise ConfigurationError("standard output takes text only")
    return cast("BinaryIO", buffer)


class LineFormatter(ListFormatter):
    """Lines of bytes, written as they come.

    Args:
        render: one line for a row, without its end.
    """

    def __init__(self, render: Callable[[Mapping[str, Any]], bytes]) -> None:
        self._render = render

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """Adds -0."""
        group = parser.add_argument_group("text formatter")
        group.add_argument("-0", "--null", action="store_true", help="end lines with NUL instead of a line feed")

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Writes the lines."""
        out = binary(stdout)
        end = b"\0" if parsed_args.null else b"\n"
        for row in data:
            out.write(self._render(dict(zip(column_names, row, strict=True))) + end)
        out.flush()
