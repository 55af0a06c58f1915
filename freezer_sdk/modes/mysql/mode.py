"""Mode ``mysql``: what it declares, and which of its strategies does what."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import JSON, RestoreResult
from freezer_sdk.modes.base import Mode, Protected, Restorer, SnapshotMaker
from freezer_sdk.modes.mysql.dump import from_dump
from freezer_sdk.modes.mysql.hot import from_snapshot
from freezer_sdk.modes.mysql.physical import from_physical
from freezer_sdk.modes.mysql.settings import OPTIONS, Strategy, settings_from
from freezer_sdk.options import Option, validate


class MysqlMode(Mode):
    """The databases of a MariaDB or MySQL server.

    Strategies: ``snapshot`` holds up commits for the moment that a volume snapshot of the data directory takes;
    ``dump`` reads SQL of each database; ``physical`` is the stream of mariadb-backup.

    Args:
        values: see :data:`~freezer_sdk.modes.mysql.settings.OPTIONS`.

    Raises:
        ConfigurationError: options contradict each other.
    """

    name: ClassVar[str] = "mysql"
    api_version: ClassVar[int] = API_VERSION
    takes_snapshots: ClassVar[bool] = True
    verifies_restored: ClassVar[bool] = True
    summary: ClassVar[str] = "databases of MariaDB and MySQL, from a snapshot, a dump or mariadb-backup"
    options: ClassVar[tuple[Option, ...]] = OPTIONS

    def __init__(self, **values: Any) -> None:
        self._settings = settings_from(validate(OPTIONS, values, owner="mode 'mysql'"))

    @classmethod
    def available(cls) -> str | None:
        """Whether PyMySQL is there."""
        if importlib.util.find_spec("pymysql") is None:
            return "PyMySQL is not installed: pip install 'freezer-sdk[mysql]'"
        return None

    @contextmanager
    def protect(self, *, snapshots: SnapshotMaker | None = None) -> Iterator[Protected]:
        """Hands over the data directory from a snapshot, or streams.

        Raises:
            SourceError, SnapshotError, ConfigurationError, PluginUnavailable.
        """
        settings = self._settings
        strategy = settings.strategy
        if strategy is Strategy.AUTO:
            strategy = Strategy.DUMP if snapshots is None else Strategy.SNAPSHOT
        if settings.chosen and strategy is not Strategy.DUMP:
            raise ConfigurationError(
                f"the strategy {strategy} takes all databases", hint="the strategy dump can choose"
            )
        if strategy is Strategy.SNAPSHOT:
            if snapshots is None:
                raise ConfigurationError(
                    "the strategy snapshot needs volume snapshots: files of a running server are not consistent",
                    hint="--snapshot auto; or the strategy dump or physical",
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
            RestoreError, SourceError, ConfigurationError, PluginUnavailable.
        """
        from freezer_sdk.modes.mysql.bringing_back import bring_back

        return bring_back(restorer, target, self._settings)

    def verify_restored(self, target: str, *, facts: Mapping[str, Any], queries: Sequence[str] = ()) -> JSON:
        """Starts a private server on what was restored, checks all tables, and asks the queries.

        Raises:
            RestoreError, ConfigurationError.
        """
        from freezer_sdk.modes.mysql.checking import check_restored

        return check_restored(target, facts, queries, self._settings)

    def default_name(self) -> str | None:
        """Named like the mode."""
        return self.name
