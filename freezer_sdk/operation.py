"""What surrounds one long operation: its events, its cancellation, and what a mode is given to restore."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import Context, Repository
from freezer_sdk.model import Backup, Entry, Event, EventHandler, Layout, RestoreOptions, RestoreResult
from freezer_sdk.storages.base import Reader
from freezer_sdk.streams.cancel import CancelToken

_log = logging.getLogger("freezer_sdk")


class Operation:
    """One run, as its listener sees it: one ``start``, what the engine tells, and one ``finish`` if it succeeds.

    Args:
        name: ``backup``, ``restore`` or ``verify``.
        events: whoever listens; when it raises, that is logged and it is not called again.
        cancel: the caller's token.

    Attributes:
        name: of the operation.
        context: for the engine.
    """

    def __init__(self, name: str, events: EventHandler | None, cancel: CancelToken | None) -> None:
        self.name = name
        self._handler = events
        self.context = Context(events=self._tell, cancel=cancel if cancel is not None else CancelToken())

    def start(self, **data: Any) -> None:
        """Tells that the run starts, unless it is cancelled already.

        Raises:
            Cancelled.
        """
        self.context.cancel.check()
        self._tell(Event(kind="start", operation=self.name, data=data))

    def finish(self, *, files: int = 0, size: int = 0, added: int = 0, **data: Any) -> None:
        """Tells that the run came to its end."""
        event = Event(kind="finish", operation=self.name, files=files, bytes=size, added_bytes=added, data=data)
        self._tell(event)

    def finish_backup(self, backup: Backup) -> None:
        """Tells that a backup was made."""
        stats, status = backup.stats, str(backup.status)
        self.finish(files=stats.files, size=stats.bytes, added=stats.added_bytes, id=backup.id, status=status)

    def _tell(self, event: Event) -> None:
        handler = self._handler
        if handler is None:
            return
        try:
            handler(event)
        except Exception:  # it must not end the thread that does the work
            self._handler = None
            _log.exception("the event handler failed; it is not called again")


class BackupRestorer:
    """See :class:`~freezer_sdk.modes.base.Restorer`."""

    def __init__(
        self,
        repository: Repository,
        backup: Backup,
        options: RestoreOptions,
        context: Context,
        boundary: Boundary,
        *,
        others: Sequence[Repository] = (),
    ) -> None:
        self._others = {"others": others} if others else {}  # an engine need not know them
        self.backup = backup
        self.facts: Mapping[str, Any] = backup.facts
        self.options = options
        self._repository = repository
        self._context = context
        self._boundary = boundary

    def entries(self) -> Iterator[Entry]:
        """What the backup holds, parents first."""
        with self._boundary.guard():
            return self._boundary.iterate(self._repository.entries(self.backup.id, path=None, recursive=True))

    def files(self, target: str, *, root: str | None = None) -> RestoreResult:
        """Restores the tree below ``target``, or the content of one root into it."""
        options = self.options
        if root is not None:
            options = replace(options, paths=(os.fsencode(root),), layout=Layout.CONTENT)
        with self._boundary.guard():
            return self._repository.restore(self.backup.id, target, options, self._context, **self._others)

    def stream(self, name: str) -> AbstractContextManager[Reader]:
        """The stored stream, readable."""
        with self._boundary.guard():
            path = os.fsencode("/" + name.lstrip("/"))
            return self._boundary.opened(self._repository.open(self.backup.id, path, **self._others))

    def progress(self, *, size: int) -> None:
        """Tells how many bytes the mode has brought back, and looks whether it is to end."""
        self._context.cancel.check()
        self._context.events(Event(kind="progress", operation="restore", bytes=size))
