"""``freezer backup copy``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from freezer_cli.base import ResultCommand, Row, columns_of
from freezer_cli.documents import copies_document
from freezer_cli.operation import PARTIAL, running
from freezer_cli.other_repository import add_other_repository, other_connection
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.repository_command import RepositoryCommand, add_selection
from freezer_cli.text import counted, human_duration, human_iso, human_size
from freezer_sdk.errors import PolicyRefusal

if TYPE_CHECKING:
    from freezer_sdk import CopyResult

LOG = logging.getLogger("freezer")
_COLUMNS = columns_of(
    ("copied", "present", "missing", "forgotten", "failed", "read_bytes", "added_bytes", "duration", "backups")
)


class CopyBackups(RepositoryCommand, ResultCommand):
    """Copy backups of another repository into this one; without an ID all of them that fit.

    They keep their ids and all that is recorded of them. What is here already is neither read nor written again, and
    what was deleted here stays deleted. Exits with 3 when some could not be copied."""

    engine_flags = True
    examples = (
        "freezer backup copy --storage local:/mnt/usb/backups --from local:/srv/backups",
        "freezer backup copy latest --name etc --storage local:/mnt/usb/backups --from local:/srv/backups --dry-run",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backups, and where they are."""
        parser = super().get_parser(prog_name)
        parser.add_argument("backups", metavar="ID", nargs="*", help="start of an id in the source, or latest")
        add_other_repository(parser, "--from", title="the repository that is copied from", required=True)
        add_selection(parser)
        parser.add_argument("--dry-run", action="store_true", help="write nothing; say what would be copied")
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_priority_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Copies."""
        apply_priority(parsed_args.nice, parsed_args.ionice)
        source = self.open_as(other_connection(self.settings, parsed_args))
        target = self.open(parsed_args)
        with running(self, parsed_args, "copy") as how:
            results = target.copy(
                source,
                parsed_args.backups,
                name=parsed_args.name,
                host=parsed_args.host,
                tags=parsed_args.tag,
                before=parsed_args.before,
                after=parsed_args.after,
                dry_run=parsed_args.dry_run,
                events=how.listener,
                cancel=how.cancel,
            )
        self.exit_code = _exit_code(results, chosen=bool(parsed_args.backups))
        document = copies_document(results)
        how.finish(document, self.exit_code)
        return _COLUMNS, document

    def summary(self, document: Row) -> Iterable[str]:
        """A line for each backup, but for those that were here."""
        for each in document["backups"]:
            title = f"backup {each['id'][:8]}: {each['name']} of {each['host']}, {human_iso(each['time'])}"
            match each["outcome"]:
                case "copied":
                    yield f"copied {title}"
                    moved = f"read {human_size(each['read_bytes'])}, added {human_size(each['added_bytes'])}"
                    yield f"  {moved} in {human_duration(each['duration'])}"
                case "missing":
                    yield f"would copy {title}"
                case "forgotten":
                    yield f"left out {title}: it was deleted here"
                case "failed":
                    yield f"not copied {title}"
        if document["present"]:
            yield f"{counted(document['present'], 'backup')} of these {_were(document['present'])} here already"
        elif not document["backups"]:
            yield "the source has no such backup"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _exit_code(results: Sequence[CopyResult], *, chosen: bool) -> int:
    """0 when everything that was asked for is here.

    Args:
        chosen: by id; then one that was deleted here is not what the user expects.
    """
    codes = [result.error.exit_code for result in results if result.error is not None]
    if chosen:
        codes += [PolicyRefusal.exit_code for result in results if result.outcome == "forgotten"]
    return codes[0] if codes and len(codes) == len(results) else PARTIAL if codes else 0
