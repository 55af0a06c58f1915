"""What a backup of the dedup engine promises, seen from the library."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from freezer_sdk import BackupNotFound, Cancelled, CancelToken, Freezer, IntegrityError, Status, WrongPassword
from freezer_sdk.errors import ConfigurationError, RestoreConflict, SourceUnreadable
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage

PASSWORD = "correct horse"


def make_tree(base: Path, *, files: int = 40, seed: int = 1) -> Path:
    rng = random.Random(seed)
    for number in range(files):
        path = base / f"d{number % 5}" / f"e{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice((0, 10, 3000, 70_000, 400_000))))
    return base


def settle() -> None:
    """Waits until what was just written is older than the racy window."""
    time.sleep(0.1)


def content(base: Path) -> dict[str, bytes]:
    return {str(p.relative_to(base)): p.read_bytes() for p in sorted(base.rglob("*")) if p.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = make_tree(tmp_path / "source")
    settle()
    return base


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"local:{tmp_path / 'repository'}"


def objects(url: str) -> dict[str, bytes]:
    base = Path(url.removeprefix("local:"))
    return {str(p.relative_to(base)): p.read_bytes() for p in base.rglob("*") if p.is_file()}


def test_what_goes_in_comes_out(url: str, source: Path, tmp_path: Path) -> None:
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        backup = freezer.backup(source, name="tree", tags=["daily"])
        assert backup.status is Status.COMPLETE
        assert backup.stats.files == 40
        assert backup.stats.new_files == 40
        result = freezer.restore(backup.id, tmp_path / "out")
        assert result.status is Status.COMPLETE
        assert content(tmp_path / "out") == content(source)
        assert freezer.verify(read_data=True).ok
        assert freezer.verify(backup.id, read_data=True).ok


def test_what_a_commit_relies_on_is_durable_before_it(source: Path) -> None:
    storage = FaultyStorage(MemoryStorage())
    with Freezer.create(storage, encryption=False) as freezer:
        for _again in range(2):
            begin = len(storage.calls)
            freezer.backup(source)
            (source / "d1" / "new").write_bytes(os.urandom(1000))
            calls = [call for call in storage.calls[begin:] if call.method in ("put", "flush")]
            steps = [call.name.split("/")[0] or "flush" for call in calls if not call.name.startswith("leases/")]
            order = [step for step, _same in itertools.groupby(step.replace("meta", "packs") for step in steps)]
            assert order == ["packs", "flush", "index", "flush", "backups", "flush"]


def test_second_run_adds_only_the_commit(url: str, source: Path) -> None:
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        freezer.backup(source)
        before = objects(url)
        backup = freezer.backup(source)
        new = {name: data for name, data in objects(url).items() if name not in before}
    assert backup.stats.unmodified_files == 40
    assert backup.stats.read_bytes == 0
    assert {name.split("/")[0] for name in new} == {"backups", "leases"}
    assert sum(len(data) for name, data in new.items() if name.startswith("backups/")) < 4096


def test_second_run_opens_no_file(url: str, source: Path) -> None:
    script = textwrap.dedent(
        """
        import os, sys
        from freezer_sdk import Freezer
        url, source, password = sys.argv[1:]
        with Freezer(url, password=password, create=True) as freezer:
            freezer.backup(source)
            opened = []
            sys.addaudithook(lambda event, args: opened.append(args) if event == "open" else None)
            freezer.backup(source)
        names = {name for _base, _dirs, files in os.walk(source) for name in files}
        print([a for a in opened if isinstance(a[0], (str, bytes)) and not (a[2] or 0) & os.O_DIRECTORY
               and os.path.basename(os.fsdecode(a[0])) in names])
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", script, url, str(source), PASSWORD], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_changes_are_found_and_only_they_are_read(url: str, source: Path, tmp_path: Path) -> None:
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        freezer.backup(source)
        (source / "d1" / "new").write_bytes(b"n" * 1000)
        (source / "d0" / "e0" / "f0").write_bytes(b"changed")
        (source / "d2" / "e2" / "f2").unlink()
        settle()
        backup = freezer.backup(source)
        assert (backup.stats.new_files, backup.stats.changed_files, backup.stats.files) == (1, 1, 40)
        assert backup.stats.read_bytes == 1007
        freezer.restore(backup.id, tmp_path / "out")
        assert content(tmp_path / "out") == content(source)


