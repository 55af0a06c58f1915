"""Options and URLs of the storage on an SFTP server."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import Option
from freezer_sdk.storages._ssh_config import jump_parts
from freezer_sdk.streams.network import CONNECT_TIMEOUT, PROXY, PROXY_PASSWORD, TIMEOUT

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_HINT = "write sftp://USER@HOST/ABSOLUTE/PATH, or sftp://USER@HOST/~/PATH from the folder where a login begins"

OPTIONS = (
    Option(name="host", required=True, help="Name or address of the server, or a Host of the SSH configuration."),
    Option(name="port", type="int", help="Its port; otherwise as in the SSH configuration, or 22."),
    Option(name="user", help="User on the server; otherwise as in the SSH configuration, or the local one."),
    Option(
        name="path",
        required=True,
        help="Folder that holds the objects: absolute, or below the folder where a login begins.",
    ),
    Option(name="password", secret=True, help="Password of the user; jump hosts never see it."),
    Option(
        name="identity_file",
        type="path",
        multiple=True,
        default=(),
        help="Private key to log in with, instead of those of the SSH configuration and the agent.",
    ),
    Option(name="passphrase", secret=True, help="Passphrase of locked private keys."),
    Option(name="agent", type="bool", default=True, help="Use the keys of a running SSH agent."),
    Option(
        name="host_key",
        help="Fingerprint (SHA256:...) that the server's host key must have, whatever known_hosts says.",
    ),
    Option(
        name="known_hosts",
        type="path",
        multiple=True,
        default=(),
        help="Files of known host keys instead of the user's and the system's; they are only read.",
    ),
    Option(
        name="ssh_config",
        help="SSH configuration file instead of ~/.ssh/config and /etc/ssh/ssh_config; 'none': no file.",
    ),
    Option(
        name="proxy_jump",
        help="Servers to go through: USER@HOST:PORT, several with commas between; 'none': not those of ssh_config.",
    ),
    PROXY,
    PROXY_PASSWORD,
    Option(name="connections", type="int", default=4, help="Connections at once at most."),
    CONNECT_TIMEOUT,
    TIMEOUT,
    Option(
        name="keepalive",
        type="duration",
        default=30.0,
        help="Silence after which something is sent to keep a connection open; 0: never.",
    ),
    Option(
        name="hard_links",
        type="bool",
        default=True,
        help="Use hard links for conditional puts; 'no' where the server's file system has none.",
    ),
)


def parse_url(url: str) -> dict[str, Any]:
    """Option values from ``sftp://[USER[:PASSWORD]@]HOST[:PORT]/PATH``.

    Raises:
        ConfigurationError: it is none; the message does not show it, since it may hold a password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("sftp", "ssh") or not host or not parts.path or parts.query or parts.fragment:
        raise ConfigurationError("this is not the URL of a folder on a server with SSH", hint=_HINT)
    values: dict[str, Any] = {"host": unquote(host), "path": _path_of_url(parts.path)}
    if port is not None:
        values["port"] = port
    if parts.username:
        values["user"] = unquote(parts.username)
    if parts.password is not None:
        values["password"] = unquote(parts.password)
    return values


def _path_of_url(text: str) -> str:
    path = unquote(text, errors="surrogateescape")
    for home in ("/~", "/."):
        if path == home or path.startswith(home + "/"):
            return path[len(home) :].strip("/") or "."
    if path.startswith("/~"):
        raise ConfigurationError("only one's own home can be meant by '~'", hint=_HINT)
    return path


def location(*, host: str, port: int | None, user: str | None, path: str) -> str:
    """The URL of these."""
    where = f"[{host}]" if ":" in host else quote(host)
    if user:
        where = f"{quote(user, safe='')}@{where}"
    if port is not None:
        where += f":{port}"
    below = path if path.startswith("/") else f"/~/{path}".removesuffix("/.")
    return f"sftp://{where}{quote(below, errors='surrogateescape')}"


def checked_word(text: str, what: str) -> str:
    """A host or a user.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not text or not text.isprintable() or any(letter.isspace() for letter in text):
        raise ConfigurationError(f"{text!r} cannot be the {what} of an SSH connection")
    return text


def checked_path(path: str) -> str:
    """The folder of a storage, as it is given to the server.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not path or "\0" in path:
        raise ConfigurationError(f"{path!r} is not a path on a server", hint=_HINT)
    if path == "~" or path.startswith("~/"):
        path = path[1:].strip("/") or "."
    elif path.startswith("~"):
        raise ConfigurationError("only one's own home can be meant by '~'", hint=_HINT)
    absolute = path.startswith("/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if absolute else "") + "/".join(parts) or "."


def checked_fingerprint(text: str | None) -> str | None:
    """The fingerprint of a host key.

    Raises:
        ConfigurationError: it is none.
    """
    if text is not None and not _FINGERPRINT.fullmatch(text):
        raise ConfigurationError(
            f"{text!r} is not the fingerprint of a host key", hint="it looks like SHA256:... with 43 more characters"
        )
    return text and text.rstrip("=")


def checked_jumps(text: str | None) -> str | None:
    """Jump hosts.

    Raises:
        ConfigurationError: one of them makes no sense.
    """
    if text is not None and text.lower() != "none":
        for jump in text.split(","):
            jump_parts(jump.strip())
    return text
