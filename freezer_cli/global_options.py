"""The options that work before and after the verb."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_size

NAMES = (
    "storage",
    "storage_option",
    "profile",
    "config",
    "password_file",
    "password_command",
    "keyring",
    "upload_limit",
    "download_limit",
    "quiet",
    "verbose",
    "debug",
    "log_file",
)
_REPEATABLE = ("storage_option",)
_COUNTED = ("verbose",)
_LISTS = ("--storage", "--profile")  # given after the verb, they replace those before it
_OPENSTACK = (
    *("cloud", "client-config-file", "client-secure-file", "auth-url", "auth-type", "identity-api-version"),
    *("username", "user-id", "password-file", "user-domain-name", "user-domain-id"),
    *("project-name", "project-id", "project-domain-name", "project-domain-id"),
    *("application-credential-id", "application-credential-name", "application-credential-secret-file"),
    *("token-file", "trust-id", "region-name", "interface", "cacert", "cert", "key", "storage-url"),
)
"""As of every OpenStack command, but what is secret comes from a file."""


def add_global_options(parser: argparse._ActionsContainer, *, after_verb: bool) -> None:
    """Adds them; after the verb an option that is not given leaves no trace, so that one given before it stands."""
    default = argparse.SUPPRESS if after_verb else None
    parser.add_argument(
        "--storage",
        metavar="URL",
        action="append",
        default=default,
        help="where the repository is, e.g. local:/srv/backups (repeatable: several at once)",
    )
    parser.add_argument(
        "--storage-option",
        metavar="NAME=VALUE",
        action="append",
        default=default,
        help="option of the storage plug-in (repeatable; a secret: NAME-file=FILE)",
    )
    for name in _OPENSTACK:
        parser.add_argument(
            f"--os-{name}",
            dest="storage_option",
            metavar="VALUE",
            action=_StorageOption,
            default=default,
            help="cloud of clouds.yaml; also --os-auth-url, --os-username, --os-password-file, ... and OS_* variables"
            if name == "cloud"
            else argparse.SUPPRESS,
        )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        action="append",
        default=default,
        help="profile of the configuration file (repeatable: the storages of several at once)",
    )
    parser.add_argument("--config", metavar="FILE", default=default, help="configuration file")
    password = parser.add_mutually_exclusive_group()
    password.add_argument(
        "--password-file", metavar="FILE", default=default, help="the password is the first line of this file"
    )
    password.add_argument(
        "--password-command", metavar="COMMAND", default=default, help="the password is the first line it prints"
    )
    password.add_argument(
        "--keyring", action="store_true", default=default, help="ask the desktop's keyring for the password"
    )
    for flag, doing in (("--upload-limit", "send"), ("--download-limit", "receive")):
        parser.add_argument(
            flag,
            metavar="SIZE",
            type=_size,
            default=default,
            help=f"bytes a second to {doing} at most, all storages together (e.g. 500K, 10M; 0: no limit)",
        )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", default=default, help="print nothing but errors")
    loudness.add_argument(
        "-v", "--verbose", action="count", default=default, help="print more; twice: what the program does inside"
    )
    parser.add_argument("--debug", action="store_true", default=default, help="show tracebacks and all log messages")
    parser.add_argument("--log-file", metavar="FILE", default=default, help="write log messages to this file as well")


class _StorageOption(argparse.Action):
    """A flag that is short for ``--storage-option``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given = getattr(namespace, self.dest, None) or []
        setattr(namespace, self.dest, [*given, f"{self.option_strings[0].removeprefix('--')}={values}"])


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def merge_global_options(before: argparse.Namespace, after: argparse.Namespace) -> argparse.Namespace:
    """What holds for the command: repeatable options add up, of the others the one after the verb wins."""
    merged = argparse.Namespace()
    for name in NAMES:
        first, second = getattr(before, name, None), getattr(after, name, None)
        if name in _REPEATABLE:
            setattr(merged, name, [*(first or ()), *(second or ())])
        elif name in _COUNTED:
            setattr(merged, name, (first or 0) + (second or 0))
        else:
            setattr(merged, name, first if second is None else second)
    if after.__dict__.keys() & {"password_file", "password_command", "keyring"}:
        for name in ("password_file", "password_command", "keyring"):  # one given after the verb replaces any before
            setattr(merged, name, getattr(after, name, None))
    merged.engine = getattr(after, "engine", None)
    return merged


def chosen(arguments: Sequence[str], *flags: str) -> dict[str, Any]:
    """The values of a few flags, found before the whole command line can be parsed; of repeatable ones as a list.

    Args:
        arguments: what follows the verb; nothing after ``--`` is looked at.
        flags: long flags that take one value.
    """
    own = list(arguments)
    if "--" in own:
        own = own[: own.index("--")]
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in flags:
        parser.add_argument(flag, default=None, action="append" if flag in _LISTS else "store")
    try:
        found, _ = parser.parse_known_args(own)
    except argparse.ArgumentError:  # a flag without its value: the real parser will say so
        return {}
    return {name: value for name, value in vars(found).items() if value is not None}
