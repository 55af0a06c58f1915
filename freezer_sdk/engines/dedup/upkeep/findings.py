"""What a survey means: which object is to blame for what, and does it matter?"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from freezer_sdk.engines.dedup import audit, lease, records
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.deletion import FORGOTTEN
from freezer_sdk.engines.dedup.layout import INDEX, pack_name
from freezer_sdk.engines.dedup.losses import MAX_PATHS, Loss, Losses
from freezer_sdk.engines.dedup.structure import Structure
from freezer_sdk.engines.dedup.upkeep.survey import Survey
from freezer_sdk.model import Problem
from freezer_sdk.upkeep_model import Affected, Finding

_HARMLESS = (lease.PREFIX, records.PREFIX)  # damage to these is told, and keeps nothing from working
_NAMED = 3  # faults of one pack that are named
_INDEX = INDEX.rstrip("/")
_UNNEEDED = "no backup needs anything of it that is not stored elsewhere, or written down as lost"

_MOST = 50_000  # paths that are named in all: what is said of a thousand backups must still be readable


class _Paths:
    """Files by backup: some of them, and how many there are besides."""

    def __init__(self) -> None:
        self._named: dict[str, list[bytes]] = {}
        self._more: Counter[str] = Counter()
        self._left = _MOST

    def add(self, backup: str, path: bytes) -> None:
        """Names a file, or counts it."""
        named = self._named.setdefault(backup, [])
        if len(named) < MAX_PATHS and self._left:
            named.append(path)
            self._left -= 1
        else:
            self._more[backup] += 1

    def affected(self) -> tuple[Affected, ...]:
        """The same for people."""
        return tuple(affected(backup, Loss(tuple(named), self._more[backup])) for backup, named in self._named.items())


def findings(survey: Survey, losses: Losses) -> Iterator[Finding]:
    """All that a survey has found.

    Args:
        losses: what is written down; it does not count again.
    """
    yield from _about_objects(survey)
    yield from _about_backups(survey)
    blamed, known = _blamed(survey, losses)
    yield from _about_packs(survey, blamed)
    yield from _about_losses(survey, known, losses)


def lost_files(commits: Iterable[Commit], structure: Structure) -> dict[str, Loss]:
    """Which files of which backups cannot be restored."""
    found = {}
    for commit in commits:
        paths = list(dict.fromkeys(path for path, _fault in structure.affected(commit.root)))
        if paths:
            found[commit.backup.id] = Loss(tuple(paths[:MAX_PATHS]), max(0, len(paths) - MAX_PATHS))
    share = max(1, _MOST // max(1, len(found)))
    return {
        backup: Loss(loss.paths[:share], loss.more + max(0, len(loss.paths) - share)) for backup, loss in found.items()
    }


def affected(backup: str, loss: Loss) -> Affected:
    """The same for people."""
    return Affected(backup=backup, paths=tuple(os.fsdecode(path) for path in loss.paths), more=loss.more)


def _about_objects(survey: Survey) -> Iterator[Finding]:
    handle, inventory = survey.handle, survey.inventory
    commits = {item.id for item in survey.catalog.listed(with_forgotten=True, strict=False)}
    for problem in (*audit.audit(handle.storage, handle.keys), *survey.problems):
        finding = _finding(problem)
        tombstone = finding.path.removeprefix(FORGOTTEN) if finding.path.startswith(FORGOTTEN) else None
        if finding.path.startswith(_HARMLESS) or (tombstone is not None and tombstone not in commits):
            finding = replace(finding, fatal=False, message=f"{finding.message}; nothing depends on it")
        elif tombstone is not None:
            finding = replace(finding, message=f"{finding.message}; the backup is there again until it is deleted anew")
        yield finding
    needed = [rows for rows in inventory.orphans if rows.digest in survey.places.needed]
    for name, message in sorted(inventory.damaged_indexes.items()):
        rest = "" if needed else "; all packs that backups need are in other indexes"
        yield Finding(path=name, kind="damaged", message=message + rest, fatal=bool(needed))
    if needed:
        message = f"{len(needed)} packs that backups need are in no index; their own tables were read instead"
        yield Finding(path=_INDEX, kind="unindexed", message=message)


def _about_backups(survey: Survey) -> Iterator[Finding]:
    backups = survey.backups
    for item, error in backups.damaged:
        yield Finding(path=item.name, kind="damaged", message=error.message, affected=(Affected(backup=item.id),))
    for item, error in backups.remains:
        message = f"{error.message}; the backup is forgotten, and nothing depends on it"
        yield Finding(path=item.name, kind="damaged", message=message, fatal=False)
    for item in backups.void:
        message = "does not count: its writer was away for longer than the grace time, and a sweep did not see it"
        yield Finding(path=item.name, kind="void", message=message, fatal=False)
    for forged in backups.forged:
        yield Finding(path=forged.listed.name, kind="forged", message=f"does not count: {forged.why}", fatal=False)


def _about_packs(survey: Survey, blamed: dict[str, _Paths]) -> Iterator[Finding]:
    """Packs that are damaged or gone: who needs them, and whether anything in them is still to be saved."""
    risk = survey.at_risk()
    for pack, damage in sorted(survey.damaged.items()):
        name, more = pack_name(damage.kind, pack), len(damage.faults) - _NAMED
        message = "; ".join(damage.faults[:_NAMED]) + (f"; {more} more" if more > 0 else "")
        who = _affected(blamed.pop(name, None))
        if not who:
            message += "; " + (f"backups need {risk[pack]} blobs that are whole in it" if pack in risk else _UNNEEDED)
        yield Finding(path=name, kind="damaged", message=message, fatal=bool(who) or pack in risk, affected=who)
    for name in survey.missing():
        who = _affected(blamed.pop(name, None))
        message = "an index names it, and it is not there" + ("" if who else f"; {_UNNEEDED}")
        yield Finding(path=name, kind="missing", message=message, fatal=bool(who), affected=who)
    for name, paths in sorted(blamed.items()):
        kind = "missing" if name == _INDEX else "damaged"
        message = "no index says where their data lie" if kind == "missing" else "what it says makes no sense"
        who = paths.affected()
        yield Finding(path=name or who[0].backup, kind=kind, message=message, affected=who)


def _about_losses(survey: Survey, known: _Paths, losses: Losses) -> Iterator[Finding]:
    still = known.affected()
    for who in still:
        message = "files are lost, as a repair found"
        yield Finding(path=who.backup, kind="lost", message=message, fatal=False, affected=(who,))
    healed = losses.backups.keys() & {commit.backup.id for commit in survey.backups.visible}
    for backup in sorted(healed - {who.backup for who in still}):
        message = "files that a repair found lost are there again; the next repair takes them off its list"
        yield Finding(path=backup, kind="healed", message=message, fatal=False)


def _blamed(survey: Survey, losses: Losses) -> tuple[dict[str, _Paths], _Paths]:
    """Files that cannot be restored, by the object to blame; and those that are known to be lost."""
    blamed: defaultdict[str, _Paths] = defaultdict(_Paths)
    known = _Paths()
    for commit in survey.backups.visible:
        backup = commit.backup.id
        loss = losses.backups.get(backup, Loss(()))
        named, unnamed = frozenset(loss.paths), loss.more
        for path, fault in survey.structure.affected(commit.root):
            if path in named or unnamed > 0:
                unnamed -= path not in named
                known.add(backup, path)
            else:
                blamed[fault.path].add(backup, path)
    return dict(blamed), known


def _affected(paths: _Paths | None) -> tuple[Affected, ...]:
    return () if paths is None else paths.affected()


def _finding(problem: Problem) -> Finding:
    return Finding(path=problem.path, kind=problem.kind, message=problem.message, fatal=problem.fatal)
