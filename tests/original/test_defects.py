"""What was wrong with the original (defects seen when its agents were run), through the same command lines."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from agent.program import BIN, Agent
from agent.store import Store, contents
from original_agent import OriginalAgent

from freezer_sdk import Freezer

ODD = ("a b.txt", "quote'\"s", "new\nline", "$(touch PWNED)", "`touch PWNED`", "; touch PWNED #", "-rf", "*", "ü\\n")


@pytest.fixture
def ours(tmp_path: Path) -> Agent:
    home = tmp_path / "home"
    home.mkdir()
    return Agent(home)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("alpha\n")
    (root / "sub" / "b.log").write_text("beta\n" * 1000)
    return root


@pytest.fixture
def store(ours: Agent, tmp_path: Path, tree: Path) -> Store:
    return Store(ours, tmp_path / "store", tree)


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("PWNED"))
    assert not Path("PWNED").exists()


def process(*arguments: object, env: dict[str, str], **options: object) -> subprocess.Popen[bytes]:
    words = [str(BIN / "freezer-agent"), *map(os.fspath, arguments)]  # type: ignore[call-overload]
    return subprocess.Popen(words, env=env, stdout=-1, stderr=-1, **options)  # type: ignore[call-overload,no-any-return]


# 1: data lost in silence


@pytest.mark.original
def test_a_file_with_a_blank_in_its_name_is_stored(agent: OriginalAgent, store: Store, tmp_path: Path) -> None:
    store.source = tmp_path / "a b.txt"
    store.source.write_text("content\n")
    store.backup()
    store.restore(tmp_path / "here")
    agent.restore(store.folder, tmp_path / "there")
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert (tmp_path / "there" / "a b.txt").read_text() == "content\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody who may not read")
def test_an_unreadable_file_makes_the_backup_partial(store: Store) -> None:
    (store.source / "secret").write_text("x")
    (store.source / "secret").chmod(0)
    everything = "freezer_cli.agent.main:main"
    module, _, function = everything.partition(":")
    program = f"import sys; from {module} import {function}; sys.exit({function}())"
    words = ["--path-to-backup", store.source, *store.place]
    # without the capability to read everything, root is somebody like others
    run = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", BIN / "python", "-c", program]
    done = subprocess.run([*run, *words], env=store.agent.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "secret" in done.stderr
    with Freezer(f"local:{store.folder}") as freezer:
        (backup,) = freezer.backups()
        assert str(backup.status) == "partial"
        assert any(problem.path.endswith("/secret") for problem in backup.problems)


def test_every_run_of_a_repeated_level_can_be_restored(store: Store, tmp_path: Path) -> None:
    states = {}
    for number in range(5):
        (store.source / "a.txt").write_text(f"run {number}\n" * (number + 1))
        (store.source / f"only {number}").write_text("x")
        (store.source / f"only {number - 1}").unlink(missing_ok=True)
        made = store.backup("--incremental", "--always-level", "2")
        states[number] = (made["curr_backup_level"], contents(store.source))
    assert [level for level, _ in states.values()] == [0, 1, 2, 2, 2]
    with Freezer(f"local:{store.folder}") as freezer:
        backups = freezer.backups()
        for backup, (level, state) in zip(backups, states.values(), strict=True):
            assert backup.level == level
            freezer.restore(backup.id, tmp_path / backup.id)
            assert contents(tmp_path / backup.id) == state
    store.restore(tmp_path / "latest")
    assert contents(tmp_path / "latest") == states[4][1]


# 2: retention


def test_young_increments_keep_their_chain_and_the_newest_is_never_removed(store: Store, tmp_path: Path) -> None:
    for _ in range(3):
        store.backup("--incremental", "--max-level", "1")
    before = store.levels()
    assert len(before) == 3
    time.sleep(max(0.0, int(before[-1].rpartition("_")[2]) + 1 - time.time()))  # runs of one second get later ones
    with Freezer(f"local:{store.folder}") as freezer:
        second = freezer.backups()[1].time
    store.admin("--remove-before-date", second.isoformat())
    assert store.levels() == before  # level 0 is older, but level 1 needs it
    store.admin("--remove-older-than", "0")
    assert store.levels() == before[-1:]
    store.backup("--remove-older-than", "0")
    assert len(store.levels()) == 1
    store.restore(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(store.source)


# 3: integrity


def test_a_flipped_byte_is_told_and_nothing_wrong_is_restored(store: Store, tmp_path: Path) -> None:
    (store.source / "random").write_bytes(os.urandom(300_000))
    store.backup()
    (stream,) = store.folder.glob("data/tar/*/*/*/data")
    content = bytearray(stream.read_bytes())
    content[len(content) // 2] ^= 0x10
    stream.write_bytes(content)
    said = store.restore(tmp_path / "out", code=3)
    assert "random" in said or "data" in said
    original = contents(store.source)
    assert {name: digest for name, digest in contents(tmp_path / "out").items() if original[name] != digest} == {}
    with Freezer(f"local:{store.folder}") as freezer:
        assert not freezer.verify(read_data=True).ok


def test_a_wrong_password_writes_nothing(store: Store, tmp_path: Path) -> None:
    for name, text in (("right", "correct horse"), ("wrong", "battery staple")):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    store.backup("--encrypt-pass-file", tmp_path / "right")
    store.restore(tmp_path / "out", "--encrypt-pass-file", tmp_path / "wrong", code=12)
    assert not list((tmp_path / "out").glob("*"))
    store.restore(tmp_path / "out", "--encrypt-pass-file", tmp_path / "right")
    assert contents(tmp_path / "out") == contents(store.source)


# 4: injection


@pytest.mark.parametrize("name", ODD)
def test_names_and_patterns_reach_no_shell(store: Store, tmp_path: Path, name: str) -> None:
    store.source = store.source / name
    store.source.mkdir()
    for other in ODD:
        (store.source / other).write_text(other)
    store.backup("--exclude", "$(touch PWNED)")
    store.restore(tmp_path / "out")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {other for other in ODD if other != "$(touch PWNED)"}


# 6: clocks


def test_dates_are_local_and_the_message_says_which_instant_was_taken(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.backup()
    with Freezer(f"local:{store.folder}") as freezer:
        instant = freezer.backups()[0].time
    store.agent.env["TZ"] = "America/New_York"
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "America/New_York")
        time.tzset()
        moment = instant.astimezone().strftime("%Y-%m-%dT%H:%M:%S")
        said = store.restore(tmp_path / "out", "--restore-from-date", moment)
        assert contents(tmp_path / "out") == contents(store.source)
        assert f"{moment.replace('T', ' ')}-0" in said
        store.restore(tmp_path / "again", "--restore-from-date", instant.isoformat(timespec="seconds"))
        early = (instant - timedelta(seconds=1)).isoformat()
        assert "no backup" in store.restore(tmp_path / "none", "--restore-from-date", early, code=1)
    time.tzset()


def test_runs_of_one_second_do_not_collide(store: Store) -> None:
    for _ in range(4):
        store.backup()
    times = [int(level.rpartition("_")[2]) for level in store.levels()]
    assert len(set(times)) == 4


# 7: two agents at once, and agents that die


def test_two_agents_at_once_leave_whole_chains(store: Store, tmp_path: Path) -> None:
    store.backup("--incremental", "--max-level", "9")
    (store.source / "large").write_bytes(os.urandom(8 << 20))
    words = ("--path-to-backup", store.source, *store.place, "--incremental", "--max-level", "9")
    both = [process(*words, env=store.agent.environment()) for _ in range(2)]
    codes = [each.wait(120) for each in both]
    for each in both:
        each.communicate()
    assert set(codes) <= {0, 11}
    assert 0 in codes
    with Freezer(f"local:{store.folder}") as freezer:
        levels = [backup.level for backup in freezer.backups()]
        assert levels == list(range(1 + codes.count(0)))
        assert freezer.verify(read_data=True).ok
    store.restore(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(store.source)


def test_a_killed_agent_leaves_nothing_that_counts(store: Store, tmp_path: Path) -> None:
    store.backup("--incremental", "--max-level", "9")
    (store.source / "large").write_bytes(os.urandom(48 << 20))
    words = ("--path-to-backup", store.source, *store.place, "--incremental", "--max-level", "9")
    running = process(*words, env=store.agent.environment())
    while running.poll() is None:
        if any(path.stat().st_size > 1 << 20 for path in store.folder.rglob("*") if path.is_file()):
            running.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    running.communicate()
    assert len(store.levels()) == 1
    assert store.backup("--incremental", "--max-level", "9")["curr_backup_level"] == 1
    store.restore(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(store.source)
    with Freezer(f"local:{store.folder}") as freezer:
        assert freezer.verify(read_data=True).ok


# 9: reports


def test_the_report_is_true_and_lies_where_it_was_asked_for(store: Store, ours: Agent) -> None:
    words = ("--path-to-backup", store.source, *store.place, "--incremental", "--metadata-out", "report.json")
    for level in range(2):
        ours(*words, cwd=ours.home)
        text = (ours.home / "report.json").read_text()
        assert f'"curr_backup_level": {level}' in text
    assert not list(store.source.rglob("report.json"))
