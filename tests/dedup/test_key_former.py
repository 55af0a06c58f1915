"""A maintainer who was removed, and can still put objects: what was decided before counts, and nothing else."""

from __future__ import annotations

import hashlib
import random
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dedup.holders import content, made, opened, service
from dedup.second_reader import Repository as SecondReader
from dedup.upkeep.world import GRACE, Clocked

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import control, protocol
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.config import time_text
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.keyservice import DedupKeys
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.errors import RepositoryLocked
from freezer_sdk.key_model import KeyRole
from freezer_sdk.testing import Fault, FaultyStorage


class Removed:
    """A repository with three backups: one was forgotten by somebody whose key is about to be removed."""

    def __init__(self, folder: Path) -> None:
        self.storage = Clocked()
        made(self.storage, grace=GRACE)
        service(self.storage).add("boss", roles=[KeyRole.OWNER], label="boss")
        self.source = folder / "source"
        self.source.mkdir()
        with opened(self.storage, "owner") as owner:
            self.ids = []
            for number in range(3):
                (self.source / f"f{number}").write_bytes(random.Random(number).randbytes(50_000))
                self.ids.append(owner.backup(self.source, name="n").id)
        with opened(self.storage, "boss") as boss:
            boss.forget([self.ids[0]])
            boss.retention.hold(self.ids[2], reason="ours")
            self.storage.pass_time(60)
            boss.maintenance.prune()
        self.boss: KeyRing = open_repository(self.storage, lambda: "boss")

    def visible(self) -> list[str]:
        with opened(self.storage, "owner") as owner:
            problems = [problem for problem in owner.verify(read_data=True).problems if problem.fatal]
            assert all("a maintainer who was removed" in problem.message for problem in problems)
            return [backup.id for backup in owner.backups()]

    def put(self, kind: str, name: str, document: dict[str, object]) -> None:
        """As if it had been signed before the removal."""
        document = {**document, "created": time_text(datetime(2026, 1, 1, tzinfo=UTC))}
        self.storage.put(name, [control.seal(self.boss, kind, name, document, secrecy="index")])

    def attack(self) -> None:
        """Everything goes, by the word of who was removed."""
        for backup in self.ids[1:]:
            self.put("tombstone", f"forgotten/{backup}", {"backup": backup, "reason": ""})
        packs = [info.name.split("/")[-1] for prefix in ("packs/", "meta/") for info in self.storage.list(prefix)]
        self.put("mark", f"marks/{secrets.token_hex(16)}", {"generation": 1, "packs": packs})
        names = [info.name for info in self.storage.list("backups/")]
        for generation in (1, 50):
            name = f"sweeps/{generation:016d}/decided-{secrets.token_hex(16)}"
            document = {"generation": generation, "condemned": packs, "alive": [], "released": names}
            self.put("decision", name, document)
        slot = self.boss.slot_id.hex()
        self.put("confirmation", f"confirmed/{slot}-{secrets.token_hex(16)}", {"slot": slot, "objects": self._all()})

    def _all(self) -> dict[str, str]:
        return {info.name: hashlib.sha256(self.storage.get(info.name)).hexdigest() for info in self.storage.list()}


@pytest.fixture
def removed(tmp_path: Path) -> Removed:
    return Removed(tmp_path)


def test_what_was_decided_before_counts(removed: Removed) -> None:
    assert removed.visible() == removed.ids[1:]
    marks = protocol.read_marks(removed.storage, removed.boss)
    assert marks.condemned
    service(removed.storage).remove("boss")
    assert removed.visible() == removed.ids[1:]
    owner = open_repository(removed.storage, lambda: "owner")
    assert protocol.read_marks(removed.storage, owner).condemned == marks.condemned
    with opened(removed.storage, "owner") as freezer:
        assert [hold.reason for hold in freezer.retention.holds()] == ["ours"]
        removed.storage.pass_time()
        assert freezer.maintenance.prune().released_backups == 1
    assert removed.visible() == removed.ids[1:]


def test_nothing_counts_that_came_later(removed: Removed, tmp_path: Path) -> None:
    service(removed.storage).remove("boss")
    removed.attack()
    assert removed.visible() == removed.ids[1:]
    for _ in range(3):
        removed.storage.pass_time()
        with opened(removed.storage, "owner") as owner:
            owner.maintenance.prune()
    assert removed.visible() == removed.ids[1:]
    with opened(removed.storage, "owner") as owner:
        owner.restore(removed.ids[2], tmp_path / "out")
        findings = owner.verify().problems
    assert content(tmp_path / "out") == content(removed.source)
    assert sum("a maintainer who was removed" in problem.message for problem in findings) >= 4


def test_before_the_removal_it_would_have_counted(removed: Removed) -> None:
    """The attack is one."""
    removed.attack()
    with opened(removed.storage, "owner") as owner:
        assert owner.backups() == []


def test_who_confirmed_may_be_removed_in_turn(removed: Removed) -> None:
    service(removed.storage).add("third", roles=[KeyRole.OWNER], label="third")
    service(removed.storage, "third").remove("boss")
    assert removed.visible() == removed.ids[1:]
    service(removed.storage).remove("third")
    assert removed.visible() == removed.ids[1:]
    removed.attack()
    assert removed.visible() == removed.ids[1:]


def test_a_reader_written_from_the_document_agrees(removed: Removed) -> None:
    service(removed.storage).remove("boss")
    assert set(SecondReader(removed.storage.content(), "owner").backups()) == set(removed.ids[1:])


def test_killed_at_every_write_nothing_comes_back(removed: Removed) -> None:
    class Killed(BaseException):
        pass

    def die(call: object) -> None:
        raise Killed

    saved, number = removed.storage.save(), 0
    while True:
        number += 1
        removed.storage.load(saved)
        faulty = FaultyStorage(removed.storage, Fault(die, at=number, when="after", methods={"put", "delete"}))
        keys = service(removed.storage)
        administrator = DedupKeys(keys._handle, lambda ring: None)
        administrator._storage = faulty  # type: ignore[assignment]
        try:
            administrator.remove("boss")
            break
        except Killed:
            assert removed.visible() == removed.ids[1:]
            removed.storage.pass_time()  # the lease of who was killed
            if not any(key.label == "boss" and key.removed for key in keys.list()):
                service(removed.storage).remove("boss")
            assert removed.visible() == removed.ids[1:]
    assert number > 4


def test_a_maintainer_is_not_removed_while_it_prunes(removed: Removed) -> None:
    with Claim(removed.storage, removed.boss), pytest.raises(RepositoryLocked, match="boss"):
        service(removed.storage).remove("boss")
    service(removed.storage).remove("boss")
    service(removed.storage).rotate(Context())
    assert removed.visible() == removed.ids[1:]
