"""The engine through the library: stores with levels, in the layout of the original, restored and verified."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from rsync.chain import look
from rsync.original import FirstVersion, SecondVersion, extract

from freezer_sdk import Backup, Freezer
from freezer_sdk.errors import ConfigurationError, FreezerError, IntegrityError, RestoreError, WrongPassword
from freezer_sdk.model import Status
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.memory import MemoryStorage

PASSWORD = "correct horse"
FACTS = ("mode", "mtime_ns", "uid", "gid", "size")


def opened(storage: Storage, *, password: str | None = None, **options: Any) -> Freezer:
    return Freezer(
        storage,
        password=password,
        create=True,
        engine="rsync",
        encryption=password is not None,
        engine_options={"strategy": "incremental", **options},
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "sub").mkdir(parents=True)
    (path / "first").write_bytes(b"first\n" * 100)
    (path / "sub/second").write_bytes(os.urandom(50_000))
    os.link(path / "first", path / "sub/linked")
    os.symlink("nowhere", path / "dangling")
    os.utime(path / "sub", ns=(1, 123_456_789_012_345_678))
    return path


def change(tree: Path, number: int) -> None:
    data = bytearray((tree / "sub/second").read_bytes())
    data[number * 5000 : number * 5000 + 4] = b"%4d" % number
    (tree / "sub/second").write_bytes(data + b"more")
    (tree / f"new{number}").write_bytes(b"%d" % number * 1000)
    old = tree / f"new{number - 2}"
    if old.exists():
        old.unlink()
    os.utime(tree / "sub", ns=(1, 123_456_789_012_345_678 + number))


def runs(freezer: Freezer, tree: Path, count: int) -> list[tuple[Backup, Any]]:
    made = []
    for number in range(count):
        change(tree, number)
        made.append((freezer.backup(tree, name="t"), look(tree, *FACTS)))
    return made


CODINGS: list[dict[str, Any]] = [
    {},
    {"compression": "bzip2"},
    {"password": PASSWORD},
    {"password": PASSWORD, "cipher": "openssl"},
    {"password": PASSWORD, "cipher": "openssl", "compression": "bzip2", "block_size": 512},
]


@pytest.mark.parametrize("coding", CODINGS)
def test_every_level_of_every_coding(coding: dict[str, Any], tree: Path, tmp_path: Path) -> None:
    storage = MemoryStorage()
    freezer = opened(storage, max_level=2, **coding)
    made = runs(freezer, tree, 5)
    assert [backup.level for backup, _facts in made] == [0, 1, 2, 0, 1]
    freezer = opened(storage, **coding)
    assert freezer.verify(read_data=True).ok
    for backup, facts in made:
        assert backup.status is Status.COMPLETE
        target = tmp_path / backup.id
        result = freezer.restore(backup.id, target)
        assert not result.problems
        assert look(target, *FACTS) == facts
        assert os.path.samefile(target / "first", target / "sub/linked")


def test_names_and_contents_of_sealed_stores_are_not_in_the_clear(tree: Path) -> None:
    storage = MemoryStorage()
    runs(opened(storage, password=PASSWORD), tree, 2)
    stored = [(info.name, storage.get(info.name)) for info in storage.list("")]
    assert not [name for name, data in stored if b"second" in data or b"first\n" in data]
    assert not [name for name, _data in stored if name.startswith("data/rsync/")]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_streams_are_the_original_s(tree: Path) -> None:
    """Its pass phrase has the end of the line in it, its digest is MD5."""
    storage = MemoryStorage()
    made = runs(opened(storage, password=PASSWORD, cipher="openssl"), tree, 2)
    streams = []
    for info in storage.list("data/rsync/"):
        if info.name.endswith("/data"):
            command = ["openssl", "enc", "-d", "-aes-256-cfb", "-md", "md5", "-pass", f"pass:{PASSWORD}\n"]
            plain = subprocess.run(command, input=storage.get(info.name), capture_output=True, check=True).stdout
            streams.append((int(info.name.split("/")[-2].partition("_")[0]), zlib.decompress(plain)))
    found = extract([stream for _level, stream in sorted(streams)], block=4096)
    truth = made[-1][1]
    assert {path: facts["content"] for path, facts in truth.items() if facts["type"] == "file"} == {
        path: facts[2] for path, facts in found.items() if facts[0] >> 12 == 0o10
    }


def test_a_wrong_password_is_told_before_anything_is_written(tree: Path, tmp_path: Path) -> None:
    storage = MemoryStorage()
    runs(opened(storage, password=PASSWORD, cipher="openssl"), tree, 1)
    for info in list(storage.list("freezer-sdk/")):  # as if the original had made it
        storage.delete(info.name)
    freezer = Freezer(storage, password="wrong", engine="rsync")
    with pytest.raises(WrongPassword):
        freezer.restore(freezer.backups()[0].id, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_file_and_one_path(tree: Path, tmp_path: Path) -> None:
    freezer = opened(MemoryStorage())
    made = runs(freezer, tree, 3)
    backup = made[-1][0]
    with freezer.open(backup.id, f"{tree}/sub/second") as reader:
        assert reader.read() == (tree / "sub/second").read_bytes()
    freezer.restore(backup.id, tmp_path / "out", paths=[os.fsencode(tree / "sub")])
    assert (tmp_path / "out/sub/second").read_bytes() == (tree / "sub/second").read_bytes()
    assert not (tmp_path / "out/new2").exists()


def put_level(storage: Storage, version: int, level: int, stream: bytes, state: bytes) -> None:
    """A level as the original stores it."""
    place = f"rsync/h_n/1600000000/{level}_{1600000000 + level}"
    block = ', "rsync_block_size": 4096' if version == 2 else ""
    storage.put(f"data/{place}/data", [zlib.compress(stream, 9)])
    storage.put(f"data/{place}/engine_metadata", [state])
    document = '{"engine_name": "rsync", "compression": "gzip", "encryption": false' + block + "}"
    storage.put(f"metadata/{place}/metadata", [document.encode()])


def test_verify_names_every_backup_that_version_1_got_wrong(tree: Path, tmp_path: Path) -> None:
    """Level 1 is wrong, and level 2 is right again."""
    storage, agent = MemoryStorage(), FirstVersion(tree)
    agent.run()
    data = (tree / "sub/second").read_bytes()
    (tree / "sub/second").write_bytes(b"inserted" + data)
    agent.run()
    (tree / "sub/second").unlink()
    agent.run()
    for level, (stream, state) in enumerate(zip(agent.streams, agent.states, strict=True)):
        put_level(storage, 1, level, stream, state)
    freezer = Freezer(storage, engine="rsync", password=None)
    first, second, third = freezer.backups()
    result = freezer.verify(read_data=True)
    assert {problem.path for problem in result.problems if problem.fatal} == {f"{second.id[:8]}:sub/second"}
    for backup in (first, third):
        assert freezer.verify([backup.id], read_data=True).ok
        assert freezer.restore(backup.id, tmp_path / backup.id).status is Status.COMPLETE
    result = freezer.restore(second.id, tmp_path / "second")
    assert result.status is Status.PARTIAL
    assert {problem.path for problem in result.problems if problem.fatal} == {"sub/second"}
    assert not (tmp_path / "second/sub/second").exists()
    with pytest.raises((IntegrityError, RestoreError)), freezer.open(second.id, "/sub/second") as reader:
        reader.read()


def test_a_chain_of_the_original_is_continued(tree: Path, tmp_path: Path) -> None:
    storage, agent = MemoryStorage(), SecondVersion(tree)
    agent.run()
    put_level(storage, 2, 0, agent.streams[0], agent.states[0])
    change(tree, 1)
    freezer = Freezer(storage, engine="rsync", engine_options={"strategy": "incremental"}, password=None)
    backup = freezer.backup(tree, name="n", host="h")
    assert backup.level == 1
    assert backup.stats.unmodified_files == 2
    freezer.restore(backup.id, tmp_path / "out")
    assert {p: f["content"] for p, f in look(tmp_path / "out").items() if f["type"] == "file"} == {
        p: f["content"] for p, f in look(tree).items() if f["type"] == "file"
    }


def test_a_chain_of_version_1_is_not_continued(tree: Path) -> None:
    storage, agent = MemoryStorage(), FirstVersion(tree)
    agent.run()
    put_level(storage, 1, 0, agent.streams[0], agent.states[0])
    freezer = Freezer(storage, engine="rsync", engine_options={"strategy": "incremental"}, password=None)
    backup = freezer.backup(tree, name="n", host="h")
    assert backup.level == 0
    assert any("level" in problem.message for problem in backup.problems)


def test_streams_are_refused(tree: Path) -> None:
    freezer = opened(MemoryStorage())
    with pytest.raises(FreezerError) as caught:
        freezer.backup([tree, tree / "sub", "/etc/hostname"], name="several")
    assert isinstance(caught.value, ConfigurationError)
    assert caught.value.hint
