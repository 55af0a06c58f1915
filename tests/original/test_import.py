"""Stores with levels become backups of the dedup engine: all of them, as they were, in any number of runs."""

from __future__ import annotations

import json
import os
import resource
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli.program import Cli
from original.stores import EMPTY, NAMES, check, needs_stores, open_case
from original.trees import change, manifest, odd_tree

from freezer_sdk import CancelToken, Event, Freezer
from freezer_sdk.errors import Cancelled, ConfigurationError, IntegrityError, WrongPassword
from freezer_sdk.model import CopyOutcome, EntryType

RESTORABLE = [name for name in NAMES if name not in EMPTY]


@pytest.fixture
def target(tmp_path: Path) -> Freezer:
    return Freezer("memory:", create=True, encryption=False)


@dataclass
class Chain:
    """A store with a chain of a tree that changes, and what that was at each level, by the backup's id."""

    url: str
    password: str | None
    states: dict[str, object] = field(default_factory=dict)

    def open(self) -> Freezer:
        return Freezer(self.url, password=self.password)

    def check(self, target: Freezer, folder: Path) -> None:
        """Whether each backup in a repository restores to the state of its level."""
        for identifier, state in self.states.items():
            target.restore(identifier, folder / identifier)
            assert manifest(folder / identifier) == state


def chain(folder: Path, *, levels: int = 4, engine: str = "tar", password: str | None = None) -> Chain:
    source = folder / "source" if (folder / "source").exists() else odd_tree(folder / "source")
    made = Chain(f"local:{folder / 'store'}", password)
    options = {"strategy": "incremental", "max_level": 5}
    with Freezer(
        made.url, engine=engine, create=True, password=password, encryption=bool(password), engine_options=options
    ) as store:
        for step in range(levels):
            backup = store.backup(source, name="nightly", host="old host", tags=["x"])
            assert (backup.level, str(backup.status)) == (step, "complete")
            made.states[backup.id] = manifest(source)
            change(source, step)
    return made


@needs_stores
@pytest.mark.parametrize("name", RESTORABLE)
def test_stores_of_the_original(name: str, tmp_path: Path, target: Freezer) -> None:
    case = open_case(name, tmp_path)
    password = None if case.passfile is None else case.passfile.read_text().rstrip("\n")
    with Freezer(f"local:{case.store}", password=password) as source:
        results = target.import_backups(source)
    assert [result.outcome for result in results] == [CopyOutcome.COPIED] * len(case.runs)
    for run, backup in zip(case.runs, target.backups(), strict=True):
        assert backup.time == datetime.fromtimestamp(run.time, UTC)
        assert f"{backup.host}_{backup.name}" == case.document["hostname_backup_name"]
        lost = case.lost(run) - {"sym_dir"}
        assert (str(backup.status) == "partial") == bool(lost)
        assert bool([problem for problem in backup.problems if problem.fatal]) == bool(lost)
        target.restore(backup.id, tmp_path / str(run.time), force=True)
        for path in lost:
            (tmp_path / str(run.time) / path).unlink(missing_ok=True)
        check(case, run, tmp_path / str(run.time))
    assert target.find_backup(host="node1").time == max(backup.time for backup in target.backups())
    assert target.verify(read_data=True).ok


@pytest.mark.parametrize(("engine", "password"), [("tar", None), ("tar", "secret"), ("rsync", None)])
def test_every_level_is_a_backup_as_it_was(engine: str, password: str | None, tmp_path: Path, target: Freezer) -> None:
    made = chain(tmp_path, engine=engine, password=password)
    with made.open() as source:
        results = target.import_backups(source)
        originals = {backup.id: backup for backup in source.backups()}
    assert [result.outcome for result in results] == [CopyOutcome.COPIED] * 4
    for backup in target.backups():
        original = originals[backup.id]
        same = ("time", "host", "name", "paths", "tags", "status", "mode", "machine_id")
        assert [getattr(backup, key) for key in same] == [getattr(original, key) for key in same]
        assert backup.facts["imported"]["level"] == original.level
    made.check(target, tmp_path)


def test_only_what_a_level_holds_is_read(tmp_path: Path, target: Freezer) -> None:
    with chain(tmp_path).open() as source:
        results = target.import_backups(source)
    unmodified = [result.backup.stats.unmodified_files for result in results]
    assert unmodified[0] == 0
    assert min(unmodified[1:]) >= 14
    assert results[1].read_bytes < results[0].read_bytes / 4


def test_a_run_that_was_cancelled_goes_on(tmp_path: Path, target: Freezer) -> None:
    made, token = chain(tmp_path), CancelToken()
    finished: list[Event] = []

    def listen(event: Event) -> None:
        if event.kind == "finish":
            finished.append(event)
            if len(finished) == 2:
                token.cancel()

    with made.open() as source:
        with pytest.raises(Cancelled):
            target.import_backups(source, events=listen, cancel=token)
        assert len(target.backups()) == 2
        waiting = target.import_backups(source, dry_run=True)
        assert [str(result.outcome) for result in waiting] == ["present"] * 2 + ["missing"] * 2
        results = target.import_backups(source)
    assert [str(result.outcome) for result in results] == ["present"] * 2 + ["copied"] * 2
    assert results[2].backup.stats.unmodified_files >= 14
    made.check(target, tmp_path)


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    made, program = chain(tmp_path), Cli(tmp_path)
    url = f"local:{tmp_path / 'repository'}"
    program.inside("repository", "init", "--no-encryption", "--storage", url)
    command = ("backup", "import", "--from", f"local:{tmp_path / 'store'}", "--engine", "tar", "--into", url)
    process = program.popen(*command, "--json-events", stdout=-1)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == "finish":
            process.kill()
            break
    process.stdout.close()
    process.wait()
    done = program.inside(*command, "-f", "json").json
    assert done["copied"] + done["present"] == 4
    assert 1 <= done["present"] < 4
    with Freezer(url) as freezer:
        assert freezer.verify(read_data=True).ok
        made.check(freezer, tmp_path)


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    program, old = Cli(tmp_path), chain(tmp_path, levels=2).url
    url = f"local:{tmp_path / 'repository'}"
    program.inside("repository", "init", "--no-encryption", "--storage", url)
    assert "would import" in program.inside("backup", "import", "--from", old, "--into", url, "--dry-run").out
    assert program.inside("backup", "import", "--from", old, "--into", url).out.count("imported backup") == 2
    assert (
        "2 backups of these were here already" in program.inside("backup", "import", "--from", old, "--into", url).out
    )
    wrong = program.inside("backup", "import", "--from", old, "--engine", "rsync", "--into", url)
    assert "has no backups of rsync" in wrong.err


