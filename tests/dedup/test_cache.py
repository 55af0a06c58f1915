"""The local cache: what was read once is not fetched again, and nothing depends on it."""

from __future__ import annotations

import dataclasses
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from freezer_sdk import Event, Freezer, Problem
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.cache import LocalCache
from freezer_sdk.engines.dedup.keyholders import reconfigure
from freezer_sdk.storages.base import Capabilities, ObjectInfo
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import FaultyStorage, damage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
KEPT = ("index/", "meta/")


class Remote(FaultyStorage):
    """A storage across a network that counts its calls."""

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities, remote=True)

    def fetched(self, *prefixes: str) -> list[str]:
        return [call.name for call in self.calls if call.method in ("get", "open") and call.name.startswith(prefixes)]


@pytest.fixture
def store() -> MemoryStorage:
    storage = MemoryStorage()
    create_repository(storage, password="p", kdf=CHEAP)
    return storage


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "freezer"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = random.Random(1)
    for number in range(400):
        path = tmp_path / "source" / f"d{number % 40}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(200))
    time.sleep(0.1)  # older than what counts as racy
    return tmp_path / "source"


def session(store: MemoryStorage, cache: Path | str, **options: Any) -> tuple[Remote, Freezer]:
    """As another process would: nothing is shared but the folder and the storage."""
    remote = Remote(store)
    return remote, Freezer(remote, password="p", engine_options={"cache": str(cache), **options})


def paths_of(store: MemoryStorage, cache: Path | str, **options: Any) -> tuple[list[bytes], list[str]]:
    """Entries of the last backup, and what was fetched for them."""
    remote, freezer = session(store, cache, **options)
    with freezer:
        (*_, backup) = freezer.backups()
        found = [entry.path for entry in freezer.entries(backup.id)]
    return found, remote.fetched(*KEPT)


def cached(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file() and len(path.name) == 64)


@pytest.fixture
def wanted(store: MemoryStorage, cache: Path, source: Path) -> list[bytes]:
    """Entries of a backup that was made and read once."""
    with session(store, cache)[1] as freezer:
        freezer.backup(source, name="t")
    found, fetched = paths_of(store, cache)
    assert len(found) == 441
    assert len(fetched) == len(set(fetched)) == 2
    return found


def test_what_was_read_once_is_not_fetched_again(store: MemoryStorage, cache: Path, wanted: list[bytes]) -> None:
    assert paths_of(store, cache) == (wanted, [])


def test_an_unchanged_run_fetches_nothing_that_is_known(
    store: MemoryStorage, cache: Path, source: Path, wanted: list[bytes]
) -> None:
    remote, freezer = session(store, cache)
    with freezer:
        backup = freezer.backup(source, name="t")
    assert backup.stats.unmodified_files == 400
    assert backup.problems == ()
    assert remote.fetched(*KEPT, "packs/") == []


def test_it_holds_what_the_storage_holds(store: MemoryStorage, cache: Path, wanted: list[bytes]) -> None:
    (folder,) = cache.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    for path in cached(cache):
        assert path.read_bytes() == store.get(str(path.relative_to(folder)))
    assert {str(path.relative_to(folder)) for path in cached(cache)} == {
        info.name for prefix in KEPT for info in store.list(prefix)
    }


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_suffix(".away").name)


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink, replace_by_folder, replace_by_fifo, replace_by_link])
def test_harm_costs_time_only(store: MemoryStorage, cache: Path, wanted: list[bytes], harm: Any) -> None:
    for path in cached(cache):
        harm(path)
        found, fetched = paths_of(store, cache)
        assert found == wanted
        assert fetched
    for path in cached(cache):
        assert path.read_bytes() == store.get(str(path.relative_to(next(cache.iterdir()))))


def test_harm_while_it_is_in_use_costs_time_only(store: MemoryStorage, cache: Path, wanted: list[bytes]) -> None:
    remote, freezer = session(store, cache)
    with freezer:
        (backup,) = freezer.backups()
        entries = freezer.entries(backup.id)
        next(entries)
        for path in cached(cache):
            flip(path)
        freezer._place.repository._reader().clear()  # type: ignore[attr-defined]
        assert len(list(entries)) == 440
    assert remote.fetched("meta/")


