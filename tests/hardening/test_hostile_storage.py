"""A storage that lies about names, and a cache folder in which somebody left things."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hardening.forge import START, Entry, Forge

from freezer_sdk import Freezer
from freezer_sdk.engines.dedup.layout import digest_of, index_name
from freezer_sdk.storages.base import Capabilities, ObjectInfo
from freezer_sdk.storages.memory import MemoryStorage

PAYLOAD = b"* * * * * root touch /tmp/owned\n"


class Liar(MemoryStorage):
    """A server that lists what it likes, and gives an answer to whatever is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.lies: dict[str, bytes] = {}
        self.asked: set[str] = set()

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, remote=True, persistent=True)

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        true = list(super().list(prefix, delimiter=delimiter))
        if delimiter is None:
            true += [
                ObjectInfo(name=name, size=len(data), modified=START)
                for name, data in self.lies.items()
                if name.startswith(prefix)
            ]
        return iter(sorted(true, key=lambda info: info.name))

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        self.asked.add(name)
        if name in self.lies:
            data = self.lies[name][offset:]
            return data if length is None else data[:length]
        return super().get(name, offset=offset, length=length)

    def open(self, name: str):  # type: ignore[no-untyped-def]
        self.asked.add(name)
        if name in self.lies:
            with MemoryStorage() as other:
                other.put("x", [self.lies[name]])
                return other.open("x")
        return super().open(name)


def test_names_that_lead_out_of_the_cache(tmp_path: Path) -> None:
    """An index is written into the cache under its name: it must be a name, and of an index."""
    storage = Liar()
    made = Forge(storage)
    backup = made.backup(Entry(b"f"))
    digest = hashlib.sha256(PAYLOAD).hexdigest()
    cache = tmp_path / "cache" / "here"
    for name in (
        f"index/../../../cron.d/{digest}",
        f"index/{tmp_path}/absolute/{digest}",
        f"index/sub/{digest}",
        f"index/./{digest}",
        f"meta/../../../../cron.d/{digest}",
        f"meta/{digest[:2]}/../../../../cron.d/{digest}",
        f"meta/00/{digest}",
        f"packs/{digest}",
    ):
        storage.lies[name] = PAYLOAD
        assert digest_of(name) is None
    options = {"cache": str(cache)}
    with Freezer(storage, engine_options=options) as freezer:
        assert [found.id for found in freezer.backups()] == [backup]
        assert len(list(freezer.entries(backup))) == 2
        freezer.stats()
        freezer.verify(read_data=True)
        freezer.restore(backup, tmp_path / "out")
    found = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert not [path for path in found if path.name == digest]
    assert all(path.is_relative_to(cache) or path.is_relative_to(tmp_path / "out") for path in found)


def test_an_index_that_a_commit_names_is_an_index() -> None:
    storage = Liar()
    made = Forge(storage)
    made.backup(Entry(b"f"), indexes=["../../etc/cron.d/" + 64 * "a"])
    with Freezer(storage) as freezer:
        assert [found.status for found in freezer.backups()] == ["damaged"]
    assert not [name for name in storage.asked if ".." in name]


@pytest.mark.parametrize(
    "name",
    [
        "backups/00010101T000000.000Z-" + 32 * "a",
        "backups/99991231T235959.999Z-" + 32 * "a",
        "backups/20261123T053216.123Z-" + 32 * "A",
        "backups/٢٠٢٦١١٢٣T053216.123Z-" + 32 * "a",
        "backups/20261399T053216.123Z-" + 32 * "a",
        "backups/",
        "backups/x\n",
        "config/٠٠٠٠٠٠٠٢",
        "config/99999999",
        "config/00000000",
        "keys/" + 64 * "0",
        "leases/" + 32 * "a" + "/00000000",
        "leases/" + 32 * "a" + "/٠٠٠٠٠٠٠٠",
        "marks/" + 32 * "a",
        "sweeps/9999999999999999/decided-" + 32 * "a",
        "sweeps/٩٩٩٩٩٩٩٩٩٩٩٩٩٩٩٩/decided-" + 32 * "a",
        "forgotten/" + 32 * "a",
        "holds/" + 32 * "a",
        "records/x",
        "packs/aa/" + 64 * "a",
        "index/" + 64 * "a",
        "meta/aa/" + 64 * "a",
    ],
)
@pytest.mark.parametrize("content", [b"", b"junk", bytes(5000)])
def test_planted_objects_hide_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    """Whoever may write to the storage and has no key can put anything under any name."""
    storage = Liar()
    made = Forge(storage)
    backup = made.backup(Entry(b"f", content=made.file(b"x"), size=1))
    storage.lies[name] = content
    with Freezer(storage) as freezer:
        assert backup in {found.id for found in freezer.backups()}
        assert freezer.restore(backup, tmp_path / "out").status == "complete"
        again = freezer.backup(tmp_path / "out", name="again")
        assert freezer.restore(again.id, tmp_path / "again").status == "complete"


# -- files in the cache --------------------------------------------------------------------------------------------


def as_directory(path: Path) -> None:
    path.mkdir()


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


def as_link(path: Path) -> None:
    victim = path.parent / "victim"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


def as_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_text(text: bytes) -> Callable[[Path], object]:
    def write(path: Path) -> object:
        return path.write_bytes(text)

    return write


NEST = b"[" * 4000
PLANTED = {
    "directory": as_directory,
    "fifo": as_fifo,
    "link": as_link,
    "loop": as_loop,
    "zero": as_zero,
    "empty": as_text(b""),
    "junk": as_text(b"\xff\x00junk"),
    "nested": as_text(NEST),
    "list": as_text(b"[1, 2]"),
    "huge": as_text(b'{"configuration": 9e999, "generation": 1, "commit": ""}'),
    "negative": as_text(b'{"configuration": -1, "generation": true, "commit": 3}'),
    "path": as_text(b'{"configuration": 1, "generation": 1, "commit": "../../etc/passwd"}'),
    "future": as_text(b'{"configuration": 9007199254740991, "generation": 9007199254740991, "commit": ""}'),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
@pytest.mark.parametrize("what", ["seen", "index", "meta"])
def test_anything_may_lie_in_the_cache(tmp_path: Path, plant: Callable[[Path], object], what: str) -> None:
    storage = Liar()
    made = Forge(storage)
    cache = tmp_path / "cache"
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_bytes(b"x" * 1000)
    options = {"cache": str(cache)}
    with Freezer(storage, engine_options=options) as freezer:
        first = freezer.backup(source, name="t")
    with Freezer(storage, engine_options=options) as freezer:
        list(freezer.entries(first.id))
    folder = cache / made.keys.repository_id.hex()
    paths = {
        "seen": [folder / "seen.json"],
        "index": sorted(folder.glob("index/*")),
        "meta": sorted(folder.glob("meta/*/*")),
    }[what]
    assert paths
    for path in paths:
        path.unlink(missing_ok=True)
        plant(path)
        victim = path.parent / "victim"
        break
    with Freezer(storage, engine_options=options) as freezer:
        assert [found.id for found in freezer.backups()] == [first.id]
        assert len(list(freezer.entries(first.id))) == 2
        assert freezer.restore(first.id, tmp_path / "out").status == "complete"
        assert freezer.backup(source, name="t").status == "complete"
    assert not victim.exists() or victim.read_bytes() == b"precious"


def test_names_of_indexes_are_exact() -> None:
    digest = secrets.token_bytes(32)
    assert digest_of(index_name(digest)) == digest
    assert digest_of(index_name(digest) + "\n") is None
    assert digest_of(index_name(digest).upper()) is None
