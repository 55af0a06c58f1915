#!/usr/bin/env python3
"""Measures the index of a large repository: memory, loading, look-ups, and the planning of a prune.

    index_scale.py [--work DIR] [--blobs 10000000] [--shapes merged,backups,daily,huge] [--lookups 1000000]

Makes a repository in DIR whose index names so many blobs of file data in packs that are not there: a tenth are small
files, a thousand in a segment, the others chunks of 64 KiB on average. The pages of one backup that needs four fifths
of them are there. The same blobs come in several shapes:

    merged    index objects of 262,144 blobs, as prune leaves them
    backups   of 65,536 blobs, as one large first backup leaves them
    daily     of 1,000 blobs, as years of small backups leave them
    huge      of 5 million blobs, as large as the format allows

Each is measured in a process of its own, which prints a row of the table (Markdown):

    load      seconds from the storage until the first look-up is answered, and processor seconds
    own       resident MB above those of the process before, without pages of files: after loading, and after joining
    peak      largest resident set of the whole process until it was loaded
    file      resident pages of the temporary file that holds the ids, when everything was looked up once; the system
              drops them when it needs the memory
    look-ups  a second of processor time, of blobs that are there (hits) and of others (misses), in random order: at
              first, and when sections are joined
    join      processor seconds to join all sections, which is done when look-ups have cost as much
    plan      seconds to find out which rows the backup needs and how full each pack is, and processor seconds

About 1 GB is needed in DIR for 10 million blobs.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from freezer_sdk import Freezer
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, Section, encode_index
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import Kind, index_name
from freezer_sdk.engines.dedup.loading import IndexLoader
from freezer_sdk.engines.dedup.page import Content, ContentBuilder, encode_page
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.section import Blobs, Packs
from freezer_sdk.engines.dedup.settings import Settings
from freezer_sdk.engines.dedup.upkeep.usage import GOOD, Usage
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.modes.base import STAT
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.streams.cancel import CancelToken

SHAPES = {"merged": 1 << 18, "backups": 1 << 16, "daily": 1000, "huge": 5_000_000}
CHUNKS_IN_SEGMENT, SMALL_IN_SEGMENT, SEGMENTS_IN_PACK = 16, 1000, 32
SMALL = 10  # one blob in so many is a small file
FILES_IN_DIRECTORY = 1000
CHUNKS_IN_FILE = 4000
NEEDED = 0.8
COLUMNS = (
    "load",
    "load cpu",
    "own",
    "peak",
    "first hits",
    "first misses",
    "join cpu",
    "joined own",
    "hits",
    "misses",
    "plan",
    "plan cpu",
    "file",
)
ZSTD = ZstdCompressor()
DIRECTORY, FILE = 0o040755, 0o100644


def compressors(_name: str) -> ZstdCompressor:
    """The only one that is needed here."""
    return ZSTD


def section_of_random(ids: Sequence[bytes], keys: KeyRing, seed: int) -> Section:
    """Blobs in packs as a backup leaves them: neighbours lie in one segment."""
    rng = random.Random(seed)
    segment_of, starts, lengths = array("I"), array("I"), array("I")
    segment, left, start = -1, 0, 0
    small = len(ids) // SMALL
    for number in range(len(ids)):
        if not left:
            segment, start = segment + 1, 0
            left = SMALL_IN_SEGMENT if number < small else CHUNKS_IN_SEGMENT
        length = rng.randrange(100, 2000) if number < small else rng.randrange(16 << 10, 112 << 10)
        segment_of.append(segment)
        starts.append(start)
        lengths.append(length)
        start, left = start + length, left - 1
    order = sorted(range(len(ids)), key=ids.__getitem__)
    blobs = Blobs(
        b"".join(map(ids.__getitem__, order)),
        *(array("I", map(column.__getitem__, order)) for column in (segment_of, starts, lengths)),
    )
    counts = [SEGMENTS_IN_PACK] * ((segment + 1) // SEGMENTS_IN_PACK)
    if rest := (segment + 1) % SEGMENTS_IN_PACK:
        counts.append(rest)
    stored = array("I", (rng.randrange(200 << 10, 1 << 20) for _ in range(segment + 1)))
    packs = Packs([rng.randbytes(32) for _ in counts], [keys.slot_id] * len(counts), counts, stored)
    return Section(Kind.DATA, keys.slot_id, packs, blobs)


def all_ids(count: int) -> Iterator[bytes]:
    """The same ids in the same order, however often they are asked for."""
    rng = random.Random(1)
    while count > 0:
        some = rng.randbytes(32 * min(count, 1 << 16))
        yield from (some[at : at + 32] for at in range(0, len(some), 32))
        count -= 1 << 16


def make(folder: Path, blobs: int, size: int) -> None:
    """A repository with index objects of so many blobs."""
    storage = LocalStorage(path=str(folder), sync=False)
    keys = create_repository(storage, password=None)
    ids = all_ids(blobs)
    number = 0
    while some := list(islice(ids, size)):
        data = encode_index(keys, [section_of_random(some, keys, number)], ZSTD)
        storage.put(index_name(hashlib.sha256(data).digest()), [data])
        number += 1


def make_backup(folder: Path, blobs: int) -> Content:
    """Stores the pages of a backup that needs most of the blobs; gives its root."""
    storage = LocalStorage(path=str(folder))
    keys = open_repository(storage, lambda: None)
    handle = Handle(storage, keys, Settings(), compressors)
    writer = BlobWriter(handle, BlobIndex(trusts=keys.trusts), load_index=lambda: None, cancel=CancelToken())
    needed = islice(all_ids(blobs), int(blobs * NEEDED))
    directories: list[Content] = []
    while some := list(islice(needed, FILES_IN_DIRECTORY + 20 * CHUNKS_IN_FILE)):
        contents = [Content(0, blob) for blob in some[:FILES_IN_DIRECTORY]]
        for at in range(FILES_IN_DIRECTORY, len(some), CHUNKS_IN_FILE):
            builder = ContentBuilder(writer.store_meta)
            for blob in some[at : at + CHUNKS_IN_FILE]:
                builder.add(blob)
            contents.append(builder.finish())
        directories.append(Content(0, writer.store_meta(page(FILE, contents))))
    root = Content(0, writer.store_meta(page(DIRECTORY, directories)))
    writer.finish(storage.flush)
    writer.close()
    with tempfile.TemporaryDirectory() as empty, Freezer(storage) as freezer:
        freezer.backup(empty, name="generated")  # its commit is given the root above
    return root


def page(mode: int, contents: Sequence[Content]) -> bytes:
    """A directory."""
    names = [b"%08d" % number for number in range(len(contents))]
    stats = b"".join(STAT.pack(mode, 0, 0, 0, 1, 0, 0, number) for number in range(len(contents)))
    return encode_page(names, stats, contents, [])


# -- measuring -----------------------------------------------------------------------------------------------------


def memory() -> dict[str, float]:
    """Resident MB (10^6 bytes): of its own, and of files."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            found[name] = int(value.split()[0]) * 1024 / 1e6
    return found