def test_a_cache_that_cannot_be_written_is_none(
    store: MemoryStorage, tmp_path: Path, source: Path, wanted: list[bytes]
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    for place in (file, file / "below", "-"):
        found, fetched = paths_of(store, place)
        assert found == wanted
        assert fetched
    assert file.read_text() == "in the way"


def test_a_near_storage_needs_none(store: MemoryStorage, cache: Path, source: Path) -> None:
    with Freezer(store, password="p", engine_options={"cache": str(cache)}) as freezer:
        freezer.backup(source)
        list(freezer.entries("latest"))
    assert not cache.exists()


def test_verification_looks_at_the_storage(store: MemoryStorage, cache: Path, wanted: list[bytes]) -> None:
    (pack,) = (info.name for info in store.list("meta/"))
    damage(store, pack, offset=200)
    assert paths_of(store, cache)[0] == wanted
    with session(store, cache)[1] as freezer:
        result = freezer.verify()
    assert pack in " ".join(problem.message + problem.path for problem in result.problems)
    assert not result.ok


def test_what_is_damaged_in_the_storage_is_not_kept(store: MemoryStorage, tmp_path: Path, wanted: list[bytes]) -> None:
    (pack,) = (info.name for info in store.list("meta/"))
    damage(store, pack, offset=-1)  # its trailer: every segment can be read
    other = tmp_path / "other"
    found, _fetched = paths_of(store, other)
    assert found == wanted
    assert [path.parent.name for path in cached(other)] == ["index"]


def test_it_is_bounded_and_the_last_used_stays(tmp_path: Path) -> None:
    import hashlib

    storage, names = MemoryStorage(), []
    for number in range(12):
        data = random.Random(number).randbytes(100_000)
        digest = hashlib.sha256(data).hexdigest()
        names.append(f"meta/{digest[:2]}/{digest}")
        storage.put(names[-1], [data])
    old = tmp_path / ("ab" * 16) / "index" / ("cd" * 32)
    old.parent.mkdir(parents=True)
    old.write_bytes(b"x" * 100_000)
    os.utime(old, (1000, 1000))
    strange = [tmp_path / "photos" / "index" / ("ef" * 32), tmp_path / "letter"]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not ours")
        os.utime(path, (1, 1))
    leftover = old.with_name(".0123.tmp")
    leftover.write_bytes(b"of a killed run")
    os.utime(leftover, (1000, 1000))
    for number, name in enumerate(names):
        cache = LocalCache(tmp_path, b"\x01" * 16, storage, limit=500_000)
        assert cache.get(name, offset=10, length=5) == storage.get(name, offset=10, length=5)
        os.utime(cache.folder / name, (2000 + number, 2000 + number))
        assert cache.get(names[0], length=3) == storage.get(names[0], length=3)
        assert sum(path.stat().st_size for path in cached(tmp_path) if path not in strange) <= 500_000
    assert (cache.folder / names[0]).exists()
    assert (cache.folder / names[-1]).exists()
    assert not (cache.folder / names[1]).exists()
    assert not old.exists()
    assert not leftover.exists()
    assert all(path.exists() for path in strange)
    too_large = LocalCache(tmp_path / "tiny", b"\x01" * 16, storage, limit=1000)
    assert too_large.get(names[3]) == storage.get(names[3])
    assert cached(tmp_path / "tiny") == []


def test_several_threads_fetch_once(store: MemoryStorage, cache: Path, wanted: list[bytes]) -> None:
    (pack,) = (info for info in store.list("meta/"))
    for path in cached(cache):
        path.unlink()
    remote = Remote(store)
    shared = LocalCache(cache, b"\x02" * 16, remote, limit=1 << 30)
    whole, found = store.get(pack.name), []

    def read(offset: int) -> None:
        found.append(shared.get(pack.name, offset=offset, length=50) == whole[offset : offset + 50])

    threads = [threading.Thread(target=read, args=(offset,)) for offset in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert remote.fetched("meta/") == [pack.name]


# -- a storage that was set back ---------------------------------------------------------------------------------


def copy_of(store: MemoryStorage) -> dict[str, bytes]:
    return {info.name: store.get(info.name) for info in store.list()}


def set_back(store: MemoryStorage, state: dict[str, bytes]) -> None:
    store.delete_many([info.name for info in store.list()])
    for name, data in state.items():
        store.put(name, [data])


def warned(store: MemoryStorage, cache: Path) -> list[Problem]:
    with session(store, cache)[1] as freezer:
        return [problem for problem in freezer.problems if problem.kind == "set-back"]


def test_a_storage_that_was_set_back_is_noticed(store: MemoryStorage, cache: Path, source: Path) -> None:
    with session(store, cache)[1] as freezer:
        freezer.backup(source, name="t")
        before = copy_of(store)
        lost = freezer.backup(source, name="t")
    assert warned(store, cache) == []
    set_back(store, before)
    events: list[Event] = []
    options = {"cache": str(cache)}
    for _ in range(2):  # until somebody looks into it
        with Freezer(Remote(store), password="p", engine_options=options, events=events.append) as freezer:
            (problem,) = freezer.problems
            assert (problem.kind, problem.fatal) == ("set-back", False)
            assert problem.path.endswith(lost.id)
            assert str(cache) in problem.message
            backup = freezer.backup(source, name="t")
            assert backup.problems == (problem,)
            assert backup.status == "complete"
    opened = [event.problem for event in events if event.operation == "open"]
    assert opened == [problem, problem]
    (folder,) = cache.iterdir()
    (folder / "seen.json").unlink()
    assert warned(store, cache) == []


def test_an_older_configuration_and_generation_are_noticed(store: MemoryStorage, cache: Path, source: Path) -> None:
    assert warned(store, cache) == []
    before = copy_of(store)
    keys = open_repository(store, lambda: "p")
    reconfigure(store, keys, grace=7200)
    assert warned(store, cache) == []
    protocol.write_mark(store, keys, [bytes(32)])
    with session(store, cache)[1] as freezer:
        freezer.backup(source)
    set_back(store, before)
    found = warned(store, cache)
    assert [problem.path.split("/")[0] for problem in found] == ["config", "sweeps", "backups"]
    with session(store, cache)[1] as freezer:
        backup = freezer.backup(source)
    assert backup.problems == tuple(found)


def test_what_a_sweep_removed_is_no_reason_to_warn(store: MemoryStorage, cache: Path, source: Path) -> None:
    with session(store, cache)[1] as freezer:
        freezer.backup(source)
        removed = freezer.backup(source)
    keys = open_repository(store, lambda: "p")
    (name,) = (info.name for info in store.list("backups/") if info.name.endswith(removed.id))
    alive = [info.name for info in store.list("backups/") if info.name != name]
    protocol.decide(store, keys, 1, condemned=[], alive=alive, released=[name])
    store.delete(name)
    for _ in range(2):
        assert warned(store, cache) == []
    with session(store, cache)[1] as freezer:
        assert freezer.backup(source).problems == ()


def test_a_listing_that_lags_is_no_reason_to_warn(store: MemoryStorage, cache: Path, source: Path) -> None:
    with session(store, cache)[1] as freezer:
        freezer.backup(source)

    class Lagging(Remote):
        def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
            return iter(() if prefix == "backups/" else list(super().list(prefix, delimiter=delimiter)))

    with Freezer(Lagging(store), password="p", engine_options={"cache": str(cache)}) as freezer:
        assert freezer.problems == ()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"configuration": "9", "generation": 0, "commit": ""}', "[" * 5000]
)
def test_a_damaged_memory_is_none(store: MemoryStorage, cache: Path, content: str) -> None:
    warned(store, cache)
    (folder,) = cache.iterdir()
    (folder / "seen.json").write_text(content)
    assert warned(store, cache) == []
    assert "commit" in (folder / "seen.json").read_text()


def test_the_next_backup_finds_a_lost_pack_although_the_cache_has_it(
    store: MemoryStorage, cache: Path, source: Path, wanted: list[bytes], tmp_path: Path
) -> None:
    (pack,) = (info.name for info in store.list("meta/"))
    store.delete(pack)
    time.sleep(0.05)
    with session(store, cache)[1] as freezer:
        again = freezer.backup(source, name="t", force_read=True)
        assert freezer.verify(again.id, read_data=True).ok
        freezer.restore(again.id, tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("f*"))) == 400
