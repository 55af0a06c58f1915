"""Writes the reference pages that come from the code itself: commands from their help, options from declarations."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

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


def write(path: Path, text: str) -> None:
    """Writes a page, unless it is the same: an unchanged page is not built again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def write_pages(folder: Path) -> None:
    """Writes all generated pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "commands.md", NOTE + command_page())
    write(folder / "plugins.md", NOTE + reference_page(list_plugins()))
