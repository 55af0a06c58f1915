"""Trees with everything that file systems allow, their changes, and what is compared."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Any

NAMES = (
    "plain.txt",
    "with blank",
    "tab\there",
    "new\nline",
    "quote'\"double",
    "$(touch PWNED)",
    "`touch PWNED`; echo",
    "-dash",
    "back\\slash",
    "*?[a]",
    "ümläut-中文",
)


def odd_tree(root: Path) -> Path:
    """Files with odd names, links of both kinds, a FIFO, long paths, modes and times."""
    root.mkdir()
    for number, name in enumerate(NAMES):
        (root / name).write_bytes(f"{number} {name}\n".encode() * (1 + 500 * (number % 3)))
        (root / name).chmod((0o644, 0o600, 0o755, 0o4755)[number % 4])
    (root / os.fsdecode(b"latin-\xe4")).write_text("bytes that are no UTF-8\n")
    for folder in ("sub", "sub/deeper one", "going", "moving", "n" * 100 + "/" + "m" * 100):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "content").write_bytes(os.urandom(3000))
    (root / "empty").mkdir()
    (root / "nothing").touch()
    (root / "soft").symlink_to("plain.txt")
    (root / "dangling").symlink_to("no such thing")
    (root / "sub" / "hard").hardlink_to(root / "plain.txt")
    os.mkfifo(root / "fifo", 0o640)
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.is_symlink():
            os.utime(path, (1_600_000_000, 1_600_000_000 + len(path.name)))
    time.sleep(0.1)  # what is as young as a run is stored again by the next one, and GNU tar then loses setuid bits
    return root


def change(root: Path, step: int) -> None:
    """Adds, changes, removes and renames; each step something else."""
    (root / f"added {step}").write_bytes(os.urandom(2000))
    (root / "with blank").write_text(f"changed {step}\n" * (step + 1))
    (root / f"dir $(touch PWNED{step})").mkdir()
    (root / f"dir $(touch PWNED{step})" / "in\nside").write_text(f"{step}")
    match step % 4:
        case 0:
            (root / "going" / "content").unlink()
            (root / "going").rmdir()
            (root / "-dash").unlink()
        case 1:
            (root / "moving").rename(root / "moved")
            (root / "soft").unlink()
            (root / "soft").mkdir()
        case 2:
            (root / "moved" / "content").chmod(0o400)
            (root / "fifo").unlink()  # GNU tar cannot put a file in its place
        case _:
            (root / "going").mkdir()
            (root / "going" / "again").write_text("back")


def manifest(root: Path) -> dict[str, Any]:
    """What exchange keeps: kinds, modes, owners, sizes, contents, link targets, whole seconds, names of one file."""
    found: dict[str, Any] = {}
    first: dict[int, str] = {}
    for where, below, files in os.walk(os.fsencode(root)):
        for raw in [where, *(os.path.join(where, name) for name in below + files)]:
            name, st = os.fsdecode(os.path.relpath(raw, os.fsencode(root))), os.lstat(raw)
            facts: dict[str, Any] = {"kind": stat.S_IFMT(st.st_mode), "owner": (st.st_uid, st.st_gid)}
            if not stat.S_ISLNK(st.st_mode):
                facts |= {"mode": stat.S_IMODE(st.st_mode), "mtime": int(st.st_mtime)}
            else:
                facts["target"] = os.readlink(raw)
            if stat.S_ISREG(st.st_mode):
                with open(raw, "rb") as file:
                    facts["content"] = hashlib.sha256(file.read()).hexdigest()
                if st.st_nlink > 1:
                    facts["same as"] = st.st_ino
            found[name] = facts
    for name in sorted(found):
        inode = found[name].get("same as")
        if inode is not None:
            found[name]["same as"] = first.setdefault(inode, name)
    return found
