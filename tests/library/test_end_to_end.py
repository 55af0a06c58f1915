"""The library on the installed engine, mode and storages."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezer_sdk import (
    AmbiguousError,
    BackupNotFound,
    Cancelled,
    CancelToken,
    ConfigurationError,
    Event,
    Freezer,
    IntegrityError,
    PolicyRefusal,
    RepositoryExists,
    RepositoryNotFound,
    RestoreError,
    Status,
    WrongPassword,
    open_storage,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "a.txt").write_text("first\n")
    (folder / "conf.d" / "b.conf").write_text("x = 1\n")
    (folder / "conf.d" / "c.conf").write_text("y = 1\n")
    (folder / "conf-2").write_text("sorts before conf.d and after conf\n")
    (folder / "link").symlink_to("a.txt")
    return folder


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    with Freezer(f"local:{tmp_path}/store", create=True, encryption=False) as opened:
        yield opened


def test_what_a_backup_records(freezer: Freezer, source: Path) -> None:
    before = datetime.now(UTC)
    backup = freezer.backup(source, tags=["daily"], excludes=["*.tmp"])
    assert backup.name == "source"
    assert backup.host == socket.gethostname()
    assert backup.paths == (str(source),)
    assert (backup.mode, backup.engine, backup.tags) == ("fs", "dedup", ("daily",))
    assert backup.excludes == ("*.tmp",)
    assert before <= backup.time <= datetime.now(UTC)
    assert len(backup.id) == 32
    assert backup.stats.files == 4
    assert freezer.backups() == [backup]


def test_a_partial_backup_deletes_nothing_without_force(freezer: Freezer, source: Path, tmp_path: Path) -> None:
    failing = {"command": "dump", "command_arguments": ["false"]}
    backup = freezer.backup(source, mode_options=failing)
    assert backup.status is Status.PARTIAL
    out = tmp_path / "out"
    freezer.restore(backup.id, out, layout="content")
    (out / "extra").write_text("only here")
    with pytest.raises(PolicyRefusal) as caught:
        freezer.restore(backup.id, out, layout="content", overwrite="always", delete=True)
    assert caught.value.exit_code == 14
    plan = freezer.restore(backup.id, out, layout="content", overwrite="always", delete=True, dry_run=True).plan
    assert [action.path for action in plan if action.action == "delete"] == [b"extra"]
    assert (out / "extra").exists()
    freezer.restore(backup.id, out, layout="content", overwrite="always", delete=True, force=True)
    assert not (out / "extra").exists()
    assert (out / "a.txt").exists()


def test_encrypted_repositories_need_the_password(tmp_path: Path, source: Path) -> None:
    url = f"local:{tmp_path}/store"
    with pytest.raises(RepositoryNotFound):
        Freezer(url, password="right")
    with Freezer.create(url, password="right") as freezer:
        backup = freezer.backup(source)
        assert freezer.info().encrypted
    with pytest.raises(RepositoryExists):
        Freezer.create(url, password="right")
    with pytest.raises(WrongPassword):
        Freezer(url, password="wrong")
    with pytest.raises(ConfigurationError):
        Freezer.create(f"local:{tmp_path}/other")
    with Freezer(url, password=lambda: "right", create=True) as freezer:
        assert [each.id for each in freezer.backups()] == [backup.id]


def test_a_password_for_an_unencrypted_repository_is_refused(tmp_path: Path) -> None:
    url = f"local:{tmp_path}/store"
    Freezer.create(url, encryption=False).close()
    with pytest.raises((ConfigurationError, WrongPassword)):
        Freezer(url, password="pw")


def test_a_storage_object_may_be_given(source: Path) -> None:
    with open_storage("memory:") as storage, Freezer(storage, create=True, encryption=False) as freezer:
        assert freezer.backup(source).status == "complete"
        assert freezer.stats().objects > 0


def test_choosing_by_time_name_and_tag(freezer: Freezer, source: Path) -> None:
    first = freezer.backup(source, name="one", tags=["daily"])
    second = freezer.backup(source, name="one", tags=["daily", "weekly"])
    other = freezer.backup(source, name="two", host="elsewhere")
    assert [each.id for each in freezer.backups()] == [first.id, second.id, other.id]
    assert [each.id for each in freezer.backups(tags=["weekly"])] == [second.id]
    assert [each.id for each in freezer.backups(before=second.time)] == [first.id]
    assert [each.id for each in freezer.backups(after=second.time)] == [second.id, other.id]
    assert [each.id for each in freezer.backups(path=str(source), name="two")] == [other.id]
    assert freezer.find_backup().id == second.id
    assert freezer.find_backup(at=first.time).id == first.id
    assert freezer.find_backup(at=first.time.astimezone().replace(tzinfo=None)).id == first.id
    assert freezer.find_backup(host="elsewhere").id == other.id
    assert freezer.find_backup(first.id[:12]).id == first.id
    with pytest.raises(BackupNotFound):
        freezer.find_backup(at=first.time - timedelta(seconds=1))
    freezer.backup(source, name="two")
    with pytest.raises(AmbiguousError, match="one, two"):
        freezer.find_backup()
    assert freezer.find_backup(name="one").id == second.id


def test_entries_and_content(freezer: Freezer, source: Path) -> None:
    backup = freezer.backup(source)
    root = os.fsencode(source)
    names = [b"/a.txt", b"/conf-2", b"/conf.d", b"/conf.d/b.conf", b"/conf.d/c.conf", b"/link"]
    assert [entry.path for entry in freezer.entries("latest")] == [root, *(root + name for name in names)]
    assert [entry.path for entry in freezer.entries(backup.id, "conf.d", recursive=False)] == [
        root + b"/conf.d",
        root + b"/conf.d/b.conf",
        root + b"/conf.d/c.conf",
    ]
    assert [entry.path for entry in freezer.entries(f"{backup.id}:a.txt")] == [root + b"/a.txt"]
    with pytest.raises(RestoreError, match="has no"):
        list(freezer.entries(backup.id, "/nowhere"))
    with freezer.open(backup.id, source / "conf.d" / "b.conf") as reader:
        assert reader.read() == b"x = 1\n"
        assert reader.read() == b""
    with freezer.open("latest:a.txt") as reader:
        assert [reader.read(3), reader.read(100)] == [b"fir", b"st\n"]
    for path in ("conf.d", "link", "none"):
        with pytest.raises(RestoreError), freezer.open(backup.id, path):
            pass


def test_find_and_diff(freezer: Freezer, source: Path) -> None:
    first = freezer.backup(source)
    (source / "conf.d" / "b.conf").write_text("x = 2\n")
    (source / "conf.d" / "new").write_text("n\n")
    (source / "a.txt").unlink()
    (source / "conf-2").chmod(0o600)
    (source / "link").unlink()
    (source / "link").mkdir()
    second = freezer.backup(source)
    found = [(backup.id, os.path.basename(entry.path)) for backup, entry in freezer.find("*.txt")]
    assert found == [(first.id, b"a.txt")]

    def told(**options: bool) -> dict[str, str]:
        changes = freezer.diff(first.id, second.id, **options)
        return {os.path.relpath(os.fsdecode(change.path), source): change.kind for change in changes}

    assert told() == {"a.txt": "removed", "conf.d/b.conf": "content", "conf.d/new": "added", "link": "type"}
    assert told(metadata=True)["conf-2"] == "metadata"
    below = [each.kind for each in freezer.diff(f"{first.id}:conf.d", f"{second.id}:conf.d")]
    assert below == ["content", "added"]
    assert list(freezer.diff(first.id, first.id, metadata=True)) == []


def test_a_damaged_commit_hides_nothing_but_itself(freezer: Freezer, source: Path, tmp_path: Path) -> None:
    first, second = freezer.backup(source), freezer.backup(source)
    (commit,) = (tmp_path / "store" / "backups").glob(f"*{second.id}*")
    data = bytearray(commit.read_bytes())
    data[len(data) // 2] ^= 1
    commit.write_bytes(data)
    assert [(each.id, str(each.status)) for each in freezer.backups()] == [
        (first.id, "complete"),
        (second.id, "damaged"),
    ]
    assert freezer.find_backup().id == first.id
    assert [backup.id for backup, _ in freezer.find("a.txt")] == [first.id]
    assert not freezer.verify().ok
    with pytest.raises(IntegrityError):
        freezer.restore(second.id, tmp_path / "out")


def test_a_touched_file_has_the_same_content(freezer: Freezer, source: Path) -> None:
    first = freezer.backup(source)
    os.utime(source / "a.txt", ns=(1, 1))
    second = freezer.backup(source)
    assert list(freezer.diff(first.id, second.id)) == []
    assert [each.kind for each in freezer.diff(first.id, second.id, metadata=True)] == ["metadata"]


def test_diff_of_several_roots(freezer: Freezer, tmp_path: Path) -> None:
    """The engine walks roots by their whole names; ``x-y`` and ``x/z`` sort differently as trees."""
    roots = [tmp_path / "x" / "z", tmp_path / "x-y"]
    for root in roots:
        root.mkdir(parents=True)
        (root / "f").write_text("1")
    first = freezer.backup(roots, name="roots")
    for root in roots:
        (root / "g").write_text("2")
    second = freezer.backup(roots, name="roots")
    changes = [(each.kind, os.fsdecode(each.path)) for each in freezer.diff(first.id, second.id)]
    assert changes == [("added", str(roots[0] / "g")), ("added", str(roots[1] / "g"))]
    only = freezer.backup(roots[:1], name="roots")
    assert {each.kind for each in freezer.diff(second.id, only.id)} == {"removed"}


def test_restore_of_a_subpath_and_plan(freezer: Freezer, source: Path, tmp_path: Path) -> None:
    freezer.backup(source)
    planned = freezer.restore("latest:conf.d", tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    steps = [os.path.basename(step.path) for step in planned.plan]
    assert [name for name in steps if name.endswith(b".conf")] == [b"b.conf", b"c.conf"]
    result = freezer.restore("latest:conf.d", tmp_path / "out")
    assert result.files == 2
    assert sorted(os.listdir(tmp_path / "out")) == ["conf.d"]
    freezer.restore("latest", tmp_path / "full", layout="full")
    assert (tmp_path / "full" / str(source).lstrip("/") / "a.txt").read_text() == "first\n"


def test_dry_run_writes_nothing(freezer: Freezer, source: Path, tmp_path: Path) -> None:
    freezer.backup(source)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    (source / "new").write_text("n")
    backup = freezer.backup(source, dry_run=True)
    assert backup.dry_run
    assert backup.stats.new_files == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before


def test_a_stream_is_backed_up_and_read_back(freezer: Freezer) -> None:
    backup = freezer.backup(mode_options={"command": "dump.sql", "command_arguments": ["printf", "hello"]})
    assert (backup.name, backup.paths) == ("dump.sql", ("/dump.sql",))
    with freezer.open(backup.id, "dump.sql") as reader:
        assert reader.read() == b"hello"


def test_a_single_file_is_named_beside_its_folder(freezer: Freezer, source: Path) -> None:
    backup = freezer.backup(source / "a.txt")
    for path in ("a.txt", "./a.txt", str(source / "a.txt")):
        with freezer.open(backup.id, path) as reader:
            assert reader.read() == b"first\n"


def test_events_of_each_operation(freezer: Freezer, source: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    backup = freezer.backup(source, events=seen.append)
    freezer.verify(backup.id, read_data=True, events=seen.append)
    freezer.restore(backup.id, tmp_path / "out", events=seen.append)
    for operation in ("backup", "verify", "restore"):
        kinds = [event.kind for event in seen if event.operation == operation]
        assert (kinds[0], kinds[-1]) == ("start", "finish")
        assert kinds.count("start") == kinds.count("finish") == 1
    done = next(event for event in seen if event.kind == "finish" and event.operation == "backup")
    assert (done.files, done.data["id"], done.data["status"]) == (4, backup.id, "complete")


def test_forget(freezer: Freezer, source: Path) -> None:
    first, second = freezer.backup(source), freezer.backup(source)
    gone = freezer.forget([first.id[:16]])
    assert [each.id for each in gone] == [first.id]
    assert [each.id for each in freezer.backups()] == [second.id]
    with pytest.raises(BackupNotFound):
        freezer.forget(first.id)


def test_cancelling_commits_nothing(freezer: Freezer, source: Path) -> None:
    for number in range(2000):
        (source / f"f{number}").write_bytes(os.urandom(2000))
    token = CancelToken()
    with pytest.raises(Cancelled):
        freezer.backup(source, events=lambda event: token.cancel(), cancel=token)
    assert freezer.backups() == []
    assert freezer.backup(source).status == "complete"


def test_no_handle_is_left_open(source: Path, tmp_path: Path) -> None:
    def handles() -> int:
        return len(os.listdir("/proc/self/fd"))

    url = f"local:{tmp_path}/store"
    with Freezer(url, create=True, encryption=False) as freezer:
        freezer.backup(source)
    before, threads = handles(), threading.active_count()
    for _ in range(3):
        with Freezer(url) as freezer:
            freezer.backup(source)
            freezer.restore("latest", tmp_path / f"out{time.monotonic_ns()}")
    assert (handles(), threading.active_count()) == (before, threads)
