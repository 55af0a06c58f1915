"""``freezer repository key recovery`` and ``export-recovery``: what is printed and put away."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import Column, ResultCommand, Row
from freezer_cli.documents import plain
from freezer_cli.key import KEY
from freezer_cli.repository_command import RepositoryCommand

RECOVERY_KEY = (*KEY, Column("recovery_key", "Recovery key"))
SHEET = (
    Column("location", "Location"),
    Column("repository_id", "Repository"),
    Column("format", "Format"),
    Column("encrypted", "Encrypted"),
    Column("created", "Created"),
    Column("printed", "Printed"),
    Column("epoch", "Epoch"),
    Column("keys", "Keys"),
    Column("commands", "Commands"),
    Column("tool_commands", "Without the program"),
    Column("recovery_key", "Recovery key"),
)
_TYPING = "Type it wherever a password is asked for, in one line; neither case nor blanks matter."


class MakeRecoveryKey(RepositoryCommand, ResultCommand):
    """Make a recovery key: a password to print and put away, for the day when all others are lost.

    It opens everything and is shown this once. A typing error is found, and the line with it is named. Remove it like
    any other key."""

    examples = ("freezer repository key recovery", "freezer repository key recovery --label 'safe in Bern' -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds --label."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--label", metavar="TEXT", default="recovery key", help="to know it by; in clear text")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Makes it."""
        made = self.open(parsed_args).keys.recovery_key(label=parsed_args.label)
        return RECOVERY_KEY, {**plain(made.key), "recovery_key": made.text}

    def summary(self, document: Row) -> Iterable[str]:
        """The key, and what it is for."""
        yield f"Recovery key {document['id'][:8]} ({document['label']})"
        yield ""
        yield from _indented(document["recovery_key"])
        yield ""
        yield _TYPING
        yield "It opens the whole repository, and is not shown again."


class ExportRecovery(RepositoryCommand, ResultCommand):
    """Print what somebody needs who has nothing but the storage and a password.

    Without --with-recovery-key there is no secret on the sheet."""

    examples = (
        "freezer repository export-recovery > sheet.txt",
        "freezer repository export-recovery --with-recovery-key | lp",
        "freezer repository export-recovery -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds --with-recovery-key."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--with-recovery-key", action="store_true", help="make a recovery key, and put it on the sheet: a SECRET"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Collects the facts."""
        sheet = self.open(parsed_args).keys.export_recovery(with_recovery_key=parsed_args.with_recovery_key)
        return SHEET, plain(sheet)

    def summary(self, document: Row) -> Iterable[str]:
        """The sheet."""
        yield "RECOVERY SHEET OF A BACKUP REPOSITORY"
        yield ""
        yield f"Location:    {document['location']}"
        yield f"Repository:  {document['repository_id']}"
        yield f"Format:      {document['format']}, engine dedup"
        yield f"Encrypted:   {'yes' if document['encrypted'] else 'NO'}"
        yield f"Made:        {document['created']}"
        yield f"Printed:     {document['printed']}"
        yield ""
        yield "Keys that open it:"
        for key in document["keys"]:
            yield f"  {key['id']}  {', '.join(key['roles'])}  {key['label']}".rstrip()
        yield ""
        yield "With the program (pip install freezer-sdk):"
        yield from (f"  {line}" for line in document["commands"])
        yield ""
        yield "Without it: bring the storage's objects into a folder, and use the one file freezer_recover.py:"
        yield from (f"  {line}" for line in document["tool_commands"])
        if document["recovery_key"] is not None:
            yield ""
            yield "RECOVERY KEY. WHOEVER HAS IT HAS EVERYTHING:"
            yield ""
            yield from _indented(document["recovery_key"])
            yield ""
            yield _TYPING


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
