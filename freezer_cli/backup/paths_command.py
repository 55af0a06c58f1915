"""Commands that print paths: plain lines for people and pipes, documents for machines; nothing is collected."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from stevedore import ExtensionManager

from freezer_cli.backup.lines import Line, encode
from freezer_cli.base import Column, ListCommand, Row, with_formatters
from freezer_cli.formatters import LineFormatter
from freezer_cli.text import is_terminal


class PathsCommand(ListCommand):
    """Base of commands that print one path a line.

    Attributes:
        line: the line of a row; chosen by ``take_action``.
    """

    line: Callable[[Row], Line]

    @property
    def formatter_default(self) -> str:
        """Lines."""
        return "text"

    def _load_formatter_plugins(self) -> ExtensionManager[Any]:
        return with_formatters(super()._load_formatter_plugins(), text=LineFormatter(self._encoded))

    def _encoded(self, row: Row) -> bytes:
        return encode(self.line(row), terminal=is_terminal(self.app.stdout))

    def select(self, columns: Sequence[Column], parsed_args: argparse.Namespace) -> list[Column]:
        """All columns for lines, the chosen ones for documents."""
        return list(columns) if parsed_args.formatter == "text" else super().select(columns, parsed_args)
