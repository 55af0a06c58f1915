"""Backs up a folder in a process of its own that dies at the n-th storage call: ``STORE SOURCE N``."""

from __future__ import annotations

import sys

from freezer_sdk import Freezer
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, kill


def main() -> None:
    path, source, number = sys.argv[1:4]
    fault = Fault(kill, at=int(number), when="after")
    options = {"strategy": "incremental"}
    with (
        FaultyStorage(LocalStorage(path=path), fault) as storage,
        Freezer(storage, engine="tar", engine_options=options) as freezer,
    ):
        freezer.backup(source, name="t")


if __name__ == "__main__":
    main()