def test_same_size_edit_within_the_tick_of_the_scan_is_found(url: str, source: Path, tmp_path: Path) -> None:
    path = source / "quick"
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        for number in range(6):
            path.write_bytes(b"%05d" % number)
            stamp = path.stat()
            freezer.backup(source)
            path.write_bytes(b"%05d" % (number + 100))
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            backup = freezer.backup(source)
            out = tmp_path / f"out{number}"
            freezer.restore(backup.id, out, paths=["quick"])
            assert (out / "quick").read_bytes() == b"%05d" % (number + 100)


def test_mtime_set_back_is_found(url: str, source: Path, tmp_path: Path) -> None:
    path = source / "d0" / "e0" / "f0"
    stamp = path.stat()
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        freezer.backup(source)
        path.write_bytes(bytes(reversed(path.read_bytes())) or b"")
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        settle()
        backup = freezer.backup(source)
        assert backup.stats.changed_files == 1
        freezer.restore(backup.id, tmp_path / "out")
        assert content(tmp_path / "out") == content(source)


def test_small_change_of_a_large_file_adds_little(url: str, tmp_path: Path) -> None:
    big = tmp_path / "big"
    data = bytearray(random.Random(5).randbytes(20 << 20))
    big.write_bytes(data)
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        freezer.backup(big)
        data[7_000_000:7_000_000] = b"inserted"
        big.write_bytes(data)
        backup = freezer.backup(big)
        assert backup.stats.added_bytes < 1 << 20
        with freezer.open(backup.id, str(big)) as reader:
            assert b"".join(iter(lambda: reader.read(1 << 20), b"")) == data


def test_sparse_file_is_read_and_stored_by_its_data(url: str, tmp_path: Path) -> None:
    path = tmp_path / "source" / "image"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(200 << 20)
        file.seek(50 << 20)
        file.write(b"x" * 100_000)
    settle()
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        backup = freezer.backup(path.parent)
        assert backup.stats.bytes == 200 << 20
        assert backup.stats.read_bytes < 1 << 20
        freezer.restore(backup.id, tmp_path / "out")
        restored = tmp_path / "out" / "image"
        assert restored.stat().st_blocks <= path.stat().st_blocks
        with freezer.open(backup.id, str(path)) as a, path.open("rb") as b:
            while piece := a.read(1 << 20):
                assert piece == b.read(len(piece))
            assert not b.read(1)
        assert subprocess.run(["cmp", str(path), str(restored)], check=False).returncode == 0
        assert freezer.verify(backup.id, read_data=True).ok


