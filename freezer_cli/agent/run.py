"""What the actions share: the storages, opened one after the other, and the backups of the series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from freezer_cli.agent.places import Opener, other_containers
from freezer_cli.agent.settings import Place, Settings
from freezer_cli.progress import ProblemLog
from freezer_cli.signals import cancellation
from freezer_sdk import CancelToken, Freezer
from freezer_sdk.errors import BackupNotFound, Cancelled, FreezerError, RepositoryNotFound
from freezer_sdk.model import Backup, EventHandler

LOG = logging.getLogger("freezer")
DETAILS = logging.getLogger("freezer.details")
_SHOWN = 5  # names in a hint


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the program."""

    settings: Settings
    opener: Opener
    events: EventHandler
    cancel: CancelToken

    @property
    def names(self) -> tuple[str, ...]:
        """What the directories of the series may be called: the last agents did not fill in the default's variables."""
        settings = self.settings
        return tuple(dict.fromkeys(f"{settings.hostname}_{name}" for name in (settings.backup_name, settings.template)))

    def series(self, freezer: Freezer) -> list[Backup]:
        """The backups of the series in a storage, the newest last; also those that cannot be read whole.

        Raises:
            BackupNotFound: there is none.
            FreezerError: the storage cannot be read.
        """
        found = freezer.backups()
        for name in self.names:
            backups = [each for each in found if series_name(each) == name]
            if backups:
                return backups
        hint = "--action info lists what is there; --hostname says whose backups are meant"
        below = sorted({each.name for each in found if series_name(each).startswith(f"{self.names[0]}/")})
        if below:  # the original put ids of instances and images behind the name
            shown = ", ".join(below[:_SHOWN]) + (", ..." if len(below) > _SHOWN else "")
            hint = f"give the whole name with --backup-name: {shown}"
        raise BackupNotFound(f"{freezer.location} has no backup named {self.names[0]}", hint=hint)

    @contextmanager
    def opened(self, place: Place) -> Iterator[Freezer]:
        """A storage that has backups already.

        Raises:
            RepositoryNotFound: there are none.
            FreezerError: it cannot be opened.
        """
        with self.opener.target(place).open(self.events) as freezer:
            yield freezer

    @contextmanager
    def with_series(self, place: Place) -> Iterator[tuple[Freezer, list[Backup]]]:
        """A storage that has the series: the container that was named, or the one that early agents made of it.

        Raises:
            FreezerError: neither can be opened, or neither has it; the error is that of the one that was named.
        """
        first: FreezerError | None = None
        for each in (place, *other_containers(place)):
            with _either(self, each) as (freezer, backups, error):
                if freezer is not None:
                    if each is not place:
                        LOG.warning("%s has no such backups; those in %s are taken", place.title, each.container)
                    yield freezer, backups
                    return
            first = first or error
        assert first is not None
        raise first


@contextmanager
def _either(run: Run, place: Place) -> Iterator[tuple[Freezer | None, list[Backup], FreezerError | None]]:
    """The storage and the series in it, or why there is none."""
    try:
        opened = run.opener.target(place).open(run.events)
    except (RepositoryNotFound, BackupNotFound) as error:
        yield None, [], error
        return
    with opened as freezer:
        try:
            backups = run.series(freezer)
        except BackupNotFound as error:
            yield None, [], error
            return
        yield freezer, backups, None


def series_name(backup: Backup) -> str:
    """What the directories of its series are called; where host and name part is not recorded there."""
    return f"{backup.host}_{backup.name}"


@contextmanager
def started(settings: Settings, environ: Mapping[str, str]) -> Iterator[Run]:
    """A run that listens to signals."""
    with cancellation() as cancel:
        yield Run(settings=settings, opener=Opener(settings, environ), events=ProblemLog(), cancel=cancel)


def in_each(run: Run, work: Callable[[Place], None], *, what: str) -> tuple[list[FreezerError], int]:
    """Does the same for every storage; one that fails does not keep the others from it.

    Args:
        run: of the program.
        work: raises what failed.
        what: named in messages.

    Returns:
        Errors, and the number of storages that were served.

    Raises:
        FreezerError: none was served.
    """
    errors: list[FreezerError] = []
    places = run.settings.places
    for place in places:
        try:
            work(place)
        except Cancelled:
            raise
        except FreezerError as error:
            errors.append(error)
            if len(errors) == len(places):
                raise
            if len(places) > 1:
                LOG.error("%s: %s failed: %s", place.title, what, error.message)
    return errors, len(places) - len(errors)
