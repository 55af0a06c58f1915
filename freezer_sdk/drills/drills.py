"""Making a drill, and what the repository knows of those that were made."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

from freezer_sdk import identity
from freezer_sdk import selection as select
from freezer_sdk.drill_model import Drill, DrillLog, Verifier
from freezer_sdk.drills.run import DrillRun
from freezer_sdk.errors import ConfigurationError, PluginNotFound
from freezer_sdk.model import Backup, EventHandler
from freezer_sdk.services.base import DrillService
from freezer_sdk.streams.cancel import CancelToken

if TYPE_CHECKING:
    from freezer_sdk.client import Freezer


class Drills:
    """Restore drills of a repository; ``freezer.drills`` gives one.

    ::

        drill = freezer.drills.run(name="etc", sample=0.05)
        print(drill.passed, drill.restore_seconds, drill.error)
    """

    def __init__(self, freezer: Freezer) -> None:
        self._freezer, self._boundary = freezer, freezer._boundary

    def run(
        self,
        backup: str = select.LATEST,
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
        scratch: str | PathLike[str] | None = None,
        sample: float = 1.0,
        verifier: Verifier | str | None = None,
        queries: Sequence[str] = (),
        mode_options: Mapping[str, Any] | None = None,
        record: bool = True,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> Drill:
        """Restores a backup into scratch space, checks it, measures how long that takes, and writes it down.

        Nothing is restored to where applications expect it, whatever mode made the backup.

        Args:
            backup: ``ID`` or ``latest``.
            name, host, tags: as for :meth:`Freezer.find_backup`.
            scratch: a folder with room for the backup; what is made there is removed. By default where temporary
                files go.
            sample: the share of all files, chosen at random, above 0 and up to 1.
            verifier: by default ``application`` where the mode can check what was restored, else ``files``.
            queries: what the application is asked, in its own language; each must give something.
            mode_options: values of the mode's options, for the verifier ``application``.
            record: store a signed record.
            events: as for :class:`Freezer`, which is not called then.
            cancel: ends the drill, without a record.

        Returns:
            What became of it. A backup that cannot be restored, or is not what it was, is no error here: the drill
            did not pass, and its ``error`` says why.

        Raises:
            BackupNotFound, AmbiguousError.
            ConfigurationError: the options make no sense, there is no room, or a program is missing.
            AccessDenied: the key may not write records.
            StorageError: the record cannot be stored.
            Cancelled.
        """
        found = self._freezer.find_backup(backup, name=name, host=host, tags=tags)
        operation = self._freezer._operation("drill", events, cancel)
        if record:
            with self._boundary.guard():
                self._service().require()
        chosen = self._verifier(found, verifier, sample, queries)
        operation.start(backup=found.id, name=found.name, host=found.host, verifier=str(chosen), sample=sample)
        drill = Drill(
            id=uuid.uuid4().hex,
            backup=found.id,
            backup_time=found.time,
            host=found.host,
            name=found.name,
            mode=found.mode,
            started=datetime.now(UTC),
            passed=False,
            sample=sample,
            drilled_on=identity.host_name(),
        )
        run = DrillRun(
            self._freezer,
            found,
            verifier=chosen,
            queries=tuple(queries),
            mode_options=mode_options,
            place=None if scratch is None else os.fspath(scratch),
            operation=operation,
        )
        with self._freezer._place.watching(operation.context.cancel):
            drill = run.run(drill)
        if record:
            with self._boundary.guard():
                drill = self._service().write(drill)
        operation.finish(files=drill.files, size=drill.bytes, id=drill.id, passed=drill.passed)
        return drill

    def log(self) -> DrillLog:
        """All drills that the repository has records of, and what is wrong with records that do not count.

        Raises:
            ConfigurationError: the engine keeps none.
            AccessDenied, StorageError.
        """
        with self._boundary.guard():
            return self._service().read()

    # -- steps ---------------------------------------------------------------------------------------------

    def _service(self) -> DrillService:
        if not self._freezer.capabilities.drills:
            raise ConfigurationError(
                f"the engine {self._freezer._place.engine.name} keeps no records of drills",
                hint="a drill without a record is possible",
            )
        return self._freezer._opened().drills()

    def _verifier(
        self, backup: Backup, asked: Verifier | str | None, sample: float, queries: Sequence[str]
    ) -> Verifier:
        if not 0 < sample <= 1:
            raise ConfigurationError("a sample is a share of all files: above nothing, and all of them at most")
        if isinstance(queries, str):
            raise ConfigurationError("queries is a list of texts, not one text")
        if asked is None:
            can = self._can_verify(backup.mode) and sample == 1
            chosen = Verifier.APPLICATION if can or queries else Verifier.FILES
        elif asked in tuple(Verifier):
            chosen = Verifier(asked)
        else:
            raise ConfigurationError(f"verifier {asked!r} is none of {', '.join(Verifier)}")
        if chosen is Verifier.FILES and queries:
            raise ConfigurationError("files cannot be asked queries", hint="use the verifier application")
        if chosen is Verifier.APPLICATION:
            if not self._can_verify(backup.mode):
                raise ConfigurationError(f"mode {backup.mode!r} cannot check what was restored")
            if sample != 1:
                raise ConfigurationError("an application needs all of its data: no sample of them can be checked")
        return chosen

    def _can_verify(self, mode: str) -> bool:
        from freezer_sdk import plugins

        try:
            return bool(getattr(self._freezer._place.registry.load(plugins.MODE, mode), "verifies_restored", False))
        except PluginNotFound:  # its files come back without it
            return False
