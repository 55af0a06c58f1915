"""The storage suite is worth something only if it fails for storages that break their promises."""

from __future__ import annotations

import logging
import os
import socket
import threading

import pytest

from freezer_sdk.errors import ObjectNotFound, StorageError
from freezer_sdk.options import Option
from freezer_sdk.storages.base import TRAFFIC_BLOCK, Capabilities
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import run_storage_suite


class ForgetsConditions(MemoryStorage):
    def put(self, name, buffers, *, if_absent=False):
        return super().put(name, buffers)


class EmulatesQuietly(MemoryStorage):
    @property
    def capabilities(self):
        return Capabilities(conditional_put=False)


class ReadsPastNegativeOffsets(MemoryStorage):
    def get(self, name, *, offset=0, length=None):
        content = super().get(name)
        return content[offset:] if length is None else content[offset : offset + length]


class UploadsInPlace(MemoryStorage):
    def upload(self, name):
        self.put(name, [b""])
        return super().upload(name)


class SortsByUtf16(MemoryStorage):
    def list(self, prefix="", *, delimiter=None):
        return iter(sorted(super().list(prefix, delimiter=delimiter), key=lambda info: info.name.encode("utf-16-be")))


class CutsListings(MemoryStorage):
    def list(self, prefix="", *, delimiter=None):
        for number, info in enumerate(super().list(prefix, delimiter=delimiter)):
            if number == 1000:
                return
            yield info


class ListsFoldersAsObjects(MemoryStorage):
    def list(self, prefix="", *, delimiter=None):
        return super().list(prefix)


class LeaksOtherErrors(MemoryStorage):
    def get(self, name, *, offset=0, length=None):
        try:
            return super().get(name, offset=offset, length=length)
        except ObjectNotFound as error:
            raise KeyError(name) from error


class DeletesBelow(MemoryStorage):
    def delete(self, name):
        super().delete(name)
        for info in list(self.list(name + "/")):
            super().delete(info.name)


class ComplainsAboutAbsence(MemoryStorage):
    def delete(self, name):
        self.stat(name)
        super().delete(name)


class StopsAtABadName(MemoryStorage):
    def delete_many(self, names):
        for name in names:
            self.delete(name)


class TellsNaiveTime(MemoryStorage):
    def now(self):
        return super().now().replace(tzinfo=None)


class TakesAnyName(MemoryStorage):
    def put(self, name, buffers, *, if_absent=False):
        return super().put(name.strip("/") or "x", buffers, if_absent=if_absent)


class TakesTheFirstBuffersOnly(MemoryStorage):
    def put(self, name, buffers, *, if_absent=False):
        return super().put(name, buffers[:1024], if_absent=if_absent)


class CannotFlush(MemoryStorage):
    def flush(self):
        raise StorageError("never")


class TellsInBlocks(MemoryStorage):
    """Keeps the promise; those below break it."""

    block = TRAFFIC_BLOCK
    times = 1

    @property
    def capabilities(self):
        return Capabilities(conditional_put=True, remote=False, persistent=False, paced=True)

    def put(self, name, buffers, *, if_absent=False):
        content = b"".join(buffers)
        self._tell(self.traffic.sent, len(content))
        return super().put(name, [content], if_absent=if_absent)

    def get(self, name, *, offset=0, length=None):
        content = super().get(name, offset=offset, length=length)
        self._tell(self.traffic.received, len(content))
        return content

    def open(self, name):
        context = super().open(name)
        self._tell(self.traffic.received, self.stat(name).size)
        return context

    def _tell(self, tell, size):
        for start in range(0, size, self.block):
            for _ in range(self.times):
                tell(min(self.block, size - start))


class TellsTwice(TellsInBlocks):
    times = 2


class TellsTooMuchAtOnce(TellsInBlocks):
    block = 2 * TRAFFIC_BLOCK


class TellsUndeclared(TellsInBlocks):
    capabilities = MemoryStorage.capabilities


class TellsNothingOfStreams(TellsInBlocks):
    def open(self, name):
        return MemoryStorage.open(self, name)


class LeavesThreads(MemoryStorage):
    def __init__(self, **options):
        super().__init__(**options)
        threading.Thread(target=threading.Event().wait, args=(60,), daemon=True, name="left").start()


