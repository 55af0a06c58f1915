"""Strategy ``snapshot``: commits are held up for as long as a volume snapshot of the data directory takes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.modes.base import Protected, SnapshotMaker
from freezer_sdk.modes.mysql.datadir import LEFT_OUT, data_directory, described, owner_of
from freezer_sdk.modes.mysql.quiesce import quiesced
from freezer_sdk.modes.mysql.server import connected
from freezer_sdk.modes.mysql.settings import Settings, Strategy


@contextmanager
def from_snapshot(settings: Settings, snapshots: SnapshotMaker) -> Iterator[Protected]:
    """Hands over the data directory as it was while nothing was committed.

    Raises:
        SourceError, SnapshotError, ConfigurationError.
    """
    with ExitStack() as stack:
        with connected(settings.login) as server:
            directory = data_directory(server, settings.data_directory)
            facts: dict[str, Any] = {"strategy": str(Strategy.SNAPSHOT), **described(server)}
            facts |= {"data_directory": os.fspath(directory), "owner": owner_of(directory)}
            making = snapshots([directory])  # looks for a provider while nobody waits
            with quiesced(server, settings.limits) as lock:
                began = time.monotonic()
                group = stack.enter_context(making)
                taken = time.monotonic() - began
                lock.release()
        facts |= {"lock": {**lock.facts, "snapshot": round(taken, 3)}, **lock.position}
        yield Protected(
            sources=[LocalTree([os.fsencode(directory)], patterns=Patterns(LEFT_OUT), snapshot=group)],
            facts={"mysql": facts, "snapshot": group.facts},
            excludes=LEFT_OUT,
            confirm=lambda: group.check() or {},
        )
