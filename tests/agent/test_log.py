"""Messages, the log, and what is in neither."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from agent.program import Agent

from freezer_cli.agent.outcome import table

EXEC = ("--action", "exec", "--command", "true")


def test_the_log_lies_where_it_was_asked_for(agent: Agent, tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "agent.log"
    agent(*EXEC, "--log-file", file)
    first = file.read_text()
    assert "action exec" in first
    agent(*EXEC, "--log-file", "agent.log", "--log-dir", file.parent)
    assert file.read_text().startswith(first)
    assert file.read_text() != first


def test_the_log_of_a_user_lies_in_the_home_directory(agent: Agent) -> None:
    agent(*EXEC)
    assert "action exec" in (agent.home / ".freezer" / "freezer.log").read_text()


def test_the_format_of_its_dates(agent: Agent, tmp_path: Path) -> None:
    file = tmp_path / "log"
    agent(*EXEC, "--log-file", file, "--log-date-format", "<%Y>")
    assert all(re.match(r"<\d{4}>", line) for line in file.read_text().splitlines())


def test_a_log_that_cannot_be_written(agent: Agent, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert "log" in agent(*EXEC, "--log-file", blocked / "agent.log", code=2).err
    assert "log" in agent(*EXEC, "--log-file", tmp_path, code=2).err


def test_syslog_needs_a_facility_that_is_there(agent: Agent) -> None:
    assert "no facility" in agent(*EXEC, "--use-syslog", "--syslog-log-facility", "nothing", code=2).err


def test_quiet_keeps_warnings_back(agent: Agent) -> None:
    assert "warning" in agent(*EXEC, "-L").err
    assert agent(*EXEC, "-L", "-q").err == ""


def test_priority_is_raised_or_told_about(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("os.nice", asked.append)
    monkeypatch.setattr("subprocess.run", lambda arguments, **_rest: asked.append(len(arguments)))
    agent("--action", "info", "--storage", "local", "-C", agent.home / "none", "--max-priority", code=10)
    assert asked == [-20, 5]


def test_passwords_are_told_of_but_not_told(agent: Agent, tmp_path: Path) -> None:
    secrets = {"--ssh-password": "hunter2", "--ftp-password": "hunter3", "--secret-key": "hunter4"}
    arguments = [word for pair in secrets.items() for word in pair]
    log = tmp_path / "log"
    place = ("--storage", "local", "-C", tmp_path / "none", "--log-file", log)
    result = agent("--action", "info", *place, *arguments, code=10)
    assert result.err.count("others can read command lines") == len(secrets)
    assert "hunter" not in result.out + result.err + log.read_text()


def test_tables_cannot_disturb_a_terminal() -> None:
    lines = table(("Name", "Value"), [("a", "\x1b[31mred\n"), ("bcd", "")])
    assert lines == [
        "+------+---------------+",
        "| Name | Value         |",
        "+------+---------------+",
        r"| a    | \x1b[31mred\n |",
        "| bcd  |               |",
        "+------+---------------+",
    ]
