"""The stream of mariadb-backup on its way to ``mbstream``, which would write wherever the names in it lead.

The format (https://github.com/MariaDB/server, extra/mariabackup/xbstream.h): chunks of a magic, a byte of flags, a
type, and a path after its length; in chunks of data follow the length of the data, an offset, a checksum, and the data.
"""

from __future__ import annotations

import struct
from typing import Any

from freezer_sdk.errors import IntegrityError, UnsafePath

_MAGIC = b"XBSTCK01"
_HEAD = struct.Struct("<8sBcI")
_DATA = struct.Struct("<QQI")
_PAYLOAD, _END = b"P", b"E"
_LONGEST_PATH = 4096


class CheckedArchive:
    """Passes an archive on as long as all paths in it stay inside."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._known = bytearray()
        self._skip = 0

    def read(self, size: int) -> bytes:
        """Up to so many bytes; none at the end.

        Raises:
            UnsafePath: a path leads outside.
            IntegrityError: not an archive of this format, or it ends in the middle of a chunk.
        """
        data = bytes(self._reader.read(size))
        if data:
            self._look(memoryview(data))
        elif self._known or self._skip:
            raise IntegrityError("the stream of mariadb-backup ends in the middle of a chunk")
        return data

    def _look(self, data: memoryview) -> None:
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            wanted = self._wanted()
            step = min(wanted - len(self._known), len(data) - position)
            self._known += data[position : position + step]
            position += step
            if len(self._known) == self._wanted():
                self._chunk()

    def _wanted(self) -> int:
        """Bytes of the chunk at hand, without its data, as far as is known yet."""
        if len(self._known) < _HEAD.size:
            return _HEAD.size
        magic, _, kind, length = _HEAD.unpack_from(self._known)
        if magic != _MAGIC or kind not in (_PAYLOAD, _END) or not 0 < length <= _LONGEST_PATH:
            raise IntegrityError("this is not a stream of mariadb-backup as it is known here")
        return _HEAD.size + int(length) + (_DATA.size if kind == _PAYLOAD else 0)

    def _chunk(self) -> None:
        _, _, kind, length = _HEAD.unpack_from(self._known)
        path = bytes(self._known[_HEAD.size : _HEAD.size + length])
        parts = path.removeprefix(b"./").split(b"/")
        if path.startswith(b"/") or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
            raise UnsafePath(f"the stream of mariadb-backup names a file outside of its folder: {path!r}")
        if kind == _PAYLOAD:
            size, _, _ = _DATA.unpack_from(self._known, _HEAD.size + length)
            self._skip = size
        self._known.clear()
