"""Several holders of keys: roles, what each can do, rotation and removal."""

from __future__ import annotations

import os
import threading

import pytest

from freezer_sdk import Freezer
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import control, protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot, reconfigure, reload, rotate
from freezer_sdk.engines.dedup.keyring import OWNER, Role
from freezer_sdk.errors import (
    AccessDenied,
    ConfigurationError,
    IntegrityError,
    ObjectExists,
    RepositoryLocked,
    WrongPassword,
)
from freezer_sdk.storages.base import Capabilities
from freezer_sdk.storages.memory import MemoryStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)


@pytest.fixture
def storage():
    return MemoryStorage()


@pytest.fixture
def owner(storage):
    return create_repository(storage, password="owner", kdf=CHEAP)


def add(storage, owner, password, *roles):
    add_slot(storage, owner, password=password, roles=roles, label=f"the {password}", kdf=CHEAP)
    return open_repository(storage, lambda: password)


def test_a_writer_writes_and_cannot_read(storage, owner):
    writer = add(storage, owner, "client", Role.WRITER)
    assert writer.roles == {Role.WRITER}
    assert writer.data_hash_key() == owner.data_hash_key()
    assert writer.chunker_seed == owner.chunker_seed
    assert writer.index_key(1) == owner.index_key(1)
    assert writer.epochs[1].data_private is None
    run = writer.new_run_key()
    assert owner.open_run_key(run.epoch, run.sealed) == run.key
    with pytest.raises(AccessDenied, match="reader"):
        writer.open_run_key(run.epoch, run.sealed)
    with pytest.raises(AccessDenied, match="maintainer"):
        add_slot(storage, writer, password="x", roles={Role.WRITER}, kdf=CHEAP)
    with pytest.raises(AccessDenied):
        protocol.write_tombstone(storage, writer, "0" * 32)
    config = owner.config
    assert [slot.label for slot in reload(storage, owner).config.roster] == ["", "the client"]
    assert config.number == 1


def test_a_writer_backs_up_what_only_others_can_read(storage, owner, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(300_000))
    add(storage, owner, "client", Role.WRITER)
    for _again in range(2):
        with Freezer(storage, password="client") as client:
            backup = client.backup(source, name="t")
            assert backup.status == "complete"
            with pytest.raises(AccessDenied):
                client.backups()
    assert backup.stats.added_bytes < 5_000  # its content was there
    with Freezer(storage, password="owner") as reading:
        assert len(reading.backups()) == 2
        reading.restore(backup.id, tmp_path / "out")
        assert reading.verify(read_data=True).ok
    assert (tmp_path / "out" / "file").read_bytes() == (source / "file").read_bytes()


def test_a_reader_reads_and_what_it_signs_is_no_writers(storage, owner):
    reader = add(storage, owner, "auditor", Role.READER)
    run = owner.new_run_key()
    assert reader.open_run_key(run.epoch, run.sealed) == run.key
    owner = reload(storage, owner)
    signature = reader.sign(b"context", b"payload")
    owner.check(reader.slot_id, b"context", b"payload", signature, role=Role.READER)
    for role in (Role.WRITER, Role.MAINTAINER):
        with pytest.raises(IntegrityError, match=str(role)):
            owner.check(reader.slot_id, b"context", b"payload", signature, role=role)
    with pytest.raises(AccessDenied):
        protocol.Lease.create(storage, reader, "backups/x")


def test_signatures_are_bound(storage, owner):
    signature = owner.sign(b"context", b"payload")
    owner.check(owner.slot_id, b"context", b"payload", signature, role=Role.WRITER)
    other = create_repository(MemoryStorage(), password=None)
    cases = [
        (owner.slot_id, b"contex", b"tpayload", signature),
        (owner.slot_id, b"context", b"payload2", signature),
        (owner.slot_id, b"context", b"payload", signature[:-1]),
        (owner.slot_id, b"context", b"payload", other.sign(b"context", b"payload")),
        (bytes(16), b"context", b"payload", signature),
        (b"", b"context", b"payload", signature),
    ]
    for signer, context, payload, value in cases:
        with pytest.raises(IntegrityError):
            owner.check(signer, context, payload, value, role=Role.WRITER)


def test_run_keys_are_bound(owner):
    run = owner.new_run_key()
    other = create_repository(MemoryStorage(), password=None)
    for ring, epoch, sealed in (
        (owner, 2, run.sealed),
        (owner, 1, run.sealed[:-1]),
        (owner, 1, b""),
        (owner, 1, bytes(80)),
        (other, 1, run.sealed),
    ):
        with pytest.raises(IntegrityError):
            ring.open_run_key(epoch, sealed)
    assert owner.open_run_key(1, memoryview(bytearray(run.sealed))) == run.key
    assert len({owner.new_run_key().key for _ in range(20)}) == 20


def test_roles_that_make_no_sense(storage, owner):
    for roles in ((), (Role.MAINTAINER,), (Role.MAINTAINER, Role.WRITER)):
        with pytest.raises(ConfigurationError):
            add_slot(storage, owner, password="x", roles=roles, kdf=CHEAP)
    unencrypted = MemoryStorage()
    with pytest.raises(ConfigurationError):
        add_slot(unencrypted, create_repository(unencrypted, password=None), password="x", roles=OWNER)


def test_a_second_owner_administers_after_the_first_is_removed(storage, owner):
    second = add(storage, owner, "second", *OWNER)
    rotated = rotate(storage, second, revoke=[owner.slot_id])
    assert rotated.epoch == 2
    with pytest.raises(WrongPassword, match="removed"):
        open_repository(storage, lambda: "owner")
    with pytest.raises(WrongPassword, match="removed"):
        reload(storage, owner)
    third = add(storage, rotated, "third", Role.READER)
    assert third.epoch == 2
    assert third.index_key(1) == owner.index_key(1)
    assert third.epochs[1].data_private == owner.epochs[1].data_private


