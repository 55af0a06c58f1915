"""Whose backups count, and on whose others build."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dedup.holders import CLIENT, content, handle_of, join, made, opened, service
from dedup.two import settle

from freezer_sdk import CopyOutcome, Freezer
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.errors import AccessDenied, BackupNotFound, ObjectNotFound, PolicyRefusal, StorageUnavailable
from freezer_sdk.model import BackupOptions, Buffer
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.storages.base import ObjectInfo
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage
from freezer_sdk.testing.faults import fail


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    made(storage)
    return storage


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = tmp_path / "source"
    base.mkdir()
    for number in range(4):
        (base / f"f{number}").write_bytes(random.Random(number).randbytes(200_000))
    settle()
    return base


def test_a_parent_is_taken_from_trusted_slots_only(storage: MemoryStorage, source: Path) -> None:
    join(storage, "client", *CLIENT)
    join(storage, "friend", *CLIENT, trusted=True)
    with opened(storage, "client") as client, opened(storage, "owner") as owner, opened(storage, "friend") as friend:
        first = client.backup(source, host="h")
        again = client.backup(source, host="h")
        assert (again.parent, again.stats.unmodified_files) == (first.id, 4)  # everybody trusts themselves
        other = owner.backup(source, host="h")
        assert (other.parent, other.stats.unmodified_files) == (None, 0)
        third = friend.backup(source, host="h")
        assert third.parent == other.id
        assert owner.backup(source, host="h").parent == third.id


def test_who_is_not_trusted_is_read_all_the_same(storage: MemoryStorage, source: Path, tmp_path: Path) -> None:
    join(storage, "client", *CLIENT)
    with opened(storage, "client") as client:
        backup = client.backup(source)
    with opened(storage, "owner") as owner:
        assert [each.id for each in owner.backups()] == [backup.id]
        owner.restore(backup.id, tmp_path / "out")
        assert owner.verify(read_data=True).ok
    assert content(tmp_path / "out") == content(source)


def test_what_an_untrusted_slot_stored_is_stored_again(storage: MemoryStorage, source: Path) -> None:
    join(storage, "client", *CLIENT)
    with opened(storage, "client") as client, opened(storage, "owner") as owner:
        assert client.backup(source).stats.added_bytes > 800_000
        assert owner.backup(source).stats.added_bytes > 800_000
        assert client.backup(source, force_read=True).stats.added_bytes < 50_000


def test_trust_after_a_removal(storage: MemoryStorage, source: Path) -> None:
    for number, (keep, expected) in enumerate([(True, 50_000), (False, None)]):
        name = f"friend {number}"
        (source / "own").write_bytes(random.Random(name).randbytes(400_000))
        join(storage, name, *CLIENT, trusted=True)
        with opened(storage, name) as friend:
            friend.backup(source, host="h")
        service(storage).remove(name, keep_trust=keep)
        with opened(storage, "owner") as owner:
            added = owner.backup(source, host="h").stats.added_bytes
            assert added < expected if expected else added > 400_000
            assert owner.verify(read_data=True).ok


def test_a_slot_speaks_for_its_hosts(storage: MemoryStorage, source: Path) -> None:
    join(storage, "web", *CLIENT, hosts=["web1", "web2"])
    with opened(storage, "web") as web:
        assert web.backup(source, host="web2").host == "web2"
        before = list(storage.list())
        with pytest.raises(AccessDenied, match="only of web1, web2"):
            web.backup(source, host="db")
        assert list(storage.list()) == before


def forge(storage: MemoryStorage, who: str, monkeypatch: pytest.MonkeyPatch, source: Path, host: str) -> str:
    """A backup by somebody whose program does not refuse it."""
    from freezer_sdk.engines.dedup.backup import BackupRun

    with monkeypatch.context() as patch, opened(storage, who) as forger:
        patch.setattr(BackupRun, "_refuse_host", lambda self: None)
        return forger.backup(source, host=host, name="n").id


def test_a_backup_in_the_name_of_another_host_is_not_seen(
    storage: MemoryStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = join(storage, "web", *CLIENT, hosts=["web"])
    with opened(storage, "owner") as owner:
        real = owner.backup(source, host="db", name="n")
        forged = forge(storage, "web", monkeypatch, source, "db")
        assert [backup.id for backup in owner.backups()] == [real.id]
        assert owner.find_backup("latest", host="db").id == real.id
        with pytest.raises(BackupNotFound):
            owner.find_backup(forged)
        after = owner.backup(source, host="db", name="n")
        assert after.parent == real.id
    (found,) = Catalog(handle_of(storage, "owner")).forged()
    assert (found.listed.id, found.commit.signer) == (forged, web.slot_id)
    assert "may not make backups of the host 'db'" in found.why


def test_a_forged_backup_is_not_copied(storage: MemoryStorage, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    join(storage, "web", *CLIENT, hosts=["web"])
    forge(storage, "web", monkeypatch, source, "db")
    with opened(storage, "owner") as owner, Freezer(MemoryStorage(), create=True, encryption=False) as target:
        real = owner.backup(source, host="db")
        assert [result.backup.id for result in target.copy(owner)] == [real.id]


def test_nobody_takes_the_id_of_a_trusted_backup(
    storage: MemoryStorage, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(storage, "web", *CLIENT)
    with opened(storage, "owner") as owner:
        real = owner.backup(source, host="h")
        (source / "f0").write_bytes(b"spoilt")
        plant(storage, "web", source, real.id, monkeypatch)
        storage.put(f"backups/19700101T000000.000Z-{real.id}", [b"no commit at all"])
        assert [backup.id for backup in owner.backups()] == [real.id]
        owner.restore(real.id[:8], tmp_path / "out")
    assert (tmp_path / "out" / "f0").read_bytes() != b"spoilt"


def plant(storage: MemoryStorage, name: str, source: Path, backup_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup under an id that is taken."""
    from freezer_sdk.engines.dedup import backup

    identity = backup._identity
    with monkeypatch.context() as patch, opened(storage, name) as forger:
        patch.setattr(backup, "_identity", lambda options: (backup_id, identity(options)[1]))
        patch.setattr(Catalog, "refuse_stolen", lambda self, name: None)
        forger.backup(source, host="h")