def rate(index: BlobIndex, ids: Sequence[bytes]) -> float:
    """Look-ups a second of processor time."""
    find, kind = index.find, Kind.DATA
    started = time.process_time()
    for blob in ids:
        find(kind, blob)
    return len(ids) / (time.process_time() - started)


def measure(folder: Path, blobs: int, lookups: int, root: Content) -> dict[str, float]:
    """All figures of one shape."""
    storage = LocalStorage(path=str(folder))
    keys = open_repository(storage, lambda: None)
    handle = Handle(storage, keys, Settings(), compressors)
    rng = random.Random(3)
    present = list(islice(all_ids(blobs), min(lookups, blobs)))
    rng.shuffle(present)
    absent = [rng.randbytes(32) for _ in range(len(present))]
    index = BlobIndex(trusts=keys.trusts)
    before = memory()
    started, cpu = time.perf_counter(), time.process_time()
    IndexLoader(handle).load(index, Kind.DATA)
    index.find(Kind.DATA, bytes(32))
    figures = {"load": time.perf_counter() - started, "load cpu": time.process_time() - cpu}
    loaded = memory()
    figures["own"] = loaded["RssAnon"] - before["RssAnon"]
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    figures["first hits"] = rate(index, present[: len(present) // 10])
    figures["first misses"] = rate(index, absent[: len(present) // 10])
    cpu = time.process_time()
    index.settle()
    figures["join cpu"] = time.process_time() - cpu
    index.find(Kind.DATA, bytes(32))
    figures["hits"], figures["misses"] = rate(index, present), rate(index, absent)
    figures["joined own"] = memory()["RssAnon"] - before["RssAnon"]
    figures["plan"], figures["plan cpu"] = plan(handle, index, root)
    figures["file"] = memory()["RssFile"] - before["RssFile"]
    return figures


def plan(handle: Handle, index: BlobIndex, root: Content) -> tuple[float, float]:
    """Seconds until it is known how full each pack is, and processor seconds."""
    (commit,) = Catalog(handle).visible([])
    reader = BlobReader(handle, index)
    reader.load_index(Kind.META)
    started, cpu = time.perf_counter(), time.process_time()
    usage = Usage(reader, index, lambda *_about: GOOD, trusts=handle.keys.trusts, tick=lambda: None)
    usage.add(dataclasses.replace(commit, root=root))
    packs = usage.packs()
    seconds = time.perf_counter() - started, time.process_time() - cpu
    used = sum(pack.used for pack in packs.values()) / sum(pack.total for pack in packs.values())
    assert 0.7 < used < 0.9, used
    return seconds


def main() -> int:
    """Makes, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--blobs", type=int, default=10_000_000)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--lookups", type=int, default=1_000_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        root = Content(0, bytes.fromhex(options.root))
        print(json.dumps(measure(options.measure, options.blobs, options.lookups, root)))
        return 0
    print(f"load average {os.getloadavg()[0]:.1f}")
    print("| " + " | ".join(("shape", "objects", "stored MB", *COLUMNS)) + " |")
    print("| --- " * (3 + len(COLUMNS)) + "|")
    with tempfile.TemporaryDirectory(dir=options.work, prefix="freezer-index-") as work:
        for shape in options.shapes.split(","):
            print(row(shape, Path(work, shape), options.blobs, options.lookups), flush=True)
    return 0


def row(shape: str, folder: Path, blobs: int, lookups: int) -> str:
    """Makes and measures one shape; a row of the table."""
    make(folder, blobs, SHAPES[shape])
    objects = [path.stat().st_size for path in (folder / "index").iterdir() if path.is_file()]
    root = make_backup(folder, blobs)
    command = [sys.executable, __file__, "--measure", str(folder), "--root", root.ids.hex()]
    command += ["--blobs", str(blobs), "--lookups", str(lookups)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures = json.loads(done.stdout)
    shown = [f"{figures[name]:,.1f}" if figures[name] < 100 else f"{figures[name]:,.0f}" for name in COLUMNS]
    return "| " + " | ".join((shape, f"{len(objects):,}", f"{sum(objects) / 1e6:.0f}", *shown)) + " |"


if __name__ == "__main__":
    sys.exit(main())
