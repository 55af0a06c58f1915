"""One backup run into several repositories: the source is made consistent once, each target goes at its own pace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from freezer_sdk.client import Freezer
from freezer_sdk.errors import FreezerError, StorageUnavailable
from freezer_sdk.fanout import FanOut, Job
from freezer_sdk.member import Member, leave_abandoned
from freezer_sdk.model import Backup, BackupOptions, Event, Problem
from freezer_sdk.modes.base import Protected, Stream, Tree
from freezer_sdk.operation import Operation
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.tee import Tee
from freezer_sdk.subject import Subject

_ADVICE = "it was left out, and the others went on; freezer backup copy brings it up to date"


class SharedSources:
    """Sources for several readers. A tree is walked by each of them; a stream is read once, for all.

    A tree is on a disk, and what was just read is still in memory: a reader that is far behind makes neither the others
    wait nor memory grow. A stream cannot be read twice: so much of it as ``queue_size`` waits for the slowest.

    Args:
        readers: how many.
        patience: seconds that the others wait for one that cannot keep up with a stream; ``None``: for ever.
        dropped: told the number of a reader that was dropped for it.
    """

    def __init__(
        self,
        protected: Protected,
        readers: int,
        *,
        queue_size: int,
        patience: float | None,
        dropped: Callable[[int], object],
    ) -> None:
        self._protected = protected
        self._tees = {
            index: Tee(source.open, readers, budget=queue_size, patience=patience, dropped=dropped)
            for index, source in enumerate(protected.sources)
            if isinstance(source, Stream)
        }

    def view(self, reader: int, cancel: CancelToken) -> Protected:
        """The sources for one reader."""
        return replace(
            self._protected,
            sources=[
                source.again()
                if isinstance(source, Tree)
                else replace(source, open=partial(self._tees[index].open, reader, cancel=cancel))
                for index, source in enumerate(self._protected.sources)
            ],
        )

    def leave(self, reader: int) -> None:
        """This reader has come to its end."""
        for tee in self._tees.values():
            tee.leave(reader)

    def close(self) -> None:
        """Ends streams that are still open."""
        for tee in self._tees.values():
            tee.close()


def store_everywhere(
    members: Sequence[Member],
    subject: Subject,
    options: BackupOptions,
    protected: Protected,
    operation: Operation,
    *,
    stall_timeout: float | None,
    queue_size: int,
) -> Mapping[str, Job[Backup]]:
    """Every repository that can be used stores what the mode hands over.

    Args:
        options: their ``parent`` may be the start of an id, which each repository looks up.
        operation: hears of everything, and its cancellation ends all.

    Returns:
        What became of it, by location.
    """
    chosen = [(member, freezer) for member in members if (freezer := member.usable) is not None]
    jobs: list[Job[Backup]] = []

    def drop(number: int) -> None:
        message = f"the others waited for it for {stall_timeout:g} seconds altogether"
        run.drop(jobs[number], StorageUnavailable(message, hint=_ADVICE))

    sources = SharedSources(protected, len(chosen), queue_size=queue_size, patience=stall_timeout, dropped=drop)

    def store(number: int, member: Member, freezer: Freezer, token: CancelToken) -> Backup:
        try:
            own = Operation("backup", lambda event: operation.context.events(member.marked(event)), token)
            parent = None if options.parent is None else freezer.find_backup(options.parent).id
            backup = freezer._store(subject, sources.view(number, token), replace(options, parent=parent), own)
            own.finish_backup(backup)
            return backup
        finally:
            sources.leave(number)

    jobs += [
        Job(
            member.location,
            partial(store, number, member, freezer),
            stalled_for=freezer._stalled_for,
            late=member.ended_late,
        )
        for number, (member, freezer) in enumerate(chosen)
    ]
    run = FanOut(jobs, cancel=operation.context.cancel, stall_timeout=stall_timeout, advice=_ADVICE)
    by_location = {job.location: job for job in jobs}
    try:
        run.run()
    finally:
        sources.close()
        leave_abandoned([member for member, _freezer in chosen], by_location)
    return by_location


def tell_failure(operation: Operation, location: str, error: FreezerError) -> None:
    """Tells the listener of a repository that takes no part any more."""
    problem = Problem(path=location, kind="target", message=error.message)
    name = operation.name
    operation.context.events(
        Event(kind="problem", operation=name, target=location, path=location, problem=problem, message=error.hint)
    )
