"""A btrfs of the tests' own: a subvolume for one test."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

from servers import start


@contextlib.contextmanager
def new_subvolume() -> Iterator[Path]:
    """A new, empty subvolume; it is removed with all that is in it, subvolumes included."""
    path = Path(start("btrfs")["BTRFS_MOUNT"]) / f"test-{secrets.token_hex(6)}"
    make_subvolume(path)
    try:
        yield path
    finally:
        for inner in sorted(path.rglob("*"), key=lambda each: len(each.parts), reverse=True):
            if inner.is_dir() and not inner.is_symlink() and inner.stat().st_ino == 256:
                _btrfs("subvolume", "delete", inner)
        _btrfs("subvolume", "delete", path)


def make_subvolume(path: Path) -> Path:
    """Makes a subvolume, and gives its path."""
    _btrfs("subvolume", "create", path)
    return path


def names_at_top() -> list[str]:
    """What lies at the top of the file system, snapshots too."""
    return sorted(each.name for each in Path(start("btrfs")["BTRFS_MOUNT"]).iterdir())


def _btrfs(*arguments: str | Path) -> None:
    subprocess.run(["btrfs", "-q", *arguments], check=True, capture_output=True, timeout=120)
