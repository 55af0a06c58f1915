"""What the documents say is there, and works as they say."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
from contextlib import redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from freezer_cli.main import main
from freezer_sdk.plugins import PluginRegistry

KINDS = {"feature", "change", "fix", "removal", "security"}
FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
GENERATED = "reference/generated/"


@pytest.fixture(scope="module")
def pages(checkout: Path, tracked: list[Path]) -> dict[Path, str]:
    """All documents for people that belong to the repository."""
    return {path.relative_to(checkout): path.read_text() for path in tracked if path.suffix == ".md"}


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """All commands, as they are typed."""
    points = entry_points(group="freezer.cli")
    names = [point.name.replace("_", " ") for point in points if point.dist and point.dist.name == "freezer-sdk"]
    assert names, "no commands are installed"
    return sorted(names)


def help_of(command: str, options: str = "") -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        assert main([*command.split(), *options.split(), "--help"]) == 0
    return out.getvalue()


def is_shown(text: str, *options: str) -> bool:
    return any(re.search(rf"(?<![\w-]){option}(?![\w-])", text) for option in options)


def simple_commands(line: str) -> list[list[str]]:
    """What stands between the pipes, semicolons and brackets of a line of shell, word by word."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&()")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word and set(word) <= set(";|&()"):
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def invocations(text: str) -> list[list[str]]:
    """The command lines of freezer in the shell blocks of a page, without what a pipe leads to."""
    found = []
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for words in simple_commands(line) if "freezer" in line else []:
                if words[:1] == ["freezer"]:
                    found.append(words[1:])
    return found


def test_readme_commands_are_there(checkout: Path) -> None:
    for name in ("scripts/quickstart", "scripts/test"):
        assert f"\n{name} " in (checkout / "README.md").read_text()
        assert os.access(checkout / name, os.X_OK)
    assert "scripts/test" in (checkout / ".ci/run").read_text()
    assert os.access(checkout / ".ci/run", os.X_OK)


def test_shell_scripts_parse(tracked: list[Path]) -> None:
    scripts = [path for path in tracked if path.read_bytes()[:9] == b"#!/bin/sh" or path.name == "lib.sh"]
    assert len(scripts) > 3
    for script in scripts:
        subprocess.run(["sh", "-n", script], check=True)


def test_links_lead_somewhere(checkout: Path, pages: dict[Path, str]) -> None:
    broken = [
        f"{page}: {link}"
        for page, text in pages.items()
        for link in LINK.findall(text)
        if GENERATED not in link and not (checkout / page.parent / link).exists()
    ]
    assert not broken


def test_documents_mention_every_command(commands: list[str], pages: dict[Path, str]) -> None:
    everything = "\n".join(pages.values())
    assert [name for name in commands if f"freezer {name}" not in everything] == []


def test_commands_in_documents_exist_with_their_options(commands: list[str], pages: dict[Path, str]) -> None:
    helps = {name: help_of(name) for name in commands}
    wrong = []
    installed = {plugin.name for plugin in PluginRegistry().installed()} - {"dedup"}
    for page, text in pages.items():
        for words in invocations(text):
            own = words[: words.index("--")] if "--" in words else words
            line = " ".join(own)
            if own and own[0] in ("--version", "--help"):
                continue
            name = next((name for name in commands if re.search(rf"(^| ){name}( |$)", line)), None)
            if name is None:
                wrong.append(f"{page}: freezer {line}: no such command")
                continue
            options = {word.partition("=")[0] for word in own if re.match(r"--?[a-zA-Z]", word)}
            chosen = {each[0]: each[1] for each in re.finditer(r"--(?:engine|mode|snapshot) ([\w-]+)", line)}
            asked = " ".join(option for option, plugin in chosen.items() if plugin in installed)
            if set(chosen.values()) - installed - {"dedup", "auto"}:  # an example, whose options nobody knows here
                options = {option for option in options if not option.startswith(("--mode-", "--snapshot-"))}
            known = help_of(name, asked) if asked else helps[name]
            plain = {re.sub("^--(mode|engine)-", "--", option): option for option in options}  # the help shows one
            unknown = [option for short, option in plain.items() if not is_shown(known, short, option)]
            wrong += [f"{page}: freezer {name}: no option {option}" for option in unknown]
    assert not wrong


def test_every_help_has_an_example(commands: list[str]) -> None:
    assert [name for name in commands if f"freezer {name}" not in help_of(name).partition("usage:")[2][10:]] == []


def test_change_notes_are_named_as_agreed(checkout: Path, tracked: list[Path]) -> None:
    notes = [path for path in tracked if path.parent == checkout / "changelog.d" and path.name != "README.md"]
    for note in notes:
        assert re.fullmatch(rf"(\+[a-z0-9-]+|\d+)\.({'|'.join(sorted(KINDS))})\.md", note.name), note.name
        assert note.read_text().strip(), note.name
