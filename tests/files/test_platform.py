"""The package imports where there is no fcntl, grp or pwd."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
for name in ("fcntl", "grp", "pwd"):
    sys.modules[name] = None
import freezer_sdk
for module in pkgutil.walk_packages(freezer_sdk.__path__, "freezer_sdk."):
    importlib.import_module(module.name)
from freezer_sdk.files.posix import Owners
owners = Owners()
assert owners.user_name(0) is None and owners.gid("root") is None
"""


def test_every_module_imports_without_posix_modules() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
