"""The vectors and hex dumps inside the format's document: found, read, and written anew."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "repository-format.md"

_BLOCK = re.compile(r"<!-- (vector|dump): (\S+) -->\n(?:\n?```(?:json|text)\n(.*?)\n```\n)?", re.DOTALL)


def read_vectors() -> dict[str, Any]:
    """All vectors by name."""
    return {name: json.loads(body) for kind, name, body in _blocks() if kind == "vector" and body}


def read_dumps() -> dict[str, str]:
    """All dumps by name."""
    return {name: body for kind, name, body in _blocks() if kind == "dump"}


def write_blocks(vectors: Mapping[str, Any], dumps: Mapping[str, str] | None = None) -> None:
    """Replaces these blocks; others stay as they are."""
    made = {("vector", name): ("json", _pretty(body)) for name, body in vectors.items()}
    made |= {("dump", name): ("text", body) for name, body in (dumps or {}).items()}

    def block(match: re.Match[str]) -> str:
        if (match[1], match[2]) not in made:
            return match[0]
        language, body = made.pop((match[1], match[2]))
        return f"<!-- {match[1]}: {match[2]} -->\n\n```{language}\n{body}\n```\n"

    text = _BLOCK.sub(block, DOCUMENT.read_text(encoding="utf-8"))
    if made:
        raise SystemExit(f"the document has no place for {', '.join(name for _kind, name in made)}")
    DOCUMENT.write_text(text, encoding="utf-8")


def _pretty(vector: Any) -> str:
    """Indented, but for lists of numbers."""
    numbers = re.compile(r"\[\s+((?:-?\d+,?\s+)+)\]")
    return numbers.sub(lambda found: "[" + " ".join(found[1].split()) + "]", json.dumps(vector, indent=1))


def _blocks() -> list[tuple[str, str, str]]:
    return _BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
