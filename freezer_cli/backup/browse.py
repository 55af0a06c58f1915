"""``freezer backup ls``, ``find``, ``diff`` and ``cat``: what is inside backups."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from freezer_cli.backup.choice import add_choice, choose, selector
from freezer_cli.backup.columns import CHANGE, ENTRY, FOUND
from freezer_cli.backup.lines import change_line, entry_line, found_line, path_line
from freezer_cli.backup.paths_command import PathsCommand
from freezer_cli.base import FreezerCommand
from freezer_cli.documents import Document, change_document, entry_document, path_fields
from freezer_cli.formatters import binary
from freezer_cli.repository_command import RepositoryCommand, add_selection

if TYPE_CHECKING:
    from freezer_sdk import Freezer
    from freezer_sdk.model import Entry

LOG = logging.getLogger("freezer")
_PIECE = 1 << 20


def _path_only(entry: Entry) -> Document:
    """What a line of text needs; a whole document for each of a million files would take most of the time."""
    return path_fields("path", entry.path)


class ListEntries(RepositoryCommand, PathsCommand):
    """List what a backup holds, as absolute paths."""

    examples = (
        "freezer backup ls latest --name etc",
        "freezer backup ls -l 3f2a9c1e /etc/ssh",
        "freezer backup ls -0 latest:/home | xargs -0 -n 1 echo",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backup and the path."""
        parser = super().get_parser(prog_name)
        add_choice(parser, optional=True)
        parser.add_argument("path", metavar="PATH", nargs="?", help="only this entry and what lies below it")
        parser.add_argument("-l", "--long", action="store_true", help="type, permissions, owner, size and time as well")
        parser.add_argument("--no-recursive", action="store_true", help="of a folder only what lies directly in it")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Walks the backup."""
        freezer = self.open(parsed_args)
        backup, inside = choose(freezer, parsed_args)
        path = parsed_args.path
        where = os.fsencode(path) if path is not None else None
        self.line = entry_line if parsed_args.long else path_line
        entries = freezer.entries(selector(backup, inside), where, recursive=not parsed_args.no_recursive)
        document = _path_only if parsed_args.formatter == "text" and not parsed_args.long else entry_document
        return ENTRY, (document(entry) for entry in entries)


class FindEntries(RepositoryCommand, PathsCommand):
    """Find files in backups by a pattern.

    *.conf is for names, ssh/*.conf for the end of paths, /etc/**/*.conf for whole paths."""

    examples = (
        "freezer backup find '*.conf'",
        "freezer backup find -i '/home/**/thesis*' --host node1 --after 2026-01-01",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the pattern and the choice of backups."""
        parser = super().get_parser(prog_name)
        parser.add_argument("pattern", metavar="PATTERN", help="* stays inside one name, ** spans folders")
        parser.add_argument("-i", "--ignore-case", action="store_true", help="a is A")
        parser.add_argument(
            "--backup", metavar="ID", action="append", default=[], help="only in this backup (repeatable)"
        )
        add_selection(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Searches."""
        self.line = found_line
        return FOUND, self._found(self.open(parsed_args), parsed_args)

    @staticmethod
    def _found(freezer: Freezer, parsed_args: argparse.Namespace) -> Iterator[Document]:
        document = _path_only if parsed_args.formatter == "text" else entry_document
        chosen = list(parsed_args.backup)
        if not chosen:
            fitting = freezer.backups(
                name=parsed_args.name,
                host=parsed_args.host,
                tags=parsed_args.tag,
                before=parsed_args.before,
                after=parsed_args.after,
            )
            chosen = [backup.id for backup in fitting if backup.readable]
            if len(chosen) < len(fitting):
                LOG.warning("damaged backups were passed over; `freezer backup list` shows them")
        if not chosen:
            return
        for backup, entry in freezer.find(parsed_args.pattern, backups=chosen, ignore_case=parsed_args.ignore_case):
            yield {"backup": backup.id, "time": backup.time.isoformat(), **document(entry)}


class DiffBackups(RepositoryCommand, PathsCommand):
    """List what differs between two backups.

    + added, - removed, M content changed, T type changed, U only owner, permissions, times or attributes."""

    examples = (
        "freezer backup diff 3f2a9c1e latest",
        "freezer backup diff --metadata 3f2a9c1e:/etc 77b0d1f2:/etc",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the two backups."""
        parser = super().get_parser(prog_name)
        parser.add_argument("before", metavar="ID", help="the older backup; ID:SUBPATH works as well")
        parser.add_argument("after", metavar="ID", help="the newer backup")
        parser.add_argument("--metadata", action="store_true", help="also what differs in metadata only")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Compares."""
        self.line = change_line
        changes = self.open(parsed_args).diff(parsed_args.before, parsed_args.after, metadata=parsed_args.metadata)
        return CHANGE, (change_document(change) for change in changes)


class CatEntry(RepositoryCommand, FreezerCommand):
    """Write the content of one file or stream of a backup to standard output."""

    examples = (
        "freezer backup cat latest /etc/hosts",
        "freezer backup cat 3f2a9c1e:/dump.sql --storage local:/srv/backups > dump.sql",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backup and the path."""
        parser = super().get_parser(prog_name)
        add_choice(parser)
        parser.add_argument("path", metavar="PATH", nargs="?", help="the file, unless ID:SUBPATH names it")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Copies the content, a piece at a time."""
        freezer = self.open(parsed_args)
        backup, inside = choose(freezer, parsed_args)
        path = os.fsencode(parsed_args.path) if parsed_args.path is not None else None
        out = binary(self.app.stdout)
        with freezer.open(selector(backup, inside), path) as reader:
            while piece := reader.read(_PIECE):
                out.write(piece)
        out.flush()
        return 0
