"""Loading indexes: each once, the kinds that are asked for, many at once where a storage is far away."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from freezer_sdk.engines.dedup.adopt import adopt_orphans
from freezer_sdk.engines.dedup.documents import read_range
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import HEADER, BlobIndex, PackRows, decode_section, index_parts
from freezer_sdk.engines.dedup.layout import INDEX, Kind, digest_of
from freezer_sdk.engines.dedup.unlisted import find_object, warn
from freezer_sdk.errors import IntegrityError, ObjectNotFound

_FEW = 16  # indexes that are not worth starting threads for
_THREADS = 8
_UNDER_WAY = 32 << 20  # bytes that are fetched ahead
_WHOLE = 64 << 10  # bytes of an index that is fetched by one request

_LARGE = 1 << 20  # bytes of an index that is fetched without a thread: each would keep memory of that size

Listed = tuple[str, int]
"""Name and size of an object."""

_Box = memoryview | IntegrityError | ObjectNotFound | None


class IndexLoader:
    """Loads index objects, each once, and only the kinds that are asked for."""

    def __init__(self, handle: Handle) -> None:
        self._storage, self._keys, self._compressors = handle.storage, handle.keys, handle.compressors
        self._reads = handle.reads
        self._threads = 1 if handle.settings.threads == 1 else max(1, min(_THREADS, handle.storage.max_parallel))
        self._loaded: dict[Kind, set[str]] = {Kind.DATA: set(), Kind.META: set()}

    def load(self, index: BlobIndex, kind: Kind) -> list[PackRows]:
        """Adds what is listed now and was not loaded yet; an index that vanishes meanwhile was merged away.

        Returns:
            Packs whose own tables were read, since an index is damaged.

        Raises:
            StorageError.
        """
        listed = sorted((info.name, info.size) for info in self._storage.list(INDEX) if digest_of(info.name))
        damaged = self._load(index, kind, listed)
        return adopt_orphans(self._storage, self._keys, index, kinds=(kind,)) if damaged else []

    def know(self, names: Iterable[str]) -> None:
        """These are loaded, or of no use."""
        for known in self._loaded.values():
            known.update(names)

    def load_named(self, index: BlobIndex, kind: Kind, names: Iterable[str]) -> None:
        """Adds those that are there, whether they are listed or not.

        Raises:
            StorageError.
        """
        for name in sorted(set(names) - self._loaded[kind]):
            info = find_object(self._storage, name) if digest_of(name) else None
            if info is not None:
                warn(self._storage, name)
                self._load(index, kind, [(name, info.size)])

    def _load(self, index: BlobIndex, kind: Kind, listed: Iterable[Listed]) -> bool:
        """Whether one of them is damaged."""
        damaged = False
        for name, box in self._boxes(kind, [item for item in listed if item[0] not in self._loaded[kind]]):
            if isinstance(box, ObjectNotFound):
                continue
            try:
                if isinstance(box, IntegrityError):
                    raise box
                if box is not None:
                    index.add(decode_section(self._keys, kind, box, self._compressors("zstd")))
            except IntegrityError:
                damaged = True  # an index only repeats what the packs' own tables say
            self._loaded[kind].add(name)
        return damaged

    def _boxes(self, kind: Kind, wanted: list[Listed]) -> Iterator[tuple[str, _Box]]:
        """Names and what was found, in the order in which they were asked for."""
        if len(wanted) < _FEW or self._threads == 1:
            for name, size in wanted:
                yield name, self._box(kind, name, size)
            return
        todo = deque(wanted)
        under_way: deque[tuple[Listed, Future[_Box] | None]] = deque()
        size = 0
        with ThreadPoolExecutor(self._threads, thread_name_prefix="freezer-index") as pool:
            while todo or under_way:
                while todo and (not under_way or (size < _UNDER_WAY and len(under_way) < 4 * self._threads)):
                    item = todo.popleft()
                    size += item[1]
                    under_way.append((item, None if item[1] > _LARGE else pool.submit(self._box, kind, *item)))
                item, future = under_way.popleft()
                size -= item[1]
                yield item[0], self._box(kind, *item) if future is None else future.result()

    def _box(self, kind: Kind, name: str, size: int) -> _Box:
        """The box of a kind, if there is one."""
        try:
            if size <= _WHOLE:
                data = memoryview(read_range(self._reads, name, length=size))
                offset, length = index_parts(data, size).get(kind, (0, 0))
                return data[offset : offset + length] if length else None
            offset, length = index_parts(read_range(self._reads, name, length=HEADER.size), size).get(kind, (0, 0))
            return memoryview(read_range(self._reads, name, offset=offset, length=length)) if length else None
        except (IntegrityError, ObjectNotFound) as error:
            return error
