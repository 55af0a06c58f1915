"""Stores that the original's agent wrote, beside the project when they are at hand, and what they must restore to."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

STORES = Path(__file__).parents[3] / "shared" / "interop"
NAMES = sorted(path.parent.name for path in STORES.glob("*/case.json"))

LOST: dict[tuple[str, int], dict[str, str]] = {
    ("rsync-odd-names", 0): {"sym_dir": "version 1 stores no links to directories"},
    ("rsync-insert", 1): {"data/blob.bin": "version 1 cannot store what an insertion moves"},
    ("rsyncv2-lost-tail", 0): {"r.bin": "the original threw the content away"},
    ("tar-single-file-space", 0): {"a b.txt": "the original stored an empty archive"},
}
"""Entries that a backup does not hold whole, and why (docs/reference/original-formats.md)."""

CHANGED: dict[tuple[str, int], dict[str, str]] = {
    ("tar-dereference-all", 0): {"data/link_to_readme": "links were followed: it is a file"},
    ("swift-tar", 0): {".": "the expectation was written down later"},
}
"""Entries that are there, and meant to differ."""

EMPTY = {"rsync-v19", "rsyncv2-broken-symlink", "rsyncv2-v19-encrypted", "tar-dereference-broken-link"}
"""Stores of runs that failed: they hold no backup."""


@dataclass(frozen=True)
class Run:
    """One backup of a store."""

    level: int
    time: int
    expect: Path

    @cached_property
    def entries(self) -> dict[bytes, dict[str, Any]]:
        return {os.fsencode(entry["path"]): entry for entry in json.loads(self.expect.read_text())}


@dataclass(frozen=True)
class Case:
    """A store with what is known of it."""

    name: str
    store: Path
    document: dict[str, Any]

    @property
    def engine(self) -> str:
        return str(self.document["engine_name_on_disk"])

    @property
    def passfile(self) -> Path | None:
        file = STORES / self.name / "passfile"
        return file if file.exists() else None

    @property
    def runs(self) -> list[Run]:
        return [
            Run(new["level"], new["timestamp"], STORES / self.name / run["expect"])
            for run in self.document["runs"]
            for new in run["new"]
        ]

    def lost(self, run: Run) -> set[str]:
        return set(LOST.get((self.name, run.level), ()))


def open_case(name: str, folder: Path) -> Case:
    """A store; that of a Swift is put together in a local folder, as a download of its objects would be."""
    document = json.loads((STORES / name / "case.json").read_text())
    store = STORES / name / "store"
    if not store.is_dir():
        store = folder / "store"
        objects = STORES / name / "objects" / document["container"]
        for source in sorted(objects.rglob("*.obj")):
            path = store / source.relative_to(objects).with_suffix("")
            if path.parent.name == "segments":  # after the empty object "data"
                with (path.parent.parent / "data").open("ab") as data:
                    data.write(source.read_bytes())
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, path)
    return Case(name, store, document)


def facts(path: bytes) -> dict[str, Any]:
    """What a manifest says of an entry."""
    st = os.lstat(path)
    found: dict[str, Any] = {"type": _type(st.st_mode), "mtime": st.st_mtime_ns // 10**9}
    if not stat.S_ISLNK(st.st_mode):
        found["mode"] = f"{stat.S_IMODE(st.st_mode):04o}"
    if os.geteuid() == 0:
        found |= {"uid": st.st_uid, "gid": st.st_gid}
    if stat.S_ISREG(st.st_mode):
        content = Path(os.fsdecode(path)).read_bytes()
        found |= {"size": st.st_size, "sha256": hashlib.sha256(content).hexdigest()}
    if stat.S_ISLNK(st.st_mode):
        found["target"] = os.readlink(path).decode()
    return found


def _type(mode: int) -> str:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
    return kinds[stat.S_IFMT(mode)]


def names_below(folder: Path) -> set[bytes]:
    """All paths below a folder, and itself."""
    base = os.fsencode(folder)
    return {b"."} | {
        os.path.relpath(os.path.join(where, name), base)
        for where, below, files in os.walk(base)
        for name in below + files
    }


def check(case: Case, run: Run, folder: Path) -> None:
    """Whether a folder is what was backed up, but for what the store does not hold."""
    lost = {os.fsencode(path) for path in case.lost(run)}
    changed = {os.fsencode(path) for path in CHANGED.get((case.name, run.level), ())}
    assert names_below(folder) == (run.entries.keys() | {b"."}) - lost
    groups: dict[str, set[int]] = {}
    for path, entry in run.entries.items():
        if path in lost or path in changed:
            continue
        if path == b"." and case.name.startswith("rsyncv2"):
            continue  # version 2 does not record the directory itself
        full = os.path.join(os.fsencode(folder), path)
        found = facts(full)
        assert found == {name: entry.get(name) for name in found}, path
        group = entry.get("hardlink_group")
        if group and case.engine == "tar":  # the rsync formats store each name as a file
            groups.setdefault(group, set()).add(os.lstat(full).st_ino)
    assert all(len(inodes) == 1 for inodes in groups.values())


needs_stores = pytest.mark.skipif(not NAMES, reason=f"no stores of the original's agent beside the project ({STORES})")
