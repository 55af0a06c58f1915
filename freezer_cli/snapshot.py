"""``freezer snapshot``: which providers can, and what killed runs left behind."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import Column, ListCommand
from freezer_cli.documents import Document
from freezer_cli.plugin_options import assigned
from freezer_cli.snapshot_options import declared_options, profile_options


def _yes(value: Any) -> str:
    return "yes" if value else "no"


_PROBED = (
    Column("provider", "Provider"),
    Column("possible", "Possible", _yes),
    Column("automatic", "In auto", _yes),
    Column("reason", "Reason"),
)
_REAPED = (
    Column("provider", "Provider"),
    Column("removed", "Removed", list),
    Column("error", "Error"),
)


class _SnapshotCommand(ListCommand):
    """Base of commands that ask providers."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the provider and its options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--provider", metavar="NAME", help="ask only this one")
        parser.add_argument(
            "--option",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            help="option of the provider (repeatable; a secret: NAME-file=FILE)",
        )
        return parser

    def options(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """The profile's options, and those of the command line over them.

        Raises:
            ConfigurationError, PluginNotFound, PluginError.
        """
        declared = declared_options(parsed_args.provider)
        given = assigned(declared, parsed_args.option, flag="--option")
        return {**profile_options(self.settings.profile, parsed_args.provider), **given}


class ProbeSnapshots(_SnapshotCommand):
    """Ask the snapshot providers whether they can make a consistent group of snapshots of some paths.

    They are listed in the order in which `--snapshot auto` asks. Nothing is changed. Exits with 1 when none can."""

    examples = ("freezer snapshot probe /var/lib/mysql", "freezer snapshot probe /srv /home --provider lvm -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the paths."""
        parser = super().get_parser(prog_name)
        parser.add_argument("paths", metavar="PATH", nargs="+", help="what a snapshot is to be made of")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Asks."""
        from freezer_sdk import probe_snapshots

        said = probe_snapshots(parsed_args.paths, provider=parsed_args.provider, options=self.options(parsed_args))
        self.exit_code = int(not any(each.possible for each in said))
        return _PROBED, [
            {
                "provider": each.provider,
                "possible": each.possible,
                "automatic": each.automatic,
                "reason": each.reason,
            }
            for each in said
        ]


class ReapSnapshots(_SnapshotCommand):
    """Remove volume snapshots that killed runs left behind.

    Only what bears our label is removed (the prefix is an option of all providers), and of that nothing whose process
    is still there. Exits with 1 when something could not be removed."""

    examples = ("freezer snapshot reap", "freezer snapshot reap --provider lvm --option label-prefix=nightly")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Removes."""
        from freezer_sdk import reap_snapshots

        done = reap_snapshots(parsed_args.provider, options=self.options(parsed_args))
        self.exit_code = int(any(each.error is not None for each in done))
        rows: list[Document] = [
            {
                "provider": each.provider,
                "removed": list(each.removed),
                "error": None if each.error is None else each.error.message,
            }
            for each in done
        ]
        return _REAPED, rows
