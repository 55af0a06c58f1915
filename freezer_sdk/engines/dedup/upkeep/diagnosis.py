"""What is wrong with a repository, what of it can be mended, and how."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from freezer_sdk.engines.dedup import control, documents
from freezer_sdk.engines.dedup.catalog import COMMIT, Listed
from freezer_sdk.engines.dedup.copies import broken_copies
from freezer_sdk.engines.dedup.copy import Source
from freezer_sdk.engines.dedup.damage import damaged_packs
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import PackRows
from freezer_sdk.engines.dedup.layout import INDEX, Kind, backup_name, digest_of, pack_name
from freezer_sdk.engines.dedup.losses import Loss, Losses, read_losses
from freezer_sdk.engines.dedup.structure import Blob, Structure
from freezer_sdk.engines.dedup.upkeep.findings import affected, lost_files
from freezer_sdk.engines.dedup.upkeep.mending import Elsewhere, Mended, Remains, Supply
from freezer_sdk.engines.dedup.upkeep.refill import alike
from freezer_sdk.engines.dedup.upkeep.survey import Survey
from freezer_sdk.errors import RepositoryError, StorageError
from freezer_sdk.upkeep_model import RepairOptions, RepairPlan, RepairStep


class Other(NamedTuple):
    """Another repository that may have what is lost here.

    Attributes:
        opened: gives a backup of a full id.
    """

    handle: Handle
    opened: Callable[[str], Source]

    def find(self, backup: str) -> Source | None:
        """A backup; ``None``: it does not have it, or cannot be read."""
        try:
            return self.opened(backup)
        except (RepositoryError, StorageError):
            return None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is to be done.

    Attributes:
        copies: configurations and slots to write to these names.
        orphans: packs that backups need and that no index names.
        wanted: blobs to store again, and where they are to be had.
        again: backups of which files are lost, and which others have; their content is read and cut anew.
        commits: backups whose own record is damaged, and which others have.
        found, cleared: packs to be written down as damaged; and not any more.
        lost: of which backups what no step is known to bring back; known: what is written down.
        blobs: file contents that are lost.
        broken: commits that nothing gives back; hopeless: those of them that are certainly no more than garbage.
    """

    copies: Mapping[str, bytes]
    orphans: Sequence[PackRows]
    wanted: Mapping[Blob, Supply]
    again: Mapping[str, Source]
    commits: Sequence[tuple[Listed, Source]]
    found: frozenset[bytes]
    cleared: frozenset[bytes]
    losses: Losses
    known: Losses
    broken: Sequence[Listed]
    hopeless: Sequence[Listed]

    def plan(self, survey: Survey, options: RepairOptions) -> RepairPlan:
        """The same for people."""
        return RepairPlan(
            steps=tuple(self._steps(survey, options)),
            lost=tuple(affected(backup, loss) for backup, loss in self.losses.backups.items()),
            broken=tuple(item.id for item in self.broken),
            damaged=tuple(sorted(damage.info.name for damage in survey.damaged.values())),
        )

    @property
    def stores(self) -> bool:
        """Whether packs or indexes are to be written."""
        return bool(self.orphans or self.wanted or self.again or self.commits)

    def _steps(self, survey: Survey, options: RepairOptions) -> Iterator[RepairStep]:
        for name in self.copies:
            yield RepairStep(
                action="copy", path=name, message="damaged or missing; it is written again from its other copy"
            )
        if self.orphans:
            message = f"{len(self.orphans)} packs that backups need are in no index; they are indexed again"
            blobs = sum(len(row.ids) for rows in self.orphans for row in rows.rows)
            yield RepairStep(action="index", path=INDEX.rstrip("/"), message=message, blobs=blobs)
        yield from self._refills(survey)
        for backup, source in self.again.items():
            message = f"its lost files are read again from {source.handle.storage.location}"
            yield RepairStep(action="fetch", path=backup, message=message)
        for item, source in self.commits:
            message = f"its own record is damaged; it is copied again from {source.handle.storage.location}"
            yield RepairStep(action="commit", path=item.id, message=message)
        for pack in sorted(self.found):
            message = "damaged: new backups rely on nothing in it from now on"
            yield RepairStep(action="mark", path=_name(survey, pack), message=message)
        for pack in sorted(self.cleared):
            yield RepairStep(action="mark", path=_name(survey, pack), message="not damaged any more, or gone")
        yield from self._records()
        if options.forget_broken:
            for item in self.hopeless:
                message = "its own record cannot be read any more: it is forgotten"
                yield RepairStep(action="forget", path=item.id, message=message)

    def _refills(self, survey: Survey) -> Iterator[RepairStep]:
        packs: defaultdict[str, list[int]] = defaultdict(list)
        others: defaultdict[str, list[int]] = defaultdict(list)
        for (kind, blob), supply in self.wanted.items():
            size = supply.size(kind, blob) or 0
            if isinstance(supply, Remains):
                packs[pack_name(kind, supply.places[kind, blob].pack)].append(size)
            else:
                others[supply.title].append(size)
        for name, sizes in sorted(packs.items()):
            message = "damaged; what is whole in it, and nowhere else, is stored again"
            yield RepairStep(action="salvage", path=name, message=message, blobs=len(sizes), size=sum(sizes))
        for title, sizes in sorted(others.items()):
            message = "what is lost here is fetched from there"
            yield RepairStep(action="fetch", path=title, message=message, blobs=len(sizes), size=sum(sizes))

    def _records(self) -> Iterator[RepairStep]:
        for backup, loss in sorted(self.losses.backups.items()):
            if self.known.backups.get(backup) != loss and backup not in self.again:
                count = len(loss.paths) + loss.more
                message = f"{count} files or directories are lost; they are written down, and the backup is partial"
                yield RepairStep(action="record", path=backup, message=message)
        for backup in sorted(self.known.backups.keys() - self.losses.backups.keys()):
            yield RepairStep(action="record", path=backup, message="nothing that was written down as lost is lost")