def test_what_was_forgotten_stays_so(tmp_path: Path, target: Freezer) -> None:
    with chain(tmp_path, levels=2).open() as source:
        first = target.import_backups(source)[0].backup
        target.forget(first.id)
        assert [str(result.outcome) for result in target.import_backups(source)] == ["forgotten", "present"]


def test_lost_parts_are_recorded(tmp_path: Path, target: Freezer) -> None:
    made = chain(tmp_path, levels=3)
    (stream,) = (tmp_path / "store").glob("data/tar/*/*/1_*/data")
    content = stream.read_bytes()
    stream.write_bytes(content[: len(content) // 2] + bytes(64) + content[len(content) // 2 + 64 :])
    with made.open() as source:
        results = target.import_backups(source)
    assert [str(result.backup.status) for result in results] == ["complete", "partial", "partial"]
    assert any("1_" in problem.path for problem in results[1].backup.problems)
    whole = next(iter(made.states.items()))
    target.restore(whole[0], tmp_path / "out")
    assert manifest(tmp_path / "out") == whole[1]


def test_a_wrong_password_imports_nothing(tmp_path: Path, target: Freezer) -> None:
    made = chain(tmp_path, levels=1, password="right")
    with pytest.raises(WrongPassword), Freezer(made.url, password="wrong") as source:
        target.import_backups(source)
    assert target.backups() == []


def test_owners_keep_the_names_that_the_source_recorded(tmp_path: Path, target: Freezer) -> None:
    with chain(tmp_path, levels=1).open() as source:
        target.import_backups(source)
        backup = source.backups()[0].id
        known = {entry.path: (entry.uid, entry.user) for entry in source.entries(backup)}
    found = {entry.path: (entry.uid, entry.user) for entry in target.entries(backup)}
    assert found == known


def test_nothing_is_left_in_the_staging_folder(tmp_path: Path, target: Freezer) -> None:
    tree, staging = odd_tree(tmp_path / "source"), tmp_path / "staging"
    staging.mkdir()
    with (tree / "large").open("wb") as file:
        file.write(os.urandom(3 << 20))
        file.truncate(9 << 20)
    made = chain(tmp_path, levels=2)
    with made.open() as source:
        target.import_backups(source, staging=staging)
    assert list(staging.iterdir()) == []
    made.check(target, tmp_path)
    backup = target.backups()[-1]
    sparse = next(entry for entry in target.entries(backup.id) if entry.path.endswith(b"/large"))
    assert (sparse.type, sparse.size) == (EntryType.FILE, 9 << 20)


def test_backups_of_the_same_engine_are_copied_instead(target: Freezer) -> None:
    with Freezer("memory:", create=True, encryption=False) as other, pytest.raises(ConfigurationError) as caught:
        target.import_backups(other)
    assert caught.value.hint == "copy them"


def test_a_backup_that_differs_from_its_source_is_told(tmp_path: Path, target: Freezer) -> None:
    store, other = tmp_path / "store", tmp_path / "other"
    other.mkdir()
    made = chain(tmp_path, levels=1)
    shutil.rmtree(store / "freezer-sdk")  # as the original leaves it: nothing says what the stream must be
    with made.open() as source:
        (first,) = target.import_backups(source, verify=False)
        assert first.outcome is CopyOutcome.COPIED
        chain(other, levels=1)
        (stream,) = (other / "store").glob("data/tar/*/*/*/data")
        shutil.copy(stream, next(store.glob("data/tar/*/*/*/data")))
    with made.open() as source:
        (again,) = target.import_backups(source)
    assert again.outcome is CopyOutcome.FAILED
    assert isinstance(again.error, IntegrityError)


def test_parts_of_many_large_files_need_few_descriptors(tmp_path: Path, target: Freezer) -> None:
    """In rsync's format the parts of a file that changed lie in several levels."""
    tree = tmp_path / "source"
    tree.mkdir()
    contents = {f"f{number:03}": os.urandom(1 << 20) + b"x" * 10 for number in range(60)}
    options = {"strategy": "incremental", "max_level": 3}
    with Freezer(
        f"local:{tmp_path / 'store'}", engine="rsync", create=True, encryption=False, engine_options=options
    ) as source:
        for level in range(2):
            for name, content in contents.items():
                (tree / name).write_bytes(content if not level else b"y" + content[1:])
            source.backup(tree, name="n")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 24, before[1]))
        try:
            results = target.import_backups(source)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [str(result.backup.status) for result in results] == ["complete"] * 2
    target.restore(results[1].backup.id, tmp_path / "out")
    assert manifest(tmp_path / "out") == manifest(tree)
