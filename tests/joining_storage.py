"""A storage in memory that joins segments by what is listed when it reads, as Swift does (dynamic large objects)."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

from freezer_sdk.storages.base import check_name
from freezer_sdk.storages.memory import MemoryStorage


class JoiningStorage(MemoryStorage):
    def __init__(self, **options):
        super().__init__(**options)
        self._joined = {}

    @property
    def capabilities(self):
        return replace(super().capabilities, segmented_uploads=True)

    def join(self, name, *, segments):
        check_name(name)
        check_name(segments)
        super().put(name, [b""])
        self._joined[name] = f"{segments}/"
        return self.stat(name)

    def put(self, name, buffers, *, if_absent=False):
        info = super().put(name, buffers, if_absent=if_absent)
        self._joined.pop(name, None)
        return info

    def get(self, name, *, offset=0, length=None):
        if name not in self._joined:
            return super().get(name, offset=offset, length=length)
        content = b"".join(super(JoiningStorage, self).get(part.name) for part in self.list(self._joined[name]))
        start = max(0, len(content) + offset) if offset < 0 else offset
        return content[start:] if length is None else content[start : start + length]

    @contextlib.contextmanager
    def open(self, name):
        yield io.BytesIO(self.get(name))

    def stat(self, name):
        info = super().stat(name)
        return replace(info, size=len(self.get(name))) if name in self._joined else info

    def delete(self, name):
        super().delete(name)
        self._joined.pop(name, None)
