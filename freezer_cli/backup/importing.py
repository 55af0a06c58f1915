"""``freezer backup import``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import ResultCommand, Row, columns_of
from freezer_cli.dates import HELP, parse_date
from freezer_cli.documents import copies_document, problem_document
from freezer_cli.operation import PARTIAL, running
from freezer_cli.other_repository import add_other_repository, other_connection
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.repository_command import RepositoryCommand, connection_of
from freezer_cli.settings import parse_assignments
from freezer_cli.text import counted, human_duration, human_iso, human_size

_COLUMNS = columns_of(
    ("copied", "present", "missing", "forgotten", "failed", "read_bytes", "added_bytes", "duration", "backups")
)


class ImportBackups(RepositoryCommand, ResultCommand):
    """Turn backups of the original Freezer, or of another engine with levels, into backups of this repository.

    Every level of every chain becomes a backup that needs no other. They keep ids, times, hosts, names and owners; what
    is lost in the source is recorded. What is here already is left alone, so an interrupted run can be repeated. Exits
    with 3 when something could not be imported whole."""

    examples = (
        "freezer backup import --from local:/var/freezer --into local:/srv/backups",
        "freezer backup import --from local:/var/freezer --engine tar --name www --into local:/srv/backups --dry-run",
        "freezer backup import --from local:/var/freezer --from-password-file /etc/freezer/password "
        "--into local:/srv/backups",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backups, where they are, and where they go."""
        parser = super().get_parser(prog_name)
        parser.add_argument("backups", metavar="ID", nargs="*", help="start of an id in the source; none: all that fit")
        parser.add_argument(
            "--into",
            metavar="URL",
            dest="storage",
            action="append",
            default=argparse.SUPPRESS,
            help="the repository that gets them; the same as --storage",
        )
        add_other_repository(parser, "--from", title="the store that is read", required=True)
        parser.add_argument("--name", metavar="NAME", help="only backups of this name")
        parser.add_argument("--host", metavar="HOST", help="only backups of this host")
        parser.add_argument("--before", metavar="DATE", type=parse_date, help=f"only backups before: {HELP}")
        parser.add_argument("--after", metavar="DATE", type=parse_date, help="only backups at this time or later")
        parser.add_argument("--dry-run", action="store_true", help="write nothing; say what would be imported")
        parser.add_argument("--no-verify", action="store_true", help="do not read back what was imported")
        parser.add_argument(
            "--staging", metavar="FOLDER", help="where contents wait that come before their time (default: TMPDIR)"
        )
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_priority_options(parser)
        return parser

    def engine_help(self) -> str:
        """Of the source."""
        return "how the backups of the source are stored: tar, rsync (default: as those that are there)"

    def connection(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Of the target; what is said of the engine is about the source."""
        return {**connection_of(self.settings), "engine": None}

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Imports."""
        apply_priority(parsed_args.nice, parsed_args.ionice)
        engine = {"engine": parsed_args.engine} if parsed_args.engine else {}
        given = other_connection(self.settings, parsed_args)
        options = parse_assignments(parsed_args.engine_option)
        source = self.open_as({**given, **engine, **({"engine_options": options} if options else {})})
        target = self.open(parsed_args)
        with running(self, parsed_args, "import") as how:
            results = target.import_backups(
                source,
                parsed_args.backups,
                name=parsed_args.name,
                host=parsed_args.host,
                before=parsed_args.before,
                after=parsed_args.after,
                dry_run=parsed_args.dry_run,
                verify=not parsed_args.no_verify,
                staging=parsed_args.staging,
                events=how.listener,
                cancel=how.cancel,
            )
        errors = [result.error for result in results if result.error is not None]
        partial = [each for each in results if each.outcome == "copied" and each.backup.status != "complete"]
        if errors and not any(result.outcome == "copied" for result in results):
            self.exit_code = errors[0].exit_code
        elif errors or partial:
            self.exit_code = PARTIAL
        document = copies_document(results)
        for row, result in zip(document["backups"], results, strict=True):
            row["level"], row["status"] = result.backup.level, result.backup.status.value
            row["problems"] = [problem_document(problem) for problem in result.backup.problems]
        how.finish(document, self.exit_code)
        return _COLUMNS, document

    def summary(self, document: Row) -> Iterable[str]:
        """A line for each backup, but for those that were here."""
        for each in document["backups"]:
            title = f"backup {each['id'][:8]}: {each['name']} of {each['host']}, {human_iso(each['time'])}"
            match each["outcome"]:
                case "copied":
                    yield f"imported {title}{'' if each['status'] == 'complete' else ', partial'}"
                    moved = f"read {human_size(each['read_bytes'])}, added {human_size(each['added_bytes'])}"
                    yield f"  {moved} in {human_duration(each['duration'])}"
                    yield from (f"  {one['path']}: {one['message']}" for one in each["problems"] if one["fatal"])
                case "missing":
                    yield f"would import {title}"
                case "forgotten":
                    yield f"left out {title}: it was deleted here"
                case "failed":
                    yield f"not imported {title}: {each['error']['message']}"
        if document["present"]:
            yield f"{counted(document['present'], 'backup')} of these {_were(document['present'])} here already"
        elif not document["backups"]:
            yield "the source has no such backup"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
