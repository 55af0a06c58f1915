"""Mode ``postgres``: what it declares, and which of its strategies does what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import JSON, RestoreResult
from freezer_sdk.modes.base import Mode, Protected, Restorer, SnapshotMaker
from freezer_sdk.modes.postgres.connection import CLIENT_PACKAGE, Programs
from freezer_sdk.modes.postgres.dump import from_dump
from freezer_sdk.modes.postgres.physical import from_physical
from freezer_sdk.modes.postgres.settings import OPTIONS, Strategy, settings_from
from freezer_sdk.modes.postgres.volume import from_snapshot
from freezer_sdk.options import Option, validate
from freezer_sdk.streams.command import find_program


class PostgresMode(Mode):
    """All databases of a PostgreSQL server.

    Strategies: ``snapshot`` reads the data directory from a volume snapshot, without any lock: a server that is started
    on it recovers as from a power cut. ``physical`` is the stream of ``pg_basebackup``; ``dump`` one stream of
    ``pg_dump`` for each database, and the roles.

    Args:
        values: see :data:`~freezer_sdk.modes.postgres.settings.OPTIONS`.

    Raises:
        ConfigurationError: options contradict each other.
    """

    name: ClassVar[str] = "postgres"
    api_version: ClassVar[int] = API_VERSION
    takes_snapshots: ClassVar[bool] = True
    verifies_restored: ClassVar[bool] = True
    summary: ClassVar[str] = "databases of a PostgreSQL server, from a snapshot, pg_basebackup or pg_dump"
    options: ClassVar[tuple[Option, ...]] = OPTIONS

    def __init__(self, **values: Any) -> None:
        self._settings = settings_from(validate(OPTIONS, values, owner="mode 'postgres'"))

    @classmethod
    def available(cls) -> str | None:
        """Whether PostgreSQL's client programs are there."""
        if find_program(Programs().path("psql")) is None:
            return f"PostgreSQL's programs are missing: apt-get install {CLIENT_PACKAGE}"
        return None

    @contextmanager
    def protect(self, *, snapshots: SnapshotMaker | None = None) -> Iterator[Protected]:
        """Hands over the data directory from a snapshot, or streams.

        Raises:
            SourceError, SnapshotError, ConfigurationError.
        """
        settings = self._settings
        strategy = settings.strategy
        if strategy is Strategy.AUTO:
            strategy = Strategy.PHYSICAL if snapshots is None else Strategy.SNAPSHOT
        if settings.databases and strategy is not Strategy.DUMP:
            raise ConfigurationError(
                f"the strategy {strategy} takes all databases", hint="the strategy dump can choose"
            )
        if strategy is Strategy.SNAPSHOT:
            if snapshots is None:
                raise ConfigurationError(
                    "the strategy snapshot needs volume snapshots: files of a running server are not consistent",
                    hint="--snapshot auto; or the strategy physical or dump",
                )
            with from_snapshot(settings, snapshots) as protected:
                yield protected
            return
        if snapshots is not None:
            raise ConfigurationError(
                f"the strategy {strategy} has no use for a volume snapshot",
                hint="leave the snapshot out (none), or choose the strategy snapshot",
            )
        with from_dump(settings) if strategy is Strategy.DUMP else from_physical(settings) as protected:
            yield protected

    def restore(self, restorer: Restorer, target: str) -> RestoreResult:
        """Brings back a data directory, ready for a server; or dumps, as files or into a running server.

        Args:
            target: for a data directory an empty folder, or with ``delete`` one that no server uses; for dumps a
                folder, or :data:`~freezer_sdk.modes.base.SERVER`: the server that the options lead to.

        Raises:
            RestoreError, SourceError, ConfigurationError.
        """
        from freezer_sdk.modes.postgres.bringing_back import bring_back

        return bring_back(restorer, target, self._settings)

    def verify_restored(self, target: str, *, facts: Mapping[str, Any], queries: Sequence[str] = ()) -> JSON:
        """Starts a private server on what was restored, reads all tables, and asks the queries.

        Raises:
            RestoreError, ConfigurationError.
        """
        from freezer_sdk.modes.postgres.checking import check_restored

        return check_restored(target, facts, queries, self._settings)

    def default_name(self) -> str | None:
        """Named like the mode."""
        return self.name
