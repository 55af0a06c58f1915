"""A format of levels for tests, so small that it can say whatever a test wants, and stores written in it.

A level's stream is a line of JSON (the whole tree as it is then, and what parts follow), then the parts' bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from freezer_sdk import plugins
from freezer_sdk.compressors.base import Compressor
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Codec, LevelStream, OpenSslPassword, Written
from freezer_sdk.engines.chains.coding import NONE, SEALED, Coding
from freezer_sdk.engines.chains.content import Content, Piece, stored_as
from freezer_sdk.engines.chains.keys import Keys
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.record import Record, Stored, unrecorded
from freezer_sdk.engines.chains.repository import ChainRepository
from freezer_sdk.engines.chains.settings import ChainSettings
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import FreezerError, IntegrityError
from freezer_sdk.model import JSON, Backup, Buffer, Entry, EntryType, Problem, RestoreOptions, RestoreResult
from freezer_sdk.modes.base import ProblemHandler, Protected
from freezer_sdk.policy.levels import LevelPolicy
from freezer_sdk.storages.base import Reader, Storage
from freezer_sdk.storages.memory import MemoryStorage

T0 = 1_700_000_000


def directory(path: bytes, **facts: Any) -> Entry:
    return Entry(path=path, type=EntryType.DIRECTORY, **{"mode": 0o755, **facts})


def file(path: bytes, size: int, **facts: Any) -> Entry:
    return Entry(path=path, type=EntryType.FILE, size=size, **{"mode": 0o644, "mtime_ns": 10**18, **facts})


def symlink(path: bytes, target: bytes, **facts: Any) -> Entry:
    return Entry(path=path, type=EntryType.SYMLINK, link_target=target, **facts)


@dataclass
class Part:
    path: bytes
    data: bytes
    offset: int = 0
    last: bool = True


class SmallCodec(Codec):
    """Reads what :class:`Shelf` writes; trusts everything that it reads."""

    folder: ClassVar[str] = "tar"
    compressions: ClassVar[Mapping[str, str]] = {"gzip": "zlib"}

    def write(
        self,
        protected: Protected,
        *,
        level: int,
        base: bytes | None,
        output: Callable[[Buffer], None],
        context: Context,
        problem: ProblemHandler,
    ) -> Written:
        raise AssertionError("tests write levels by themselves")

    def metadata(self, *, compression: str, encrypted: bool) -> JSON:
        return {"engine_name": "tar", "compression": compression, "encryption": encrypted}

    def content(self, levels: Sequence[LevelStream], *, problem: ProblemHandler) -> Content:
        return SmallContent(levels, problem)

    def check_state(self, state: bytes) -> None:
        pass

    def passwords(self, text: str) -> Sequence[OpenSslPassword]:
        return [OpenSslPassword(text.encode(), "sha256")]


class LayeredCodec(SmallCodec):
    """Files may have parts in several levels."""

    layered: ClassVar[bool] = True


class SmallContent(Content):
    def __init__(self, levels: Sequence[LevelStream], problem: ProblemHandler) -> None:
        self._levels, self._problem = levels, problem
        self._broken: set[LevelId] = set()
        self._tree: list[Entry] = []
        stored: dict[bytes, int] = {}
        read = 0
        for level in levels:
            try:
                with level.open() as reader:
                    head = _head(reader)
                    self._tree = [_entry(each) for each in head["tree"]]
                    stored.update((base64.b64decode(path), stored_as(level.id, 1)) for path, *_ in head["parts"])
                    while reader.read(1 << 16):
                        pass
                read += 1
            except IntegrityError as error:
                self._break(level, error)
        if not read:
            raise IntegrityError("nothing can be read")
        self._tree = [replace(entry, inode=stored.get(entry.path, 0)) for entry in self._tree]

    def _break(self, level: LevelStream, error: FreezerError) -> None:
        self._broken.add(level.id)
        self._problem(Problem(path=level.id.data, kind="damaged", message=error.message))

    def entries(self) -> Iterator[Entry]:
        yield from self._tree

    def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
        chosen = {entry.path for entry in self._tree if wanted(entry.path)}
        for level in self._levels:
            try:
                with level.open() as reader:
                    for path, offset, size, last in _head(reader)["parts"]:
                        data = _exactly(reader, size)
                        name = base64.b64decode(path)
                        if name in chosen:
                            yield Piece(name, offset, data, last)
            except IntegrityError as error:
                self._break(level, error)


def _exactly(reader: Reader, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = reader.read(size - len(data))
        if not more:
            raise IntegrityError("the stream is cut short")
        data += more
    return data


def _head(reader: Reader) -> Any:
    return json.loads(_exactly(reader, int.from_bytes(_exactly(reader, 4), "big")))


def _entry(facts: Mapping[str, Any]) -> Entry:
    made = {
        name: base64.b64decode(value[1]) if isinstance(value, list) and value[:1] == ["b"] else value
        for name, value in facts.items()
    }
    for name in ("extents", "device"):
        if made.get(name) is not None:
            made[name] = tuple(tuple(each) if isinstance(each, list) else each for each in made[name])
    return Entry(**{**made, "type": EntryType(made["type"])})


def _facts(entry: Entry) -> dict[str, Any]:
    found = {name: getattr(entry, name) for name in Entry.__dataclass_fields__ if name != "xattrs"}
    return {
        name: ["b", base64.b64encode(value).decode()] if isinstance(value, bytes) else value
        for name, value in found.items()
        if value is not None
    }


def _stored(data: bytes) -> Stored:
    return Stored(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def compressor(name: str) -> Compressor:
    return plugins.PluginRegistry().build(plugins.COMPRESSOR, name)


@dataclass
class Shelf:
    """A store that a test fills level by level."""

    storage: Storage = field(default_factory=MemoryStorage)
    password: str | None = None
    codec: Codec = field(default_factory=SmallCodec)

    def store(self, password: str | None = None) -> Store:
        given = password if password is not None else self.password
        coding = Coding(storage=self.storage, codec=self.codec, keys=Keys(lambda: given), compressor=compressor)
        return Store(engine="tar", coding=coding, settings=ChainSettings(levels=LevelPolicy(), compression="gzip"))

    def repository(self, password: str | None = None) -> ChainRepository:
        return ChainRepository(self.store(password))

    def add(self, level: int, tree: Sequence[Entry], parts: Sequence[Part] = (), *, chain: int = T0) -> LevelId:
        """Stores a level as the original would; where there is a password, sealed and with a record."""
        store = self.store()
        sealed = self.password is not None
        folder = "tar-sealed" if sealed else "tar"
        place = LevelId(folder=folder, series="host_name", chain=chain, level=level, time=chain + level)
        head = json.dumps(
            {
                "tree": [_facts(entry) for entry in tree],
                "parts": [
                    [base64.b64encode(part.path).decode(), part.offset, len(part.data), part.last] for part in parts
                ],
            }
        ).encode()
        with store.coding.writing(
            place, compression="gzip", compression_level=1, cipher=SEALED if sealed else NONE
        ) as writer:
            writer.write(len(head).to_bytes(4, "big") + head)
            for part in parts:
                writer.write(part.data)
            data = writer.commit()
        metadata = json.dumps(store.codec.metadata(compression="gzip", encrypted=sealed)).encode()
        self.storage.put(place.engine_metadata, [b""])
        if sealed:
            record = Record(
                backup=unrecorded(place, chain=replace(place, level=0, time=chain), parent=None),
                data=data,
                state=_stored(b""),
                metadata=_stored(metadata),
                raw_size=writer.raw_size,
                compression="gzip",
                cipher=SEALED,
            )
            self.storage.put(place.record, [store.coding.sealed(place, "record", record.encode())])
        self.storage.put(place.metadata, [metadata])
        return place

    def damage(self, name: str, *, at: int = -20) -> None:
        """Flips a bit of an object."""
        data = bytearray(self.storage.get(name))
        data[at] ^= 1
        self.storage.put(name, [bytes(data)])

    def backups(self) -> Sequence[Backup]:
        return self.repository().backups()

    def restore(self, target: Any, level: int = 0, *, context: Context | None = None, **options: Any) -> RestoreResult:
        """The newest backup of a level."""
        repository = self.repository()
        backup = [each for each in repository.backups() if each.level == level][-1]
        return repository.restore(backup.id, str(target), RestoreOptions(**options), context or Context())
