"""Looking blobs up in all indexes at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.merge import IdColumn, give_back, join
from freezer_sdk.engines.dedup.section import Place, Section

_SMALL = 4096  # sections with fewer blobs share one dictionary
_MOST_SMALL = 1 << 16  # blobs in it: each takes 250 bytes
_RUN = 1 << 18  # blobs of small sections that are joined at once
_SPILLED = 1 << 20  # blobs after which ids go to a file
_MOST_SECTIONS = 64  # large ones; each may hold a file open
_FEW = 4  # large sections that are not worth joining
_PROBES = 2  # searches in sections that cost as much as joining one of their rows

Found = tuple[Section, int]
"""A section, and a row in it."""


class BlobIndex:
    """Everything that is known about where blobs lie. Loaded by one thread at a time, asked by several.

    Sections that a trusted slot signed stand apart from the others. Both serve reading: a blob's id proves its
    content. A new backup relies on what a trusted slot says about packs that trusted slots wrote, and on nothing else.

    Args:
        condemned: packs that a maintainer has marked; what lies only there is not to be reused.
        trusts: tells of a slot whether others may build on what it wrote. Without it nothing may be reused.
    """

    def __init__(
        self, condemned: frozenset[bytes] = frozenset(), *, trusts: Callable[[bytes], bool] | None = None
    ) -> None:
        self._trusts = trusts
        self._trusted: dict[bytes, bool] = {}
        self._condemned = condemned
        self._doubtful: set[bytes] = set()  # packs of which a trusted slot says that another wrote them
        self._unsure = False
        self._avoided: frozenset[bytes] | set[bytes] = condemned
        self._sound = {kind: _Shelf() for kind in Kind}
        self._foreign = {kind: _Shelf() for kind in Kind}

    @property
    def condemned(self) -> frozenset[bytes]:
        """Packs that are not to be reused."""
        return self._condemned

    @property
    def sections(self) -> list[Section]:
        """All sections; those that were joined instead of what they were made of."""
        return [section for kind in Kind for _sound, section in self.sections_of(kind)]

    def sections_of(self, kind: Kind) -> Iterator[tuple[bool, Section]]:
        """The sections of a kind, and whether a trusted slot vouches for each."""
        for sound, shelf in ((True, self._sound[kind]), (False, self._foreign[kind])):
            for section in shelf.sections():
                yield sound, section

    def add(self, section: Section) -> None:
        """Takes in a section."""
        if not self._trust(section.signer):
            self._unsure = True
            self._foreign[section.kind].add(section)
            return
        doubtful = {
            pack for pack, writer in zip(section.packs, section.writers, strict=True) if not self._trust(writer)
        }
        if doubtful:
            self._unsure = True
            self._doubtful |= doubtful
            self._avoid()
        self._sound[section.kind].add(section)

    def _trust(self, slot: bytes) -> bool:
        known = self._trusted.get(slot)
        if known is None:
            known = self._trusted[slot] = self._trusts is not None and self._trusts(slot)
        return known

    def _avoid(self) -> None:
        self._avoided = self._condemned | self._doubtful

    def settle(self) -> None:
        """Joins what there is: at most two sections a kind, which stay the same until another is added."""
        for shelf in (*self._sound.values(), *self._foreign.values()):
            shelf.join_all()

    def find(self, kind: Kind, blob: bytes) -> Place | None:
        """Where a blob lies, preferring packs that are not condemned, and of them those that may be relied upon."""
        found = self._sound[kind].first(blob) or self._foreign[kind].first(blob)
        if found is None:
            return None
        place = found[0].place(found[1])
        if place.pack not in self._avoided:
            return place
        section, row = self.rows_of(kind, blob)[0]
        return section.place(row)

    def rows_of(self, kind: Kind, blob: bytes) -> list[Found]:
        """All rows of a blob, the best first. They stay valid after :meth:`settle`, until a section is added."""
        sound, foreign = self._sound[kind].all(blob), self._foreign[kind].all(blob)
        rows = sound + foreign
        if len(rows) > 1 and self._avoided:
            trusted = len(sound)
            packs = [section.pack(row) for section, row in rows]
            ranks = [
                (pack in self._condemned, number >= trusted or pack in self._doubtful)
                for number, pack in enumerate(packs)
            ]
            rows = [rows[number] for number in sorted(range(len(rows)), key=ranks.__getitem__)]
        return rows

    def row_of(self, kind: Kind, blob: bytes) -> Found | None:
        """The row that :meth:`find` gives the place of."""
        return next(iter(self.rows_of(kind, blob)), None)

    def disputed(self, kind: Kind, blob: bytes) -> list[Place]:
        """All places of a blob, if none may be relied upon and they do not agree about its length."""
        if not self._unsure:
            return []
        sound = self._sound[kind].all(blob)
        if any(section.pack(row) not in self._doubtful for section, row in sound):
            return []
        rows = sound + self._foreign[kind].all(blob)
        if len(rows) < 2:
            return []
        places = [section.place(row) for section, row in rows]
        return places if len({place.length for place in places}) > 1 else []

    def places(self, kind: Kind, blob: bytes) -> list[Place]:
        """Everywhere a blob lies: when one place is damaged or gone, another may not be."""
        return [section.place(row) for section, row in self.rows_of(kind, blob)]

    def reusable(self, kind: Kind, blob: bytes) -> bool:
        """Whether a new backup may rely on a stored copy."""
        shelf = self._sound[kind]
        found = shelf.first(blob)
        if found is None or not self._avoided:
            return found is not None
        return any(section.pack(row) not in self._avoided for section, row in shelf.all(blob))

    def distrust(self, pack: bytes) -> None:
        """What lies in this pack is read from elsewhere where that is possible, and not reused."""
        self._condemned |= {pack}
        self._avoid()

    def failed(self, kind: Kind, blob: bytes, place: Place) -> None:
        """A blob cannot be read from its place: its pack is distrusted, if a trusted slot gave the place."""
        if any(section.place(row) == place for section, row in self._sound[kind].all(blob)):
            self.distrust(place.pack)

    def ends(self, kind: Kind, *, trusted: bool = False) -> dict[bytes, int]:
        """Of every pack the offset behind its last segment: the least that it must be long.

        Args:
            trusted: only as far as it may be relied upon.
        """
        found: dict[bytes, int] = {}
        for sound, section in self.sections_of(kind):
            if sound or not trusted:
                for pack, end in section.ends():
                    if not trusted or pack not in self._doubtful:
                        found[pack] = max(found.get(pack, 0), end)
        return found

    def segments(self, kind: Kind, pack: bytes) -> set[tuple[int, int]]:
        """Offset and stored length of a pack's segments, as far as they are known."""
        found: set[tuple[int, int]] = set()
        for _sound, section in self.sections_of(kind):
            for number, digest in enumerate(section.packs):
                if digest == pack:
                    first, end = section.first_segments[number : number + 2]
                    found.update(zip(section.offsets[first:end], section.stored[first:end], strict=True))
        return found

    def packs(self, kind: Kind, *, trusted: bool = False) -> set[bytes]:
        """All packs of a kind that have a place in a section.

        Args:
            trusted: only in sections that a trusted slot vouches for.
        """
        return {pack for sound, section in self.sections_of(kind) if sound or not trusted for pack in section.packs}


