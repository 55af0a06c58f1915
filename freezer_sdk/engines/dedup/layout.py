"""Names of the objects of a repository, and the limits that readers check before they take memory."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import IntEnum

PACKS = "packs/"
META = "meta/"
INDEX = "index/"
BACKUPS = "backups/"

HEX = re.compile(r"[0-9a-f]{64}\Z")
_ID = re.compile(r"[0-9a-f]{32}\Z")
_BACKUP = re.compile(r"backups/(\d{8}T\d{6}\.\d{3}Z)-([0-9a-f]{32})\Z", re.ASCII)
_DIGEST = re.compile(r"(?:index/|(?:packs|meta)/([0-9a-f]{2})/(?=\1))([0-9a-f]{64})\Z")

MAX_BLOB = 16 << 20
MAX_SEGMENT = 32 << 20
MAX_BLOBS_IN_SEGMENT = 1 << 20
MAX_TABLE = 256 << 20


class Kind(IntEnum):
    """What a blob, and so a segment and a pack, holds."""

    DATA = 1
    META = 2

    @property
    def prefix(self) -> str:
        """Where packs of the kind lie."""
        return PACKS if self is Kind.DATA else META


def pack_name(kind: Kind, digest: bytes) -> str:
    """``packs/<2 hex>/<64 hex>`` or ``meta/...``."""
    text = digest.hex()
    return f"{kind.prefix}{text[:2]}/{text}"


def index_name(digest: bytes) -> str:
    """``index/<64 hex>``."""
    return INDEX + digest.hex()


def backup_name(time: datetime, backup_id: str) -> str:
    """``backups/<time>-<id>``, with milliseconds in UTC."""
    utc = time.astimezone(UTC)
    return f"{BACKUPS}{utc.year:04d}{utc:%m%dT%H%M%S}.{utc.microsecond // 1000:03d}Z-{backup_id}"


def is_backup_id(text: str) -> bool:
    """Whether it is 32 hexadecimal digits in lower case."""
    return bool(_ID.match(text))


def parse_backup_name(name: str) -> tuple[datetime, str] | None:
    """Time and id, or ``None`` for something else."""
    match = _BACKUP.match(name)
    if not match:
        return None
    try:
        time = datetime.strptime(match[1], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return time, match[2]


def digest_of(name: str) -> bytes | None:
    """The SHA-256 that a pack or an index is named by, or ``None`` for any other name, whatever it ends in."""
    match = _DIGEST.match(name)
    return bytes.fromhex(match[2]) if match else None