def examine(survey: Survey, options: RepairOptions) -> None:
    """Looks for damage where it shows, where it was found before, or in every byte.

    Raises:
        AccessDenied, StorageError, Cancelled.
    """
    survey.load()
    suspects = damaged_packs(survey.handle.storage, survey.handle.keys)
    suspects |= frozenset(digest_of(name) or b"" for name in options.damaged)
    read = [pack for pack in survey.packs if options.read_data or digest_of(pack[1].name) in suspects]
    survey.read_whole(read)
    names = {info.name for _kind, info in read}
    survey.look_at([pack for pack in survey.packs if pack[1].name not in names])
    survey.walk()


def diagnose(survey: Survey, others: Sequence[Other]) -> Diagnosis:
    """What is to be done about what a survey has found.

    Args:
        others: in the order in which they are asked.

    Raises:
        StorageError, Cancelled.
    """
    storage, keys = survey.handle.storage, survey.handle.keys
    remains = Remains(survey)
    near = [other for other in others if alike(survey.handle, other.handle)]
    far = [other for other in others if not alike(survey.handle, other.handle)]
    mended = Mended(
        survey.reader,
        survey.inventory.sizes,
        {pack: damage.good for pack, damage in survey.damaged.items()},
        [remains, *(Elsewhere(other.handle) for other in near)],
    )
    structure = Structure(mended, survey.tick)
    for commit in survey.backups.visible:
        structure.whole(commit.root)
    wanted = mended.wanted | {each: remains for each in remains.places if not survey.has_whole(*each)}
    lost = lost_files(survey.backups.visible, structure)
    present = {digest_of(info.name) for _kind, info in survey.packs}
    recorded = damaged_packs(storage, keys)
    commits = [
        (item, source) for item, _error in survey.backups.damaged for source in _whole_backup(survey, item, others)
    ]
    mendable = {item.name for item, _source in commits}
    broken = [item for item, _error in survey.backups.damaged if item.name not in mendable]
    return Diagnosis(
        copies=broken_copies(storage, keys),
        orphans=[rows for rows in survey.inventory.orphans if rows.digest in mended.needed],
        wanted=wanted,
        again=dict(_again(lost, far)),
        commits=commits,
        found=frozenset(survey.damaged) - recorded,
        cleared=frozenset(pack for pack in recorded if pack in survey.read or pack not in present),
        losses=Losses(lost, frozenset(blob for kind, blob in mended.lost if kind is Kind.DATA)),
        known=read_losses(storage, keys),
        broken=broken,
        hopeless=[item for item in broken if _is_garbage(survey.handle, item)],
    )


def _again(lost: Mapping[str, Loss], far: Sequence[Other]) -> Iterator[tuple[str, Source]]:
    for backup in lost:
        source = next((found for other in far if (found := other.find(backup)) is not None), None)
        if source is not None:
            yield backup, source


def _whole_backup(survey: Survey, item: Listed, others: Sequence[Other]) -> Iterator[Source]:
    """The first repository that has a backup whose own record is damaged here."""
    if not _is_garbage(survey.handle, item):
        return
    for other in others:
        source = other.find(item.id)
        if source is not None and backup_name(source.commit.backup.time, item.id) == item.name:
            yield source
            return


def _is_garbage(handle: Handle, item: Listed) -> bool:
    """Whether a commit object is certainly no more than that: nothing of a newer program, or of a newer key."""
    try:
        data = documents.read_bounded(handle.storage, item.name, control.MAX_OBJECT)
    except RepositoryError:
        return True
    return data is not None and control.is_garbage(handle.keys, COMMIT, item.name, data)


def _name(survey: Survey, pack: bytes) -> str:
    kind = next((kind for kind, packs in survey.inventory.packs.items() if pack in packs), Kind.DATA)
    return pack_name(kind, pack)
