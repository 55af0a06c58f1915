"""Backup runs of engines with levels that are encrypted: what shows, who is asked, which form a series has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from chains.running import PASSWORD, check, content, opened, runs

from freezer_sdk import Freezer
from freezer_sdk.errors import (
    ConfigurationError,
    WrongPassword,
)
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.memory import MemoryStorage

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")


def everything(storage: Storage) -> bytes:
    return b"".join(item.name.encode() + storage.get(item.name) for item in storage.list())


def test_sealed_streams_show_no_names(tree: Path) -> None:
    (tree / "a very secret name").write_bytes(b"x")
    storage = MemoryStorage()
    with opened(storage, password=PASSWORD) as freezer:
        freezer.backup(tree, name="t")
        freezer.backup(tree, name="t")
    assert not list(storage.list("metadata/tar/"))
    assert b"secret" not in everything(storage)
    assert PASSWORD.encode() not in everything(storage)


def test_exchange_streams_are_opened_by_openssl_and_tar(tree: Path, tmp_path: Path) -> None:
    storage = MemoryStorage()
    with opened(storage, password=PASSWORD, cipher="openssl") as freezer:
        made = runs(freezer, tree, 2)
        check(freezer, made, tmp_path / "out")
    for item in storage.list("data/"):
        if item.name.endswith("/data") and "/0_" in item.name:
            command = ["openssl", "enc", "-d", "-aes-256-cfb", "-md", "sha256", "-pass", f"pass:{PASSWORD}"]
            plain = subprocess.run(command, input=storage.get(item.name), capture_output=True, check=True).stdout
            target = tmp_path / "by tar"
            target.mkdir()
            subprocess.run(["tar", "-xzf", "-", "-C", str(target)], input=plain, check=True)
            assert content(target) == made[0][1]


@pytest.mark.parametrize("cipher", ["openssl", "sealed"])
def test_a_wrong_password_is_told(cipher: str, tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage, password=PASSWORD, cipher=cipher) as freezer:
        freezer.backup(tree, name="t")
    for password in ("wrong", None):
        with pytest.raises(WrongPassword):
            opened(storage, password=password)
    storage.delete("freezer-sdk/store")  # as a store of the original
    options = {"cipher": cipher, "strategy": "incremental"}
    with Freezer(storage, engine="tar", password="wrong", engine_options=options) as freezer:
        with pytest.raises(WrongPassword):
            freezer.backup(tree, name="t")
        freezer.backup(tree, name="new")  # cron lines of the original may have a password each


def test_a_series_stays_in_the_form_it_has(tree: Path, tmp_path: Path) -> None:
    storage = MemoryStorage()
    with opened(storage, password=PASSWORD, cipher="openssl") as freezer:
        made = runs(freezer, tree, 1)
    with opened(storage, password=PASSWORD) as freezer:
        made += runs(freezer, tree, 1)
    assert made[-1][0].level == 1
    with opened(storage, password=PASSWORD, cipher="sealed") as freezer:
        made += runs(freezer, tree, 1)
        made += runs(freezer, tree, 1)
    assert [backup.level for backup, _ in made] == [0, 1, 0, 1]
    with opened(storage, password=PASSWORD) as freezer:
        made += runs(freezer, tree, 1)
        assert made[-1][0].level == 2
        check(freezer, made, tmp_path / "out")


def test_a_password_for_a_plain_series_begins_an_encrypted_chain(tree: Path, tmp_path: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        made = runs(freezer, tree, 2)
    with opened(storage, password=PASSWORD) as freezer:
        made += runs(freezer, tree, 2)
        assert [backup.level for backup, _ in made] == [0, 1, 0, 1]
        check(freezer, made, tmp_path / "out")
    with opened(storage) as freezer:
        backup = freezer.backup(tree, name="t")
        assert backup.level == 0
        assert "cipher" in {problem.kind for problem in backup.problems}


class Person:
    """Sits at a terminal, and counts how often it is asked for the password."""

    interactive = True

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        return PASSWORD


def test_nobody_is_asked_for_a_password_that_is_not_needed(tree: Path) -> None:
    storage, person = MemoryStorage(), Person()
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
    for marked in (True, False):
        if not marked:
            storage.delete("freezer-sdk/store")
        with Freezer(storage, password=person, engine="tar") as freezer:
            backup = freezer.backup(tree, name="t")
            assert freezer.verify(read_data=True).ok
            assert not backup.problems
    assert not person.asked
    assert not list(storage.list("metadata/tar-sealed/"))


@pytest.mark.parametrize("cipher", ["openssl", "sealed"])
def test_who_sits_at_a_terminal_is_asked_once_when_it_must_be(cipher: str, tree: Path) -> None:
    storage, person = MemoryStorage(), Person()
    with opened(storage, password=PASSWORD, cipher=cipher) as freezer:
        freezer.backup(tree, name="t")
    storage.delete("freezer-sdk/store")
    with Freezer(storage, password=person, engine="tar", engine_options={"max_level": 3}) as freezer:
        assert [freezer.backup(tree, name="t").level for _ in range(2)] == [1, 2]
        assert freezer.verify(read_data=True).ok
    assert person.asked == 1


def test_encryption_needs_a_password() -> None:
    with pytest.raises(ConfigurationError, match="needs a password"):
        Freezer.create(MemoryStorage(), engine="tar")
