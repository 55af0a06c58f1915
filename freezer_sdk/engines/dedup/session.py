"""What every run does that writes a backup: lease, what is there already, packs, index, commit, in this order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import control, protocol
from freezer_sdk.engines.dedup.adopt import adopt_orphans, unclosed_leases
from freezer_sdk.engines.dedup.catalog import COMMIT, Catalog
from freezer_sdk.engines.dedup.commit import Commit, encode_commit
from freezer_sdk.engines.dedup.copies import complete_copies
from freezer_sdk.engines.dedup.damage import damaged_packs
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, PackRows
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.lost import distrust_lost_packs, is_whole
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.errors import FreezerError, LeaseLost, ObjectExists, StorageError
from freezer_sdk.model import Problem

_MOST_NAMED = 20  # lost packs that are named one by one


class WriteSession:
    """From the lease to the commit. A context manager, used once; the order of the calls is that of the methods here.

    Args:
        name: of the commit object to be.
        given: its id was not drawn for this run: another run may store the same backup.
        problem: told of what was found on the way.
        dry_run: write nothing.
        catalog: knows commits that were opened before.

    Attributes:
        writing: what :meth:`write` gave.
        lost: names of packs that are not there, as far as they were looked for.
        generation: the newest of marks and sweeps, for the commit.
        reader: knows everything that is stored; only what it reads after the lease may be relied upon.
    """

    reader: BlobReader
    writing: BlobWriter | None = None
    lost: Sequence[str] = ()

    def __init__(
        self,
        handle: Handle,
        context: Context,
        name: str,
        *,
        given: bool,
        problem: Callable[[Problem], None],
        dry_run: bool = False,
        catalog: Catalog | None = None,
    ) -> None:
        self._handle, self._storage, self._keys, self._context = handle, handle.storage, handle.keys, context
        self._name, self._given, self._problem, self._dry_run = name, given, problem, dry_run
        self.catalog = catalog or Catalog(handle)
        self.generation = 0
        self._set_back = False
        self._damaged: frozenset[bytes] = frozenset()
        self._lease: protocol.Lease | None = None

    def __enter__(self) -> Self:
        """Takes the lease; only what is read after this may be relied upon.

        Raises:
            AccessDenied, StorageError.
        """
        if not self._dry_run:
            self._lease = protocol.Lease.create(self._storage, self._keys, self._name)
            complete_copies(self._storage, self._keys)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes what is open. A run that failed leaves an index of what it stored; if it cannot, its lease stays open:
        that is how the next run knows that there is something to be found."""
        if self.writing is not None:
            self.writing.close()
        if self._lease is None:
            return
        if self.writing is not None and self.writing.unindexed:
            try:
                self._lease.check()
                self.writing.settle(self._storage.flush)
            except FreezerError:
                return
        self._lease.close()

    @property
    def lease(self) -> str:
        """Id of the lease; empty when nothing is written."""
        return "" if self._lease is None else self._lease.id

    @property
    def damage_known(self) -> bool:
        """Whether maintenance has found packs damaged that are still there."""
        return bool(self._damaged)

    def look(self) -> None:
        """Reads sweeps, then marks. Backups are listed after this, indexes are loaded after that.

        The other way round, a mark and its announcement could come between the two: the commit would say a generation
        whose packs this run has not heard of.

        Raises:
            StorageError.
        """
        sweeps = protocol.read_sweeps(self._storage, self._keys)
        marks = protocol.read_marks(self._storage, self._keys)
        self.generation = max(marks.generation, sweeps.generation)
        warnings = self._handle.look_back(generation=self.generation)
        self._set_back = bool(warnings)
        for problem in warnings:
            self._problem(problem)
        # a mark may be damaged, or gone as the last trace of what it condemned: the decisions say it again
        condemned = marks.condemned.union(*(decision.condemned for decision in sweeps.decisions))
        self._damaged = damaged_packs(self._storage, self._keys)
        index = BlobIndex(condemned | self._damaged, trusts=self._keys.trusts)
        self.reader = BlobReader(self._handle, index)

    def lost_packs(self, parent: Commit | None) -> bool:
        """Are the packs there that the index names? What is not is not relied upon.

        Returns:
            Whether the parent needs one that is not there, or that is known to be damaged.

        Raises:
            StorageError.
        """
        self.reader.load_index(Kind.META)
        self.reader.load_index(Kind.DATA)
        self.lost = lost = distrust_lost_packs(self._storage, self.reader.index)
        for name in lost[:_MOST_NAMED]:
            message = "missing or cut short; what lay there is not used any more, and verify says which backups need it"
            self._problem(Problem(path=name, kind="lost", message=message, fatal=False))
        if len(lost) > _MOST_NAMED:
            message = f"{len(lost) - _MOST_NAMED} more packs are missing or cut short"
            self._problem(Problem(path="", kind="lost", message=message, fatal=False))
        return bool(lost or self._damaged) and parent is not None and not is_whole(parent.root, self.reader)

    def stays(self, parent: Commit) -> bool:
        """Whether a new backup may refer to whatever an earlier one refers to.

        Who writes under the newest generation uses nothing that a mark condemns, so neither does a parent of this
        generation. An older one may: no sweep will care for what the new backup takes from it when the parent is
        forgotten, or made void, before that sweep lists backups.

        Raises:
            StorageError.
        """
        if parent.generation >= self.generation:
            return True
        reader = self.reader
        for kind in Kind:
            reader.load_index(kind)
        condemned = reader.index.condemned
        return all(condemned.isdisjoint(reader.index.packs(kind)) for kind in Kind) or is_whole(parent.root, reader)

    def write(self) -> BlobWriter:
        """Begins to write.

        Raises:
            StorageError.
        """
        reader = self.reader
        self.writing = BlobWriter(
            self._handle,
            reader.index,
            load_index=lambda: reader.load_index(Kind.DATA),
            adopted=self._adopt(),
            cancel=self._context.cancel,
            dry_run=self._dry_run,
        )
        return self.writing

    def _adopt(self) -> list[PackRows]:
        """Packs that a run which died had stored; worth a look only when a lease was never closed."""
        if self._lease is None or not unclosed_leases(self._storage) - {self._lease.id}:
            return []
        self.reader.load_index(Kind.DATA)
        return adopt_orphans(self._storage, self._keys, self.reader.index)

    def keep(self) -> None:
        """Sees to cancellation and to the lease; to be called often.

        Raises:
            Cancelled, LeaseLost, StorageError.
        """
        self._context.cancel.check()
        if self._lease is not None:
            self._lease.keep()

    def finish(self) -> None:
        """Stores what is still open; when it returns, a commit may rely on all of it.

        Raises:
            StorageError, IntegrityError, Cancelled.
        """
        writer, rebuilt = self.writing, self.reader.rebuilt
        assert writer is not None
        if rebuilt:  # packs that no readable index names
            writer.index_also(rebuilt)
            message = f"{len(rebuilt)} packs were in no readable index; they are indexed again"
            self._problem(Problem(path="index", kind="index", message=message, fatal=False))

        def barrier() -> None:
            self._storage.flush()
            self.keep()  # an index that comes late could name packs that are gone

        writer.finish(barrier)

    def commit(self, commit: Commit) -> None:
        """Makes the backup visible.

        Raises:
            ObjectExists: another run has stored a backup of the same given id.
            RepositoryError: somebody else has taken its id.
            LeaseLost, StorageError, Cancelled.
        """
        lease, storage = self._lease, self._storage
        assert lease is not None
        lease.check()
        self._context.cancel.check()
        data = control.seal(self._keys, COMMIT, self._name, encode_commit(commit), secrecy="data")
        try:
            storage.put(self._name, [data], if_absent=self._given and storage.capabilities.conditional_put)
            storage.flush()
            lease.confirm(commit.generation)
            if not self._keys.vouches_for(self._keys.slot_id):  # whose backups give way to others of the same id
                self.catalog.refuse_stolen(self._name)
            lease.check()
        except LeaseLost:
            if not self._given:  # a tombstone would keep copies of the same backup out
                self._hide(commit)
            raise
        except ObjectExists:
            raise
        except StorageError as error:
            error.hint = (
                f"backup {commit.backup.short_id} may or may not have been stored: freezer backup list tells; "
                f"if it is there, freezer backup verify says whether it is whole. {error.hint or ''}"
            ).strip()
            raise
        if not self._set_back:
            self._handle.remember(self._name)

    def _hide(self, commit: Commit) -> None:
        """Hides what may lack something that a sweep deleted: better gone than half good."""
        if Role.MAINTAINER not in self._keys.roles:
            return
        with suppress(StorageError):  # the run has failed in any case, and says so
            protocol.write_tombstone(self._storage, self._keys, commit.backup.id, reason="lease lost")
