"""An attacker who has a writer's key, and may add objects to the storage but neither replace nor delete any.

Whatever is put there, the others' backups stay what they were, and so does what they do next. Each attack is a test;
``docs/explanation/threat-model.md`` names them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dedup.holders import CHEAP, CLIENT, content, join, made, opened, opens, service
from dedup.two import settle
from dedup.upkeep.world import GRACE, Clocked

from freezer_sdk import RetentionPolicy
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.crypto import hpke
from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup import control, documents, protocol, records, session, slots, writer
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.adopt import read_pack
from freezer_sdk.engines.dedup.backup import BackupRun
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.config import OWNER, encode_config
from freezer_sdk.engines.dedup.index import BlobIndex, PackRows, encode_index, section_of
from freezer_sdk.engines.dedup.keyholders import reconfigure
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import Kind, index_name
from freezer_sdk.engines.dedup.pack import SegmentRow
from freezer_sdk.engines.dedup.slots import Kdf, SlotObject, store_slot, wrap
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.errors import AccessDenied, IntegrityError, RepositoryError, UnsupportedFormat, WrongPassword
from freezer_sdk.key_model import KeyRole
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import ObjectInfo
from freezer_sdk.storages.memory import MemoryStorage


class AppendOnly(Clocked):
    """What the storage lets the attacker do."""

    def put(self, name: str, buffers: Iterable[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        return super().put(name, buffers, if_absent=True)

    def delete(self, name: str) -> None:
        raise AccessDenied(f"{name} stays")


class World:
    """A repository with backups of two hosts, and somebody who has the key of a third."""

    def __init__(self, folder: Path) -> None:
        self.storage = Clocked()
        made(self.storage, grace=GRACE)
        join(self.storage, "victim", *CLIENT, hosts=["victim"])
        self.evil = join(self.storage, "evil", Role.WRITER, hosts=["evil"])
        self.attack = AppendOnly(space=self.storage.location.removeprefix("memory:"))
        self._folder, self._number = folder, 0
        self.configuration = 3  # the number of the one that holds
        self.unreadable: list[str] = []  # ids of commits that nobody can open
        self.source = folder / "source"
        self.source.mkdir()
        for number in range(3):
            (self.source / f"f{number}").write_bytes(random.Random(number).randbytes(150_000))
        settle()
        self.ids = [self._backup("victim"), self._backup("owner")]
        self.ids = [*self.ids, self._backup("victim")]
        self.hosts = ["victim", "owner", "victim"]
        self.before = {info.name: self.storage.get(info.name) for info in self.storage.list()}

    def _backup(self, who: str) -> str:
        with opened(self.storage, who) as freezer:
            return freezer.backup(self.source, host=who, name="n").id

    def put(self, kind: str, name: str, document: dict[str, object], *, secrecy: str = "index") -> None:
        """A control object, signed by the attacker."""
        self.attack.put(name, [control.seal(self.evil, kind, name, document, secrecy=secrecy)])  # type: ignore[arg-type]

    def check(self) -> None:
        """Nothing has changed for the others."""
        for name, data in self.before.items():
            assert self.storage.get(name) == data
        self.planted = {info.name for info in self.storage.list()} - self.before.keys()
        with opened(self.storage, "owner") as owner:
            assert sorted(each.id for each in owner.backups() if each.host in ("victim", "owner")) == sorted(self.ids)
            for backup in self.ids:
                self._restores(backup)
            self._verifies(self.ids)
        for who in ("victim", "owner"):
            self._goes_on(who)
        assert open_repository(self.storage, lambda: "owner").config.number == self.configuration
        self._is_administered()

    def _verifies(self, ids: list[str]) -> None:
        """Whole; all that may be said is about objects that the attacker has put there."""
        with opened(self.storage, "owner") as owner:
            result = owner.verify(ids, read_data=True)
        assert {problem.path for problem in result.problems if problem.fatal} <= self.planted
        assert result.backups == len(ids)

    def _goes_on(self, who: str) -> None:
        """The next backup goes on from the last one, stores what is new, and is whole."""
        self._number += 1
        (self.source / f"new{self._number}").write_bytes(os.urandom(20_000))
        with opened(self.storage, who) as freezer:
            backup = freezer.backup(self.source, host=who, name="n")
            assert backup.stats.unmodified_files >= 3
            assert backup.stats.added_bytes < 90_000  # only what is new
            assert [problem for problem in backup.problems if problem.kind == "lost"] == []
            assert freezer.find_backup("latest", host=who).id == backup.id
            assert backup.stats.files == len(list(self.source.iterdir()))
            self._verifies([backup.id])
            again = freezer.backup(self.source, host=who, name="n", force_read=True)
            assert again.stats.added_bytes < 30_000  # everything is found again
        self._restores(backup.id)

    def _restores(self, backup: str) -> None:
        self._number += 1
        target = self._folder / f"out{self._number}"
        with opened(self.storage, "owner") as owner:
            result = owner.restore(backup, target)
        assert result.problems == ()
        found, wanted = content(target), content(self.source)
        assert found.items() <= wanted.items()
        assert len(found) >= 3

    def _is_administered(self) -> None:
        """Keys and backups can still be taken away."""
        keys = service(self.storage)
        keys.remove("evil")
        assert not opens(self.storage, "evil")
        with opened(self.storage, "owner") as owner:
            owner.forget([self.ids[0]])
            assert self.ids[0] not in {backup.id for backup in owner.backups()}
        self._verifies(self.ids[1:])
        self._is_pruned()

    def _is_pruned(self) -> None:
        """What is deleted is what nobody needs, whoever says so."""
        if self.unreadable:  # prune refuses to guess what they need, until a maintainer forgets them
            with opened(self.storage, "owner") as owner:
                with pytest.raises(IntegrityError):
                    owner.maintenance.prune()
                owner.forget(self.unreadable)
        for _ in range(3):
            self.storage.pass_time()
            with opened(self.storage, "owner") as owner:
                owner.maintenance.prune()
        self._verifies(self.ids[1:])
        for backup in self.ids[1:]:
            self._restores(backup)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.check()


def now() -> str:
    return configs.time_text(datetime.now(UTC))


def packs_of(storage: MemoryStorage) -> list[str]:
    return [info.name.split("/")[-1] for prefix in ("packs/", "meta/") for info in storage.list(prefix)]


def test_the_storage_lets_nobody_replace_or_delete(world: World) -> None:
    """The premise."""
    with pytest.raises(Exception, match="exists already"):
        world.attack.put("config/00000001", [b"x"])
    with pytest.raises(AccessDenied):
        world.attack.delete("config/00000001")


def test_forged_tombstones(world: World) -> None:
    for backup in world.ids:
        world.put("tombstone", f"forgotten/{backup}", {"backup": backup, "reason": "", "created": now()})
    # the names of tombstones to come are taken: what a maintainer forgets is forgotten all the same (in `check`)
    with opened(world.storage, "owner") as owner:
        assert {backup.id for backup in owner.backups()} == set(world.ids)


def test_forged_marks(world: World) -> None:
    document = {"generation": 7, "packs": packs_of(world.storage), "created": now()}
    world.put("mark", f"marks/{secrets.token_hex(16)}", document)
    world.attack.put(f"marks/{secrets.token_hex(16)}", [os.urandom(300)])
    keys = open_repository(world.storage, lambda: "owner")
    assert protocol.read_marks(world.storage, keys).condemned == frozenset()
    assert protocol.next_generation(world.storage, keys) == 1


@pytest.mark.parametrize("generation", [1, 9_999_999_999_999_999])
def test_forged_sweeps(world: World, generation: int) -> None:
    base = f"sweeps/{generation:016d}"
    world.put("announcement", f"{base}/announced-{secrets.token_hex(16)}", {"generation": generation, "created": now()})
    names = [info.name for info in world.storage.list("backups/")]
    document = {"generation": generation, "condemned": packs_of(world.storage), "alive": [], "released": names}
    world.put("decision", f"{base}/decided-{secrets.token_hex(16)}", {**document, "created": now()})


def test_forged_holds_and_records(world: World) -> None:
    backup = world.ids[0]
    for name in (f"holds/{backup}", f"holds/{backup}/{secrets.token_hex(16)}"):
        world.put("hold", name, {"backup": backup, "reason": "mine", "until": None, "created": now()})
    stamp = "20261123T120000.000Z"
    document = {"about": "seen", "created": "2026-11-23T12:00:00.000000+00:00", "facts": {"commits": []}}
    world.put(records.KIND, f"{records.PREFIX}{stamp}-{secrets.token_hex(16)}", document)


def test_a_lease_is_closed_only_by_its_holder(world: World) -> None:
    """Closed by somebody else, a sweep would not wait for the writer, whose backup then would not count."""
    victim = open_repository(world.storage, lambda: "victim")
    lease = protocol.Lease.create(world.storage, victim, "backups/20261123T120000.000Z-" + "0" * 32)
    document = {"lease": lease.id, "number": 99_999_999, "backup": lease.backup, "created": now()}
    world.put("lease", f"leases/{lease.id}/99999999", document)
    world.put("lease-closed", f"leases/{lease.id}/closed", {"lease": lease.id, "closed": now()})
    states = protocol.read_leases(world.storage, open_repository(world.storage, lambda: "owner")).leases
    (state,) = (state for state in states if state.id == lease.id)
    assert not state.closed
    assert state.slot == victim.slot_id


def test_backups_under_the_name_of_another_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = world.source.parent / "spoilt"
    spoilt.mkdir()
    (spoilt / "f0").write_bytes(b"not what the victim had")
    with monkeypatch.context() as patch:
        patch.setattr(BackupRun, "_refuse_host", lambda self: None)
        with opened(world.attack, "evil") as evil:
            for host in ("victim", "owner"):
                evil.backup(spoilt, host=host, name="n")
            evil.backup(world.source, host="victim", name="n")


@pytest.mark.parametrize("whose", [1, 2])
def test_a_backup_under_the_id_of_another(world: World, whose: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of somebody who is trusted, and of somebody who is not; dated before all others, and after them."""
    taken = world.ids[whose]
    for time in (datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)):
        with monkeypatch.context() as patch:
            patch.setattr(Catalog, "refuse_stolen", lambda self, name: None)
            steal(world, taken, time, patch)
    for stamp in ("19700101T000000.001Z", "99991231T235959.999Z"):
        world.attack.put(f"backups/{stamp}-{taken}", [os.urandom(500)])
    with opened(world.storage, "owner") as owner:  # by rule only the attacker's could be forgotten, and so the other's
        plan = owner.retention.plan(RetentionPolicy(keep_last=1))
        assert [backup.host for backup in (*plan.kept, *plan.forgotten) if backup.id == taken] == [world.hosts[whose]]


