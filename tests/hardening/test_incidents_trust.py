"""Incidents of other programs in which a storage, a path or an exit status was trusted: see ``test_incidents.py``."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cli.program import Cli
from hardening.forge import CHEAP, DIRECTORY, LINK, Entry, Forge, page

from freezer_sdk import Freezer, IntegrityError
from freezer_sdk.engines.dedup import segment
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.chunker import Chunkers
from freezer_sdk.engines.dedup.layout import backup_name, parse_backup_name
from freezer_sdk.engines.dedup.page import Content
from freezer_sdk.model import Status
from freezer_sdk.modes.base import Extra
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    home = tmp_path / "home"
    home.mkdir()
    made = Cli(home)
    made.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    made.inside("repository", "init", "--no-encryption")
    return made


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
