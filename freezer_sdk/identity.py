"""Who makes a backup: host, machine and user, as a backup records them."""

from __future__ import annotations

import os
import socket

_MACHINE_ID = "/etc/machine-id"
_APPLICATION = b"freezer-sdk machine id 1"


def host_name() -> str:
    """The name of this host."""
    return socket.gethostname()


def machine_id(path: str = _MACHINE_ID) -> str:
    """32 hexadecimal digits that tell this machine from others, or ``""``.

    The number in ``/etc/machine-id`` is confidential (machine-id(5)): it only keys an HMAC of a text of this
    application, as ``sd_id128_get_machine_app_specific`` does.
    """
    import hmac

    try:
        with open(path, "rb") as file:
            key = bytes.fromhex(file.read(64).strip().decode("ascii"))
    except (OSError, ValueError):
        return ""
    return hmac.digest(key, _APPLICATION, "sha256").hex()[:32] if key else ""


def user_name() -> str:
    """The name of the effective user, from the user database and never from the environment."""
    try:
        import pwd
    except ImportError:
        return ""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
