"""Ctrl-C and SIGTERM: the first asks the running operation to stop cleanly, the second forces it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from freezer_sdk import CancelToken

INTERRUPTED = 130
_STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handler for commands that can simply be left."""
    raise KeyboardInterrupt


def install() -> None:
    """Makes SIGTERM and SIGHUP end a command as Ctrl-C does; an ignored one (nohup) stays ignored."""
    for number in _STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


@contextmanager
def cancellation(before_forced_end: Callable[[], None] = lambda: None) -> Iterator[CancelToken]:
    """A token that the first signal sets; the second ends the process at once.

    Args:
        before_forced_end: called by the second, for example to give the terminal back.
    """
    token = CancelToken()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if token.cancelled:
            before_forced_end()
            os._exit(INTERRUPTED)
        token.cancel()
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nstopping; once more to stop at once\n")

    previous = {}
    try:
        for number in _STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, stop)
    except ValueError:  # not the main thread of the process: signals are somebody else's
        pass
    try:
        yield token
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
