"""``freezer drill list``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import ListCommand
from freezer_cli.drill.columns import DRILL, drill_document
from freezer_cli.repository_command import RepositoryCommand

LOG = logging.getLogger("freezer")


class ListDrills(RepositoryCommand, ListCommand):
    """List the restore drills that the repository has records of, the newest last.

    Only records that count are listed; others are told as warnings."""

    examples = ("freezer drill list --name etc", "freezer drill list -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the choice of drills."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--name", metavar="NAME", help="only of backups of this name")
        parser.add_argument("--host", metavar="HOST", help="only of backups of this host")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Lists."""
        log = self.open(parsed_args).drills.log()
        for problem in log.problems:
            LOG.warning("%s: %s; this record does not count", problem.path, problem.message)
        return DRILL, [
            drill_document(drill)
            for drill in log.drills
            if parsed_args.name in (None, drill.name) and parsed_args.host in (None, drill.host)
        ]
