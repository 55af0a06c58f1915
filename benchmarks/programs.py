"""The tools that are compared: how each makes a repository, backs up and restores, always with encryption."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from measure import Cost, clean_environment, run, stored_bytes, warm

PASSWORD = "benchmark"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One tool.

    Attributes:
        program: what to run; the first word of every command.
        env: environment variables; ``{repo}`` and ``{home}`` are filled in, here and in the commands.
        init, backup, restore: arguments; ``{number}`` counts the backups, ``{out}`` is where the restore goes.
        inside: restore runs in the directory that it restores into.
    """

    name: str
    program: str
    version: list[str]
    init: list[str]
    backup: list[str]
    restore: list[str]
    env: dict[str, str] = field(default_factory=dict)
    inside: bool = False


def restic(program: str) -> Tool:
    """Restic with its defaults: format 2, compression ``auto``."""
    return Tool(
        name="restic",
        program=program,
        version=["version"],
        init=["-q", "init", "--repository-version", "2"],
        backup=["-q", "backup", "."],
        restore=["-q", "restore", "latest", "--target", "{out}"],
        env={"RESTIC_REPOSITORY": "{repo}", "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": "{home}/cache/restic"},
    )


def borg(program: str) -> Tool:
    """Borg with its defaults (lz4) and its fastest authentication on machines without SHA extensions."""
    return Tool(
        name="borg",
        program=program,
        version=["--version"],
        init=["init", "-e", "repokey-blake2", "{repo}"],
        backup=["create", "{repo}::bench{number}", "."],
        restore=["extract", "{repo}::bench{number}"],
        env={"BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": "{home}"},
        inside=True,
    )


def freezer(program: str) -> Tool:
    """Freezer SDK with its defaults."""
    return Tool(
        name="freezer",
        program=program,
        version=["--version"],
        init=["repository", "init"],
        backup=["backup", "create", ".", "--name", "bench", "--quiet"],
        restore=["backup", "restore", "latest", "{out}", "--name", "bench", "--quiet"],
        env={"FREEZER_STORAGE": "local:{repo}", "FREEZER_PASSWORD": PASSWORD},
    )


TOOLS: dict[str, Callable[[str], Tool]] = {"restic": restic, "borg": borg, "freezer": freezer}


class Bench:
    """A tool at work on one live copy of the data."""

    def __init__(self, tool: Tool, *, data: Path, work: Path, log: Path) -> None:
        self.tool, self.data, self.home, self.log = tool, data, work / tool.name, log
        self.repo, self.out = self.home / "repo", self.home / "out"
        self.number = 0

    def _run(self, arguments: list[str], cwd: Path) -> Cost:
        names = {"repo": str(self.repo), "home": str(self.home), "out": str(self.out), "number": str(self.number)}
        env = {name: value.format(**names) for name, value in self.tool.env.items()}
        command = [self.tool.program, *(word.format(**names) for word in arguments)]
        return run(command, cwd=cwd, env=clean_environment(self.home) | env, log=self.log)

    def fresh(self) -> None:
        """Starts over with a new repository and no cache.

        Raises:
            SystemExit: the tool could not make one.
        """
        self.clean()
        self.home.mkdir(parents=True)
        self.number = 0
        if self._run(self.tool.init, self.data).code:
            raise SystemExit(f"{self.tool.name}: no repository could be made; see {self.log}")

    def backup(self) -> tuple[Cost, int, int]:
        """Backs up; the cost, the size of the repository, and how much it grew."""
        warm(self.data)
        before = stored_bytes(self.repo)
        self.number += 1
        cost = self._run(self.tool.backup, self.data)
        after = stored_bytes(self.repo)
        return cost, after, after - before

    def restore(self) -> Cost:
        """Restores the newest backup into ``out``, which is empty before."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        warm(self.repo)
        return self._run(self.tool.restore, self.out if self.tool.inside else self.data)

    def version(self) -> str:
        """What the tool says about itself, in one line."""
        command = [self.tool.program, *self.tool.version]
        done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        return done.stdout.strip().splitlines()[0]

    def clean(self) -> None:
        """Removes the repository and everything else that the tool made."""
        shutil.rmtree(self.home, ignore_errors=True)
