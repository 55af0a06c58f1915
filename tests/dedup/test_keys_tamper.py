"""An attacker who may write to the storage: nothing but damage that is noticed."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_sdk.crypto import hpke, sign
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.config import decode_config, encode_config
from freezer_sdk.engines.dedup.epochs import EpochSecrets
from freezer_sdk.engines.dedup.keyholders import reconfigure, reload
from freezer_sdk.engines.dedup.keyring import OWNER, Role
from freezer_sdk.engines.dedup.slots import decode_slot, store_slot
from freezer_sdk.errors import (
    ConfigurationError,
    FreezerError,
    IntegrityError,
    UnsupportedFormat,
    WrongPassword,
)
from freezer_sdk.storages.memory import MemoryStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
PASSWORD = "correct horse"


def create(storage, password=PASSWORD, **more):
    return create_repository(storage, password=password, kdf=CHEAP, **more)


def open_it(storage):
    return open_repository(storage, lambda: PASSWORD)


def keys_name(storage, prefix="keys/"):
    return next(info.name for info in storage.list(prefix))


def put_both(storage, name, data):
    storage.put(name, [data])
    storage.put("copies/" + name, [data])


def replace_slot(storage, slot):
    """Both copies of the only slot, under a name that fits."""
    storage.delete_many([info.name for info in storage.list() if "keys/" in info.name])
    store_slot(storage, slot)


@pytest.fixture(scope="module")
def repository():
    storage = MemoryStorage()
    ring = create(storage)
    return {info.name: storage.get(info.name) for info in storage.list()}, ring


@pytest.mark.parametrize("kind", ["config/", "keys/", "copies/config/", "copies/keys/"])
def test_every_flipped_byte_is_survived(repository, kind):
    objects, ring = repository
    storage = MemoryStorage()
    for name, data in objects.items():
        storage.put(name, [data])
    name = next(name for name in objects if name.startswith(kind))
    whole = objects[name]
    for position in range(len(whole)):
        for bit in (0x01, 0x20):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            storage.put(name, [damaged])
            opened = open_it(storage)
            assert opened.config == ring.config
            assert opened.index_key(1) == ring.index_key(1)
            if not kind.startswith("copies/"):
                assert any(problem.path == name for problem in opened.problems), (position, bit)


def test_every_truncation_and_extension_is_survived(repository):
    objects, ring = repository
    for name, whole in objects.items():
        storage = MemoryStorage()
        for other, data in objects.items():
            storage.put(other, [data])
        for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"\n", whole + whole, b"\0" * len(whole)):
            storage.put(name, [damaged])
            assert open_it(storage).config == ring.config


def test_both_copies_flipped_is_noticed(repository):
    objects, _ring = repository
    name = "config/00000001"
    for position in range(0, len(objects[name]), 7):
        storage = MemoryStorage()
        for other, data in objects.items():
            storage.put(other, [data])
        damaged = bytearray(objects[name])
        damaged[position] ^= 1
        put_both(storage, name, bytes(damaged))
        with pytest.raises((IntegrityError, UnsupportedFormat)):
            open_it(storage)


def resigned(signed, key, **changes):
    """The configuration as an attacker would like it, signed by himself."""
    return encode_config(dataclasses.replace(signed.config, **changes), signed.signer, key).raw


def test_swapped_public_keys_are_refused(repository):
    objects, _ring = repository
    signed = decode_config(objects["config/00000001"], 1)
    evil, pair = sign.SigningKey.generate(), hpke.generate()
    line = dataclasses.replace(signed.config.roster[0], signing_public=evil.public, kem_public=pair.public)
    epoch = dataclasses.replace(signed.config.epochs[0], data_public=pair.public)
    for changes in ({"roster": (line,)}, {"epochs": (epoch,)}, {"grace": 3600}, {"encrypted": False}):
        forged = resigned(signed, evil, **changes)
        storage = MemoryStorage()
        for name, data in objects.items():
            storage.put(name, [data])
        put_both(storage, "config/00000001", forged)
        with pytest.raises(FreezerError):
            open_it(storage)
        put_both(storage, "config/00000001", objects["config/00000001"])
        put_both(storage, "config/00000002", resigned(signed, evil, number=2, **changes))
        assert open_it(storage).config == signed.config


def test_a_writer_cannot_sign_a_configuration():
    from freezer_sdk.engines.dedup.keyholders import add_slot

    storage = MemoryStorage()
    add_slot(storage, create(storage), password="client", roles={Role.WRITER}, kdf=CHEAP)
    client = open_repository(storage, lambda: "client")
    line = client.config.slot(client.slot_id)
    roster = tuple(dataclasses.replace(s, roles=OWNER) if s == line else s for s in client.config.roster)
    forged = configs.successor(client.config, client.config.changed, roster=roster)
    raw = encode_config(forged, client.slot_id, client.secret.signing).raw
    put_both(storage, "config/00000003", raw)
    assert open_repository(storage, lambda: "client").roles == {Role.WRITER}
    assert open_it(storage).config.number == 2


def test_a_bundle_with_other_keys_is_refused(repository):
    objects, ring = repository
    storage = MemoryStorage()
    for name, data in objects.items():
        storage.put(name, [data])
    slot = decode_slot(storage.get(keys_name(storage)))
    line = ring.config.roster[0]
    evil = EpochSecrets.generate(1)
    mixed = dataclasses.replace(evil, data_public=ring.epochs[1].data_public)
    for secrets in (evil, mixed):
        bundle = secrets.seal(ring.repository_id, line.id, line.kem_public, OWNER)
        replace_slot(storage, dataclasses.replace(slot, bundles={1: bundle}, serial=2))
        with pytest.raises(IntegrityError, match="epoch 1"):
            open_it(storage)
    store_slot(storage, slot)  # the true one beside the forged one, tried second
    assert open_it(storage).index_key(1) == ring.index_key(1)


def test_a_planted_open_slot_does_not_answer_for_a_password(repository):
    """The attacker's open slot trusts the attacker, who signs a newer configuration without encryption."""
    objects, ring = repository
    evil_storage, storage = MemoryStorage(), MemoryStorage()
    evil = create(evil_storage, password=None)
    forged = dataclasses.replace(evil.config, repository_id=ring.repository_id, number=2)
    signed = encode_config(forged, evil.slot_id, evil.secret.signing)
    slot = evil_slot(ring.repository_id, evil, signed)
    for name, data in objects.items():
        storage.put(name, [data])
    store_slot(storage, slot)
    put_both(storage, "config/00000002", signed.raw)
    opened = open_it(storage)
    assert opened.encrypted
    assert opened.config == ring.config
    # even when everything else is taken away, a password is not silently ignored
    storage.delete_many([name for name in objects if "keys/" in name])
    with pytest.raises((ConfigurationError, IntegrityError)):
        open_it(storage)


