"""Writers and deletion at the same time: the names of the protocol in one place.

A writer: :class:`Lease`, then :func:`read_marks` and :func:`read_sweeps`, packs, index, ``lease.check()``, commit,
``lease.confirm()``, ``lease.close()``. What is forged, damaged or signed by somebody who may not is passed over and
reported, never obeyed.
"""

from __future__ import annotations

from freezer_sdk.engines.dedup.deletion import (
    Decision,
    Mark,
    Marks,
    Sweeps,
    Tombstones,
    announce,
    decide,
    forgotten,
    is_forgotten,
    next_generation,
    read_marks,
    read_sweeps,
    read_tombstones,
    write_mark,
    write_tombstone,
)
from freezer_sdk.engines.dedup.lease import Lease, Leases, LeaseState, read_leases

__all__ = [
    "Decision",
    "Lease",
    "LeaseState",
    "Leases",
    "Mark",
    "Marks",
    "Sweeps",
    "Tombstones",
    "announce",
    "decide",
    "forgotten",
    "is_forgotten",
    "next_generation",
    "read_leases",
    "read_marks",
    "read_sweeps",
    "read_tombstones",
    "write_mark",
    "write_tombstone",
]
