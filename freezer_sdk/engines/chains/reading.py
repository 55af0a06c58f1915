"""A backup, opened: the password is tried on every level that it needs, then its tree is put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from freezer_sdk.engines.chains.coding import StoredLevel
from freezer_sdk.engines.chains.content import ROOT, Content, Taker, holds_content
from freezer_sdk.engines.chains.findings import Findings
from freezer_sdk.engines.chains.items import sound
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.listing import Listed, faults
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import IntegrityError, UnsupportedFormat, WrongPassword
from freezer_sdk.model import Backup, Entry, EntryType, Problem
from freezer_sdk.modes.base import ProblemHandler
from freezer_sdk.storages.base import Reader
from freezer_sdk.streams.readahead import read_ahead

DOUBT: Final = "its content may be wrong: it is in a stream that is damaged, and has no check of its own"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A backup that can be read.

    Attributes:
        root: recorded absolute path of the content's ``.``.
        findings: takes what is found wrong, once each.
        doubtful: times of levels whose streams are damaged somewhere and have no check but at their end: what decodes
            of them need not be what was stored.
        layered: files have parts in several levels.
    """

    backup: Backup
    root: bytes
    content: Content
    levels: Sequence[WatchedLevel]
    findings: Findings
    doubtful: frozenset[int] = frozenset()
    layered: bool = False

    def doubts(self, entry: Entry) -> bool:
        """Whether the content of a file may be wrong though it can be read."""
        if not self.doubtful or entry.type is not EntryType.FILE or not entry.size:
            return False
        if self.content.checked(entry.path):
            return False
        return holds_content(entry, self.doubtful, layered=self.layered)


class WatchedLevel:
    """A :class:`~freezer_sdk.engines.chains.codec.LevelStream` that is decoded ahead, and can be cancelled.

    Attributes:
        ended: its stream was read to the end once; then everything about it was checked.
        opens: the password is known to be right, so that what cannot be opened any more is damaged.
    """

    def __init__(self, stream: StoredLevel, tick: Callable[[], None]) -> None:
        self._stream, self._tick = stream, tick
        self.ended = self.opens = False

    @property
    def id(self) -> LevelId:
        """Where it lies."""
        return self._stream.id

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The original's document."""
        return self._stream.metadata

    def state(self) -> bytes:
        """What the next level needs to know."""
        return self._stream.state()

    @contextmanager
    def open(self) -> Iterator[Reader]:
        """The stream from its start.

        Raises:
            WrongPassword, IntegrityError, UnsupportedFormat, StorageError: also from ``read``.
        """
        try:
            with (
                self._stream.open(compare=not self.ended) as reader,
                read_ahead(_Noting(reader, self), tick=self._tick) as ahead,
            ):
                try:
                    yield ahead
                except IntegrityError:
                    _see_the_end(ahead)
                    raise
        except WrongPassword as error:
            if self.opens:
                raise IntegrityError(error.message, hint=error.hint) from error
            raise

    def try_password(self) -> bool:
        """Reads the first bytes; whether a password opened them. Damage is left for later.

        Raises:
            WrongPassword, StorageError.
        """
        try:
            with self._stream.open() as reader:
                reader.read(1)
            return self.id.sealed or bool(self.metadata.get("encryption"))
        except (IntegrityError, UnsupportedFormat):
            return False

    def drain(self) -> None:
        """Reads the stream to its end.

        Raises:
            WrongPassword, IntegrityError, UnsupportedFormat, StorageError.
        """
        with self.open() as reader:
            while reader.read(1 << 20):
                pass


def _see_the_end(reader: Reader) -> None:
    """Only there a stream tells whether what came of it is as it was stored, wherever its content makes no sense."""
    with suppress(IntegrityError, UnsupportedFormat):
        while reader.read(1 << 20):
            pass


