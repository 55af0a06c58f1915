"""Provider ``freeze`` on a real file system."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import killed_at_each_step

from freezer_sdk import Freezer
from freezer_sdk.errors import SnapshotError
from freezer_sdk.snapshots.freeze import FreezeProvider
from freezer_sdk.testing import SnapshotSuite

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An ext4 in a file."""
    folder = tmp_path_factory.mktemp("ext4")
    point = folder / "mounted"
    point.mkdir()
    with open(folder / "image", "wb") as image:
        image.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", folder / "image"], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", folder / "image", point], check=True)
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.fixture
def volume(mounted: Path) -> Iterator[Path]:
    path = mounted / secrets.token_hex(6)
    path.mkdir()
    (path / "file").write_text("before")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir(mode=0o700)
    return path


class TestConformance(SnapshotSuite):
    provider = FreezeProvider
    copies = True

    @pytest.fixture(autouse=True)
    def _places(self, mounted: Path, scratch: Path) -> None:
        self._mounted, self._scratch = mounted, scratch
        self.options = {"scratch": str(scratch), "max_size": 1 << 20, "limit": 60.0, "writable": ()}

    def make_volume(self) -> Path:
        path = self._mounted / secrets.token_hex(6)
        path.mkdir()
        return path

    def leftovers(self, prefix: str) -> list[str]:
        return [name for name in os.listdir(self._scratch) if name.startswith(f"{prefix}-")]


class SlowCopy:
    """A ``cp`` that waits until it may go on, or for ever."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._go, self._started = folder / "go", folder / "started"
        program = folder / "cp"
        program.write_text(
            f"#!/bin/sh\ntouch {self._started}\nwhile [ -d {folder} ] && ! [ -e {self._go} ]; do sleep 0.02; done\n"
            f'exec {shutil.which("cp")} "$@"\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def wait(self) -> None:
        while not self._started.exists():
            time.sleep(0.02)

    def go_on(self) -> None:
        self._go.touch()


@pytest.fixture
def slow_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowCopy:
    folder = tmp_path / "bin"
    folder.mkdir()
    return SlowCopy(folder, monkeypatch)


WAITING: list[subprocess.Popen[bytes]] = []


def is_writable(volume: Path) -> bool:
    """Whether a write comes through."""
    return subprocess.run(["touch", volume / "probe"], timeout=60, check=False).returncode == 0


def is_stopped(volume: Path) -> bool:
    """Whether a write waits; it goes on when the file system thaws."""
    writer = subprocess.Popen(["touch", volume / "probe"])
    WAITING.append(writer)
    try:
        writer.wait(1)
    except subprocess.TimeoutExpired:
        return True
    return False


@pytest.fixture(autouse=True)
def _no_writer_waits_any_more() -> Iterator[None]:
    yield
    while WAITING:
        assert WAITING.pop().wait(60) == 0


def watchdogs(record_folder: Path) -> list[int]:
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes()
        except OSError:
            continue
        if b"_watchdog.py" in line and os.fsencode(record_folder) in line:
            found.append(int(each.parent.name))
    return found


def test_what_writes_meanwhile_waits(volume: Path, scratch: Path, slow_copy: SlowCopy) -> None:
    provider = FreezeProvider(scratch=scratch)
    seen: list[bool] = []

    def look() -> None:
        slow_copy.wait()
        seen.append(is_stopped(volume))
        slow_copy.go_on()

    looking = threading.Thread(target=look)
    looking.start()
    with provider.create([volume]) as group:
        looking.join()
        assert seen == [True]
        assert is_writable(volume)
        assert os.listdir(str(group.views[volume])) == ["file"]  # "probe" was not there yet


def test_it_is_thawed_in_time_whatever_the_copy_does(volume: Path, scratch: Path, slow_copy: SlowCopy) -> None:
    provider = FreezeProvider(scratch=scratch, limit=1.0)
    with pytest.raises(SnapshotError, match="cannot copy"), provider.create([volume]):
        pass
    assert is_writable(volume)
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_watchdog_that_ends_fails_the_run(
    volume: Path, scratch: Path, slow_copy: SlowCopy, number: signal.Signals
) -> None:
    provider = FreezeProvider(scratch=scratch)

    def end() -> None:
        slow_copy.wait()
        (watchdog,) = watchdogs(scratch)
        os.kill(watchdog, number)
        while watchdogs(scratch):
            time.sleep(0.02)
        slow_copy.go_on()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(SnapshotError, match="not of one moment"), provider.create([volume]):
        pass
    ending.join()
    assert is_writable(volume)
    assert os.listdir(scratch) == []


SCRIPT = """
import sys
from pathlib import Path
from freezer_sdk.snapshots.freeze import FreezeProvider
with FreezeProvider(scratch=sys.argv[1], label_prefix="killed").create([Path(sys.argv[2])]):
    pass
