"""No global state: backups in several threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from freezer_sdk import Backup, Event, Freezer

T = TypeVar("T")


def together(function: Callable[[str], T], words: list[str]) -> dict[str, T]:
    """Runs a function in one thread for each word; a deadlock fails the test instead of stopping it for ever."""
    results: dict[str, T] = {}
    start = threading.Barrier(len(words))

    def run(word: str) -> None:
        start.wait(30)
        results[word] = function(word)

    threads = [threading.Thread(target=run, args=(word,), daemon=True) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(results) == set(words)
    return results


def make_tree(folder: Path, *, word: str, files: int = 200) -> dict[str, bytes]:
    content = {}
    for number in range(files):
        name = f"d{number % 7}/f{number}"
        content[name] = f"{word} {number}\n".encode() * (number * 5 + 1)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content[name])
    return content


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_two_trees_in_two_threads_with_two_repositories(tmp_path: Path) -> None:
    contents = {word: make_tree(tmp_path / word, word=word) for word in ("alpha", "beta")}

    def run(word: str) -> tuple[list[str], set[str]]:
        seen: list[Event] = []
        with Freezer(f"local:{tmp_path}/store-{word}", password=word, create=True, events=seen.append) as freezer:
            backup = freezer.backup(tmp_path / word, name=word)
            assert freezer.verify(read_data=True).ok
            freezer.restore(backup.id, tmp_path / f"out-{word}")
            names = [each.name for each in freezer.backups()]
        starts = {str(each.data["name"]) for each in seen if (each.kind, each.operation) == ("start", "backup")}
        return names, starts

    results = together(run, list(contents))
    for word, content in contents.items():
        assert results[word] == ([word], {word})
        assert read_tree(tmp_path / f"out-{word}") == content


def test_one_freezer_serves_several_threads(tmp_path: Path) -> None:
    contents = {word: make_tree(tmp_path / word, word=word, files=60) for word in ("a", "b", "c")}
    with Freezer(f"local:{tmp_path}/store", encryption=False, create=True) as freezer:

        def run(word: str) -> Backup:
            backup = freezer.backup(tmp_path / word, name=word)
            freezer.restore(backup.id, tmp_path / f"out-{word}")
            return backup

        backups = together(run, list(contents))
        assert {each.id for each in freezer.backups()} == {each.id for each in backups.values()}
        assert freezer.verify(read_data=True).ok
    for word, content in contents.items():
        assert read_tree(tmp_path / f"out-{word}") == content
