"""Does everything that a backup names exist, as far as is known? And what of it does not?"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from freezer_sdk.engines.dedup.index import BlobIndex, Place
from freezer_sdk.engines.dedup.layout import INDEX, Kind, pack_name
from freezer_sdk.engines.dedup.page import EMPTY, MAX_DEPTH, Content, Page, list_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.tree import check_names, get_extra, split_extents
from freezer_sdk.errors import IntegrityError
from freezer_sdk.files.scope import join
from freezer_sdk.modes.base import FLAG_INCOMPLETE, STAT, Extra

Blob = tuple[Kind, bytes]

_MISSING, _DAMAGED = "missing", "damaged"


class Fault(NamedTuple):
    """Why something cannot be restored.

    Attributes:
        path: name of the object to blame.
        kind: ``missing`` or ``damaged``.
    """

    path: str
    kind: str
    message: str


class Unreadable(IntegrityError):
    """A blob that no place gives."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Places:
    """Where blobs can be read, as far as is known.

    Args:
        sizes: of the packs that are there.
        damaged: packs of which not everything is whole: the places in them that are.

    Attributes:
        needed: offsets of the segments that were relied on, by pack.
        lost: blobs that were asked for, and have no place.
        at_risk: blobs that were asked for, and are whole only in a pack that is damaged elsewhere.
    """

    def __init__(
        self, blobs: BlobReader, sizes: Mapping[bytes, int], damaged: Mapping[bytes, Mapping[bytes, Place]]
    ) -> None:
        self._blobs, self._index, self._sizes, self._damaged = blobs, blobs.index, sizes, damaged
        self.needed: dict[bytes, set[int]] = {}
        self.lost: dict[Blob, Fault] = {}
        self.at_risk: set[Blob] = set()

    @property
    def index(self) -> BlobIndex:
        """What is known about places, right or wrong."""
        return self._index

    def find(self, kind: Kind, blob: bytes) -> Place:
        """A place that a blob can be read from.

        Raises:
            Unreadable: there is none; StorageError.
        """
        place = self._index.find(kind, blob) or self._blobs.search(kind, blob)
        if place is None:
            fault = Fault(INDEX.rstrip("/"), _MISSING, f"blob {blob.hex()[:16]} is in no index")
            raise self._lose(kind, blob, fault)
        place = self._blobs.undisputed(kind, blob, place)
        if place.pack in self._damaged or self.fault(blob, place) is not None:
            place = self._elsewhere(kind, blob, place)
        self.needed.setdefault(place.pack, set()).add(place.offset)
        return place

    def _elsewhere(self, kind: Kind, blob: bytes, first: Place) -> Place:
        """The best of several places: one in a pack that is whole."""
        good = [place for place in self._index.places(kind, blob) if self.fault(blob, place) is None]
        whole = next((place for place in good if place.pack not in self._damaged), None)
        if whole is not None:
            return whole
        if good:
            self.at_risk.add((kind, blob))
            return good[0]
        raise self._lose(kind, blob, self.fault(blob, first) or Fault(pack_name(kind, first.pack), _DAMAGED, "damaged"))

    def _lose(self, kind: Kind, blob: bytes, fault: Fault) -> Unreadable:
        self.lost[kind, blob] = fault
        return Unreadable(fault)

    def meta(self, blob: bytes) -> bytes:
        """A page or list.

        Raises:
            Unreadable, StorageError.
        """
        place = self.find(Kind.META, blob)
        try:
            return self._blobs.meta(blob)
        except IntegrityError as error:
            fault = Fault(pack_name(Kind.META, place.pack), _DAMAGED, error.message)
            raise self._lose(Kind.META, blob, fault) from None

    def fault(self, blob: bytes, place: Place) -> Fault | None:
        """Why a blob cannot be read from a place."""
        size, good = self._sizes.get(place.pack), self._damaged.get(place.pack)
        whole = size is not None and place.offset + place.stored <= size
        if whole and (good is None or good.get(blob) == place):
            return None
        name = pack_name(place.kind, place.pack)
        if size is None:
            return Fault(name, _MISSING, f"{name} is missing")
        return Fault(name, _DAMAGED, f"its data in {name} are damaged" if whole else f"{name} is cut short")


class _Tainted(NamedTuple):
    """A directory below which something cannot be restored."""

    faults: list[tuple[bytes, Fault]]
    below: list[tuple[bytes, Content]]


class _Frame:
    """A directory that is being looked at."""

    __slots__ = ("at", "below", "content", "faults", "tainted")

    def __init__(self, content: Content) -> None:
        self.content, self.at = content, 0
        self.below: list[tuple[bytes, Content]] = []
        self.tainted: list[tuple[bytes, Content]] = []
        self.faults: list[tuple[bytes, Fault]] = []


