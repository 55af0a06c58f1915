"""``freezer repository``: make one, and look at it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import Column, ResultCommand, Row, ShowCommand
from freezer_cli.documents import plain
from freezer_cli.other_repository import add_other_repository, other_connection
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import counted, human_count, human_iso, human_size
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_duration

LOG = logging.getLogger("freezer")


def _facts(value: Any) -> list[str]:
    return [f"{key}: {item}" for key, item in value.items()]


def _kinds(value: Any) -> list[str]:
    return [
        f"{kind}: {counted(each['objects'], 'object')}, {human_size(each['bytes'])}" for kind, each in value.items()
    ]


INFO = (
    Column("id", "ID"),
    Column("location", "Location"),
    Column("engine", "Engine"),
    Column("version", "Format version"),
    Column("encrypted", "Encrypted", lambda value: "yes" if value else "NO"),
    Column("created", "Created", human_iso),
    Column("role", "Role"),
    Column("features", "Features", ", ".join),
    Column("details", "Details", _facts),
)
STATS = (
    Column("backups", "Backups", human_count),
    Column("objects", "Objects", human_count),
    Column("stored_bytes", "Stored", human_size),
    Column("blobs", "Blobs", human_count),
    Column("raw_bytes", "Before compression", human_size),
    Column("by_kind", "By kind", _kinds),
)


class InitRepository(RepositoryCommand, ResultCommand):
    """Make a repository in an empty storage.

    The password is asked for twice. It cannot be recovered: without it the backups are lost."""

    engine_flags = True
    examples = (
        "freezer repository init --storage local:/srv/backups",
        "freezer repository init --storage local:/srv/backups --password-file /etc/freezer/password",
        "freezer repository init --storage local:/mnt/usb/backups --like local:/srv/backups",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds --no-encryption and --like."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--no-encryption", action="store_true", help="whoever can read the storage can read the backups"
        )
        title = "share the secrets of deduplication of this repository, so that copies between the two are found again"
        add_other_repository(parser, "--like", title=title)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Makes the repository."""
        from freezer_sdk import Freezer

        connection = self.connection(parsed_args)
        if parsed_args.no_encryption:
            LOG.warning("THIS REPOSITORY IS NOT ENCRYPTED: whoever can read the storage can read the backups in it")
        connection["password"] = None if parsed_args.no_encryption else self.settings.place.password(twice=True)
        if parsed_args.source is not None:
            connection["like"] = self.open_as(other_connection(self.settings, parsed_args))
        with Freezer.create(**connection, encryption=not parsed_args.no_encryption) as freezer:
            return INFO, plain(freezer.info())

    def summary(self, document: Row) -> Iterable[str]:
        """One line."""
        how = "encrypted" if document["encrypted"] else "NOT encrypted"
        yield f"made repository {document['id']} in {document['location']} (engine {document['engine']}, {how})"


class ShowRepository(RepositoryCommand, ShowCommand):
    """Show what a repository says about itself."""

    examples = ("freezer repository show --storage local:/srv/backups", "freezer repository show -f json")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Reads the repository's description."""
        return INFO, plain(self.open(parsed_args).info())


class SetRepository(RepositoryCommand, ShowCommand):
    """Change settings of a repository. They hold for everybody who uses it."""

    examples = ("freezer repository set --grace 48h --storage local:/srv/backups",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the settings."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--grace",
            metavar="DURATION",
            type=_duration,
            required=True,
            help="how long what no backup needs stays before it is deleted, e.g. 48h, 1h at least; it must be longer "
            "than a backup may be suspended",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Changes them, and shows the repository's description."""
        freezer = self.open(parsed_args)
        freezer.maintenance.set_grace(parsed_args.grace)
        return INFO, plain(freezer.info())


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class RepositoryStatistics(RepositoryCommand, ShowCommand):
    """Show how much a repository holds; lists the whole storage."""

    examples = ("freezer repository stats --storage local:/srv/backups", "freezer repository stats -f json")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Counts."""
        return STATS, plain(self.open(parsed_args).stats())