def steal(world: World, backup: str, time: datetime, patch: pytest.MonkeyPatch) -> None:
    """A backup by the attacker under this id."""
    from freezer_sdk.engines.dedup import backup as module

    spoilt = world.source.parent / "spoilt"
    spoilt.mkdir(exist_ok=True)
    (spoilt / "f0").write_bytes(b"not what was there")
    patch.setattr(module, "_identity", lambda options: (backup, time))
    with opened(world.attack, "evil") as evil:
        evil.backup(spoilt, host="evil", name="n")


def test_the_id_of_a_backup_that_is_being_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease tells it to all writers. Who comes second is told; nothing else happens."""
    seal = session.control.seal

    def race(keys: KeyRing, kind: str, name: str, document: object, **options: object) -> bytes:
        if kind == "backup" and keys.slot_id != world.evil.slot_id:
            with monkeypatch.context() as patch:
                steal(world, name.rpartition("-")[2], datetime(1970, 1, 1, tzinfo=UTC), patch)
        return seal(keys, kind, name, document, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(session.control, "seal", race)
        with opened(world.storage, "victim") as victim, pytest.raises(RepositoryError, match="under the id of this"):
            victim.backup(world.source, host="victim", name="n")
        with opened(world.storage, "owner") as owner:  # the attacker's gives way to whom maintainers trust
            world.ids.append(owner.backup(world.source, host="owner", name="n").id)


def test_index_rows_that_point_anywhere(world: World) -> None:
    packs = []
    for kind in Kind:
        for info in world.storage.list(kind.prefix):
            real = read_pack(world.storage, world.evil, kind, info)
            rows = [
                SegmentRow(row.stored + 977, list(row.ids), [each + 5 for each in row.lengths]) for row in real.rows
            ]
            for digest, slot in ((real.digest, real.writer), (os.urandom(32), world.evil.slot_id)):
                packs.append(PackRows(kind, digest, real.size, rows, slot))
    parts = [section_of(kind, [each for each in packs if each.kind is kind], world.evil.slot_id) for kind in Kind]
    data = encode_index(world.evil, parts, ZstdCompressor())
    world.attack.put(index_name(hashlib.sha256(data).digest()), [data])


@pytest.mark.parametrize("foreseen", [False, True])
def test_packs_with_false_contents(world: World, foreseen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents that the others have, or will have, under their names; the bytes are others."""
    if foreseen:
        (world.source / "foreseen").write_bytes(random.Random(9).randbytes(30_000))

    def poison(self: BlobWriter, kind: Kind, data: Buffer) -> bytes:
        blob = blob_id(self._hash_keys[kind], data)
        self.store_as(kind, blob, b"\0" * len(data) if kind is Kind.DATA else bytes(data))
        return blob

    with monkeypatch.context() as patch, opened(world.attack, "evil") as evil:
        patch.setattr(BlobWriter, "store", poison)
        patch.setattr(writer, "is_content", lambda *args: True)
        patch.setattr(BlobIndex, "reusable", lambda self, kind, blob: False)
        assert evil.backup(world.source, host="evil").stats.added_raw_bytes > 400_000


