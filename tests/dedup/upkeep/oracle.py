"""What a damaged repository still must give back: worked out from the bytes of the whole one, not by reading it."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dedup.upkeep.world import Clocked, keys_of, opened

from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.chunker import ChunkerClass
from freezer_sdk.engines.dedup.content import ContentReader
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, Place
from freezer_sdk.engines.dedup.layout import Kind, backup_name, pack_name
from freezer_sdk.engines.dedup.page import Content, Page, content_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.settings import Settings
from freezer_sdk.engines.dedup.tree import TreeReader
from freezer_sdk.errors import IntegrityError
from freezer_sdk.modes.base import STAT

Segment = tuple[Kind, bytes]
"""A segment by its stored bytes."""


@dataclass(frozen=True)
class File:
    """A file of a backup: what it holds, and the segments that it takes to read it."""

    backup: str
    path: str
    data: bytes
    segments: frozenset[Segment]


@dataclass(frozen=True)
class Pristine:
    """A whole repository.

    Attributes:
        objects: of the storage.
        content: the same as bytes, by name.
        commits: names of commit objects, by id of the backup.
        forgotten: id of the backup that is.
    """

    objects: dict[str, object]
    content: dict[str, bytes]
    commits: dict[str, str]
    forgotten: str
    files: tuple[File, ...]

    def readable(self, damaged: dict[str, bytes]) -> Iterator[File]:
        """Files whose every segment is whole somewhere, in backups whose commit is whole."""
        held = {kind: [data for name, data in damaged.items() if name.startswith(kind.prefix)] for kind in Kind}
        known: dict[Segment, bool] = {}
        for file in self.files:
            name = self.commits[file.backup]
            if damaged.get(name) != self.content[name]:
                continue
            for kind, data in file.segments - known.keys():
                known[kind, data] = any(data in each for each in held[kind])
            if all(known[segment] for segment in file.segments):
                yield file

    def opens(self, damaged: dict[str, bytes]) -> bool:
        """Whether configuration and slot are whole in one of their places."""
        names = [name for name in self.content if name.startswith(("config/", "keys/"))]
        return all(self.content[name] in (damaged.get(name), damaged.get(f"copies/{name}")) for name in names)


def make_pristine(folder: Path, *, seed: int = 1) -> Pristine:
    """A small repository of several packs, segments, indexes and backups, one of them forgotten."""
    rng, storage = random.Random(seed), Clocked()
    create_repository(storage, password=None, segment=8192, chunker_classes=(ChunkerClass(0, 1024),))  # long lists
    source, commits, files = folder / "source", {}, []
    with opened(storage) as freezer:
        for run in range(3):
            for number in range(4):
                path = source / f"d{number % 2}" / f"f{run}-{number}"
                path.parent.mkdir(parents=True, exist_ok=True)
                size = 70_000 if number == run == 2 else rng.choice((10, 3000, 9000))
                path.write_bytes(rng.randbytes(size))
            (source / "d0" / "same").write_bytes(b"always the same")
            backup = freezer.backup(source, name="t", host=f"host{run % 2}", force_read=True)
            commits[backup.id] = backup_name(backup.time, backup.id)
            files += _files(storage, backup.id, source)
        forgotten = next(iter(commits))
        freezer.forget(forgotten)
    return Pristine(storage.save(), storage.content(), commits, forgotten, tuple(files))


def handle_of(storage: Clocked) -> Handle:
    """What the engine's parts work with."""
    return Handle(storage, keys_of(storage), Settings(), DedupEngine().compressor)


def given_back(pristine: Pristine, storage: Clocked) -> dict[tuple[str, str], bytes]:
    """Every file that can be read, of every backup that counts."""
    handle, found = handle_of(storage), {}
    blobs = BlobReader(handle, BlobIndex(trusts=handle.keys.trusts))
    trees, commits = TreeReader(blobs), {commit.backup.id: commit for commit in Catalog(handle).visible([])}
    for file in pristine.files:
        if file.backup in commits:
            try:
                node = trees.find(commits[file.backup].root, os.fsencode(file.path))
                assert node is not None
                found[file.backup, file.path] = ContentReader(blobs, node).read()
            except IntegrityError:
                continue
    return found


