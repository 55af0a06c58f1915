"""What a power cut kept from being written twice is only a warning, and the next backup of a maintainer mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezer_sdk import Freezer, Problem
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot, reconfigure, rotate
from freezer_sdk.engines.dedup.keyring import OWNER, KeyRing, Role
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import damage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
PLACES = ["config/", "copies/config/", "keys/", "copies/keys/"]


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    owner = create_repository(storage, password="owner", kdf=CHEAP)
    add_slot(storage, owner, password="writer", roles={Role.WRITER, Role.READER}, kdf=CHEAP)
    return storage


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_bytes(b"content")
    return path


def below(storage: MemoryStorage, *prefixes: str) -> dict[str, bytes]:
    return {info.name: storage.get(info.name) for prefix in prefixes for info in storage.list(prefix)}


def verified(storage: MemoryStorage) -> tuple[bool, list[Problem]]:
    with Freezer(storage, password="owner") as freezer:
        result = freezer.verify(read_data=True)
    return result.ok, list(result.problems)


@pytest.mark.parametrize("place", PLACES)
def test_a_missing_copy_is_a_warning_until_a_maintainer_makes_a_backup(
    storage: MemoryStorage, source: Path, place: str
) -> None:
    before = below(storage, *PLACES)
    missing = {name for name in before if name.startswith(place)}
    storage.delete_many(missing)
    ok, problems = verified(storage)
    assert ok
    assert {problem.path for problem in problems} == missing
    assert not any(problem.fatal for problem in problems)
    with Freezer(storage, password="writer") as freezer:
        freezer.backup(source)
    with Freezer(storage, password="owner") as freezer:
        freezer.backup(source, dry_run=True)
    assert {problem.path for problem in verified(storage)[1]} == missing
    with Freezer(storage, password="owner") as freezer:
        freezer.backup(source)
    assert below(storage, *PLACES) == before
    assert verified(storage) == (True, [])


def test_copies_are_made_of_what_is_whole_only(storage: MemoryStorage, source: Path) -> None:
    names = sorted(info.name for info in storage.list("config/"))
    storage.delete_many(["copies/" + name for name in names])
    damage(storage, names[0], offset=100)
    foreign = below(_another_repository(), "keys/")
    for name, data in foreign.items():
        storage.put(name, [data])
    with Freezer(storage, password="owner") as freezer:
        freezer.backup(source)
    copies = below(storage, "copies/")
    assert "copies/" + names[0] not in copies
    assert copies["copies/" + names[1]] == storage.get(names[1])
    assert not {"copies/" + name for name in foreign} & set(copies)
    ok, problems = verified(storage)
    assert not ok
    assert {problem.path for problem in problems if problem.fatal} == {names[0]}
    assert {problem.path for problem in problems if problem.kind == "unknown"} == set(foreign)


def test_a_storage_that_refuses_does_not_end_the_backup(storage: MemoryStorage, source: Path) -> None:
    class Protected(MemoryStorage):
        def put(self, name, buffers, *, if_absent=False):  # type: ignore[no-untyped-def]
            if name.startswith("copies/") and name not in self.allowed:
                from freezer_sdk.errors import AccessDenied

                raise AccessDenied("no")
            return super().put(name, buffers, if_absent=if_absent)

    protected = Protected()
    protected.allowed = set(below(storage, ""))  # type: ignore[attr-defined]
    for name, data in below(storage, "").items():
        protected.put(name, [data])
    lost = "copies/config/00000001"
    protected.delete(lost)
    protected.allowed.discard(lost)  # type: ignore[attr-defined]
    with Freezer(protected, password="owner") as freezer:
        assert freezer.backup(source).status == "complete"
        assert [problem.path for problem in freezer.verify().problems] == [lost]


def test_configurations_of_a_removed_maintainer_stay_good(storage: MemoryStorage) -> None:
    owner = _owner(storage)
    add_slot(storage, owner, password="second", roles=OWNER, kdf=CHEAP)
    second = open_repository(storage, lambda: "second")
    rotate(storage, second, revoke=[owner.slot_id])
    with Freezer(storage, password="second") as freezer:
        result = freezer.verify()
    assert result.ok
    assert result.problems == ()


def test_a_program_that_stays_open_mends_what_came_later(storage: MemoryStorage, source: Path) -> None:
    """Nothing is looked for, so nothing is found before it opens again; but nothing goes wrong either."""
    with Freezer(storage, password="owner") as freezer:
        reconfigure(storage, _owner(storage), grace=7200)
        storage.delete("copies/config/00000003")
        freezer.backup(source)
    assert [problem.kind for problem in verified(storage)[1]] == ["missing"]
    with Freezer(storage, password="owner") as freezer:
        freezer.backup(source)
    assert verified(storage) == (True, [])


def _owner(storage: MemoryStorage) -> KeyRing:
    return open_repository(storage, lambda: "owner")


def _another_repository() -> MemoryStorage:
    storage = MemoryStorage()
    create_repository(storage, password="owner", kdf=CHEAP)
    return storage
