"""Every control object of a repository, its document changed and signed anew: whoever reads it raises nothing strange.

A maintainer can do much harm, and that is what he is trusted with. But a program of another version, or one with a
defect, must not make others stumble.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dedup.upkeep.world import Clocked, keys_of, new_repository, opened, prune, write_files
from hardening.test_fuzz_decoders import json_values
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_cli.documents import backup_document
from freezer_sdk import BackupNotFound, Freezer, FreezerError, IntegrityError, RetentionPolicy, UnsupportedFormat
from freezer_sdk.engines.dedup import control
from freezer_sdk.engines.dedup.audit import _kind_of
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.testing import damage


class World:
    """A repository in which there is one of everything."""

    def __init__(self, base: Path) -> None:
        self.storage = Clocked()
        new_repository(self.storage)
        source = write_files(base / "source", seed=1, files=3, size=3000)
        with opened(self.storage) as freezer:
            first = freezer.backup(source, name="t", tags=["a"])
            freezer.retention.hold(first.id, reason="audit", until=datetime(2030, 1, 1, tzinfo=UTC))
            freezer.backup(source, name="t")
            second = freezer.backup(write_files(base / "other", seed=2, files=3, size=3000), name="o")
            freezer.retention.hold(second.id, reason="x")
            freezer.retention.release(second.id)
            freezer.forget(second.id)
            freezer.retention.apply(RetentionPolicy(keep_last=1), force=True)
        self.storage.pass_time(60)
        prune(self.storage)
        self.storage.pass_time()
        prune(self.storage)
        with opened(self.storage) as freezer:
            freezer.forget(freezer.backup(write_files(base / "more", seed=3, files=3, size=3000), name="m").id)
            freezer.maintenance.check(read_data=True)
            packs = sorted(name for name in self.storage.content() if name.startswith("packs/"))
            damage(self.storage, packs[0], offset=-40)
            freezer.maintenance.repair(read_data=True)
        self.keys = keys_of(self.storage)
        self.saved, self.offset = self.storage.save(), self.storage.offset
        self.names = sorted(name for name, data in self.storage.content().items() if data[:4] == control.MAGIC)

    def document(self, name: str) -> dict[str, Any]:
        kind = "backup" if name.startswith("backups/") else _kind_of(name)[0]
        return control.open(self.keys, kind, name, self.storage.get(name), role=Role.WRITER).payload

    def reset(self) -> None:
        self.storage.load(self.saved)
        self.storage.offset = self.offset


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def test_there_is_one_of_everything(world: World) -> None:
    kinds = {name.partition("/")[0] for name in world.names}
    assert kinds >= {"backups", "leases", "marks", "sweeps", "forgotten", "holds", "records"}


OPERATIONS: dict[str, Callable[[Freezer], object]] = {
    "backups": lambda freezer: [json.dumps(backup_document(backup)) for backup in freezer.backups()],
    "holds": lambda freezer: freezer.retention.holds(),
    "forgotten": lambda freezer: freezer.retention.forgotten(),
    "plan": lambda freezer: freezer.retention.plan(RetentionPolicy(keep_daily=2, keep_within=timedelta(days=1))),
    "leases": lambda freezer: freezer.maintenance.leases(),
    "verify": lambda freezer: freezer.verify(),
    "check": lambda freezer: freezer.maintenance.check(max_age=timedelta(days=1)),
    "prune": lambda freezer: freezer.maintenance.prune(dry_run=True),
    "repair": lambda freezer: freezer.maintenance.plan_repair(),
}


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_documents_that_are_signed_and_make_no_sense(world: World, data: st.DataObject) -> None:
    world.reset()
    kinds = sorted({name.partition("/")[0] for name in world.names})
    kind = data.draw(st.sampled_from(kinds))
    name = data.draw(st.sampled_from([name for name in world.names if name.startswith(kind + "/")]))
    document = world.document(name)
    spot: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
        if isinstance(spot[key], (dict, list)) and spot[key] and data.draw(st.booleans()):
            spot = spot[key]
            continue
        times = st.sampled_from(("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "1970-01-01T00:00:00+00:00"))
        spot[key] = data.draw(json_values | times)
        break
    kind = "backup" if name.startswith("backups/") else _kind_of(name)[0]
    secrecy = "index" if world.storage.get(name)[5] == 0 else "data"
    try:
        sealed = control.seal(world.keys, kind, name, document, secrecy=secrecy)  # type: ignore[arg-type]
    except FreezerError:
        return  # no JSON
    world.storage.put(name, [sealed])
    operation = data.draw(st.sampled_from(sorted(OPERATIONS)))
    with suppress(IntegrityError, UnsupportedFormat, BackupNotFound), opened(world.storage) as freezer:
        OPERATIONS[operation](freezer)  # a boundary makes a PluginError of what nobody expected
