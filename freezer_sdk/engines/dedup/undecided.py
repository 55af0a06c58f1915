"""Backups of which a sweep that is under way may still say that they came too late."""

from __future__ import annotations

from collections.abc import Mapping

from freezer_sdk.engines.dedup.deletion import read_sweeps
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.unlisted import find_object
from freezer_sdk.errors import RepositoryError
from freezer_sdk.storages.base import Storage


def refuse_undecided(storage: Storage, keys: KeyRing, backup: str, commits: Mapping[str, int]) -> None:
    """Refuses to take a backup for stored while nobody can know whether it counts.

    A sweep knows every commit that was there when it was announced. One that came later is void when the sweep decides,
    unless its writer knew the generation.

    Args:
        backup: its id.
        commits: by the name of each commit object of it the generation that it says.

    Raises:
        RepositoryError: a sweep was announced, and has not decided.
        StorageError.
    """
    sweeps, capabilities = read_sweeps(storage, keys), storage.capabilities
    slack = capabilities.listing_lag + capabilities.clock_resolution
    for name, generation in commits.items():
        known = {decision.generation for decision in sweeps.decisions if name in decision.alive}
        begun = [
            each.stored
            for each in sweeps.announcements
            if each.generation > generation and each.generation not in known
        ]
        info = find_object(storage, name) if begun else None
        if info is not None and info.modified + slack >= min(begun):
            raise RepositoryError(
                f"backup {backup[:8]} was stored while maintenance swept: it is not known yet whether it counts",
                hint="try again when freezer repository prune has ended",
            )