def test_a_stolen_id_does_not_keep_copies_out(
    storage: MemoryStorage, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = MemoryStorage()
    made(elsewhere)
    join(elsewhere, "web", *CLIENT)
    with opened(storage, "owner") as owner, opened(elsewhere, "owner") as target:
        real = owner.backup(source, host="h")
        (source / "f0").write_bytes(b"spoilt")
        plant(elsewhere, "web", source, real.id, monkeypatch)
        (result,) = target.copy(owner)
        assert result.outcome is CopyOutcome.COPIED
        target.restore(real.id, tmp_path / "out")
        assert (tmp_path / "out" / "f0").read_bytes() != b"spoilt"
        assert target.copy(owner)[0].outcome is CopyOutcome.PRESENT


def test_a_writer_only_backs_up_and_no_more(storage: MemoryStorage, source: Path, tmp_path: Path) -> None:
    join(storage, "web", Role.WRITER)
    with opened(storage, "web") as web:
        first = web.backup(source, host="h")
        second = web.backup(source, host="h")
        assert first.stats.added_bytes > 800_000
        assert second.stats.added_bytes < 50_000  # it reads all, and stores only what is new
        assert (second.parent, second.stats.unmodified_files) == (None, 0)
        for action in (
            lambda: web.backups(),
            lambda: web.find_backup(first.id),
            lambda: list(web.entries(first.id)),
            lambda: web.restore(first.id, tmp_path / "no"),
            lambda: web.verify(),
        ):
            with pytest.raises(AccessDenied, match=r"needs the role reader; .* has writer") as refused:
                action()
            assert "reader or an owner" in (refused.value.hint or "")
        with pytest.raises(AccessDenied):
            web.forget([first.id])
        with pytest.raises((AccessDenied, PolicyRefusal)):
            web.keys.add("x")
    assert not (tmp_path / "no").exists()
    with opened(storage, "owner") as owner:
        owner.restore(second.id, tmp_path / "out")
        assert owner.verify(read_data=True).ok
    assert content(tmp_path / "out") == content(source)


def test_what_need_not_be_read_for_a_copy_is_said_by_trusted_slots(
    storage: MemoryStorage, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two repositories with a backup of one run: what has not changed since in one need not be copied to the other."""
    elsewhere = MemoryStorage()
    made(elsewhere)
    join(storage, "web", *CLIENT)
    twin = BackupOptions(name="n", host="h", id="ab" * 16, time=datetime(2026, 1, 1, tzinfo=UTC))
    for place in (storage, elsewhere):
        with (
            DedupEngine().open(place, password=lambda: "owner") as repository,
            FilesystemMode(paths=[str(source)]).protect() as protected,
        ):
            repository.backup(protected, twin, Context())
    with opened(storage, "owner") as owner, opened(elsewhere, "owner") as target:
        (source / "new").write_bytes(b"new")
        changed = owner.backup(source, host="h", name="n")
        (source / "f0").write_bytes(b"spoilt")
        plant(storage, "web", source, "ab" * 16, monkeypatch)
        (result,) = target.copy(owner, [changed.id])
        assert result.read_bytes < 1000
        target.restore(changed.id, tmp_path / "out")
    assert len((tmp_path / "out" / "f0").read_bytes()) == 200_000


@pytest.mark.parametrize("roles", [(Role.WRITER,), CLIENT])
def test_a_client_needs_to_do_no_more_than_add(storage: MemoryStorage, source: Path, roles: tuple[Role, ...]) -> None:
    """It replaces nothing and deletes nothing, also when it was killed before."""

    class AddOnly(MemoryStorage):
        def put(self, name: str, buffers: Iterable[Buffer], *, if_absent: bool = False) -> ObjectInfo:
            try:
                self.stat(name)
            except ObjectNotFound:
                return super().put(name, buffers, if_absent=if_absent)
            raise AssertionError(f"{name} is there already")

        def delete(self, name: str) -> None:
            raise AssertionError(f"{name} must stay")

    join(storage, "web", *roles, hosts=["h"])
    narrow = AddOnly(space=storage.location.removeprefix("memory:"))
    with opened(narrow, "web") as web:
        web.backup(source, host="h")
    cut = FaultyStorage(narrow, Fault(fail(StorageUnavailable("gone")), at=3, times=None, methods={"put"}))
    (source / "new").write_bytes(random.Random(99).randbytes(100_000))
    with opened(cut, "web") as web, pytest.raises(StorageUnavailable):
        web.backup(source, host="h")
    with opened(narrow, "web") as web:
        assert web.backup(source, host="h").stats.added_bytes < 150_000
    with opened(storage, "owner") as owner:
        assert len(owner.backups()) == 2
        assert owner.verify(read_data=True).ok


def test_a_reader_only_reads(storage: MemoryStorage, source: Path, tmp_path: Path) -> None:
    join(storage, "auditor", Role.READER)
    with opened(storage, "owner") as owner:
        backup = owner.backup(source)
    before = list(storage.list())
    with opened(storage, "auditor") as auditor:
        auditor.restore(backup.id, tmp_path / "out")
        assert auditor.verify(read_data=True).ok
        with pytest.raises(AccessDenied):
            auditor.backup(source)
        with pytest.raises(AccessDenied):
            auditor.forget([backup.id])
    assert list(storage.list()) == before
    assert open_repository(storage, lambda: "auditor").roles == {Role.READER}
