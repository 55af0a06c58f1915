"""Reachability: which stored blobs backups need, one byte for each row of the index, and how full packs are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from copy import copy
from typing import Final, NamedTuple

from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.index import BlobIndex, Place, Section
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.page import MAX_DEPTH, Content, Page, list_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.errors import IntegrityError

# what a row is needed as; 0: not at all
_DATA: Final = 1
_PAGE: Final = 2
_LIST: Final = _PAGE + 1  # of a directory's pages; plus its depth, less 1
_DATA_LIST: Final = _LIST + MAX_DEPTH  # of a content's blobs; the same
_DIRECTORY: Final = 4  # the highest four bits of a mode

GOOD: Final = 0
"""How much a place is to be relied upon: a lower number is better. Good: trusted, and in no mark."""
DUE: Final = 1
"""Trusted, and about to be deleted: must be copied when there is no good place."""
DAMAGED: Final = 2
"""The pack is known to be damaged: before the others only since what can still be read of it is proven by its ids."""
UNTRUSTED: Final = 3
"""Said by a slot, or stored by one, whose word is not taken for it."""
MARKED: Final = 4
"""In a mark that is not due yet."""
ABSENT: Final = 5
"""The pack is not there, or too short."""

Rank = Callable[[Kind, bytes, int, bool], int]
"""How much places in a pack are to be relied upon: by the pack, the length that it must exceed by who says so, and
whether trusted slots wrote it and say so."""


class PackUse(NamedTuple):
    """Plain bytes of a pack's blobs, and of those among them that backups need and that count here."""

    total: int
    used: int


class Row(NamedTuple):
    """A blob that is needed, and the one place where it counts."""

    section: Section
    number: int

    @property
    def blob(self) -> bytes:
        """Its id."""
        return self.section.blob(self.number)

    @property
    def place(self) -> Place:
        """Where it lies."""
        return self.section.place(self.number)


