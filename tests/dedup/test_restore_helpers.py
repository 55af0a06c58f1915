"""Restores of very many files: other processes write most of them, and nobody can tell from the result."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import compare

from freezer_sdk import Cancelled, CancelToken, Event, Freezer, Status

FILES = 10_200  # more than what the other processes are started for


def children() -> set[int]:
    """Child processes of this one that write files."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            command = Path("/proc", pid, "cmdline")
            if command.exists() and b"writer_process" in command.read_bytes():
                found.add(int(pid))
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("many") / "tree"
    for number in range(FILES):
        folder = base / f"d{number % 97}"
        if number < 97:
            folder.mkdir(parents=True)
        path = folder / f"f{number}"
        path.write_bytes(b"%d " % (number % 5000) * (number % 40))
        path.chmod((0o644, 0o600, 0o444, 0o777, 0o4755)[number % 5])
    (base / "large").write_bytes(os.urandom(3 << 20))
    os.link(base / "d0" / "f0", base / "hard")
    (base / "soft").symlink_to("d0/f0")
    return base


@pytest.fixture(scope="module")
def store(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"local:{tmp_path_factory.mktemp('many') / 'store'}"
    with Freezer(url, create=True, encryption=False) as freezer:
        freezer.backup(tree, name="many")
    return url


class Watch:
    """Notes the children that it sees at each event, and may do something to them once."""

    def __init__(self, act: str = "") -> None:
        self.seen: set[int] = set()
        self.cancel = CancelToken()
        self._act = act
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            found = children()
            self.seen |= found
            if not event.files or not found:
                return
            if self._act == "kill":
                self._act = ""
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
            elif self._act == "cancel":
                self.cancel.cancel()


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out"
    assert not children()
    assert list((tmp_path / "out").rglob(".freezer-*")) == []


def test_the_result_is_the_same(store: str, tree: Path, out: Path) -> None:
    watch = Watch()
    with Freezer(store) as freezer:
        result = freezer.restore("latest", out, events=watch)
    assert result.status is Status.COMPLETE, result.problems
    assert result.files == FILES + 2  # the large one, and the second name
    assert watch.seen
    compare(tree, out)


def test_a_program_with_very_many_open_files(store: str, out: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    opened: list[int] = []
    watch = Watch()
    try:
        while not opened or opened[-1] < 1200:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        with Freezer(store) as freezer:
            result = freezer.restore("latest", out, events=watch)
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result.status is Status.COMPLETE, result.problems
    assert watch.seen


def test_one_thread_needs_no_other_process(store: str, tree: Path, out: Path) -> None:
    watch = Watch()
    with Freezer(store, engine_options={"threads": 1}) as freezer:
        freezer.restore("latest", out, events=watch)
    assert not watch.seen
    compare(tree, out)


def test_what_a_killed_process_did_not_write_is_written_all_the_same(store: str, tree: Path, out: Path) -> None:
    watch = Watch("kill")
    with Freezer(store) as freezer:
        result = freezer.restore("latest", out, events=watch)
    assert watch.seen
    assert result.status is Status.COMPLETE, result.problems
    for left in out.rglob(".freezer-*"):  # of a file that was being written
        left.unlink()
    compare(tree, out)


def test_a_cancelled_restore_leaves_no_process_and_no_half_file(store: str, out: Path) -> None:
    watch = Watch("cancel")
    with Freezer(store) as freezer, pytest.raises(Cancelled):
        freezer.restore("latest", out, events=watch, cancel=watch.cancel)
    assert watch.seen


def test_damage_is_found_by_the_other_process_too(store: str, tree: Path, tmp_path: Path, out: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store.removeprefix("local:"), copy)
    packs = sorted((copy / "packs").rglob("*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(packs[-1].read_bytes())
    for at in range(200, len(data), 100_000):
        data[at] ^= 1
    packs[-1].chmod(0o600)
    packs[-1].write_bytes(data)
    lost = []
    for threads in (2, 1):
        with Freezer(f"local:{copy}", engine_options={"threads": threads}) as freezer:
            result = freezer.restore("latest", tmp_path / f"out{threads}")
        assert result.status is Status.PARTIAL
        lost.append({(problem.path, problem.kind) for problem in result.problems})
        for path, _kind in lost[-1]:
            assert not (tmp_path / f"out{threads}" / path).exists()
    assert lost[0] == lost[1]
