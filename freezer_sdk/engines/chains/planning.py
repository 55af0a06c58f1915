"""What a run is going to write: which level, on top of what, encrypted how, and under which name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.engines.chains.catalog import Catalog
from freezer_sdk.engines.chains.coding import NONE, OPENSSL, SEALED, StoredLevel
from freezer_sdk.engines.chains.layout import DATA, LAST_TIME, LevelId
from freezer_sdk.engines.chains.layout import SEALED as SEALED_FOLDER
from freezer_sdk.engines.chains.settings import AUTO
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import IntegrityError, ObjectNotFound, UnsupportedFormat
from freezer_sdk.policy.levels import LevelPolicy, LevelRun, next_level

_CLOCK_OFF: Final = 60  # seconds that a backup may be later than its clock says, before that is told

Warn = Callable[[str, str], None]
"""Is told of what the user should know: a kind of problem, and a message."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is going to be written.

    Attributes:
        state: of the base; ``None`` for level 0.
        chain, parent: ids of the chain's level 0 and of the base; ``None`` for level 0.
    """

    level: LevelId
    cipher: str
    state: bytes | None = None
    chain: str | None = None
    parent: str | None = None


class Planner:
    """Makes the plan of one run.

    Args:
        catalog: of this series at least.
        start: when the run began, in seconds since 1970.
        warn: called for what is not as the user may think.
    """

    def __init__(self, store: Store, catalog: Catalog, series: str, *, start: int, warn: Warn) -> None:
        self._store = store
        self._catalog = catalog
        self._series = series
        self._start = start
        self._warn = warn
        exchange = store.codec.folder
        self._levels = tuple(
            level
            for level in catalog.levels
            if level.series == series and level.folder in (exchange, exchange + SEALED_FOLDER)
        )

    def plan(self, policy: LevelPolicy) -> Plan:
        """The plan; where the newest chain cannot be continued, a new one begins, and that is told.

        Raises:
            WrongPassword: the chain is encrypted with another one.
            StorageError.
        """
        cipher = self._cipher()
        if cipher == SEALED and self._store.marker is None:
            self._try_password()
        folder = self._store.codec.folder + (SEALED_FOLDER if cipher == SEALED else "")
        runs = [LevelRun(chain=e.chain, level=e.level, time=e.time) for e in self._levels if e.folder == folder]
        decision = next_level(runs, policy, now=self._start)
        if decision.base is not None:
            run = decision.base
            base = LevelId(folder=folder, series=self._series, chain=run.chain, level=run.level, time=run.time)
            try:
                return self._increment(base, cipher, decision.level)
            except (IntegrityError, UnsupportedFormat) as error:
                self._warn("chain", f"a new chain begins, as the last one cannot be continued: {error.message}")
        return Plan(level=self._free_place(folder), cipher=cipher)

    def _increment(self, base: LevelId, cipher: str, number: int) -> Plan:
        """Raises IntegrityError or UnsupportedFormat where an increment could not be restored."""
        needed = [self._store.coding.stream(level) for level in self._catalog.chain(base).needed(base)]
        for each in needed:
            if each.cipher != cipher:
                raise UnsupportedFormat(f"{each.id.path} is encrypted in another way, or not at all")
            self._look_at(each)
        needed[-1].unlock()
        state = needed[-1].state()
        if not state:
            raise IntegrityError(f"{base.engine_metadata} is missing or empty")
        self._store.codec.check_state(state)
        return Plan(
            level=self._free_place(base.folder, chain=base.chain, number=number),
            cipher=cipher,
            state=state,
            chain=needed[0].backup_id,
            parent=needed[-1].backup_id,
        )

    def _look_at(self, stored: StoredLevel) -> None:
        """An increment to what is lost would be lost too."""
        storage = self._store.storage
        try:
            size = storage.stat(stored.id.data).size
        except ObjectNotFound:
            raise IntegrityError(f"{stored.id.data} is missing") from None
        _ = stored.compression  # raises where nothing tells it
        record = stored.record
        unknown = size == 0 and storage.capabilities.segmented_uploads  # joined segments need not have a size
        if record is not None and size != record.data.size and not unknown:
            raise IntegrityError(f"{stored.id.data} has {size} bytes instead of {record.data.size}")

    def _cipher(self) -> str:
        """How the level is encrypted: as asked for, else as the series is, else as the store is."""
        keys, marker, wanted = self._store.keys, self._store.marker, self._store.settings.cipher
        before = self._cipher_before()
        default = NONE if marker is None else marker.cipher
        if not keys.offered and (default, before) == (NONE, NONE):
            return NONE
        if default != NONE:
            keys.text()  # without one, this store takes no backups
        if not keys.given:
            self._warn("cipher", "it is not encrypted, while the one before was: there is no password")
            return NONE
        if wanted != AUTO:
            return wanted
        if self._levels:
            return SEALED if self._levels[-1].sealed else OPENSSL
        return SEALED if default == NONE else default

    def _try_password(self) -> None:
        """All of a series is sealed with one password; a store of the original has nothing that tells which.

        Raises:
            WrongPassword, StorageError.
        """
        sealed = [each for each in self._levels if each.sealed]
        if sealed:
            with suppress(IntegrityError):
                self._store.coding.record(sealed[-1])

    def _cipher_before(self) -> str:
        if not self._levels:
            return NONE
        try:
            return self._store.coding.stream(self._levels[-1]).cipher
        except IntegrityError:
            return NONE

    def _free_place(self, folder: str, *, chain: int | None = None, number: int = 0) -> LevelId:
        """Later than every backup of the series, so that the newest one is told by it whatever the clock says."""
        moment = max([self._start, *(level.time + 1 for level in self._levels)])
        if moment > LAST_TIME:
            raise IntegrityError(
                f"{self._levels[-1].path} lies at the end of all time: nothing can come after it",
                hint="no clock wrote that: remove the level, or give the backup another name",
            )
        if moment - self._start > _CLOCK_OFF:
            when = datetime.fromtimestamp(moment, UTC)
            self._warn("clock", f"earlier backups lie in the future; this one is recorded as of {when:%F %T} UTC")
        while True:
            start = moment if chain is None else chain
            level = LevelId(folder=folder, series=self._series, chain=start, level=number, time=moment)
            if not self._taken(level):
                return level
            moment += 1

    def _taken(self, level: LevelId) -> bool:
        """Something lies there: of a run of the original, which may be at work, or what a listing did not show yet."""
        storage = self._store.storage
        prefix = f"{DATA}/{level.folder}/{level.series}/{level.chain}/"
        listed = storage.list(prefix, delimiter="/")
        if any(item.name.rstrip("/").endswith(f"_{level.time}") for item in listed):
            return True
        return any(self._exists(name) for name in (level.metadata, level.data))

    def _exists(self, name: str) -> bool:
        try:
            self._store.storage.stat(name)
        except ObjectNotFound:
            return False
        return True
