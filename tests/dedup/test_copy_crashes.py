"""Killed and failing copies: both repositories stay whole, and the same copy run again completes."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dedup.two import CHEAP, PASSWORD

from freezer_sdk import CopyOutcome, Freezer, StorageUnavailable
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, fail

CHILD = Path(__file__).with_name("copy_child.py")


def make_tree(base: Path, seed: int) -> Path:
    rng = random.Random(seed)
    base.mkdir(parents=True, exist_ok=True)
    for number in range(6):
        (base / f"f{seed}-{number}").write_bytes(rng.randbytes(400_000))
    time.sleep(0.1)
    return base


def fill(first: Storage, second: Storage, tree: Path, *, alike: bool) -> list[str]:
    """Two backups in the first repository; the second one has a copy of the older."""
    model = create_repository(first, password=PASSWORD, kdf=CHEAP)
    create_repository(second, password=PASSWORD, kdf=CHEAP, like=model if alike else None)
    with Freezer(first, password=PASSWORD) as source, Freezer(second, password=PASSWORD) as target:
        older = source.backup(make_tree(tree, 1), name="t")
        assert target.copy(source)[0].outcome is CopyOutcome.COPIED
        newer = source.backup(make_tree(tree, 2), name="t")
    return [older.id, newer.id]


def content(base: Path) -> dict[str, bytes]:
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}


def complete(first: Storage, second: Storage, ids: list[str], tree: Path, out: Path) -> int:
    """Runs the copy again; gives how many bytes it had to read."""
    with Freezer(first, password=PASSWORD) as source, Freezer(second, password=PASSWORD) as target:
        assert [backup.id for backup in source.backups()] == ids
        assert ids[0] in {backup.id for backup in target.backups()}
        found = target.verify(read_data=True)
        assert found.ok, found.problems
        results = target.copy(source)
        assert all(result.outcome in (CopyOutcome.PRESENT, CopyOutcome.COPIED) for result in results)
        assert [backup.id for backup in target.backups()] == ids
        found = target.verify(read_data=True)
        assert found.ok, found.problems
        shutil.rmtree(out, ignore_errors=True)
        target.restore(ids[1], out)
        assert content(out) == content(tree)
        return results[1].read_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("alike", "when"), [(True, "before"), (False, "after")])
def test_killed_at_every_call_of_the_target(tmp_path: Path, when: str, *, alike: bool) -> None:
    base = tmp_path
    with LocalStorage(path=str(base / "source")) as first, LocalStorage(path=str(base / "start")) as second:
        ids = fill(first, second, base / "tree", alike=alike)
    number = saved = 0
    ended = False
    while not ended:
        number += 1
        target = base / "target"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(base / "start", target)
        command = [sys.executable, str(CHILD), str(base / "source"), str(target), "target", str(number), when]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        ended = run.returncode == 0
        assert ended or run.returncode == -signal.SIGKILL, run.stderr
        with LocalStorage(path=str(base / "source")) as first, LocalStorage(path=str(target)) as second:
            saved += complete(first, second, ids, base / "tree", base / "out") < 2_400_000 and not ended
        assert number < 200
    assert number > 15
    assert saved > 2, "nothing that a killed copy had stored was used again"


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("which", ["source", "target"])
def test_a_storage_fails_at_every_call(tmp_path: Path, which: str, *, alike: bool) -> None:
    first, begin = MemoryStorage(), MemoryStorage()
    ids = fill(first, begin, tmp_path / "tree", alike=alike)
    number, failed = 0, True
    while failed:
        number += 1
        second = clone(begin)
        fault = Fault(fail(StorageUnavailable("the cable is cut")), at=number, times=None)
        faulty = {
            "source": first,
            "target": second,
            which: FaultyStorage({"source": first, "target": second}[which], fault),
        }
        try:
            with (
                Freezer(faulty["source"], password=PASSWORD) as source,
                Freezer(faulty["target"], password=PASSWORD) as target,
            ):
                target.copy(source)
            failed = False
        except StorageUnavailable:
            pass
        complete(first, second, ids, tmp_path / "tree", tmp_path / "out")
        assert number < 200
    assert number > 8


def clone(storage: MemoryStorage) -> MemoryStorage:
    new = MemoryStorage()
    for info in storage.list():
        new.put(info.name, [storage.get(info.name)])
    assert open_repository(new, lambda: PASSWORD).encrypted
    return new