def test_a_flood_of_dated_backups(world: World) -> None:
    (world.source.parent / "little").mkdir()
    (world.source.parent / "little" / "file").write_bytes(b"x")
    from freezer_sdk.engines.dedup.engine import DedupEngine
    from freezer_sdk.model import BackupOptions
    from freezer_sdk.modes.fs import FilesystemMode

    with DedupEngine().open(world.attack, password=lambda: "evil") as evil:
        for year in (1970, 2000, 2025, 2027, 2106, 9998):
            for day in range(1, 4):
                options = BackupOptions(name="n", host="evil", time=datetime(year, 1, day, tzinfo=UTC))
                with FilesystemMode(paths=[str(world.source.parent / "little")]).protect() as protected:
                    evil.backup(protected, options, Context())


@pytest.mark.parametrize("changes", [{"grace": 3600}, {"encrypted": False}, {"roster": "owner"}, {"roster": "alone"}])
def test_a_downgraded_configuration(world: World, changes: dict[str, object]) -> None:
    ring = world.evil
    line = ring.config.slot(ring.slot_id)
    assert line is not None
    mine = dataclasses.replace(line, roles=OWNER, trusted=True, hosts=None)
    if changes == {"roster": "owner"}:
        changes = {"roster": tuple(mine if each == line else each for each in ring.config.roster)}
    elif changes == {"roster": "alone"}:
        changes = {"roster": (mine,)}
    for number in (4, 5, 7, 99_999_999):
        forged = dataclasses.replace(ring.config, number=number, **changes)  # type: ignore[arg-type]
        raw = encode_config(forged, ring.slot_id, ring.secret.signing).raw
        world.attack.put(configs.name_of(number), [raw])
        world.attack.put("copies/" + configs.name_of(number), [raw])
    assert open_repository(world.storage, lambda: "evil").roles == {Role.WRITER}
    # the numbers of configurations to come are taken: they can be changed all the same
    keys = reconfigure(world.storage, open_repository(world.storage, lambda: "owner"), grace=7200)
    assert (keys.config.grace, keys.config.number) == (7200, 6)
    reconfigure(world.storage, keys, grace=86_400)
    world.before = {name: data for name, data in world.before.items() if not name.startswith("config/")}
    world.configuration = 8
    assert open_repository(world.storage, lambda: "owner").config.number == 8


