"""Chains of real tar streams with damage anywhere: what comes back is right, what does not is named."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from freezer_sdk import Freezer
from freezer_sdk.errors import FreezerError, WrongPassword
from freezer_sdk.model import Overwrite, RestoreResult, Status
from freezer_sdk.storages.memory import MemoryStorage

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")

CIPHERS = [None, "openssl", "sealed"]
Tree = dict[str, bytes]


class Made(NamedTuple):
    """A store, and what each of its levels must give."""

    objects: dict[str, bytes]
    trees: list[Tree]
    password: str | None
    sealed: bool


def tree_of(path: Path) -> Tree:
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in path.rglob("*")
        if each.is_file() and not each.is_symlink()
    }


@pytest.fixture(scope="module", params=CIPHERS, ids=str)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    cipher = request.param
    noise = random.Random(5)
    source = tmp_path_factory.mktemp("source")
    storage, trees = MemoryStorage(), []
    options = {"max_level": 5, **({"cipher": cipher} if cipher else {})}
    password = "password" if cipher else None
    with Freezer.create(
        storage, engine="tar", password=password, encryption=cipher is not None, engine_options=options
    ) as freezer:
        for level in range(3):
            for name in ("a", "b", "d/c", "d/e/f", f"new-{level}"):
                if level == 0 or noise.random() < 0.5 or name.startswith("new"):
                    (source / name).parent.mkdir(parents=True, exist_ok=True)
                    (source / name).write_bytes(noise.randbytes(30_000))
                    os.utime(source / name, (1_600_000_000 + level, 1_600_000_000 + level))
            if level == 1:
                (source / "d").rename(source / "moved")
                (source / "d").mkdir()
                (source / "d/c").write_bytes(b"another")
            freezer.backup([source], name="name", host="host")
            trees.append(tree_of(source))
    objects = {item.name: storage.get(item.name) for item in storage.list()}
    return Made(objects, trees, password, cipher == "sealed")


def store(objects: dict[str, bytes]) -> MemoryStorage:
    storage = MemoryStorage()
    for name, data in objects.items():
        storage.put(name, [data])
    return storage


def restore(made: Made, objects: dict[str, bytes], level: int, target: Path) -> RestoreResult:
    with Freezer(store(objects), engine="tar", password=made.password) as freezer:
        (backup,) = (each for each in freezer.backups() if each.level == level)
        return freezer.restore(backup.id, target)


def check(made: Made, level: int, target: Path, result: RestoreResult) -> None:
    """Every file is right or named; the name of a level stands for what nobody can know any more."""
    found, wanted = tree_of(target), made.trees[level]
    named = {problem.path for problem in result.problems if problem.fatal}
    wrong = {name for name, data in found.items() if data != wanted.get(name)} - named
    assert all(found[name] in [tree.get(name) for tree in made.trees[:level]] for name in wrong), (wrong, named)
    assert not wrong or "what was whole before is kept" in str(result.problems)
    lost = set(wanted) - set(found)
    assert not lost or result.status is Status.PARTIAL
    unnamed = {name for name in lost if name not in named}
    assert not unnamed or any("/data" in name or "missing" in name for name in named), (unnamed, named)


def data_of(made: Made, level: int) -> str:
    return next(name for name in made.objects if f"/{level}_" in name and name.endswith("/data"))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_flipped_bits(made: Made, level: int, tmp_path: Path) -> None:
    name = data_of(made, level)
    whole = made.objects[name]
    for number, at in enumerate(random.Random(level).sample(range(40, len(whole)), 3)):
        data = bytearray(whole)
        data[at] ^= 1 << number
        target = tmp_path / str(number)
        result = restore(made, {**made.objects, name: bytes(data)}, 2, target)
        assert result.status is Status.PARTIAL, at
        check(made, 2, target, result)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_cut_streams(made: Made, level: int, tmp_path: Path) -> None:
    name = data_of(made, level)
    whole = made.objects[name]
    for number, share in enumerate((0.1, 0.7)):
        target = tmp_path / str(number)
        result = restore(made, {**made.objects, name: whole[: int(len(whole) * share)]}, 2, target)
        assert result.status is Status.PARTIAL
        check(made, 2, target, result)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("part", ["data", "all"])
def test_missing_levels(made: Made, level: int, part: str, tmp_path: Path) -> None:
    gone = f"/{level}_"
    objects = {
        name: data
        for name, data in made.objects.items()
        if gone not in name or (part == "data" and not name.endswith("/data"))
    }
    result = restore(made, objects, 2, tmp_path / "out")
    assert result.status is Status.PARTIAL
    found = tree_of(tmp_path / "out")
    named = {problem.path for problem in result.problems if problem.fatal}
    wrong = {name for name, data in found.items() if data != made.trees[2].get(name)}
    assert wrong <= named
    assert "new-2" in found


def test_damage_leaves_the_levels_below_alone(made: Made, tmp_path: Path) -> None:
    objects = {name: data for name, data in made.objects.items() if "/2_" not in name}
    result = restore(made, objects, 1, tmp_path / "out")
    assert result.status is Status.COMPLETE
    assert tree_of(tmp_path / "out") == made.trees[1]


@pytest.mark.parametrize("made", [cipher for cipher in CIPHERS if cipher], indirect=True)
def test_a_wrong_password(made: Made, tmp_path: Path) -> None:
    objects = {
        name: data for name, data in made.objects.items() if name != "freezer-sdk/store"
    }  # it would tell at once
    for password in ("wrong", None):
        with pytest.raises(WrongPassword):
            restore(made._replace(password=password), objects, 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"{}", b'{"compression": "gzhp", "encryption": 3}'])
def test_what_a_metadata_document_said_is_recorded_too(made: Made, damaged: bytes, tmp_path: Path) -> None:
    name = next(name for name in made.objects if "/1_" in name and name.endswith("/metadata"))
    result = restore(made, {**made.objects, name: damaged}, 2, tmp_path / "out")
    assert result.status is Status.COMPLETE
    assert tree_of(tmp_path / "out") == made.trees[2]


def test_streams_of_another_level(made: Made, tmp_path: Path) -> None:
    """Sealed streams are bound to their place; of others the record has the hash."""
    objects = {**made.objects, data_of(made, 1): made.objects[data_of(made, 2)]}
    result = restore(made, objects, 2, tmp_path / "out")
    assert result.status is Status.PARTIAL


def test_everything_lost(made: Made, tmp_path: Path) -> None:
    objects = {name: b"" if name.endswith("/data") else data for name, data in made.objects.items()}
    with pytest.raises(FreezerError):
        restore(made, objects, 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reader", ["python", "gnu"])
def test_what_could_not_be_read_when_it_was_backed_up(reader: str, tmp_path: Path) -> None:
    source, target, storage = tmp_path / "source", tmp_path / "target", MemoryStorage()
    (source / "d").mkdir(parents=True)
    (source / "a").write_bytes(b"a")
    options = {"reader": reader}
    with Freezer.create(storage, engine="tar", encryption=False, engine_options=options) as freezer:
        backup = freezer.backup([source], name="name", host="host")
        name = next(item.name for item in storage.list() if item.name.endswith("/record"))
        problem = {"path": f"{source}/d/no/x", "kind": "unreadable", "message": "Permission denied", "fatal": True}
        record = {**json.loads(storage.get(name)), "status": "partial", "problems": [problem]}
        del record["digest"], record["record_sha256"]
        storage.put(name, [json.dumps(record).encode()])
    with Freezer(storage, engine="tar", engine_options=options) as freezer:
        result = freezer.restore(backup.id, target)
        assert result.status is Status.PARTIAL
        assert [(each.kind, each.path.endswith("d/no/x")) for each in result.problems] == [("incomplete", True)]
        if reader == "gnu":
            return
        assert freezer.restore(backup.id, tmp_path / "chosen", paths=["a"]).status is Status.COMPLETE
        for mine in ("d/no/x", "d/other"):
            (target / mine).mkdir(parents=True)
        freezer.restore(backup.id, target, overwrite=Overwrite.ALWAYS, delete=True, force=True)
        assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == ["a", "d", "d/no", "d/no/x"]