class Usage:
    """Which blobs some backups need; a blob with several copies counts in one, the best of them.

    Memory is a byte for each row of the index. What backups share is looked at once.

    Args:
        blobs: reads pages.
        index: all of it is loaded; nothing is added while this is used.
        rank: see :data:`Rank`.
        lost: file contents that a repair has found gone for good: they need no place, and nothing hangs on them.
        trusts: whether a slot's word is taken.
        tick: called often.
    """

    def __init__(
        self,
        blobs: BlobReader,
        index: BlobIndex,
        rank: Rank,
        *,
        trusts: Callable[[bytes], bool],
        tick: Callable[[], None],
        lost: Collection[bytes] = (),
    ) -> None:
        index.settle()
        self._blobs, self._index, self._tick, self._lost = blobs, index, tick, lost
        self._ranks: dict[Section, bytes] = {}
        self._marks: dict[Section, bytearray] = {}
        for kind in Kind:
            for sound, section in index.sections_of(kind):
                packs = zip(section.ends(), section.writers, strict=True)
                self._ranks[section] = bytes(
                    rank(kind, pack, end, sound and trusts(writer)) for (pack, end), writer in packs
                )
                self._marks[section] = bytearray(len(section))

    def add(self, commit: Commit) -> None:
        """Takes in everything that a backup needs.

        Raises:
            IntegrityError: a page cannot be read, or a blob has no place; StorageError.
        """
        try:
            self._walk(commit.root)
        except IntegrityError as error:
            raise IntegrityError(f"backup {commit.backup.short_id} is not whole: {error}", hint=error.hint) from error

    def copy(self) -> Usage:
        """The same backups; what is added to one is not added to the other."""
        twin = copy(self)
        twin._marks = {section: bytearray(marks) for section, marks in self._marks.items()}
        return twin

    def packs(self) -> dict[tuple[Kind, bytes], PackUse]:
        """Of every pack in the index how much of it is needed."""
        totals: dict[tuple[Kind, bytes], list[int]] = {}
        for section, marks in self._marks.items():
            here: dict[bytes, list[int]] = {}
            for pack, total, used in zip(section.packs, section.pack_bytes(), section.pack_bytes(marks), strict=True):
                sums = here.setdefault(pack, [0, 0])
                sums[0] += total
                sums[1] += used
            for pack, (total, used) in here.items():
                known = totals.setdefault((section.kind, pack), [0, 0])
                known[0] = max(known[0], total)  # several indexes may name a pack: each names all of it
                known[1] += used
        return {pack: PackUse(total, used) for pack, (total, used) in totals.items()}

    def rows(self, packs: Collection[bytes]) -> Iterator[Row]:
        """Needed blobs that count in some packs, in the order in which they lie there."""
        for section, marks in self._marks.items():
            numbers = {number for number, pack in enumerate(section.packs) if pack in packs}
            if not numbers:
                continue
            segments = bytes(number in numbers for number in section.segment_packs)
            segment_of, starts = section.segment_of, section.starts
            rows = [row for row, segment in enumerate(segment_of) if segments[segment] and marks[row]]
            rows.sort(key=lambda row: (segment_of[row], starts[row]))
            yield from (Row(section, row) for row in rows)

    # -- the walk ------------------------------------------------------------------------------------------

    def _walk(self, root: Content) -> None:
        stack = [root]
        while stack:
            for page_id in self._leaves(Kind.META, stack.pop(), _LIST):
                if self._need(Kind.META, page_id, _PAGE):
                    self._page(Page(self._blobs.meta(page_id)), stack)

    def _page(self, page: Page, stack: list[Content]) -> None:
        self._tick()
        need, data = self._need, Kind.DATA
        for mode, content in zip(page.types, page.contents, strict=True):
            if mode >> 4 == _DIRECTORY:
                if content.ids:
                    stack.append(content)
            elif content.depth:
                for blob in self._leaves(data, content, _DATA_LIST):
                    need(data, blob, _DATA)
            else:
                ids = content.ids
                for at in range(0, len(ids), 32):
                    need(data, ids[at : at + 32], _DATA)

    def _leaves(self, kind: Kind, content: Content, code: int) -> Iterator[bytes]:
        """The ids at the end of lists, but for those in lists that were looked at before."""
        depth, ids = content
        if depth > MAX_DEPTH:
            raise IntegrityError("lists of ids lie deeper than they may")
        for at in range(0, len(ids), 32):
            blob = ids[at : at + 32]
            if not depth:
                yield blob
            elif self._need(Kind.META, blob, code + depth - 1):
                yield from self._leaves(kind, Content(depth - 1, list_ids(self._blobs.meta(blob))), code)

    def _need(self, kind: Kind, blob: bytes, code: int) -> bool:
        """Whether it was not known before that a blob is needed.

        Raises:
            IntegrityError: it has no place, or is needed as something else too.
        """
        best, found = ABSENT, None
        for section, row in self._index.rows_of(kind, blob):
            rank = self._ranks[section][section.pack_number(row)]
            if rank < best:
                best, found = rank, (section, row)
                if rank == GOOD:
                    break
        if found is None and kind is Kind.DATA and blob in self._lost:
            return False
        if found is None:
            raise IntegrityError(
                f"a blob that it needs is nowhere: {blob.hex()[:16]}",
                hint="freezer repository check says what is damaged, freezer repository repair what can be done",
            )
        marks, row = self._marks[found[0]], found[1]
        if not marks[row]:
            marks[row] = code
            return True
        if marks[row] != code:
            raise IntegrityError(f"the blob {blob.hex()[:16]} is used as two things at once: somebody has forged one")
        return False


def ranking(
    present: Callable[[Kind, bytes, int], bool],
    *,
    due: Collection[bytes] = (),
    marked: Collection[bytes] = (),
    damaged: Collection[bytes] = (),
) -> Rank:
    """The usual rule for places.

    Args:
        present: whether a pack is there, and longer than so many bytes.
        due: packs that are about to be deleted.
        marked: packs in other marks, and in decisions.
        damaged: packs that are known to be.
    """

    def rank(kind: Kind, pack: bytes, end: int, trusted: bool) -> int:
        if not present(kind, pack, end):
            return ABSENT
        if pack in damaged:
            return DAMAGED
        if pack in due and trusted:
            return DUE
        if pack in due or pack in marked:
            return MARKED
        return GOOD if trusted else UNTRUSTED

    return rank
