"""``freezer backup restore``."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from freezer_cli.advice import MODES, Choice
from freezer_cli.backup.choice import add_choice, choose, choose_among, selector
from freezer_cli.backup.lines import exact
from freezer_cli.base import ResultCommand, Row, columns_of
from freezer_cli.documents import restore_document
from freezer_cli.group_command import GroupCommand
from freezer_cli.hook_options import add_hook_options, hooks_of
from freezer_cli.operation import PARTIAL, running
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.restore_mode import RestoreMode
from freezer_cli.settings import DEFAULT_MODE
from freezer_cli.text import counted, human_count, human_duration, human_size, printable_path
from freezer_sdk.model import Layout, Overwrite, Status

if TYPE_CHECKING:
    from freezer_sdk import Freezer, FreezerGroup

_COLUMNS = columns_of(
    (
        "backup",
        "target",
        "target_base64",
        "status",
        "files",
        "directories",
        "others",
        "bytes",
        "skipped",
        "deleted",
        "duration",
        "problems",
        "plan",
        "facts",
    )
)


class RestoreBackup(GroupCommand, ResultCommand):
    """Restore a backup, or some paths of it; with several storages from those that have it.

    A backup of one path restores its content into TARGET, one of several paths restores them below TARGET under
    their full names. Exits with 3 when something could not be restored whole."""

    examples = (
        "freezer backup restore latest /tmp/out --name etc",
        "freezer backup restore latest /tmp/out --name etc --path ssh --path /etc/hosts",
        "freezer backup restore 3f2a9c1e / --layout full --overwrite if-changed --dry-run",
        "freezer backup restore latest /tmp/out --name etc --mode fs",
    )

    _mode: RestoreMode

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backup, the target and how to restore."""
        parser = super().get_parser(prog_name)
        add_choice(parser)
        parser.add_argument("target", metavar="TARGET", help="a folder; made when it is not there")
        repeatable: dict[str, Any] = {"action": "append", "default": []}
        parser.add_argument("--path", metavar="P", **repeatable, help="only this, absolute or below the one root")
        parser.add_argument("--include", metavar="PATTERN", **repeatable, help="only what fits; as in .gitignore")
        parser.add_argument("--exclude", metavar="PATTERN", **repeatable, help="not what fits; as in .gitignore")
        parser.add_argument("--overwrite", choices=list(Overwrite), help="what happens to files that are there")
        parser.add_argument("--delete", action="store_true", help="remove what the backup has not")
        parser.add_argument("--layout", choices=list(Layout), default=Layout.AUTO, help="see above (default: auto)")
        parser.add_argument("--inplace", action="store_true", help="write into existing files; for huge ones")
        parser.add_argument("--owner", action=argparse.BooleanOptionalAction, help="restore owners (default: as root)")
        parser.add_argument("--numeric-owner", action="store_true", help="owners by number, not by name")
        parser.add_argument("--no-sparse", action="store_true", help="write holes as zeros")
        parser.add_argument("--force", action="store_true", help="allow what a rule refuses")
        parser.add_argument("--dry-run", action="store_true", help="write nothing; print the plan")
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_hook_options(parser)
        add_priority_options(parser)
        configured = partial(self.early_setting, lambda: self.settings.profile.backup.get("mode"), DEFAULT_MODE)
        self._mode = RestoreMode(parser, self.arguments, configured)
        return parser

    def choices(self) -> Sequence[Choice]:
        """What brings it back."""
        return (MODES,)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Restores."""
        hooks = hooks_of(parsed_args, self.settings.profile.restore)
        apply_priority(parsed_args.nice, parsed_args.ionice)
        freezer: Freezer | FreezerGroup
        if self.several:
            freezer = self.open_group(parsed_args)
            self.tell_lost(freezer)
            found, inside = choose_among(freezer, parsed_args, events=self.listen)
            backup = found.backup
        else:
            freezer = self.open(parsed_args)
            backup, inside = choose(freezer, parsed_args)
        with running(self, parsed_args, "restore") as how:
            result = freezer.restore(
                selector(backup, inside),
                parsed_args.target,
                paths=[os.fsencode(path) for path in parsed_args.path],
                include=parsed_args.include,
                exclude=parsed_args.exclude,
                overwrite=parsed_args.overwrite,
                delete=parsed_args.delete,
                layout=parsed_args.layout,
                inplace=parsed_args.inplace,
                dry_run=parsed_args.dry_run,
                force=parsed_args.force,
                owner=parsed_args.owner,
                numeric_owner=parsed_args.numeric_owner,
                sparse=not parsed_args.no_sparse,
                **self._mode.request(self.settings, parsed_args, backup.mode),
                hooks=hooks,
                events=how.listener,
                cancel=how.cancel,
            )
        self.exit_code = PARTIAL if result.status is Status.PARTIAL else 0
        document = restore_document(result)
        self.dry_run = parsed_args.dry_run
        how.finish(document, self.exit_code)
        return _COLUMNS, document

    dry_run = False

    def summary(self, document: Row) -> Iterable[str]:
        """The plan, or what was done."""
        for action in document["plan"]:
            yield f"{action['action']:<8} {printable_path(exact(action, 'path'))}"
        verb = "would restore" if self.dry_run else "restored"
        yield (
            f"{verb} {counted(document['files'], 'file')} ({human_size(document['bytes'])}) and "
            f"{counted(document['directories'], 'folder')} of backup {document['backup'][:8]} "
            f"to {document['target']} in {human_duration(document['duration'])}, {document['status']}"
        )
        if document["skipped"] or document["deleted"]:
            yield f"  left alone: {human_count(document['skipped'])}, deleted: {human_count(document['deleted'])}"
        for name, value in document["facts"].items():
            yield f"  {name}: {json.dumps(value, ensure_ascii=False)}"
