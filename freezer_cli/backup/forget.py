"""``freezer backup forget``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.backup.policy_options import add_policy_options, policy_from
from freezer_cli.backup.retained import PLAN, plan_document, plan_lines
from freezer_cli.base import ResultCommand, Row
from freezer_cli.repository_command import RepositoryCommand, add_selection


class ForgetBackups(RepositoryCommand, ResultCommand):
    """Forget backups by rules; what no rule keeps goes, and comes back with `backup undelete` until maintenance sweeps.

    Never forgotten are the newest complete backup of a group, what is younger than the floor, what is held, what a
    backup that stays needs, and what has a time that cannot be right. Engines with levels (tar, rsync) delete at once:
    there nothing comes back. Exits with 14 when more of a group would go than --max-share allows; nothing is
    forgotten then. Rules that are not given come from the profile."""

    examples = (
        "freezer backup forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run",
        "freezer backup forget --name etc --keep-last 10 --keep-within 30d --keep-tag release",
        "freezer backup forget --older-than 365d --host node1",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the rules, and the choice of backups that take part."""
        parser = super().get_parser(prog_name)
        add_policy_options(parser)
        add_selection(parser, dates=False)
        parser.add_argument("--dry-run", action="store_true", help="forget nothing; say what each rule keeps or drops")
        parser.add_argument("--force", action="store_true", help="forget more of a group than --max-share allows")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Decides, and forgets."""
        profile = self.settings.profile
        policy = policy_from(parsed_args, profile.retention, profile=profile.name)
        plan = self.open(parsed_args).retention.apply(
            policy,
            name=parsed_args.name,
            host=parsed_args.host,
            tags=parsed_args.tag,
            dry_run=parsed_args.dry_run,
            force=parsed_args.force,
        )
        return PLAN, plan_document(plan)

    def summary(self, document: Row) -> Iterable[str]:
        """Group by group."""
        return plan_lines(document)
