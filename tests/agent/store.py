"""A store of the tests, and what is in folders."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from agent.program import Agent


def contents(folder: Path) -> dict[str, str]:
    """Everything below a folder: a file by its digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        else:
            found[name] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Store:
    """A local container, and the options that name it."""

    def __init__(self, agent: Agent, folder: Path, source: Path) -> None:
        self.agent, self.folder, self.source = agent, folder, source
        self.place = ("--storage", "local", "--container", folder, "--backup-name", "b", "--hostname", "node1")

    def backup(self, *more: str | Path, code: int = 0) -> dict[str, object]:
        arguments = ("--path-to-backup", self.source, *self.place, "--metadata-out", "-", *more)
        return self.agent(*arguments, code=code).json

    def restore(self, target: Path, *more: str | Path, code: int = 0) -> str:
        arguments = ("--action", "restore", "--restore-abs-path", target, *self.place, *more)
        result = self.agent(*arguments, code=code)
        return result.out + result.err

    def admin(self, *more: str | Path, code: int = 0) -> list[dict[str, object]]:
        removed = self.agent("--action", "admin", *self.place, "--metadata-out", "-", *more, code=code).json["removed"]
        assert isinstance(removed, list)
        return removed

    def levels(self) -> list[str]:
        return sorted(
            str(path.parent.relative_to(self.folder)) for path in self.folder.glob("metadata/*/*/*/*/metadata")
        )
