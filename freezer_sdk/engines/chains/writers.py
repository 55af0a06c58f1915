"""Files whose pieces come bit by bit, maybe from several levels: many may be begun, few are open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from freezer_sdk.files.target import FileWriter, Item, RestoreTarget

_OPEN: Final = 64


class Writers:
    """Begun files of a restore, by their path below the target; the least used ones are closed meanwhile."""

    def __init__(self, target: RestoreTarget) -> None:
        self._target = target
        self._open: OrderedDict[bytes, FileWriter] = OrderedDict()
        self._parked: dict[bytes, FileWriter] = {}

    def __contains__(self, path: bytes) -> bool:
        return path in self._open or path in self._parked

    def get(self, path: bytes, item: Item) -> FileWriter:
        """The writer of a file, begun with the first piece.

        Raises:
            RestoreError: of this file; those of others are told when they have their turn.
        """
        writer = self._open.get(path)
        if writer is not None:
            self._open.move_to_end(path)
            return writer
        if len(self._open) >= _OPEN:
            oldest, idle = self._open.popitem(last=False)
            idle.park()
            self._parked[oldest] = idle
        writer = self._parked.pop(path, None) or self._target.open_file(path, item)
        self._open[path] = writer
        return writer

    def commit(self, path: bytes) -> None:
        """Makes a file visible that is whole.

        Raises:
            RestoreError: it is given up.
        """
        self._take(path).commit()

    def abort(self, path: bytes) -> None:
        """Gives a file up, if it was begun."""
        if path in self:
            self._take(path).abort()

    def _take(self, path: bytes) -> FileWriter:
        return self._open.pop(path, None) or self._parked.pop(path)


@contextmanager
def writers_of(target: RestoreTarget) -> Iterator[Writers]:
    """Writers of a restore; what is not whole at the end is given up."""
    writers = Writers(target)
    try:
        yield writers
    finally:
        for path in [*writers._open, *writers._parked]:
            writers.abort(path)
