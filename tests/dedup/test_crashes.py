"""Killed, suspended and late writers: what was committed before stays whole, what comes next succeeds."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from freezer_sdk import Freezer, LeaseLost
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.layout import digest_of
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage

PASSWORD = "correct horse"
CHILD = Path(__file__).with_name("crash_child.py")


def make_tree(base: Path, seed: int) -> Path:
    rng = random.Random(seed)
    base.mkdir(parents=True, exist_ok=True)
    for number in range(12):
        (base / f"f{seed}-{number}").write_bytes(rng.randbytes(300_000))
    return base


def content(base: Path) -> dict[str, bytes]:
    return {str(p.relative_to(base)): p.read_bytes() for p in sorted(base.rglob("*")) if p.is_file()}


@pytest.fixture
def start(tmp_path: Path) -> tuple[Path, str]:
    """A repository with one good backup of a first state."""
    source = make_tree(tmp_path / "source", 1)
    time.sleep(0.1)
    with Freezer(f"local:{tmp_path / 'start'}", password=PASSWORD, create=True) as freezer:
        backup = freezer.backup(source, name="t")
    make_tree(source, 2)
    time.sleep(0.1)
    return tmp_path / "start", backup.id


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_storage_call(start: tuple[Path, str], tmp_path: Path, when: str) -> None:
    template, first = start
    source = tmp_path / "source"
    reused = 0
    number = 0
    while True:
        number += 1
        repository = tmp_path / "repository"
        shutil.rmtree(repository, ignore_errors=True)
        shutil.copytree(template, repository)
        run = subprocess.run(
            [sys.executable, str(CHILD), str(repository), str(source), str(number), when],
            capture_output=True,
            text=True,
            check=False,
        )
        ended = run.returncode == 0
        assert ended or run.returncode == -signal.SIGKILL, run.stderr
        with Freezer(f"local:{repository}", password=PASSWORD) as freezer:
            assert first in {backup.id for backup in freezer.backups()}
            result = freezer.verify(read_data=True)
            assert result.ok, (number, result.problems)
            stored = sum(p.stat().st_size for p in repository.glob("packs/*/*"))
            if not ended:
                again = freezer.backup(source, name="t")
                assert again.status == "complete"
                reused += again.stats.added_bytes < 3_000_000
                grown = sum(p.stat().st_size for p in repository.glob("packs/*/*"))
                assert grown - stored < 3_700_000
            out = tmp_path / "out"
            shutil.rmtree(out, ignore_errors=True)
            freezer.restore(freezer.find_backup("latest", name="t").id, out)
            assert content(out) == content(source)
            assert freezer.verify(read_data=True).ok
        if ended:
            break
        assert number < 200
    assert number > 15
    assert reused >= 4, "nothing that a killed run had stored was used again"


def held_writer(repository: Path, source: Path) -> subprocess.Popen[str]:
    """A writer in a process of its own that says when its lease was checked, then waits for a line."""
    script = textwrap.dedent(
        """
        import sys
        from freezer_sdk import Freezer, LeaseLost
        from freezer_sdk.engines.dedup.lease import Lease

        check = Lease.check
        seen = []

        def announced(self):
            check(self)
            if not seen:
                seen.append(1)
                print("checked", flush=True)
                sys.stdin.readline()

        Lease.check = announced
        try:
            with Freezer(sys.argv[1], password="correct horse") as freezer:
                freezer.backup(sys.argv[2], name="late")
        except LeaseLost as error:
            print("lost", flush=True)
            sys.exit(3)
        """
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, f"local:{repository}", str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_writer_stopped_for_longer_than_the_grace_time_has_failed(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    with LocalStorage(path=str(repository)) as storage:
        create_repository(storage, password=PASSWORD, grace=5, short_grace=True)
    source = make_tree(tmp_path / "source", 1)
    with Freezer(f"local:{repository}", password=PASSWORD) as freezer:
        good = freezer.backup(source, name="good")
        writer = held_writer(repository, source)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "checked\n"
        os.kill(writer.pid, signal.SIGSTOP)
        time.sleep(6)
        os.kill(writer.pid, signal.SIGCONT)
        output, _ = writer.communicate("\n", timeout=300)
        assert (output, writer.returncode) == ("lost\n", 3)
        assert [backup.id for backup in freezer.backups()] == [good.id]
        assert freezer.backup(source, name="again").stats.added_bytes < 10_000
        assert freezer.verify(read_data=True).ok


@pytest.mark.slow
def test_a_sweep_that_did_not_see_the_commit_makes_it_void(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    source = make_tree(tmp_path / "source", 1)
    with Freezer(f"local:{repository}", password=PASSWORD, create=True) as freezer:
        good = freezer.backup(source, name="good")
        writer = held_writer(repository, source)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "checked\n"
        with LocalStorage(path=str(repository)) as storage:
            keys = open_repository(storage, lambda: PASSWORD)
            generation = protocol.next_generation(storage, keys)
            protocol.announce(storage, keys, generation)
            alive = [info.name for info in storage.list("backups/")]
            protocol.decide(storage, keys, generation, condemned=[], alive=alive)
        output, _ = writer.communicate("\n", timeout=300)
        assert (output, writer.returncode) == ("lost\n", 3)
        assert [backup.id for backup in freezer.backups()] == [good.id]


@pytest.mark.parametrize("said_by", ["mark", "decision"])
def test_condemned_packs_are_not_reused(tmp_path: Path, said_by: str) -> None:
    source = make_tree(tmp_path / "source", 1)
    repository = tmp_path / "repository"
    with Freezer(f"local:{repository}", password=PASSWORD, create=True) as freezer:
        first = freezer.backup(source, name="t")
        with LocalStorage(path=str(repository)) as storage:
            keys = open_repository(storage, lambda: PASSWORD)
            packs = [digest for info in storage.list("packs/") if (digest := digest_of(info.name))]
            protocol.write_tombstone(storage, keys, first.id)
            if said_by == "mark":
                protocol.write_mark(storage, keys, packs)
            else:  # as when the mark was damaged after the sweep had read it
                released = [info.name for info in storage.list("backups/")]
                protocol.decide(storage, keys, 1, condemned=packs, alive=[], released=released)
        again = freezer.backup(source, name="t")
        assert again.stats.added_bytes > 3_000_000
        for digest in packs:
            (repository / "packs" / digest.hex()[:2] / digest.hex()).unlink()
        out = tmp_path / "out"
        freezer.restore(again.id, out)
        assert content(out) == content(source)


def test_a_sweep_announced_while_writing_fails_the_run(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", 1)
    inner = LocalStorage(path=str(tmp_path / "repository"))
    keys = create_repository(inner, password=PASSWORD)

    def sweep(call: object) -> None:
        protocol.announce(inner, keys, protocol.next_generation(inner, keys))

    storage = FaultyStorage(inner, Fault(sweep, when="before", methods={"put"}, prefix="backups/"))
    with Freezer(storage, password=PASSWORD) as freezer:
        with pytest.raises(LeaseLost):
            freezer.backup(source, name="t")
        assert freezer.backups() == []
        assert freezer.backup(source, name="t").status == "complete"
