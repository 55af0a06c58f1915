"""Files of a restore whose contents come by and by: each is written whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from freezer_sdk.engines.chains.content import Piece
from freezer_sdk.engines.chains.writers import Writers
from freezer_sdk.errors import IntegrityError, RestoreError
from freezer_sdk.files.target import Item, RestoreTarget, TargetUnusable
from freezer_sdk.modes.base import STAT, Attributes, Extras

_SMALL: Final = 1 << 20  # bytes of a file that is held to be written in one go


class Packed(NamedTuple):
    """An item, small: there may be very many."""

    stat: bytes
    extras: Extras

    @classmethod
    def of(cls, item: Item) -> Packed:
        """Packs an item."""
        return cls(STAT.pack(*item.attributes), item.extras)

    @property
    def item(self) -> Item:
        """The item."""
        return Item(Attributes(*STAT.unpack(self.stat)), self.extras)


class Arriving:
    """Files that wait for their content.

    Args:
        place: the path below the target of a path in the content.
        written: told of a whole file, by its path below the target, and its size.
        failed: told of a file that cannot be written.
    """

    def __init__(
        self,
        target: RestoreTarget,
        writers: Writers,
        *,
        place: Callable[[bytes], bytes],
        written: Callable[[bytes, int], None],
        failed: Callable[[bytes, Exception], None],
    ) -> None:
        self._target, self._writers = target, writers
        self._place, self._written, self._failed = place, written, failed
        self._waiting: dict[bytes, bytes | Packed] = {}  # by path in the content; mostly only the packed attributes

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, path: bytes) -> bool:
        return path in self._waiting

    def expect(self, path: bytes, item: Item) -> None:
        """Notes a file whose content is to come.

        Args:
            path: in the content.
        """
        packed = Packed.of(item)
        self._waiting[path] = packed if packed.extras else packed.stat

    def write(self, pieces: Iterable[Piece]) -> None:
        """Writes what comes.

        Raises:
            TargetUnusable, and what asking for pieces raises.
        """
        for piece in self._joined(pieces):
            self._piece(piece)

    def give_up(self) -> None:
        """Ends what is not whole: no more pieces will come."""
        for path in self._waiting:
            place = self._place(path)
            self._writers.abort(place)
            self._failed(place, IntegrityError("its content is in a part of the backup that cannot be read"))
        self._waiting.clear()

    def forget(self, path: bytes) -> None:
        """Ends one file, and tells nobody: it will have its turn again."""
        if self._waiting.pop(path, None) is not None:
            self._writers.abort(self._place(path))

    def _joined(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Puts together what follows each other of a small file: written in one go it takes half the time."""
        path, held, size = b"", list[bytes](), 0
        for piece in pieces:
            if held:
                if piece.path == path and piece.offset == size and size + len(piece.data) <= _SMALL:
                    held.append(bytes(piece.data))
                    size += len(piece.data)
                    if piece.last:
                        yield Piece(path, 0, b"".join(held), last=True)
                        held.clear()
                    continue
                yield Piece(path, 0, b"".join(held), last=False)
                held.clear()
            if not piece.last and not piece.offset and self._is_small(piece.path):
                path, size = piece.path, len(piece.data)
                held.append(bytes(piece.data))
            else:
                yield piece
        if held:
            yield Piece(path, 0, b"".join(held), last=False)

    def _is_small(self, path: bytes) -> bool:
        waiting = self._waiting.get(path)
        return waiting is not None and _item(waiting).attributes.size <= _SMALL

    def _piece(self, piece: Piece) -> None:
        waiting = self._waiting.get(piece.path)
        if waiting is None:
            return
        path = self._place(piece.path)
        try:
            item = _item(waiting)
            size, end = item.attributes.size, piece.offset + len(piece.data)
            if piece.offset < 0 or end > size:
                raise IntegrityError("the backup holds more content for it than its size")
            if piece.last and len(piece.data) == size and path not in self._writers:
                self._whole(path, item, piece)
            else:
                self._writers.get(path, item).write_at(piece.offset, piece.data)
                if not piece.last:
                    return
                self._writers.commit(path)
            self._written(path, size)
        except TargetUnusable:
            raise
        except (RestoreError, IntegrityError, OSError) as error:
            self._writers.abort(path)
            self._failed(path, error)
        del self._waiting[piece.path]

    def _whole(self, path: bytes, item: Item, piece: Piece) -> None:
        directory, _, name = path.rpartition(b"/")
        if item.extras or not self._target.made(directory):
            self._target.write_file(path, item, piece.data)
        else:
            self._target.write_new(directory, name, item.attributes, piece.data)


def _item(waiting: bytes | Packed) -> Item:
    return (Packed(waiting, ()) if isinstance(waiting, bytes) else waiting).item
