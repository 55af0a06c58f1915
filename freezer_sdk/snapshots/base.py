"""The Snapshot contract: a provider of consistent, read-only views of volumes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from freezer_sdk.contract import Plugin
from freezer_sdk.modes.base import Stream


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Whether a provider can snapshot some paths.

    Attributes:
        possible: it can.
        reason: why, or why not, for people.
    """

    possible: bool
    reason: str


class SnapshotProvider(Plugin):
    """Makes volume snapshots."""

    @abstractmethod
    def probe(self, paths: Sequence[Path]) -> Probe:
        """Looks at the volumes below the paths; changes nothing."""

    @abstractmethod
    def create(self, paths: Sequence[Path]) -> AbstractContextManager[Mapping[Path, Path | Stream]]:
        """One consistent group of snapshots for all paths.

        Yields, for each path, a readable path or a stream with the same content as of one moment; everything
        made is removed on leaving, whatever happened.

        Raises:
            SnapshotError: could not be made, became invalid, or could not be removed.
        """

    @abstractmethod
    def reap(self) -> Sequence[str]:
        """Removes what killed runs left behind, by label prefix only; names what was removed.

        Raises:
            SnapshotError: something with our label could not be removed.
        """
