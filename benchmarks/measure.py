"""Runs a command and tells what it cost, without counting the one who measures."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command cost.

    Attributes:
        wall, cpu: seconds; cpu is user and system time of the whole process tree.
        peak: largest resident set of one of its processes, in MB of 10^6 bytes.
        code: exit code.
    """

    wall: float
    cpu: float
    peak: float
    code: int


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> Cost:
    """Runs a command under GNU time.

    A child inherits the peak memory of the process that starts it, and this one is not small: GNU time, which
    is, stands between them.

    Args:
        env: all of the environment.
        log: what the command prints is added here.

    Raises:
        SystemExit: GNU time is not installed.
    """
    gnu_time = shutil.which("time")
    if gnu_time is None:
        raise SystemExit("GNU time is needed: apt-get install time")
    with tempfile.NamedTemporaryFile(prefix="freezer-bench-") as result, log.open("ab") as out:
        out.write(f"\n$ {' '.join(command)}\n".encode())
        out.flush()
        wrapped = [gnu_time, "--quiet", "-o", result.name, "-f", "%M", *command]
        started = time.perf_counter()
        process = subprocess.Popen(wrapped, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        kilobytes = int(Path(result.name).read_text().split()[-1])
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(wall=round(wall, 3), cpu=round(cpu, 3), peak=round(kilobytes * 1024 / 1e6, 1), code=process.returncode)


def stored_bytes(root: Path) -> int:
    """The sizes of all files below a directory, added."""
    return sum(os.lstat(os.path.join(base, name)).st_size for base, _dirs, names in os.walk(root) for name in names)


def warm(root: Path) -> None:
    """Reads everything once: some tools drop what they read from the page cache, and the next would pay for it."""
    buffer = bytearray(1 << 20)
    for base, _dirs, names in os.walk(root):
        for name in names:
            path = os.path.join(base, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb", buffering=0) as source:
                    while source.readinto(buffer):
                        pass


def clean_environment(home: Path) -> dict[str, str]:
    """An environment without the user's own settings, caches and passwords."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "TMPDIR": tempfile.gettempdir(),
        "LC_ALL": "C.UTF-8",
        "LANG": "C.UTF-8",
    }


def room(path: Path) -> int:
    """Free bytes where ``path`` is or would be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def default_root(need: int) -> Path:
    """A new directory for data: in memory (/dev/shm) where it fits, else where temporary files go.

    Raises:
        SystemExit: there is no room in either.
    """
    for place in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        if place.is_dir() and os.access(place, os.W_OK) and room(place) > need:
            return Path(tempfile.mkdtemp(prefix="freezer-bench-", dir=place))
    raise SystemExit(f"no place with {need / 1e9:.1f} GB free; name one with --data and --work")
