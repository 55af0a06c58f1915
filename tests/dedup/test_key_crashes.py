"""The administration of keys killed at every storage call: a password works, and every backup is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from dedup.holders import CLIENT, copied, join, made, opened, opens, service

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.keyservice import DedupKeys
from freezer_sdk.key_model import KeyRole, Rewrite
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage
from freezer_sdk.testing.faults import Call

WRITES = {"put", "delete", "flush"}


class Killed(BaseException):
    """The process is gone."""


def die(call: Call) -> None:
    raise Killed


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> MemoryStorage:
    """A repository with three holders and a backup of two of them."""
    source = tmp_path_factory.mktemp("source")
    (source / "file").write_bytes(b"content" * 1000)
    storage = MemoryStorage()
    made(storage)
    join(storage, "client", *CLIENT)
    join(storage, "gone", *CLIENT)
    for name in ("owner", "client"):
        with opened(storage, name) as freezer:
            freezer.backup(source, name=name, force_read=True)
    return storage


def add(keys: DedupKeys) -> object:
    return keys.add("fresh", roles=[KeyRole.WRITER, KeyRole.READER], label="fresh")


def remove(keys: DedupKeys) -> object:
    return keys.remove("gone")


def passwd(keys: DedupKeys) -> object:
    return keys.change_password("changed")


def rotate(keys: DedupKeys) -> object:
    return keys.rotate(Context())


def rewrite(keys: DedupKeys) -> object:
    return keys.rotate(Context(), rewrite=Rewrite.NOW)


def works(storage: MemoryStorage, action: Callable[[DedupKeys], object]) -> set[str]:
    """The passwords that work; each opens everything that was committed."""
    working = {name for name in ("owner", "changed", "client", "gone", "fresh") if opens(storage, name)}
    owner = "changed" if "changed" in working else "owner"
    assert owner in working
    assert working >= {"client"}
    assert "gone" in working or action is remove
    assert action is add or "fresh" not in working
    for name in working:
        with opened(storage, name) as freezer:
            assert len(freezer.backups()) == 2
    with opened(storage, owner) as freezer:
        result = freezer.verify(read_data=True)
        assert [problem for problem in result.problems if problem.fatal] == []
    return working


@pytest.mark.parametrize(
    ("action", "when"),
    [
        *((action, when) for action in (add, remove, passwd, rotate) for when in ("before", "after")),
        (rewrite, "after"),  # what follows the rotation is a prune, which is killed in tests of its own
    ],
)
def test_killed_at_every_call(template: MemoryStorage, action: Callable[[DedupKeys], object], when: str) -> None:
    number, seen = 0, set[frozenset[str]]()
    before: Counter[str] | None = None
    while True:
        number += 1
        storage = copied(template)
        keys = service(storage)
        methods = () if when == "before" else WRITES  # after a call that changes nothing is before the next one
        faulty = FaultyStorage(storage, Fault(die, at=number, when=when, methods=methods))  # type: ignore[arg-type]
        keys._storage, keys._handle = faulty, replace(keys._handle, storage=faulty)
        try:
            action(keys)
            ended = True
        except Killed:
            ended = False
        shape = Counter(info.name.rpartition("/")[0] for info in storage.list())
        if shape == before and not ended:
            continue  # only read since: the same as the call before
        before = shape
        working = works(storage, action)
        seen.add(frozenset(working))
        if ended:
            break
        if when == "before":  # whoever comes next is not hindered by what was left
            _again(storage, action, working)
        assert number < 200
    assert number > 3
    states = {add: 2, remove: 2, passwd: 3 if when == "before" else 2, rotate: 1, rewrite: 1}
    assert len(seen) == states[action]


def _again(storage: MemoryStorage, action: Callable[[DedupKeys], object], working: set[str]) -> None:
    owner = "changed" if "changed" in working else "owner"
    keys = service(storage, owner)
    if action is passwd:
        keys.change_password("next")
        assert not opens(storage, "owner")
        assert not opens(storage, "changed")
        owner = "next"
    elif (action is add and "fresh" not in working) or (action is remove and "gone" in working):
        action(keys)
    else:
        keys.rotate(Context())
    ring = open_repository(storage, lambda: owner)
    assert sorted(ring.epochs) == list(range(1, ring.epoch + 1))
    with opened(storage, owner) as freezer:
        assert [problem for problem in freezer.verify(read_data=True).problems if problem.fatal] == []
        if action is passwd:
            return
    assert works(storage, action) >= {"client"}
