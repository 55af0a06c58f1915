"""Checks and repairs across changes of keys: what a newer key encrypts is no damage, the rest is mended."""

from __future__ import annotations

from pathlib import Path

import pytest
from dedup.upkeep.world import Clocked, content, write_files

from freezer_sdk import Freezer, WrongPassword
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import keyholders
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.testing import damage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "source", seed=1, files=4)


@pytest.fixture
def storage(source: Path) -> Clocked:
    storage = Clocked()
    create_repository(storage, password="first", kdf=CHEAP)
    with opened(storage) as freezer:
        freezer.backup(source, name="before")
    return storage


def opened(storage: Clocked, password: str = "first") -> Freezer:
    return Freezer(storage, password=password, engine_options={"pack_size": "1M"})


def test_a_program_that_was_open_before_a_rotation_sees_no_damage(storage: Clocked, source: Path) -> None:
    with opened(storage) as early:
        keyholders.rotate(storage, open_repository(storage, lambda: "first"))
        with opened(storage) as late:
            late.backup(write_files(source, seed=2, files=2), name="after", force_read=True)
        result = early.maintenance.check(read_data=True)
        assert (result.ok, result.findings, result.backups) == (True, (), 2)
        before = storage.content()
        assert early.maintenance.repair(read_data=True, forget_broken=True).steps == ()
        assert storage.content() == before


def test_whose_key_was_removed_neither_checks_nor_repairs(storage: Clocked) -> None:
    keys = open_repository(storage, lambda: "first")
    line = keyholders.add_slot(storage, keys, password="second", roles=set(Role), kdf=CHEAP)
    with opened(storage, "second") as removed:
        keys = open_repository(storage, lambda: "first")
        keyholders.rotate(storage, keys, revoke=[line.id])
        with pytest.raises(WrongPassword):
            removed.maintenance.check()
        with pytest.raises(WrongPassword):
            removed.maintenance.repair()


def test_packs_of_an_earlier_epoch_are_mended_with_the_keys_of_now(
    storage: Clocked, source: Path, tmp_path: Path
) -> None:
    keyholders.rotate(storage, open_repository(storage, lambda: "first"))
    for name in [name for name in storage.content() if name.startswith(("packs/", "meta/"))]:
        storage.put(name, [storage.get(name)[:-1]])
    for name in [name for name in storage.content() if name.startswith("index/")]:
        storage.delete(name)
    old = {name for name in storage.content() if name.startswith(("packs/", "meta/"))}
    with opened(storage) as freezer:
        result = freezer.maintenance.repair()
        assert ({step.action for step in result.steps}, result.lost) == ({"salvage", "mark"}, ())
        fresh = {name for name in storage.content() if name.startswith(("packs/", "meta/"))} - old
        assert {storage.get(name)[12] for name in fresh} == {2}, "sealed with the keys of now"
        assert freezer.restore(freezer.find_backup(name="before").id, tmp_path / "out").problems == ()
    assert content(tmp_path / "out") == content(source)


def test_all_configurations_and_keys_are_mended_after_a_rotation(storage: Clocked) -> None:
    keyholders.rotate(storage, open_repository(storage, lambda: "first"))
    whole = {name: data for name, data in storage.content().items() if name.startswith(("config/", "keys/", "copies/"))}
    assert len(whole) == 8
    for name in [name for name in whole if name.startswith("copies/")]:
        damage(storage, name, offset=60)
    with opened(storage) as freezer:
        assert {step.action for step in freezer.maintenance.repair().steps} == {"copy"}
        assert freezer.maintenance.check().findings == ()
    assert {name: storage.get(name) for name in whole} == whole