class _Shelf:
    """Sections that are treated alike. Small ones are found through a dictionary, large ones are searched.

    What lies in many sections is joined when searching has cost as much as joining will, so that a run that looks up
    little pays little.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: list[Section] = []  # small ones that are not in the dictionary yet
        self._small: list[Section] = []
        self._large: list[Section] = []
        self._next: list[Section] = []
        self._known: dict[bytes, Found] = {}
        self._again: dict[bytes, list[Found]] = {}  # blobs of small sections that have more rows
        self._rows = self._small_rows = self._probes = self._price = 0

    def sections(self) -> list[Section]:
        """All of them."""
        with self._lock:
            return [*self._small, *self._new, *self._large]

    def add(self, section: Section) -> None:
        """Takes in a section."""
        with self._lock:
            self._rows += len(section)
            if len(section) < _SMALL:
                self._new = [*self._new, section]
                self._small_rows += len(section)
                if self._small_rows >= _RUN:
                    self._join_small()
                return
            self._set_large([*self._large, self._light(section)])
            if len(self._large) >= _MOST_SECTIONS:
                self._join_next()

    def _set_large(self, sections: list[Section]) -> None:
        """Also chooses what is to be joined next: the smallest, up to one that is larger than all before it.

        So sizes double, and no row is moved often.
        """
        self._large = sections
        self._next, rows = [], 0
        for section in sorted(sections, key=len):
            if len(section) > rows and len(self._next) > _FEW:
                break
            self._next.append(section)
            rows += len(section)
        self._price = _PROBES * rows

    def _join_next(self) -> None:
        joined, chosen = self._join(self._next), set(self._next)
        self._probes = 0
        self._set_large([*(section for section in self._large if section not in chosen), joined])
        del chosen
        self._tidy(joined)

    def _tidy(self, joined: Section) -> None:
        if len(joined) >= _SPILLED:
            give_back()

    def _light(self, section: Section) -> Section:
        """With its ids in a file, if there are many."""
        if self._rows < _SPILLED or not isinstance(section.ids, bytes):
            return section
        ids = IdColumn(spill=True)
        ids.append(section.ids)
        section.ids = ids.finish()
        return section

    def _join(self, sections: list[Section]) -> Section:
        for section in sections:
            section.rest()
        joined = join(sections, spill=self._rows >= _SPILLED)
        self._rows += len(joined) - sum(map(len, sections))
        return joined

    def _join_small(self) -> None:
        joined = self._join([*self._small, *self._new])
        self._set_large([*self._large, joined])  # before they leave the dictionary: others may be looking for them
        self._known, self._again = {}, {}
        self._small, self._new, self._small_rows = [], [], 0

    def join_all(self) -> None:
        """Leaves one section, if there are any."""
        with self._lock:
            sections = [*self._small, *self._new, *self._large]
            if len(sections) > 1 or self._small_rows:
                self._set_large([self._join(sections)])
                self._known, self._again = {}, {}
                self._small, self._new, self._small_rows = [], [], 0
                del sections
                self._tidy(self._large[0])

    def first(self, blob: bytes) -> Found | None:
        """A row of a blob."""
        if self._new:
            self._take_in()
        found = self._known.get(blob)
        if found is not None:
            return found
        if len(self._large) > _FEW:
            self._probes += len(self._large)
            if self._probes > self._price:
                self._pay()
        for section in self._large:
            row = section.find(blob)
            if row >= 0:
                return section, row
        return None

    def all(self, blob: bytes) -> list[Found]:
        """All rows of a blob."""
        if not self._rows:
            return []
        if self._new:
            self._take_in()
        known = self._known.get(blob)
        rows = [] if known is None else [known, *self._again.get(blob, ())]
        for section in self._large:
            rows += [(section, row) for row in section.rows(blob)]
        return rows

    def _pay(self) -> None:
        """Joins some large sections, unless another thread has just done so."""
        with self._lock:
            if len(self._large) > _FEW and self._probes > self._price:
                self._join_next()

    def _take_in(self) -> None:
        """Fills the dictionary, or does without it."""
        with self._lock:
            if self._small_rows > _MOST_SMALL:
                self._join_small()
                return
            known = self._known
            for section in self._new:
                for row, blob in enumerate(section.blob_ids()):
                    if blob in known:
                        self._again.setdefault(blob, []).append((section, row))
                    else:
                        known[blob] = section, row
            self._small = [*self._small, *self._new]
            self._new = []
