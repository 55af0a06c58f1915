"""Verification: is everything there, does everything refer to something whole, is every byte what it was."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import audit, documents, protocol
from freezer_sdk.engines.dedup.adopt import adopt_orphans, read_pack_table
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import MAX_OBJECT, BlobIndex, Place, decode_section, index_parts
from freezer_sdk.engines.dedup.layout import BACKUPS, INDEX, META, PACKS, Kind, digest_of, pack_name, parse_backup_name
from freezer_sdk.engines.dedup.page import EMPTY, Content, Page, list_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.tree import get_extra, join, split_extents
from freezer_sdk.engines.dedup.unlisted import find_packs
from freezer_sdk.errors import BackupNotFound, IntegrityError, ObjectNotFound, UnsupportedFormat
from freezer_sdk.model import Event, Problem, VerifyResult
from freezer_sdk.modes.base import FLAG_INCOMPLETE, STAT, Extra
from freezer_sdk.storages.base import ObjectInfo
from freezer_sdk.streams.pool import WorkerPool

_EVENT_EVERY = 0.1
_BLOCK = 4 << 20  # bytes read at once where no table says what they are


@dataclass(slots=True)
class _Figures:
    objects: int = 0
    blobs: int = 0
    bytes_read: int = 0


class Verification:
    """One verification of a repository, or of some of its backups."""

    def __init__(self, handle: Handle, context: Context) -> None:
        self._storage, self._keys, self._compressors = handle.storage, handle.keys, handle.compressors
        self._context = context
        self._catalog = Catalog(handle)
        self._index = BlobIndex()
        self._blobs = BlobReader(handle, self._index)
        threads = max(2, handle.settings.threads or os.cpu_count() or 2)
        self._pool = WorkerPool("freezer-verify", threads=threads, budget=2 * threads, cancel=context.cancel)
        self._lock = threading.Lock()
        self._problems: list[Problem] = []
        self._figures = _Figures()
        self._sizes: dict[bytes, int] = {}
        self._seen: set[bytes] = set()
        self._needed: dict[bytes, set[int]] = {}
        self._damaged: set[tuple[bytes, int]] = set()
        self._next_event = 0.0

    def run(self, backups: Sequence[str], *, read_data: bool) -> VerifyResult:
        """Looks at chosen backups, or at everything that the storage holds.

        Raises:
            StorageError, BackupNotFound, Cancelled.
        """
        started = time.monotonic()
        try:
            commits = [self._catalog.find(backup) for backup in backups] if backups else self._everything()
            self._load_indexes()
            packs = self._list_packs()
            adopt_orphans(self._storage, self._keys, self._index)  # an index that was lost is no damage yet
            if backups:
                for commit in commits:
                    self._structure(commit)
                packs = [(kind, info) for kind, info in packs if digest_of(info.name) in self._needed]
            for kind, info in packs:
                self._pool.submit(self._guarded, self._read_pack if read_data else self._look_at_pack, kind, info)
                self._progress(info.name)
            self._pool.drain()
            self._name_affected(commits)
        finally:
            self._pool.close()
        return VerifyResult(
            backups=len(commits),
            objects=self._figures.objects,
            blobs=self._figures.blobs,
            bytes_read=self._figures.bytes_read,
            read_data=read_data,
            duration=round(time.monotonic() - started, 3),
            problems=tuple(self._problems),
        )

    # -- objects -------------------------------------------------------------------------------------------

    def _everything(self) -> list[Commit]:
        for finding in audit.audit(self._storage, self._keys):
            self._report(finding)
        return self._commits()

    def _name_affected(self, commits: Sequence[Commit]) -> None:
        """Which paths of which backups cannot be restored, once it is known which segments are damaged."""
        before = len(self._problems)
        for commit in commits:
            self._structure(commit)
        if len(self._problems) > before or self._damaged:
            del self._problems[before:]
            for commit in commits:
                self._seen.clear()
                self._structure(commit)

    def _commits(self) -> list[Commit]:
        visible = []
        for info in self._storage.list(BACKUPS):
            if parse_backup_name(info.name) is None:
                self._problem(info.name, "unknown", "not the name of a backup")
        remembered = {item.id for item in self._catalog.listed()}
        sweeps = protocol.read_sweeps(self._storage, self._keys)
        for item in self._catalog.listed(with_forgotten=True):
            try:
                commit = self._catalog.open(item)
            except (IntegrityError, UnsupportedFormat) as error:
                self._problem(item.name, "damaged", str(error))
                continue
            except BackupNotFound:
                continue
            self._figures.objects += 1
            if item.id in remembered and not sweeps.void(item.name, commit.generation):
                visible.append(commit)
        return visible

    def _load_indexes(self) -> None:
        for info in list(self._storage.list(INDEX)):
            self._context.cancel.check()
            digest = digest_of(info.name)
            if digest is None:
                self._problem(info.name, "unknown", "not the name of an index")
                continue
            try:
                data = documents.read_bounded(self._storage, info.name, MAX_OBJECT)
                if data is None:
                    continue  # merged away meanwhile
                if hashlib.sha256(data).digest() != digest:
                    raise IntegrityError("its bytes are not those that it is named by")
                for kind, (offset, length) in index_parts(data, len(data)).items():
                    box = memoryview(data)[offset : offset + length]
                    self._index.add(decode_section(self._keys, kind, box, self._compressors("zstd")))
            except IntegrityError as error:
                self._problem(info.name, "damaged", str(error))
            self._figures.objects += 1

    def _list_packs(self) -> list[tuple[Kind, ObjectInfo]]:
        found = []
        for kind, prefix in ((Kind.DATA, PACKS), (Kind.META, META)):
            for info in self._storage.list(prefix):
                digest = digest_of(info.name)
                if digest is None or info.name != pack_name(kind, digest):
                    self._problem(info.name, "unknown", "not the name of a pack")
                    continue
                self._sizes[digest] = info.size
                found.append((kind, info))
            unlisted = find_packs(self._storage, kind, self._index.ends(kind).keys() - self._sizes.keys())
            for pack, info in unlisted.items():
                self._sizes[pack] = info.size
                found.append((kind, info))
            if unlisted:
                self._problem(prefix, "unknown", f"{len(unlisted)} packs are there, and are not listed")
        return found

    def _look_at_pack(self, kind: Kind, info: ObjectInfo) -> None:
        read_pack_table(self._storage, self._keys, kind, info)
        self._count(objects=1)

    def _read_pack(self, kind: Kind, info: ObjectInfo) -> None:
        """Every byte: against the object's name, each segment's tag, each blob's id, the table.

        Of chosen backups only the segments that they need.
        """
        digest = hashlib.sha256()
        pack = digest_of(info.name) or b""
        try:
            rows = read_pack_table(self._storage, self._keys, kind, info)
        except IntegrityError as error:
            self._problem(info.name, "damaged", str(error))
            rows = []
            for offset, stored in sorted(self._index.segments(kind, pack)):
                self._check_segment(Place(kind, pack, offset, stored, 0, 0), None)
        offset = 0
        needed = self._needed.get(pack) if self._needed else None
        for row in rows:
            self._context.cancel.check()
            if needed is None or offset in needed:
                place = Place(kind, pack, offset, row.stored, 0, 0)
                data = self._check_segment(place, list(zip(row.ids, row.lengths, strict=True)))
                digest.update(data)
                self._count(blobs=len(row.ids), bytes_read=len(data))
            offset += row.stored
        self._count(objects=1)
        if needed is not None:
            return
        rest = None
        while rest is None or len(rest) == _BLOCK:
            self._context.cancel.check()
            rest = documents.read_range(self._storage, info.name, offset=offset, length=_BLOCK)
            digest.update(rest)
            offset += len(rest)
            self._count(bytes_read=len(rest))
        if digest.digest() != pack:
            self._problem(info.name, "damaged", "its bytes are not those that it is named by")

    def _check_segment(self, place: Place, expected: list[tuple[bytes, int]] | None) -> bytes:
        """Checks a segment, against its row of the table if there is one, and gives its stored bytes."""
        data, name = b"", pack_name(place.kind, place.pack)
        try:
            data = documents.read_range(self._storage, name, offset=place.offset, length=place.stored)
            blobs = self._blobs.open_segment(place, data).blobs()
            if expected is None:
                return data
            if len(blobs) != len(expected):
                raise IntegrityError("a segment has another number of blobs than its table says")
            for (blob, length), content in zip(expected, blobs, strict=True):
                self._blobs.check(place.kind, blob, content, place._replace(length=length))
        except IntegrityError as error:
            self._problem(name, "damaged", f"at {place.offset}: {error}")
            with self._lock:
                self._damaged.add((place.pack, place.offset))
        return data

    # -- structure -----------------------------------------------------------------------------------------

    def _structure(self, commit: Commit) -> None:
        """Every page can be read, every blob has a place in a pack that is there."""
        stack: list[tuple[bytes, Content]] = [(b"", commit.root)]
        label = commit.backup.id[:8]
        while stack:
            path, content = stack.pop()
            self._progress(os.fsdecode(path))
            try:
                for page_id in self._ids(Kind.META, content):
                    if page_id not in self._seen:
                        self._seen.add(page_id)
                        stack += self._page(label, path, Page(self._blobs.meta(page_id)))
            except IntegrityError as error:
                self._problem(f"{label}:{os.fsdecode(path)}", "damaged", f"directory: {error}")

    def _page(self, label: str, path: bytes, page: Page) -> Iterable[tuple[bytes, Content]]:
        self._context.cancel.check()
        below = []
        extras = page.extras()
        for number, (name, row, content) in enumerate(
            zip(page.names, STAT.iter_unpack(page.stats), page.contents, strict=True)
        ):
            if content is EMPTY:
                continue
            inside = join(path, name) if path else name
            if stat.S_ISDIR(row[0]):
                below.append((inside, content))
                continue
            try:
                found = get_extra(extras.get(number, ()), Extra.EXTENTS)
                wanted = row[4] if found is None else sum(length for _offset, length in split_extents(found))
                size = sum(self._place(Kind.DATA, blob).length for blob in self._ids(Kind.DATA, content))
                if size != wanted and not row[3] & FLAG_INCOMPLETE:
                    raise IntegrityError(f"has {size} bytes of content, not {wanted}")
            except IntegrityError as error:
                self._problem(f"{label}:{os.fsdecode(inside)}", "damaged", str(error))
        return below

    def _ids(self, kind: Kind, content: Content) -> Iterable[bytes]:
        """Ids of a content; those of directories are places checked here too."""
        ids = content.ids
        for at in range(0, len(ids), 32):
            blob = ids[at : at + 32]
            if content.depth:
                self._place(Kind.META, blob)
                yield from self._ids(kind, Content(content.depth - 1, list_ids(self._blobs.meta(blob))))
            else:
                if kind is Kind.META:
                    self._place(Kind.META, blob)
                yield blob

    def _place(self, kind: Kind, blob: bytes) -> Place:
        """A place that a blob can be read from.

        Raises:
            IntegrityError: there is none.
        """
        place = self._index.find(kind, blob) or self._blobs.search(kind, blob)
        if place is None:
            raise IntegrityError(f"blob {blob.hex()[:16]} is in no index")
        fault = self._fault(place)
        if fault is not None:
            others = (other for other in self._index.places(kind, blob) if self._fault(other) is None)
            found = next(others, None)
            if found is None:
                raise IntegrityError(fault)
            place = found
        self._needed.setdefault(place.pack, set()).add(place.offset)
        return place

    def _fault(self, place: Place) -> str | None:
        size = self._sizes.get(place.pack)
        if size is None:
            return f"{pack_name(place.kind, place.pack)} is missing"
        if place.offset + place.stored > size:
            return f"{pack_name(place.kind, place.pack)} is cut short"
        if (place.pack, place.offset) in self._damaged:
            return f"its data in {pack_name(place.kind, place.pack)} are damaged"
        return None

    # -- reports -------------------------------------------------------------------------------------------

    def _guarded(self, job: Callable[[Kind, ObjectInfo], None], kind: Kind, info: ObjectInfo) -> None:
        try:
            job(kind, info)
        except ObjectNotFound:
            self._problem(info.name, "missing", "vanished while it was looked at")
        except IntegrityError as error:
            self._problem(info.name, "damaged", str(error))

    def _count(self, *, objects: int = 0, blobs: int = 0, bytes_read: int = 0) -> None:
        with self._lock:
            self._figures.objects += objects
            self._figures.blobs += blobs
            self._figures.bytes_read += bytes_read

    def _problem(self, path: str, kind: str, message: str) -> None:
        self._report(Problem(path=path, kind=kind, message=message, fatal=kind != "unknown"))

    def _report(self, problem: Problem) -> None:
        with self._lock:
            self._problems.append(problem)
        self._context.events(Event(kind="problem", operation="verify", path=problem.path, problem=problem))

    def _progress(self, path: str | None) -> None:
        self._context.cancel.check()
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            figures = self._figures
            self._context.events(
                Event(kind="progress", operation="verify", path=path, files=figures.objects, bytes=figures.bytes_read)
            )
