"""What a writer says whom nobody trusts: it can neither have anything deleted nor stop a prune."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from dedup.upkeep.world import ENGINE, Clocked, assert_whole, content, prune, restored, write_files

from freezer_sdk import AccessDenied, Freezer
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.index import PackRows, encode_index, section_of
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import Kind, digest_of, index_name, pack_name
from freezer_sdk.engines.dedup.pack import SegmentRow
from freezer_sdk.engines.dedup.upkeep.holdings import read_sections

CHEAP = Argon2Params(memory=8, time=1, lanes=1)


def opened_by(storage: Clocked, password: str) -> Freezer:
    return Freezer(storage, password=password, engine_options=ENGINE)


class Attacked:
    """A repository of an owner, and a slot that may only write."""

    def __init__(self, base: Path) -> None:
        self.storage = Clocked()
        owner = create_repository(self.storage, password="owner", kdf=CHEAP, grace=3600)
        add_slot(self.storage, owner, password="writer", roles={Role.WRITER}, kdf=CHEAP)
        self.source = write_files(base / "source", seed=1, files=6)
        with opened_by(self.storage, "owner") as freezer:
            self.backup = freezer.backup(self.source, name="mine", force_read=True)
        self.owner = open_repository(self.storage, lambda: "owner")
        self.writer = open_repository(self.storage, lambda: "writer")
        self.storage.pass_time(60)

    def prunes(self, count: int = 4) -> None:
        with opened_by(self.storage, "owner") as freezer:
            for _ in range(count):
                freezer.maintenance.prune(max_waste=0)
                self.storage.pass_time()

    def check(self, out: Path) -> None:
        with opened_by(self.storage, "owner") as freezer:
            assert [backup.id for backup in freezer.backups()] == [self.backup.id]
            assert restored(freezer, self.backup, out) == content(self.source)

    def sign_index(self, keys: KeyRing, rows: PackRows) -> None:
        data = encode_index(keys, [section_of(rows.kind, [rows], keys.slot_id)], ZstdCompressor())
        self.storage.put(index_name(hashlib.sha256(data).digest()), [data])


@pytest.fixture
def attacked(tmp_path: Path) -> Attacked:
    return Attacked(tmp_path)


@pytest.mark.parametrize("trusted_writer", [False, True])
def test_rows_that_point_to_rubbish(attacked: Attacked, tmp_path: Path, trusted_writer: bool) -> None:
    """The owner's packs must not count as copies that nobody needs."""
    storage, rng = attacked.storage, random.Random(1)
    handle = type(
        "Handle", (), {"storage": storage, "keys": attacked.owner, "compressors": lambda _, name: ZstdCompressor()}
    )()
    for name in [name for name in storage.content() if name.startswith("index/")]:
        for section in read_sections(handle, name):
            blobs = list(section.blob_ids())
            rubbish = rng.randbytes(500_000)
            digest = hashlib.sha256(rubbish).digest()
            storage.put(pack_name(section.kind, digest), [rubbish])
            writer = (attacked.owner if trusted_writer else attacked.writer).slot_id
            row = SegmentRow(400_000, blobs, list(section.lengths))
            attacked.sign_index(attacked.writer, PackRows(section.kind, digest, len(rubbish), [row], writer))
    storage.pass_time(60)
    attacked.prunes()
    attacked.check(tmp_path / "out")


def test_rows_that_make_packs_look_short_or_wasted(attacked: Attacked, tmp_path: Path) -> None:
    storage = attacked.storage
    for name in [name for name in storage.content() if name.startswith(("packs/", "meta/"))]:
        kind = Kind.DATA if name.startswith("packs/") else Kind.META
        digest = digest_of(name)
        assert digest is not None
        rows = [SegmentRow(30 << 20, [bytes([number]) * 32], [16 << 20]) for number in range(3)]
        attacked.sign_index(attacked.writer, PackRows(kind, digest, 90 << 20, rows, attacked.owner.slot_id))
    storage.pass_time(60)
    attacked.prunes()
    attacked.check(tmp_path / "out")


def test_forged_marks_decisions_and_tombstones(attacked: Attacked, tmp_path: Path) -> None:
    storage, writer = attacked.storage, attacked.writer
    packs = [
        digest for name in storage.content() if (digest := digest_of(name)) and name.startswith(("packs/", "meta/"))
    ]
    for write in (
        lambda: protocol.write_mark(storage, writer, packs),
        lambda: protocol.announce(storage, writer, 1),
        lambda: protocol.decide(storage, writer, 1, condemned=packs, alive=[]),
        lambda: protocol.write_tombstone(storage, writer, attacked.backup.id),
    ):
        with pytest.raises(AccessDenied):
            write()
    writer.roles = frozenset(Role)  # a program that does not ask itself
    protocol.write_mark(storage, writer, packs)
    protocol.announce(storage, writer, 99)
    protocol.decide(storage, writer, 99, condemned=packs, alive=[])
    protocol.write_tombstone(storage, writer, attacked.backup.id)
    storage.pass_time()
    attacked.prunes()
    attacked.check(tmp_path / "out")


def test_writers_may_not_prune(attacked: Attacked) -> None:
    with opened_by(attacked.storage, "writer") as freezer:
        with pytest.raises(AccessDenied):
            freezer.maintenance.prune()
        with pytest.raises(AccessDenied):
            freezer.maintenance.prune(dry_run=True)
        with pytest.raises(AccessDenied):
            freezer.maintenance.unlock()


def test_merged_indexes_keep_who_wrote_each_pack(attacked: Attacked, tmp_path: Path) -> None:
    """The owner's signature on a merged index makes nobody trusted."""
    storage = attacked.storage
    with opened_by(storage, "writer") as freezer:
        theirs = [
            freezer.backup(write_files(tmp_path / f"w{n}", seed=10 + n, files=3), name="w", force_read=True)
            for n in range(2)
        ]
    with opened_by(storage, "owner") as freezer:
        freezer.forget(theirs[0].id)
        mine = freezer.backup(write_files(tmp_path / "m", seed=20, files=3), name="m", force_read=True)
        freezer.forget(mine.id)
    storage.pass_time(60)
    before = {name for name in storage.content() if name.startswith("packs/")}
    attacked.prunes(2)
    writers = {}
    handle = type(
        "Handle", (), {"storage": storage, "keys": attacked.owner, "compressors": lambda _, name: ZstdCompressor()}
    )()
    for name in [name for name in storage.content() if name.startswith("index/")]:
        for section in read_sections(handle, name):
            for pack, writer in zip(section.packs, section.writers, strict=True):
                writers.setdefault(pack, set()).add((writer, section.signer == attacked.owner.slot_id))
    there = {digest_of(name) for name in storage.content() if name.startswith(("packs/", "meta/"))}
    assert there <= writers.keys()
    assert before - storage.content().keys()
    foreign = [each for each in writers.values() if any(writer == attacked.writer.slot_id for writer, _ in each)]
    assert foreign
    with opened_by(storage, "owner") as freezer:
        assert_whole(freezer)
        assert restored(freezer, theirs[1], tmp_path / "out") == content(tmp_path / "w1")


def test_prune_of_an_unencrypted_repository_needs_no_slot(tmp_path: Path) -> None:
    storage = Clocked()
    create_repository(storage, password=None)
    assert prune(storage).backups == 0
