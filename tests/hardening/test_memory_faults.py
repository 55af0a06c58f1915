"""Bits that flip in the memory of the machine that backs up: where they are found, and at the latest by what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from dedup.two import PASSWORD, settle
from hardening.forge import CHEAP

from freezer_sdk import Freezer, IntegrityError
from freezer_sdk.engines.dedup import pack as packs
from freezer_sdk.engines.dedup import segment, writer
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.model import Buffer
from freezer_sdk.storages.memory import MemoryStorage

CONTENT = b"The quick brown fox. " * 4000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = tmp_path / "source"
    base.mkdir()
    for number in range(6):
        (base / f"f{number}").write_bytes(CONTENT + bytes([number]))
    settle()
    return base


@pytest.fixture
def storage() -> MemoryStorage:
    made = MemoryStorage()
    create_repository(made, password=PASSWORD, kdf=CHEAP)
    return made


def flip(data: bytearray | memoryview, at: int = 5) -> None:
    data[at] ^= 0x10


@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_flip_between_hashing_and_compressing_stores_nothing(
    source: Path, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch, compression: str, kind: Kind
) -> None:
    seal = writer.BlobWriter._seal

    def flipped(self: writer.BlobWriter, of: Kind, joining: writer._Joining) -> None:
        if of is kind:
            flip(memoryview(joining.buffer))
        seal(self, of, joining)

    with Freezer(storage, password=PASSWORD, engine_options={"compression": compression}) as freezer:
        monkeypatch.setattr(writer.BlobWriter, "_seal", flipped)
        with pytest.raises(IntegrityError, match="memory"):
            freezer.backup(source, name="t")
        monkeypatch.undo()
        assert freezer.backups() == []
        assert freezer.backup(source, name="t").status == "complete"
        assert freezer.verify(read_data=True).ok


def found_by_verify(freezer: Freezer, source: Path, out: Path) -> None:
    """The run knew nothing of it; a check finds it, and a restore gives nothing that is wrong."""
    backup = freezer.backup(source, name="t")
    assert not freezer.verify(read_data=True).ok
    try:
        result = freezer.restore(backup.id, out)
    except IntegrityError:
        return
    assert result.status == "partial"
    for path in out.rglob("*"):
        assert path.is_dir() or path.read_bytes() == (source / path.name).read_bytes()


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_a_flip_after_compressing_is_found_by_verify(
    source: Path, storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    frame = segment.frame

    def flipped(lengths: Sequence[int], method: str, payload: Buffer) -> memoryview:
        made = frame(lengths, method, payload)
        flip(made, len(made) // 2)
        return made

    monkeypatch.setattr(segment, "frame", flipped)
    with Freezer(storage, password=PASSWORD, engine_options={"compression": compression}) as freezer:
        found_by_verify(freezer, source, tmp_path / "out")


@pytest.mark.parametrize("where", ["before the pack is named", "after"])
def test_a_flip_after_sealing_is_found_by_verify(
    source: Path, storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    finish = packs.OpenPack.finish

    def flipped(self: packs.OpenPack, keys: packs.BoxKeys) -> tuple[bytes, list[Buffer]]:
        if where != "after":
            flip(memoryview(self.memory), 300)
        digest, parts = finish(self, keys)
        if where == "after":
            flip(memoryview(self.memory), 300)
        return digest, parts

    monkeypatch.setattr(packs.OpenPack, "finish", flipped)
    with Freezer(storage, password=PASSWORD) as freezer:
        found_by_verify(freezer, source, tmp_path / "out")


def test_a_flip_in_the_table_of_a_pack_is_found_by_verify(
    source: Path, storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = packs.encode_table

    def flipped(rows: Sequence[packs.SegmentRow]) -> bytes:
        body = bytearray(encode(rows))
        flip(body, -1)  # in the last id
        return bytes(body)

    monkeypatch.setattr(packs, "encode_table", flipped)
    with Freezer(storage, password=PASSWORD) as freezer:
        freezer.backup(source, name="t")
        assert not freezer.verify(read_data=True).ok
