"""What a storage holds, and what it answers to a call: values that never change."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from model.virtual import BASE

from freezer_sdk.errors import ObjectExists, ObjectNotFound
from freezer_sdk.storages.base import ObjectInfo

COMMITS = ("backups/", "forgotten/", "sweeps/")
BLOBS = ("packs/", "meta/")


class Call(NamedTuple):
    """A call of a storage.

    Attributes:
        name: of the object; the prefix for ``list``; ``""`` where there is none.
        content: of a ``put``.
        rest: other arguments.
    """

    method: str
    name: str = ""
    content: bytes = b""
    rest: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {short(self.name)}".strip()


BEGIN = Call("begin")
"""Before all others: when a program begins is something that it knows."""


def short(name: str) -> str:
    """A name in which long numbers are cut."""
    parts = [part if len(part) < 20 else _cut(part) for part in name.split("/")]
    return "/".join(parts)


def _cut(part: str) -> str:
    head, dash, tail = part.rpartition("-")
    return f"{head}{dash}{tail[:6]}" if len(tail) > 20 else part.lstrip("0").rjust(2, "0")


class Entry(NamedTuple):
    """A stored object.

    Attributes:
        number: the same for the same name, content and time.
        code: random bits that stand for it.
    """

    number: int
    code: int
    info: ObjectInfo
    content: bytes
    stored: int


class Entries:
    """All objects that ever were in any state."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes, int], Entry] = {}

    def entry(self, name: str, content: bytes, moment: int) -> Entry:
        """The entry of an object that was stored at a moment."""
        key = (name, content, moment)
        found = self._known.get(key)
        if found is None:
            digest = hashlib.blake2b(name.encode() + b"\0" + content + b"\0%d" % moment, digest_size=16).digest()
            info = ObjectInfo(name=name, size=len(content), modified=time_of(moment))
            found = Entry(len(self._known), int.from_bytes(digest), info, content, moment)
            self._known[key] = found
        return found


def time_of(moment: int) -> datetime:
    """By the storage's clock."""
    return BASE + timedelta(seconds=moment)


class Answer(NamedTuple):
    """What a call gives.

    Attributes:
        key: equal for equal answers.
        value: what is returned, or an error that is raised.
    """

    key: Any
    value: Any


class Contents:
    """The objects of a storage; never changed.

    Attributes:
        digest: of all of it. commits: of what says which backups count. blobs: of packs. index: of indexes.
    """

    __slots__ = ("_lists", "blobs", "commits", "digest", "entries", "index", "objects")

    def __init__(self, entries: Entries, objects: dict[str, Entry]) -> None:
        self.entries, self.objects = entries, objects
        self.digest = self.commits = self.blobs = self.index = 0
        self._lists: dict[tuple[str, int | None], Answer] = {}
        for entry in objects.values():
            self._toggle(entry)

    def _toggle(self, entry: Entry) -> None:
        name = entry.info.name
        self.digest ^= entry.code
        if name.startswith(COMMITS):
            self.commits ^= entry.code
        elif name.startswith(BLOBS):
            self.blobs ^= entry.code
        elif name.startswith("index/"):
            self.index ^= entry.code

    def _changed(self, name: str, entry: Entry | None) -> Contents:
        new = Contents.__new__(Contents)
        new.entries, new.objects = self.entries, self.objects.copy()
        new.digest, new.commits, new.blobs, new.index = self.digest, self.commits, self.blobs, self.index
        new._lists = {}
        old = new.objects.pop(name, None)
        if old is not None:
            new._toggle(old)
        if entry is not None:
            new.objects[name] = entry
            new._toggle(entry)
        return new

    def do(self, call: Call, moment: int, *, lag: int = 0) -> tuple[Contents, Answer]:
        """Carries out a call.

        Args:
            moment: by the storage's clock.
            lag: a listing misses what was stored less than so many seconds ago.
        """
        match call.method:
            case "put":
                if call.rest[0] and call.name in self.objects:
                    return self, Answer("exists", ObjectExists(f"{call.name} exists"))
                entry = self.entries.entry(call.name, call.content, moment)
                return self._changed(call.name, entry), Answer(entry.number, entry.info)
            case "delete":
                return (self._changed(call.name, None) if call.name in self.objects else self), Answer(None, None)
            case "get" | "stat":
                found = self.objects.get(call.name)
                if found is None:
                    return self, Answer("missing", ObjectNotFound(f"there is no {call.name}"))
                return self, Answer(found.number, found.info if call.method == "stat" else found.content)
            case "list":
                return self, self._list(call.name, moment - lag if lag else None)
            case "now":
                return self, Answer(moment, time_of(moment))
            case _:
                return self, Answer(None, None)

    def _list(self, prefix: str, newest: int | None) -> Answer:
        known = self._lists.get((prefix, newest))
        if known is None:
            names = sorted(name for name in self.objects if name.startswith(prefix))
            listed = [self.objects[name] for name in names]
            if newest is not None:
                listed = [entry for entry in listed if entry.stored <= newest]
            known = Answer(tuple(entry.number for entry in listed), tuple(entry.info for entry in listed))
            self._lists[prefix, newest] = known
        return known
