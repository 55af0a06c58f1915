"""The way to a server: what options and OpenSSH's configuration files (ssh_config(5)) say of it and of jump hosts."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from freezer_sdk.errors import ConfigurationError

USER_CONFIG = "~/.ssh/config"
SYSTEM_CONFIG = "/etc/ssh/ssh_config"
USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")

_DEPTH = 8  # of files that include files, and of jump hosts behind jump hosts
_LINE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*?)\s*")


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One SSH server on the way; the last one is the target.

    Attributes:
        name: as the user calls it.
        known_as: what known_hosts calls it, where that is not its address.
        keys: files of private keys, in the order in which they are tried.
        keys_needed: a file that is missing is an error.
        only_keys: no other keys of an agent are tried.
        proxy_command: program and arguments whose standard input and output are the connection.
        connect_timeout: seconds, where the configuration says it.
    """

    name: str
    host: str
    port: int
    user: str
    known_as: str | None
    known_hosts: tuple[str, ...]
    keys: tuple[str, ...]
    keys_needed: bool
    only_keys: bool
    agent: bool
    proxy_command: tuple[str, ...]
    connect_timeout: float | None


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user asked for by options; it wins over the configuration files.

    Attributes:
        keys: these and no others.
        more_keys: before those of the configuration.
        config: a file instead of the usual ones; ``none``: no file.
        jump: as in ``ProxyJump``.
        proxied: TCP connections go through a proxy, which replaces ``ProxyCommand``.
    """

    host: str
    port: int | None = None
    user: str | None = None
    keys: tuple[str, ...] = ()
    more_keys: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()
    jump: str | None = None
    config: str | None = None
    proxied: bool = False


def route(wishes: Wishes) -> list[Hop]:
    """The servers on the way, the target last.

    Raises:
        ConfigurationError: a configuration file, or what it says, cannot be used.
    """
    text = _configuration(wishes.config)
    return _route(wishes, text, depth=0)


def _route(wishes: Wishes, text: str, depth: int) -> list[Hop]:
    if depth > _DEPTH:
        raise ConfigurationError(f"the jump hosts of {wishes.host} lead in a circle")
    found = _lookup(wishes, text)
    jumps = _jumps(wishes.jump if wishes.jump is not None else _first_of(found, "proxyjump", "proxycommand") or "none")
    command = () if wishes.proxied or wishes.jump is not None else _command(found)
    target = _hop(wishes, found, () if jumps else command)
    if not jumps:
        return [target]
    # the first jump host may have others before it; later ones are reached through the one before
    first, *others = (_jump_wishes(wishes, jump) for jump in jumps)
    way = _route(first, text, depth + 1)
    return [*way, *(_hop(other, _lookup(other, text), ()) for other in others), target]


def _jump_wishes(wishes: Wishes, jump: str) -> Wishes:
    user, host, port = jump_parts(jump)
    return Wishes(
        host=host,
        port=port,
        user=user,
        more_keys=wishes.keys or wishes.more_keys,
        known_hosts=wishes.known_hosts,
        config=wishes.config,
        proxied=wishes.proxied,
    )


def jump_parts(jump: str) -> tuple[str | None, str, int | None]:
    """User, host and port of ``[user@]host[:port]`` or an ``ssh://`` URL.

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        parts = urlsplit(jump if jump.startswith("ssh://") else f"ssh://{jump}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.path or parts.query or parts.fragment or parts.password:
        raise ConfigurationError(f"{jump!r} is no jump host", hint="write USER@HOST:PORT, several with commas between")
    return unquote(parts.username) if parts.username else None, host, port


def _hop(wishes: Wishes, found: dict[str, Any], command: tuple[str, ...]) -> Hop:
    configured = [path for path in found.get("identityfile", DEFAULT_KEYS) if path.lower() != "none"]
    keys = wishes.keys or (*wishes.more_keys, *configured)
    known = wishes.known_hosts or (
        *_files(found.get("userknownhostsfile"), USER_KNOWN_HOSTS),
        *_files(found.get("globalknownhostsfile"), SYSTEM_KNOWN_HOSTS),
    )
    return Hop(
        name=wishes.host,
        host=found["hostname"],
        port=_port(wishes, found),
        user=found["user"],
        known_as=found.get("hostkeyalias"),
        known_hosts=tuple(os.path.expanduser(path) for path in known),
        keys=tuple(os.path.expanduser(path) for path in keys),
        keys_needed=bool(wishes.keys),
        only_keys=bool(wishes.keys) or found.get("identitiesonly", "no").lower() == "yes",
        agent=found.get("identityagent", "").lower() != "none",
        proxy_command=command,
        connect_timeout=_seconds(found.get("connecttimeout")),
    )


def _lookup(wishes: Wishes, text: str) -> dict[str, Any]:
    """What the files say of a host; what the user asked for stands before it, and the first value counts."""
    from paramiko import SSHConfig, SSHException

    wanted = ""
    if wishes.user is not None:
        wanted += f"User {wishes.user}\n"
    if wishes.port is not None:
        wanted += f"Port {wishes.port}\n"
    try:
        found: dict[str, Any] = dict(SSHConfig.from_text(wanted + text).lookup(wishes.host))
    except (SSHException, ValueError, KeyError) as error:
        raise ConfigurationError(f"the SSH configuration cannot be understood: {error}") from error
    found.setdefault("user", _own_name())
    return found


def _own_name() -> str:
    import getpass

    return getpass.getuser()


def _port(wishes: Wishes, found: dict[str, Any]) -> int:
    try:
        port = int(found.get("port", 22))
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise ConfigurationError(f"{found.get('port')!r} is not a port of {wishes.host}")
    return port


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return seconds if seconds > 0 else None


def _files(text: str | None, default: Sequence[str]) -> Sequence[str]:
    if text is None:
        return default
    return [path for path in _words(text) if path.lower() != "none"]


def _first_of(found: dict[str, Any], wanted: str, other: str) -> str | None:
    """The value of one of two settings that exclude each other: the one that stands first counts."""
    names = [name for name in found if name in (wanted, other)]
    value: str | None = found[wanted] if names and names[0] == wanted else None
    return value


def _jumps(text: str) -> list[str]:
    return [] if text.lower() == "none" else [jump.strip() for jump in text.split(",")]


def _command(found: dict[str, Any]) -> tuple[str, ...]:
    words = _words(_first_of(found, "proxycommand", "proxyjump") or "")
    return tuple(words[1:] if words[:1] == ["exec"] else words)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"the SSH configuration cannot be understood: {error} in {text!r}") from None


