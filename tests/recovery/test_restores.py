"""What the library stored, the recovery program brings back: without a line of the library."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from files.helpers import as_nobody, everybodys_directory
from trees import compare, compare_deep, is_root, make_deep, make_every_kind, remove

from freezer_sdk import Freezer
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot, reload, rotate
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.storages.local import LocalStorage

from .conftest import CHEAP, FAST, PASSWORD, TOOL, MakeRepository, Recover

COMPRESSORS = ("none", "zstd", "zlib", "bzip2", "xz")


def small_tree(base: Path, *, seed: int = 0) -> Path:
    chance = random.Random(seed)
    for folder in ("a", "b/c"):
        (base / folder).mkdir(parents=True)
        for number in range(5):
            (base / folder / f"f{number}").write_bytes(chance.randbytes(300) * chance.randrange(1, 400))
    (base / "large").write_bytes(chance.randbytes(700_000))
    return base


def seen(base: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """Mode and content of everything below a folder."""
    found = {}
    for path in sorted(base.rglob("*")):
        if path.is_symlink():
            content: bytes | str | None = os.readlink(path)
        else:
            content = path.read_bytes() if path.is_file() else None
        found[os.fsdecode(path.relative_to(base))] = (path.lstat().st_mode, content)
    return found


def same_as_library(freezer: Freezer, recover: Recover, backup: str, tmp_path: Path, *paths: str) -> None:
    """Restores with both, and finds no difference."""
    theirs, ours = tmp_path / "library", tmp_path / "recovered"
    freezer.restore(backup, theirs, paths=paths, numeric_owner=True)
    chosen = [word for path in paths for word in ("--path", path)]
    recover("restore", tmp_path / "repository", backup, ours, *chosen, code=None)
    for target in (theirs, ours):  # a target that is no root of the backup keeps what it was made with
        target.chmod(0o755)
        os.utime(target, (0, 0))
    compare(theirs, ours)


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "open"])
def test_every_kind_of_entry(make: MakeRepository, recover: Recover, tmp_path: Path, encrypted: bool) -> None:
    source = tmp_path / "source"
    make_every_kind(source)
    password = PASSWORD if encrypted else None
    freezer = make(password)
    backup = freezer.backup(source, name="t")
    repository = tmp_path / "repository"
    listed = recover("ls", repository, backup.id, password=password).out.splitlines()
    assert len(listed) == len(list(freezer.entries(backup.id)))
    done = recover("restore", repository, backup.id, tmp_path / "out", password=password)
    compare(source, tmp_path / "out")
    assert "0 problems" in done.err
    for target in (source, tmp_path / "out"):
        remove(target / "deep")
    assert f"{backup.id[:12]}" in recover("list", repository, password=password).out
    recover("verify", repository, "--read-data", password=password)


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_every_compressor(make: MakeRepository, recover: Recover, tmp_path: Path, compression: str) -> None:
    source = small_tree(tmp_path / "source")
    make(None, compression=compression).backup(source, name="t")
    recover("restore", tmp_path / "repository", "latest", tmp_path / "out", password=None)
    compare(source, tmp_path / "out")


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_with_nothing_installed_but_cryptography(
    make: MakeRepository, recover: Recover, tmp_path: Path, compression: str
) -> None:
    source = small_tree(tmp_path / "source")
    make(compression=compression).backup(source, name="t")
    recover("restore", tmp_path / "repository", "latest", tmp_path / "out", without=FAST)
    compare(source, tmp_path / "out")
    recover("verify", tmp_path / "repository", "--read-data", without=FAST)


def test_with_the_python_of_the_system(make: MakeRepository, tmp_path: Path) -> None:
    """Another interpreter with an older cryptography, where there is one."""
    source = small_tree(tmp_path / "source")
    make().backup(source, name="t")
    for number, python in enumerate((sys.executable, "/usr/bin/python3")):
        probe = subprocess.run([python, "-I", "-c", "import cryptography"], capture_output=True, check=False)
        if probe.returncode == 0:
            words = [python, "-I", TOOL, "restore", tmp_path / "repository", "latest", tmp_path / f"out{number}"]
            subprocess.run(words, env={"FREEZER_PASSWORD": PASSWORD, "LANG": "C"}, capture_output=True, check=True)
            compare(source, tmp_path / f"out{number}")


def test_deeper_than_a_path_may_be_long(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_deep(source, levels=40)
    make(None).backup(source, name="t")
    recover("restore", tmp_path / "repository", "latest", tmp_path / "out", password=None)
    compare_deep(source, tmp_path / "out")
    remove(source)
    remove(tmp_path / "out")


def test_a_huge_directory_and_long_lists_of_ids(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "many").mkdir(parents=True)
    cuts = (name for name in map("cut-{}".format, range(30_000)) if zlib.crc32(name.encode()) % 1024 == 0)
    for name in [*itertools.islice(cuts, 20), *map("file-{}".format, range(400))]:  # each of the first ends a page
        (source / "many" / name).touch()
    (source / "long").write_bytes(random.Random(1).randbytes(3 << 20))
    with open(source / "sparse", "wb") as file:
        file.truncate(1 << 40)
        for at in range(30):
            os.pwrite(file.fileno(), bytes([at + 1]) * 70_000, at << 34)
    make(None).backup(source, name="t")
    recover("restore", tmp_path / "repository", "latest", tmp_path / "out", password=None)
    assert sorted(os.listdir(tmp_path / "out" / "many")) == sorted(os.listdir(source / "many"))
    assert (tmp_path / "out" / "long").read_bytes() == (source / "long").read_bytes()
    sparse = tmp_path / "out" / "sparse"
    assert sparse.stat().st_size == 1 << 40
    assert sparse.stat().st_blocks <= (source / "sparse").stat().st_blocks
    with sparse.open("rb") as file:
        assert all(os.pread(file.fileno(), 70_001, at << 34) == bytes([at + 1]) * 70_000 + b"\0" for at in range(30))


def test_several_roots_and_a_missing_one(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    one, two, file = small_tree(tmp_path / "x" / "one"), small_tree(tmp_path / "two", seed=1), tmp_path / "alone"
    file.write_bytes(b"alone")
    freezer = make()
    backup = freezer.backup([one, two, file, tmp_path / "gone"], name="t")
    assert backup.status == "partial"
    done = recover("restore", tmp_path / "repository", backup.id, tmp_path / "out", code=3)
    assert f"NOT WHOLE: {tmp_path / 'gone'}:" in done.err
    recover("restore", tmp_path / "repository", backup.id, tmp_path / "part", "--path", one)
    below = Path(f"{tmp_path}/out{tmp_path}")
    assert seen(below / "x" / "one") == seen(one)
    assert seen(below / "two") == seen(two)
    assert (below / "alone").read_bytes() == b"alone"
    assert "partial" in recover("list", tmp_path / "repository").out


def test_a_file_as_the_only_root(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    file = tmp_path / "alone"
    file.write_bytes(b"alone" * 50_000)
    freezer = make()
    same_as_library(freezer, recover, freezer.backup(file, name="t").id, tmp_path)


@pytest.mark.parametrize("paths", [["b"], ["a/f1", "b/c"], ["/{}/b/c/f0"]])
def test_chosen_paths(make: MakeRepository, recover: Recover, tmp_path: Path, paths: list[str]) -> None:
    source = small_tree(tmp_path / "source")
    freezer = make()
    backup = freezer.backup(source, name="t")
    same_as_library(freezer, recover, backup.id, tmp_path, *(path.replace("/{}", str(source)) for path in paths))


def test_a_path_that_is_not_there(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    backup = make().backup(small_tree(tmp_path / "source"), name="t")
    done = recover("restore", tmp_path / "repository", backup.id, tmp_path / "out", "--path", "nowhere", code=1)
    assert "no such path" in done.err
    listed = recover("ls", tmp_path / "repository", backup.id, "--path", "b/c")
    assert listed.out.splitlines()[-1].endswith("/source/b/c/f4")
    assert "/a/" not in listed.out


def test_a_stream(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    content = random.Random(2).randbytes(500_000)
    (tmp_path / "content").write_bytes(content)
    freezer = make()
    command = {"command": "shop.sql", "command_arguments": ["cat", str(tmp_path / "content")]}
    same_as_library(freezer, recover, freezer.backup(name="db", mode_options=command).id, tmp_path)
    assert (tmp_path / "recovered" / "shop.sql").read_bytes() == content


def test_several_epochs_and_passwords(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    source = small_tree(tmp_path / "source")
    make().backup(source, name="t")
    storage = LocalStorage(path=str(tmp_path / "repository"))
    keys = open_repository(storage, lambda: PASSWORD)
    for password, role in (("auditor", Role.READER), ("gone", Role.READER), ("client", Role.WRITER)):
        add_slot(storage, keys, password=password, roles={role}, kdf=CHEAP)
        keys = reload(storage, keys)
    rotate(storage, keys, revoke=[open_repository(storage, lambda: "gone").slot_id])
    (source / "new").write_bytes(b"of the second epoch")
    make().backup(source, name="t")
    for password in (PASSWORD, "auditor"):
        target = tmp_path / password
        recover("restore", tmp_path / "repository", "latest", target, password=password)
        compare(source, target)
    assert len(recover("list", tmp_path / "repository").out.splitlines()) == 2
    assert "removed" in recover("list", tmp_path / "repository", password="gone", code=13).err
    assert "only write" in recover("list", tmp_path / "repository", password="client", code=12).err


def test_forgotten_backups(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    source, repository = small_tree(tmp_path / "source"), tmp_path / "repository"
    freezer = make()
    first, second = freezer.backup(source, name="t"), freezer.backup(source, name="t")
    freezer.forget(first.id)
    assert first.id[:12] not in recover("list", repository).out
    shown = recover("list", repository, "--forgotten").out
    assert [line.split()[2] for line in shown.splitlines()] == ["forgotten", "complete"]
    recover("restore", repository, first.id, tmp_path / "no", code=2)
    recover("restore", repository, first.id, tmp_path / "out", "--forgotten")
    compare(source, tmp_path / "out")
    recover("restore", repository, second.id[:6], tmp_path / "out2")


def test_where_the_password_comes_from(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    repository, file = tmp_path / "repository", tmp_path / "password"
    make().backup(small_tree(tmp_path / "source"), name="t")
    file.write_text(f"{PASSWORD}\nnot this\n")
    recover("list", repository, "--password-file", file, password=None)
    assert "wrong password" in recover("list", repository, password="wrong", code=12).err
    recover("list", repository, password="Cafe\u0301 of the corner")  # the same text, typed otherwise
    assert "no password" in recover("list", repository, password=None, code=12).err


def test_no_repository_and_no_encryption(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    assert "no repository" in recover("list", tmp_path, code=10).err
    recover("list", tmp_path / "nowhere", code=10)
    make(None).backup(small_tree(tmp_path / "source"), name="t")
    assert "not encrypted" in recover("list", tmp_path / "repository", code=12).err


def test_the_target_must_be_empty(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    backup = make().backup(small_tree(tmp_path / "source"), name="t")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    recover("restore", tmp_path / "repository", backup.id, tmp_path / "out", code=2)
    assert os.listdir(tmp_path / "out") == ["mine"]


def test_latest_is_not_guessed(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    freezer = make()
    freezer.backup(small_tree(tmp_path / "one"), name="one")
    freezer.backup(small_tree(tmp_path / "two"), name="two")
    assert "see list" in recover("ls", tmp_path / "repository", "latest", code=2).err


def test_nothing_is_written_to_the_repository(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    make().backup(small_tree(tmp_path / "source"), name="t")
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    recover("verify", repository, "--read-data")
    recover("restore", repository, "latest", tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before


@pytest.mark.skipif(not is_root(), reason="becomes another user")
def test_as_another_user(tool: ModuleType) -> None:
    with everybodys_directory() as base:
        (base / "source").mkdir()
        (base / "source" / "tool").write_bytes(b"x")
        (base / "source" / "tool").chmod(0o4755)
        os.mknod(base / "source" / "null", 0o20666, os.makedev(1, 3))
        with Freezer(f"local:{base / 'repository'}", create=True, encryption=False) as freezer:
            freezer.backup(base / "source", name="t")
        for path in (base / "repository", *(base / "repository").rglob("*")):
            path.chmod(0o755)

        def restore() -> int:
            sys.argv = ["freezer_recover.py", "restore", str(base / "repository"), "latest", str(base / "out")]
            return int(tool.main())

        assert as_nobody(restore) == 3  # the device
        assert os.listdir(base / "out") == ["tool"]
        assert (base / "out" / "tool").stat().st_mode & 0o7777 == 0o755


def test_the_commands_of_the_recovery_sheet(make: MakeRepository, recover: Recover, tmp_path: Path) -> None:
    source = small_tree(tmp_path / "source")
    freezer = make()
    backup = freezer.backup(source, name="t")
    sheet = freezer.keys.export_recovery(with_recovery_key=True)
    places = {"FOLDER": str(tmp_path / "repository"), "BACKUP": backup.id, "TARGET": str(tmp_path / "out")}
    for command in sheet.tool_commands:
        program, tool, *words = command.split()
        assert (program, tool) == ("python3", TOOL.name)
        recover(*(places.get(word, word) for word in words), password=sheet.recovery_key)
    compare(source, tmp_path / "out")
