"""The real agent of the original (OpenStack Freezer), for tests of exchange: marker ``original``."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import servers

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True)
class OriginalAgent:
    """``freezer-agent`` of the original, logged in at its loopback Identity.

    Attributes:
        program: its path.
        environ: what it runs with.
        log: where it writes its log.
    """

    program: str
    environ: dict[str, str]
    log: Path

    def run(self, action: str, store: Path, *arguments: object, code: int | None = 0) -> str:
        """Runs it on a local store, from the folder of the log, and gives what it printed.

        Args:
            action: ``backup``, ``restore``, ``admin``.
            arguments: further options.
            code: expected exit code; ``None``: any.
        """
        command = [self.program, "--action", action, "--storage", "local", "--container", os.fspath(store)]
        words = [*command, "--log-file", os.fspath(self.log), *map(str, arguments)]
        done = subprocess.run(
            words, env=self.environ, cwd=self.log.parent, capture_output=True, text=True, timeout=120, check=False
        )
        if code is not None:
            said = f"{done.stdout}\n{done.stderr}\n{self.log.read_text() if self.log.exists() else ''}"
            assert done.returncode == code, f"{words} ended with {done.returncode}: {said[-4000:]}"
        return done.stdout

    def backup(self, store: Path, source: Path, *options: object, name: str = "b", host: str = "node1") -> str:
        """Backs a folder or file up."""
        series = ("--backup-name", name, "--hostname", host)
        return self.run("backup", store, "--path-to-backup", source, *series, "--nosync", *options)

    def restore(
        self, store: Path, target: Path, *options: object, name: str = "b", host: str = "node1", code: int | None = 0
    ) -> str:
        """Brings a series back."""
        series = ("--backup-name", name, "--hostname", host)
        return self.run("restore", store, "--restore-abs-path", target, *series, *options, code=code)


def original_agent(folder: Path) -> OriginalAgent:
    """The agent, with a log of its own; the test is skipped where it cannot be installed, but fails in CI.

    Args:
        folder: of the test.
    """
    env = servers.start("freezer_agent")
    program = env.pop("FREEZER_AGENT")
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    folder.mkdir(parents=True, exist_ok=True)
    return OriginalAgent(program, {**kept, **env, "PYTHONWARNINGS": "ignore"}, folder / "agent.log")
