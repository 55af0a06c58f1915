"""What a user does with a repository, in a process whose time and memory are measured.

    python measured_child.py REPOSITORY TARGET OPERATION...

Prints one JSON object: of each operation what came of it and how long it took, and the most memory in bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from freezer_sdk import Freezer, FreezerError, PluginError

ADDRESS_SPACE = 4 << 30


def backup_ids(freezer: Freezer) -> list[str]:
    return [backup.id for backup in freezer.backups() if backup.status != "damaged"]


def show_all(freezer: Freezer) -> str:
    return f"{len(freezer.backups())} backups"


def list_all(freezer: Freezer) -> str:
    return f"{sum(1 for backup in backup_ids(freezer) for _entry in freezer.entries(backup))} entries"


def restore_all(freezer: Freezer) -> str:
    problems = 0
    for number, backup in enumerate(backup_ids(freezer)):
        problems += len(freezer.restore(backup, Path(sys.argv[2]) / str(number)).problems)
    return f"{problems} problems"


def read_all(freezer: Freezer) -> str:
    read = 0
    for backup in backup_ids(freezer):
        for entry in list(freezer.entries(backup)):
            if entry.type == "file":
                with freezer.open(backup, entry.path) as reader:
                    while data := reader.read(1 << 20):
                        read += len(data)
    return f"{read} bytes"


def verify_all(freezer: Freezer) -> str:
    return f"{len(freezer.verify(read_data=True).problems)} problems"


def find_all(freezer: Freezer) -> str:
    return f"{sum(1 for _found in freezer.find('**/nowhere/*.txt'))} found"


def check_all(freezer: Freezer) -> str:
    return f"{len(freezer.maintenance.check(read_data=True).findings)} findings"


def prune_all(freezer: Freezer) -> str:
    return f"{freezer.maintenance.prune(dry_run=True).backups} backups"


def repair_all(freezer: Freezer) -> str:
    return f"{len(freezer.maintenance.plan_repair(read_data=True).steps)} steps"


OPERATIONS: dict[str, Callable[[Freezer], str]] = {
    "backups": show_all,
    "entries": list_all,
    "restore": restore_all,
    "read": read_all,
    "verify": verify_all,
    "find": find_all,
    "check": check_all,
    "prune": prune_all,
    "repair": repair_all,
}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    outcomes, seconds = {}, {}
    for name in sys.argv[3:]:
        started = time.process_time()
        try:
            with Freezer(f"local:{sys.argv[1]}", engine_options={"threads": 2}) as freezer:
                outcomes[name] = OPERATIONS[name](freezer)
        except PluginError:
            raise  # what a boundary makes of errors that nobody expected
        except FreezerError as error:
            outcomes[name] = f"{type(error).__name__}: {error}"
        seconds[name] = round(time.process_time() - started, 2)
    status = Path("/proc/self/status").read_text()  # getrusage would count the process that started this one
    most = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"outcomes": outcomes, "seconds": seconds, "memory": most}))


if __name__ == "__main__":
    main()