class Structure:
    """Walks through backups; what they share is looked at once.

    Args:
        tick: called often, with the name that is looked at.
    """

    def __init__(self, places: Places, tick: Callable[[bytes], None]) -> None:
        self.places, self._tick = places, tick
        self._clean: set[bytes] = set()  # joined ids of directories that are whole, with all below them
        self._tainted: dict[Content, _Tainted] = {}
        self._lists: dict[tuple[int, bytes], tuple[int, Fault | None]] = {}  # by depth and id: bytes, first fault

    def whole(self, root: Content) -> bool:
        """Whether everything below a root can be restored.

        Raises:
            StorageError, Cancelled.
        """
        stack = [] if root.ids in self._clean or root in self._tainted else [self._frame(b"", root, top=True)]
        while stack:
            frame = stack[-1]
            if frame.at < len(frame.below):
                name, content = frame.below[frame.at]
                if content.ids not in self._clean:
                    if content not in self._tainted:
                        stack.append(self._frame(name, content))
                        continue  # it is known when this one comes up again
                    frame.tainted.append((name, content))
                frame.at += 1
                continue
            stack.pop()
            if frame.faults or frame.tainted:
                self._tainted[frame.content] = _Tainted(frame.faults, frame.tainted)
            else:
                self._clean.add(frame.content.ids)
        return root not in self._tainted

    def affected(self, root: Content) -> Iterator[tuple[bytes, Fault]]:
        """Paths of a backup that cannot be restored, and why; :meth:`whole` has looked at it before.

        A directory that cannot be read stands for what is in it; ``/`` for the whole backup.
        """
        stack = [(b"", root)] if root in self._tainted else []
        while stack:
            path, content = stack.pop()
            faults, below = self._tainted[content]
            for name, fault in faults:
                yield (_inside(path, name) if name else path) or b"/", fault
            stack += [(_inside(path, name), inner) for name, inner in reversed(below)]

    def _frame(self, name: bytes, content: Content, *, top: bool = False) -> _Frame:
        self._tick(name)
        frame, last = _Frame(content), list[bytes]()
        try:
            for blob in self._ids(content):
                try:
                    page = Page(self.places.meta(blob))
                    self._page(page, frame)
                    check_names(page, last, top=top)
                    last = page.names[-1:]
                except IntegrityError as error:
                    frame.faults.append((b"", _fault_of(error)))
        except IntegrityError as error:  # a list of pages
            frame.faults.append((b"", _fault_of(error)))
        return frame

    def _page(self, page: Page, frame: _Frame) -> None:
        extras, rows = page.extras(), zip(page.names, STAT.iter_unpack(page.stats), page.contents, strict=True)
        for number, (name, row, content) in enumerate(rows):
            if content is EMPTY:
                continue
            if stat.S_ISDIR(row[0]):
                frame.below.append((name, content))
                continue
            fault = self._file(row, content, get_extra(extras.get(number, ()), Extra.EXTENTS))
            if fault is not None:
                frame.faults.append((name, fault))

    def _file(self, row: tuple[int, ...], content: Content, extents: bytes | None) -> Fault | None:
        """What is wrong with a file; all of its blobs are looked up in any case."""
        size, fault = self._measure(content)
        try:
            wanted = row[4] if extents is None else sum(length for _offset, length in split_extents(extents))
            if fault is None and size != wanted and not row[3] & FLAG_INCOMPLETE:
                raise IntegrityError(f"has {size} bytes of content, not {wanted}")
        except IntegrityError as error:
            return fault or _fault_of(error)
        return fault

    def _measure(self, content: Content) -> tuple[int, Fault | None]:
        """Bytes of a file's content and the first fault in it; a list that occurs again is not looked at again."""
        if content.depth > MAX_DEPTH:
            return 0, Fault("", _DAMAGED, "lists of ids lie deeper than they may")
        size, fault, ids = 0, None, content.ids
        for at in range(0, len(ids), 32):
            blob = ids[at : at + 32]
            found = self._lists.get((content.depth, blob)) if content.depth else None
            if found is None:
                try:
                    if content.depth:
                        found = self._measure(Content(content.depth - 1, list_ids(self.places.meta(blob))))
                    else:
                        found = self.places.find(Kind.DATA, blob).length, None
                except IntegrityError as error:
                    found = 0, _fault_of(error)
                if content.depth:
                    self._lists[content.depth, blob] = found
            size, fault = size + found[0], fault or found[1]
        return size, fault

    def _ids(self, content: Content) -> Iterator[bytes]:
        """The ids at the end of a reference, through its lists."""
        if content.depth > MAX_DEPTH:
            raise IntegrityError("lists of ids lie deeper than they may")
        ids = content.ids
        for at in range(0, len(ids), 32):
            blob = ids[at : at + 32]
            if content.depth:
                yield from self._ids(Content(content.depth - 1, list_ids(self.places.meta(blob))))
            else:
                yield blob


def _inside(path: bytes, name: bytes) -> bytes:
    return join(path, name) if path else name


def _fault_of(error: IntegrityError) -> Fault:
    return error.fault if isinstance(error, Unreadable) else Fault("", _DAMAGED, error.message)
