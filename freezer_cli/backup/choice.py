"""Choosing one backup: an id prefix, ``latest``, ``ID:SUBPATH``, and the options that narrow it down."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from freezer_cli.dates import HELP, parse_date_until
from freezer_cli.repository_command import add_selection
from freezer_sdk import split_selector

if TYPE_CHECKING:
    from freezer_sdk import Freezer, FreezerGroup
    from freezer_sdk.model import Backup, EventHandler, GroupBackup


def add_choice(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Adds ``ID`` and what narrows ``latest`` down."""
    parser.add_argument(
        "backup",
        metavar="ID",
        nargs="?" if optional else None,
        default="latest",
        help="start of an id, or latest (of this host, unless --host says otherwise); ID:SUBPATH works as well",
    )
    add_selection(parser, dates=False)
    parser.add_argument(
        "--at", metavar="DATE", type=parse_date_until, help=f"for latest: no backup after this moment; {HELP}"
    )


def choose(freezer: Freezer, parsed_args: argparse.Namespace) -> tuple[Backup, str | None]:
    """The backup that is meant, and the path inside it if one is.

    Raises:
        FreezerError: none or several fit.
    """
    return freezer.resolve(
        parsed_args.backup, name=parsed_args.name, host=parsed_args.host, tags=parsed_args.tag, at=parsed_args.at
    )


def choose_among(
    group: FreezerGroup, parsed_args: argparse.Namespace, *, events: EventHandler
) -> tuple[GroupBackup, str | None]:
    """The same with several storages.

    Args:
        events: told of storages that cannot be asked.

    Raises:
        FreezerError: none or several fit, or no storage can be asked.
    """
    identifier, inside = split_selector(parsed_args.backup)
    found = group.find_backup(
        identifier,
        name=parsed_args.name,
        host=parsed_args.host,
        tags=parsed_args.tag,
        at=parsed_args.at,
        events=events,
    )
    return found, inside


def selector(backup: Backup, inside: str | None) -> str:
    """The exact form of a choice, for further calls."""
    return backup.id if inside is None else f"{backup.id}:{inside}"
