"""Makes golden repositories: small ones of every kind, which later versions must read for ever.

``python tests/golden/make.py`` writes those of the present format version below ``tests/golden/``, as root and once
for each version; it refuses to change what is there. ``--add NAME`` adds one to them when the format has got something
that older readers pass over. Each is NAME.tar.gz with the stored objects and NAME.json with
its passwords and what every backup must give.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden.manifest import Manifest, take

from freezer_sdk import Freezer
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.drill_model import drill_document
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot, reload
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.storages.local import LocalStorage

PASSWORD = "Golden \u00e9\u00e8 password"
COSTS = Argon2Params(memory=1024, time=2, lanes=2)
MOMENT = 1_767_323_045_678_901_234
LIMIT = 300_000
UNCOUNTED = ("reserve",)
"""Folders that say nothing about the format and are left out."""


class Golden:
    """One repository while it is made."""

    def __init__(self, base: Path, password: str | None) -> None:
        self.repository, self.source = base / "repository", base / "source"
        self.passwords: list[str | None] = [password]
        self.backups: dict[str, dict[str, Any]] = {}
        self.drills: list[dict[str, Any]] = []
        self.storage = LocalStorage(path=str(self.repository))
        create_repository(self.storage, password=password, kdf=COSTS)

    def back_up(self, *, name: str = "golden", **options: Any) -> str:
        """Stores the source, and notes what it is."""
        with self.open(**options) as freezer:
            backup = freezer.backup(self.source, name=name, host="golden", mode_options={"sync": False})
        self.backups[backup.id] = {"status": str(backup.status), "entries": take(self.source)}
        return backup.id

    @contextmanager
    def open(self, password: str | None = None, **options: Any) -> Iterator[Freezer]:
        """The repository, by its first password or by another."""
        known, options = password or self.passwords[0], {"reserve": 0, **options}
        with Freezer(f"local:{self.repository}", password=known, engine_options=options) as freezer:
            yield freezer

    def age(self) -> None:
        """Lets three days pass: by the clock of the storage all objects are older."""
        for path in self.repository.rglob("*"):
            os.utime(path, (path.stat().st_mtime - 3 * 86400,) * 2)


def encrypted(golden: Golden) -> None:
    """Every kind of entry, three generations of them, one forgotten, one held; a record of what was checked."""
    make_tree(golden.source)
    held = golden.back_up()
    change_tree(golden.source)
    forgotten = golden.back_up()
    (golden.source / "small").write_bytes(b"changed twice")
    golden.back_up(compression="none")
    with golden.open() as freezer:
        freezer.forget(forgotten)
        freezer.retention.hold(held, reason="golden")
        freezer.maintenance.check(read_data=True)
    golden.backups[forgotten]["status"] = "forgotten"


def unencrypted(golden: Golden) -> None:
    """A repository without encryption, a large directory, a long list of ids."""
    golden.source.mkdir()
    make_many(golden.source)
    make_long(golden.source)
    settle(golden.source)
    golden.back_up()


def compressors(golden: Golden) -> None:
    """Data of every built-in compressor."""
    golden.source.mkdir()
    for number, name in enumerate(("none", "zstd", "zlib", "bzip2", "xz")):
        (golden.source / f"for-{name}").write_bytes(b"".join(b"%d %d\n" % (number, line) for line in range(2000)))
        settle(golden.source)
        golden.back_up(compression=name)


def keys(golden: Golden) -> None:
    """Two epochs: a recovery key, a changed password, roles; a maintainer who was removed, and had forgotten one."""
    golden.source.mkdir()
    (golden.source / "first").write_bytes(b"of the first epoch\n" * 100)
    settle(golden.source)
    forgotten = golden.back_up()
    golden.back_up()
    ring = open_repository(golden.storage, lambda: PASSWORD)
    owner = set(Role)
    for password, roles in (("a reader", {Role.READER}), ("a writer", {Role.WRITER}), ("removed", owner)):
        add_slot(golden.storage, ring, password=password, label=password, roles=roles, hosts=["golden"], kdf=COSTS)
        ring = reload(golden.storage, ring)
    with golden.open(password="removed") as freezer:
        freezer.forget(forgotten)
    golden.backups[forgotten]["status"] = "forgotten"
    with golden.open() as freezer:
        freezer.keys.remove("removed")
        recovery = freezer.keys.recovery_key()
        freezer.keys.change_password("changed " + PASSWORD)
    golden.passwords = ["changed " + PASSWORD, "a reader", recovery.text.lower()]
    (golden.source / "second").write_bytes(b"of the second epoch\n" * 100)
    settle(golden.source)
    golden.back_up()


def pruned(golden: Golden) -> None:
    """What prune leaves: a forgotten backup removed, packs written anew, one index, a backup that came too late."""
    golden.source.mkdir()
    for number in range(6):
        (golden.source / f"kept-{number}").write_bytes(b"%d kept\n" % number * 2000)
        (golden.source / f"gone-{number}").write_bytes(random.Random(number).randbytes(4000))
    settle(golden.source)
    forgotten = golden.back_up()
    for path in golden.source.glob("gone-*"):
        path.unlink()
    settle(golden.source)
    golden.back_up()
    (golden.source / "late").write_bytes(b"late")
    settle(golden.source)
    late = golden.back_up()
    (commit,) = (golden.repository / "backups").glob(f"*-{late}")
    kept = commit.read_bytes()
    commit.unlink()
    with golden.open() as freezer:
        freezer.forget(forgotten)
    for _ in ("mark", "sweep"):
        golden.age()
        with golden.open() as freezer:
            freezer.maintenance.prune(forget_missing=True, max_waste=0)
    commit.write_bytes(kept)
    del golden.backups[forgotten]
    golden.backups[late] |= {"status": "void", "entries": {}}


def drilled(golden: Golden) -> None:
    """Records of restore drills: of one that passed, and of one that did not."""
    golden.source.mkdir()
    (golden.source / "file").write_bytes(b"drilled\n" * 100)
    settle(golden.source)
    golden.back_up()
    with golden.open() as freezer:
        service = freezer._opened().drills()
        passed = replace(freezer.drills.run(name="golden", host="golden", record=False), drilled_on="golden")
        service.write(passed)
        failed = replace(
            passed, id="0f" * 16, passed=False, verifier=None, error="caf\u00e9 \udcff", error_code="restore"
        )
        service.write(replace(failed, sample=0.25, started=passed.started + timedelta(hours=1)))
        golden.drills = [drill_document(drill) for drill in freezer.drills.log().drills]


MAKERS: dict[str, tuple[Callable[[Golden], None], str | None]] = {
    "encrypted": (encrypted, PASSWORD),
    "unencrypted": (unencrypted, None),
    "compressors": (compressors, None),
    "keys": (keys, PASSWORD),
    "pruned": (pruned, None),
    "drilled": (drilled, PASSWORD),
}


def make_tree(root: Path) -> None:
    """Files, links, special files, attributes, odd names."""
    (root / "folder" / "empty").mkdir(parents=True)
    (root / "small").write_bytes(b"small\n")
    (root / "empty").touch()
    (root / "folder" / "medium").write_bytes(bytes(range(256)) * 300)
    for name in (b"blank name", b"new\nline", b"\xff\xfe not utf-8", "\u00fc-\u65e5\u672c".encode(), b"n" * 255, b"-x"):
        Path(os.fsdecode(os.fsencode(root) + b"/folder/" + name)).write_bytes(name)
    os.link(root / "small", root / "folder" / "another name")
    os.symlink("../small", root / "folder" / "link")
    os.symlink(os.fsdecode(b"\xff nowhere"), root / "dangling")
    os.mkfifo(root / "fifo")
    with open(root / "sparse", "wb") as file:
        file.truncate((5 << 20) + 7)
        os.pwrite(file.fileno(), b"data" * 2000, 1 << 20)
        os.pwrite(file.fileno(), b"more" * 2000, 3 << 20)
    os.setxattr(root / "small", "user.comment", b"kept\0\xff")
    os.setxattr(root / "folder", "user.empty", b"")
    if shutil.which("setfacl"):
        subprocess.run(["setfacl", "-m", "u:12345:rwx,d:u:12345:r-x", root / "folder" / "empty"], check=True)
    if os.geteuid() == 0:
        os.mknod(root / "null", 0o20666, os.makedev(1, 3))
        os.chown(root / "folder" / "medium", 1000, 100)
    os.chmod(root / "small", 0o4755)
    os.chmod(root / "folder", 0o1750)
    settle(root)


def change_tree(root: Path) -> None:
    """The next generation."""
    (root / "small").write_bytes(b"changed\n")
    (root / "folder" / "medium").unlink()
    (root / "new").write_bytes(b"new" * 40_000)
    settle(root)


def make_many(root: Path) -> None:
    """A directory that is cut into pages: several names say so by their CRC-32."""
    (root / "many").mkdir()
    cuts = [name for name in (f"cut-{number}" for number in range(6000)) if zlib.crc32(name.encode()) % 1024 == 0]
    for name in [*cuts, *(f"file-{number:04}" for number in range(260))]:
        (root / "many" / name).touch()


def make_long(root: Path) -> None:
    """A file of more than eight chunks, which compress well."""
    block = b"%08d" + b"." * 4088
    (root / "long").write_bytes(b"".join(block % number for number in range(800)))


def settle(root: Path) -> None:
    """One time for everything: nothing is racy, and metadata compress."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in [*folders, *files]:
            os.utime(os.path.join(folder, name), ns=(MOMENT, MOMENT), follow_symlinks=False)
    os.utime(root, ns=(MOMENT, MOMENT))