def evil_slot(repository_id, evil, signed):
    from freezer_sdk.engines.dedup.slots import SlotObject, wrap

    secret = dataclasses.replace(evil.secret, trust_number=2)
    kdf, wrapped = wrap(secret, repository_id=repository_id, slot_id=evil.slot_id, password=None, params=CHEAP)
    line = evil.config.roster[0]
    epoch = evil.epochs[1]
    bundles = {1: epoch.seal(repository_id, evil.slot_id, line.kem_public, OWNER)}
    return SlotObject(
        repository_id=repository_id,
        slot_id=evil.slot_id,
        serial=99,
        kdf=kdf,
        wrapped=wrapped,
        bundles=bundles,
        config=signed.raw,
    )


def test_the_slot_of_another_repository_does_not_fit(repository):
    objects, ring = repository
    other = MemoryStorage()
    create(other)
    slot = decode_slot(other.get(keys_name(other)))
    storage = MemoryStorage()
    for name, data in objects.items():
        storage.put(name, [data])
    replace_slot(storage, dataclasses.replace(slot, repository_id=ring.repository_id))
    with pytest.raises(IntegrityError, match="1 of the repository cannot be read"):
        open_it(storage)


@pytest.mark.parametrize("field", ["slot", "repository", "serial", "kdf"])
def test_clear_parameters_of_a_slot_are_bound(repository, field):
    objects, _ring = repository
    storage = MemoryStorage()
    for name, data in objects.items():
        storage.put(name, [data])
    document = json.loads(storage.get(keys_name(storage)))
    document[field] = {
        "slot": "00" * 16,
        "repository": "00" * 16,
        "serial": 7,
        "kdf": {**document["kdf"], "time": 2},
    }[field]
    raw = json.dumps(document).encode()
    storage.delete_many([info.name for info in storage.list() if "keys/" in info.name])
    put_both(storage, "keys/" + hashlib.sha256(raw).hexdigest(), raw)
    if field == "serial":  # decides nothing
        assert open_it(storage).epoch == 1
        return
    with pytest.raises((WrongPassword, IntegrityError)):
        open_it(storage)


@pytest.mark.parametrize(
    "kdf",
    [
        {"name": "argon2id", "memory": 1 << 30, "time": 3, "lanes": 4},
        {"name": "argon2id", "memory": 64, "time": 1 << 40, "lanes": 4},
        {"name": "argon2id", "memory": 1 << 20, "time": 3, "lanes": 1 << 20},
        {"name": "md5"},
        {"name": "open"},
    ],
)
def test_hostile_costs_and_methods_of_a_slot(repository, kdf):
    objects, _ring = repository
    storage = MemoryStorage()
    for name, data in objects.items():
        storage.put(name, [data])
    document = json.loads(storage.get(keys_name(storage)))
    raw = json.dumps({**document, "kdf": {"salt": document["kdf"]["salt"], **kdf}}).encode()
    put_both(storage, "keys/" + hashlib.sha256(raw).hexdigest(), raw)
    assert open_it(storage).epoch == 1  # the true one still opens
    storage.delete_many([name for name in objects if "keys/" in name])
    with pytest.raises((IntegrityError, ConfigurationError)):
        open_it(storage)


