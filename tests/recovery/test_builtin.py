"""The built-in replacements give what the libraries give, and the file stays what an operator can use."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from types import ModuleType

import blake3
import pytest

from .conftest import TOOL

LENGTHS = (0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 5000, 6 * 1024, 7 * 1024 + 1, 65_536, 200_001)


@pytest.mark.parametrize("length", LENGTHS)
def test_blake3(tool: ModuleType, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "BLAKE3", None)
    chance = random.Random(length)
    data, key = chance.randbytes(length), chance.randbytes(32)
    assert tool.keyed_hash(key, data) == blake3.blake3(data, key=key).digest()
    assert tool.derive(b"a context", data) == blake3.blake3(data, derive_key_context="a context").digest()


def test_argon2id_of_the_systems_library(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    if tool.library("argon2") is None:
        pytest.skip("the system has no libargon2")
    expected = tool.argon2id(b"password", b"s" * 16, 64, 2, 2)
    tool.argon2id.cache_clear()
    for name in ("cryptography.hazmat.primitives.kdf.argon2", "argon2", "argon2.low_level"):
        monkeypatch.setitem(sys.modules, name, None)
    assert tool.argon2id(b"password", b"s" * 16, 64, 2, 2) == expected


def test_it_is_written_for_python_3_9() -> None:
    source = TOOL.read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


def test_help_needs_nothing() -> None:
    done = subprocess.run([sys.executable, "-I", str(TOOL), "--help"], capture_output=True, text=True, check=True)
    assert "restore REPO BACKUP TARGET" in done.stdout
