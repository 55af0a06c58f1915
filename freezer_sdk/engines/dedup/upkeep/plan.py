"""Which packs go: pure functions over figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.layout import Kind

_SMALL: Final = 2  # packs below this part of the usual size are joined when together they fill one
_MOST_SMALL: Final = 64  # ... or when there are so many of them


class PackFigures(NamedTuple):
    """A pack that is there.

    Attributes:
        size: bytes as stored.
        needed: of these, the share that backups need.
        fixed: it stays as it is, whatever it holds.
        urgent: it should go, whatever it holds.
    """

    kind: Kind
    digest: bytes
    size: int
    needed: int
    fixed: bool = False
    urgent: bool = False

    @property
    def wasted(self) -> int:
        """Bytes that nobody needs."""
        return self.size - self.needed


@dataclass(frozen=True)
class Plan:
    """What a mark is to be about.

    Attributes:
        dead: packs of which nothing is needed.
        rewrite: packs of which something is needed, that is stored again first.
        wasted: bytes that nobody needs in packs that stay.
    """

    dead: frozenset[bytes]
    rewrite: frozenset[bytes]
    wasted: int


def choose(packs: Iterable[PackFigures], *, max_waste: float, max_rewrite: int | None, pack_size: int) -> Plan:
    """Everything that nobody needs, the packs with the most waste until little enough is left, and many small ones.

    Args:
        max_waste: share of what is stored that may be waste.
        max_rewrite: needed bytes that may be stored again.
        pack_size: the usual size of packs.
    """
    everything = sorted(packs)
    movable = [pack for pack in everything if not pack.fixed]
    dead = frozenset(pack.digest for pack in movable if not pack.needed)
    rest = [pack for pack in movable if pack.needed]
    left = max_rewrite
    chosen: set[bytes] = set()

    def take(pack: PackFigures) -> bool:
        nonlocal left
        if left is not None:
            if pack.needed > left:
                return False
            left -= pack.needed
        chosen.add(pack.digest)
        return True

    for pack in rest:
        if pack.urgent:
            take(pack)
    wasted = sum(pack.wasted for pack in everything if pack.digest not in chosen and pack.digest not in dead)
    allowed = max_waste * sum(pack.size for pack in everything if pack.digest not in dead)
    for pack in sorted(rest, key=lambda pack: (-pack.wasted / pack.size, pack.digest)):
        if wasted <= allowed or not pack.wasted:
            break
        if pack.digest not in chosen and take(pack):
            wasted -= pack.wasted
    for kind in Kind:
        small = [pack for pack in rest if pack.kind is kind and pack.size < pack_size // _SMALL]
        several = [pack for pack in small if pack.digest not in chosen]
        if len(several) > 1 and (sum(pack.needed for pack in several) >= pack_size or len(several) >= _MOST_SMALL):
            wasted -= sum(pack.wasted for pack in several if take(pack))
    return Plan(dead, frozenset(chosen), wasted)


class Due(NamedTuple):
    """What a sweep can be about.

    Attributes:
        generation: of the sweep; 0: nothing is due.
        packs: to be deleted.
        waiting: marks that may be due later.
        spent: packs of marks that no sweep will ever be about: they must be marked again.
        held_by: leases of writers that marks wait for.
    """

    generation: int
    packs: frozenset[bytes]
    waiting: tuple[protocol.Mark, ...]
    spent: frozenset[bytes]
    held_by: tuple[str, ...]


def find_due(
    marks: protocol.Marks,
    sweeps: protocol.Sweeps,
    leases: Iterable[protocol.LeaseState],
    *,
    now: datetime,
    grace: timedelta,
    slack: timedelta,
) -> Due:
    """Marks that are older than the grace time, and older than the lease of no writer that may be at work.

    A writer that knows a generation must have seen all marks up to it. So a mark counts only if it is the only one of
    its generation, if no decision of its generation or a newer one is there, and if it was stored before every newer
    one.

    Args:
        leases: but for one's own.
        now: by the storage's clock.
        slack: listing lag and resolution of the storage's clock: times that are closer count as equal.
    """
    decided = max((decision.generation for decision in sweeps.decisions), default=0)
    generations = [mark.generation for mark in marks.marks]
    due, waiting, holders = list[protocol.Mark](), list[protocol.Mark](), set[str]()
    spent: set[bytes] = set()
    for mark in marks.marks:
        newer = [other.stored for other in marks.marks if other.generation > mark.generation]
        alone = generations.count(mark.generation) == 1
        if not alone or mark.generation <= decided or any(stored <= mark.stored + slack for stored in newer):
            spent |= mark.packs
            continue
        older = {
            lease.id
            for lease in leases
            if not lease.closed and now - lease.refreshed <= grace + slack and lease.opened <= mark.stored + slack
        }
        if now - mark.stored <= grace + slack or older:
            waiting.append(mark)
            holders |= older
        else:
            due.append(mark)
    packs = frozenset().union(*(mark.packs for mark in due))
    live = frozenset().union(*(mark.packs for mark in waiting))
    return Due(
        max((mark.generation for mark in due), default=0),
        packs,
        tuple(waiting),
        frozenset(spent) - packs - live,
        tuple(sorted(holders)),
    )
