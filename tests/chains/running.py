"""What the tests of backup runs with levels have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freezer_sdk import Backup, Freezer
from freezer_sdk.storages.base import Storage

PASSWORD = "correct horse"
INTEROP = Path(__file__).parents[3] / "shared" / "interop"


def opened(storage: Storage, *, password: str | None = None, **options: Any) -> Freezer:
    return Freezer(
        storage,
        password=password,
        create=True,
        engine="tar",
        encryption=password is not None,
        engine_options={"strategy": "incremental", **options},
    )


def content(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def change(tree: Path, number: int) -> None:
    (tree / f"new{number}").write_bytes(b"%d" % number * 1000)
    (tree / "first").write_bytes(b"changed %d\n" % number)
    old = tree / f"new{number - 2}"
    if old.exists():
        old.unlink()


def runs(freezer: Freezer, tree: Path, count: int) -> list[tuple[Backup, dict[str, bytes]]]:
    made = []
    for number in range(count):
        change(tree, number)
        made.append((freezer.backup(tree, name="t"), content(tree)))
    return made


def check(freezer: Freezer, made: list[tuple[Backup, dict[str, bytes]]], out: Path) -> None:
    listed = {backup.id: backup for backup in freezer.backups()}
    for backup, expected in made:
        assert listed[backup.id] == backup
        target = out / backup.id
        assert freezer.restore(backup.id, target).status == "complete"
        assert content(target) == expected
    result = freezer.verify(read_data=True)
    assert result.ok, result.problems
