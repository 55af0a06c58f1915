"""The threat model names a test for each claim: they are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MODEL = ROOT / "docs" / "explanation" / "threat-model.md"


def test_every_test_that_it_names_is_there() -> None:
    text = _MODEL.read_text(encoding="utf-8")
    functions = {
        (path.name, name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    files = {file for file, _name in functions}
    named = re.findall(r"`(test_\w+(?:\.py)?)(?:: (test_\w+))?`", text)
    assert len(named) > 30
    for first, second in named:
        if second:
            assert (first, second) in functions
        elif first.endswith(".py"):
            assert first in files
        else:
            assert first in {name for _file, name in functions}


def test_every_attack_of_an_append_only_client_is_in_it() -> None:
    text = _MODEL.read_text(encoding="utf-8")
    attacks = Path(__file__).with_name("test_append_only_attacker.py").read_text(encoding="utf-8")
    premise = "test_the_storage_lets_nobody_replace_or_delete"
    missing = [name for name in re.findall(r"^def (test_\w+)", attacks, re.MULTILINE) if f"`{name}`" not in text]
    assert missing == [premise]
