"""The built-in replacements give what the libraries give, and the file stays what an operator can use."""

from __future__ import annotations

import ast
import base64
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import blake3
import pytest

from .conftest import TOOL, Recover

DOCUMENT = TOOL.parents[1] / "docs" / "reference" / "repository-format.md"
VECTOR = re.compile(r"<!-- vector: ([a-z-]+) -->\n\n```json\n(.*?)^```", re.DOTALL | re.MULTILINE)
LENGTHS = (0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 5000, 6 * 1024, 7 * 1024 + 1, 65_536, 200_001)


def vectors() -> dict[str, Any]:
    """The examples of the format's document."""
    return {name: json.loads(text) for name, text in VECTOR.findall(DOCUMENT.read_text())}


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


def test_recovery_keys(tool: ModuleType) -> None:
    vector = vectors()["recovery-key"]
    expected = bytes.fromhex(vector["password_bytes"])
    for text in (vector["text"], vector["typed"], vector["text"].replace("\n", " ")):
        assert tool.password_bytes(text) == expected
        assert tool.password_bytes(text.replace("0", "o").replace("1", "l") + "\n") == expected
    lines = vector["text"].split("\n")
    lines[2] = lines[2][:1] + ("A" if lines[2][1] != "A" else "B") + lines[2][2:]
    with pytest.raises(tool.Stop, match="line 3"):
        tool.password_bytes("\n".join(lines))
    assert tool.password_bytes(vector["text"][:-1]) == vector["text"].partition("\n")[0].encode()


def test_passwords(tool: ModuleType) -> None:
    slot = vectors()["slot"]
    assert tool.password_bytes(slot["password"] + "\r\n") == bytes.fromhex(slot["password_bytes"])


def test_the_example_of_the_document(recover: Recover, tmp_path: Path) -> None:
    known = vectors()
    objects = {name: text.encode() for name, text in known["repository"]["objects"].items()}
    objects |= {name: base64.b64decode(text) for name, text in known["example"]["objects"].items()}
    for name, content in objects.items():
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    password = known["repository"]["password"]
    recover("restore", tmp_path / "repository", "latest", tmp_path / "out", password=password)
    for entry in known["example"]["tree"]:
        path = tmp_path / "out" / entry["path"].removeprefix("/srv/example").lstrip("/")
        assert (f"{path.stat().st_mode & 0o7777:04o}", path.stat().st_mtime_ns) == (entry["mode"], entry["mtime"])
        assert entry["content"] is None or path.read_text() == entry["content"]
