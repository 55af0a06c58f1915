"""What a repository holds: indexes, packs, and where every blob lies."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Final

from freezer_sdk.engines.dedup import documents
from freezer_sdk.engines.dedup.adopt import read_pack
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import (
    MAX_OBJECT,
    BlobIndex,
    PackRows,
    Place,
    Section,
    decode_section,
    index_parts,
    section_of,
)
from freezer_sdk.engines.dedup.layout import INDEX, Kind, digest_of, pack_name
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.unlisted import find_packs, short_listing
from freezer_sdk.errors import IntegrityError, ObjectNotFound
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import ObjectInfo

_ROUNDS: Final = 5  # listings, while indexes vanish because others merge them
_FEW: Final = 16  # indexes that are not worth starting threads for
_THREADS: Final = 8
_UNDER_WAY: Final = 64 << 20  # bytes of indexes that are fetched ahead
_LARGE: Final = 1 << 20  # bytes of an index that is fetched without a thread: each would keep memory of that size


@dataclass(frozen=True)
class IndexObject:
    """An index that can be read.

    Attributes:
        packs: that it names.
        trusted: a slot signed all of it whose word is taken.
    """

    name: str
    packs: frozenset[bytes]
    blobs: int
    trusted: bool


@dataclass
class Holdings:
    """Everything that was found.

    Attributes:
        index: where blobs lie, by all indexes and by the tables of packs that no index names.
        objects: the indexes themselves, in the order of their names.
        damaged: names of indexes that cannot be read.
        packs: all that are there, by kind and digest.
        adopted: packs whose own tables had to be read.
        unreadable: packs that no index names and whose tables cannot be read, and those that are cut short: what is
            whole in them can still be saved, so they stay.
        recent: packs that no index names yet, and whose writers may be at work.
        gone: packs that are about to be deleted, or that are deleted at this moment.
    """

    index: BlobIndex
    gone: frozenset[bytes] = frozenset()
    objects: list[IndexObject] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    packs: dict[tuple[Kind, bytes], ObjectInfo] = field(default_factory=dict)
    adopted: list[PackRows] = field(default_factory=list)
    unreadable: set[bytes] = field(default_factory=set)
    recent: set[bytes] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def present(self, kind: Kind, pack: bytes, end: int) -> bool:
        """Whether a pack is there to stay, and longer than ``end``: its table lies behind its last segment."""
        info = self.packs.get((kind, pack))
        return info is not None and info.size > end and pack not in self.gone

    def absent(self) -> set[bytes]:
        """Packs that indexes name and that are not there."""
        named = frozenset[bytes]().union(*(each.packs for each in self.objects))
        return set(named) - self.there(named)

    def size(self, packs: Collection[bytes]) -> int:
        """Bytes of those packs that are there."""
        return sum(info.size for (_kind, pack), info in self.packs.items() if pack in packs)

    def there(self, packs: Collection[bytes]) -> set[bytes]:
        """Those packs that are there."""
        return {pack for _kind, pack in self.packs if pack in packs}


class FixedReader(BlobReader):
    """Reads by an index that is whole: nothing is loaded on the way."""

    def load_index(self, kind: Kind, *, again: bool = False) -> None:
        """It is loaded already."""
        self._asked.add(kind)

    def search(self, kind: Kind, blob: bytes) -> Place | None:
        """There is nothing besides."""
        return self.index.find(kind, blob)

    def _search_packs(self, kind: Kind) -> None:
        """All that are there are known: rows of the index must stay what they are."""


def read_holdings(
    handle: Handle,
    condemned: frozenset[bytes],
    since: datetime,
    *,
    gone: frozenset[bytes] = frozenset(),
    tick: Callable[[], None],
) -> Holdings:
    """Loads all indexes, lists all packs, and reads the tables of packs that no index names.

    Args:
        condemned: packs in marks and decisions.
        since: a pack that was stored at this time or later may be on its way into an index.
        gone: packs in decisions: they may vanish at any time, and count as if they had.

    Raises:
        StorageUnavailable: the storage lists only a part of what it holds.
        StorageError.
    """
    found = Holdings(BlobIndex(condemned, trusts=handle.keys.trusts), gone=gone)
    _load_indexes(handle, found, tick)
    for kind in Kind:
        _list_packs(handle, kind, found)
        _adopt(handle, kind, found, since, tick)
    return found


def adopt_recent(handle: Handle, found: Holdings, *, tick: Callable[[], None]) -> None:
    """Reads the tables of packs whose writers may be at work, too: their index may be what was lost.

    Raises:
        StorageError.
    """
    found.recent.clear()
    for kind in Kind:
        _adopt(handle, kind, found, datetime.max.replace(tzinfo=UTC), tick)


def read_sections(handle: Handle, name: str) -> list[Section]:
    """The sections of an index object.

    Raises:
        IntegrityError: damaged; ObjectNotFound, StorageError.
    """
    return _decoded(handle, name, _fetch(handle, name))


def _fetch(handle: Handle, name: str) -> bytes | IntegrityError | None:
    """An index object, whole; ``None``: gone."""
    try:
        return documents.read_bounded(handle.storage, name, MAX_OBJECT)
    except IntegrityError as error:
        return error


def _decoded(handle: Handle, name: str, data: bytes | IntegrityError | None) -> list[Section]:
    if data is None:
        raise ObjectNotFound(f"{name} is gone")
    if isinstance(data, IntegrityError):
        raise data
    if hashlib.sha256(data).digest() != digest_of(name):
        raise IntegrityError(f"{name}: its bytes are not those that it is named by")
    view, zstd = memoryview(data), handle.compressors("zstd")
    parts = index_parts(data, len(data)).items()
    return [decode_section(handle.keys, kind, view[offset : offset + size], zstd) for kind, (offset, size) in parts]


def _fetched(handle: Handle, infos: Sequence[ObjectInfo]) -> Iterator[tuple[str, bytes | IntegrityError | None]]:
    """Index objects in their order; if there are many, several are under way at once."""
    threads = 1 if handle.settings.threads == 1 else min(_THREADS, handle.storage.max_parallel)
    if threads < 2 or len(infos) < _FEW:
        for info in infos:
            yield info.name, _fetch(handle, info.name)
        return
    todo, size = deque(infos), 0
    under_way: deque[tuple[ObjectInfo, Future[bytes | IntegrityError | None] | None]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="freezer-index") as pool:
        while todo or under_way:
            while todo and (not under_way or (size < _UNDER_WAY and len(under_way) < 4 * threads)):
                info = todo.popleft()
                size += info.size
                under_way.append((info, None if info.size > _LARGE else pool.submit(_fetch, handle, info.name)))
            info, future = under_way.popleft()
            size -= info.size
            yield info.name, _fetch(handle, info.name) if future is None else future.result()


def _load_indexes(handle: Handle, found: Holdings, tick: Callable[[], None]) -> None:
    loaded: set[str] = set()
    for _ in range(_ROUNDS):
        vanished = False
        listed = [info for info in handle.storage.list(INDEX) if info.name not in loaded and digest_of(info.name)]
        for name, data in _fetched(handle, listed):
            tick()
            try:
                sections = _decoded(handle, name, data)
            except ObjectNotFound:
                vanished = True  # merged: what it said is in an index that may not have been listed yet
                continue
            except IntegrityError as error:
                found.damaged.append(name)
                message = f"an index cannot be read, the packs' own tables serve instead: {error}"
                found.problems.append(Problem(path=name, kind="damaged", message=message, fatal=False))
            else:
                found.objects.append(_described(handle, name, sections))
                for section in sections:
                    found.index.add(section)
            loaded.add(name)
        if not vanished:
            break
    found.objects.sort(key=attrgetter("name"))


def _described(handle: Handle, name: str, sections: Iterable[Section]) -> IndexObject:
    sections = list(sections)
    return IndexObject(
        name,
        frozenset().union(*(section.packs for section in sections)),
        sum(len(section) for section in sections),
        all(handle.keys.trusts(section.signer) for section in sections),
    )


def _list_packs(handle: Handle, kind: Kind, found: Holdings) -> None:
    ends = found.index.ends(kind)
    for info in handle.storage.list(kind.prefix):
        digest = digest_of(info.name)
        if digest is not None and info.name == pack_name(kind, digest):
            found.packs[kind, digest] = info
    suspects = sorted(pack for pack in ends if (kind, pack) not in found.packs and pack not in found.index.condemned)
    for pack, info in sorted(find_packs(handle.storage, kind, suspects).items()):
        if not handle.storage.capabilities.listing_lag:
            raise short_listing(handle.storage, info.name)
        found.packs[kind, pack] = info
    for pack, end in found.index.ends(kind, trusted=True).items():
        stored = found.packs.get((kind, pack))
        if stored is not None and stored.size <= end:
            found.unreadable.add(pack)
            message = f"cut short: it has {stored.size} bytes, and more than {end} belong to it; it stays"
            found.problems.append(Problem(path=stored.name, kind="damaged", message=message, fatal=False))


def _adopt(handle: Handle, kind: Kind, found: Holdings, since: datetime, tick: Callable[[], None]) -> None:
    known = found.index.packs(kind) | found.gone
    adopted = []
    for (which, digest), info in sorted(found.packs.items()):
        if which is not kind or digest in known:
            continue
        if info.modified >= since:
            found.recent.add(digest)
            continue
        tick()
        try:
            adopted.append(read_pack(handle.storage, handle.keys, kind, info))
        except ObjectNotFound:
            found.unreadable.add(digest)
        except IntegrityError as error:
            found.unreadable.add(digest)
            message = f"no index names it, and its table cannot be read; it stays: {error}"
            found.problems.append(Problem(path=info.name, kind="damaged", message=message, fatal=False))
    adopted.sort(key=attrgetter("writer"))
    for writer, packs in groupby(adopted, key=attrgetter("writer")):
        found.index.add(section_of(kind, list(packs), writer))
    found.adopted += adopted
