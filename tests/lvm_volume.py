"""Volumes of LVM for tests in a guest (``tests/guest``)."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freezer_sdk.snapshots.label import RUN

_numbers = itertools.count()


def run(*arguments: str | Path) -> str:
    """Runs a program of LVM or of a file system."""
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


@dataclass
class Group:
    """A volume group on a file in memory."""

    name: str
    folder: Path
    _points: list[Path] = field(default_factory=list)

    def new_volume(
        self, name: str = "data", *, size: str = "100M", kind: str = "ext4", pool: str | None = None
    ) -> Path:
        """A volume with a file system, mounted; with ``pool`` a thin one of that size in a thin pool of that size."""
        if pool is None:
            run("lvcreate", "-qy", "-Wn", "--size", size, "--name", name, self.name)
        else:
            run("lvcreate", "-qy", "--type", "thin-pool", "--size", pool, "--name", f"{name}pool", self.name)
            run("lvcreate", "-qy", "--virtualsize", size, "--thinpool", f"{self.name}/{name}pool", "--name", name)
        device = f"/dev/{self.name}/{name}"
        quiet = {"xfs": "-qf", "ext4": "-qF"}[kind]
        run(f"mkfs.{kind}", quiet, device)
        point = self.folder / name
        point.mkdir()
        run("mount", device, point)
        self._points.append(point)
        return point

    def volumes(self) -> dict[str, dict[str, Any]]:
        """All volumes, by name, as ``lvs`` tells them."""
        told = run("lvs", "--reportformat", "json", "-o", "lv_name,lv_attr,lv_tags,lv_size,origin", self.name)
        return {row["lv_name"]: row for row in json.loads(told)["report"][0]["lv"]}

    def leftovers(self, prefix: str = "freezer") -> list[str]:
        """Volumes, mounts and folders of snapshots with that prefix."""
        found = [name for name, row in self.volumes().items() if f"{prefix}-" in name + row["lv_tags"]]
        found += [each.name for each in RUN.iterdir() if each.name.startswith(f"{prefix}-")] if RUN.is_dir() else []
        table = Path("/proc/self/mountinfo").read_text().splitlines()
        return found + [line for line in table if f"{prefix}-" in line or f"{prefix}--" in line]

    def _remove(self) -> None:
        for point in reversed(self._points):
            run("umount", point)
        run("vgremove", "-qff", "-y", self.name)


@contextlib.contextmanager
def new_group(size: str = "400M") -> Iterator[Group]:
    """A new volume group; it is removed with all its volumes, whose file systems must not be in use any more."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, contextlib.ExitStack() as stack:
        image = Path(folder) / "disk"
        run("truncate", "--size", size, image)
        disk = run("losetup", "--find", "--show", image).strip()
        stack.callback(run, "losetup", "--detach", disk)
        name = f"group{next(_numbers)}"
        run("vgcreate", "-qy", name, disk)
        group = Group(name=name, folder=Path(folder))
        stack.callback(group._remove)
        yield group