class _Noting:
    def __init__(self, reader: Reader, level: WatchedLevel) -> None:
        self._reader, self._level = reader, level

    def read(self, size: int = -1) -> bytes:
        data = self._reader.read(size)
        if not data:
            self._level.ended = True
        return data


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A backup whose password is known to be right, and whose levels are still to be read."""

    store: Store
    listed: Listed
    levels: Sequence[WatchedLevel]
    findings: Findings

    @property
    def root(self) -> bytes | None:
        """The recorded absolute path of the content's ``.``; ``None``: only the content tells."""
        if self.listed.record is None or self.listed.backup.stats.directories:
            return _path(self.listed)
        return None

    def read(self, taker: Taker | None = None) -> Opened:
        """Reads what the levels hold.

        Args:
            taker: of files that can be given meanwhile.

        Raises:
            IntegrityError, UnsupportedFormat: nothing at all can be read.
            StorageError, and what the taker raises.
        """
        codec, levels, tell = self.store.codec, self.levels, self.findings.add
        if taker is None:
            content = codec.content(levels, problem=tell)
        else:
            content = codec.content_taken(levels, problem=tell, taker=taker)
        _read_to_the_end(levels, self.findings)
        return Opened(
            backup=self.listed.backup,
            root=self.root or _root(self.listed, content),
            content=content,
            levels=levels,
            findings=self.findings,
            doubtful=frozenset(level.id.time for level in levels if not level.ended and not level.id.sealed),
            layered=codec.layered,
        )


def open_backup(
    store: Store,
    listed: Listed,
    *,
    tick: Callable[[], None] = lambda: None,
    told: ProblemHandler = lambda problem: None,
) -> Opened:
    """Opens what a backup needs and reads what its levels hold; contents are left for later.

    Args:
        tick: called often; what it raises ends the reading.
        told: called for what is damaged or lost, while the rest can be read.

    Raises:
        WrongPassword: no level opens with the password.
        IntegrityError, UnsupportedFormat: nothing at all can be read.
        StorageError.
    """
    return open_levels(store, listed, tick=tick, told=told).read()


def open_levels(
    store: Store,
    listed: Listed,
    *,
    tick: Callable[[], None] = lambda: None,
    told: ProblemHandler = lambda problem: None,
) -> Opening:
    """The first half of :func:`open_backup`: the streams, the password tried on each, and what is missing.

    Raises:
        WrongPassword, StorageError.
    """
    findings = Findings(told)
    for fault in faults(listed):
        findings.add(fault)
    levels = [WatchedLevel(store.coding.stream(level), tick) for level in listed.levels]
    _try_password(levels)
    return Opening(store=store, listed=listed, levels=levels, findings=findings)


def _read_to_the_end(levels: Sequence[WatchedLevel], findings: Findings) -> None:
    """Only the end of a stream tells whether all of it is right; the codec need not have come so far."""
    told = {problem.path for problem in findings.problems}
    for level in levels:
        if not level.ended and level.id.data not in told:
            try:
                level.drain()
            except (IntegrityError, UnsupportedFormat) as error:
                findings.add(Problem(path=level.id.data, kind="damaged", message=error.message))


def _try_password(levels: Sequence[WatchedLevel]) -> None:
    """A password that opens one level is right: what it does not open then is damaged."""
    refused: WrongPassword | None = None
    opens = False
    for level in levels:
        try:
            opens = level.try_password() or opens
        except WrongPassword as error:
            refused = refused or error
    if refused is not None and not opens:
        raise refused
    for level in levels:
        level.opens = refused is not None


def _root(listed: Listed, content: Content) -> bytes:
    """The recorded path of the content's root; a single file lies in its directory."""
    path = _path(listed)
    for entry in sound(content.entries(), lambda entry, error: None):
        alone = entry.path != ROOT and entry.type is not EntryType.DIRECTORY
        if alone and entry.path == path.rpartition(b"/")[2]:
            return path.rpartition(b"/")[0] or b"/"
        break
    return path


def _path(listed: Listed) -> bytes:
    return os.fsencode(listed.backup.paths[0] if listed.backup.paths else "/")
