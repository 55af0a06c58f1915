"""Backs up a folder in a process of its own that dies at the n-th storage call: ``REPOSITORY SOURCE N WHEN``."""

from __future__ import annotations

import sys

from freezer_sdk import Freezer
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, kill


def main() -> None:
    path, source, number, when = sys.argv[1:5]
    fault = Fault(kill, at=int(number), when="before" if when == "before" else "after")
    with FaultyStorage(LocalStorage(path=path), fault) as storage:
        options = {"pack_size": "1M", "threads": 1}
        with Freezer(storage, password="correct horse", engine_options=options) as freezer:
            print(freezer.backup(source, name="t").id)


if __name__ == "__main__":
    main()
