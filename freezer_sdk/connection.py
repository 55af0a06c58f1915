"""An open repository, with all that one long operation after the other needs of it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from freezer_sdk.engines.base import EngineCapabilities, Repository
from freezer_sdk.errors import FreezerError
from freezer_sdk.model import Event, EventHandler, Problem, RepositoryInfo, RepositoryStats
from freezer_sdk.opening import Opened
from freezer_sdk.operation import Operation
from freezer_sdk.streams.cancel import CancelToken

if TYPE_CHECKING:
    from freezer_sdk.streams.ratelimit import Limits


class Connection:
    """An open repository; base of :class:`~freezer_sdk.client.Freezer`."""

    def _begin(self, opened: Opened, events: EventHandler | None) -> None:
        self._place = opened
        self._boundary = opened.boundary
        self._events = events
        self._lock = threading.Lock()
        self._closed = False
        context = self._operation("open", None, None).context
        for problem in self.problems:
            context.events(Event(kind="problem", operation="open", path=problem.path, problem=problem))

    def __repr__(self) -> str:
        return f"<Freezer {self._place.engine.name} {self._place.location}>"

    @property
    def capabilities(self) -> EngineCapabilities:
        """What the engine can do."""
        return self._place.engine.capabilities

    @property
    def location(self) -> str:
        """A URL of the storage, without secrets."""
        return self._place.location

    @property
    def limits(self) -> Limits:
        """Bandwidth limits, which may be changed while the storage is at work: ``freezer.limits.upload = "5M"``.

        Raises:
            ConfigurationError: the class was given a Storage that was not opened by ``open_storage()``.
        """
        return self._place.limits

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Warnings of the opening; ``events`` of the class was told of them too."""
        return self._place.problems

    def info(self) -> RepositoryInfo:
        """What the repository says about itself.

        Raises:
            StorageError, IntegrityError.
        """
        repository = self._opened()
        with self._boundary.guard():
            return repository.info()

    def stats(self) -> RepositoryStats:
        """Sizes; lists the storage.

        Raises:
            StorageError, IntegrityError.
        """
        repository = self._opened()
        with self._boundary.guard():
            return repository.stats()

    def close(self) -> None:
        """Releases the repository, and the storage unless it was given open. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Repository:
        if self._closed:
            raise FreezerError("this Freezer is closed")
        return self._place.repository

    def _stalled_for(self) -> float:
        """Seconds since anything moved, while the storage is being waited for; 0 while it is not."""
        return self._place.activity.stalled_for

    def _operation(self, name: str, events: EventHandler | None, cancel: CancelToken | None) -> Operation:
        return Operation(name, events if events is not None else self._events, cancel)
