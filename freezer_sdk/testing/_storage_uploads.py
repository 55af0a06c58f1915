"""Storage suite, part three: streams into the storage, and many callers at once."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

from freezer_sdk.errors import FreezerError, ObjectExists, ObjectNotFound, StorageUnavailable
from freezer_sdk.testing._storage_case import StorageCase
from freezer_sdk.testing.suite import check, check_equal, refused


class UploadTests(StorageCase):
    """Streams of unknown length."""

    def test_upload(self) -> None:
        """Visible on commit, whole, and not before; its parts are never listed."""
        key = self.key("stream/object")
        with self.storage.upload(key) as upload:
            for piece in (b"one", bytearray(b"two"), memoryview(b"three"), b""):
                upload.write(piece)
            self.check_listed([])
            with refused(ObjectNotFound, what="get before commit"):
                self.storage.get(key)
            info = upload.commit()
        check_equal((info.name, info.size), (key, 11), "what commit returned")
        check_equal(self.storage.get(key), b"onetwothree", "content")
        self.check_listed(["stream/object"])

    def test_upload_of_nothing(self) -> None:
        """An empty object."""
        with self.storage.upload(self.key("empty")) as upload:
            upload.commit()
        check_equal(self.storage.stat(self.key("empty")).size, 0, "size")

    def test_upload_of_much(self) -> None:
        """Many pieces, more than one part."""
        size = min(self.large, self.capabilities.largest_object or self.large)
        digest, sent = hashlib.sha256(), 0
        with self.storage.upload(self.key("much")) as upload:
            while sent < size:
                piece = hashlib.shake_128(b"%d" % sent).digest(min(300_001, size - sent))
                upload.write(piece)
                digest.update(piece)
                sent += len(piece)
            check_equal(upload.commit().size, size, "size")
        check(hashlib.sha256(self.storage.get(self.key("much"))).digest() == digest.digest(), "content changed")
        self.check_listed(["much"])

    def test_upload_without_commit(self) -> None:
        """Stores nothing, and leaves what was there."""
        self.put("old", b"old")
        for name in ("old", "new"):
            with self.storage.upload(self.key(name)) as upload:
                upload.write(b"abandoned")
        self.check_listed(["old"])
        check_equal(self.storage.get(self.key("old")), b"old", "content")

    def test_upload_that_fails(self) -> None:
        """The error comes out as it was; nothing is stored."""
        with refused(ZeroDivisionError, what="an error inside an upload"), self.storage.upload(self.key("x")) as upload:
            upload.write(b"half")
            raise ZeroDivisionError
        self.check_listed([])

    def test_upload_replaces(self) -> None:
        """At the commit, not before."""
        self.put("again", b"old")
        with self.storage.upload(self.key("again")) as upload:
            upload.write(b"newer")
            check_equal(self.storage.get(self.key("again")), b"old", "content before commit")
            upload.commit()
        check_equal(self.storage.get(self.key("again")), b"newer", "content after commit")

    def test_upload_ends_with_commit(self) -> None:
        """Nothing can be added to what is visible."""
        with self.storage.upload(self.key("done")) as upload:
            upload.write(b"done")
            upload.commit()
            with refused(FreezerError, what="write after commit"):
                upload.write(b"more")
            with refused(FreezerError, what="a second commit"):
                upload.commit()
        check_equal(self.storage.get(self.key("done")), b"done", "content")


class ConcurrencyTests(StorageCase):
    """Several threads in one storage."""

    def test_if_absent_has_one_winner(self) -> None:
        """Of eight that start together, and its content is what is stored."""
        if not self.capabilities.conditional_put:
            return  # that it is refused is another test
        for number in range(5):
            key = self.key(f"race/{number}")
            barrier = threading.Barrier(8)

            def claim(contender: int, key: str = key, barrier: threading.Barrier = barrier) -> bool:
                barrier.wait()
                try:
                    self.storage.put(key, [b"%d" % contender], if_absent=True)
                except ObjectExists:
                    return False
                return True

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(claim, range(8)))
            check_equal(won.count(True), 1, "winners")
            check_equal(self.storage.get(key), b"%d" % won.index(True), "content")

    def test_readers_see_all_or_nothing(self) -> None:
        """While an object is replaced again and again, every reader gets one of its versions."""
        versions = [bytes([number]) * (20_000 + 1000 * number) for number in range(8)]
        self.put("turns", versions[0])
        stop = threading.Event()

        def read() -> bool:
            while not stop.is_set():
                with contextlib.suppress(StorageUnavailable):  # a busy server may refuse for a moment
                    if self.storage.get(self.key("turns")) not in versions:
                        return False
            return True

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                for version in versions * 3:
                    self.put("turns", version)
            finally:
                stop.set()
            check(all(reader.result() for reader in readers), "a reader saw something that never was the object")

    def test_threads_work_side_by_side(self) -> None:
        """Puts, uploads, reads, listings and deletions, in folders that come and go."""

        def work(worker: int) -> None:
            for number in range(12):
                name = f"folder/{number}/{worker}"
                content = f"{worker}-{number}".encode() * 100
                if number % 3:
                    self.put(name, content)
                else:
                    with self.storage.upload(self.key(name)) as upload:
                        upload.write(content)
                        upload.commit()
                check(self.storage.get(self.key(name)) == content, f"{name} is not what was stored")
                check(name in self.names(f"folder/{number}/") or self.capabilities.listing_lag, f"{name} is not listed")
                if number % 2:
                    self.storage.delete(self.key(name))

        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(work, range(8)):
                pass
        self.storage.flush()
        self.check_listed(sorted(f"folder/{number}/{worker}" for worker in range(8) for number in range(0, 12, 2)))
