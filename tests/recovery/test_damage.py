"""Damage costs what it hit: the rest is found by other ways and restored, and what is lost is named."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from trees import compare

from freezer_sdk import Backup, Freezer
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.local import LocalStorage

from .conftest import CHEAP, PASSWORD, MakeRepository, Recover
from .test_restores import seen, small_tree


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Backup]]:
    """A source tree, a repository and its two backups; nobody changes them."""
    base = tmp_path_factory.mktemp("pristine")
    source = small_tree(base / "source")
    create_repository(LocalStorage(path=str(base / "repository")), password=PASSWORD, kdf=CHEAP)
    with Freezer(f"local:{base / 'repository'}", password=PASSWORD, engine_options={"pack_size": "1M"}) as freezer:
        first = freezer.backup(source, name="t")
        (source / "b" / "second").write_bytes(random.Random(7).randbytes(2_000_000))
        return source, base / "repository", [first, freezer.backup(source, name="t")]


@pytest.fixture
def repository(pristine: tuple[Path, Path, list[Backup]], tmp_path: Path) -> Path:
    shutil.copytree(pristine[1], tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def source(pristine: tuple[Path, Path, list[Backup]]) -> Path:
    return pristine[0]


def objects(repository: Path, *prefixes: str) -> list[Path]:
    return [path for prefix in prefixes for path in sorted((repository / prefix).rglob("*")) if path.is_file()]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut_tables(repository: Path, *prefixes: str) -> None:
    for path in objects(repository, *prefixes):
        path.write_bytes(path.read_bytes()[:-40])


LOSSES: dict[str, Callable[[Path], None]] = {
    "no index": lambda repository: shutil.rmtree(repository / "index"),
    "indexes are damaged": lambda repository: [flip(path, 60) for path in objects(repository, "index")] and None,
    "indexes are empty": lambda repository: [path.write_bytes(b"") for path in objects(repository, "index")] and None,
    "one index is lost": lambda repository: objects(repository, "index")[0].unlink(),
    "no configuration": lambda repository: shutil.rmtree(repository / "config"),
    "no second copies": lambda repository: shutil.rmtree(repository / "copies"),
    "configurations are damaged": lambda repository: (
        [flip(path, 200) for path in objects(repository, "config", "copies/config")] and None
    ),
    "a slot is damaged": lambda repository: [flip(path, 100) for path in objects(repository, "keys")] and None,
    "control objects are gone": lambda repository: shutil.rmtree(repository / "leases"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_everything_is_restored_without(
    loss: str, repository: Path, source: Path, recover: Recover, tmp_path: Path
) -> None:
    LOSSES[loss](repository)
    recover("restore", repository, "latest", tmp_path / "out")
    compare(source, tmp_path / "out")


def test_index_and_tables_are_gone(repository: Path, source: Path, recover: Recover, tmp_path: Path) -> None:
    shutil.rmtree(repository / "index")
    cut_tables(repository, "packs", "meta")
    recover("restore", repository, "latest", tmp_path / "out")
    compare(source, tmp_path / "out")
    assert recover("verify", repository, "--read-data", code=13).out.count("whole") == 2


def test_packs_lie_in_one_folder_and_begin_with_rubbish(
    repository: Path, source: Path, recover: Recover, tmp_path: Path
) -> None:
    for path in objects(repository, "packs"):
        (repository / "packs" / path.name).write_bytes(b"FZSG rubbish" * 20 + path.read_bytes())
        path.unlink()
    done = recover("restore", repository, "latest", tmp_path / "out")
    compare(source, tmp_path / "out")
    assert "damaged: packs/" in done.err


def test_a_lost_pack_costs_its_files_only(repository: Path, source: Path, recover: Recover, tmp_path: Path) -> None:
    victim = max(objects(repository, "packs"), key=lambda path: path.stat().st_size)
    victim.unlink()
    done = recover("restore", repository, "latest", tmp_path / "out", code=3)
    before, after = seen(source), seen(tmp_path / "out")
    lost = before.keys() - after.keys()
    assert 0 < len(lost) < len(before)
    assert {name: before[name] for name in after} == after
    for name in lost:
        assert f"NOT RESTORED: {source}/{name}:" in done.err
    assert str(victim.relative_to(repository)) in done.err
    checked = recover("verify", repository, code=13)
    assert "DAMAGED" in checked.out
    assert all(f"{source}/{name}:" in checked.err for name in lost)


def test_a_damaged_segment_costs_its_files_only(
    repository: Path, source: Path, recover: Recover, tmp_path: Path
) -> None:
    victim = max(objects(repository, "packs"), key=lambda path: path.stat().st_size)
    flip(victim, victim.stat().st_size // 2)
    assert recover("verify", repository).code == 0  # nothing is missing
    checked = recover("verify", repository, "--read-data", code=13)
    done = recover("restore", repository, "latest", tmp_path / "out", code=3)
    before, after = seen(source), seen(tmp_path / "out")
    lost = before.keys() - after.keys()
    assert 0 < len(lost) < len(before)
    assert {name: before[name] for name in after} == after
    for name in lost:
        assert f"{source}/{name}:" in done.err
        assert f"{source}/{name}:" in checked.err
    kept = recover("restore", repository, "latest", tmp_path / "kept", "--damaged", code=3)
    assert "zeros" in kept.err
    for name in lost:
        data, original = (tmp_path / "kept" / f"{name}.DAMAGED").read_bytes(), (source / name).read_bytes()
        assert len(data) == len(original)
        wrong = [at for at in range(len(data)) if data[at] != original[at]]
        assert all(data[at] == 0 for at in wrong)


def test_a_damaged_commit_is_named_and_passed_over(
    repository: Path, pristine: tuple[Path, Path, list[Backup]], recover: Recover, tmp_path: Path
) -> None:
    (victim,) = (path for path in objects(repository, "backups") if pristine[2][0].id in path.name)
    flip(victim, 300)
    listed = recover("list", repository, code=13)
    assert f"damaged: backups/{victim.name}" in listed.err
    assert len(listed.out.splitlines()) == 1
    assert "does not decrypt" in recover("ls", repository, pristine[2][0].id[:8], code=2).err
    recover("restore", repository, "latest", tmp_path / "out")
    shutil.move(objects(repository, "backups")[1], repository / "backups" / victim.name)  # another's content
    assert recover("list", repository, code=13).out == ""


def test_every_meta_pack_is_damaged(repository: Path, recover: Recover, tmp_path: Path) -> None:
    for path in objects(repository, "meta"):
        flip(path, 200)
    done = recover("restore", repository, "latest", tmp_path / "out", code=3)
    assert "a part of this folder is lost" in done.err


def test_nothing_opens(repository: Path, recover: Recover) -> None:
    for path in objects(repository, "keys", "copies/keys"):
        path.write_bytes(b"{}")
    assert "no password helps" in recover("list", repository, code=13).err
    for path in objects(repository, "keys", "copies/keys"):
        path.unlink()
    recover("list", repository, code=13)


def random_damage(chance: random.Random, repository: Path) -> None:
    paths = objects(repository, "config", "keys", "index", "packs", "meta", "backups")
    for _ in range(chance.randrange(1, 4)):
        path = chance.choice(paths)
        if not path.exists():
            continue
        data = bytearray(path.read_bytes())
        how = chance.choice(["flip", "cut", "zero", "swap", "delete"])
        at = chance.randrange(len(data)) if data else 0
        if how == "delete":
            path.unlink()
        elif how == "swap":
            other = chance.choice(paths)
            path.write_bytes(other.read_bytes() if other.exists() else b"")
        elif data:
            if how == "flip":
                data[at] ^= 1 << chance.randrange(8)
            elif how == "zero":
                data[at : at + 50] = bytes(len(data[at : at + 50]))
            else:
                del data[at:]
            path.write_bytes(data)


@pytest.mark.parametrize("seed", range(25))
def test_random_damage_never_gives_wrong_files(
    seed: int,
    repository: Path,
    source: Path,
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    random_damage(random.Random(seed), repository)
    commits = len(objects(repository, "backups"))
    monkeypatch.setenv("FREEZER_PASSWORD", PASSWORD)
    before = seen(source)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["freezer_recover.py", *words])
        capfd.readouterr()
        code = tool.main()
        return code, capfd.readouterr().err

    code, error = run("restore", str(repository), "latest", str(tmp_path / "out"))
    after = seen(tmp_path / "out") if (tmp_path / "out").is_dir() else {}
    for name, what in after.items():
        assert before[name] == what or name == "b", name
    if code == 0 and len(after) != len(before):  # the newest commit is lost: latest was the one before
        assert "backups/" in error or commits < 2
        assert before.keys() - after.keys() == {"b/second"}
    for name in before.keys() - after.keys() if code == 3 else ():
        parents = [os.path.join(source, name), *map(str, Path(source, name).parents)]
        unknown = name == "b/second" and commits < 2  # its commit was deleted: nothing tells of it
        assert any(f"NOT RESTORED: {path}:" in error for path in parents) or "backups/" in error or unknown, name
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(tmp_path / "out")
    code, _ = run("verify", str(repository), "--read-data")
    assert code in (0, 2, 10, 12, 13)


def test_packs_in_each_others_place(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    """They decrypt where they lie, and have what others should have: only ids tell."""
    freezer = make(None, compression="none")
    (tmp_path / "source").mkdir()
    for name in ("one", "two"):
        (tmp_path / "source" / name).write_bytes(name.encode() * 10_000)
        freezer.backup(tmp_path / "source", name="t")
    one, two = objects(tmp_path / "repository", "packs")
    assert one.stat().st_size == two.stat().st_size
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    done = recover("restore", tmp_path / "repository", "latest", tmp_path / "out", password=None, code=3)
    assert "not what its id stands for" in done.err
    after = seen(tmp_path / "out")
    assert {name: seen(tmp_path / "source")[name] for name in after} == after
    recover("verify", tmp_path / "repository", "--read-data", password=None, code=13)
