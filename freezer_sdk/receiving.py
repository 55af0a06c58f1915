"""Backups of other repositories: copied as they are, or turned into backups of this one's engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING

from freezer_sdk.browsing import Browser
from freezer_sdk.copying import copy_backups
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import CopyResult, EventHandler
from freezer_sdk.selection import BackupFilter
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.subject import listed, texts

if TYPE_CHECKING:
    from freezer_sdk.client import Freezer


class Receiver(Browser):
    """Takes over backups of other repositories; base of :class:`~freezer_sdk.client.Freezer`."""

    def copy(
        self,
        source: Freezer,
        backups: str | Sequence[str] = (),
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
        before: datetime | None = None,
        after: datetime | None = None,
        dry_run: bool = False,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> list[CopyResult]:
        """Copies backups of another repository into this one; they keep their ids and all that is recorded of them.

        What is here already is neither read nor written again; what was forgotten here stays so.

        Args:
            source: the other repository.
            backups: one or several ids in it; none: all that fit.
            name, host: exactly so.
            tags: a backup must have all of them.
            before: started before this moment; without a zone: local time.
            after: started at this moment or later; without a zone: local time.
            dry_run: only tell what would be copied.
            events: as for the class, which is not called then; one start and one finish for each backup.
            cancel: ends the run; what was copied whole before stays.

        Returns:
            What became of each backup, oldest first. One that failed has its error; the others were copied.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, PluginError, AccessDenied, StorageError, Cancelled.
        """
        target, origin = self._opened(), source._opened()
        if not self.capabilities.copies:
            raise ConfigurationError(f"the engine {self._place.engine.name!r} takes no copies")
        if self.info().id == source.info().id:
            raise ConfigurationError(f"{self.location} cannot be copied into itself")
        wanted = BackupFilter(name=name, host=host, tags=texts(tags, "tags"), before=before, after=after)
        everything, ids = source._all(), listed(backups)
        chosen = [each for each in everything if wanted(each)]
        if ids:
            chosen = list({each.id: each for each in (source._choose(everything, one, wanted) for one in ids)}.values())
        present = [each for each in self._all() if each.readable]
        token = cancel or CancelToken()
        with self._place.watching(token), source._place.watching(token):
            return copy_backups(
                origin,
                target,
                chosen,
                present=present,
                dry_run=dry_run,
                boundary=self._boundary.joined(source._boundary),
                operation=lambda: self._operation("copy", events, token),
            )

    def import_backups(
        self,
        source: Freezer,
        backups: str | Sequence[str] = (),
        *,
        name: str | None = None,
        host: str | None = None,
        before: datetime | None = None,
        after: datetime | None = None,
        dry_run: bool = False,
        verify: bool = True,
        staging: str | PathLike[str] | None = None,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> list[CopyResult]:
        """Turns backups of another engine into backups here: every level into a backup that needs no other.

        They keep ids, times, hosts, names and owners; what is lost in the source is recorded, and makes them partial.
        What is here already is not written again, and what was forgotten here stays so, so that a run that was
        interrupted can simply be repeated.

        Args:
            source: a repository of an engine with levels.
            backups: one or several ids in it; none: all that fit.
            name, host, before, after: as for :meth:`copy`.
            dry_run: only tell what would be imported.
            verify: read back what was imported, and compare it with the source.
            staging: a folder for contents that the source gives before their time; by default where temporary files
                go. They lie there in clear, readable for nobody else, and are removed.
            events: as for the class, which is not called then; one start and one finish for each backup.
            cancel: ends the run; what was imported whole before stays.

        Returns:
            What became of each backup: by host and name, the oldest first. One that failed has its error.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, PluginError, AccessDenied, StorageError, Cancelled.
        """
        from freezer_sdk.importing.run import Importer

        target, origin = self._opened(), source._opened()
        if not source.capabilities.whole:
            title = source._place.engine.name
            raise ConfigurationError(f"backups of the engine {title!r} are not imported", hint="copy them")
        wanted = BackupFilter(name=name, host=host, before=before, after=after)
        everything, ids = source._all(), listed(backups)
        chosen = [each for each in everything if wanted(each)]
        if ids:
            chosen = list({each.id: each for each in (source._choose(everything, one, wanted) for one in ids)}.values())
        token = cancel or CancelToken()
        importer = Importer(
            source=origin,
            target=target,
            location=source.location,
            present={each.id for each in self._all()},
            forgotten={each.backup.id for each in self.retention.forgotten()} if self.capabilities.undelete else (),
            verify=verify,
            staging=None if staging is None else os.fspath(staging),
            boundary=self._boundary.joined(source._boundary),
            operation=lambda: self._operation("import", events, token),
        )
        with self._place.watching(token), source._place.watching(token):
            return importer.run(chosen, dry_run=dry_run)
