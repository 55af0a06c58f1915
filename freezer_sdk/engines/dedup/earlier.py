"""An earlier backup that two repositories know under different names: what did not change since need not be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from freezer_sdk.engines.dedup.page import Content, Page, content_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.tree import get_extra
from freezer_sdk.modes.base import FLAG_INCOMPLETE, FLAG_RACY, STAT, Attributes, Extra, Extras

_ROW = STAT.size
_DIR, _TYPE = 0o040000, 0o170000


class Pair(NamedTuple):
    """The same directory of the same earlier backup in both repositories.

    Attributes:
        exact: the target's was copied from this one; else both were made by one run into both.
    """

    source: Content
    target: Content
    exact: bool


class _Entry(NamedTuple):
    attributes: Attributes
    content: Content
    extras: Extras

    @property
    def is_directory(self) -> bool:
        return self.attributes.mode & _TYPE == _DIR

    @property
    def extents(self) -> bytes | None:
        return get_extra(self.extras, Extra.EXTENTS)


class Earlier:
    """One directory of it.

    Args:
        source, target: read the two repositories.

    Raises:
        IntegrityError, StorageError.
    """

    def __init__(self, source: BlobReader, target: BlobReader, pair: Pair) -> None:
        self._exact = pair.exact
        self._source, self._target = _Entries(source, pair.source), _Entries(target, pair.target)

    def directory(self, name: bytes) -> Pair | None:
        """A directory in it."""
        source, target = self._source.find(name), self._target.find(name)
        if source is None or target is None or not (source.is_directory and target.is_directory):
            return None
        return Pair(source.content, target.content, self._exact)

    def file(self, name: bytes, content: Content, size: int, extras: Extras) -> tuple[Content, Extras] | None:
        """The target's content and facts of a file that has not changed in the source since.

        Args:
            content, size, extras: what the source says now.
        """
        source, target = self._source.find(name), self._target.find(name)
        if source is None or target is None or source.is_directory or target.is_directory:
            return None
        if not self._exact and not _same_look(source.attributes, target.attributes):
            return None
        same = source.content == content and source.attributes.size == target.attributes.size == size
        if same and source.extents == target.extents == get_extra(extras, Extra.EXTENTS):
            return target.content, target.extras
        return None


def _same_look(source: Attributes, target: Attributes) -> bool:
    """Whether two looks at one file must have seen the same content: nothing about it may have changed between them."""
    return source == target and not source.flags & (FLAG_RACY | FLAG_INCOMPLETE)


class _Entries:
    """The entries of a directory by name."""

    def __init__(self, blobs: BlobReader, content: Content) -> None:
        pages = list(pages_of(blobs, content))
        self._by_name = {name: (page, n) for page in pages for n, name in enumerate(page.names)}

    def find(self, name: bytes) -> _Entry | None:
        found = self._by_name.get(name)
        if found is None:
            return None
        page, n = found
        attributes = Attributes._make(STAT.unpack_from(page.stats, _ROW * n))
        return _Entry(attributes, page.contents[n], page.extras().get(n, ()))


def pages_of(blobs: BlobReader, content: Content) -> Iterator[Page]:
    """The pages of a directory.

    Raises:
        IntegrityError, StorageError.
    """
    return (Page(blobs.meta(blob)) for blob in content_ids(content, blobs.meta))
