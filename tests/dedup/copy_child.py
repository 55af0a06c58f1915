"""Copies in a process of its own that dies at the n-th storage call: ``SOURCE TARGET WHICH N WHEN``."""

from __future__ import annotations

import sys

from freezer_sdk import Freezer
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, kill


def main() -> None:
    source, target, which, number, when = sys.argv[1:6]
    fault = Fault(kill, at=int(number), when="before" if when == "before" else "after")
    storages = {}
    for name, path in (("source", source), ("target", target)):
        storages[name] = FaultyStorage(LocalStorage(path=path), *([fault] if name == which else []))
    options = {"pack_size": "1M", "threads": 1}
    with (
        Freezer(storages["source"], password="correct horse") as freezer,
        Freezer(storages["target"], password="correct horse", engine_options=options) as copy,
    ):
        results = copy.copy(freezer)
    sys.exit(0 if all(result.outcome in ("copied", "present") for result in results) else 1)


if __name__ == "__main__":
    main()
