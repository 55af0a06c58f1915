"""Compressors of other packages: announced before the first data, so that nobody is surprised in a restore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from freezer_sdk import ConfigurationError, Freezer, UnsupportedFormat
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot, reconfigure
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.storages.memory import MemoryStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
ACME = """
from freezer_sdk.compressors.zlib import ZlibCompressor

class Acme(ZlibCompressor):
    name = id = "acme"
    summary = "as zlib, by another name"

class Torn(ZlibCompressor):
    name, id = "torn", "other"
    summary = "stores a name that is not its own"
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with compressors, installed for this test."""
    info = tmp_path / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    points = "acme = acme_compressors:Acme\ntorn = acme_compressors:Torn\n"
    (info / "entry_points.txt").write_text(f"[freezer_sdk.compressors]\n{points}")
    (info.parent / "acme_compressors.py").write_text(ACME)
    monkeypatch.syspath_prepend(str(info.parent))


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    owner = create_repository(storage, password="owner", kdf=CHEAP)
    add_slot(storage, owner, password="writer", roles={Role.WRITER, Role.READER}, kdf=CHEAP)
    return storage


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_bytes(b"compressible " * 10_000)
    return path


def session(storage: MemoryStorage, password: str, compression: str = "acme") -> Freezer:
    return Freezer(storage, password=password, engine_options={"compression": compression})


def announced(storage: MemoryStorage, supported: Any = ("compression:acme",)) -> tuple[int, tuple[str, ...]]:
    keys: KeyRing = open_repository(storage, lambda: "owner", supported=frozenset(supported))
    return keys.config.number, keys.config.features["read"]


@pytest.mark.usefixtures("acme")
def test_a_maintainer_announces_it_before_the_first_data(
    storage: MemoryStorage, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _features = announced(storage)
    with session(storage, "owner") as freezer:
        assert freezer.backup(source, dry_run=True).dry_run
        assert announced(storage) == (before, ())
        backup = freezer.backup(source)
        (source / "file").write_bytes(b"other content " * 10_000)
        freezer.backup(source)
        assert freezer.info().features == ("compression:acme",)
        assert freezer.verify(read_data=True).problems == ()
        freezer.restore(backup.id, tmp_path / "out")
    assert announced(storage) == (before + 1, ("compression:acme",))
    assert (tmp_path / "out" / "file").read_bytes() == b"compressible " * 10_000
    with session(storage, "writer") as freezer:
        assert freezer.backup(source).status == "complete"
    monkeypatch.undo()  # as on a machine without the package
    with pytest.raises(UnsupportedFormat, match="compression:acme"):
        Freezer(storage, password="owner")


@pytest.mark.usefixtures("acme")
def test_others_are_told_what_to_do(storage: MemoryStorage, source: Path) -> None:
    objects = {info.name for info in storage.list()}
    with session(storage, "writer") as freezer:
        with pytest.raises(ConfigurationError, match="compression:acme") as caught:
            freezer.backup(source)
        assert "maintainer" in str(caught.value.hint)
        assert {info.name for info in storage.list()} == objects
        with session(storage, "owner") as owner:
            owner.backup(source)
        assert freezer.backup(source).status == "complete"  # without being opened again
        assert [entry.path for entry in freezer.entries("latest")][1:] == [bytes(source / "file")]


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("compression", ["zlib", "none", "xz"])
def test_what_every_program_knows_is_not_announced(storage: MemoryStorage, source: Path, compression: str) -> None:
    before = announced(storage)
    with session(storage, "writer", compression) as freezer:
        freezer.backup(source)
    assert announced(storage) == before


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("compression", ["torn", "nope"])
def test_what_nobody_could_read_is_refused(storage: MemoryStorage, source: Path, compression: str) -> None:
    objects = {info.name for info in storage.list()}
    with session(storage, "owner", compression) as freezer, pytest.raises(ConfigurationError, match="not installed"):
        freezer.backup(source)
    with pytest.raises(ConfigurationError, match="not installed"):
        Freezer(MemoryStorage(), password="p", create=True, engine_options={"compression": compression})
    assert {info.name for info in storage.list()} == objects


def test_a_configuration_that_could_not_be_read_is_not_signed(storage: MemoryStorage) -> None:
    keys = open_repository(storage, lambda: "owner")
    with pytest.raises(ConfigurationError):
        reconfigure(storage, keys, features={"read": ["Not A Feature"]})
    with pytest.raises(ConfigurationError):
        add_slot(storage, keys, password="third", roles={Role.WRITER}, label="x" * 300, kdf=CHEAP)
    with pytest.raises(ConfigurationError):
        reconfigure(storage, keys, grace=60)
    assert open_repository(storage, lambda: "owner").config.number == keys.config.number
    assert len(list(storage.list("keys/"))) == 2


@pytest.mark.usefixtures("acme")
def test_a_prune_announces_what_it_may_write_anew(storage: MemoryStorage, source: Path) -> None:
    with Freezer(storage, password="owner", engine_options={"reserve": 0}) as freezer:
        freezer.backup(source)
    with session(storage, "owner") as freezer:
        freezer.maintenance.prune(dry_run=True)
        assert announced(storage)[1] == ()
        freezer.maintenance.prune()
    assert announced(storage)[1] == ("compression:acme",)
