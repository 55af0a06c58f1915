"""Making and opening repositories: passwords, races, second copies, features."""

from __future__ import annotations

import threading

import pytest

from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup.access import create_repository, is_repository, open_repository
from freezer_sdk.engines.dedup.keyring import OWNER, Role
from freezer_sdk.errors import (
    ConfigurationError,
    FreezerError,
    IntegrityError,
    RepositoryExists,
    RepositoryNotFound,
    UnsupportedFormat,
    WrongPassword,
)
from freezer_sdk.storages.memory import MemoryStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)


def create(storage, password="correct horse", **more):
    return create_repository(storage, password=password, kdf=CHEAP, **more)


def secrets_of(ring):
    return (
        ring.data_hash_key(),
        ring.meta_hash_key(),
        ring.chunker_seed,
        {number: (e.index_key, e.data_public, e.data_private) for number, e in ring.epochs.items()},
    )


def snapshot(storage):
    return {info.name: storage.get(info.name) for info in storage.list()}


class Asked:
    """A password source that counts."""

    def __init__(self, password, *, interactive=False):
        self.password, self.interactive, self.times = password, interactive, 0

    def __call__(self):
        self.times += 1
        return self.password


def test_what_was_made_opens_again():
    storage = MemoryStorage()
    assert not is_repository(storage)
    made = create(storage, label="first")
    assert is_repository(storage)
    before = snapshot(storage)
    opened = open_repository(storage, lambda: "correct horse")
    assert snapshot(storage) == before
    assert secrets_of(opened) == secrets_of(made)
    assert opened.repository_id == made.repository_id
    assert opened.slot_id == made.slot_id
    assert opened.roles == OWNER
    assert opened.encrypted
    assert opened.epoch == 1
    assert opened.config == made.config
    assert opened.problems == ()
    assert 1 <= opened.chunker_seed < 1 << 63
    assert opened.data_hash_key() != opened.meta_hash_key()
    assert len({opened.data_hash_key(), opened.meta_hash_key(), opened.index_key(1)}) == 3


def test_the_password_is_normalised():
    storage = MemoryStorage()
    create(storage, password="cafe\u0301\u00a0x")
    assert open_repository(storage, lambda: "caf\u00e9 x").epoch == 1


@pytest.mark.parametrize("password", ["wrong", "correct horse ", "CORRECT HORSE"])
def test_wrong_password(password):
    storage = MemoryStorage()
    create(storage)
    before = snapshot(storage)
    source = Asked(password)
    with pytest.raises(WrongPassword) as caught:
        open_repository(storage, source)
    assert caught.value.exit_code == 12
    assert password not in str(caught.value)
    assert source.times == 1
    assert snapshot(storage) == before


def test_no_password_for_an_encrypted_repository():
    storage = MemoryStorage()
    create(storage)
    with pytest.raises(WrongPassword) as caught:
        open_repository(storage, lambda: None)
    assert caught.value.hint


def test_nothing_is_asked_where_nothing_is():
    storage, source = MemoryStorage(), Asked("x")
    storage.put("something/else", [b"data"])
    storage.put("config", [b"of another program"])
    with pytest.raises(RepositoryNotFound) as caught:
        open_repository(storage, source)
    assert caught.value.exit_code == 10
    assert source.times == 0


def test_unencrypted():
    storage = MemoryStorage()
    made = create(storage, password=None)
    source = Asked(None, interactive=True)
    opened = open_repository(storage, source)
    assert not opened.encrypted
    assert secrets_of(opened) == secrets_of(made)
    assert source.times == 0
    assert open_repository(storage, lambda: None).epoch == 1


def test_a_password_for_an_unencrypted_repository_is_refused():
    storage = MemoryStorage()
    create(storage, password=None)
    with pytest.raises(ConfigurationError, match="not encrypted"):
        open_repository(storage, lambda: "secret")


def test_an_empty_password_makes_nothing():
    storage = MemoryStorage()
    with pytest.raises(ConfigurationError):
        create(storage, password="")
    assert not list(storage.list())


def test_making_it_twice():
    storage = MemoryStorage()
    create(storage)
    before = snapshot(storage)
    with pytest.raises(RepositoryExists):
        create(storage, password="another")
    assert snapshot(storage) == before


