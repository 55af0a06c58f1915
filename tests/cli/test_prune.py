"""``repository prune``, ``leases`` and ``unlock``."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest
from cli.program import Cli

from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.storages.local import LocalStorage


@pytest.fixture
def brief(cli: Cli, tmp_path: Path, tree: Path) -> Cli:
    """A repository with a grace time of seconds, and a backup that is forgotten."""
    with LocalStorage(path=str(tmp_path / "repository")) as storage:
        create_repository(storage, password=None, grace=3, short_grace=True)
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    (tree / "large").write_bytes(bytes(range(256)) * 40)
    backup = cli("backup", "create", tree, "--name", "etc", "-f", "json").json
    (tree / "large").unlink()
    cli("backup", "create", tree, "--name", "etc")
    cli("backup", "delete", backup["id"])
    time.sleep(2.5)  # what is younger than the storage's clock is exact could be of a running writer
    return cli


def test_marks_then_frees(brief: Cli, tmp_path: Path) -> None:
    before = {path for path in (tmp_path / "repository").rglob("*") if path.is_file()}
    told = brief("repository", "prune", "--dry-run", "--max-waste", "0", "-f", "json").json
    assert (told["dry_run"], told["backups"], told["freed_packs"]) == (True, 1, 0)
    assert told["marked_packs"]
    assert {path for path in (tmp_path / "repository").rglob("*") if path.is_file()} == before
    first = brief("repository", "prune", "--max-waste", "0", "-f", "json").json
    assert first["marked_packs"] == told["marked_packs"]
    waiting = brief("repository", "prune").out
    assert "freed 0 B in 0 packs\n" in waiting
    assert "to be freed by a run after " in waiting
    time.sleep(max(0, datetime.fromisoformat(first["due"]).timestamp() - time.time()) + 0.5)
    second = brief("repository", "prune", "--max-waste", "0%").out
    assert f"in {told['marked_packs']} packs, and 1 forgotten backup for good" in second
    assert "waiting" not in second
    assert brief("backup", "verify", "--read-data", "-f", "json").json["ok"]


def test_events(brief: Cli) -> None:
    lines = brief("repository", "prune", "--json-events").events
    assert lines[0]["event"] == "start"
    assert lines[-1]["event"] == "result"
    assert lines[-1]["exit_code"] == 0
    assert lines[-1]["marked_packs"]


@pytest.mark.parametrize("wrong", ["200%", "-1", "much"])
def test_wrong_shares(repo: Cli, wrong: str) -> None:
    assert "is no share" in repo("repository", "prune", f"--max-waste={wrong}", code=2).err
    assert "--max-rewrite" in repo("repository", "prune", "--max-rewrite=some", code=2).err


def test_leases_and_unlock(repo: Cli, tmp_path: Path) -> None:
    assert repo("repository", "leases", "-f", "json").json == []
    with LocalStorage(path=str(tmp_path / "repository")) as storage:
        keys = open_repository(storage, lambda: None)
        lease = protocol.Lease.create(storage, keys, "backups/20260101T000000.000Z-" + "a" * 32)
        (found,) = repo("repository", "leases", "-f", "json").json
        assert (found["id"], found["status"], found["backup"]) == (lease.id, "open", "a" * 32)
        assert lease.id[:8] in repo("repository", "leases").out
        refused = repo("repository", "unlock", lease.id[:8], code=11)
        assert "is in use" in refused.err
        assert repo("repository", "unlock", "-f", "json").json == []
        lease.close()
    (removed,) = repo("repository", "unlock", lease.id, "-f", "json").json
    assert removed["status"] == "closed"
    assert repo("repository", "leases", "-f", "json").json == []


def test_the_grace_time(repo: Cli) -> None:
    assert repo("repository", "set", "--grace", "48h", "-f", "json").json["details"]["grace_seconds"] == 48 * 3600
    assert repo("repository", "show", "-f", "json").json["details"]["grace_seconds"] == 48 * 3600
    assert "one hour" in repo("repository", "set", "--grace", "5m", code=2).err
    assert "not a duration" in repo("repository", "set", "--grace", "soon", code=2).err
