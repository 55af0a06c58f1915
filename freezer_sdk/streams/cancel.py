"""Cancellation that any thread may ask for."""

from __future__ import annotations

import threading

from freezer_sdk.errors import Cancelled


class CancelToken:
    """Handed to long operations; ``cancel()`` ends them at their next check."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Asks to stop."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Goes on, or stops.

        Raises:
            Cancelled: somebody asked to stop.
        """
        if self._event.is_set():
            raise Cancelled("cancelled")
