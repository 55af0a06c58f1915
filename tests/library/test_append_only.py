"""The guide to clients that can only add: what it promises such a client works."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from dedup.holders import content, join, made

from freezer_sdk import Freezer, Status
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.errors import AccessDenied
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import Capabilities, ObjectInfo
from freezer_sdk.storages.memory import MemoryStorage


class AddOnly(MemoryStorage):
    """What credentials allow that can list, read and add."""

    conditional = True
    refusals = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_put=self.conditional, persistent=False)

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        if not if_absent and any(info.name == name for info in self.list(name)):
            raise self._refusal(f"{name} may not be replaced")
        return super().put(name, buffers, if_absent=if_absent)

    def delete(self, name: str) -> None:
        raise self._refusal(f"{name} may not be deleted")

    def _refusal(self, message: str) -> AccessDenied:
        self.refusals += 1
        return AccessDenied(message)


class AddOnlyWithoutConditions(AddOnly):
    conditional = False


@pytest.mark.parametrize("kind", [AddOnly, AddOnlyWithoutConditions])
@pytest.mark.parametrize("roles", [[Role.WRITER], [Role.WRITER, Role.READER]])
def test_a_client_that_can_only_add_makes_backups(kind: type[AddOnly], roles: list[Role], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"f{number}").write_bytes(random.Random(number).randbytes(150_000))
    space = f"add-only-{kind.__name__}-{len(roles)}"
    with MemoryStorage(space=space) as whole, kind(space=space) as narrow:
        made(whole)
        join(whole, "client", *roles, hosts=["web1"])
        for _ in range(3):
            with Freezer(narrow, password="client") as client:
                backup = client.backup(source, name="srv", host="web1")
            assert backup.status is Status.COMPLETE
            assert backup.problems == ()
        assert backup.stats.added_bytes < 30_000  # only what the run itself costs
        assert narrow.refusals == 0
        with Freezer(whole, password="owner") as owner:
            assert [each.id for each in owner.backups()][-1] == backup.id
            assert len(owner.backups()) == 3
            assert owner.restore(backup.id, tmp_path / "out").status is Status.COMPLETE
    assert content(tmp_path / "out") == content(source)
