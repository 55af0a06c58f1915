"""Cancellation that any thread may ask for."""

from __future__ import annotations

import threading

from freezer_sdk.errors import Cancelled


class CancelToken:
    """Handed to long operations; ``cancel()`` ends them at their next check.

    Args:
        parent: another token; when that is cancelled, so is this one.
    """

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._event = threading.Event()
        self._parent = parent

    def cancel(self) -> None:
        """Asks to stop."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return self._event.is_set() or (self._parent is not None and self._parent.cancelled)

    def check(self) -> None:
        """Goes on, or stops.

        Raises:
            Cancelled: somebody asked to stop.
        """
        if self.cancelled:
            raise Cancelled("cancelled")