def of_another_version(ring: KeyRing, number: int) -> bytes:
    """A configuration as a program to come might write it, signed."""
    line = encode_config(dataclasses.replace(ring.config, number=number), ring.slot_id, ring.secret.signing).signed
    line = line.replace(b'"version":%d' % configs.VERSION, b'"version":99')
    signature = ring.sign(b"config\0", line)
    tail = documents.encode({"signature": signature.hex(), "signer": ring.slot_id.hex()})
    return line + b"\n" + tail + b"\n"


def test_configurations_for_newer_programs(world: World) -> None:
    """Of an unknown version, or with unknown features: they count only when a maintainer has signed them."""
    ring = world.evil
    world.attack.put(configs.name_of(4), [of_another_version(ring, 4)])
    features = dataclasses.replace(ring.config, number=6, features={"read": ("evil",), "write": (), "maintain": ()})
    world.attack.put(configs.name_of(6), [encode_config(features, ring.slot_id, ring.secret.signing).raw])
    world.attack.put(configs.name_of(8), [b'{"format":"freezer-repository","version":99}\n{}\n'])
    owner = open_repository(world.storage, lambda: "owner")
    newer = MemoryStorage()
    for name, data in world.before.items():
        newer.put(name, [data])
    newer.put(configs.name_of(4), [of_another_version(owner, 4)])
    for who in ("owner", "victim"):
        with pytest.raises(UnsupportedFormat, match="version 99"):
            open_repository(newer, lambda who=who: who)


