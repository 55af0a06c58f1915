"""``freezer backup hold``, ``release`` and ``holds``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.backup.retained import HOLD, hold_document
from freezer_cli.base import ListCommand, ResultCommand, Row, Rows
from freezer_cli.dates import HELP, parse_date_until
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import human_iso


class HoldBackup(RepositoryCommand, ResultCommand):
    """Forbid to forget a backup, by rules or by its id, until a date or until it is released."""

    examples = (
        "freezer backup hold 3f2a9c1e --reason 'audit 2026'",
        "freezer backup hold 3f2a9c1e --reason 'case 4711' --until 2031-12-31",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backup, the reason and the end."""
        parser = super().get_parser(prog_name)
        parser.add_argument("backup", metavar="ID", help="start of an id, or latest")
        parser.add_argument("--reason", metavar="TEXT", required=True, help="why, for those who want to forget it")
        parser.add_argument(
            "--until", metavar="DATE", type=parse_date_until, help=f"when it ends (default: never); {HELP}"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Holds."""
        retention = self.open(parsed_args).retention
        return HOLD, hold_document(
            retention.hold(parsed_args.backup, reason=parsed_args.reason, until=parsed_args.until)
        )

    def summary(self, document: Row) -> Iterable[str]:
        """One line."""
        yield f"backup {document['backup'][:8]} is held {_end(document)}"


class ReleaseBackup(RepositoryCommand, ResultCommand):
    """End all holds of a backup."""

    examples = ("freezer backup release 3f2a9c1e",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backup."""
        parser = super().get_parser(prog_name)
        parser.add_argument("backup", metavar="ID", help="start of an id, or latest")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Releases, and gives the holds that were in force."""
        ended = [hold_document(hold) for hold in self.open(parsed_args).retention.release(parsed_args.backup)]
        return HOLD, Rows(
            ended, [f"backup {each['backup'][:8]} is not held any more: {each['reason']}" for each in ended]
        )

    def summary(self, document: Row) -> Iterable[str]:
        """One line."""
        yield f"backup {document['backup'][:8]} is not held any more: {document['reason']}"


class ListHolds(RepositoryCommand, ListCommand):
    """List the backups that are held, and why."""

    examples = ("freezer backup holds", "freezer backup holds -f json")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Lists."""
        return HOLD, [hold_document(hold) for hold in self.open(parsed_args).retention.holds()]


def _end(document: Row) -> str:
    return "until it is released" if document["until"] is None else f"until {human_iso(document['until'])}"
