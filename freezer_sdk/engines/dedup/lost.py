"""Packs that are gone or cut short: a new backup relies on nothing that lay there."""

from __future__ import annotations

import stat

from freezer_sdk.engines.dedup.index import BlobIndex
from freezer_sdk.engines.dedup.layout import Kind, digest_of, pack_name
from freezer_sdk.engines.dedup.page import Content, Page, content_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.unlisted import find_packs, warn
from freezer_sdk.errors import IntegrityError
from freezer_sdk.modes.base import STAT
from freezer_sdk.storages.base import Storage


def distrust_lost_packs(storage: Storage, index: BlobIndex) -> list[str]:
    """Compares the listing of packs with the index; what is missing or too short is not reused any more.

    Only packs that a backup may rely upon are looked for: what untrusted slots claim raises no alarm.

    Args:
        index: loaded whole; a pack that only the listing lacks is not lost.

    Returns:
        Names of lost packs, but not of those that a maintainer is about to delete.

    Raises:
        StorageError.
    """
    lost = []
    for kind in Kind:
        ends = index.ends(kind, trusted=True)
        sizes = {digest: info.size for info in storage.list(kind.prefix) if (digest := digest_of(info.name))}
        suspects = sorted(pack for pack in ends.keys() - index.condemned if sizes.get(pack, -1) <= ends[pack])
        there = find_packs(storage, kind, suspects)
        unlisted = there.keys() - sizes.keys()
        if unlisted:
            warn(storage, pack_name(kind, min(unlisted)))
        for pack in suspects:
            if pack not in there or there[pack].size <= ends[pack]:
                index.distrust(pack)
                lost.append(pack_name(kind, pack))
    return lost


def is_whole(root: Content, blobs: BlobReader) -> bool:
    """Whether everything that a backup needs has a place outside packs that are lost or condemned.

    Raises:
        StorageError.
    """
    index = blobs.index
    stack = [root]
    seen: set[bytes] = set()

    def meta(blob: bytes) -> bytes:
        if not index.reusable(Kind.META, blob):
            raise IntegrityError("a page or list is lost")
        return blobs.meta(blob)

    try:
        while stack:
            for page_id in content_ids(stack.pop(), meta):
                if page_id in seen:
                    continue
                seen.add(page_id)
                page = Page(meta(page_id))
                for row, content in zip(STAT.iter_unpack(page.stats), page.contents, strict=True):
                    if stat.S_ISDIR(row[0]):
                        stack.append(content)
                    elif not all(index.reusable(Kind.DATA, blob) for blob in content_ids(content, meta)):
                        return False
    except IntegrityError:
        return False
    return True
