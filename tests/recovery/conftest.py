"""The recovery program as a process of its own, which may not import anything of this project."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from freezer_sdk import Freezer
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.local import LocalStorage

TOOL = Path(__file__).parents[2] / "tools" / "freezer_recover.py"
PASSWORD = "Café of\u00a0the corner"
CHEAP = Argon2Params(memory=64, time=1, lanes=1)

ALONE = """
import runpy, sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # whoever imports it fails
del sys.argv[:2]
sys.argv[0] = sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    ours = [name for name in sys.modules if name.partition(".")[0] in ("freezer_sdk", "freezer_cli", "tests", "dedup")]
    assert [name for name in ours if sys.modules[name] is not None] == [], ours
"""
FOREIGN = ("freezer_sdk", "freezer_cli")
FAST = ("blake3", "backports", "backports.zstd", "compression.zstd", "zstandard", "argon2")
"""Modules that the program can do without."""


@dataclass(frozen=True)
class Done:
    """What became of a run."""

    code: int
    out: str
    err: str


Recover = Callable[..., Done]


@pytest.fixture(scope="session")
def recover() -> Recover:
    """Runs the program: ``recover("list", repository, password=...)``; modules in ``without`` cannot be imported."""

    def run(
        *arguments: Any, password: str | None = PASSWORD, without: Sequence[str] = (), code: int | None = 0
    ) -> Done:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FREEZER_")}
        if password is not None:
            environment["FREEZER_PASSWORD"] = password
        command = [sys.executable, "-I", "-c", ALONE, ",".join((*FOREIGN, *without)), str(TOOL)]
        done = subprocess.run(
            [*command, *map(os.fspath, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        result = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in result.err, result.err
        assert code is None or result.code == code, (result.code, result.out, result.err)
        return result

    return run


@pytest.fixture(scope="session")
def tool() -> Iterator[ModuleType]:
    """The program as a module, for what would take too many processes."""
    spec = importlib.util.spec_from_file_location("freezer_recover_for_tests", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


MakeRepository = Callable[..., Freezer]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeRepository]:
    """Makes a repository in ``tmp_path / "repository"``; ``password=None``: an unencrypted one."""
    opened = []

    def new(password: str | None = PASSWORD, **options: Any) -> Freezer:
        path = tmp_path / "repository"
        if not path.exists():
            create_repository(LocalStorage(path=str(path)), password=password, kdf=CHEAP)
        opened.append(Freezer(f"local:{path}", password=password, engine_options=options))
        return opened[-1]

    yield new
    for freezer in opened:
        freezer.close()
