"""The program under test, as a user's shell would, in an environment that holds nothing of this machine's."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

from freezer_cli.main import main

PROGRAM = str(Path(sys.executable).parent / "freezer")
PASSWORD = "correct horse battery staple"


class _Captured(io.TextIOWrapper):
    """A standard stream that keeps what is written."""

    def __init__(self) -> None:
        self.content = io.BytesIO()
        super().__init__(self.content, "utf-8", write_through=True)


@dataclass
class Result:
    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Cli:
    """The program, with an environment."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "COLUMNS": "200",
            "PYTHONWARNINGS": "error",
            **self.env,
            **(more or {}),
        }

    def __call__(
        self,
        *arguments: str | bytes | Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        code: int | None = 0,
        cwd: Path | None = None,
    ) -> Result:
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=self.environment(env),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd=cwd or self.home,
            timeout=120,
            check=False,
        )
        result = Result(done.returncode, done.stdout, done.stderr.decode())
        if code is not None:
            assert result.code == code, f"exit {result.code}\n{result.out}\n{result.err}"
            assert "Traceback" not in result.err
        return result

    def inside(
        self, *arguments: str | bytes | Path, env: Mapping[str, str] | None = None, code: int | None = 0
    ) -> Result:
        """The same as calling, in this process: for tests of many similar command lines."""
        out, err = _Captured(), _Captured()
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        with (
            mock.patch.dict(os.environ, self.environment(env), clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            contextlib.chdir(self.home),
        ):
            try:
                exit_code = main([os.fsdecode(argument) for argument in arguments])
            finally:
                root.handlers[:] = handlers
                root.setLevel(level)
                for number, handler in signals.items():
                    signal.signal(number, handler)
        result = Result(exit_code, out.content.getvalue(), err.content.getvalue().decode())
        if code is not None:
            assert result.code == code, f"exit {result.code}\n{result.out}\n{result.err}"
        return result

    def popen(self, *arguments: str | bytes | Path, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([PROGRAM, *arguments], env=self.environment(), cwd=self.home, **options)

    def in_terminal(self, *arguments: str | bytes | Path, answers: Sequence[str] = ()) -> Result:
        """Runs with a terminal on all three streams; each question for a password gets the next answer."""
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(self.home)
            os.execve(PROGRAM, [PROGRAM, *map(os.fspath, arguments)], self.environment())
        written, waiting = b"", list(answers)
        with os.fdopen(terminal, "r+b", buffering=0) as stream:
            while piece := _read(stream):
                written += piece
                if written.endswith((b"password: ", b"more: ", b"no: ")):
                    assert waiting, f"asked for something unexpected: {written.decode()}"
                    stream.write(waiting.pop(0).encode() + b"\n")
        _, status = os.waitpid(process, 0)
        return Result(os.waitstatus_to_exitcode(status), written, "")


def _read(stream: BinaryIO) -> bytes:
    try:
        return stream.read(65536)
    except OSError:  # the other end of a terminal is closed
        return b""
