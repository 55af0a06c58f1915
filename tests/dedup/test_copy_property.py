"""Whatever happens to a tree between backups, and whichever of them are copied: the copies are the same."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

from dedup.two import CHEAP, PASSWORD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees import compare

from freezer_sdk import CopyOutcome, Entry, Freezer
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.memory import MemoryStorage

NAMES = st.sampled_from(["a", "b", "c", "dir", "dir/a", "dir/b", "dir/deep", "dir/deep/a", "other", "other/x"])
SIZES = st.sampled_from([0, 1, 5_000, 65_536, 65_537, 300_000])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, SIZES),
    st.tuples(st.just("patch"), NAMES, SIZES),
    st.tuples(st.just("sparse"), NAMES, SIZES),
    st.tuples(st.just("link"), NAMES, NAMES),
    st.tuples(st.just("symlink"), NAMES, NAMES),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.just("chmod"), NAMES, st.sampled_from([0o600, 0o755])),
    st.tuples(st.just("remove"), NAMES, st.none()),
    st.tuples(st.just("backup"), st.booleans(), st.none()),  # and whether the targets get a copy at once
)


def apply(root: Path, rng: random.Random, action: str, name: str, value: object) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and action in ("write", "sparse", "patch", "chmod"):
        path.unlink()
    if action == "write" and not path.is_dir() and isinstance(value, int):
        path.write_bytes(rng.randbytes(value))
    elif action == "patch" and path.is_file() and isinstance(value, int):
        with path.open("r+b") as file:
            file.seek(min(value, path.stat().st_size))
            file.write(b"patched")
    elif action == "sparse" and not path.is_dir() and isinstance(value, int):
        with path.open("wb") as file:
            file.seek(1 << 20)
            file.write(rng.randbytes(value))
            file.truncate((2 << 20) + value)
    elif action == "chmod" and path.is_file() and isinstance(value, int):
        path.chmod(value)
    elif action == "remove" and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif action == "remove":
        path.unlink(missing_ok=True)
    elif isinstance(value, str) and not os.path.lexists(root / value) and (root / value).parent.is_dir():
        move(action, root, name, value)


def move(action: str, root: Path, name: str, value: str) -> None:
    path = root / name
    if action == "link" and path.is_file() and not path.is_symlink():
        os.link(path, root / value)
    elif action == "symlink":
        os.symlink(name, root / value)
    elif action == "rename" and os.path.lexists(path) and not value.startswith(name + "/"):
        path.rename(root / value)


def entries(freezer: Freezer, backup: str) -> list[Entry]:
    return [dataclasses.replace(entry, content=None) for entry in freezer.entries(backup)]


def contents(freezer: Freezer, backup: str) -> dict[bytes, bytes]:
    found = {}
    for entry in freezer.entries(backup):
        if entry.type == "file":
            with freezer.open(backup, entry.path) as reader:
                found[entry.path] = reader.read()
    return found


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=3, max_size=25), seed=st.integers(0, 1 << 32))
def test_copies_are_the_same(steps: list[tuple[str, object, object]], seed: int) -> None:
    rng = random.Random(seed)
    first = MemoryStorage()
    model = create_repository(first, password=PASSWORD, kdf=CHEAP)
    with tempfile.TemporaryDirectory() as folder, Freezer(first, password=PASSWORD) as source:
        targets = []
        for password, like in ((PASSWORD, model), (PASSWORD, None), (None, None)):
            storage = MemoryStorage()
            create_repository(storage, password=password, kdf=CHEAP, like=like)
            targets.append(Freezer(storage, password=password))
        root = Path(folder) / "root"
        root.mkdir()
        for action, name, value in [*steps, ("backup", True, None)]:
            if action != "backup":
                with contextlib.suppress(OSError):  # a file in the place of a folder: then nothing happens
                    apply(root, rng, action, str(name), value)
                continue
            time.sleep(0.03)  # a tick of the clock
            source.backup(root, name="r")
            if name:
                for target in targets:
                    assert {result.outcome for result in target.copy(source)} <= {
                        CopyOutcome.COPIED,
                        CopyOutcome.PRESENT,
                    }
        check(source, targets, root, Path(folder))
        for target in targets:
            target.close()


def check(source: Freezer, targets: list[Freezer], root: Path, folder: Path) -> None:
    made = source.backups()
    for number, target in enumerate(targets):
        assert target.backups() == made
        for backup in made:
            assert entries(target, backup.id) == entries(source, backup.id)
            assert contents(target, backup.id) == contents(source, backup.id)
        found = target.verify(read_data=True)
        assert found.ok, found.problems
        target.restore(made[-1].id, folder / f"out{number}")
        compare(root, folder / f"out{number}")
