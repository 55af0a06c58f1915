"""What went wrong in other backup programs must not go wrong here: a test for each, with its public id.

``docs/explanation/incidents.md`` tells what happened, and what is done here so that it cannot happen. A test of the
project compares the names there with those in this file.
"""

from __future__ import annotations

import os
import random
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cli.program import Cli
from dedup.upkeep.world import (
    GRACE,
    Clocked,
    assert_whole,
    content,
    keys_of,
    new_repository,
    opened,
    prune,
    restored,
    write_files,
)
from hardening.forge import CHEAP, DIRECTORY, LINK, Entry, Forge, page

from freezer_sdk import Backup, Freezer, IntegrityError, LeaseLost, RepositoryLocked
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.engines.dedup import protocol, segment, writer
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.chunker import Chunkers
from freezer_sdk.engines.dedup.layout import Kind, backup_name, parse_backup_name
from freezer_sdk.engines.dedup.page import Content
from freezer_sdk.model import Buffer, Status
from freezer_sdk.modes.base import Extra
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, damage
from freezer_sdk.upkeep_model import LeaseStatus

DOCUMENT = Path(__file__).parents[2] / "docs" / "explanation" / "incidents.md"


@pytest.fixture
def storage() -> Clocked:
    made = Clocked()
    new_repository(made)
    return made


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    home = tmp_path / "home"
    home.mkdir()
    made = Cli(home)
    made.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    made.inside("repository", "init", "--no-encryption")
    return made


def names(storage: Clocked, *prefixes: str) -> list[str]:
    return sorted(name for name in storage.content() if name.startswith(prefixes))


def test_every_incident_of_the_document_has_its_test_here() -> None:
    told = set(re.findall(r"`(test_[a-z_]+)`", DOCUMENT.read_text(encoding="utf-8")))
    here = {name for name in globals() if name.startswith("test_")} - {
        "test_every_incident_of_the_document_has_its_test_here"
    }
    assert told == here


# -- what is stored is not what was read ---------------------------------------------------------------------------


