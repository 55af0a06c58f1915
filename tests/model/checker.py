"""Whether all backups that count can be restored, judged by what the storage holds."""

from __future__ import annotations

import contextlib
import io
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from model.contents import BLOBS, Contents, time_of

from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.adopt import read_pack_table
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.page import Content, Page, content_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.repository import DedupRepository
from freezer_sdk.errors import FreezerError, ObjectNotFound, ReadOnlyStorage
from freezer_sdk.modes.base import STAT
from freezer_sdk.storages.base import Capabilities, ObjectInfo, Reader, Storage, Upload

Blob = tuple[Kind, bytes]


class Still(Storage):
    """A storage that holds what a state of a world holds, and takes nothing."""

    name = "still"
    api_version = 1
    summary = "a state of a world"
    options = ()

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        return {}

    @property
    def location(self) -> str:
        return "still:"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_put=True, remote=False)

    def put(self, name: str, buffers: Sequence[Any], *, if_absent: bool = False) -> ObjectInfo:
        raise ReadOnlyStorage(name)

    def upload(self, name: str) -> contextlib.AbstractContextManager[Upload]:
        raise ReadOnlyStorage(name)

    def delete(self, name: str) -> None:
        raise ReadOnlyStorage(name)

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        content = self._entry(name).content
        start = max(0, len(content) + offset) if offset < 0 else offset
        return content[start:] if length is None else content[start : start + length]

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        yield io.BytesIO(self.get(name))

    def stat(self, name: str) -> ObjectInfo:
        return self._entry(name).info

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        objects = self._contents.objects
        return iter([objects[name].info for name in sorted(objects) if name.startswith(prefix)])

    def flush(self) -> None:
        return

    def now(self) -> datetime:
        return time_of(0)

    def _entry(self, name: str) -> Any:
        found = self._contents.objects.get(name)
        if found is None:
            raise ObjectNotFound(f"there is no {name}")
        return found


class _Known(NamedTuple):
    """Which backups count.

    Attributes:
        visible: their commits, by id. hidden: ids of those that are forgotten or void, but stored.
    """

    visible: Mapping[str, Commit]
    void: frozenset[str]
    forgotten: frozenset[str]


class Checker:
    """Remembers what it has found about parts of states; the same parts come again and again.

    Args:
        handle: its storage is not used.
        expected: bytes of each file by its path, for the backups of a name.
        precious: blobs that must be there always, whatever commits say.
    """

    def __init__(
        self,
        handle: Handle,
        expected: Mapping[str, Mapping[bytes, bytes]],
        *,
        precious: frozenset[Blob] = frozenset(),
    ) -> None:
        self._handle, self._expected, self._precious = handle, expected, precious
        self._listed: dict[int, _Known] = {}
        self._needs: dict[Content, frozenset[Blob]] = {}
        self._tables: dict[int, frozenset[Blob]] = {}
        self._stored: dict[int, frozenset[Blob]] = {}
        self._judged: dict[tuple[int, int], str | None] = {}
        self._restored: dict[tuple[int, int, int], str | None] = {}

    def known(self, contents: Contents) -> _Known:
        """Which backups count."""
        found = self._listed.get(contents.commits)
        if found is None:
            handle = self._on(contents)
            visible = {commit.backup.id: commit for commit in Catalog(handle).visible([])}
            forgotten = protocol.forgotten(handle.storage, handle.keys)
            stored = {item.id for item in Catalog(handle).listed(with_forgotten=True)}
            found = _Known(visible, frozenset(stored - visible.keys() - forgotten), forgotten)
            self._listed[contents.commits] = found
        return found

    def lost(self, contents: Contents) -> str | None:
        """What a backup that counts lacks; by presence of packs, so cheap enough for every state."""
        key = (contents.commits, contents.blobs)
        if key not in self._judged:
            self._judged[key] = self._lost(contents)
        return self._judged[key]

    def _lost(self, contents: Contents) -> str | None:
        there = self.stored(contents)
        for backup, commit in self.known(contents).visible.items():
            try:
                lacking = self.needs(commit, contents) - there
            except FreezerError as error:
                return f"the backup {_name(commit)} counts and cannot be read: {error.message}"
            if lacking:
                kinds = sorted({kind.prefix for kind, _blob in lacking})
                return f"the backup {_name(commit)} counts and lacks {len(lacking)} blobs of {', '.join(kinds)}"
            assert backup
        if self._precious - there:
            return f"{len(self._precious - there)} blobs are gone that only a damaged commit names"
        return None

    def stored(self, contents: Contents) -> frozenset[Blob]:
        """All blobs in packs that are there."""
        found = self._stored.get(contents.blobs)
        if found is None:
            packs = [entry for name, entry in contents.objects.items() if name.startswith(BLOBS)]
            for entry in packs:
                if entry.number not in self._tables:
                    kind = Kind.DATA if entry.info.name.startswith(Kind.DATA.prefix) else Kind.META
                    rows = read_pack_table(Still(contents), self._handle.keys, kind, entry.info)
                    self._tables[entry.number] = frozenset((kind, blob) for row in rows for blob in row.ids)
            found = frozenset().union(*(self._tables[entry.number] for entry in packs))
            self._stored[contents.blobs] = found
        return found

    def needs(self, commit: Commit, contents: Contents) -> frozenset[Blob]:
        """All blobs of a backup."""
        found = self._needs.get(commit.root)
        if found is None:
            found = self._needs[commit.root] = needed(commit, BlobReader(self._on(contents), BlobIndex()))
        return found

    def restores(self, contents: Contents) -> str | None:
        """What of the backups that count is not restored byte for byte by the shipped reader."""
        key = (contents.commits, contents.blobs, contents.index)
        if key not in self._restored:
            self._restored[key] = self._restores(contents)
        return self._restored[key]

    def _restores(self, contents: Contents) -> str | None:
        repository = DedupRepository(self._on(contents))
        for commit in self.known(contents).visible.values():
            for path, expected in self._expected[commit.backup.name].items():
                try:
                    with repository.open(commit.backup.id, path) as reader:
                        if reader.read() != expected:
                            return f"{path!r} of {_name(commit)} is restored with other bytes"
                except FreezerError as error:
                    return f"{path!r} of {_name(commit)} cannot be restored: {error.message}"
        return None

    def _on(self, contents: Contents) -> Handle:
        handle = self._handle
        return Handle(Still(contents), handle.keys, handle.settings, handle.compressors)


def _name(commit: Commit) -> str:
    return f"{commit.backup.name} ({commit.backup.short_id})"


def needed(commit: Commit, blobs: BlobReader) -> frozenset[Blob]:
    """All blobs that a backup refers to; written apart from the code that deletes."""
    found: set[Blob] = set()

    def meta(blob: bytes) -> bytes:
        found.add((Kind.META, blob))
        return blobs.meta(blob)

    stack = [commit.root]
    while stack:
        for page_id in content_ids(stack.pop(), meta):
            page = Page(meta(page_id))
            for row, content in zip(STAT.iter_unpack(page.stats), page.contents, strict=True):
                if stat.S_ISDIR(row[0]):
                    stack.append(content)
                else:
                    found.update((Kind.DATA, blob) for blob in content_ids(content, meta))
    return frozenset(found)
