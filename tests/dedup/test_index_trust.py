"""Writers that do not trust each other: who builds on what, and that everybody can read everything."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from trees import compare

from freezer_sdk import Backup, Freezer, Status
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.adopt import read_pack
from freezer_sdk.engines.dedup.index import PackRows, Section, decode_section, encode_index, index_parts, section_of
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import Kind, digest_of, index_name
from freezer_sdk.engines.dedup.pack import SegmentRow
from freezer_sdk.storages.memory import MemoryStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
ZSTD = ZstdCompressor()
SIZE = 600_000
REUSED = 20_000  # a backup that adds less than this has stored no content


@dataclass
class World:
    storage: MemoryStorage
    source: Path

    def add(self, password: str, *, trusted: bool) -> None:
        owner = self.keys("owner")
        add_slot(self.storage, owner, password=password, roles={Role.WRITER}, label="", trusted=trusted, kdf=CHEAP)

    def keys(self, password: str) -> KeyRing:
        return open_repository(self.storage, lambda: password)

    def backup(self, password: str, *, force_read: bool = True) -> Backup:
        with Freezer(self.storage, password=password) as freezer:
            return freezer.backup(self.source, name="t", force_read=force_read)

    def restores(self, backup: Backup, out: Path) -> None:
        with Freezer(self.storage, password="owner") as freezer:
            result = freezer.restore(backup.id, out)
            assert result.status is Status.COMPLETE, result.problems
        compare(self.source, out)

    def drop_indexes(self) -> None:
        for info in list(self.storage.list("index/")):
            self.storage.delete(info.name)

    def packs(self, kind: Kind = Kind.DATA) -> list[PackRows]:
        owner = self.keys("owner")
        return [read_pack(self.storage, owner, kind, info) for info in self.storage.list(kind.prefix)]

    def put_index(self, password: str, packs: list[PackRows]) -> None:
        """An index that a holder of keys makes by hand."""
        keys = self.keys(password)
        parts = [
            section_of(kind, chosen, keys.slot_id)
            for kind in Kind
            if (chosen := [pack for pack in packs if pack.kind is kind])
        ]
        data = encode_index(keys, parts, ZSTD)
        self.storage.put(index_name(hashlib.sha256(data).digest()), [data])

    def sections(self) -> Iterator[Section]:
        owner = self.keys("owner")
        for info in self.storage.list("index/"):
            data = self.storage.get(info.name)
            for kind, (offset, length) in index_parts(data, len(data)).items():
                yield decode_section(owner, kind, data[offset : offset + length], ZSTD)


@pytest.fixture
def world(tmp_path: Path) -> World:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(random.Random(1).randbytes(SIZE))
    for number in range(30):
        (source / f"small{number}").write_bytes(b"%d" % number)
    storage = MemoryStorage()
    create_repository(storage, password="owner", kdf=CHEAP)
    world = World(storage, source)
    world.add("client", trusted=False)
    return world


def test_content_of_an_untrusted_writer_is_stored_again_and_restores(world: World, tmp_path: Path) -> None:
    first = world.backup("client")
    second = world.backup("owner")
    third = world.backup("owner")
    assert first.stats.added_bytes > SIZE
    assert second.stats.added_bytes > SIZE
    assert third.stats.added_bytes < REUSED  # it is the owner's by now
    for backup in (first, second, third):
        world.restores(backup, tmp_path / backup.id)


def test_content_of_trusted_writers_is_reused(world: World, tmp_path: Path) -> None:
    world.add("friend", trusted=True)
    assert world.backup("friend").stats.added_bytes > SIZE
    for password in ("owner", "client", "friend"):
        backup = world.backup(password)
        assert backup.stats.added_bytes < REUSED, password
        world.restores(backup, tmp_path / password)


def test_everybody_builds_on_what_he_wrote_himself(world: World) -> None:
    assert world.backup("client").stats.added_bytes > SIZE
    assert world.backup("client").stats.added_bytes < REUSED


def test_an_index_names_the_writer_of_each_pack(world: World) -> None:
    world.backup("client")
    client = world.keys("client").slot_id
    found = list(world.sections())
    assert {section.signer for section in found} == {client}
    assert {writer for section in found for writer in section.writers} == {client}
    assert {pack for section in found for pack in section.packs} == {
        digest_of(info.name) for kind in Kind for info in world.storage.list(kind.prefix)
    }


def test_an_untrusted_signer_cannot_pass_a_pack_off_as_another_writers(world: World) -> None:
    world.backup("client")
    owner = world.keys("owner").slot_id
    packs = [*world.packs(), *world.packs(Kind.META)]
    for pack in packs:
        pack.writer = owner
    world.drop_indexes()
    world.put_index("client", packs)
    assert world.backup("owner").stats.added_bytes > SIZE


def test_a_pack_keeps_its_writer_in_an_index_that_a_maintainer_signs(world: World, tmp_path: Path) -> None:
    backup = world.backup("client")
    packs = [*world.packs(), *world.packs(Kind.META)]
    world.drop_indexes()
    world.put_index("owner", packs)
    assert world.backup("owner").stats.added_bytes > SIZE
    world.restores(backup, tmp_path / "out")


def false_rows(world: World, packs: list[PackRows], *, longer: int = 7) -> list[PackRows]:
    """Rows that say of every blob that it lies somewhere else in a good pack, and is longer."""
    rng = random.Random(2)
    client = world.keys("client").slot_id
    found = []
    for pack in packs:
        rows = [
            SegmentRow(row.stored + 1000, list(row.ids), [length + longer for length in row.lengths])
            for row in pack.rows
        ]
        found.append(PackRows(pack.kind, pack.digest, pack.size, rows, client))
        ids = [blob for row in pack.rows for blob in row.ids]
        lengths = [length + longer for row in pack.rows for length in row.lengths]
        invented = SegmentRow(5000, ids, lengths)
        found.append(PackRows(pack.kind, rng.randbytes(32), 6000, [invented], client))
    return found


def test_false_rows_of_an_untrusted_writer_change_nothing_for_others(world: World, tmp_path: Path) -> None:
    first = world.backup("owner")
    world.put_index("client", false_rows(world, [*world.packs(), *world.packs(Kind.META)]))
    second = world.backup("owner")
    assert second.stats.added_bytes < REUSED
    assert second.problems == ()  # nothing is reported as lost
    third = world.backup("owner", force_read=False)
    assert third.stats.unmodified_files == 31
    for backup in (first, second, third):
        world.restores(backup, tmp_path / backup.id)


def test_false_rows_do_not_hide_packs_whose_index_is_lost(world: World, tmp_path: Path) -> None:
    backup = world.backup("owner")
    packs = [*world.packs(), *world.packs(Kind.META)]
    world.drop_indexes()
    world.put_index("client", false_rows(world, packs, longer=0))
    world.restores(backup, tmp_path / "out")


def test_false_rows_do_not_spoil_what_other_untrusted_writers_have_stored(world: World, tmp_path: Path) -> None:
    world.add("neighbour", trusted=False)
    backup = world.backup("neighbour")
    world.put_index("client", false_rows(world, [*world.packs(), *world.packs(Kind.META)]))
    world.restores(backup, tmp_path / "out")
    with Freezer(world.storage, password="owner") as freezer:
        assert freezer.verify(read_data=True).ok
    world.put_index("owner", false_rows(world, world.packs()))  # taken over from the client's by a maintainer
    world.restores(backup, tmp_path / "again")


@pytest.mark.parametrize(("writer", "reused"), [("client", False), ("friend", True)])
def test_adopted_packs_count_as_written_by_who_signed_their_tables(
    world: World, tmp_path: Path, writer: str, reused: bool
) -> None:
    world.add("friend", trusted=True)
    world.backup(writer)
    world.drop_indexes()  # as if the run had died before it wrote one
    protocol.Lease.create(world.storage, world.keys(writer), "backups/x")
    backup = world.backup("owner")
    assert (backup.stats.added_bytes < REUSED) is reused
    slot = world.keys(writer).slot_id
    named = {writer for section in world.sections() for writer in section.writers}
    assert slot in named  # indexed again, under the name of its writer
    world.restores(backup, tmp_path / "out")
