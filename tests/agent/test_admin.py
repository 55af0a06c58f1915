"""Old backups are removed; what is needed, never."""

from __future__ import annotations

from pathlib import Path

from agent.program import Agent
from agent.store import Store, contents


def test_old_backups_are_removed_but_never_the_newest_or_what_it_needs(store: Store) -> None:
    for _ in range(2):
        store.backup()
    (only,) = [level for level in store.levels() if level == store.levels()[-1]]
    assert len(store.admin("--remove-older-than", "0")) == 1
    assert store.levels() == [only]
    assert store.admin("--remove-older-than", "0") == []
    for _ in range(2):
        store.backup("--incremental")
    assert len(store.levels()) == 3
    assert store.admin("--remove-older-than", "0") == []
    store.backup()
    assert len(store.admin("--remove-before-date", "2999-01-01T00:00:00")) == 3
    assert len(store.levels()) == 1


def test_removal_goes_with_a_backup(store: Store) -> None:
    first = store.backup()
    second = store.backup("--remove-older-than", "0")
    assert [level.rpartition("_")[2] for level in store.levels()] == [str(second["time_stamp"])]
    assert first["time_stamp"] != second["time_stamp"]
    store.backup("--remove-older-than", "1")
    assert len(store.levels()) == 2


def test_others_are_left_alone(store: Store) -> None:
    store.backup("--hostname", "node2")
    store.backup("-N", "other")
    for _ in range(2):
        store.backup()
    assert len(store.admin("--remove-older-than", "0")) == 1
    assert len(store.levels()) == 3


def test_a_dry_run_removes_nothing(store: Store) -> None:
    for _ in range(2):
        store.backup()
    before = contents(store.folder)
    assert len(store.admin("--dry-run", "--remove-older-than", "0")) == 1
    store.backup("--dry-run", "--remove-older-than", "0")
    assert contents(store.folder) == before


def test_every_storage_of_a_file(agent: Agent, tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "job.ini"
    lines = ["[default]", f"path_to_backup = {tree}", "backup_name = b"]
    for name in ("first", "second"):
        lines += [f"[storage:{name}]", "storage = local", f"container = {tmp_path / name}"]
    file.write_text("\n".join(lines))
    for _ in range(2):
        agent("--config", file)
    removal = ("--action", "admin", "--remove-older-than", "0", "--metadata-out", "-")
    removed = agent("--config", file, *removal).json["removed"]
    assert [each["container"] for each in removed] == [str(tmp_path / "first"), str(tmp_path / "second")]
    blocked = tmp_path / "blocked"
    blocked.touch()
    file.write_text("\n".join(lines).replace(str(tmp_path / "first"), str(blocked / "below")))
    assert agent("--config", file, *removal, code=3).json["removed"] == []
