"""The record of a level: what the original's metadata document has no place for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.model import Backup, BackupStats, Buffer, Problem, Status

VERSION: Final = 1
MAX_PROBLEMS: Final = 10_000
"""A record lists so many, so that it stays readable whatever goes wrong."""
MAX_SIZE: Final = 16 << 20
"""What is larger is no record."""

_DIGESTED: Final = "digest"
_OWN_DIGEST: Final = "record_sha256"  # two fields: damage cannot take both away unseen

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What an object must hold.

    Attributes:
        sha256: hexadecimal, of the stored bytes.
    """

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """A backup with what is known of its objects.

    Attributes:
        data, state, metadata: the stream, ``engine_metadata`` and the original's document.
        raw_size: of the stream before compression.
        compression: name in the original's document.
        cipher: ``none``, ``openssl`` or ``sealed``.
    """

    backup: Backup
    data: Stored
    state: Stored
    metadata: Stored
    raw_size: int
    compression: str
    cipher: str

    def encode(self) -> bytes:
        """As it is stored, before it is sealed: JSON in ASCII.

        Raises:
            ConfigurationError: something in it could not be read again.
        """
        document = {
            "version": VERSION,
            **_encode_backup(self.backup),
            "data": asdict(self.data),
            "engine_metadata": asdict(self.state),
            "metadata": asdict(self.metadata),
            "raw_size": self.raw_size,
            "compression": self.compression,
            "cipher": self.cipher,
            _DIGESTED: "sha256",
        }
        try:
            return _with_digest(json.dumps(document, allow_nan=False).encode("ascii"))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"the backup cannot be recorded: {error}") from None

    @classmethod
    def decode(cls, data: Buffer, level: LevelId) -> Record:
        """The inverse of :meth:`encode`.

        Args:
            level: where it was found; what it says of its place must be the same.

        Raises:
            IntegrityError: damaged, or of another level.
        """
        try:
            document = json.loads(bytes(data).decode("ascii"))
            if _typed(document, "version", int) != VERSION:
                raise ValueError("its version is unknown")
            if _DIGESTED in document or _OWN_DIGEST in document:  # the first releases wrote none
                _check_digest(bytes(data))
            return cls(
                backup=_decode_backup(document, level),
                data=_stored(document, "data"),
                state=_stored(document, "engine_metadata"),
                metadata=_stored(document, "metadata"),
                raw_size=_typed(document, "raw_size", int),
                compression=_typed(document, "compression", str),
                cipher=_typed(document, "cipher", str),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise IntegrityError(f"{level.record} is damaged: {error}") from None


def _with_digest(encoded: bytes) -> bytes:
    """Adds a last field: the hash of the document without it."""
    return b'%s, "%s": "%s"}' % (encoded[:-1], _OWN_DIGEST.encode(), hashlib.sha256(encoded).hexdigest().encode())


def _check_digest(data: bytes) -> None:
    start = data.rfind(b', "%s": "' % _OWN_DIGEST.encode())
    if start < 0 or _with_digest(data[:start] + b"}") != data:
        raise ValueError("it is not what was stored")


def unrecorded(level: LevelId, *, chain: LevelId, parent: LevelId | None) -> Backup:
    """What is known of a level without a record: where it lies.

    Args:
        chain: its level 0.
        parent: what it is an increment to.
    """
    host, name = level.host_and_name
    return Backup(
        id=level.default_id,
        time=datetime.fromtimestamp(level.time, UTC),
        host=host,
        name=name,
        mode="fs",
        engine=level.folder.removesuffix("-sealed"),
        status=Status.COMPLETE,
        paths=("/",),
        parent=None if parent is None else parent.default_id,
        level=level.level,
        chain=chain.default_id,
    )


def _encode_backup(backup: Backup) -> dict[str, Any]:
    """Lone surrogates, which stand for bytes that are no text, survive as escapes."""
    return {
        "id": backup.id,
        "time": backup.time.astimezone(UTC).isoformat(),
        "host": backup.host,
        "name": backup.name,
        "mode": backup.mode,
        "engine": backup.engine,
        "status": str(backup.status),
        "level": backup.level,
        "chain": backup.chain,
        "parent": backup.parent,
        "paths": list(backup.paths),
        "tags": list(backup.tags),
        "stats": asdict(backup.stats),
        "problems": [asdict(problem) for problem in backup.problems[: MAX_PROBLEMS + 1]],
        "excludes": list(backup.excludes),
        "mount_points": list(backup.mount_points),
        "facts": dict(backup.facts),
        "username": backup.username,
        "machine_id": backup.machine_id,
        "program": backup.program,
    }


def _decode_backup(document: Mapping[str, Any], level: LevelId) -> Backup:
    if _typed(document, "level", int) != level.level:
        raise ValueError("it is of another level")
    time = datetime.fromisoformat(_typed(document, "time", str))
    if time.tzinfo is None:
        raise ValueError("its time has no zone")
    backup_id, chain = _typed(document, "id", str), _typed(document, "chain", str)
    parent = document["parent"]
    for each in (backup_id, chain, backup_id if parent is None else parent):
        if not _ID.fullmatch(each):
            raise ValueError("an id in it is none")
    return Backup(
        id=backup_id,
        time=time.astimezone(UTC),
        host=_typed(document, "host", str),
        name=_typed(document, "name", str),
        mode=_typed(document, "mode", str),
        engine=_typed(document, "engine", str),
        status=Status(_typed(document, "status", str)),
        level=level.level,
        chain=chain,
        parent=parent,
        paths=_texts(document, "paths"),
        tags=_texts(document, "tags"),
        stats=_stats(_typed(document, "stats", dict)),
        problems=tuple(_problem(each) for each in _typed(document, "problems", list)),
        excludes=_texts(document, "excludes"),
        mount_points=_texts(document, "mount_points"),
        facts=_typed(document, "facts", dict),
        username=_typed(document, "username", str),
        machine_id=_typed(document, "machine_id", str),
        program=_typed(document, "program", str),
    )


def _typed(document: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = document[name]
    if type(value) is not kind:
        raise ValueError(f"field {name!r} is wrong")
    return value


def _texts(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = _typed(document, name, list)
    if not all(type(value) is str for value in values):
        raise ValueError(f"field {name!r} is wrong")
    return tuple(values)


def _stats(document: Mapping[str, Any]) -> BackupStats:
    """Unknown figures of a later release are passed over."""
    known = {field.name: type(field.default) for field in fields(BackupStats)}
    found = {name: value for name, value in document.items() if name in known}
    if any(type(value) not in (known[name], int) or value < 0 for name, value in found.items()):
        raise ValueError("field 'stats' is wrong")
    return BackupStats(**found)


def _problem(document: Any) -> Problem:
    if type(document) is not dict:
        raise ValueError("field 'problems' is wrong")
    texts = {name: _typed(document, name, str) for name in ("path", "kind", "message")}
    return Problem(**texts, fatal=_typed(document, "fatal", bool))


def _stored(document: Mapping[str, Any], name: str) -> Stored:
    found = _typed(document, name, dict)
    size, digest = _typed(found, "size", int), _typed(found, "sha256", str)
    if size < 0 or not _DIGEST.fullmatch(digest):
        raise ValueError(f"field {name!r} is wrong")
    return Stored(size=size, sha256=digest)
