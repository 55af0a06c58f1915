"""Kills a repair at the n-th storage call, for many n: ``TEMPLATE WORK STEP``; prints what was found, a line each.

Each repair is a process of its own. What it leaves must be whole but for what was lost before, and the next repair must
come to its end.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from freezer_sdk import Freezer
from freezer_sdk.engines.dedup import lease
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, kill


def repair(path: Path, number: int = 0) -> None:
    faults = [Fault(kill, at=number)] if number else []
    with FaultyStorage(LocalStorage(path=str(path)), *faults) as storage, Freezer(storage) as freezer:
        freezer.maintenance.repair(read_data=True)


def forked(path: Path, number: int) -> int:
    """Exit status of a repair; negative: the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            repair(path, number)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def bury(path: Path) -> None:
    """Makes leases old: who has died keeps others from maintenance for some minutes."""
    for each in (path / lease.PREFIX).rglob("*"):
        if each.is_file():
            os.utime(each, (each.stat().st_mtime - 400,) * 2)


def look(path: Path) -> str:
    """Which backups are damaged, by the files in them that are."""
    with Freezer(f"local:{path}") as freezer:
        problems = freezer.verify(read_data=True).problems
        files = sorted(problem.path.split(":", 1)[1].rpartition("/")[2] for problem in problems if ":" in problem.path)
        return ",".join(files)


def main(template: Path, work: Path, step: int) -> None:
    number, ended = 1, False
    while not ended:
        path = work / f"{number}"
        shutil.copytree(template, path)
        status = forked(path, number)
        ended = status == 0
        before = look(path)
        bury(path)
        repair(path)
        print(number, "done" if ended else "killed" if status < 0 else status, before, look(path), flush=True)
        shutil.rmtree(path)
        number += step


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
