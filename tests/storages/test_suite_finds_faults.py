"""The storage suite is worth something only if it fails for storages that break their promises."""

from __future__ import annotations

import pytest

from freezer_sdk.errors import ObjectNotFound, StorageError
from freezer_sdk.storages.base import Capabilities
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
        (TellsNaiveTime, {"now"}),
        (TakesAnyName, {"bad_names_are_refused"}),
        (TakesTheFirstBuffersOnly, {"large_object_in_many_buffers"}),
        (CannotFlush, {"flush"}),
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
