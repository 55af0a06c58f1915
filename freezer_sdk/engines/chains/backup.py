"""A backup run, in the order of writes that makes every crash harmless.

``started`` says that what follows is ours; then the stream, ``engine_metadata`` and the record; then a barrier; then
``metadata``, which makes the level count. What a dead run leaves is removed by the next run of the series.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.catalog import Catalog
from freezer_sdk.engines.chains.codec import Written
from freezer_sdk.engines.chains.coding import NONE
from freezer_sdk.engines.chains.encoding import StreamWriter
from freezer_sdk.engines.chains.layout import series_name
from freezer_sdk.engines.chains.lock import SeriesLock
from freezer_sdk.engines.chains.planning import Plan, Planner
from freezer_sdk.engines.chains.record import MAX_PROBLEMS, Record, Stored
from freezer_sdk.engines.chains.removal import mark_started, remove_level, tidy
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.files.unread import CUT
from freezer_sdk.model import Backup, BackupOptions, Buffer, Event, Problem, Status
from freezer_sdk.modes.base import Protected
from freezer_sdk.policy.levels import LevelPolicy

_EVENT_EVERY: Final = 0.1  # seconds
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_log = logging.getLogger("freezer_sdk")


class BackupRun:
    """One run. Call :meth:`run` once.

    Raises:
        ConfigurationError: the options cannot be meant here.
    """

    def __init__(self, store: Store, options: BackupOptions, context: Context) -> None:
        if options.id is not None and not _ID.fullmatch(options.id):
            raise ConfigurationError(f"{options.id!r} is no id of a backup", hint="32 hexadecimal digits in lower case")
        if options.time is not None and options.time.tzinfo is None:
            raise ConfigurationError("the time of a backup needs a zone")
        if options.parent is not None:
            raise ConfigurationError(
                f"the engine {store.engine} chooses itself what a backup builds upon",
                hint="leave the parent out; the strategy full begins a new chain",
            )
        self._store, self._storage = store, store.storage
        self._options, self._context = options, context
        self._series = series_name(options.host, options.name)
        self._id = options.id or uuid.uuid4().hex
        self._start = (options.time or datetime.now(UTC)).astimezone(UTC)
        self._began = time.monotonic()
        self._problems: list[Problem] = []
        self._count_problems, self._fatal = 0, False
        self._next_event = 0.0

    def run(self, protected: Protected) -> Backup:
        """Stores the sources as one level.

        Raises:
            ConfigurationError: they cannot be stored so.
            RepositoryLocked: another run is at work on this series.
            SourceError, StorageError, RepositoryError, Cancelled: nothing was committed.
        """
        folder = self._store.codec.folder
        if self._options.dry_run:
            return self._rehearse(protected, self._plan(Catalog.read(self._storage, folder, series=self._series)))
        with SeriesLock(self._storage, folder, self._series, cancel=self._context.cancel) as lock:
            catalog = Catalog.read(self._storage, folder, series=self._series)
            for level in tidy(self._storage, catalog, folder, self._series):
                self._warn("interrupted", f"what an interrupted run left was removed: {level.path}")
            plan = self._plan(catalog)
            try:
                return self._write(protected, plan, lock)
            except BaseException:
                self._abort(plan)
                raise

    def _plan(self, catalog: Catalog) -> Plan:
        # an increment reads only what looks changed
        policy = LevelPolicy() if self._options.force_read else self._store.settings.levels
        start = int(self._start.timestamp())
        return Planner(self._store, catalog, self._series, start=start, warn=self._warn).plan(policy)

    # -- writing -------------------------------------------------------------------------------------------

    def _write(self, protected: Protected, plan: Plan, lock: SeriesLock) -> Backup:
        level, settings, coding = plan.level, self._store.settings, self._store.coding
        mark_started(self._storage, level)
        with coding.writing(
            level,
            compression=settings.compression,
            compression_level=settings.compression_level,
            cipher=plan.cipher,
        ) as writer:
            written = self._encode(protected, plan, writer)
            data = writer.commit()
        state = self._put(level.engine_metadata, self._protect(plan, "engine_metadata", written.state))
        document = self._store.codec.metadata(compression=settings.compression, encrypted=plan.cipher != NONE)
        metadata = json.dumps({**document, **written.document}).encode()
        backup = self._backup(protected, plan, written, writer)
        record = Record(
            backup=backup,
            data=data,
            state=state,
            metadata=_stored(metadata),
            raw_size=writer.raw_size,
            compression=settings.compression,
            cipher=plan.cipher,
        )
        self._put(level.record, self._protect(plan, "record", record.encode()))
        self._storage.flush()
        self._context.cancel.check()
        lock.check()
        self._put(level.metadata, metadata)
        self._storage.flush()
        try:
            self._storage.delete(level.started)
        except Exception:  # the backup is made; the next run removes it
            _log.debug("%s could not be removed", level.started, exc_info=True)
        return backup

    def _rehearse(self, protected: Protected, plan: Plan) -> Backup:
        settings = self._store.settings
        writer = self._store.coding.rehearsing(
            compression=settings.compression, compression_level=settings.compression_level
        )
        written = self._encode(protected, plan, writer)
        writer.commit()
        return replace(self._backup(protected, plan, written, writer), dry_run=True)

    def _encode(self, protected: Protected, plan: Plan, writer: StreamWriter) -> Written:
        def output(data: Buffer) -> None:
            self._context.cancel.check()
            writer.write(data)
            self._progress(writer)

        return self._store.codec.write(
            protected,
            level=plan.level.level,
            base=plan.state,
            output=output,
            context=self._context,
            problem=self._problem,
        )

    def _protect(self, plan: Plan, part: str, data: bytes) -> bytes:
        """File names lie in the clear only where the original must read them."""
        return self._store.coding.sealed(plan.level, part, data) if plan.level.sealed else data

    def _put(self, name: str, data: bytes) -> Stored:
        self._storage.put(name, [data])
        return _stored(data)

    def _abort(self, plan: Plan) -> None:
        try:
            remove_level(self._storage, plan.level)
        except Exception:  # the first error says more, and the next run tidies up
            _log.debug("what was written of %s could not be removed", plan.level.path, exc_info=True)

    # -- the backup ----------------------------------------------------------------------------------------

    def _backup(self, protected: Protected, plan: Plan, written: Written, writer: StreamWriter) -> Backup:
        options = self._options
        if self._count_problems > len(self._problems):
            message = f"{self._count_problems - len(self._problems)} more problems are not listed"
            self._problems.append(Problem(path="", kind=CUT, message=message, fatal=False))
        stats = replace(
            written.stats,
            added_bytes=writer.size,
            added_raw_bytes=writer.raw_size,
            duration=round(time.monotonic() - self._began, 3),
        )
        moment = plan.level.time
        return Backup(
            id=self._id,
            time=self._start if int(self._start.timestamp()) == moment else datetime.fromtimestamp(moment, UTC),
            host=options.host,
            name=options.name,
            mode=options.mode,
            engine=self._store.engine,
            status=Status.PARTIAL if self._fatal else Status.COMPLETE,
            paths=(os.fsdecode(written.root),),
            tags=options.tags,
            stats=stats,
            problems=tuple(self._problems),
            excludes=tuple(options.excludes) or tuple(protected.excludes),
            mount_points=tuple(os.fsdecode(path) for path in written.mount_points),
            facts=protected.confirmed(),
            username=options.username,
            machine_id=options.machine_id,
            program=_program(),
            parent=plan.parent,
            level=plan.level.level,
            chain=plan.chain or self._id,
        )

    # -- progress ------------------------------------------------------------------------------------------

    def _progress(self, writer: StreamWriter) -> None:
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            event = Event(kind="progress", operation="backup", bytes=writer.raw_size, added_bytes=writer.size)
            self._context.events(event)

    def _warn(self, kind: str, message: str) -> None:
        self._problem(Problem(path=self._series, kind=kind, message=message, fatal=False))

    def _problem(self, problem: Problem) -> None:
        self._count_problems += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)
        self._fatal = self._fatal or problem.fatal
        self._context.events(Event(kind="problem", operation="backup", path=problem.path, problem=problem))


def _stored(data: bytes) -> Stored:
    return Stored(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _program() -> str:
    try:
        return f"freezer-sdk {version('freezer-sdk')}"
    except PackageNotFoundError:
        return "freezer-sdk"
