"""What modes hand over: sources that do not keep their word fail, instead of being stored as if they did."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest

from freezer_sdk.engines.base import Context, Repository
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.errors import SourceChanged
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import BackupOptions
from freezer_sdk.modes.base import Protected, Stream, StreamReader
from freezer_sdk.storages.memory import MemoryStorage


class Bytes:
    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer)


def stream(content: bytes, *, size: int | None = None, extents: Sequence[tuple[int, int]] | None = None) -> Stream:
    @contextmanager
    def opened() -> Iterator[StreamReader]:
        yield Bytes(content)

    def give() -> AbstractContextManager[StreamReader]:
        return opened()

    return Stream(name="image", open=give, size=size, extents=extents)


@pytest.fixture
def repository() -> Iterator[Repository]:
    storage = MemoryStorage()
    with DedupEngine().create(storage, password=lambda: None, encryption=False) as opened:
        yield opened


def back_up(repository: Repository, source: Stream) -> bytes:
    options = BackupOptions(name="image", host="node1", mode="toy")
    backup = repository.backup(Protected(sources=[source]), options, Context())
    with repository.open(backup.id, b"/image") as reader:
        return reader.read()


@pytest.mark.parametrize("size", [None, 11])
def test_a_stream_of_the_size_that_it_says(repository: Repository, size: int | None) -> None:
    assert back_up(repository, stream(b"hello world", size=size)) == b"hello world"


def test_a_stream_with_holes(repository: Repository) -> None:
    assert back_up(repository, stream(b"abcd", size=10, extents=[(1, 2), (6, 2)])) == b"\0ab\0\0\0cd\0\0"


@pytest.mark.parametrize("size", [10, 12])
def test_a_stream_of_another_size_is_not_stored(repository: Repository, size: int) -> None:
    with pytest.raises(SourceChanged, match="image"):
        back_up(repository, stream(b"hello world", size=size))
    assert not repository.backups()


@pytest.mark.parametrize("content", [b"abc", b"abcde"])
def test_data_ranges_of_another_size_are_not_stored(repository: Repository, content: bytes) -> None:
    with pytest.raises(SourceChanged, match="image"):
        back_up(repository, stream(content, size=10, extents=[(1, 2), (6, 2)]))
    assert not repository.backups()


def test_two_trees_are_refused_and_none_of_them_is_left_out() -> None:
    with pytest.raises(ValueError, match="one tree"):
        Protected(sources=[LocalTree([b"/usr"]), LocalTree([b"/etc"])])
