"""A backup that is read from one end to the other: what a program needs that turns it into another one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from freezer_sdk.engines.base import Piece
from freezer_sdk.engines.chains.items import sound
from freezer_sdk.engines.chains.reading import Opened
from freezer_sdk.engines.chains.select import recorded_path
from freezer_sdk.files.scope import join
from freezer_sdk.model import Entry, Problem


class Whole:
    """See :class:`~freezer_sdk.engines.base.WholeBackup`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def entries(self) -> Iterator[Entry]:
        """See :meth:`WholeBackup.entries <freezer_sdk.engines.base.WholeBackup.entries>`."""
        root = self._opened.root
        for entry in sound(self._opened.content.entries(), self._refuse):
            yield replace(entry, path=recorded_path(root, entry.path))

    def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
        """See :meth:`WholeBackup.pieces <freezer_sdk.engines.base.WholeBackup.pieces>`."""
        root = self._opened.root
        for piece in self._opened.content.pieces(lambda path: wanted(join(root, path))):
            yield piece._replace(path=join(root, piece.path))

    def _refuse(self, entry: Entry, error: Exception) -> None:
        self._opened.findings.add(Problem(path=os.fsdecode(entry.path), kind="damaged", message=str(error)))
