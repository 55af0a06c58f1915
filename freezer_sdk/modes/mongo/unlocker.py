"""``python -m freezer_sdk.modes.mongo.unlocker SECONDS``: unlocks a server when nobody else does.

It reads a :class:`Login` in one line of its standard input, and says ``ready``. When the input says ``done`` within
that time, all is well. When it ends without a word, whoever was to unlock is dead.
"""

from __future__ import annotations

import os
import selectors
import sys
from contextlib import suppress

from freezer_sdk.modes.mongo.login import Login

UNLOCKED = 3
"""Exit status when it had to unlock."""


def main() -> int:
    """See the module."""
    import pymongo  # noqa: F401 - later is too late: the lock must not wait for an import
    from pymongo.errors import OperationFailure

    limit = float(sys.argv[1])
    source = sys.stdin.fileno()  # not buffered: the selector must know what is left
    given = b""
    while not given.endswith(b"\n"):
        piece = os.read(source, 65536)
        if not piece:
            return 0  # nothing is locked yet
        given += piece
    login = Login.from_json(given.decode())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        if selector.select(limit) and os.read(source, 65536):
            return 0
    with suppress(OperationFailure), login.connected() as client:  # it is unlocked
        while True:  # locks are counted
            client.admin.command("fsyncUnlock")
    return UNLOCKED


if __name__ == "__main__":
    sys.exit(main())
