"""Random changes of a small directory, for property tests."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from hypothesis import strategies as st

NAMES = (b"a", b"b c", b"new\nline", b"d", b"e'\"$(x)")
RAW_NAMES = (*NAMES, b"\xff\xfe")
SIZES = (0, 1, 100, 511, 512, 513, 1024, 4095, 4096, 4097, 9000)


@st.composite
def histories(draw: st.DrawFn, *, levels: int = 5, most: int = 5) -> list[list[int]]:
    """For each level the seeds of the changes before it."""
    seeds = st.lists(st.integers(0, 1 << 32), min_size=0, max_size=most)
    return [draw(seeds) for _ in range(levels)]


def change(root: Path, seed: int, *, names: tuple[bytes, ...] = RAW_NAMES, insertions: bool = True) -> None:
    """One change, the same for the same seed and directory."""
    rng = random.Random(seed)
    base = os.fsencode(root)
    directories, others = [base], []
    for where, below, files in sorted(os.walk(base)):
        directories += [os.path.join(where, name) for name in sorted(below) if not _is_link(where, name)]
        others += [os.path.join(where, name) for name in sorted(files)]
        others += [os.path.join(where, name) for name in sorted(below) if _is_link(where, name)]
    target = os.path.join(rng.choice(directories), rng.choice(names))
    regular = [path for path in others if os.path.isfile(path) and not os.path.islink(path)]
    kinds = ["create", "create", "mkdir", "symlink", "remove", "rename", "replace"]
    if regular:
        kinds += ["poke", "poke", "append", "truncate", "touch", "chmod"] + ["insert", "link"] * insertions
    kind = rng.choice(kinds)
    if kind in {"create", "mkdir", "symlink"}:
        if not os.path.lexists(target):
            _make(target, kind, rng)
    elif kind == "remove":
        everything = directories[1:] + others
        if everything:
            _remove(rng.choice(everything))
    elif kind == "rename":
        everything = directories[1:] + others
        if everything and not os.path.lexists(target):
            source = rng.choice(everything)
            if not target.startswith(source + b"/"):
                os.rename(source, target)
    elif kind == "replace":
        if os.path.lexists(target):
            _remove(target)
        _make(target, rng.choice(["create", "mkdir", "symlink"]), rng)
    else:
        _change_file(rng.choice(regular), target, kind, rng)


def _is_link(where: bytes, name: bytes) -> bool:
    return os.path.islink(os.path.join(where, name))


def _make(path: bytes, kind: str, rng: random.Random) -> None:
    if kind == "mkdir":
        os.mkdir(path)
    elif kind == "symlink":
        os.symlink(rng.choice([b".", b"nowhere", b"a", b"../b c"]), path)
    else:
        Path(os.fsdecode(path)).write_bytes(rng.randbytes(rng.choice(SIZES)))


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _change_file(path: bytes, target: bytes, kind: str, rng: random.Random) -> None:
    file = Path(os.fsdecode(path))
    data = file.read_bytes()
    at = rng.randrange(len(data) + 1)
    if kind == "poke":
        new = bytearray(data)
        new[at : at + 3] = rng.randbytes(len(new[at : at + 3]))
        file.write_bytes(new)
    elif kind == "append":
        file.write_bytes(data + rng.randbytes(rng.choice(SIZES)))
    elif kind == "truncate":
        file.write_bytes(data[: rng.choice([at, 0, 4096, 512])])
    elif kind == "insert":
        file.write_bytes(data[:at] + rng.randbytes(rng.choice([1, 14, 4096])) + data[at:])
    elif kind == "touch":
        os.utime(path, ns=(0, rng.randrange(1 << 60)))
    elif kind == "chmod":
        os.chmod(path, rng.choice([0o600, 0o644, 0o755, 0o4755]))
    elif kind == "link" and not os.path.lexists(target):
        os.link(path, target)