class LeavesSockets(MemoryStorage):
    left = []  # noqa: RUF012

    def __init__(self, **options):
        super().__init__(**options)
        self.left.append(socket.socket())

    @classmethod
    def clean(cls):
        while cls.left:
            cls.left.pop().close()


class TellsSecrets(MemoryStorage):
    options = (*MemoryStorage.options, Option(name="password", secret=True, help="Secret."))

    def __init__(self, *, password="", **options):
        super().__init__(**options)
        logging.getLogger("some.library").debug("logging in as %s", password)


class WritesInPlace(LocalStorage):
    """What is stored grows under its final name."""

    def upload(self, name):
        path = self.location.removeprefix("local:") + "/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
        return super().upload(name)


def test_a_promise_of_traffic_that_is_kept():
    assert [result for result in run_storage_suite(TellsInBlocks, many=100) if result.outcome != "passed"] == []


@pytest.mark.parametrize("form", ["{}", "%s-{}"])
def test_a_secret_that_is_told_fails_its_test(form):
    options = {"password": form.format("open sesame")}
    results = run_storage_suite(lambda: TellsSecrets(**options), options=options, many=10)
    failed = {result.name: result.message for result in results if result.outcome == "failed"}
    assert "secrets_stay_secret" in failed
    assert "sesame" not in failed["secrets_stay_secret"]


def test_what_a_killed_client_leaves_fails_its_test(tmp_path):
    options = {"path": str(tmp_path)}
    results = run_storage_suite(lambda: WritesInPlace(**options), options=options, many=10)
    failed = {result.name: result.message for result in results if result.outcome == "failed"}
    assert "'fresh': 0 bytes after a client was killed" in failed["a_client_killed_in_an_upload"]


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr("freezer_sdk.testing._storage_manners._PATIENCE", 0.5)
    yield
    LeavesSockets.clean()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ForgetsConditions, {"if_absent", "if_absent_has_one_winner"}),
        (EmulatesQuietly, {"if_absent"}),
        (ReadsPastNegativeOffsets, {"negative_offsets"}),
        (UploadsInPlace, {"upload", "upload_without_commit", "upload_that_fails", "upload_replaces"}),
        (SortsByUtf16, {"list_in_order_of_code_points"}),
        (CutsListings, {"list_many"}),
        (ListsFoldersAsObjects, {"list_with_delimiter"}),
        (LeaksOtherErrors, {"absent_objects", "delete"}),
        (DeletesBelow, {"delete_leaves_what_lies_below"}),
        (ComplainsAboutAbsence, {"delete", "delete_many"}),
        (StopsAtABadName, {"delete_many_goes_on"}),
        (TellsNaiveTime, {"now"}),
        (TakesAnyName, {"bad_names_are_refused"}),
        (TakesTheFirstBuffersOnly, {"large_object_in_many_buffers"}),
        (CannotFlush, {"flush"}),
        (TellsTwice, {"traffic_is_told_once"}),
        (TellsTooMuchAtOnce, {"traffic_is_told_once"}),
        (TellsUndeclared, {"traffic_is_told_once"}),
        (TellsNothingOfStreams, {"traffic_is_told_once"}),
        (LeavesThreads, {"close_releases_everything"}),
        (LeavesSockets, {"close_releases_everything"}),
    ],
)
def test_a_broken_promise_fails_its_test(kind, expected):
    failed = {result.name: result.message for result in run_storage_suite(kind) if result.outcome == "failed"}
    assert expected <= set(failed)
    assert all(failed.values())
    assert len(failed) < 15  # and not simply everything


def test_a_storage_that_keeps_them_passes_and_is_left_clean(tmp_path):
    path = str(tmp_path / "live")
    live = LocalStorage(path=path)
    live.put("backups/precious", [b"x"])
    seen = []
    results = run_storage_suite(lambda: LocalStorage(path=path), many=100, progress=seen.append)
    assert [result for result in results if result.outcome != "passed"] == []
    assert seen == results
    assert len(results) > 40
    assert [info.name for info in live.list()] == ["backups/precious"]
    assert sorted(entry.name for entry in (tmp_path / "live").iterdir()) == [".freezer-tmp", "backups"]


def test_an_unreachable_backend_fails_every_test_and_raises_nothing():
    def unreachable():
        raise StorageError("no route to host")

    results = run_storage_suite(unreachable)
    assert {result.outcome for result in results} == {"failed"}
    assert "no route to host" in results[0].message
