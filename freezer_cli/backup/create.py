"""``freezer backup create``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from freezer_cli.advice import ENGINES, MODES, SNAPSHOTS, Choice
from freezer_cli.backup.columns import BACKUP, TARGET_ROW
from freezer_cli.backup.request import OWN_OPTIONS, backup_request, priority, split_command
from freezer_cli.base import ResultCommand, Row, Rows
from freezer_cli.documents import backup_document, group_document
from freezer_cli.environment import mode_options
from freezer_cli.global_options import chosen
from freezer_cli.group_command import GroupCommand
from freezer_cli.hook_options import add_hook_options, hooks_of
from freezer_cli.operation import PARTIAL, running
from freezer_cli.plugin_options import PluginFlags
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.settings import DEFAULT_MODE
from freezer_cli.snapshot_options import SnapshotFlags
from freezer_cli.text import counted, human_count, human_duration, human_size


class CreateBackup(GroupCommand, ResultCommand):
    """Back up paths, the output of a program, or what a mode protects.

    Exits with 3 when something could not be read whole; the backup is stored, and says what is missing. With several
    storages also when one of them does not have it; `freezer backup copy` mends that."""

    engine_flags = True
    examples = (
        "freezer backup create /etc --name etc --storage local:/srv/backups",
        "freezer backup create /home --exclude '*.tmp' --exclude '/home/*/.cache' --tag daily --one-file-system",
        "freezer backup create --command db.sql --name db -- pg_dump mydb",
        "tar -c /opt | freezer backup create --stdin opt.tar --name opt",
        "freezer backup create /srv/wiki --snapshot auto",
        "freezer backup create /etc --storage local:/srv/backups --storage local:/mnt/usb/backups",
    )
    command_line: Sequence[str] = ()
    _mode: PluginFlags
    _snapshots: SnapshotFlags

    def prepare(self, arguments: Sequence[str]) -> list[str]:
        """Takes what follows ``--`` as the program of ``--command``; else it is paths."""
        own, self.command_line = split_command(arguments)
        return own

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds what every backup has, and the options of the mode."""
        from freezer_sdk.plugins import MODE, PluginRegistry

        parser = super().get_parser(prog_name)
        parser.add_argument("paths", metavar="PATH", nargs="*", help="what to back up")
        parser.add_argument("--name", metavar="NAME", help="name of the series; by default that of the first path")
        parser.add_argument("--tag", metavar="TAG", action="append", help="a word to find it by (repeatable)")
        parser.add_argument(
            "--exclude", metavar="PATTERN", action="append", help="leave out; as in .gitignore (repeatable)"
        )
        parser.add_argument("--mode", metavar="MODE", help=f"what is protected (default: {DEFAULT_MODE})")
        parser.add_argument("--host", metavar="HOST", help="recorded name of the host")
        parser.add_argument("--parent", metavar="ID", help="compare with this backup instead of the last of the name")
        parser.add_argument("--force-read", action="store_true", help="read files that look unchanged, too")
        parser.add_argument("--dry-run", action="store_true", help="write nothing; say what would be stored")
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_hook_options(parser)
        add_priority_options(parser)
        asked = chosen(self.arguments, "--mode").get("mode")
        name = asked or self.early_setting(lambda: self.settings.profile.backup.get("mode"), DEFAULT_MODE)
        options = [each for each in PluginRegistry().load(MODE, name).options if each.name not in OWN_OPTIONS]
        self._mode = PluginFlags(parser, options, title=f"options of the mode {name}", prefix="mode-")
        configured = partial(self.early_setting, lambda: self.settings.profile.backup.get("snapshot"), "")
        self._snapshots = SnapshotFlags(parser, self.arguments, configured)
        return parser

    def choices(self) -> Sequence[Choice]:
        """The engine, the mode and who makes snapshots."""
        return ENGINES, MODES, SNAPSHOTS

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Makes the backup."""
        profile = self.settings.profile
        request = backup_request(profile, parsed_args, self._mode.values(parsed_args), self.command_line)
        request["mode_options"] = mode_options(request["mode"], request["mode_options"], self.settings.environ)
        request |= self._snapshots.request(profile, parsed_args)
        request["hooks"] = hooks_of(parsed_args, profile.backup)
        apply_priority(*priority(profile, parsed_args))
        if self.several:
            return TARGET_ROW, self._create_in_several(parsed_args, request)
        freezer = self.open(parsed_args)
        with running(self, parsed_args, "backup") as how:
            backup = freezer.backup(**request, events=how.listener, cancel=how.cancel)
        document = backup_document(backup)
        if backup.status != "complete":
            self.exit_code = PARTIAL
        how.finish(document, self.exit_code)
        return BACKUP, document

    def _create_in_several(self, parsed_args: argparse.Namespace, request: dict[str, Any]) -> Rows:
        group = self.open_group(parsed_args)
        with running(self, parsed_args, "backup") as how:
            result = group.backup(**request, events=how.listener, cancel=how.cancel)
        document = group_document(result)
        if result.status != "complete":
            self.exit_code = PARTIAL
        how.finish(document, self.exit_code)
        return Rows(document["targets"], list(_summary_of_several(document)))

    def summary(self, document: Row) -> Iterable[str]:
        """What was stored."""
        dry = document["dry_run"]
        title = "would store" if dry else f"backup {document['id'][:8]}:"
        yield f"{title} {document['name']} of {document['host']}, {document['status']}"
        yield (
            f"  files:    {human_count(document['new_files'])} new, {human_count(document['changed_files'])} changed, "
            f"{human_count(document['unmodified_files'])} unmodified"
        )
        yield f"  size:     {human_size(document['bytes'])} in {counted(document['files'], 'file')}"
        yield f"  added:    {human_size(document['added_bytes'])}{' (estimated)' if dry else ''}"
        yield f"  duration: {human_duration(document['duration'])}"
        fatal = [problem for problem in document["problems"] if problem["fatal"]]
        if fatal:
            yield f"  not whole: {human_count(len(fatal))} (see `freezer backup show {document['id'][:8]}`)"


def _summary_of_several(document: Row) -> Iterable[str]:
    """A line for each storage."""
    targets = document["targets"]
    known = next(target for target in targets if target["error"] is None)
    title = "would store" if known["dry_run"] else f"backup {document['id'][:8]}:"
    yield f"{title} {known['name']} of {known['host']}, {document['status']}"
    for target in targets:
        if target["error"] is not None:
            yield f"  {target['location']}: failed: {target['error']}{_in_brackets(target['hint'])}"
            continue
        whole = sum(problem["fatal"] for problem in target["problems"])
        yield (
            f"  {target['location']}: {target['status']}, {counted(target['files'], 'file')} of "
            f"{human_size(target['bytes'])}, added {human_size(target['added_bytes'])} "
            f"in {human_duration(target['duration'])}" + (f", {human_count(whole)} not whole" if whole else "")
        )


def _in_brackets(hint: str | None) -> str:
    return f" ({hint})" if hint else ""
