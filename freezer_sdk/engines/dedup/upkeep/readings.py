"""When each pack was last read whole, so that checks take turns (repository-format, "Records")."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from freezer_sdk.engines.dedup.config import parse_time, time_text
from freezer_sdk.engines.dedup.documents import MAX_NUMBER
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.opening import Reported
from freezer_sdk.engines.dedup.records import Record, read_records, supersede
from freezer_sdk.storages.base import Storage

KIND: Final = "verified"

_PREFIX = 16  # bytes of a pack's id: enough to tell packs apart, half the room
_MAX_BYTES = 64 << 20
_AHEAD = timedelta(hours=1)  # what is said to be done later than this was done by a clock that ran ahead


class Readings:
    """What maintainers wrote down about packs that they have read whole, and found whole.

    Args:
        now: by this machine's clock.
    """

    def __init__(self, records: Iterable[Record], now: datetime) -> None:
        self._records, self._now = list(records), now
        self._last: dict[bytes, tuple[datetime, bytes]] = {}
        self._changed = False
        for record in self._records:
            with Reported(record.name, []):
                for group in record.facts.objects("reads", limit=MAX_NUMBER):
                    time, slot = parse_time(group, "time"), group.hex("slot", 16)
                    self._take(group.base64("packs", limit=_MAX_BYTES), time, slot)

    @classmethod
    def load(cls, storage: Storage, keys: KeyRing, now: datetime | None = None) -> Readings:
        """All that was written down.

        Raises:
            StorageError.
        """
        return cls(read_records(storage, keys, KIND), now or datetime.now(UTC))

    def last(self, pack: bytes) -> datetime | None:
        """When a pack was last read whole; ``None``: nobody knows of it."""
        found = self._last.get(pack[:_PREFIX])
        return None if found is None else found[0]

    def note(self, packs: Iterable[bytes], slot: bytes) -> None:
        """These were read whole now."""
        for pack in packs:
            self._last[pack[:_PREFIX]] = self._now, slot
            self._changed = True

    def drop(self, packs: Iterable[bytes]) -> None:
        """These were found damaged."""
        for pack in packs:
            self._changed = self._last.pop(pack[:_PREFIX], None) is not None or self._changed

    def store(self, storage: Storage, keys: KeyRing, present: Iterable[bytes]) -> None:
        """Writes down what is new, in one record that takes the place of all older ones.

        Args:
            present: packs that there are: nothing else is kept.

        Raises:
            AccessDenied: the slot may not maintain; StorageError.
        """
        if not self._changed:
            return
        there = {pack[:_PREFIX] for pack in present}
        groups: defaultdict[tuple[datetime, bytes], list[bytes]] = defaultdict(list)
        for pack, group in self._last.items():
            if pack in there:
                groups[group].append(pack)
        reads = [
            {
                "time": time_text(time),
                "slot": slot.hex(),
                "packs": base64.b64encode(b"".join(sorted(packs))).decode("ascii"),
            }
            for (time, slot), packs in sorted(groups.items())
        ]
        supersede(storage, keys, KIND, {"reads": reads}, self._records)

    def _take(self, joined: bytes, time: datetime, slot: bytes) -> None:
        if time > self._now + _AHEAD:
            return
        for at in range(0, len(joined) - len(joined) % _PREFIX, _PREFIX):
            pack = joined[at : at + _PREFIX]
            known = self._last.get(pack)
            if known is None or known[0] < time:
                self._last[pack] = time, slot
