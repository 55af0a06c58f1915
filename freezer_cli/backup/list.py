"""``freezer backup list`` and ``freezer backup show``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.backup.choice import add_choice, choose, choose_among
from freezer_cli.backup.columns import BACKUP, GROUP_BACKUP, listed_columns
from freezer_cli.base import ListCommand, ShowCommand
from freezer_cli.documents import backup_document, group_backup_document
from freezer_cli.group_command import GroupCommand
from freezer_cli.operation import PARTIAL
from freezer_cli.repository_command import add_selection


class ListBackups(GroupCommand, ListCommand):
    """List backups, the newest last; of several storages each once.

    Exits with 3 when one of several storages could not be asked."""

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
        wanted = {
            "name": parsed_args.name,
            "host": parsed_args.host,
            "tags": parsed_args.tag,
            "before": parsed_args.before,
            "after": parsed_args.after,
            "mode": parsed_args.mode,
            "path": parsed_args.path,
        }
        if not self.several:
            rows = [backup_document(backup) for backup in self.open(parsed_args).backups(**wanted)]
            return listed_columns(rows, several=False), rows
        group = self.open_group(parsed_args)
        self.tell_lost(group)
        everywhere = group.backups(**wanted, events=self.listen)
        self.exit_code = PARTIAL if self.asked_in_vain else 0
        rows = [group_backup_document(found) for found in everywhere]
        return listed_columns(rows, several=True), rows


class ShowBackup(GroupCommand, ShowCommand):
    """Show all that is recorded about one backup."""

    examples = ("freezer backup show latest --name etc", "freezer backup show 3f2a9c1e -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backup."""
        parser = super().get_parser(prog_name)
        add_choice(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Reads the commit."""
        if self.several:
            group = self.open_group(parsed_args)
            self.tell_lost(group)
            return GROUP_BACKUP, group_backup_document(choose_among(group, parsed_args, events=self.listen)[0])
        backup, _ = choose(self.open(parsed_args), parsed_args)
        return BACKUP, backup_document(backup)