def test_rotation_gives_new_keys_to_those_who_stay(storage, owner):
    client, gone = add(storage, owner, "client", Role.WRITER), add(storage, owner, "gone", Role.WRITER, Role.READER)
    old_run = owner.new_run_key()
    signed_before = gone.sign(b"c", b"p")
    ring = rotate(storage, owner, revoke=[gone.slot_id])
    assert ring.epoch == 2
    assert ring.index_key(2) != ring.index_key(1)
    assert ring.data_hash_key() == owner.data_hash_key()
    assert ring.chunker_seed == owner.chunker_seed
    assert ring.open_run_key(1, old_run.sealed) == old_run.key
    for known in (reload(storage, client), open_repository(storage, lambda: "client")):
        assert known.epoch == 2
        assert known.index_key(2) == ring.index_key(2)
        assert known.epochs[2].data_private is None
    with pytest.raises(WrongPassword, match="removed"):
        open_repository(storage, lambda: "gone")
    # what it signed in its time still counts, what it signs now does not
    ring.check(gone.slot_id, b"c", b"p", signed_before, role=Role.WRITER, epoch=1)
    for epoch in (2, None):
        with pytest.raises(IntegrityError, match="revoked"):
            ring.check(gone.slot_id, b"c", b"p", signed_before, role=Role.WRITER, epoch=epoch)
    # a client that has not heard of the epoch yet says so instead of guessing
    with pytest.raises(IntegrityError, match="epoch 2"):
        client.index_key(2)


def test_rotation_refuses(storage, owner):
    with pytest.raises(ConfigurationError, match="itself"):
        rotate(storage, owner, revoke=[owner.slot_id])
    with pytest.raises(ConfigurationError, match="no slot"):
        rotate(storage, owner, revoke=[bytes(16)])
    before = {info.name for info in storage.list("config/")}
    lost = add_slot(storage, owner, password="lost", roles={Role.READER}, kdf=CHEAP)
    for info in list(storage.list("keys/")):
        if lost.id.hex() in storage.get(info.name).decode():
            storage.delete_many([info.name, "copies/" + info.name])
    with pytest.raises(IntegrityError, match="cannot be found"):
        rotate(storage, owner)
    assert len(list(storage.list("config/"))) == len(before) + 1
    assert rotate(storage, owner, revoke=[lost.id]).epoch == 2


def test_an_unencrypted_repository_rotates_too():
    storage = MemoryStorage()
    ring = rotate(storage, create_repository(storage, password=None))
    assert open_repository(storage, lambda: None).index_key(2) == ring.index_key(2)


def test_administrators_at_the_same_time(storage, owner):
    failures = []

    def run(number):
        try:
            if number % 2:
                add_slot(storage, owner, password=f"slot {number}", roles={Role.WRITER}, kdf=CHEAP)
            else:
                reconfigure(storage, owner, grace=7200 + number)
        except RepositoryLocked as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring = reload(storage, owner)
    assert not failures
    assert ring.config.number == 7
    assert len(ring.config.roster) == 4
    assert ring.config.grace >= 7200
    assert ring.problems == ()


def test_a_killed_administrator_leaves_everything_as_it_was(storage, owner):
    class Killed(BaseException):
        pass

    for steps in range(4):

        class Dying(MemoryStorage):
            left = steps

            def put(self, name, buffers, *, if_absent=False):
                if not self.left:
                    raise Killed
                self.left -= 1
                return super().put(name, buffers, if_absent=if_absent)

        dying = Dying(space=storage.location.removeprefix("memory:"))
        number = reload(storage, owner).config.number
        with pytest.raises(Killed):
            rotate(dying, owner)
        ring = open_repository(storage, lambda: "owner")
        assert ring.config.number == number + (steps == 3)
        assert rotate(storage, owner).epoch == ring.epoch + 1


def test_a_lost_answer_is_not_taken_for_somebody_else(storage, owner):
    """The configuration was stored, and a retry finds it: the slots that it needs must stay."""

    class Forgetful(MemoryStorage):
        def put(self, name, buffers, *, if_absent=False):
            info = super().put(name, buffers, if_absent=if_absent)
            if name.startswith("config/"):
                raise ObjectExists(name)
            return info

    forgetful = Forgetful(space=storage.location.removeprefix("memory:"))
    assert rotate(forgetful, owner).epoch == 2
    assert open_repository(storage, lambda: "owner").epoch == 2


def test_without_conditional_put_the_last_one_to_write_is_found_out():
    class Plain(MemoryStorage):
        other = None

        @property
        def capabilities(self):
            return Capabilities(conditional_put=False)

        def put(self, name, buffers, *, if_absent=False):
            assert not if_absent
            info = super().put(name, buffers)
            if self.other and name == "config/00000001":
                super().put(name, [self.other])
            return info

    storage = Plain()
    create_repository(storage, password="a", kdf=CHEAP)
    assert open_repository(storage, lambda: "a").epoch == 1
    raced = Plain()
    raced.other = storage.get("config/00000001")
    from freezer_sdk.errors import RepositoryExists

    with pytest.raises(RepositoryExists):
        create_repository(raced, password="b", kdf=CHEAP)


def test_an_old_slot_signed_commit_is_readable_after_its_removal(storage, owner):
    gone = add(storage, owner, "gone", Role.WRITER)
    data = control.seal(gone, "backup", "backups/x", {"a": 1}, secrecy="data")
    ring = rotate(storage, owner, revoke=[gone.slot_id])
    assert control.open(ring, "backup", "backups/x", data, role=Role.WRITER).payload == {"a": 1}
