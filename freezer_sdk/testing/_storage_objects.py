"""Storage suite, part one: single objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import (
    CapabilityMissing,
    ConfigurationError,
    FreezerError,
    InvalidName,
    ObjectExists,
    ObjectNotFound,
)
from freezer_sdk.model import Buffer
from freezer_sdk.options import Option
from freezer_sdk.storages.base import ObjectInfo
from freezer_sdk.testing._storage_case import StorageCase
from freezer_sdk.testing.suite import SuiteFailure, check, check_equal, refused

ODD_NAMES = (
    "with blank",
    " leading and trailing ",
    "{braces}",
    "brackets[0-9]*?",
    "new\nline",
    "tab\tand\x01control\x7f",
    "back\\slash",
    "per%20cent%2F",
    "plus+and&equals=",
    "hash#query?",
    "quote'double\"",
    "semi;colon:comma,",
    "umlaut-äöü",
    "umlaut-a\u0308",
    "日本語",
    "emoji-\U0001f4be",
    "-leading-dash",
    ".hidden",
    "...",
    "trailing.",
    "~tilde",
    "UPPER",
    "upper",
    "CON",
    "deep/er/and/deeper/still/x",
)
BAD_NAMES = ("", ".", "..", "/abs", "a//b", "a/", "a/./b", "a/../b", "../a", "nul\0", "bad\udcff", "x" * 1025)


class ObjectTests(StorageCase):
    """Putting, reading, replacing and deleting single objects."""

    def test_declares_itself(self) -> None:
        """Class attributes and capabilities make sense."""
        kind = type(self.storage)
        check_equal(kind.api_version, API_VERSION, "api_version")
        check(kind.name and kind.summary and "\n" not in kind.summary, "name and a summary of one line are needed")
        check(all(isinstance(option, Option) for option in kind.options), "options must be Option objects")
        check_equal(kind.available(), None, "available() here")
        check(self.storage.max_parallel >= 1, "max_parallel must be at least 1")
        check(self.capabilities.listing_lag >= timedelta(0), "listing_lag is negative")
        check(self.capabilities.clock_resolution >= timedelta(0), "clock_resolution is negative")

    def test_location_is_a_url_of_its_own(self) -> None:
        """parse_url takes it, and refuses what is none of this storage's."""
        kind = type(self.storage)
        known = {option.name for option in kind.options}
        check(set(kind.parse_url(self.storage.location)) <= known, "parse_url gives options that are not declared")
        for url in ("", "no-such-scheme:/x", "://"):
            with refused(ConfigurationError, what=f"parse_url({url!r})"):
                kind.parse_url(url)

    def test_put_and_get(self) -> None:
        """What was put comes back, in whatever pieces it was given."""
        pieces: list[Buffer] = [
            b"bytes",
            bytearray(b"bytearray"),
            memoryview(b"<<memoryview>>")[2:-2],
            b"",
            memoryview(b""),
            b"end",
        ]
        self.storage.put(self.key("pieces"), pieces)
        check_equal(self.storage.get(self.key("pieces")), b"bytesbytearraymemoryviewend", "content")

    def test_put_takes_buffers_of_wider_items(self) -> None:
        """A memoryview counts in bytes."""
        wide: Buffer = memoryview(b"12345678").cast("Q")
        self.storage.put(self.key("wide"), [wide])
        check_equal(self.storage.get(self.key("wide")), b"12345678", "content")

    def test_put_stat_and_list_agree(self) -> None:
        """Name, size and time, whoever is asked."""
        info = self.put("info", b"x" * 1000)
        self._check_info(info, self.key("info"), 1000)
        self._check_info(self.storage.stat(self.key("info")), self.key("info"), 1000)
        self.check_listed(["info"])
        listed = list(self.storage.list(self.prefix))
        self._check_info(listed[0], self.key("info"), 1000)
        for other in (self.storage.stat(self.key("info")), listed[0]):
            check(
                abs(other.modified - info.modified) <= self.capabilities.clock_resolution,
                f"put says it was stored at {info.modified}, later it is {other.modified}",
            )

    def test_checksum_is_that_of_the_content(self) -> None:
        """Declared: every answer that has one is right. Not declared: there is none."""
        for info in (self.put("sum", b"checksum me"), self.storage.stat(self.key("sum"))):
            algorithm = self.capabilities.checksum
            if algorithm is None:
                check_equal(info.checksum, None, "a checksum that is not declared")
            elif info.checksum is not None:
                check_equal(info.checksum[0], algorithm, "algorithm")
                if algorithm in hashlib.algorithms_available:
                    check_equal(info.checksum[1], hashlib.new(algorithm, b"checksum me").hexdigest(), algorithm)

    def test_empty_object(self) -> None:
        """Zero bytes are an object too, from no buffer and from an empty one."""
        variants: tuple[tuple[str, list[Buffer]], ...] = (("none", []), ("empty", [b""]))
        for name, buffers in variants:
            check_equal(self.storage.put(self.key(name), buffers).size, 0, "size")
            check_equal(self.storage.get(self.key(name)), b"", "content")
            check_equal(self.storage.get(self.key(name), offset=-5, length=3), b"", "a range of nothing")
            check_equal(self.storage.stat(self.key(name)).size, 0, "size in stat")
        self.check_listed(["empty", "none"])

    def test_large_object_in_many_buffers(self) -> None:
        """More pieces than a system call takes, more bytes than it writes at once."""
        size = min(self.large, self.capabilities.largest_object or self.large)
        step = max(1, size // 5000)
        content = hashlib.shake_128(b"large").digest(1 << 16) * (size // (1 << 16) + 1)
        view = memoryview(content)[:size]
        info = self.storage.put(self.key("large"), [view[start : start + step] for start in range(0, size, step)])
        check_equal(info.size, size, "size")
        check(self.storage.get(self.key("large")) == view, "the content came back changed")

    def test_objects_beyond_the_declared_limit_are_refused(self) -> None:
        """Declared and small enough to try: one byte more is an error, and stores nothing."""
        limit = self.capabilities.largest_object
        if limit is not None and limit <= 64 << 20:
            with refused(FreezerError, what="an object above largest_object"):
                self.storage.put(self.key("beyond"), [bytes(limit), b"x"])
            self._check_absent("beyond")

    def test_put_replaces(self) -> None:
        """The newer content, whether longer or shorter."""
        for content in (b"first", b"the second is longer", b"3"):
            self.put("again", content)
            check_equal(self.storage.get(self.key("again")), content, "content")
            check_equal(self.storage.stat(self.key("again")).size, len(content), "size")
        self.check_listed(["again"])

    def test_if_absent(self) -> None:
        """Declared: the first one wins. Not declared: refused, and nothing is stored."""
        key = self.key("claim")
        if not self.capabilities.conditional_put:
            with refused(CapabilityMissing, what="if_absent without the capability"):
                self.storage.put(key, [b"x"], if_absent=True)
            self._check_absent("claim")
            return
        check_equal(self.storage.put(key, [b"first"], if_absent=True).size, 5, "size")
        with refused(ObjectExists, what="if_absent on a taken name"):
            self.storage.put(key, [b"second"], if_absent=True)
        check_equal(self.storage.get(key), b"first", "content after a refused put")
        self.storage.delete(key)
        self.storage.put(key, [b"third"], if_absent=True)
        check_equal(self.storage.get(key), b"third", "content after the name became free")

    def test_ranges(self) -> None:
        """Offsets and lengths, within and beyond the end."""
        content = bytes(range(256)) * 4
        self.put("range", content)
        key, size = self.key("range"), len(content)
        for offset in (0, 1, 255, size - 1, size, size + 1, size + 10_000):
            for length in (0, 1, 100, size, size + 1, None):
                expected = content[offset:] if length is None else content[offset : offset + length]
                found = self.storage.get(key, offset=offset, length=length)
                check_equal(found, expected, f"get(offset={offset}, length={length})")

    def test_negative_offsets(self) -> None:
        """The last bytes; all of them when there are fewer."""
        content = bytes(range(200))
        self.put("tail", content)
        for offset in (-1, -16, -199, -200, -201, -10_000):
            for length in (None, 0, 1, 10, 500):
                expected = content[offset:] if length is None else content[offset:][:length]
                found = self.storage.get(self.key("tail"), offset=offset, length=length)
                check_equal(found, expected, f"get(offset={offset}, length={length})")

    def test_absent_objects(self) -> None:
        """get, open and stat say ObjectNotFound; so for a folder of names and below an object."""
        self.put("folder/object")
        for name in ("absent", "folder", "folder/absent", "no/such/folder", "folder/object/below"):
            self._check_absent(name)

    def test_open_reads_to_the_end(self) -> None:
        """In pieces of any size, and several readers at once."""
        content = bytes(range(251)) * 1000
        self.put("stream", content)
        for size in (1 << 20, 1000, 77):
            pieces = []
            with self.storage.open(self.key("stream")) as reader, self.storage.open(self.key("stream")) as other:
                while piece := reader.read(size):
                    check(len(piece) <= size, f"read({size}) gave {len(piece)} bytes")
                    pieces.append(piece)
                check_equal(reader.read(size), b"", "read at the end")
                check(other.read() == content, "read() did not give everything")
            check(b"".join(pieces) == content, f"the content in pieces of {size} is another")

    def test_odd_names(self) -> None:
        """Blanks, braces, controls, Unicode in two forms: kept apart, and listed as they were given.

        A few of them may be refused as names, by every method.
        """
        names = [name for name in ODD_NAMES if self._is_possible(name)]
        check(len(names) > len(ODD_NAMES) // 2, f"only these odd names are possible: {names}")
        self.put_all(names)
        for name in names:
            check_equal(self.storage.get(self.key(name)), name.encode(), f"content of {name!r}")
        self.check_listed(sorted(names))
        for name in names:
            self.storage.delete(self.key(name))
        self.check_listed([])

    def test_long_names(self) -> None:
        """Up to 1024 bytes they work, or are refused as names."""
        for part in (100, 255, 1000):
            name = "/".join(["n" * part] * (900 // part) + ["end"])[: 1024 - len(self.prefix)]
            try:
                self.put(name, b"long")
            except InvalidName:
                continue
            check_equal(self.storage.get(self.key(name)), b"long", f"content of a name of {len(name)} bytes")

    def test_bad_names_are_refused(self) -> None:
        """By every method, as InvalidName."""
        methods: tuple[Callable[[str], object], ...] = (
            lambda name: self.storage.put(name, [b"x"]),
            self.storage.get,
            self.storage.stat,
            self.storage.delete,
            lambda name: self.storage.open(name).__enter__(),
            lambda name: self.storage.upload(name).__enter__(),
        )
        for name in BAD_NAMES:
            for method in methods:
                with refused(InvalidName, what=f"the name {name!r}"):
                    method(name)

    def test_a_name_below_an_object(self) -> None:
        """Either both exist, or the second is refused as a name and the first is unharmed."""
        for first, second in (("one", "one/below"), ("two/below", "two")):
            self.put(first, b"first")
            try:
                self.put(second, b"second")
            except InvalidName:
                self.check_listed([first], first)
            else:
                check_equal(self.storage.get(self.key(second)), b"second", second)
            check_equal(self.storage.get(self.key(first)), b"first", first)

    def test_a_name_becomes_free(self) -> None:
        """After what lay below it was deleted, and the other way round."""
        self.put("x/y/z")
        self.storage.delete(self.key("x/y/z"))
        self.put("x", b"now an object")
        check_equal(self.storage.get(self.key("x")), b"now an object", "content")
        self.storage.delete(self.key("x"))
        self.put("x/y", b"deeper again")
        check_equal(self.storage.get(self.key("x/y")), b"deeper again", "content")

    def test_delete(self) -> None:
        """Gone at once, and fine when there is nothing."""
        self.put("gone")
        self.put("stays")
        for _ in range(2):
            self.storage.delete(self.key("gone"))
            self._check_absent("gone")
        for name in ("never/was", "stays/below"):
            self.storage.delete(self.key(name))
        self.check_listed(["stays"])

    def test_delete_leaves_what_lies_below(self) -> None:
        """Deleting the name of a folder removes no object in it."""
        self.put("folder/inside")
        self.storage.delete(self.key("folder"))
        check_equal(self.storage.get(self.key("folder/inside")), b"content", "content")

    def test_delete_many(self) -> None:
        """Those that exist, and those that do not."""
        self.put_all(f"d/{number:03}" for number in range(30))
        names = [self.key(f"d/{number:03}") for number in range(5, 40)]
        self.storage.delete_many(iter(names))
        self.check_listed([f"d/{number:03}" for number in range(5)])

    def test_delete_many_goes_on(self) -> None:
        """A name that cannot be is told of after the others were removed."""
        self.put_all(["a", "b", "stays"])
        with refused(InvalidName, what="a name with '..' among others"):
            self.storage.delete_many([self.key("a"), self.key("../x"), self.key("b")])
        self.check_listed(["stays"])

    def test_flush(self) -> None:
        """A barrier at any time, also after deleting and with nothing to do."""
        self.storage.flush()
        self.put("flushed/a")
        self.put("flushed/b")
        self.storage.flush()
        self.storage.delete(self.key("flushed/a"))
        self.storage.flush()
        check_equal(self.storage.get(self.key("flushed/b")), b"content", "content")

    def test_now(self) -> None:
        """The clock that stamps objects; it goes forward and leaves nothing behind."""
        before = self.storage.now()
        check(before.tzinfo is not None and before.utcoffset() == timedelta(0), "now() is not an aware time in UTC")
        modified = self.put("stamped").modified
        after = self.storage.now()
        slack = self.capabilities.clock_resolution + timedelta(seconds=1)
        check(before - slack <= modified <= after + slack, f"stored at {modified}, between {before} and {after}")
        self.check_listed(["stamped"])

    def _is_possible(self, name: str) -> bool:
        try:
            self.storage.stat(self.key(name))
        except ObjectNotFound:
            return True
        except InvalidName:
            with refused(InvalidName, what=f"put({name!r})"):
                self.put(name)
            return False
        raise SuiteFailure(f"there is an object {name!r} that nobody stored")

    def _check_info(self, info: ObjectInfo, name: str, size: int) -> None:
        check_equal(info.name, name, "name")
        check_equal(info.size, size, "size")
        check(isinstance(info.modified, datetime), "modified is no datetime")
        check(info.modified.utcoffset() == timedelta(0), "modified is not an aware time in UTC")
        check(not info.is_prefix, "an object says that it is a prefix")

    def _check_absent(self, name: str) -> None:
        key = self.key(name)
        with refused(ObjectNotFound, what=f"get({name!r})"):
            self.storage.get(key)
        with refused(ObjectNotFound, what=f"get({name!r}) of nothing"):
            self.storage.get(key, length=0)
        with refused(ObjectNotFound, what=f"stat({name!r})"):
            self.storage.stat(key)
        with refused(ObjectNotFound, what=f"open({name!r})"), self.storage.open(key) as reader:
            reader.read(1)
