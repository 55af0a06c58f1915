"""``freezer repository repair``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from freezer_cli.base import Column, ResultCommand, Row, columns_of
from freezer_cli.check import affected_document, affected_lines
from freezer_cli.documents import Document, path_fields, plain
from freezer_cli.operation import INTEGRITY, running
from freezer_cli.other_repository import add_other_repository, other_connections
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import counted, human_duration, human_size, is_terminal, printable

if TYPE_CHECKING:
    from freezer_sdk import Freezer, RepairPlan, RepairResult


def _steps(value: Any) -> list[str]:
    return [f"{step['action']} {step['path']}: {step['message']}" for step in value]


def _lost(value: Any) -> list[str]:
    return list(affected_lines(value))


_COLUMNS = (
    *columns_of(("done",)),
    Column("steps", "Steps", _steps),
    Column("lost", "Lost", _lost),
    *columns_of(("broken", "added_bytes", "duration")),
)


class RepairRepository(RepositoryCommand, ResultCommand):
    """Mend what is damaged in the repository, as far as anything is left to mend it from; writes down what is lost.

    Says what it would do, and does it only with --yes, or when a person on a terminal agrees. It only adds: nothing is
    deleted or written over but copies of keys and records that are certainly damaged, and other programs may go on.

    Exits with 13 when something is left to be done, or is lost."""

    engine_flags = True
    examples = (
        "freezer repository repair",
        "freezer repository repair --read-data --yes",
        "freezer repository repair --from local:/mnt/usb/backups --yes",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds where to look, and what may be done."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--yes", action="store_true", help="do it, and ask nothing")
        parser.add_argument(
            "--read-data",
            action="store_true",
            help="look for damage in every byte; else where it shows, or where a check has found it",
        )
        parser.add_argument(
            "--forget-broken",
            action="store_true",
            help="forget backups whose own record cannot be read any more; nothing can be restored from those",
        )
        title = "another repository to fetch from what is lost here"
        add_other_repository(parser, "--from", title=title, several=True)
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_priority_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Plans, asks, and repairs."""
        apply_priority(parsed_args.nice, parsed_args.ionice)
        sources = [self.open_as(each) for each in other_connections(self.settings, parsed_args)]
        freezer = self.open(parsed_args)
        plan = None if parsed_args.yes else self._plan(freezer, parsed_args, sources)
        done = plan is None or bool(plan.steps and self._agreed(plan, parsed_args))
        found: RepairPlan | RepairResult | None = plan
        if found is None or done:
            found = self._repair(freezer, parsed_args, sources, plan)
        self.exit_code = _exit_code(found, done=done)
        return _COLUMNS, repair_document(found, done=done)

    def _plan(self, freezer: Freezer, parsed_args: argparse.Namespace, sources: Sequence[Freezer]) -> RepairPlan:
        with running(self, parsed_args, "repair") as how:
            plan = freezer.maintenance.plan_repair(
                read_data=parsed_args.read_data,
                forget_broken=parsed_args.forget_broken,
                sources=sources,
                events=how.listener,
                cancel=how.cancel,
            )
            how.finish(repair_document(plan, done=False), _exit_code(plan, done=False))
        return plan

    def _repair(
        self, freezer: Freezer, parsed_args: argparse.Namespace, sources: Sequence[Freezer], plan: RepairPlan | None
    ) -> RepairResult:
        with running(self, parsed_args, "repair") as how:
            result = freezer.maintenance.repair(
                plan=plan,
                read_data=parsed_args.read_data,
                forget_broken=parsed_args.forget_broken,
                sources=sources,
                events=how.listener,
                cancel=how.cancel,
            )
            how.finish(repair_document(result, done=True), _exit_code(result, done=True))
        return result

    def _agreed(self, plan: RepairPlan, parsed_args: argparse.Namespace) -> bool:
        """Asks a person, if there is one to see the question."""
        people = parsed_args.formatter == "text" and not parsed_args.json_events
        if not (people and is_terminal(sys.stdin) and is_terminal(self.app.stdout)):
            return False
        for line in _plan_lines(repair_document(plan, done=False)):
            self.app.stdout.write(printable(line) + "\n")
        self.app.stdout.write("do this? yes or no: ")
        self.app.stdout.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def summary(self, document: Row) -> Iterable[str]:
        """The plan, or what was done."""
        yield from _plan_lines(document)
        if not document["steps"]:
            yield "nothing to do"
        elif document["done"]:
            spent = f"stored {human_size(document['added_bytes'])} in {human_duration(document['duration'])}"
            yield f"repaired: {counted(len(document['steps']), 'step')}, {spent}"
        else:
            yield "nothing was done yet: --yes does it"


def _exit_code(found: RepairPlan | RepairResult, *, done: bool) -> int:
    """0 when nothing is left to be done, and nothing was found lost now."""
    lost_now = bool(found.lost) and any(step.action == "record" for step in found.steps)
    return INTEGRITY if found.broken or lost_now or (found.steps and not done) else 0


def _plan_lines(document: Row) -> Iterator[str]:
    for step in document["steps"]:
        blobs = f" ({counted(step['blobs'], 'blob')}, {human_size(step['size'])})" if step["blobs"] else ""
        yield f"{step['action']:8} {step['path']}: {step['message']}{blobs}"
    yield from affected_lines(document["lost"])
    for backup in document["broken"]:
        yield f"backup {backup[:8]}: its own record cannot be read; --from may have it, --forget-broken forgets it"


def repair_document(found: RepairPlan | RepairResult, *, done: bool) -> Document:
    """What a repair did, or would do."""
    return {
        "done": done,
        "steps": [{**plain(step), **path_fields("path", step.path)} for step in found.steps],
        "lost": [affected_document(each) for each in found.lost],
        "broken": list(found.broken),
        "added_bytes": getattr(found, "added_bytes", 0),
        "duration": getattr(found, "duration", 0.0),
    }