def version() -> int:
    """The format version that the library writes."""
    with tempfile.TemporaryDirectory() as folder:
        golden = Golden(Path(folder), None)
        line = (golden.repository / "config" / "00000001").read_bytes().partition(b"\n")[0]
        return int(json.loads(line)["version"])


def pack(repository: Path, archive: Path) -> None:
    """The stored objects, in an archive without anything of this machine."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if info.name.partition("/")[0] in (*UNCOUNTED, ".freezer-tmp"):
            return None
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        info.mode = 0o755 if info.isdir() else 0o644
        return info

    with tarfile.open(archive, "w:gz") as tar:
        for name in sorted(os.listdir(repository)):
            tar.add(repository / name, arcname=name, filter=plain)


def make(out: Path, names: Iterable[str]) -> int:
    """Makes repositories; gives the bytes that all take."""
    out.mkdir(parents=True, exist_ok=True)
    number = version()
    for name in names:
        maker, password = MAKERS[name]
        with tempfile.TemporaryDirectory() as folder:
            golden = Golden(Path(folder), password)
            maker(golden)
            pack(golden.repository, out / f"{name}.tar.gz")
        about = {"version": number, "about": maker.__doc__, "passwords": golden.passwords, "backups": golden.backups}
        if golden.drills:
            about["drills"] = golden.drills
        text = json.dumps(shared(about))  # in order: each backup says what has changed since the one before
        (out / f"{name}.json").write_text(text + "\n")
    size = sum(path.stat().st_size for path in out.iterdir())
    if size > LIMIT:
        raise SystemExit(f"{size} bytes are too much for a repository of source code: {LIMIT} at most")
    return size


def shared(about: dict[str, Any]) -> dict[str, Any]:
    """Entries that do not change from one backup to the next are written once."""
    before: Manifest = {}
    for backup in about["backups"].values():
        entries: Manifest = backup.pop("entries")
        backup["changed"] = {path: entry for path, entry in entries.items() if before.get(path) != entry}
        backup["gone"] = [path for path in before if path not in entries]
        before = entries
    return about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a new folder; by default the one of the present format version")
    parser.add_argument("--add", metavar="NAME", choices=list(MAKERS), help="one more, beside those that are there")
    parsed = parser.parse_args()
    out = parsed.out or Path(__file__).parent / f"v{version()}"
    there = out / f"{parsed.add}.json" if parsed.add else out
    if there.exists():
        raise SystemExit(f"{there} exists: golden repositories are made once")
    if os.geteuid() != 0:
        raise SystemExit("only root can make all kinds of entries")
    print(f"{make(out, [parsed.add] if parsed.add else MAKERS):,} bytes in {out}")


if __name__ == "__main__":
    main()
