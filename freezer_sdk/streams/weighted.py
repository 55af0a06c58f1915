"""A queue between threads that is bounded by what its items weigh, not by their number."""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty, Full
from typing import Generic, TypeVar

T = TypeVar("T")


class WeightedQueue(Generic[T]):
    """First in, first out. May be used from several threads.

    Args:
        budget: the most that waiting items may weigh together; a heavier one waits until it is alone.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._changed = threading.Condition()
        self._items: deque[tuple[T, int]] = deque()
        self._weight = 0

    def put(self, item: T, weight: int, *, timeout: float) -> None:
        """Adds an item when there is room.

        Args:
            timeout: seconds to wait at most.

        Raises:
            queue.Full: there was no room.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._items or self._weight + weight <= self._budget, timeout):
                raise Full
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify_all()

    def get(self, *, timeout: float) -> T:
        """Takes the oldest item.

        Args:
            timeout: seconds to wait at most.

        Raises:
            queue.Empty: none came.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout):
                raise Empty
            item, weight = self._items.popleft()
            self._weight -= weight
            self._changed.notify_all()
            return item

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._items
