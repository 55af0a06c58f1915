"""``freezer backup list`` and ``freezer backup show``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.backup.choice import add_choice, choose
from freezer_cli.backup.columns import BACKUP, BACKUP_ROW
from freezer_cli.base import ListCommand, ShowCommand
from freezer_cli.documents import backup_document
from freezer_cli.repository_command import RepositoryCommand, add_selection


class ListBackups(RepositoryCommand, ListCommand):
    """List backups, the newest last."""

    examples = (
        "freezer backup list --name etc",
        "freezer backup list --before '2026-11-23 12:00' -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the choice of backups."""
        parser = super().get_parser(prog_name)
        add_selection(parser)
        parser.add_argument("--mode", metavar="MODE", help="only backups of this mode")
        parser.add_argument("--path", metavar="PATH", help="only backups with this root")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Lists."""
        found = self.open(parsed_args).backups(
            name=parsed_args.name,
            host=parsed_args.host,
            tags=parsed_args.tag,
            before=parsed_args.before,
            after=parsed_args.after,
            mode=parsed_args.mode,
            path=parsed_args.path,
        )
        return BACKUP_ROW, [backup_document(backup) for backup in found]


class ShowBackup(RepositoryCommand, ShowCommand):
    """Show all that is recorded about one backup."""

    examples = ("freezer backup show latest --name etc", "freezer backup show 3f2a9c1e -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backup."""
        parser = super().get_parser(prog_name)
        add_choice(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Reads the commit."""
        backup, _ = choose(self.open(parsed_args), parsed_args)
        return BACKUP, backup_document(backup)
