"""Files of backups that are lost for good: whoever looks at such a backup is told (repository-format, "Records")."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from freezer_sdk.engines.dedup.documents import MAX_NUMBER, Fields
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.opening import Reported
from freezer_sdk.engines.dedup.records import Record, read_records, supersede
from freezer_sdk.model import Backup, Problem, Status
from freezer_sdk.storages.base import Storage

KIND: Final = "lost"
MAX_PATHS: Final = 1000
"""So many are named for one backup."""

_MAX_PATH = 64 << 10
MAX_BLOBS: Final = 1_000_000
"""So many ids of contents are written down."""


@dataclass(frozen=True)
class Loss:
    """What of a backup is lost.

    Attributes:
        paths: absolute, raw; a directory stands for all below it.
        more: how many there are besides.
    """

    paths: tuple[bytes, ...]
    more: int = 0


@dataclass(frozen=True)
class Losses:
    """What is written down as lost.

    Attributes:
        backups: by id.
        blobs: ids of file contents that nothing can give back.
    """

    backups: Mapping[str, Loss]
    blobs: frozenset[bytes] = frozenset()


NONE: Final = Losses({})


def read_losses(storage: Storage, keys: KeyRing) -> Losses:
    """What the last repair has written down; nothing for those who may not read.

    Raises:
        StorageError.
    """
    return NONE if Role.READER not in keys.roles else _newest(read_records(storage, keys, KIND))


def write_losses(storage: Storage, keys: KeyRing, losses: Losses) -> bool:
    """Writes down what is lost, in place of what was said before; nothing when that is the same.

    Returns:
        Whether something was written.

    Raises:
        AccessDenied: the slot may not maintain; StorageError.
    """
    old = read_records(storage, keys, KIND)
    if _newest(old) == losses:
        return False
    backups = [
        {"backup": backup, "paths": [base64.b64encode(path).decode("ascii") for path in loss.paths], "more": loss.more}
        for backup, loss in sorted(losses.backups.items())
    ]
    blobs = base64.b64encode(b"".join(sorted(losses.blobs))).decode("ascii")
    supersede(storage, keys, KIND, {"backups": backups, "blobs": blobs}, old, secrecy="data")
    return True


def marked(backup: Backup, losses: Losses) -> Backup:
    """The backup as people should see it: partial, with a problem for each file that is lost."""
    loss = losses.backups.get(backup.id)
    if loss is None:
        return backup
    message = "lost: its data were damaged in the repository, and a repair found them nowhere else"
    problems = [Problem(path=os.fsdecode(path), kind="lost", message=message) for path in loss.paths]
    if loss.more:
        problems.append(Problem(path="", kind="lost", message=f"{loss.more} more files are lost"))
    return replace(backup, status=Status.PARTIAL, problems=(*backup.problems, *problems))


def _newest(records: Sequence[Record]) -> Losses:
    for record in reversed(records):
        with Reported(record.name, []):
            backups = record.facts.objects("backups", limit=MAX_NUMBER)
            return Losses(
                {each.text("backup", limit=32): _loss(each) for each in backups},
                _blobs(record.facts.base64("blobs", limit=64 << 20)),
            )
    return NONE


def _loss(fields: Fields) -> Loss:
    try:
        paths = fields.texts("paths", limit=MAX_PATHS, each=_MAX_PATH)
        return Loss(tuple(base64.b64decode(path, validate=True) for path in paths), fields.number("more"))
    except (ValueError, binascii.Error):
        fields.fail("paths")


def _blobs(joined: bytes) -> frozenset[bytes]:
    return frozenset(joined[at : at + 32] for at in range(0, len(joined) - len(joined) % 32, 32))
