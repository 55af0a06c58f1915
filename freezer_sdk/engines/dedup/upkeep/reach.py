"""What backups need of what a repository holds, for a prune."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

from freezer_sdk.engines.dedup.damage import damaged_packs
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.losses import read_losses
from freezer_sdk.engines.dedup.upkeep.holdings import FixedReader, Holdings, adopt_recent
from freezer_sdk.engines.dedup.upkeep.living import Living
from freezer_sdk.engines.dedup.upkeep.usage import Usage, ranking
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Problem


class Reach:
    """Looks at every page of every backup.

    Args:
        due: packs that are about to be deleted.
        condemned: packs in any mark or decision.
        tick: called often.

    Attributes:
        usage: what backups need, whether they count or are forged.
        saved: the same and what a sweep must leave behind besides: backups that were forgotten a short time ago.
        reader: reads blobs by the whole index.
        problems: forged backups that keep nothing alive.

    Raises:
        IntegrityError: a page cannot be read, or a blob has no place; StorageError.
    """

    def __init__(
        self,
        handle: Handle,
        living: Living,
        holdings: Holdings,
        due: Collection[bytes],
        condemned: Collection[bytes],
        *,
        tick: Callable[[], None],
    ) -> None:
        self._handle, self._living, self._holdings = handle, living, holdings
        self._due, self._condemned, self._tick = due, condemned, tick
        self.reader = FixedReader(handle, holdings.index)
        self.problems: list[Problem] = []
        self._damaged = damaged_packs(handle.storage, handle.keys)
        for pack in self._damaged | holdings.absent() | holdings.unreadable:
            holdings.index.distrust(pack)  # what is copied elsewhere must not count as stored because of it
        try:
            self.usage = self._counting()
        except IntegrityError:
            if not holdings.recent:
                raise
            adopt_recent(handle, holdings, tick=tick)
            self.usage = self._counting()
        self._add_forged()
        self.saved = self._spared() if living.spared else self.usage

    def _counting(self) -> Usage:
        handle, holdings = self._handle, self._holdings
        rank = ranking(holdings.present, due=self._due, marked=self._condemned, damaged=self._damaged)
        lost = read_losses(handle.storage, handle.keys).blobs
        usage = Usage(self.reader, holdings.index, rank, trusts=handle.keys.trusts, tick=self._tick, lost=lost)
        for commit in self._living.commits.values():
            usage.add(commit)
        return usage

    def _add_forged(self) -> None:
        for commit in self._living.forged.values():
            try:
                self.usage.add(commit)
            except IntegrityError as error:  # whoever forged it must not be able to stop others
                message = f"a forged backup is not whole, and keeps nothing alive: {error}"
                self.problems.append(Problem(path=commit.backup.id, kind="forged", message=message, fatal=False))

    def _spared(self) -> Usage:
        saved = self.usage.copy()
        for commit in self._living.spared.values():
            with suppress(IntegrityError):  # it is forgotten all the same
                saved.add(commit)
        return saved
