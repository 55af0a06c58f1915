"""``freezer backup undelete``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.backup.retained import FORGOTTEN, REVIVED, forgotten_document
from freezer_cli.base import ResultCommand, Row, Rows
from freezer_cli.documents import backup_document
from freezer_cli.operation import running
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import human_iso


class UndeleteBackup(RepositoryCommand, ResultCommand):
    """Bring forgotten backups back; without an ID list those that can come back.

    A backup comes back with all that is recorded about it, under a new id. That works until maintenance has let go of
    its data."""

    examples = ("freezer backup undelete", "freezer backup undelete 3f2a9c1e")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backups."""
        parser = super().get_parser(prog_name)
        parser.add_argument("backups", metavar="ID", nargs="*", help="start of the id that it had")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Brings back, or lists."""
        retention = self.open(parsed_args).retention
        if not parsed_args.backups:
            found = [forgotten_document(each) for each in retention.forgotten()]
            return FORGOTTEN, Rows(
                found, [_line(each) for each in found] or ["nothing was forgotten that could come back"]
            )
        revived = []
        with running(self, parsed_args, "undelete") as how:
            for backup in parsed_args.backups:
                known = [each.backup.id for each in retention.forgotten()]
                result = retention.undelete(backup, events=how.listener, cancel=how.cancel)
                was = next(each for each in known if each.startswith(backup.lower()))
                revived.append({"was": was, **backup_document(result)})
        return REVIVED, Rows(revived, [f"backup {each['was'][:8]} is back as {each['id'][:8]}" for each in revived])

    def summary(self, document: Row) -> Iterable[str]:
        """One line."""
        yield _line(document)


def _line(document: Row) -> str:
    title = f"{document['id'][:8]}  {human_iso(document['time'])}  {document['name']} of {document['host']}"
    reason = f" ({document['reason']})" if document["reason"] else ""
    return f"{title}, forgotten {human_iso(document['forgotten'])}{reason}"
