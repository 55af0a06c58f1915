"""A repository that is made like another one: the names of content are the same, everything else is its own."""

from __future__ import annotations

import pytest

from freezer_sdk import Freezer, PolicyRefusal, RepositoryExists, WrongPassword
from freezer_sdk.engines.base import EngineCapabilities
from freezer_sdk.engines.dedup.access import create_repository, is_repository, open_repository
from freezer_sdk.engines.dedup.chunker import ChunkerClass
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.keyholders import rotate
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.errors import ConfigurationError, FreezerError
from freezer_sdk.storages.memory import MemoryStorage

PASSWORD = "correct horse"
OTHER = "battery staple"


def keys_of(storage: MemoryStorage, password: str | None) -> KeyRing:
    return open_repository(storage, lambda: password)


def make(model: MemoryStorage, password: str | None, new: MemoryStorage, new_password: str | None) -> None:
    with (
        Freezer(model, password=password) as source,
        Freezer.create(new, password=new_password, encryption=new_password is not None, like=source) as freezer,
    ):
        assert freezer.backups() == []
        assert freezer.info().id != source.info().id


def test_only_the_names_of_content_are_shared() -> None:
    first, second = MemoryStorage(), MemoryStorage()
    classes = (ChunkerClass(0, 1 << 16), ChunkerClass(1 << 30, 1 << 18))
    create_repository(first, password=PASSWORD, chunker_classes=classes, segment=1 << 19)
    make(first, PASSWORD, second, OTHER)
    ours, theirs = keys_of(first, PASSWORD), keys_of(second, OTHER)
    assert ours.data_hash_key() == theirs.data_hash_key()
    assert ours.meta_hash_key() == theirs.meta_hash_key()
    assert ours.chunker_seed == theirs.chunker_seed
    assert theirs.config.chunker_classes == classes
    assert theirs.config.segment == 1 << 19
    assert ours.repository_id != theirs.repository_id
    assert ours.slot_id != theirs.slot_id
    assert ours.index_key(1) != theirs.index_key(1)
    assert ours.config.epochs[0].data_public != theirs.config.epochs[0].data_public
    assert ours.config.roster[0].signing_public != theirs.config.roster[0].signing_public
    with pytest.raises(WrongPassword):
        keys_of(second, PASSWORD)


def test_a_repository_that_was_rotated_is_a_model_too() -> None:
    first, second = MemoryStorage(), MemoryStorage()
    keys = rotate(first, create_repository(first, password=PASSWORD))
    assert keys.epoch == 2
    make(first, PASSWORD, second, OTHER)
    assert keys_of(second, OTHER).data_hash_key() == keys.data_hash_key()
    assert keys_of(second, OTHER).epoch == 1


def test_the_names_of_encrypted_content_are_not_published() -> None:
    first, second = MemoryStorage(), MemoryStorage()
    create_repository(first, password=PASSWORD)
    with pytest.raises(PolicyRefusal, match="publish"):
        make(first, PASSWORD, second, None)
    assert not is_repository(second)
    assert not list(second.list())


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_like_an_unencrypted_one(password: str | None) -> None:
    first, second = MemoryStorage(), MemoryStorage()
    create_repository(first, password=None)
    make(first, None, second, password)
    assert keys_of(second, password).encrypted is (password is not None)
    assert keys_of(second, password).chunker_seed == keys_of(first, None).chunker_seed


def test_what_is_there_is_left_alone() -> None:
    first, second = MemoryStorage(), MemoryStorage()
    for storage in (first, second):
        create_repository(storage, password=None)
    before = keys_of(second, None).data_hash_key()
    with pytest.raises(RepositoryExists):
        make(first, None, second, None)
    assert keys_of(second, None).data_hash_key() == before


def test_a_model_of_another_engine_is_refused() -> None:
    storage = MemoryStorage()
    with pytest.raises(ConfigurationError, match="dedup"):
        DedupEngine().create(storage, password=lambda: None, encryption=False, like=object())  # type: ignore[arg-type]
    assert not is_repository(storage)


def test_an_engine_that_cannot_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DedupEngine, "capabilities", EngineCapabilities())
    first, second = MemoryStorage(), MemoryStorage()
    create_repository(first, password=None)
    with pytest.raises(ConfigurationError, match="like another"):
        make(first, None, second, None)


def test_a_model_that_is_closed_is_refused() -> None:
    model = Freezer.create(MemoryStorage(), encryption=False)
    model.close()
    with pytest.raises(FreezerError, match="closed"):
        Freezer.create(MemoryStorage(), encryption=False, like=model)
