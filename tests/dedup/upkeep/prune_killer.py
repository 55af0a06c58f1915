"""Kills a prune at the n-th storage call, for many n: ``TEMPLATE WORK STEP``; prints what was found, a line each.

Each prune is a process of its own. What it leaves must be whole, and the next prunes must come to their end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

from freezer_sdk import Freezer
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, kill

OPTIONS = {"pack_size": "1M", "threads": 1, "reserve": 0}


def prune(path: Path, number: int = 0) -> None:
    faults = [Fault(kill, at=number)] if number else []
    with (
        FaultyStorage(LocalStorage(path=str(path)), *faults) as storage,
        Freezer(storage, engine_options=OPTIONS) as it,
    ):
        it.maintenance.prune(max_waste=0.02)


def forked(path: Path, number: int) -> int:
    """Exit status of a prune; negative: the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            prune(path, number)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def make_old(path: Path) -> None:
    """As if everything had been stored an hour ago."""
    past = time.time() - 3600
    for found in path.rglob("*"):
        if found.is_file():
            os.utime(found, (past, past))


def main() -> None:
    template, work, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    number = 1
    while True:
        path = work / str(number)
        shutil.copytree(template, path)
        make_old(path)
        status = forked(path, number)
        with Freezer(f"local:{path}") as freezer:
            damage = [problem for problem in freezer.verify(read_data=True).problems if problem.fatal]
            backups = sorted(backup.name for backup in freezer.backups())
        make_old(path)
        again = [forked(path, 0)]
        make_old(path)
        again.append(forked(path, 0))
        print(number, status == -signal.SIGKILL, len(damage), ",".join(backups), again, flush=True)
        shutil.rmtree(path)
        if status != -signal.SIGKILL:
            return
        number += step


if __name__ == "__main__":
    main()
