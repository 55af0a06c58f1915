"""``--nice`` and ``--ionice``: how much the program may disturb others."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
from typing import NamedTuple

LOG = logging.getLogger(__name__)
_CLASSES = {"none": 0, "realtime": 1, "best-effort": 2, "idle": 3}
_LEVELS = range(8)


class IOPriority(NamedTuple):
    """A scheduling class of ``ionice(1)``, and its level (0 is served first) where the class has levels."""

    scheduling_class: int
    level: int | None


def parse_ionice(text: str) -> IOPriority:
    """``idle``, ``best-effort:7``, ``2:7``. For argparse.

    Raises:
        argparse.ArgumentTypeError: no such class or level.
    """
    name, _, level = text.partition(":")
    number = _CLASSES.get(name, int(name) if name in ("0", "1", "2", "3") else None)
    if number is None:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(_CLASSES)}")
    if not level:
        return IOPriority(number, None)
    if number not in (1, 2):
        raise argparse.ArgumentTypeError(f"class {name} has no levels")
    if not level.isdecimal() or int(level) not in _LEVELS:
        raise argparse.ArgumentTypeError(f"{level!r} is not a level from 0 to 7")
    return IOPriority(number, int(level))


def add_priority_options(parser: argparse._ActionsContainer) -> None:
    """Adds the two options."""
    parser.add_argument("--nice", type=int, metavar="N", help="add N to the nice value: 19 is the most modest")
    parser.add_argument(
        "--ionice", type=parse_ionice, metavar="CLASS[:N]", help="I/O class: idle, best-effort[:0-7], realtime[:0-7]"
    )


def apply_priority(nice: int | None, ionice: IOPriority | None) -> None:
    """Applies what was asked for, before any thread is started; what the system refuses is a warning."""
    if nice is not None:
        try:
            os.nice(nice)
        except (OSError, AttributeError) as error:
            LOG.warning("the nice value cannot be changed by %d: %s", nice, error)
    if ionice is not None:
        arguments = ["ionice", "-c", str(ionice.scheduling_class)]
        if ionice.level is not None:
            arguments += ["-n", str(ionice.level)]
        try:
            subprocess.run([*arguments, "-p", str(os.getpid())], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            LOG.warning("the I/O priority cannot be set: %s", error.stderr.strip())
        except OSError as error:
            LOG.warning("the I/O priority cannot be set: ionice: %s", error.strerror)