def test_an_older_configuration_does_not_come_back():
    storage = MemoryStorage()
    first = create(storage)
    old = storage.get("config/00000001")
    ring = reconfigure(storage, first, grace=7200)
    assert ring.config.number == 2
    new = storage.get("config/00000002")
    # under the newer number, in either place or both
    for places in (["config/"], ["copies/config/"]):
        for place in places:
            storage.put(place + "00000002", [old])
        assert open_it(storage).config.grace == 7200
        put_both(storage, "config/00000002", new)
    # the newer one taken away in one place
    storage.delete("config/00000002")
    assert open_it(storage).config.grace == 7200
    # taken away wholly: who has seen it notices
    storage.delete("copies/config/00000002")
    assert open_it(storage).config.number == 1
    with pytest.raises(IntegrityError, match="set back"):
        reload(storage, ring)


def test_a_change_of_grace_counts_from_the_longer():
    storage = MemoryStorage()
    ring = reconfigure(storage, create(storage, grace=86_400), grace=3600)
    assert ring.config.longest_grace.total_seconds() == 86_400
    assert ring.config.shortest_grace.total_seconds() == 3600
    with pytest.raises(ConfigurationError):
        reconfigure(storage, ring, grace=10)


def test_unknown_fields_are_kept():
    storage = MemoryStorage()
    ring = create(storage)
    extra = configs.successor(ring.config, ring.config.changed, extra={"colour": "blue"})
    put_both(storage, "config/00000002", encode_config(extra, ring.slot_id, ring.secret.signing).raw)
    changed = reconfigure(storage, reload(storage, ring), features={"write": ["shingles"]})
    assert changed.config.number == 3
    assert changed.config.extra == {"colour": "blue"}
    assert changed.config.features["write"] == ("shingles",)


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(data):
    for decode in (decode_config, decode_slot):
        with pytest.raises(FreezerError):
            decode(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_documents_with_wrong_fields_are_refused(repository, data):
    objects, _ring = repository
    lines = objects["config/00000001"].split(b"\n")
    slot = next(raw for name, raw in objects.items() if name.startswith("keys/"))
    for raw, decode, tail in (
        (lines[0], decode_config, b"\n" + lines[1] + b"\n"),
        (slot, decode_slot, b""),
    ):
        document = json.loads(raw)
        field = data.draw(st.sampled_from(sorted(document)))
        document[field] = data.draw(json_values)
        try:
            decode(json.dumps(document).encode() + tail)
        except FreezerError:
            pass


def test_hostile_nesting_and_sizes():
    deep = b"[" * 100_000
    for decode in (decode_config, decode_slot):
        for raw in (deep, b'{"a":' * 50_000, b'{"format":' + b"9" * 100_000 + b"}", b"{}", b'{"a":1,"a":2}'):
            with pytest.raises(IntegrityError):
                decode(raw)
    with pytest.raises(IntegrityError):
        decode_config(b" " * (configs.MAX_SIZE + 1))


def test_an_object_larger_than_it_can_be_is_not_read_whole(repository):
    objects, ring = repository
    taken = []

    class Huge(MemoryStorage):
        def get(self, name, *, offset=0, length=None):
            data = super().get(name, offset=offset, length=length)
            taken.append(len(data))
            return data

    storage = Huge()
    for name, data in objects.items():
        storage.put(name, [data])
    storage.put("config/00000001", [bytes(40 << 20)])
    storage.put(keys_name(storage), [bytes(40 << 20)])
    assert open_it(storage).config == ring.config
    assert max(taken) < 30 << 20


def test_planted_objects_do_not_stop_the_owner(repository):
    """A configuration and a slot of another repository, more slots than there can be, and names that are none."""
    objects, ring = repository
    other = MemoryStorage()
    foreign = create(other)
    storage = MemoryStorage()
    for name, data in objects.items():
        storage.put(name, [data])
    raw = encode_config(dataclasses.replace(foreign.config, number=77), foreign.slot_id, foreign.secret.signing).raw
    put_both(storage, "config/00000077", raw)
    for name in ("config/1", "config/000000001", "keys/readme", "copies/readme", "copies/keys/x"):
        storage.put(name, [b"junk"])
    opened = open_it(storage)
    assert opened.config == ring.config
    assert any(problem.path == "config/00000077" for problem in opened.problems)


def test_slots_without_end_are_not_all_read(repository):
    objects, _ring = repository
    read = []

    class Counting(MemoryStorage):
        def get(self, name, *, offset=0, length=None):
            data = super().get(name, offset=offset, length=length)
            read.append(len(data))
            return data

    storage = Counting()
    for name, data in objects.items():
        storage.put(name, [data])
    for number in range(40):
        raw = bytes([number]) * (4 << 20)
        storage.put("keys/" + hashlib.sha256(raw).hexdigest(), [raw])
    try:
        open_it(storage)
    except FreezerError:
        pass
    assert sum(read) < 100 << 20
