"""A backup into two repositories of which the second takes so long for each object; measured.

    python pace_child.py FOLDER SECONDS

Prints one JSON object: seconds until the first one was done, until both were, and the most memory in bytes.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from freezer_sdk import Event, FreezerGroup, Target
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, delay

QUICK = 0.02  # seconds for each object


def target(folder: Path, seconds: float) -> Target:
    slow = Fault(delay(seconds), times=None, methods={"put"}, prefix="packs/")
    storage = FaultyStorage(LocalStorage(path=str(folder), sync=False), slow)
    options = {"pack_size": "1M", "queue_size": "1M", "threads": 1}
    return Target(storage, create=True, encryption=False, engine_options=options)


def main() -> None:
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    done: list[float] = []

    def note(event: Event) -> None:
        if event.kind == "finish" and event.target == f"local:{folder}/quick":
            done.append(time.monotonic())

    with FreezerGroup([target(folder / "quick", QUICK), target(folder / "other", seconds)], events=note) as group:
        start = time.monotonic()
        result = group.backup(folder / "source", name="data")
        both = time.monotonic() - start
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    found = {"status": str(result.status), "quick": done[0] - start, "both": both, "peak": int(peak[1]) << 10}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