def test_a_file_that_vanishes_before_it_is_read_makes_it_partial(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(random.Random(4).randbytes(40 << 20))  # stored in packs while it is read
    (source / "z").write_bytes(b"listed together with a")
    inner = LocalStorage(path=str(tmp_path / "repository"))
    vanish = Fault(lambda call: (source / "z").unlink(missing_ok=True), methods={"put"}, prefix="packs/")
    options = {"pack_size": "1M"}
    with Freezer(FaultyStorage(inner, vanish), password=PASSWORD, create=True, engine_options=options) as freezer:
        backup = freezer.backup(source)
        assert backup.status is Status.PARTIAL
        assert [(p.path, p.kind) for p in backup.problems] == [(str(source / "z"), "vanished")]
        result = freezer.restore(backup.id, tmp_path / "out")
        assert result.status is Status.PARTIAL
        assert result.files == 1
        assert os.listdir(tmp_path / "out") == ["a"]


def test_growing_file_is_reported(url: str, tmp_path: Path) -> None:
    path = tmp_path / "source" / "log"
    path.parent.mkdir()
    path.write_bytes(random.Random(3).randbytes(48 << 20))
    grow = (
        "import sys, time\n"
        "with open(sys.argv[1], 'ab', buffering=0) as file:\n"
        "    print('growing', flush=True)\n"
        "    for _ in range(60_000):\n"
        "        file.write(b'1' * 256); time.sleep(0.0005)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", grow, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "growing\n"
        with Freezer(url, password=PASSWORD, create=True) as freezer:
            backup = freezer.backup(path.parent)
    finally:
        writer.kill()
        writer.communicate()
    assert backup.status is Status.PARTIAL
    assert [p.kind for p in backup.problems] == ["changed"]
    with Freezer(url, password=PASSWORD) as freezer:
        entry = next(e for e in freezer.entries(backup.id) if e.path == os.fsencode(path))
        assert entry.incomplete
        result = freezer.restore(backup.id, tmp_path / "out")
        assert result.status is Status.PARTIAL
        assert (tmp_path / "out" / "log").stat().st_size == entry.size
        settle()
        again = freezer.backup(path.parent)
        assert again.status is Status.COMPLETE
        assert again.stats.changed_files == 1


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", files=6)
    base = tmp_path / "repository"
    url = f"local:{base}"
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        freezer.backup(source)
        freezer.forget(freezer.backup(source).id)
    names = sorted(p for p in base.rglob("*") if p.is_file())
    rng = random.Random(11)
    with Freezer(url, password=PASSWORD) as freezer:
        assert freezer.verify(read_data=True).ok
        for path in names:
            good = path.read_bytes()
            if not good or path.parent.name == "reserve":
                continue
            for at in {0, len(good) - 1, *(rng.randrange(len(good)) for _ in range(4))}:
                bad = bytearray(good)
                bad[at] ^= 1 << rng.randrange(8)
                path.write_bytes(bad)
                result = freezer.verify(read_data=True)
                assert not result.ok, f"{path.relative_to(base)} at {at}"
            path.write_bytes(good)
        assert freezer.verify(read_data=True).ok


def test_damaged_data_are_never_restored_as_good(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", files=30)
    base = tmp_path / "repository"
    with Freezer(f"local:{base}", password=PASSWORD, create=True) as freezer:
        backup = freezer.backup(source)
        wanted = content(source)
        rng = random.Random(2)
        for number, path in enumerate(sorted((base / "packs").rglob("*"))):
            if not path.is_file():
                continue
            good = path.read_bytes()
            bad = bytearray(good)
            bad[rng.randrange(len(bad) // 2)] ^= 1
            path.write_bytes(bad)
            out = tmp_path / f"out{number}"
            result = freezer.restore(backup.id, out)
            assert result.status is Status.PARTIAL
            lost = {os.path.relpath(p.path, out) if p.path.startswith("/") else p.path for p in result.problems}
            restored = content(out)
            assert result.files == len(restored)
            assert restored.items() <= wanted.items()
            assert set(wanted) - set(restored) <= lost
            findings = freezer.verify(backup.id, read_data=True).problems
            assert any(path.name in f.path for f in findings)
            assert any(f.path.startswith(backup.id[:8]) for f in findings)
            path.write_bytes(good)


def test_wrong_password_and_no_password(url: str, source: Path) -> None:
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        freezer.backup(source)
    before = objects(url)
    with pytest.raises(WrongPassword):
        Freezer(url, password="wrong")
    with pytest.raises(WrongPassword):
        Freezer(url)
    assert objects(url) == before


def test_unencrypted_repository(url: str, source: Path, tmp_path: Path) -> None:
    with Freezer(url, create=True, encryption=False) as freezer:
        assert not freezer.info().encrypted
        backup = freezer.backup(source)
    with Freezer(url) as freezer:
        freezer.restore(backup.id, tmp_path / "out")
    assert content(tmp_path / "out") == content(source)
    with pytest.raises(ConfigurationError):
        Freezer(url, password=PASSWORD)


def test_dry_run_writes_nothing(url: str, source: Path) -> None:
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        before = objects(url)
        backup = freezer.backup(source, dry_run=True)
        assert backup.dry_run
        assert backup.stats.new_files == 40
        assert backup.stats.added_raw_bytes > 0
        assert objects(url) == before
        assert freezer.backups() == []


def test_a_damaged_backup_can_be_forgotten(url: str, source: Path) -> None:
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        first, second = freezer.backup(source), freezer.backup(source)
        commit = next((Path(url.removeprefix("local:")) / "backups").glob(f"*{first.id}"))
        commit.write_bytes(commit.read_bytes()[:-1])
    with Freezer(url, password=PASSWORD) as freezer:
        assert [backup.status for backup in freezer.backups()] == [Status.DAMAGED, Status.COMPLETE]
        assert [backup.id for backup in freezer.forget(first.id)] == [first.id]
        assert [backup.id for backup in freezer.backups()] == [second.id]
        with pytest.raises(BackupNotFound):
            freezer.forget([second.id, "0" * 32])
        assert [backup.id for backup in freezer.backups()] == [second.id]


def test_forgotten_backups_are_hidden(url: str, source: Path) -> None:
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        first, second = freezer.backup(source), freezer.backup(source)
        freezer.forget(first.id)
        assert [b.id for b in freezer.backups()] == [second.id]
        with pytest.raises(BackupNotFound):
            freezer.restore(first.id, "/nonexistent")
        assert freezer.verify(read_data=True).ok


def test_cancel_leaves_no_backup_and_the_next_run_reuses(url: str, source: Path) -> None:
    cancel = CancelToken()
    make_tree(source, files=400, seed=9)
    with Freezer(url, password=PASSWORD, create=True, engine_options={"pack_size": "1M"}) as freezer:

        def stop(event: object) -> None:
            if getattr(event, "added_bytes", 0) > 2 << 20:
                cancel.cancel()

        before = set(threading.enumerate())
        with pytest.raises(Cancelled):
            freezer.backup(source, cancel=cancel, events=stop)
        assert freezer.backups() == []
        assert set(threading.enumerate()) <= before
        backup = freezer.backup(source)
        assert backup.status is Status.COMPLETE


def test_several_roots_keep_their_paths(url: str, tmp_path: Path) -> None:
    first, second = make_tree(tmp_path / "a", files=5), make_tree(tmp_path / "b", files=5, seed=2)
    single = tmp_path / "single"
    single.write_bytes(b"one file")
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        backup = freezer.backup([first, second, single], name="several")
        out = tmp_path / "out"
        freezer.restore(backup.id, out)
        assert content(out / str(first).lstrip("/")) == content(first)
        assert content(out / str(second).lstrip("/")) == content(second)
        assert (out / str(single).lstrip("/")).read_bytes() == b"one file"
        only = freezer.backup(single)
        freezer.restore(only.id, tmp_path / "one")
        assert (tmp_path / "one" / "single").read_bytes() == b"one file"
        chosen = tmp_path / "chosen"
        freezer.restore(backup.id, chosen, paths=[str(second / "d1")], layout="full")
        assert set(content(chosen)) == {str(p).lstrip("/") for p in (second / "d1").rglob("*") if p.is_file()}
        with pytest.raises(RestoreConflict):
            freezer.restore(backup.id, tmp_path / "merged", layout="content")


def test_nothing_to_back_up(url: str, tmp_path: Path) -> None:
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        with pytest.raises(SourceUnreadable):
            freezer.backup(tmp_path / "missing")
        assert freezer.backups() == []


def test_replaced_commit_is_refused(url: str, source: Path, tmp_path: Path) -> None:
    base = Path(url.removeprefix("local:"))
    with Freezer(url, password=PASSWORD, create=True) as freezer:
        freezer.backup(source)
        freezer.backup(source)
    first, second = sorted((base / "backups").iterdir())
    first.write_bytes(second.read_bytes())
    with Freezer(url, password=PASSWORD) as freezer:
        assert [backup.status for backup in freezer.backups()] == [Status.DAMAGED, Status.COMPLETE]
        with pytest.raises(IntegrityError):
            freezer.restore(first.name[-32:], tmp_path / "out")
        assert freezer.backup(source).status is Status.COMPLETE


def test_two_processes_at_once(url: str, tmp_path: Path) -> None:
    trees = [make_tree(tmp_path / f"source{n}", files=60, seed=n) for n in range(3)]
    with Freezer(url, password=PASSWORD, create=True):
        pass
    script = (
        "import sys; from freezer_sdk import Freezer\n"
        "with Freezer(sys.argv[1], password=sys.argv[2]) as f:\n"
        "    for n in range(3): print(f.backup(sys.argv[3], name='t').id)\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", script, url, PASSWORD, str(tree)], stdout=subprocess.PIPE, text=True)
        for tree in trees
    ]
    outputs = [run.communicate(timeout=120)[0].split() for run in runs]
    assert all(run.returncode == 0 for run in runs)
    with Freezer(url, password=PASSWORD) as freezer:
        assert len(freezer.backups()) == 9
        assert freezer.verify(read_data=True).ok
        for tree, ids in zip(trees, outputs, strict=True):
            out = tmp_path / "out" / ids[-1]
            freezer.restore(ids[-1], out)
            assert content(out) == content(tree)