def test_of_many_that_make_it_at_once_one_wins():
    storage = MemoryStorage()
    barrier, results = threading.Barrier(8), []

    class Late(MemoryStorage):
        """All look before any writes."""

        def list(self, prefix="", *, delimiter=None):
            found = list(super().list(prefix, delimiter=delimiter))
            if prefix == "copies/config/":
                barrier.wait(timeout=300)
            return iter(found)

    def run(number):
        late = Late(space=storage.location.removeprefix("memory:"))
        try:
            results.append((number, create(late, password=f"password {number}")))
        except RepositoryExists as error:
            results.append((number, error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [(number, ring) for number, ring in results if not isinstance(ring, RepositoryExists)]
    assert len(results) == 8
    assert len(winners) == 1
    number, ring = winners[0]
    assert secrets_of(open_repository(storage, lambda: f"password {number}")) == secrets_of(ring)
    with pytest.raises(WrongPassword):
        open_repository(storage, lambda: f"password {(number + 1) % 8}")
    assert len(list(storage.list())) == 4


def test_the_slot_of_a_killed_init_does_not_open_another_repository():
    first, second, storage = MemoryStorage(), MemoryStorage(), MemoryStorage()
    create(first)
    create(second)
    for name, data in snapshot(first).items():
        if "keys/" in name:
            storage.put(name, [data])
    assert not is_repository(storage)
    for name, data in snapshot(second).items():
        storage.put(name, [data])
    ring = open_repository(storage, lambda: "correct horse")
    assert ring.repository_id == open_repository(second, lambda: "correct horse").repository_id


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_an_init_killed_early_leaves_no_repository_and_can_be_repeated(keep):
    class Killed(BaseException):
        pass

    class Dying(MemoryStorage):
        puts = 0

        def put(self, name, buffers, *, if_absent=False):
            if self.puts == keep:
                raise Killed
            self.puts += 1
            return super().put(name, buffers, if_absent=if_absent)

    dying = Dying()
    with pytest.raises(Killed):
        create(dying)
    storage = MemoryStorage(space=dying.location.removeprefix("memory:"))
    if keep < 3:
        assert not is_repository(storage)
        create(storage)
    assert open_repository(storage, lambda: "correct horse").epoch == 1


@pytest.mark.parametrize(
    "lost", [("config/",), ("keys/",), ("copies/",), ("config/", "keys/"), ("copies/config/", "keys/")]
)
def test_either_copy_is_enough(lost):
    storage = MemoryStorage()
    made = create(storage)
    storage.delete_many([info.name for info in storage.list() if info.name.startswith(lost)])
    assert is_repository(storage)
    opened = open_repository(storage, lambda: "correct horse")
    assert secrets_of(opened) == secrets_of(made)
    if lost != ("copies/",):
        assert opened.problems


def test_both_copies_lost():
    for lost, error in (("config/", RepositoryNotFound), ("keys/", IntegrityError)):
        storage = MemoryStorage()
        create(storage)
        storage.delete_many([info.name for info in storage.list() if lost in info.name])
        source = Asked("correct horse")
        with pytest.raises(error):
            open_repository(storage, source)
        assert source.times == 0


def test_features_that_are_not_known():
    storage = MemoryStorage()
    create(
        storage,
        features={"read": ["compression:lz4"], "write": ["shingles"]},
        supported=frozenset({"compression:lz4", "shingles"}),
    )
    source = Asked("correct horse")
    with pytest.raises(UnsupportedFormat, match="compression:lz4"):
        open_repository(storage, source)
    assert source.times == 0
    reading = open_repository(storage, source, supported=frozenset({"compression:lz4"}))
    reading.require("read")
    for kind in ("write", "maintain"):
        with pytest.raises(UnsupportedFormat, match="shingles"):
            reading.require(kind)
    both = open_repository(storage, source, supported=frozenset({"compression:lz4", "shingles"}))
    both.require("maintain")


@pytest.mark.parametrize(("version", "hint"), [(2, "newer version"), (0, "draft")])
def test_a_version_that_is_not_known(version, hint):
    storage = MemoryStorage()
    create(storage)
    for name in ("config/00000001", "copies/config/00000001"):
        storage.put(name, [storage.get(name).replace(b'"version":1', b'"version":%d' % version)])
    source = Asked("correct horse")
    with pytest.raises(UnsupportedFormat, match="version 1") as caught:
        open_repository(storage, source)
    assert hint in caught.value.hint
    assert source.times == 0


def test_choices_out_of_bounds():
    for more in ({"grace": 60}, {"grace": 10**9}, {"segment": 1}, {"features": {"read": ["No Such"]}}):
        storage = MemoryStorage()
        with pytest.raises(ConfigurationError):
            create(storage, **more)
        assert not list(storage.list())
    ring = create(MemoryStorage(), grace=2, short_grace=True)
    assert ring.config.longest_grace.total_seconds() == 2


def test_nothing_secret_is_shown_or_stored():
    storage = MemoryStorage()
    ring = create(storage)
    run = ring.new_run_key()
    secret = [run.key, ring.data_hash_key(), ring.meta_hash_key(), ring.index_key(1), ring.secret.kem_private]
    secret += [ring.secret.signing.secret(), ring.epochs[1].hash_key, ring.epochs[1].data_private]
    shown = f"{ring!r} {run!r} {run} {ring.epochs!r} {ring.secret!r} {ring.secret.signing!r} {ring.config!r}"
    stored = b"".join(snapshot(storage).values())
    for value in secret:
        assert value.hex() not in shown
        assert repr(value)[2:-1] not in shown
        assert value not in stored
        assert value.hex().encode() not in stored
    assert "correct horse" not in shown
    assert str(ring.chunker_seed) not in shown + stored.decode()
    assert Role.WRITER in ring.roles


def test_errors_are_ours():
    storage = MemoryStorage()
    for name in ("config/00000001", "copies/config/00000001", "keys/" + "0" * 64):
        storage.put(name, [b"\xff\x00 no json"])
    with pytest.raises(FreezerError):
        open_repository(storage, lambda: "x")
