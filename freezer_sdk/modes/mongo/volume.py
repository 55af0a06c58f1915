"""The strategy ``snapshot``: the data directory as of one moment; the journal has what its other files lack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from freezer_sdk.errors import SnapshotError, SourceError, SourceUnreadable
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.modes.base import Protected, SnapshotMaker
from freezer_sdk.modes.mongo.lock import write_lock
from freezer_sdk.modes.mongo.server import Server
from freezer_sdk.modes.mongo.settings import Settings, Strategy

LEFT_OUT = ("/mongod.lock", "/diagnostic.data/*", "/*.sock", "/lost+found")
"""What belongs to the running server, and what it makes anew."""


@contextmanager
def from_snapshot(settings: Settings, snapshots: SnapshotMaker) -> Iterator[Protected]:
    """The data directory from one snapshot.

    Raises:
        SourceError, SnapshotError, ConfigurationError.
    """
    with ExitStack() as stack:
        with settings.login.connected() as client:
            server = Server.of(client)
            server.check_member(settings.member)
            directory = server.data_path(settings)
            _check_one_volume(directory)
            facts = {**server.facts(Strategy.SNAPSHOT), "data_path": str(directory)}
            making = snapshots([directory])
            if settings.fsync_lock:
                with write_lock(client, settings.login, limit=settings.lock_timeout) as held:
                    group = stack.enter_context(making)
                facts["lock_seconds"] = round(held.seconds, 3)
            else:
                group = stack.enter_context(making)
        outside = [path for path in group.missing if path.is_relative_to(directory)]
        if outside:
            raise SnapshotError(f"the snapshot lacks {outside[0]}: the data directory spans several volumes")
        tree = LocalTree([os.fsencode(directory)], patterns=Patterns(LEFT_OUT), snapshot=group)
        yield Protected(
            sources=[tree],
            facts={"mongo": facts, "snapshot": group.facts},
            excludes=LEFT_OUT,
            confirm=lambda: group.check() or {},
        )


def _check_one_volume(directory: Path) -> None:
    """The journal and the data must be of the same moment.

    Raises:
        SourceError: something lies elsewhere.
    """
    try:
        home = directory.stat().st_dev
        for folder, names, files in os.walk(directory):
            for name in (*names, *files):
                path = Path(folder, name)
                if path.is_symlink() or (name in names and path.stat().st_dev != home):
                    raise SourceError(
                        f"{path} leads to another place than {directory}, and would be of another moment",
                        hint="keep journal and databases on one volume, or use the strategy dump",
                    )
    except FileNotFoundError:  # it is a running server's
        pass
    except OSError as error:
        raise SourceUnreadable(f"{error.filename} cannot be read: {error.strerror}") from error
