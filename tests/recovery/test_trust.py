"""Backups that their signer may not make, or that somebody made in another's name, are not shown as backups."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from freezer_sdk import Freezer
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.model import BackupOptions
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.storages.local import LocalStorage

from .conftest import CHEAP, PASSWORD, Recover

ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with an owner and a client, who may make backups of the host ``mine``."""
    storage = LocalStorage(path=str(tmp_path / "repository"))
    create_repository(storage, password=PASSWORD, kdf=CHEAP)
    keys = open_repository(storage, lambda: PASSWORD)
    add_slot(storage, keys, password="client", roles={Role.WRITER}, hosts=["mine"], kdf=CHEAP)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    return tmp_path / "repository"


def store(repository: Path, password: str, *, host: str, backup: str | None = None, second: int = 0) -> str:
    options = BackupOptions(name="t", host=host, id=backup, time=datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC))
    with (
        DedupEngine().open(LocalStorage(path=str(repository)), password=lambda: password) as opened,
        FilesystemMode(paths=[str(repository.parent / "source")], sync=False).protect() as protected,
    ):
        return opened.backup(protected, options, Context()).id


def states(recover: Recover, repository: Path) -> list[tuple[str, str]]:
    lines = recover("list", repository, "--forgotten").out.splitlines()
    return [(line.split()[2], line.split()[3]) for line in lines]


def visible(repository: Path) -> list[str]:
    with Freezer(f"local:{repository}", password=PASSWORD) as freezer:
        return [backup.host for backup in freezer.backups()]


def test_a_host_that_the_signer_may_not_speak_for(
    repository: Path, recover: Recover, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an attacker's program does not refuse it
    monkeypatch.setattr("freezer_sdk.engines.dedup.backup.BackupRun._refuse_host", lambda run: None)
    store(repository, "client", host="mine", second=1)
    forged = store(repository, "client", host="yours", second=2)
    assert visible(repository) == ["mine"]
    assert [line.split()[3] for line in recover("list", repository).out.splitlines()] == ["mine"]
    assert states(recover, repository) == [("complete", "mine"), ("forged", "yours")]
    recover("restore", repository, forged, repository.parent / "out", code=2)
    assert not (repository.parent / "out").exists()


def test_an_id_that_somebody_else_has_used(repository: Path, recover: Recover) -> None:
    twin = repository.with_name("twin")
    shutil.copytree(repository, twin)
    store(twin, "client", host="mine", backup=ID, second=1)
    store(repository, PASSWORD, host="yours", backup=ID, second=2)
    shutil.copytree(twin, repository, dirs_exist_ok=True)
    assert visible(repository) == ["yours"]
    assert states(recover, repository) == [("forged", "mine"), ("complete", "yours")]
    recover("restore", repository, ID, repository.parent / "out")


def test_two_of_one_id_are_told_apart_by_their_whole_name(repository: Path, recover: Recover) -> None:
    twin = repository.with_name("twin")
    shutil.copytree(repository, twin)
    store(twin, PASSWORD, host="one", backup=ID, second=1)
    store(repository, PASSWORD, host="two", backup=ID, second=2)
    shutil.copytree(twin, repository, dirs_exist_ok=True)
    told = recover("ls", repository, ID, code=2).err
    for second in (1, 2):
        name = f"20260102T03040{second}.000Z-{ID}"
        assert name in told
        recover("ls", repository, name)


def test_objects_that_anybody_could_add(repository: Path, recover: Recover) -> None:
    """Whoever can only add objects, and has no key, keeps nobody from opening the repository."""
    store(repository, PASSWORD, host="mine")
    config = json.loads((repository / "config" / "00000001").read_bytes().partition(b"\n")[0])
    slots = [json.loads(path.read_bytes()) for path in (repository / "keys").iterdir()]
    (known,) = (slot for slot in slots if slot["slot"] == config["roster"][0]["slot"])
    seal = json.dumps({"signature": "00" * 64, "signer": known["slot"]})
    odd = [
        config | {"version": 7},
        config | {"number": 99},
        config | {"number": "00000099"},
        config | {"number": None, "repository": 5},
        config | {"roster": 3, "features": None},
        5,
    ]
    for number, document in enumerate(odd):
        for encoding in ("utf-8", "utf-16"):
            text = f"{json.dumps(document)}\n{seal}\n".encode(encoding)
            (repository / "config" / f"000000{number + 90 + 6 * (encoding != 'utf-8'):02}").write_bytes(text)
    (repository / "config" / "00000098").write_bytes(
        f"{json.dumps(config | {'number': 98})}\n{json.dumps({'signature': '00', 'signer': [1]})}\n".encode()
    )
    for change in (
        {"bundles": 5},
        {"bundles": [5]},
        {"serial": 10**30},
        {"kdf": {"name": [], "salt": ""}},
        {"wrapped": 1},
    ):
        text = json.dumps(known | change).encode()
        (repository / "keys" / hashlib.sha256(text).hexdigest()).write_bytes(text)
    for folder in ("backups", "forgotten", "sweeps/0000000000000009", "index", "packs/ab", "meta/ab", "leases/x"):
        (repository / folder).mkdir(parents=True, exist_ok=True)
        for name in ("decided-x", "z" * 200, "ab" * 32, "20260102T030401.000Z-" + ID):
            (repository / folder / name).write_bytes(b"FZCT" + bytes(40) + b"rubbish" * 30)
    done = recover("list", repository, code=13)
    assert [line.split()[2:4] for line in done.out.splitlines()] == [["complete", "mine"]]
    recover("restore", repository, "latest", repository.parent / "out")
    assert (repository.parent / "out" / "file").read_text() == "content"


def test_signatures_that_are_wrong(repository: Path, recover: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has the keys to seal a commit, but not to sign as somebody else."""
    store(repository, PASSWORD, host="mine", second=1)
    monkeypatch.setattr("freezer_sdk.engines.dedup.keyring.KeyRing.sign", lambda keys, context, payload: bytes(64))
    store(repository, PASSWORD, host="mine", second=2)
    done = recover("list", repository, code=13)
    assert len(done.out.splitlines()) == 1
    assert "its signature is forged" in done.err


def test_maintainers_who_were_removed(repository: Path, recover: Recover) -> None:
    """What one has forgotten stays forgotten; what he forgets later, with a copy of his keys, does not count."""
    first, second, third = (store(repository, PASSWORD, host="mine", second=number) for number in (1, 2, 3))
    with Freezer(f"local:{repository}", password=PASSWORD) as freezer:
        freezer.keys.add("second owner", label="second owner")
    with Freezer(f"local:{repository}", password="second owner") as freezer:
        freezer.forget(first)
    twin = repository.with_name("twin")
    shutil.copytree(repository, twin)
    with Freezer(f"local:{twin}", password="second owner") as freezer:
        freezer.forget(second)
    with Freezer(f"local:{repository}", password=PASSWORD) as freezer:
        freezer.keys.remove("second owner")
    shutil.copytree(twin / "forgotten", repository / "forgotten", dirs_exist_ok=True)
    with Freezer(f"local:{repository}", password=PASSWORD) as freezer:
        expected = [backup.id for backup in freezer.backups()]
    assert expected == [second, third]
    done = recover("list", repository, code=13)
    assert [line.split()[0] for line in done.out.splitlines()] == [backup[:12] for backup in expected]
    assert f"damaged: forgotten/{second}" in done.err
