#!/usr/bin/env python3
"""Makes the data that the benchmarks back up; the same seed and scale give the same bytes on every machine.

    make_data.py make   ROOT [--sets small,large] [--scale 1.0] [--seed 1] [--from DIR ...]
    make_data.py mutate ROOT [--sets small,large] [--generation 1] [--seed 1]
    make_data.py digest DIR
    make_data.py show   DIR

small: about 99,000 small files in 13,000 directories, 560 MB: a tree of packages as /usr/lib or a source checkout is;
       with --from, natural content instead: files copied from the directories given, in the order of their paths.
large: four files of 512 MiB: random.bin, app.log, disk.img (a third of it zeros), table.db (8 KiB pages).

mutate changes about 1 % in place, differently for each generation. digest prints one hash over the names, types,
modes, modification times and content below a directory. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from corpus import PAGE, Corpus, Package

MIB = 1 << 20
EPOCH = 1_704_067_200 * 10**9
FILES = 99_300
SMALL_BYTES = 560_000_000
LARGE_MIB = 512
BLOCK = 4096
LARGEST_SMALL = 192 * 1024

# share of the files, smallest and largest size: what /usr of a server looks like
SIZES = (
    (0.02, 0, 1),
    (0.345, 20, 512),
    (0.38, 512, 2048),
    (0.157, 2048, 8192),
    (0.069, 8192, 32768),
    (0.029, 32768, LARGEST_SMALL),
)
KINDS = (("code", 0.50), ("prose", 0.17), ("data", 0.13), ("records", 0.17), ("random", 0.03))
SUFFIX = {"code": ".py", "prose": ".txt", "data": ".json", "records": ".bin", "random": ".png"}
DUPLICATES = 0.10


def write_file(path: Path, data: bytes, *, mode: int, mtime_ns: int) -> None:
    """Creates or replaces a file, in place, with a given mode and time."""
    with path.open("wb") as out:
        out.write(data)
        os.fchmod(out.fileno(), mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def small_sizes(rng: random.Random) -> Iterator[int]:
    """File sizes: about log-uniform within the bands."""
    bounds = list(itertools.accumulate(share for share, _low, _high in SIZES))
    while True:
        _share, low, high = rng.choices(SIZES, cum_weights=bounds)[0]
        yield int(low * (high / low) ** rng.random() ** 0.7) if low else 0


def made_files(scale: float, seed: int) -> Iterator[tuple[str, bytes, int]]:
    """Relative path, content and mode of every file of the made tree."""
    corpus, rng = Corpus(seed), random.Random(f"{seed}:small")
    sizes, kinds, weights = small_sizes(rng), [kind for kind, _ in KINDS], [share for _, share in KINDS]
    seen: list[bytes] = []
    directories, left = [("", Package(rng, corpus))], int(FILES * scale)
    while left > 0:
        parent, package = directories[-rng.randrange(1, min(len(directories), 60) + 1)]
        if parent.count("/") > 7:
            parent = ""
        if rng.random() < 0.3:
            package = Package(rng, corpus)
        directory = f"{parent}{rng.choice(corpus.words)}{len(directories)}/"
        directories.append((directory, package))
        for number in range(min(left, 1 + int(rng.expovariate(1 / 7.3)))):
            left -= 1
            kind, size = rng.choices(kinds, weights)[0], next(sizes)
            if seen and rng.random() < DUPLICATES:
                data = rng.choice(seen)
            elif kind == "random":
                data = rng.randbytes(size)
            elif kind == "records":
                data = corpus.records(rng, size)
            else:
                data = package.text(rng, kind, size)
            if len(seen) < 4000:
                seen.append(data)
            else:
                seen[rng.randrange(4000)] = data
            mode = rng.choice((0o644, 0o644, 0o644, 0o755, 0o600))
            yield f"{directory}{rng.choice(corpus.words)}_{number}{SUFFIX[kind]}", data, mode


def found_files(roots: list[Path], scale: float) -> Iterator[tuple[str, bytes, int]]:
    """Real files, in the order of their paths; large ones are left out where the mean size would grow too much."""
    count, total = 0, 0
    for root in roots:
        for base, directories, names in os.walk(root):
            directories.sort()
            for name in sorted(names):
                path = Path(base, name)
                try:
                    info = path.lstat()
                    if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST_SMALL:
                        continue
                    if info.st_size > 8192 and total > count * SMALL_BYTES / FILES + 4 * MIB:
                        continue
                    data = path.read_bytes()
                except OSError:
                    continue  # unreadable or gone: not needed
                if count >= FILES * scale:
                    return
                count, total = count + 1, total + len(data)
                yield str(path).lstrip("/"), data, stat.S_IMODE(info.st_mode) | 0o600


def make_small(root: Path, scale: float, seed: int, roots: list[Path]) -> None:
    """Makes the tree of small files, symbolic links and an empty directory."""
    made: set[Path] = set()
    for number, (name, data, mode) in enumerate(found_files(roots, scale) if roots else made_files(scale, seed)):
        path = root / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        write_file(path, data, mode=mode, mtime_ns=EPOCH + number * 61_000_000_007)
    for number in range(max(1, int(200 * scale))):
        (root / f"link{number:04d}").symlink_to(f"target/{number}")
    (root / "empty").mkdir()
    settle(root)


def settle(root: Path) -> None:
    """Sets the times of directories and links, which depend on the clock otherwise."""
    for base, _directories, names in os.walk(root, topdown=False):
        for name in names:
            if os.path.islink(os.path.join(base, name)):
                os.utime(os.path.join(base, name), ns=(EPOCH, EPOCH), follow_symlinks=False)
        os.utime(base, ns=(EPOCH, EPOCH))


def write_random(out: BinaryIO, size: int, rng: random.Random, _corpus: Corpus) -> None:
    """Nothing to compress, nothing twice."""
    for start in range(0, size, MIB):
        out.write(rng.randbytes(min(MIB, size - start)))


def write_log(out: BinaryIO, size: int, rng: random.Random, corpus: Corpus) -> None:
    """Log lines in the order of time."""
    for block in corpus.log(rng, size):
        out.write(block)


def write_image(out: BinaryIO, size: int, rng: random.Random, corpus: Corpus) -> None:
    """A disk: areas of 64 KiB to 4 MiB with zeros, text, records, noise, and copies of earlier areas."""
    earlier: list[bytes] = []
    while size > 0:
        length = min(size, rng.randrange(16, 1024) * BLOCK)
        kind = rng.choices(("zero", "copy", "text", "random", "records"), (33, 12, 30, 12, 13))[0]
        if kind == "copy" and earlier:
            data = rng.choice(earlier)[:length]
        elif kind == "random":
            data = rng.randbytes(length)
        elif kind == "records":
            data = corpus.records(rng, length)
        elif kind == "text":
            data = corpus.kinds["code"].text(rng, length)
        else:
            data = bytes(length)
        if kind not in ("zero", "copy") and len(earlier) < 32:
            earlier.append(data)
        out.write(data)
        size -= len(data)


def write_database(out: BinaryIO, size: int, rng: random.Random, corpus: Corpus) -> None:
    """Pages one after the other."""
    for number in range(size // PAGE):
        out.write(corpus.page(rng, number, number * 17))


WRITERS: dict[str, Callable[[BinaryIO, int, random.Random, Corpus], None]] = {
    "random.bin": write_random,
    "app.log": write_log,
    "disk.img": write_image,
    "table.db": write_database,
}


def make_large(root: Path, scale: float, seed: int) -> None:
    """Makes the four large files."""
    root.mkdir(parents=True)
    corpus, size = Corpus(seed), max(1, int(LARGE_MIB * scale)) * MIB
    for name, writer in WRITERS.items():
        with (root / name).open("wb", buffering=MIB) as out:
            writer(out, size, random.Random(f"{seed}:{name}"), corpus)
        os.utime(root / name, ns=(EPOCH, EPOCH))
    settle(root)


def mutate_small(root: Path, generation: int, seed: int) -> None:
    """Edits 0.5 % of the files, touches, renames, deletes, adds and changes the mode of some more."""
    rng = random.Random(f"{seed}:small:{generation}")
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    rng.shuffle(paths)
    left, total = iter(paths), len(paths)
    when = EPOCH + generation * 86_400 * 10**9
    touched: set[Path] = set()

    def some(share: float) -> Iterator[Path]:
        return itertools.islice(left, max(1, int(total * share)))

    for how, share in (("append", 0.002), ("insert", 0.002), ("overwrite", 0.001)):
        for path in some(share):
            data, note = path.read_bytes(), f"\n# generation {generation}: {rng.random()}\n".encode()
            at = len(data) if how == "append" else rng.randrange(len(data) + 1)
            rest = data[at + len(note) :] if how == "overwrite" else data[at:]
            write_file(path, data[:at] + note + rest, mode=stat.S_IMODE(path.stat().st_mode), mtime_ns=when)
    for path in some(0.0015):
        os.utime(path, ns=(when, when))
    for path in some(0.0015):
        path.rename(path.with_name(f"{path.name}.moved{generation}"))
        touched.add(path.parent)
    for path in some(0.001):
        path.unlink()
        touched.add(path.parent)
    for path in some(0.001):
        data = f"# new in {generation}: {rng.random()}\n".encode() + path.read_bytes()
        write_file(path.with_name(f"{path.name}.new{generation}"), data, mode=0o644, mtime_ns=when)
        touched.add(path.parent)
    for path in some(0.0002):
        path.chmod(0o640)
    for directory in touched:
        os.utime(directory, ns=(when, when))


def insert_bytes(path: Path, inserts: list[tuple[int, bytes]]) -> None:
    """Writes the file anew with bytes inserted at given offsets of the old one."""
    other = path.with_name(f"{path.name}.tmp")
    with path.open("rb") as old, other.open("wb") as new:
        for offset, data in sorted(inserts):
            while block := old.read(min(MIB, offset - old.tell())):
                new.write(block)
            new.write(data)
        while block := old.read(MIB):
            new.write(block)
    other.replace(path)


def mutate_large(root: Path, generation: int, seed: int) -> None:
    """Overwrites and inserts; a longer log; 1 % of the image's blocks, in runs; 1 % of the pages and some new ones."""
    rng, corpus = random.Random(f"{seed}:large:{generation}"), Corpus(seed)
    noise, log, image, table = (root / name for name in WRITERS)
    size = noise.stat().st_size
    with noise.open("r+b") as out:
        for _ in range(max(1, size // (13 * MIB))):
            out.seek(rng.randrange(size - 65536))
            out.write(rng.randbytes(65536))
    insert_bytes(noise, [(rng.randrange(size), rng.randbytes(rng.randrange(1, 5000))) for _ in range(4)])
    with log.open("ab") as out:
        for block in corpus.log(rng, log.stat().st_size // 100, clock=generation * 10**9):
            out.write(block)
    with image.open("r+b") as out:
        blocks = image.stat().st_size // BLOCK
        left = max(1, blocks // 100)
        while left > 0:
            run = min(left, rng.choice((1, 1, 2, 4, 16, 64)))
            out.seek(rng.randrange(blocks - run) * BLOCK)
            half = run * BLOCK // 2
            out.write(corpus.kinds["code"].text(rng, half) + rng.randbytes(run * BLOCK - half))
            left -= run
    with table.open("r+b") as out:
        pages = table.stat().st_size // PAGE
        for _ in range(max(1, pages // 100)):
            number = rng.randrange(pages)
            out.seek(number * PAGE)
            page = bytearray(out.read(PAGE))
            page[:8] = (pages * 17 + generation * 1000 + number).to_bytes(8, "little")
            page[-12:] = rng.randbytes(12)
            out.seek(number * PAGE)
            out.write(page)
        out.seek(0, os.SEEK_END)
        for number in range(pages, pages + max(1, pages // 500)):
            out.write(corpus.page(rng, number, number * 17 + generation))
    when = EPOCH + generation * 86_400 * 10**9
    for path in (noise, log, image, table, root):
        os.utime(path, ns=(when, when))


def mutate(root: Path, name: str, generation: int, seed: int = 1) -> None:
    """Changes about 1 % of a set in place."""
    (mutate_small if name == "small" else mutate_large)(root / name, generation, seed)


def make(root: Path, name: str, scale: float = 1.0, seed: int = 1, roots: list[Path] | None = None) -> None:
    """Makes a set below ``root``; it must not be there yet."""
    if (root / name).exists():
        raise FileExistsError(f"{root / name} exists already")
    if name == "small":
        make_small(root / name, scale, seed, roots or [])
    else:
        make_large(root / name, scale, seed)


def walk(root: bytes) -> Iterator[os.DirEntry[bytes]]:
    """Everything below a directory, each directory before what it holds, in the order of names."""
    with os.scandir(root) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)


def digest(root: Path) -> str:
    """One hash over names, types, modes, times and content below ``root``; of the root itself, nothing."""
    total, top = hashlib.blake2b(digest_size=16), os.fsencode(root)
    for entry in walk(top):
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            content = os.readlink(entry.path)
        elif stat.S_ISREG(info.st_mode):
            with open(entry.path, "rb") as source:
                content = hashlib.file_digest(source, "sha256").digest()
        else:
            content = b""
        facts = f"\0{info.st_mode:o} {info.st_mtime_ns}\0".encode()
        total.update(entry.path[len(top) :] + facts + len(content).to_bytes(4, "big") + content)
    return total.hexdigest()


def show(root: Path) -> str:
    """Files, directories, bytes and a histogram of sizes."""
    infos = [entry.stat(follow_symlinks=False) for entry in walk(os.fsencode(root))]
    sizes = [info.st_size for info in infos if stat.S_ISREG(info.st_mode)]
    folders = sum(stat.S_ISDIR(info.st_mode) for info in infos)
    bounds = (512, 2048, 8192, 32768, 131072)
    histogram = ", ".join(f"{sum(size < bound for size in sizes)} below {bound}" for bound in bounds)
    return f"{len(sizes)} files ({histogram}), {folders} directories, {sum(sizes) / 1e6:.1f} MB"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("make", "mutate", "digest", "show"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--sets", default="small,large")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--generation", type=int, default=1)
    parser.add_argument("--from", dest="roots", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    started = time.perf_counter()
    if options.action in ("digest", "show"):
        print(digest(options.root) if options.action == "digest" else show(options.root))
    else:
        for name in options.sets.split(","):
            if options.action == "make":
                make(options.root, name, options.scale, options.seed, options.roots)
            else:
                mutate(options.root, name, options.generation, options.seed)
            print(f"{name}: {show(options.root / name)}")
    print(f"{options.action}: {time.perf_counter() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
