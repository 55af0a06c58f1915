"""Where a password may come from. It is asked for only when a repository needs one, and never shown."""

from __future__ import annotations

import logging
import os
import shlex
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from freezer_sdk.errors import ConfigurationError

LOG = logging.getLogger(__name__)
KEYRING_SERVICE = "freezer"


@dataclass(frozen=True, kw_only=True)
class PasswordSource:
    """One configured source.

    Attributes:
        kind: ``environment``, ``file``, ``command``, ``keyring`` or ``prompt``; safe to show.
        given_by: for example ``--password-file`` or ``profile default``.
        read: gives the password.
    """

    kind: str
    given_by: str
    read: Callable[[], str]


class Asker:
    """What the library is given: asks when, and only when, a repository needs a password.

    Args:
        source: the configured source; ``None``: the terminal, if there is one.
        twice: the user has to type it twice.
        prompt: what the user is asked.
    """

    def __init__(
        self, source: PasswordSource | None, *, twice: bool = False, prompt: str = "Repository password: "
    ) -> None:
        self._source = source
        self._twice, self._prompt = twice, prompt
        self.interactive = source is None

    def __call__(self) -> str | None:
        """The password; ``None``: nobody gave one and nobody is there to ask.

        Raises:
            ConfigurationError: a source fails.
        """
        if self._source is not None:
            return self._source.read()
        return from_terminal(self._prompt, twice=self._twice) if sys.stdin and sys.stdin.isatty() else None


def from_text(text: str) -> str:
    """The password of an environment variable.

    Raises:
        ConfigurationError: it is empty.
    """
    return _not_empty(text, "FREEZER_PASSWORD")


def from_file(path: str) -> str:
    """The first line of a file.

    Raises:
        ConfigurationError: unreadable, empty, or not UTF-8.
    """
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read the password file {path}: {error.strerror}") from None
    if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
        LOG.warning("the password file %s can be read by others: chmod 600 %s", path, path)
    return _decode(content, f"the password file {path}")


def from_command(command: str | Sequence[str]) -> str:
    """The first line that a program prints. No shell is involved.

    Raises:
        ConfigurationError: it cannot be run, fails, or prints nothing.
    """
    import subprocess

    try:
        arguments = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise ConfigurationError(f"the password command cannot be split into arguments: {error}") from None
    if not arguments:
        raise ConfigurationError("the password command is empty")
    title = f"the password command ({arguments[0]})"  # its arguments may hold secrets
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise ConfigurationError(f"{title} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise ConfigurationError(f"{title} failed with exit status {done.returncode}")
    return _decode(done.stdout, title)


def from_keyring(location: str) -> str:
    """The password that the desktop's keyring keeps for a storage.

    Raises:
        ConfigurationError: the extra is not installed, the keyring is locked, or it has no such password.
    """
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise ConfigurationError(
            "the keyring cannot be asked: its library is missing", hint="pip install 'freezer-sdk[keyring]'"
        ) from None
    try:
        password = keyring.get_password(KEYRING_SERVICE, location)
    except KeyringError as error:
        raise ConfigurationError(f"the keyring cannot be asked: {type(error).__name__}") from None
    if password is None:
        raise ConfigurationError(
            f"the keyring has no password for {location}", hint=f"keyring set {KEYRING_SERVICE} {location}"
        )
    return password


def from_terminal(prompt: str, *, twice: bool) -> str:
    """Asks the user.

    Raises:
        ConfigurationError: no answer, or two that differ.
    """
    import getpass

    try:
        password = _not_empty(getpass.getpass(prompt), "the password")
        if twice and getpass.getpass("The same once more: ") != password:
            raise ConfigurationError("the two passwords differ")
    except EOFError:
        raise ConfigurationError("no password was entered") from None
    return password


def _decode(content: bytes, title: str) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"the content of {title} is not UTF-8") from None
    return _not_empty(text.partition("\n")[0].removesuffix("\r"), title)


def _not_empty(text: str, title: str) -> str:
    if not text:
        raise ConfigurationError(f"{title} gives an empty password")
    return text
