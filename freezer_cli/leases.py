"""``freezer repository leases`` and ``freezer repository unlock``: who is at work in a repository."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import Column, ListCommand
from freezer_cli.documents import plain
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import human_iso

_COLUMNS = (
    Column("id", "Lease", lambda value: str(value)[:8]),
    Column("status", "Status"),
    Column("purpose", "Purpose"),
    Column("holder", "Holder"),
    Column("host", "Host"),
    Column("backup", "Backup", lambda value: str(value)[:8]),
    Column("opened", "Since", human_iso),
    Column("refreshed", "Heard of", human_iso),
    Column("expires", "Expires", human_iso, extra=True),
)


class ListLeases(RepositoryCommand, ListCommand):
    """List who is at work in a repository, or died at it.

    A lease is open, closed (its holder has ended), or dead: not refreshed for longer than the grace time, by the clock
    of the storage. Marks only wait for open ones."""

    examples = ("freezer repository leases", "freezer repository leases -f json")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Reads the leases."""
        return _COLUMNS, [plain(lease) for lease in self.open(parsed_args).maintenance.leases()]


class UnlockRepository(RepositoryCommand, ListCommand):
    """Remove leases whose holders have ended or provably died; without a LEASE all that tell nothing any more.

    This is never needed to go on: nothing waits for them, and prune removes them too. Refuses, and exits with 11, when
    the holder of a named lease may still be at work."""

    examples = ("freezer repository unlock", "freezer repository unlock 3f2a9c1e")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the leases."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "leases", metavar="LEASE", nargs="*", help="start of an id, as `repository leases` shows it"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Removes leases, and lists them."""
        return _COLUMNS, [plain(lease) for lease in self.open(parsed_args).maintenance.unlock(parsed_args.leases)]
