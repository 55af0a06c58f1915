"""The Snapshot contract: a provider of consistent, read-only views of volumes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from freezer_sdk.contract import Plugin
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.options import Option

COMMON_OPTIONS = (
    Option(
        name="label_prefix",
        default="freezer",
        help="What the names of all that is made begin with; only what bears it is ever removed.",
    ),
)
"""What every provider declares among its options, first; see :mod:`freezer_sdk.snapshots.label`."""


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
    """Makes volume snapshots.

    Attributes:
        preference: where it stands in the row of those that are asked when the user names none, lowest first; ``None``:
            it must be named, because it costs something that nobody expects.
    """

    preference: ClassVar[int | None] = 100

    @abstractmethod
    def probe(self, paths: Sequence[Path]) -> Probe:
        """Looks at the volumes below the paths; changes nothing."""

    @abstractmethod
    def create(self, paths: Sequence[Path]) -> AbstractContextManager[SnapshotGroup]:
        """One consistent group of snapshots for all paths.

        The call may look around, and changes nothing; entering the context makes the snapshots, while an application
        may be waiting for it; everything made is removed on leaving, whatever happened. All that is made bears a name
        of :mod:`freezer_sdk.snapshots.label`, so that :meth:`reap` finds it even when this process is killed between
        two steps.

        Args:
            paths: absolute.

        Raises:
            SnapshotError: could not be made or could not be removed.
        """

    @abstractmethod
    def reap(self) -> Sequence[str]:
        """Removes what killed runs left behind; names what was removed.

        Touches nothing but what bears our label, and of that nothing whose process is still there.

        Raises:
            SnapshotError: something with our label could not be removed.
        """
