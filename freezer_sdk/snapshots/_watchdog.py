"""A process of its own that freezes file systems, and thaws them whatever becomes of the one that wants them frozen.

Run as a program, without the rest of the package: ``watchdog RECORD SECONDS FOLDER...``. It says ``frozen``, and thaws
when it reads ``thaw``, when its input ends since its parent has died, when it is told to end, and at the latest after
the seconds. Then it says ``thawed``, or why that was not what its parent wanted. The record lasts as long as something
may be frozen.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # not everywhere; where it is missing, nothing is frozen
    import fcntl

FREEZE, THAW = 0xC0045877, 0xC0045878  # linux/fs.h: FIFREEZE, FITHAW
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_POLL = 0.1


def main() -> None:
    """Does what the arguments say."""
    # they wait until they are asked for: none may come between a freeze and the note that it succeeded
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    record, seconds, folders = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    frozen: list[int] = []
    answer = "thawed"
    try:
        descriptors = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in folders]
        record.write_text(json.dumps({"boot": boot(), "folders": folders}), encoding="utf-8")
        for descriptor in descriptors:
            fcntl.ioctl(descriptor, FREEZE, 0)
            frozen.append(descriptor)
        _say("frozen")
        answer = _wait(time.monotonic() + seconds)
    except OSError as error:
        answer = f"{folders[len(frozen)]}: {error.strerror}"
    finally:
        for descriptor in reversed(frozen):
            try:
                fcntl.ioctl(descriptor, THAW, 0)
            except OSError as error:  # somebody else has thawed it
                answer = f"{folders[descriptors.index(descriptor)]} did not stay frozen: {error.strerror}"
        record.unlink(missing_ok=True)
        _say(answer)


def boot() -> str:
    """A name of the time since the machine has started: what was frozen before it is no more."""
    return _BOOT.read_text(encoding="ascii").strip()


def thaw_recorded(record: Path) -> list[str]:
    """Thaws what a watchdog that was killed left frozen; gives the folders.

    Raises:
        OSError, ValueError: not a record, or something cannot be thawed.
    """
    if not record.exists():
        return []
    noted = json.loads(record.read_text(encoding="utf-8"))
    thawed = []
    for folder in noted["folders"] if noted["boot"] == boot() else []:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, THAW, 0)
            thawed.append(folder)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is not frozen
                raise
        finally:
            os.close(descriptor)
    record.unlink()
    return thawed


def _wait(until: float) -> str:
    while (left := until - time.monotonic()) > 0:
        if signal.sigpending() & _SIGNALS:
            return "it was told to end"
        if select.select([0], [], [], min(left, _POLL))[0]:
            return "thawed" if os.read(0, 16).startswith(b"thaw") else "its parent has died"
    return "it took too long"


def _say(text: str) -> None:
    try:
        os.write(1, f"{text}\n".encode())
    except OSError:  # nobody listens any more
        pass


if __name__ == "__main__":
    main()
