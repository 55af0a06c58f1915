"""``freezer repository check``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from freezer_cli.base import Column, ResultCommand, Row, columns_of
from freezer_cli.documents import Document, path_fields, plain
from freezer_cli.operation import INTEGRITY, running
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import counted, human_duration, human_iso, human_size
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_duration

if TYPE_CHECKING:
    from freezer_sdk import Affected, CheckResult, Finding

_NAMED = 20  # paths of one backup that people see


def _findings(value: Any) -> list[str]:
    return [f"{finding['path']}: {finding['message']}" for finding in value]


_COLUMNS = (
    *columns_of(
        (
            "ok",
            "backups",
            "forgotten",
            "void",
            "forged",
            "objects",
            "packs",
            "packs_read",
            "packs_left",
            "bytes_left",
            "blobs",
            "bytes_read",
            "oldest",
            "leases",
            "marks",
            "duration",
        )
    ),
    Column("findings", "Findings", _findings),
)


class CheckRepository(RepositoryCommand, ResultCommand):
    """Look for damage in the whole repository, and say which files of which backups it concerns.

    Without options: is everything there, and does every backup reach all of its data? With the options below data are
    read as well. What was read whole is remembered in the repository, so that checks of a part take turns.

    Exits with 13 when something is damaged or missing that matters. `freezer repository repair` mends what can be."""

    examples = (
        "freezer repository check",
        "freezer repository check --read-data",
        "freezer repository check --read-data-subset 5%",
        "freezer repository check --max-age 30d --max-duration 2h",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds how thorough to be."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--read-data", action="store_true", help="read and authenticate every byte")
        parser.add_argument(
            "--read-data-subset",
            metavar="PART",
            help="read only a part: 5%% (what was not read for the longest time), or 2/7 (the second of seven parts)",
        )
        parser.add_argument(
            "--max-age", metavar="AGE", type=duration, help="read only what was not read for so long, e.g. 30d"
        )
        parser.add_argument(
            "--max-duration",
            metavar="TIME",
            type=duration,
            help="begin to read nothing after so long, e.g. 2h; the next check goes on with what was left",
        )
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_priority_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Checks."""
        apply_priority(parsed_args.nice, parsed_args.ionice)
        freezer = self.open(parsed_args)
        with running(self, parsed_args, "check") as how:
            result = freezer.maintenance.check(
                read_data=parsed_args.read_data,
                subset=parsed_args.read_data_subset,
                max_age=parsed_args.max_age,
                max_duration=parsed_args.max_duration,
                events=how.listener,
                cancel=how.cancel,
            )
        self.exit_code = 0 if result.ok else INTEGRITY
        document = check_document(result)
        how.finish(document, self.exit_code)
        return _COLUMNS, document

    def summary(self, document: Row) -> Iterable[str]:
        """What was looked at; what was found was told while it ran."""
        damage = sum(finding["fatal"] for finding in document["findings"])
        notes = len(document["findings"]) - damage
        found = "no damage" if document["ok"] else counted(damage, "finding")
        found += f", {counted(notes, 'note')}" if notes else ""
        yield (
            f"checked {counted(document['backups'], 'backup')}, {counted(document['objects'], 'object')}, "
            f"read {human_size(document['bytes_read'])} in {counted(document['packs_read'], 'pack')} of "
            f"{document['packs']} ({human_duration(document['duration'])}): {found}"
        )
        if document["packs_left"]:
            left = f"{counted(document['packs_left'], 'pack')} ({human_size(document['bytes_left'])})"
            yield f"no time was left for {left}; the next check begins with them"
        if document["oldest"]:
            yield f"every pack was read whole since {human_iso(document['oldest'])}"
        if others := _others(document):
            yield f"besides: {', '.join(others)}"
        yield from affected_lines(each for finding in document["findings"] for each in finding["affected"])
        if not document["ok"]:
            yield "freezer repository repair says what can be done about it"


def _others(document: Row) -> list[str]:
    """What does not count, and what is going on."""
    leases, marks = document["leases"], document["marks"]
    found = [
        f"{counted(document[kind], f'{kind} backup')}" for kind in ("forgotten", "void", "forged") if document[kind]
    ]
    if leases["open"] or leases["dead"]:
        found.append(f"{counted(leases['open'], 'open lease')}, {leases['dead']} dead")
    if marks["packs"]:
        found.append(f"{counted(marks['packs'], 'pack')} marked to be deleted")
    return found


def affected_lines(affected: Iterable[Row]) -> Iterator[str]:
    """The files that cannot be restored, for people."""
    by_backup: dict[str, tuple[dict[str, None], int]] = {}
    for each in affected:
        paths, more = by_backup.get(each["backup"], ({}, 0))
        paths.update(dict.fromkeys(path["path"] for path in each["paths"]))
        by_backup[each["backup"]] = paths, more + each["more"]
    for backup, (paths, more) in by_backup.items():
        if paths:
            yield f"cannot be restored from backup {backup[:8]}:"
        for path in list(paths)[:_NAMED]:
            yield f"  {path}"
        if (rest := max(0, len(paths) - _NAMED) + more) > 0:
            yield f"  and {rest} more (-f json has {len(paths)} of them)"


def check_document(result: CheckResult) -> Document:
    """What a check found."""
    document: Document = {**plain(result), "ok": result.ok}
    document["findings"] = [finding_document(finding) for finding in result.findings]
    return document


def finding_document(finding: Finding) -> Document:
    """A finding."""
    rest = {"kind": finding.kind, "message": plain(finding.message), "fatal": finding.fatal}
    affected = [affected_document(each) for each in finding.affected]
    return path_fields("path", finding.path) | rest | {"affected": affected}


def affected_document(affected: Affected) -> Document:
    """What of a backup cannot be restored."""
    paths = [path_fields("path", path) for path in affected.paths]
    return {"backup": affected.backup, "paths": paths, "more": affected.more}


def duration(text: str) -> timedelta:
    """``30d``, ``2h``.

    Raises:
        ArgumentTypeError: no duration.
    """
    try:
        return timedelta(seconds=parse_duration(text))
    except (ConfigurationError, OverflowError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
