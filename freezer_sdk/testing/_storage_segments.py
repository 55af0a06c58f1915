"""Storage suite, part five: streams in segments that are objects of their own."""

from __future__ import annotations

import hashlib

from freezer_sdk.errors import CapabilityMissing, FreezerError, InvalidName, ObjectExists, ObjectNotFound
from freezer_sdk.testing._storage_case import StorageCase
from freezer_sdk.testing.suite import check, check_equal, refused

_SIZE = 1000


class SegmentTests(StorageCase):
    """What declares ``segmented_uploads`` joins objects; everything else refuses to."""

    def test_segments_are_refused_where_they_are_not_declared(self) -> None:
        """By both methods, before anything is stored."""
        if self.capabilities.segmented_uploads:
            return
        with refused(CapabilityMissing, what="a segmented upload"):
            self.storage.upload_segmented(self.key("whole"), segments=self.key("parts"), size=_SIZE).__enter__()
        with refused(CapabilityMissing, what="join"):
            self.storage.join(self.key("whole"), segments=self.key("parts"))
        self.check_listed([])

    def test_segments_are_joined_on_commit(self) -> None:
        """The segments are objects, named by their number; the whole appears when it is committed, and reads as one."""
        if not self.capabilities.segmented_uploads:
            return
        for label, size in (("none", 0), ("less", 10), ("one", _SIZE), ("three", 3 * _SIZE), ("more", 3 * _SIZE + 1)):
            content = hashlib.shake_128(label.encode()).digest(size)
            key, parts = self.key(f"{label}/data"), self.key(f"{label}/segments")
            with self.storage.upload_segmented(key, segments=parts, size=_SIZE) as upload:
                for start in range(0, size, 777):
                    upload.write(content[start : start + 777])
                with refused(ObjectNotFound, what="stat before commit"):
                    self.storage.stat(key)
                info = upload.commit()
            check_equal((info.name, info.size), (key, size), "what commit returned")
            sizes = [_SIZE] * (size // _SIZE) + [size % _SIZE] * bool(size % _SIZE or not size)
            names = [f"{label}/segments/{number:08}" for number in range(len(sizes))]
            self.check_listed([f"{label}/data", *names], f"{label}/")
            found = [self.storage.stat(self.key(name)).size for name in names]
            check_equal(found, sizes, "sizes of the segments")
            check_equal(self.storage.stat(key).size, size, "size of the whole")
            self._check_content(key, content)

    def test_segments_of_an_upload_without_commit_are_removed(self) -> None:
        """However it ended; the whole was never there."""
        if not self.capabilities.segmented_uploads:
            return
        key, parts = self.key("data"), self.key("segments")
        with self.storage.upload_segmented(key, segments=parts, size=_SIZE) as upload:
            upload.write(bytes(3 * _SIZE))
        failing = self.storage.upload_segmented(key, segments=parts, size=_SIZE)
        with refused(ZeroDivisionError, what="an error inside an upload"), failing as upload:
            upload.write(bytes(_SIZE + 1))
            raise ZeroDivisionError
        self.check_listed([])
        with refused(ObjectNotFound, what="stat of what was not committed"):
            self.storage.stat(key)

    def test_segments_never_join_others(self) -> None:
        """Neither an object nor anything below the segments' names may be there."""
        if not self.capabilities.segmented_uploads:
            return
        self.put("taken", b"taken")
        self.put("parts/00000007", b"somebody else's")
        self.check_listed(["parts/00000007", "taken"])
        for name, segments in (("taken", "free"), ("data", "parts")):
            upload = self.storage.upload_segmented(self.key(name), segments=self.key(segments), size=_SIZE)
            with refused(ObjectExists, what="an upload over what is there"):
                upload.__enter__()
        self.check_listed(["parts/00000007", "taken"])
        check_equal(self.storage.get(self.key("taken")), b"taken", "content")

    def test_segments_end_with_commit(self) -> None:
        """Nothing can be added to what is visible."""
        if not self.capabilities.segmented_uploads:
            return
        with self.storage.upload_segmented(self.key("data"), segments=self.key("parts"), size=_SIZE) as upload:
            upload.write(b"done")
            upload.commit()
            with refused(FreezerError, what="write after commit"):
                upload.write(b"more")
            with refused(FreezerError, what="a second commit"):
                upload.commit()
        check_equal(self.storage.get(self.key("data")), b"done", "content")

    def test_segments_outlive_what_joins_them(self) -> None:
        """Deleting the whole leaves them; whoever made them removes them."""
        if not self.capabilities.segmented_uploads:
            return
        with self.storage.upload_segmented(self.key("data"), segments=self.key("parts"), size=_SIZE) as upload:
            upload.write(bytes(2 * _SIZE))
            upload.commit()
        self.storage.delete(self.key("data"))
        self.check_listed(["parts/00000000", "parts/00000001"])
        check_equal(self.storage.get(self.key("parts/00000001")), bytes(_SIZE), "content")

    def test_segments_need_good_names(self) -> None:
        """Both of them, and a size."""
        if not self.capabilities.segmented_uploads:
            return
        for name, segments in (("../x", self.key("parts")), (self.key("data"), "/x"), (self.key("data"), "n" * 1020)):
            with refused(InvalidName, what=f"the names {name[:20]!r} and {segments[:20]!r}"):
                self.storage.upload_segmented(name, segments=segments, size=_SIZE).__enter__()
        with refused(ValueError, what="segments of no size"):
            self.storage.upload_segmented(self.key("data"), segments=self.key("parts"), size=0).__enter__()

    def _check_content(self, key: str, content: bytes) -> None:
        check(self.storage.get(key) == content, "the content is another")
        with self.storage.open(key) as reader:
            check(b"".join(iter(lambda: reader.read(300), b"")) == content, "the content read as a stream is another")
        for offset, length in ((0, 10), (_SIZE - 5, 10), (-3, None), (10 * _SIZE, 5)):
            if not content:
                break
            start = max(0, len(content) + offset) if offset < 0 else offset
            wanted = content[start:] if length is None else content[start : start + length]
            check(self.storage.get(key, offset=offset, length=length) == wanted, f"range {offset}, {length}")