def _files(storage: Clocked, backup: str, source: Path) -> Iterator[File]:
    handle = handle_of(storage)
    blobs = BlobReader(handle, BlobIndex())

    def segment(kind: Kind, blob: bytes) -> Segment:
        place: Place = blobs.place(kind, blob)
        return kind, storage.get(pack_name(kind, place.pack), offset=place.offset, length=place.stored)

    def needs(kind: Kind, content: Content) -> tuple[list[bytes], frozenset[Segment]]:
        loaded: list[bytes] = []

        def load(blob: bytes) -> bytes:
            loaded.append(blob)
            return blobs.meta(blob)

        ids = list(content_ids(content, load))
        return ids, frozenset({segment(kind, blob) for blob in ids} | {segment(Kind.META, blob) for blob in loaded})

    stack: list[tuple[str, Content, frozenset[Segment]]] = [("", Catalog(handle).find(backup).root, frozenset())]
    while stack:
        path, content, above = stack.pop()
        ids, pages = needs(Kind.META, content)
        for blob in ids:
            page = Page(blobs.meta(blob))
            for name, row, inner in zip(page.names, STAT.iter_unpack(page.stats), page.contents, strict=True):
                inside = f"{path}/{name.decode()}" if path else name.decode()
                if stat.S_ISDIR(row[0]):
                    stack.append((inside, inner, above | pages))
                else:
                    yield File(backup, inside, Path(inside).read_bytes(), above | pages | needs(Kind.DATA, inner)[1])


# -- damage ------------------------------------------------------------------------------------------------------------

Damage = Callable[[random.Random, dict[str, bytes], str], None]


def flip(rng: random.Random, objects: dict[str, bytes], name: str) -> None:
    data = bytearray(objects[name])
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    objects[name] = bytes(data)


def truncate(rng: random.Random, objects: dict[str, bytes], name: str) -> None:
    objects[name] = objects[name][: rng.randrange(len(objects[name]))]


def delete(rng: random.Random, objects: dict[str, bytes], name: str) -> None:
    del objects[name]


def swap(rng: random.Random, objects: dict[str, bytes], name: str) -> None:
    """With another object, of the same kind more often than not."""
    alike = [other for other in objects if other.split("/")[0] == name.split("/", maxsplit=1)[0]]
    other = rng.choice(sorted(alike if rng.random() < 0.7 else objects))
    objects[name], objects[other] = objects[other], objects[name]


def zero(rng: random.Random, objects: dict[str, bytes], name: str) -> None:
    data = objects[name]
    begin = rng.choice((0, rng.randrange(len(data))))
    end = rng.choice((len(data), rng.randint(begin, min(len(data), begin + 4096))))
    objects[name] = data[:begin] + bytes(end - begin) + data[end:]


DAMAGES: tuple[Damage, ...] = (flip, truncate, delete, swap, zero)


def damaged(pristine: Pristine, seed: int) -> dict[str, bytes]:
    """One to three damages of any objects; packs are hit more often."""
    rng, objects = random.Random(seed), dict(pristine.content)
    for _ in range(rng.randint(1, 3)):
        names = sorted(name for name in objects if objects[name])
        kinds = sorted({name.split("/")[0] for name in names} | {"packs", "meta"})
        kind = rng.choice([*kinds, "packs", "meta"])
        chosen = [name for name in names if name.startswith(kind + "/")] or names
        rng.choice(DAMAGES)(rng, objects, rng.choice(chosen))
    return objects


def fill(storage: Clocked, objects: dict[str, bytes]) -> None:
    """Stores all objects anew."""
    for name, data in objects.items():
        storage.put(name, [data])
