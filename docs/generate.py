"""Writes the reference pages that come from the code itself: commands from their help, options from declarations."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from freezer_cli.agent.declaration import OPTIONS
from freezer_cli.agent.option import AgentOption, Kind
from freezer_cli.main import main
from freezer_sdk import list_plugins
from freezer_sdk.plugins import reference_page

NOTE = "% Generated when the documentation is built; changes here are lost.\n\n"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def plain_terminal() -> Iterator[None]:
    """Help texts without colours, wrapped the same everywhere."""
    wanted = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def commands() -> list[str]:
    """All commands of this distribution, as they are typed."""
    points = entry_points(group="freezer.cli")
    return sorted(point.name.replace("_", " ") for point in points if point.dist and point.dist.name == "freezer-sdk")


def help_text(command: str) -> str:
    """What ``freezer COMMAND --help`` prints.

    Raises:
        RuntimeError: it fails.
    """
    out = io.StringIO()
    with plain_terminal(), contextlib.redirect_stdout(out):
        code = main([*command.split(), "--help"])
    if code:
        raise RuntimeError(f"freezer {command} --help exits with {code}")
    return ESCAPE.sub("", out.getvalue()).rstrip()


def command_page() -> str:
    """All commands with their help."""
    parts = ["# Commands\n", "```text", help_text(""), "```", ""]
    for command in commands():
        parts += [f"## freezer {command}\n", "```text", help_text(command), "```", ""]
    return "\n".join(parts)


def agent_page() -> str:
    """All options of ``freezer-agent``, by group."""
    parts = [
        "# Options of freezer-agent\n",
        "`freezerc` is the same program. How they are used, and where they differ from the original's, is told in",
        "[Command lines of the original Freezer](../../how-to/original-command-lines.md).\n",
        "- An option may be shortened as far as it stays unique, and `_` may stand for `-`.",
        "- *yes/no* options are switched on by `--NAME` and off by `--noNAME` or `--no-NAME`; in an INI file they are",
        "  `True` or `False`.",
        "- INI files (`--config`) take the names without the dashes before them; `False`, `None`: off.",
        "- Options marked with ¹ may stand in a `[storage:NAME]` section.\n",
    ]
    for group in dict.fromkeys(option.group for option in OPTIONS):
        parts += [
            f"## {group.capitalize()}\n",
            "| Option | Also | Takes | Default | Meaning |",
            "|---|---|---|---|---|",
        ]
        parts += [agent_row(option) for option in OPTIONS if option.group == group]
        parts.append("")
    return "\n".join(parts)


def agent_row(option: AgentOption) -> str:
    """One option as a line of a table."""
    also = [f"`{name}`" for name in option.spellings if name != f"--{option.name}"]
    takes = "yes/no" if option.kind in (Kind.FLAG, Kind.WISH) else option.metavar or "text"
    if option.choices:
        takes = ", ".join(option.choices)
    default = {None: "", False: "no", True: "yes"}.get(option.default, f"`{option.default}`")
    meaning = f"{option.help}. No effect any more: {option.instead}" if option.instead else option.help
    mark = " ¹" if option.place else ""
    return (
        f"| `--{option.name}`{mark} | {', '.join(also)} | {takes} | {default} | {meaning.replace('|', chr(92) + '|')} |"
    )


def write(path: Path, text: str) -> None:
    """Writes a page, unless it is the same: an unchanged page is not built again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def write_pages(folder: Path) -> None:
    """Writes all generated pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "commands.md", NOTE + command_page())
    write(folder / "freezer-agent.md", NOTE + agent_page())
    write(folder / "plugins.md", NOTE + reference_page(list_plugins()))
