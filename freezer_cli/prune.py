"""``freezer repository prune``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import ResultCommand, Row, columns_of
from freezer_cli.documents import plain, problem_document
from freezer_cli.operation import running
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import counted, human_duration, human_iso, human_size
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_size

_COLUMNS = columns_of(
    (
        "dry_run",
        "backups",
        "released_backups",
        "freed_bytes",
        "freed_packs",
        "rewritten_bytes",
        "marked_bytes",
        "marked_packs",
        "waiting_bytes",
        "waiting_packs",
        "due",
        "held_by",
        "needed_bytes",
        "wasted_bytes",
        "stored_bytes",
        "duration",
        "problems",
    )
)


class PruneRepository(RepositoryCommand, ResultCommand):
    """Free the space of forgotten backups, while backups go on.

    What no backup needs is marked first. A later run, when the grace time of the repository has passed, deletes what
    was marked. So run it regularly: each run frees what an earlier one marked.

    Exits with 11 while another machine maintains the repository, and with 13, having deleted nothing, when damage
    makes it unknown what backups need."""

    examples = (
        "freezer repository prune",
        "freezer repository prune --dry-run -f json",
        "freezer repository prune --max-waste 10% --max-rewrite 50G",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds how thorough to be."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--dry-run", action="store_true", help="write nothing; say what would be freed and marked now"
        )
        parser.add_argument(
            "--max-waste",
            metavar="SHARE",
            type=parse_share,
            default=0.05,
            help="share of the stored data that may be of no use, 5%% by default; packs with the most of it are "
            "written anew until no more is left; 100%%: never write anything anew for that",
        )
        parser.add_argument(
            "--max-rewrite", metavar="SIZE", type=_size, help="useful data to write anew in this run at most, e.g. 50G"
        )
        parser.add_argument(
            "--old-keys",
            action="store_true",
            help="write anew what is encrypted with keys of before the last rotation, too",
        )
        parser.add_argument(
            "--forget-missing",
            action="store_true",
            help="give up backups whose records somebody removed from the storage; prune refuses to go on without them",
        )
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_priority_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Prunes."""
        apply_priority(parsed_args.nice, parsed_args.ionice)
        freezer = self.open(parsed_args)
        with running(self, parsed_args, "prune") as how:
            result = freezer.maintenance.prune(
                dry_run=parsed_args.dry_run,
                max_waste=parsed_args.max_waste,
                max_rewrite=parsed_args.max_rewrite,
                old_keys=parsed_args.old_keys,
                forget_missing=parsed_args.forget_missing,
                events=how.listener,
                cancel=how.cancel,
            )
        document = {**plain(result), "problems": [problem_document(problem) for problem in result.problems]}
        how.finish(document, 0)
        return _COLUMNS, document

    def summary(self, document: Row) -> Iterable[str]:
        """What was freed, what is marked, and when that can be freed; problems were told while it ran."""
        would = "would have " if document["dry_run"] else ""
        freed = f"{human_size(document['freed_bytes'])} in {counted(document['freed_packs'], 'pack')}"
        gone = document["released_backups"]
        released = f", and {counted(gone, 'forgotten backup')} for good" if gone else ""
        yield f"{would}freed {freed}{released}"
        if document["rewritten_bytes"]:
            yield f"{would}stored {human_size(document['rewritten_bytes'])} again that backups need"
        if document["marked_packs"]:
            size = human_size(document["marked_bytes"])
            yield f"{would}marked {size} in {counted(document['marked_packs'], 'pack')} that no backup needs"
        if document["due"]:
            size = human_size(document["waiting_bytes"])
            yield f"waiting: {size}, to be freed by a run after {human_iso(document['due'])}"
        if document["held_by"]:
            yield f"  and not while these leases are open: {', '.join(each[:8] for each in document['held_by'])}"
        needed, wasted = human_size(document["needed_bytes"]), human_size(document["wasted_bytes"])
        yield (
            f"{counted(document['backups'], 'backup')} need {needed}; {wasted} more are of no use and stay "
            f"({human_duration(document['duration'])})"
        )


def parse_share(text: str) -> float:
    """``5%`` or ``0.05``.

    Raises:
        ArgumentTypeError: no share of a whole.
    """
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share, such as 5%")
    return share


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
