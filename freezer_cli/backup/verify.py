"""``freezer backup verify``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import ResultCommand, Row, columns_of
from freezer_cli.documents import verify_document
from freezer_cli.operation import INTEGRITY, running
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import counted, human_duration, human_size

_COLUMNS = columns_of(("ok", "backups", "objects", "blobs", "bytes_read", "read_data", "duration", "problems"))


class VerifyBackups(RepositoryCommand, ResultCommand):
    """Check that backups are whole; without an ID the whole repository.

    Exits with 13 when something is damaged or missing."""

    examples = ("freezer backup verify", "freezer backup verify latest --read-data")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backups and how thorough to be."""
        parser = super().get_parser(prog_name)
        parser.add_argument("backups", metavar="ID", nargs="*", help="start of an id, or latest")
        parser.add_argument("--read-data", action="store_true", help="read and authenticate every byte")
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_priority_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Verifies."""
        apply_priority(parsed_args.nice, parsed_args.ionice)
        freezer = self.open(parsed_args)
        with running(self, parsed_args, "verify") as how:
            result = freezer.verify(
                parsed_args.backups, read_data=parsed_args.read_data, events=how.listener, cancel=how.cancel
            )
        self.exit_code = 0 if result.ok else INTEGRITY
        document = verify_document(result)
        how.finish(document, self.exit_code)
        return _COLUMNS, document

    def summary(self, document: Row) -> Iterable[str]:
        """What was looked at; what was found was told while it ran."""
        damage = sum(problem["fatal"] for problem in document["problems"])
        warnings = len(document["problems"]) - damage
        found = "no damage" if document["ok"] else counted(damage, "problem")
        found += f", {counted(warnings, 'warning')}" if warnings else ""
        yield (
            f"verified {counted(document['backups'], 'backup')}, {counted(document['objects'], 'object')}, "
            f"{counted(document['blobs'], 'blob')}, read {human_size(document['bytes_read'])} "
            f"in {human_duration(document['duration'])}: {found}"
        )
