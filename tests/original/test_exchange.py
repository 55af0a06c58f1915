"""The real agent restores what is written here, and this program what that wrote; chains go on in turn."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from original.trees import change, manifest, odd_tree
from original_agent import OriginalAgent

from freezer_sdk import Freezer
from freezer_sdk.model import Backup

pytestmark = pytest.mark.original


def store_of(folder: Path, password: str | None = None, **options: object) -> Freezer:
    """A store of tar levels; encrypted, then so that the original can read it."""
    encryption = password is not None
    values = {"strategy": "incremental", "max_level": 3, **({"cipher": "openssl"} if encryption else {}), **options}
    return Freezer(
        f"local:{folder}", engine="tar", create=True, password=password, encryption=encryption, engine_options=values
    )


def backup(freezer: Freezer, source: Path) -> Backup:
    """One level; the original tells them apart by whole seconds."""
    made = freezer.backup(source, name="b", host="node1")
    assert made.status == "complete", made.problems
    time.sleep(1.1 - time.time() % 1)
    return made


def passfile(folder: Path, password: str) -> Path:
    file = folder / "passfile"
    file.write_text(password + "\n")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("compression", "password"), [("gzip", None), ("bzip2", None), ("xz", None), ("gzip", "correct horse")]
)
def test_the_original_restores_levels_written_here(
    agent: OriginalAgent, tmp_path: Path, compression: str, password: str | None
) -> None:
    source, store = odd_tree(tmp_path / "source"), tmp_path / "store"
    options = [] if password is None else ["--encrypt-pass-file", passfile(tmp_path, password)]
    states = []
    with store_of(store, password, compression=compression) as freezer:
        for step in range(4):
            states.append((backup(freezer, source), manifest(source)))
            change(source, step)
    assert [made.level for made, _ in states] == [0, 1, 2, 3]
    chosen = states if (compression, password) == ("gzip", None) else states[-1:]
    for made, state in chosen:
        target = tmp_path / f"out{made.level}"
        agent.restore(store, target, "--restore-from-date", made.time.strftime("%Y-%m-%dT%H:%M:%S"), *options)
        assert manifest(target) == state


@pytest.mark.parametrize("password", [None, "correct horse"])
def test_chains_go_on_in_turn(agent: OriginalAgent, tmp_path: Path, password: str | None) -> None:
    source, store = odd_tree(tmp_path / "source"), tmp_path / "store"
    options = [] if password is None else ["--encrypt-pass-file", passfile(tmp_path, password)]
    levels = ["--incremental", "--max-level", 5, *options]
    states = []
    for step in range(4):
        if step % 2:
            with store_of(store, password, max_level=5) as freezer:
                backup(freezer, source)
        else:
            agent.backup(store, source, *levels)
            time.sleep(1.1 - time.time() % 1)
        states.append(manifest(source))
        change(source, step)
    with Freezer(f"local:{store}", password=password) as freezer:
        backups = freezer.backups()
        assert [made.level for made in backups] == [0, 1, 2, 3]
        assert len({made.chain for made in backups}) == 1
        for made, state in zip(backups, states, strict=True):
            freezer.restore(made.id, tmp_path / f"here{made.level}")
            assert manifest(tmp_path / f"here{made.level}") == state
        assert freezer.verify(read_data=True).ok
    agent.restore(store, tmp_path / "there", *options)
    assert manifest(tmp_path / "there") == states[-1]


def test_what_is_sealed_does_not_disturb_the_original(agent: OriginalAgent, tmp_path: Path) -> None:
    source, store = odd_tree(tmp_path / "source"), tmp_path / "store"
    agent.backup(store, source)
    with store_of(store, "secret", cipher="sealed") as freezer:
        assert freezer.backup(source, name="b", host="node1").level == 0
        assert len(freezer.backups()) == 2
    agent.restore(store, tmp_path / "out")
    assert manifest(tmp_path / "out") == manifest(source)
    sealed = [path for path in store.glob("*/tar-sealed/**/*") if path.is_file() and path.name != "metadata"]
    assert len(sealed) == 3
    assert not any(b"quote" in path.read_bytes() for path in sealed)


@pytest.mark.parametrize("password", [None, "correct horse"])
def test_tar_and_openssl_read_a_full_backup(tmp_path: Path, password: str | None) -> None:
    source, store, target = odd_tree(tmp_path / "source"), tmp_path / "store", tmp_path / "out"
    with store_of(store, password) as freezer:
        freezer.backup(source, name="b", host="node1")
    (stream,) = store.glob("data/tar/node1_b/*/0_*/data")
    if password is not None:
        plain = tmp_path / "plain"
        key = f"file:{passfile(tmp_path, password)}"
        words = ["openssl", "enc", "-d", "-aes-256-cfb", "-pass", key, "-in", stream, "-out", plain]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
        stream = plain
    target.mkdir()
    subprocess.run(["tar", "-xzpf", stream, "-C", target], check=True)
    assert manifest(target) == manifest(source)


def test_the_original_does_not_take_a_run_under_way_for_a_backup(agent: OriginalAgent, tmp_path: Path) -> None:
    source, store = odd_tree(tmp_path / "source"), tmp_path / "store"
    with store_of(store) as freezer:
        backup(freezer, source)
        state = manifest(source)
        change(source, 0)
        made = backup(freezer, source)
    (mark,) = store.glob("metadata/tar/node1_b/*/1_*")
    for path in mark.iterdir():  # as if the run had been killed before its last step
        path.unlink()
    mark.rmdir()
    agent.restore(store, tmp_path / "there")
    assert manifest(tmp_path / "there") == state
    with store_of(store) as freezer:
        assert [each.level for each in freezer.backups()] == [0]
        assert backup(freezer, source).level == made.level
    assert os.path.isdir(store)
