"""``freezer repository key``: who opens a repository."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import Column, ListCommand, ResultCommand, Row
from freezer_cli.documents import plain
from freezer_cli.new_password import add_new_password, new_password
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.text import human_iso, human_size

LOG = logging.getLogger("freezer")
ROLES = ("writer", "reader", "maintainer", "owner")
_ALL = 3  # roles of an owner


def _short(value: Any) -> str:
    return str(value)[:8]


def _roles(value: Any) -> str:
    return "owner" if len(value) == _ALL else ", ".join(value)


def _hosts(value: Any) -> str:
    return ", ".join(value) or "none"


def _yes(value: Any) -> str:
    return "yes" if value else "no"


KEY = (
    Column("id", "ID", _short),
    Column("label", "Label"),
    Column("roles", "Role", _roles),
    Column("trusted", "Trusted", _yes),
    Column("hosts", "Only hosts", _hosts),
    Column("added", "Added", extra=True),
    Column("removed", "Removed in epoch", extra=True),
    Column("own", "In use", _yes),
)
ROTATION = (
    Column("epoch", "Epoch"),
    Column("removed", "Removed"),
    Column("rewritten_bytes", "Stored again", human_size),
    Column("marked_packs", "Marked packs"),
    Column("marked_bytes", "Marked", human_size),
    Column("due", "Can be freed", human_iso),
)
CHANGE = (*KEY, Column("left", "Left"))


def _title(document: Row) -> str:
    label = f" ({document['label']})" if document["label"] else ""
    return f"key {_short(document['id'])}{label}"


class ListKeys(RepositoryCommand, ListCommand):
    """List the keys of a repository: who opens it, and what each may do.

    The key in use is the one that your password opens."""

    examples = ("freezer repository key list", "freezer repository key list --all -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds --all."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--all", action="store_true", help="also those that were removed")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Reads the configuration."""
        keys = self.open(parsed_args).keys.list()
        return KEY, [plain(key) for key in keys if parsed_args.all or key.removed is None]


class AddKey(RepositoryCommand, ResultCommand):
    """Let another password open the repository.

    A writer adds backups and can neither read nor delete any; a reader lists and restores; a maintainer reads, decides
    what is deleted, and administers keys; an owner may do everything. Roles add up: a client that goes on from its
    last backup is writer and reader. What a client stores is used by others only if it is trusted."""

    examples = (
        "freezer repository key add --role writer --label web1 --host web1 --new-password-file web1.password",
        "freezer repository key add --role writer --role reader --label laptop",
        "freezer repository key add --label 'second administrator'",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds what the key may do."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--role", choices=ROLES, action="append", help="what it may do (repeatable; default: owner)"
        )
        parser.add_argument("--label", metavar="TEXT", default="", help="to know it by; in clear text in the storage")
        parser.add_argument(
            "--trusted", action="store_true", help="others build on what it stores (default: only on maintainers')"
        )
        parser.add_argument(
            "--host", metavar="NAME", action="append", help="it may make backups of this host only (repeatable)"
        )
        add_new_password(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Adds the key."""
        key = self.open(parsed_args).keys.add(
            new_password(self.settings, parsed_args),
            roles=parsed_args.role or ("owner",),
            label=parsed_args.label,
            trusted=parsed_args.trusted or None,
            hosts=parsed_args.host,
        )
        return KEY, plain(key)

    def summary(self, document: Row) -> Iterable[str]:
        """One line."""
        hosts = f", only for {_hosts(document['hosts'])}" if document["hosts"] is not None else ""
        yield f"added {_title(document)}: {_roles(document['roles'])}{hosts}"


class RemoveKey(RepositoryCommand, ResultCommand):
    """Take a key away, and encrypt what is stored from now on with new data keys.

    The last owner's key cannot be removed. What the holder could read before, they may have read: change what was
    secret in it. Others stop building on what the key has stored, unless --keep-trust is given; right after the removal
    of a client's key the data of its last backups are then stored once more."""

    examples = ("freezer repository key remove laptop", "freezer repository key remove 3f2a9c1e --keep-trust")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the key."""
        parser = super().get_parser(prog_name)
        parser.add_argument("key", metavar="KEY", help="start of an id, or a label")
        parser.add_argument(
            "--keep-trust", action="store_true", help="others go on building on what it stored: it was not stolen"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Removes the key."""
        keys = self.open(parsed_args).keys
        return ROTATION, plain(keys.remove(parsed_args.key, keep_trust=parsed_args.keep_trust))

    def summary(self, document: Row) -> Iterable[str]:
        """One line."""
        for key in document["removed"]:
            yield f"removed {_title(key)}; new data are encrypted with the keys of epoch {document['epoch']}"


class ChangePassword(RepositoryCommand, ResultCommand):
    """Change the password of the key in use.

    Whoever knows the old password and has a copy of the storage can still open that copy, and what is added to it
    later: if that is to be feared, add a key and remove this one."""

    examples = (
        "freezer repository key passwd",
        "freezer repository key passwd --password-file old --new-password-file new",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the new password."""
        parser = super().get_parser(prog_name)
        add_new_password(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Changes it."""
        change = self.open(parsed_args).keys.change_password(new_password(self.settings, parsed_args))
        for name in change.left:
            LOG.warning("%s is still there: as long as it is, the old password may open the repository", name)
        return CHANGE, {**plain(change.key), "left": list(change.left)}

    def summary(self, document: Row) -> Iterable[str]:
        """One line."""
        yield f"changed the password of {_title(document)}"


class RotateKeys(RepositoryCommand, ResultCommand):
    """Encrypt what is stored from now on with new data keys.

    Passwords stay, and everything stays readable. Removing a key does this too."""

    examples = ("freezer repository key rotate", "freezer repository key rotate --rewrite now")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds --rewrite."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--rewrite",
            choices=("now", "lazily"),
            default="lazily",
            help="what was stored before: encrypt it anew at once (like `repository prune --old-keys`), or only when a "
            "prune writes it anew for another reason (default)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Rotates."""
        return ROTATION, plain(self.open(parsed_args).keys.rotate(rewrite=parsed_args.rewrite))

    def summary(self, document: Row) -> Iterable[str]:
        """One or two lines."""
        yield f"new data are encrypted with the keys of epoch {document['epoch']}"
        if document["rewritten_bytes"]:
            yield f"stored {human_size(document['rewritten_bytes'])} again that backups need"
        if document["due"]:
            size, due = human_size(document["marked_bytes"]), human_iso(document["due"])
            yield f"waiting: {size} of old packs, to be freed by a `freezer repository prune` after {due}"
