"""The action exec: words as in a shell, but no shell; exit codes, pipes and time limits."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from agent.program import Agent

from freezer_cli.agent.execute import split

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        ("echo hi", [["echo", "hi"]]),
        ("echo 'a b' \"c d\" e\\ f", [["echo", "a b", "c d", "e f"]]),
        ("echo $(touch x) `id` ;#&", [["echo", "$(touch", "x)", "`id`", ";#&"]]),
        ("dump | gzip -c|cat", [["dump"], ["gzip", "-c"], ["cat"]]),
        ("echo 'a|b'", [["echo", "a|b"]]),
        ("echo ''", [["echo", ""]]),
    ],
)
def test_words(command: str, programs: list[list[str]]) -> None:
    assert split(command) == programs


def test_it_runs_without_a_shell_and_without_a_login(agent: Agent, tmp_path: Path) -> None:
    mark = tmp_path / "a $(touch b) 'c'"
    result = agent.process("--action", "exec", "--command", f'touch "{mark}"')
    assert os.listdir(tmp_path / "home") == [".freezer"]
    assert mark.exists()
    assert (result.out, result.err) == ("", "")


def test_the_exit_code_is_that_of_the_program(agent: Agent) -> None:
    assert agent("--action", "exec", "--command", f"{PYTHON} -c 'raise SystemExit(42)'", code=42).err == ""
    agent("--action", "exec", "--command", f"{PYTHON} -c 'import os; os.kill(os.getpid(), 9)'", code=128 + 9)
    agent("--action", "exec", "--command", "true")


def test_the_output_is_shown_unless_quiet(agent: Agent) -> None:
    command = ("--action", "exec", "--command", "echo hello there")
    assert agent.process(*command).out == "hello there\n"
    assert agent.process(*command, "--quiet").out == ""
    result = agent.process(*command, "--metadata-out", "-")
    assert result.json == {"action": "exec", "exit_code": 0}
    assert result.err == "hello there\n"


def test_a_pipe_ends_with_the_last_program(agent: Agent) -> None:
    command = f"{PYTHON} -c 'print(1); raise SystemExit(3)' | cat"
    result = agent.process("--action", "exec", "--command", command)
    assert result.out == "1\n"
    assert "exit status 3" in result.err
    agent.process("--action", "exec", "--command", "true | false", code=1)
    assert agent.process("--action", "exec", "--command", "yes | head -n 1").out == "y\n"


def test_time_is_limited_and_nothing_is_left_behind(agent: Agent, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = (
        f"import os, subprocess, sys; open({str(pid)!r}, 'w').write(str(os.getpid())); subprocess.run(['sleep', '600'])"
    )
    file = tmp_path / "script.py"
    file.write_text(script)
    result = agent("--action", "exec", "--command", f"{PYTHON} {file}", "--timeout", "1", code=1)
    assert "1 seconds" in result.err
    group = int(pid.read_text())
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("the program was left running")


@pytest.mark.parametrize("command", ["", "   ", "|", "echo |", "echo 'a"])
def test_nothing_to_run(agent: Agent, command: str) -> None:
    agent("--action", "exec", "--command", command, code=2)


def test_a_program_that_is_not_there(agent: Agent) -> None:
    assert "no-such-program" in agent("--action", "exec", "--command", "no-such-program", code=1).err
    agent("--action", "exec", code=2)


def test_a_dry_run_runs_nothing(agent: Agent, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert str(mark) in agent("--action", "exec", "--command", f"touch {mark}", "--dry-run").out
    assert not mark.exists()