def _configuration(path: str | None) -> str:
    """The text of the configuration files, with what they include."""
    if path is not None and path.lower() == "none":
        return ""
    if path is not None:
        return "".join(_lines(os.path.expanduser(path), "~/.ssh", needed=True))
    user = "".join(_lines(os.path.expanduser(USER_CONFIG), "~/.ssh"))
    return user + "Host *\n" + "".join(_lines(SYSTEM_CONFIG, "/etc/ssh"))


def _lines(path: str, folder: str, *, needed: bool = False, depth: int = 0) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        if needed or not isinstance(error, FileNotFoundError):
            raise ConfigurationError(f"the SSH configuration {path} cannot be read: {error.strerror}") from error
        return
    section = "Host *"
    for line in lines:
        match = _LINE.fullmatch(line)
        keyword = match[1].lower() if match else ""
        if match and keyword == "include":
            yield from _included(match[2], folder, depth)
            yield section + "\n"  # sections of an included file end with it
            continue
        if keyword in ("host", "match"):
            section = line
        if match and keyword == "match" and re.search(r"(?i)(^|\s)!?exec\s", match[2]):
            raise ConfigurationError(
                f"{path}: 'Match exec' is not supported", hint="name another file, or 'none', by the option ssh_config"
            )
        yield line + "\n"


def _included(patterns: str, folder: str, depth: int) -> Iterator[str]:
    if depth >= _DEPTH:
        raise ConfigurationError("SSH configuration files include each other in a circle")
    for pattern in _words(patterns):
        whole = os.path.join(os.path.expanduser(folder), os.path.expanduser(pattern))
        for path in sorted(glob.glob(whole)):
            yield from _lines(path, folder, depth=depth + 1)
