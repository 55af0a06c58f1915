"""Mode ``mongo``: what it declares, and which of its strategies does what."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import JSON, RestoreResult
from freezer_sdk.modes.base import Mode, Protected, Restorer, SnapshotMaker
from freezer_sdk.modes.mongo.dump import from_dump
from freezer_sdk.modes.mongo.settings import OPTIONS, Strategy, settings_from
from freezer_sdk.modes.mongo.volume import from_snapshot
from freezer_sdk.options import Option, validate


class MongoMode(Mode):
    """All databases of a MongoDB server.

    Strategies: ``snapshot`` reads the data directory from a volume snapshot; the journal makes that whole without a
    lock. ``dump`` is the stream of ``mongodump``.

    Args:
        values: see :data:`~freezer_sdk.modes.mongo.settings.OPTIONS`.

    Raises:
        ConfigurationError: options contradict each other.
    """

    name: ClassVar[str] = "mongo"
    api_version: ClassVar[int] = API_VERSION
    takes_snapshots: ClassVar[bool] = True
    verifies_restored: ClassVar[bool] = True
    summary: ClassVar[str] = "databases of a MongoDB server, from a snapshot or by mongodump"
    options: ClassVar[tuple[Option, ...]] = OPTIONS

    def __init__(self, **values: Any) -> None:
        self._settings = settings_from(validate(OPTIONS, values, owner="mode 'mongo'"))

    @classmethod
    def available(cls) -> str | None:
        """Whether pymongo is there."""
        if importlib.util.find_spec("pymongo") is None:
            return "pymongo is not installed: pip install 'freezer-sdk[mongo]'"
        return None

    @contextmanager
    def protect(self, *, snapshots: SnapshotMaker | None = None) -> Iterator[Protected]:
        """Hands over the data directory from a snapshot, or a dump.

        Raises:
            SourceError, SnapshotError, ConfigurationError.
        """
        settings = self._settings
        strategy = settings.strategy
        if strategy is Strategy.AUTO:
            strategy = Strategy.DUMP if snapshots is None else Strategy.SNAPSHOT
        if strategy is Strategy.SNAPSHOT:
            if snapshots is None:
                raise ConfigurationError(
                    "the strategy snapshot needs volume snapshots: files of a running server are not consistent",
                    hint="--snapshot auto; or the strategy dump",
                )
            if settings.database is not None:
                raise ConfigurationError("the strategy snapshot takes all databases", hint="use the strategy dump")
            with from_snapshot(settings, snapshots) as protected:
                yield protected
            return
        if snapshots is not None:
            raise ConfigurationError(
                f"the strategy {strategy} has no use for a volume snapshot",
                hint="leave the snapshot out (none), or choose the strategy snapshot",
            )
        if settings.fsync_lock:
            raise ConfigurationError("fsync_lock is of use to the strategy snapshot only")
        with from_dump(settings) as protected:
            yield protected

    def restore(self, restorer: Restorer, target: str) -> RestoreResult:
        """Brings back a data directory, ready for a server; or a dump, as a file or into a running server.

        Args:
            target: for a data directory an empty folder, or with ``delete`` one that no server uses; for a dump a
                folder, or :data:`~freezer_sdk.modes.base.SERVER`: the server that the options lead to.

        Raises:
            RestoreError, SourceError, ConfigurationError.
        """
        from freezer_sdk.modes.mongo.bringing_back import bring_back

        return bring_back(restorer, target, self._settings)

    def verify_restored(self, target: str, *, facts: Mapping[str, Any], queries: Sequence[str] = ()) -> JSON:
        """Starts a private server on what was restored, validates all collections, and asks the queries.

        Raises:
            RestoreError, ConfigurationError.
        """
        from freezer_sdk.modes.mongo.checking import check_restored

        return check_restored(target, facts, queries, self._settings)

    def default_name(self) -> str | None:
        """Named like the mode."""
        return self.name
