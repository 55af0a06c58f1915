"""What a tree is, as a document: taken with the operating system's calls alone, so that any restore can be compared."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any

Manifest = dict[str, dict[str, Any]]


def take(root: str | os.PathLike[str]) -> Manifest:
    """Every entry of a tree by its path below the root (``.`` is the root itself)."""
    found: Manifest = {}
    names: dict[tuple[int, int], str] = {}
    base = os.fspath(root)
    for folder, folders, files in os.walk(base):
        folders.sort()
        for name in [".", *folders, *sorted(files)] if folder == base else [*folders, *sorted(files)]:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, base)
            found[relative] = _entry(path, relative, names)
    return dict(sorted(found.items()))


def _entry(path: str, relative: str, names: dict[tuple[int, int], str]) -> dict[str, Any]:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    entry: dict[str, Any] = {"mode": f"{status.st_mode:06o}", "owner": [status.st_uid, status.st_gid]}
    entry["mtime"] = status.st_mtime_ns
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        entry["size"] = status.st_size
    elif kind == stat.S_IFLNK:
        entry["target"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    if kind != stat.S_IFDIR and status.st_nlink > 1:
        entry["same_as"] = names.setdefault((status.st_dev, status.st_ino), relative)
    attributes = {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in _attributes(path)}
    if attributes:
        entry["xattrs"] = attributes
    return entry


def _attributes(path: str) -> list[str]:
    return sorted(
        name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(("user.", "system.posix"))
    )


def without_rights(manifest: Manifest) -> Manifest:
    """What a user who is not root can bring back of it."""
    kept = {}
    for path, entry in manifest.items():
        if "device" not in entry:
            kept[path] = {name: value for name, value in entry.items() if name != "owner"}
            kept[path]["mode"] = f"{int(entry['mode'], 8) & ~0o6000:06o}"
    return kept
