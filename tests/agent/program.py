"""``freezer-agent`` and ``freezerc`` as cron runs them, in an environment that holds nothing of this machine's."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from freezer_cli.agent.main import freezerc, main

BIN = Path(sys.executable).parent


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass
class Agent:
    """The programs, with an environment; they run inside this process unless told otherwise."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "COLUMNS": "200",
            "PYTHONWARNINGS": "error",
            **self.env,
            **(more or {}),
        }

    def __call__(
        self,
        *arguments: str | Path,
        program: str = "freezer-agent",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        code: int = 0,
    ) -> Result:
        out, err = io.StringIO(), io.StringIO()
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        entry = {"freezer-agent": main, "freezerc": freezerc}[program]
        with (
            mock.patch.dict(os.environ, self.environment(env), clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            contextlib.chdir(cwd or self.home),
        ):
            try:
                exit_code = entry([os.fspath(argument) for argument in arguments])
            finally:
                for handler in set(root.handlers) - set(handlers):
                    handler.close()
                root.handlers[:] = handlers
                root.setLevel(level)
        return self._checked(Result(exit_code, out.getvalue(), err.getvalue()), code)

    def line(self, line: str, *, code: int = 0, **options: Any) -> Result:
        """A command line as it stands in a crontab, with its program."""
        program, *arguments = line.split()
        return self(*arguments, program=program, code=code, **options)

    def process(
        self,
        *arguments: str | Path,
        program: str = "freezer-agent",
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        code: int = 0,
    ) -> Result:
        """As calling, in a process of its own; ``before``: what starts the program."""
        done = subprocess.run(
            [*before, BIN / program, *arguments],
            env=self.environment(env),
            cwd=cwd or self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return self._checked(Result(done.returncode, done.stdout, done.stderr), code)

    @staticmethod
    def _checked(result: Result, code: int) -> Result:
        assert result.code == code, f"exit {result.code}\n{result.out}\n{result.err}"
        assert "Traceback" not in result.err
        return result