def test_a_configuration_and_slots_of_another_repository(world: World) -> None:
    other = MemoryStorage()
    made(other)
    for info in other.list():
        name = info.name.replace("config/00000001", "config/00000009")
        world.attack.put(name, [other.get(info.name)])


def forged_slot(world: World, *, slot_id: bytes, password: str | None, params: Argon2Params, serial: int) -> SlotObject:
    ring = world.evil
    kdf, wrapped = wrap(
        ring.secret,
        repository_id=ring.repository_id,
        slot_id=slot_id,
        password=None if password is None else password.encode(),
        params=params,
    )
    return SlotObject(
        repository_id=ring.repository_id,
        slot_id=slot_id,
        serial=serial,
        kdf=kdf,
        wrapped=wrapped,
        bundles={1: ring.epochs[1].seal(ring.repository_id, slot_id, hpke.generate().public, OWNER)},
        config=ring.signed_config.raw,
    )


def test_forged_slots_of_others(world: World) -> None:
    """With the others' ids, with an endless serial number, open, and under a password that the attacker knows."""
    for line in world.evil.config.roster:
        if line.id == world.evil.slot_id:
            continue
        for password in (None, "evil's own"):
            slot = forged_slot(world, slot_id=line.id, password=password, params=CHEAP, serial=(1 << 53) - 1)
            store_slot(world.attack, slot)
    with pytest.raises((WrongPassword, IntegrityError)):
        open_repository(world.storage, lambda: "evil's own")
    service(world.storage, "victim").change_password("new one")
    assert not opens(world.storage, "victim")
    service(world.storage, "new one").change_password("victim")
    world.before = {name: data for name, data in world.before.items() if "keys/" not in name}


def test_slots_that_cost_minutes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are tried after those that were there before, so not at all by who has a password."""
    derived: list[Argon2Params] = []
    derive = slots.argon2id

    def watched(password: bytes, salt: bytes, params: Argon2Params) -> bytes:
        derived.append(params)
        return derive(password, salt, params)

    owner = world.evil.config.roster[0]
    dear = forged_slot(world, slot_id=owner.id, password="x", params=CHEAP, serial=1000)
    for _ in range(3):
        kdf = Kdf(salt=secrets.token_bytes(16), params=Argon2Params(memory=1 << 20, time=64, lanes=1))
        store_slot(world.attack, dataclasses.replace(dear, kdf=kdf))
    monkeypatch.setattr(slots, "argon2id", watched)
    for who in ("owner", "victim"):
        assert opens(world.storage, who)
    assert derived
    assert all(params == CHEAP for params in derived)
    for name in {
        info.name for info in world.storage.list()
    } - world.before.keys():  # whoever mistypes would wait for them
        world.storage.delete(name)


def test_a_flood_of_slots(world: World) -> None:
    for _ in range(20):
        raw = os.urandom(4 << 20)
        world.attack.put("keys/" + hashlib.sha256(raw).hexdigest(), [raw])
    assert opens(world.storage, "owner")
    # what nobody would find is not stored; when the rubbish is gone, all is as before
    for action in (
        lambda: service(world.storage).rotate(Context()),
        lambda: service(world.storage, "victim").change_password("new one"),
        lambda: service(world.storage).add("new one", roles=[KeyRole.READER]),
    ):
        with pytest.raises(IntegrityError, match="would not find"):
            action()
    assert [opens(world.storage, name) for name in ("owner", "victim", "new one")] == [True, True, False]
    for info in list(world.storage.list("keys/")):
        if info.size == 4 << 20:
            world.storage.delete(info.name)


def test_what_looks_like_every_other_object(world: World) -> None:
    for name in ("backups/x", "leases/x/y", "forgotten/x", "marks/x", "sweeps/1/2", "reserve/0", "index/zz", "junk"):
        world.attack.put(name, [b"junk"])
    for prefix in ("index/", "packs/00/", "meta/00/"):
        raw = os.urandom(5000)
        world.attack.put(prefix + hashlib.sha256(raw).hexdigest(), [raw])


def test_a_commit_that_nobody_can_open(world: World) -> None:
    """It is named; what stops is maintenance, until a maintainer forgets it."""
    world.unreadable = [secrets.token_hex(16)]
    world.attack.put(f"backups/20260102T030405.678Z-{world.unreadable[0]}", [os.urandom(500)])
    with opened(world.storage, "owner") as owner:
        assert any(world.unreadable[0] in problem.path for problem in owner.verify().problems)
