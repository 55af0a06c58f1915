"""Doing things as somebody else, and mounting things."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trees

NOBODY = 65534


def as_nobody(function: Callable[[], Any]) -> Any:
    """Calls a function in a process without rights, and gives what it returns."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            if trees.is_root():
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            result = pickle.dumps(function())
            with open(write_end, "wb") as file:
                file.write(result)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write_end)
    with open(read_end, "rb") as file:
        data = file.read()
    assert os.waitpid(child, 0)[1] == 0, "the child failed; see its traceback"
    return pickle.loads(data)


@contextmanager
def everybodys_directory() -> Iterator[Path]:
    """A directory that processes without rights can reach and write."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    try:
        yield path
    finally:
        trees.remove(path)


@contextmanager
def mounted(path: Path, *arguments: str) -> Iterator[Path]:
    """A mount for a while; a tmpfs unless told otherwise."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *(arguments or ("-t", "tmpfs", "none")), os.fspath(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", os.fspath(path)], check=True)


def can_mount() -> bool:
    """Whether this process may mount file systems."""
    if not trees.is_root() or not shutil.which("mount"):
        return False
    with tempfile.TemporaryDirectory() as path:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", path], check=False, capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", path], check=True)
        return done.returncode == 0
