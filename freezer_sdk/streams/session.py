"""Programs that were started in a session of their own are ended together with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Final

_PATIENCE: Final = 5.0  # seconds between asking and making it end
_POLL: Final = 0.02


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Asks a program and all that it started to end, and makes them after a while; the program is waited for.

    What is not in its process group any more, such as a service that it started, goes on. A program that the kernel
    holds is left behind.

    Args:
        process: leads the session that was made for it.
    """
    if os.name != "posix":
        process.kill()
        process.wait()
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _signal(process.pid, number):
            break
        end = time.monotonic() + _PATIENCE
        others = number == signal.SIGTERM  # what was killed, but that nobody waits for, is still counted
        while time.monotonic() < end and (process.poll() is None or (others and _signal(process.pid, 0))):
            time.sleep(_POLL)
    process.poll()


def _signal(group: int, number: int) -> bool:
    """Whether there is anybody left to hear it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and not all of them need be
        pass
    return True