def test_a_compressor_that_makes_bad_frames(storage: Clocked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """restic #4523, #4677: a compression library gave frames that decode to something else."""
    compress = ZstdCompressor.compress
    calls = []

    def bad(self: ZstdCompressor, data: Buffer, *, level: int | None = None) -> bytes:
        calls.append(len(data))
        return compress(self, bytes(data)[:-1] + b"?" if len(calls) == 3 else data, level=level)

    monkeypatch.setattr(ZstdCompressor, "compress", bad)
    base = tmp_path / "source"
    base.mkdir()
    (base / "f").write_bytes(b"The quick brown fox jumps over the lazy dog. " * 200_000)
    with opened(storage) as freezer:
        with pytest.raises(IntegrityError, match="damaged a segment"):
            freezer.backup(base, name="t")
        assert freezer.backups() == []
        assert freezer.backup(base, name="t").status is Status.COMPLETE
        assert_whole(freezer)


def test_memory_that_flips_a_bit_before_encryption(
    storage: Clocked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """restic #4765, #5086: faulty memory changed data after they were hashed."""
    seal = writer.BlobWriter._seal

    def flipped(self: writer.BlobWriter, kind: Kind, joining: writer._Joining) -> None:
        joining.buffer[joining.size // 2] ^= 1
        seal(self, kind, joining)

    monkeypatch.setattr(writer.BlobWriter, "_seal", flipped)
    with opened(storage) as freezer:
        with pytest.raises(IntegrityError, match="memory"):
            freezer.backup(write_files(tmp_path / "a", seed=1), name="t")
        assert freezer.backups() == []


def test_packs_that_are_written_anew_hold_what_they_held(storage: Clocked, tmp_path: Path) -> None:
    """rustic #88: repacking stored compressed blobs as if they were plain."""
    base = tmp_path / "source"
    base.mkdir()
    for number in range(60):
        (base / f"f{number}").write_bytes(b"line %d of a log\n" % number * 4000)
    with opened(storage) as freezer:
        old = freezer.backup(base, name="all", force_read=True)
        for number in range(0, 60, 2):
            (base / f"f{number}").unlink()
        kept = freezer.backup(base, name="half", force_read=True)
        freezer.forget(old.id)
    before = set(names(storage, "packs/", "meta/"))
    for _ in range(3):
        storage.pass_time()
        prune(storage, max_waste=0)
    assert not before & set(names(storage, "packs/")), "nothing was written anew"
    with opened(storage) as freezer:
        assert_whole(freezer)
        assert restored(freezer, kept, tmp_path / "out") == content(base)


# -- deleting what is needed ---------------------------------------------------------------------------------------


class Marked:
    """A repository whose packs are marked, and a source that would use what lies in them again."""

    def __init__(self, storage: Clocked, base: Path) -> None:
        self.storage = storage
        self.source = write_files(base / "source", seed=1, files=4)
        with opened(storage) as freezer:
            freezer.backup(write_files(base / "other", seed=2, files=4), name="other", force_read=True)
            freezer.forget(freezer.backup(self.source, name="old", force_read=True).id)
        storage.pass_time(60)
        assert prune(storage).marked_packs

    def back_up(self, storage: object) -> Backup:
        with opened(storage) as freezer:
            return freezer.backup(self.source, name="new", force_read=True)

    def assert_whole(self, backup: Backup, out: Path) -> None:
        with opened(self.storage) as freezer:
            assert_whole(freezer)
            assert restored(freezer, backup, out) == content(self.source)


def test_a_deletion_that_slept_while_a_backup_was_made(storage: Clocked, tmp_path: Path) -> None:
    """kopia #1949: maintenance that was suspended deleted what a backup had begun to use meanwhile."""
    world = Marked(storage, tmp_path)
    storage.pass_time()
    made: list[Backup] = []

    def sleep(call: object) -> None:
        storage.pass_time(5 * GRACE)
        made.append(world.back_up(storage))
        storage.pass_time(5 * GRACE)

    deleting = FaultyStorage(storage, Fault(sleep, methods={"delete"}, prefix="packs/"))
    with suppress(IntegrityError, RepositoryLocked, LeaseLost):
        prune(deleting)
    assert made
    world.assert_whole(made[0], tmp_path / "out")
    for _ in range(3):
        storage.pass_time()
        prune(storage)
    world.assert_whole(made[0], tmp_path / "again")


def test_a_backup_that_uses_what_is_about_to_be_deleted(storage: Clocked, tmp_path: Path) -> None:
    """kopia #1087: indexes named blobs that maintenance had deleted."""
    world = Marked(storage, tmp_path)
    backup = world.back_up(storage)
    assert backup.stats.added_bytes > 400_000, "it relied on what is marked"
    for _ in range(3):
        storage.pass_time()
        prune(storage)
    world.assert_whole(backup, tmp_path / "out")


def test_packs_of_a_backup_that_is_under_way(storage: Clocked, tmp_path: Path) -> None:
    """duplicacy #323: a search for unreferenced chunks found those of a running backup."""
    source = write_files(tmp_path / "source", seed=1)

    def maintain(call: object) -> None:
        for _ in range(2):
            with suppress(RepositoryLocked, IntegrityError):
                prune(storage)
            storage.pass_time(GRACE / 4)

    busy = FaultyStorage(storage, Fault(maintain, methods={"put"}, prefix="index/"))
    with opened(busy) as freezer:
        backup = freezer.backup(source, name="t")
    with opened(storage) as freezer:
        assert_whole(freezer)
        assert restored(freezer, backup, tmp_path / "out") == content(source)


def test_a_pack_that_is_needed_and_not_there(storage: Clocked, tmp_path: Path) -> None:
    """rustic #391: the check of prune for packs that are needed was wrong."""
    world = Marked(storage, tmp_path)
    backup = world.back_up(storage)
    for _ in range(3):
        storage.pass_time()
        prune(storage)
    for name in names(storage, "packs/"):
        if storage.stat(name).modified == max(storage.stat(each).modified for each in names(storage, "packs/")):
            lost = storage.get(name)
            storage.delete(name)
            break
    before = set(names(storage, "packs/", "meta/"))
    for _ in range(2):
        with pytest.raises(IntegrityError):
            prune(storage)
        storage.pass_time()
    assert before <= set(names(storage, "packs/", "meta/"))
    storage.put(name, [lost])
    world.assert_whole(backup, tmp_path / "out")


# -- locks ---------------------------------------------------------------------------------------------------------


def test_a_lock_that_is_in_use_is_not_removed(storage: Clocked, tmp_path: Path) -> None:
    """restic #2452: locks were not refreshed in time, so that ``unlock`` removed those of running programs."""
    seen: list[LeaseStatus] = []

    def unlock(call: object) -> None:
        storage.pass_time(0.9 * GRACE)
        with opened(storage) as other:
            for info in other.maintenance.leases():
                seen.append(info.status)
                with pytest.raises(RepositoryLocked):
                    other.maintenance.unlock(info.id)
            assert not other.maintenance.unlock()

    busy = FaultyStorage(storage, Fault(unlock, methods={"put"}, prefix="index/"))
    with opened(busy) as freezer:
        freezer.backup(write_files(tmp_path / "a", seed=1), name="t")
    assert seen == [LeaseStatus.OPEN]
    with opened(storage) as freezer:
        assert_whole(freezer)


def test_a_lock_is_refreshed_without_removing_the_old_one(storage: Clocked) -> None:
    """restic #2473: a refresh put a new lock and removed the old one; when that failed it never came right again."""
    lease = protocol.Lease.create(FaultyStorage(storage), keys_of(storage), "backups/20260101T000000.000Z-" + 32 * "a")
    for _ in range(3):
        storage.pass_time(GRACE / 2)
        lease.refresh()
    assert len(names(storage, "leases/")) == 4, "each refresh is an object of its own"
    assert [info.status for info in opened(storage).maintenance.leases()] == [LeaseStatus.OPEN]
    lease.close()


def test_a_laptop_that_sleeps_in_the_middle_of_a_backup(storage: Clocked, tmp_path: Path) -> None:
    """restic #4374: after a sleep the lock was gone, and the backup went on all the same."""
    world = Marked(storage, tmp_path)

    def sleep(call: object) -> None:
        for _ in range(3):
            storage.pass_time(2 * GRACE)
            prune(storage)

    asleep = FaultyStorage(storage, Fault(sleep, when="before", methods={"put"}, prefix="backups/"))
    with pytest.raises(LeaseLost):
        world.back_up(asleep)
    with opened(storage) as freezer:
        assert [backup.name for backup in freezer.backups()] == ["other"]
        assert_whole(freezer)


# -- repairs -------------------------------------------------------------------------------------------------------


def test_a_repair_that_takes_good_for_bad(storage: Clocked, tmp_path: Path) -> None:
    """borg #3444: a repair threw valid items away that it could not recognise behind a lost chunk."""
    source = write_files(tmp_path / "source", seed=1, subdirs=6)
    with opened(storage) as freezer:
        first = freezer.backup(source, name="t")
        second = freezer.backup(write_files(source, seed=2, subdirs=2), name="t")
    before = storage.content()
    rng = random.Random(1)
    for name in names(storage, "meta/"):
        damage(storage, name, offset=rng.randrange(len(before[name])))
    damaged = storage.content()
    with opened(storage) as freezer:
        freezer.maintenance.repair(read_data=True)
        freezer.maintenance.repair(read_data=True)
    assert damaged.items() <= storage.content().items(), "a repair only adds"
    for name in names(storage, "meta/"):
        if name in before:
            storage.put(name, [before[name]])  # the disk was only badly connected
    with opened(storage) as freezer:
        assert restored(freezer, second, tmp_path / "out") == content(source)
        assert freezer.restore(first.id, tmp_path / "first").status is Status.COMPLETE


def test_entries_with_facts_that_nobody_knows(tmp_path: Path) -> None:
    """borg #1837: a repair killed every item that had an attribute which older programs had written."""
    made = Forge(MemoryStorage())
    entry = Entry(b"f", content=made.file(b"x"), size=1, facts=[(200, b"from another time"), (0, b"")])
    backup = made.backup(entry, strange={"field": "of a newer program"})
    target = MemoryStorage()
    create_repository(target, password=None)
    with Freezer(made.storage) as freezer, Freezer(target) as other:
        assert {finding.kind for finding in freezer.maintenance.check(read_data=True).findings} <= {"unindexed"}
        assert freezer.maintenance.repair(read_data=True).lost == ()
        assert freezer.restore(backup, tmp_path / "out").status is Status.COMPLETE
        other.copy(freezer)
        assert other.restore(backup, tmp_path / "copy").status is Status.COMPLETE


# -- forgery -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed() -> tuple[MemoryStorage, str]:
    """An encrypted repository with a backup, seen by somebody who has the storage and no key."""
    storage = MemoryStorage()
    create_repository(storage, password="correct horse", kdf=CHEAP)
    with Freezer(storage, password="correct horse") as freezer:
        backup = freezer.backup(Path(__file__), name="t")
    return storage, backup.id


def test_backups_that_somebody_without_a_key_puts_there(sealed: tuple[MemoryStorage, str]) -> None:
    """borg CVE-2023-36811, CVE-2016-10099: who could have files backed up could make them pass for archives."""
    storage, backup = sealed
    objects = {info.name: storage.get(info.name) for info in storage.list()}
    commit = next(name for name in objects if name.startswith("backups/"))
    forged = {}
    for number, (name, data) in enumerate(sorted(objects.items())):
        forged[f"backups/20270101T000000.{number:03d}Z-{number:032x}"] = data
        forged[f"forgotten/{backup}"] = data
        forged[f"marks/{number:032x}"] = data
        forged[f"sweeps/0000000000000009/decided-{number:032x}"] = data
        assert name
    for name, data in forged.items():
        storage.put(name, [data])
    with Freezer(storage, password="correct horse") as freezer:
        counting = [found for found in freezer.backups() if found.status is not Status.DAMAGED]
        assert [found.id for found in counting] == [backup]
        found = {problem.path for problem in freezer.verify().problems}
        assert set(forged) <= found
        assert commit not in found


def test_a_backup_under_the_name_of_another(sealed: tuple[MemoryStorage, str], tmp_path: Path) -> None:
    """borg CVE-2016-10100: archives of one name could replace each other when the list was made anew."""
    storage, backup = sealed
    with Freezer(storage, password="correct horse") as freezer:
        second = freezer.backup(tmp_path, name="t", force_read=True)
    (old,) = [info.name for info in storage.list("backups/") if info.name.endswith(backup)]
    (new,) = [info.name for info in storage.list("backups/") if info.name.endswith(second.id)]
    time, _id = parse_backup_name(new) or (None, "")
    assert time is not None
    storage.put(backup_name(time, backup), [storage.get(old)])
    storage.put(new, [storage.get(old)])
    with Freezer(storage, password="correct horse") as freezer:
        assert [found.id for found in freezer.backups() if found.status is not Status.DAMAGED] == [backup]
        assert freezer.restore(backup, tmp_path / "out").status is Status.COMPLETE


def stored_sizes(storage: MemoryStorage) -> list[int]:
    """Lengths of the segments' plain text that somebody sees who looks at a storage."""
    sizes = []
    for info in storage.list("packs/"):
        data, at = storage.get(info.name), 0
        while data[at : at + 4] == segment.MAGIC:
            header = segment.SegmentHeader.unpack(data[at : at + segment.HEADER.size])
            sizes.append(header.length - 16)
            at += header.stored
    return sizes


def test_sizes_of_chunks_do_not_show(tmp_path: Path) -> None:
    """eprint 2025/532, 2025/558: from the lengths of stored chunks the secret of the chunker can be computed."""
    data = random.Random(5).randbytes(6 << 20)
    (tmp_path / "f").write_bytes(data)
    cuts: list[list[int]] = []
    for _ in range(2):
        storage = MemoryStorage()
        keys = create_repository(storage, password="correct horse", kdf=CHEAP)
        with Freezer(storage, password="correct horse", engine_options={"compression": "none"}) as freezer:
            freezer.backup(tmp_path / "f", name="t")
        chunkers = Chunkers(keys.chunker_seed, keys.config.chunker_classes)
        lengths = [chunk.length for chunk in chunkers.cutter(chunkers.pick(len(data)))(memoryview(data))]
        sizes = stored_sizes(storage)
        assert 4 * len(sizes) < len(lengths), "chunks are joined"
        assert all(segment.padded(size) == size for size in sizes), "and lengths rounded up"
        assert not set(sizes) & set(lengths)
        cuts.append(lengths)
    assert cuts[0] != cuts[1], "and each repository cuts elsewhere"


# -- restores that leave the target --------------------------------------------------------------------------------


def test_paths_that_lead_out_of_the_target(tmp_path: Path) -> None:
    """duplicacy #692: a path with ``..`` in a backup was joined to the target as it was."""
    made = Forge(MemoryStorage())
    content = made.file(b"ssh-ed25519 AAAA")
    backups = [
        made.backup(Entry(b"../../.ssh/authorized_keys", content=content, size=16)),
        made.backup(Entry(b"f", content=content, size=16), root=b"/../../.ssh"),
    ]
    with Freezer(made.storage) as freezer:
        for backup in backups:
            with suppress(IntegrityError):
                assert freezer.restore(backup, tmp_path / "a" / "b" / "out").problems
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_link_that_waits_in_the_target(tmp_path: Path) -> None:
    """duplicacy #691: a restore wrote through a symbolic link that lay in the target already."""
    made = Forge(MemoryStorage())
    backup = made.backup(Entry(b"x", content=made.file(b"foo"), size=3))
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("important")
    out.mkdir()
    for inplace in (True, False):
        (out / "x").unlink(missing_ok=True)
        (out / "x").symlink_to(victim)
        with Freezer(made.storage) as freezer:
            freezer.restore(backup, out, overwrite="always", inplace=inplace)
        assert victim.read_text() == "important"
        assert (out / "x").read_bytes() == b"foo"
        assert not (out / "x").is_symlink()


def test_a_directory_that_becomes_a_link_meanwhile(tmp_path: Path) -> None:
    """rsync CVE-2026-43619: between a look at a path and its use somebody put a symbolic link there."""
    made = Forge(MemoryStorage())
    files = [Entry(b"f%d" % number, content=made.file(b"foo"), size=3) for number in range(3)]
    backup = made.backup(Entry(b"d", DIRECTORY, made.directory(*files)))
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (out / "d").mkdir(parents=True)
    mode = stat.S_IMODE(outside.stat().st_mode)

    def swap(call: object) -> None:
        (out / "d").rename(tmp_path / "aside")
        (out / "d").symlink_to(outside)

    swapping = FaultyStorage(made.storage, Fault(swap, methods={"get"}, prefix="packs/"))
    with Freezer(swapping) as freezer:
        freezer.restore(backup, out, overwrite="always")
    assert (out / "d").is_symlink()
    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == mode


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    """rustic_core #571: a path that was a link was stored as a link and as a directory, and could not be restored."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "alias").symlink_to("real")
    storage = MemoryStorage()
    create_repository(storage, password=None)
    with Freezer(storage) as freezer:
        for paths in ([tmp_path / "alias"], [tmp_path / "alias", tmp_path / "real"], [tmp_path, tmp_path / "alias"]):
            backup = freezer.backup(paths, name="t")
            found = [entry.path for entry in freezer.entries(backup.id)]
            assert len(found) == len(set(found))
            out = tmp_path / f"out-{backup.id}"
            assert freezer.restore(backup.id, out).status is not Status.PARTIAL
    made = Forge(MemoryStorage())
    twice = Content(0, made.store(page([Entry(b"a", LINK, facts=[(Extra.LINK_TARGET, b"x")]), Entry(b"a", DIRECTORY)])))
    forged = made.commit(made.directory(Entry(b"/srv", DIRECTORY, twice)))
    with Freezer(made.storage) as freezer:
        with pytest.raises(IntegrityError):
            list(freezer.entries(forged))
        assert not freezer.verify().ok


# -- success and failure taken for each other ----------------------------------------------------------------------


def unreadable(base: Path) -> Path:
    """A tree of which one file cannot be read, whoever asks."""
    base.mkdir()
    (base / "good").write_text("x")
    (base / "bad").write_text("y")
    return base


@pytest.fixture
def failing_reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes files of a name unreadable."""
    real = os.read

    def fail_for(name: str) -> None:
        def read(fd: int, size: int) -> bytes:
            if os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) == name:
                raise OSError(5, "Input/output error")
            return real(fd, size)

        monkeypatch.setattr(os, "read", read)

    return fail_for


def test_a_file_that_cannot_be_read_is_no_success(
    cli: Cli, tmp_path: Path, failing_reads: Callable[[str], None]
) -> None:
    """restic #2364, #4467: a backup that lacked files, or a whole path, ended with exit status 0."""
    base = unreadable(tmp_path / "source")
    failing_reads("bad")
    result = cli.inside("backup", "create", base, "--name", "t", "-f", "json", code=3)
    assert result.json["status"] == "partial"
    assert [problem["path"] for problem in result.json["problems"]] == [str(base / "bad")]
    cli.inside("backup", "create", base, tmp_path / "not-there", "--name", "t", code=3)
    assert cli.inside("backup", "create", tmp_path / "not-there", "--name", "t", code=None).code == 1


def test_a_file_that_cannot_be_read_is_no_failure(
    cli: Cli, tmp_path: Path, failing_reads: Callable[[str], None]
) -> None:
    """resticker #107: a backup that lacked one file counted as none at all."""
    base = unreadable(tmp_path / "source")
    failing_reads("bad")
    cli.inside("backup", "create", base, "--name", "t", code=3)
    (row,) = cli.inside("backup", "list", "-f", "json").json
    assert row["status"] == "partial"
    cli.inside("backup", "restore", "latest", tmp_path / "out", code=3)
    assert (tmp_path / "out" / "good").read_text() == "x"


def test_a_restore_that_lacks_files_is_no_success(cli: Cli, tmp_path: Path) -> None:
    """restic #3166: a restore of which data were missing ended with exit status 0."""
    base = unreadable(tmp_path / "source")
    cli.inside("backup", "create", base, "--name", "t")
    for path in (tmp_path / "repository" / "packs").rglob("*"):
        if path.is_file():
            path.unlink()
    result = cli.inside("backup", "restore", "latest", tmp_path / "out", "-f", "json", code=3)
    assert {problem["path"] for problem in result.json["problems"]} == {"good", "bad"}