"""


def test_a_killed_run_leaves_nothing_frozen(volume: Path, scratch: Path, tmp_path: Path) -> None:
    provider = FreezeProvider(scratch=scratch, label_prefix="killed")
    found = 0
    for step in killed_at_each_step(tmp_path / "steps", ["cp"], SCRIPT, str(scratch), str(volume)):
        assert is_writable(volume), step
        left = os.listdir(scratch)
        assert len(provider.reap()) == len(left)
        assert os.listdir(scratch) == []
        found += len(left)
    assert found


def test_what_stays_frozen_with_the_watchdog_killed_too_is_thawed(
    volume: Path, scratch: Path, slow_copy: SlowCopy
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(scratch), str(volume)]
    run = subprocess.Popen(command)
    slow_copy.wait()
    os.kill(run.pid, signal.SIGSTOP)  # or it would thaw
    (watchdog,) = watchdogs(scratch)
    os.kill(watchdog, signal.SIGKILL)
    run.kill()
    run.wait()
    assert is_stopped(volume)
    thawed, copy = FreezeProvider(scratch=scratch, label_prefix="killed").reap()
    assert is_writable(volume)
    assert thawed == f"freeze of {volume.parent}"
    assert copy.startswith(f"copy {scratch}/killed-")
    slow_copy.go_on()


def test_what_must_not_stop_is_not_frozen(
    mounted: Path, volume: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = FreezeProvider(scratch=scratch)
    assert provider.probe([volume]).possible
    refused = [
        (provider, Path("/etc"), "which must not stop"),
        (provider, Path("/proc"), "lies on proc, which cannot be frozen"),
        (FreezeProvider(scratch=mounted / "not" / "there"), volume, "which must not stop"),
        (FreezeProvider(scratch=scratch, writable=[mounted / "cache"]), volume, f"that holds {mounted}/cache"),
        (FreezeProvider(scratch=scratch, max_size=1000), volume, "no more than 1000 may be"),
    ]
    for each, path, message in refused:
        assert not each.probe([path]).possible
        assert message in each.probe([path]).reason
        with pytest.raises(SnapshotError, match=r"must not|cannot|may be"), each.create([path]):
            pass
    with open(volume / "log", "w"):
        assert f"that holds {volume}/log" in provider.probe([volume]).reason
    with open(volume / "log"):
        assert provider.probe([volume]).possible


def test_the_file_system_of_the_repository_is_not_frozen(volume: Path, scratch: Path, tmp_path: Path) -> None:
    for place, possible in ((volume / "repository", False), (tmp_path / "repository", True)):
        with Freezer(f"local:{place}", create=True, encryption=False) as freezer:
            wanted = {"snapshot": "freeze", "snapshot_options": {"scratch": str(scratch)}}
            if possible:
                assert freezer.backup(volume / "file", **wanted).paths == (str(volume / "file"),)
                continue
            with pytest.raises(SnapshotError, match=f"that holds {place}, which must not stop"):
                freezer.backup(volume / "file", **wanted)


def test_what_somebody_else_froze_is_left_alone(volume: Path, scratch: Path, mounted: Path) -> None:
    subprocess.run(["fsfreeze", "--freeze", mounted], check=True)
    try:
        provider = FreezeProvider(scratch=scratch, limit=1.0)
        with pytest.raises(SnapshotError, match="cannot freeze"), provider.create([volume]):
            pass
        assert is_stopped(volume)
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", mounted], check=True)


def test_copies_know_all_of_files(volume: Path, scratch: Path) -> None:
    os.link(volume / "file", volume / "other name")
    os.setxattr(volume / "file", "user.mark", b"\x00\xff")
    os.chown(volume / "file", 12345, 54321)
    os.mkfifo(volume / "fifo")
    with open(volume / "sparse", "wb") as sparse:
        sparse.truncate(10 << 20)
    os.utime(volume / "file", ns=(1, 123456789123456789))
    with FreezeProvider(scratch=scratch).create([volume]) as group:
        view = Path(str(group.views[volume]))
        found = (view / "file").stat()
        assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (12345, 54321, 123456789123456789)
        assert os.getxattr(view / "file", "user.mark") == b"\x00\xff"
        assert found.st_ino == (view / "other name").stat().st_ino
        assert (view / "fifo").is_fifo()
        assert (view / "sparse").stat().st_blocks < 100
