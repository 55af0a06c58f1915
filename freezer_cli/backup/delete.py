"""``freezer backup delete``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.backup.columns import BACKUP_ROW
from freezer_cli.base import ListCommand
from freezer_cli.documents import backup_document
from freezer_cli.repository_command import RepositoryCommand


class DeleteBackups(RepositoryCommand, ListCommand):
    """Forget backups; their space is freed by later maintenance.

    All of them must be found before the first is forgotten. Engines with levels (tar, rsync) delete at once, and refuse
    what another backup needs."""

    examples = ("freezer backup delete 3f2a9c1e", "freezer backup delete 3f2a9c1e 77b0d1f2 -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backups."""
        parser = super().get_parser(prog_name)
        parser.add_argument("backups", metavar="ID", nargs="+", help="start of an id")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Forgets, and lists what was forgotten."""
        forgotten = self.open(parsed_args).forget(parsed_args.backups)
        return BACKUP_ROW, [backup_document(backup) for backup in forgotten]

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[Any], data: Iterable[Any]) -> int:
        """Prints what was forgotten, unless nobody wants to know."""
        if self.app.options.quiet and parsed_args.formatter == "table":
            return 0
        return super().produce_output(parsed_args, column_names, data)
