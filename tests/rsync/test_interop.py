"""Stores that the original agent wrote, where they are at hand: outside of the project, and not part of it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.rsync.engine import RsyncEngine
from freezer_sdk.errors import RepositoryNotFound, WrongPassword
from freezer_sdk.model import RestoreOptions
from freezer_sdk.storages.local import LocalStorage

STORES = Path(__file__).parents[2].parent / "shared/interop"
CASES = sorted(path.parent.name for path in STORES.glob("rsync*/case.json"))

LIMITS = {
    ("rsync-odd-names", 0): {b"sym_dir"},  # version 1 stores no links to directories
    ("rsync-insert", 1): {b"data/blob.bin"},  # version 1 cannot store what an insertion moves
    ("rsyncv2-lost-tail", 0): {b"r.bin"},  # the original threw its content away
}
"""What a backup cannot give, and why."""

pytestmark = pytest.mark.skipif(not CASES, reason="no stores of the original agent here")


def expected(case: str, run: dict[str, Any]) -> dict[bytes, dict[str, Any]]:
    document = json.loads((STORES / case / run["expect"]).read_text())
    entries = document if isinstance(document, list) else document.get("entries", document)
    if isinstance(entries, dict):
        entries = [{"path": path, **facts} for path, facts in entries.items()]
    return {os.fsencode(entry["path"]): entry for entry in entries}


def facts(path: bytes) -> dict[str, Any]:
    st = os.lstat(path)
    found: dict[str, Any] = {"mode": f"{stat.S_IMODE(st.st_mode):04o}", "mtime": st.st_mtime_ns // 10**9}
    if os.geteuid() == 0:
        found |= {"uid": st.st_uid, "gid": st.st_gid}
    if stat.S_ISREG(st.st_mode):
        found |= {"size": st.st_size, "sha256": hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()}
    if stat.S_ISLNK(st.st_mode):
        found["target"] = os.readlink(path).decode()
    return found


def password(case: str) -> str | None:
    file = STORES / case / "passfile"
    return file.read_text().rstrip("\n") if file.exists() else None


@pytest.mark.parametrize("case", CASES)
def test_a_store_restores_to_what_was_backed_up(case: str, tmp_path: Path) -> None:
    document = json.loads((STORES / case / "case.json").read_text())
    storage = LocalStorage(path=str(STORES / case / "store"))
    made = {new["timestamp"]: run for run in document["runs"] for new in run["new"]}
    if not made:
        return
    repository = RsyncEngine().open(storage, password=lambda: password(case))
    backups = {int(backup.time.timestamp()): backup for backup in repository.backups()}
    assert backups.keys() == made.keys()
    for time, backup in backups.items():
        target = tmp_path / str(time)
        result = repository.restore(backup.id, str(target), RestoreOptions(), Context())
        limits = LIMITS.get((case, backup.level or 0), set())
        for path, entry in expected(case, made[time]).items():
            full = os.path.join(os.fsencode(target), path)
            if path in limits:
                assert not os.path.lexists(full)
                continue
            assert os.path.lexists(full), path
            for name, value in facts(full).items():
                if path == b"." and case.startswith("rsyncv2") and name != "sha256":
                    continue  # version 2 does not record the directory itself
                assert entry.get(name, value) == value, (path, name)
        names = {
            os.path.relpath(os.path.join(where, name), os.fsencode(target))
            for where, below, files in os.walk(os.fsencode(target))
            for name in below + files
        }
        assert names | {b"."} == (expected(case, made[time]).keys() | {b"."}) - limits
        fatal = {os.fsencode(problem.path) for problem in result.problems if problem.fatal}
        assert {path for path in fatal if not path.startswith(b"data/rsync/")} == limits - {b"sym_dir"}


@pytest.mark.parametrize("case", [case for case in CASES if "encrypted" in case and "v19" not in case])
def test_a_wrong_password_is_told_before_anything_is_written(case: str, tmp_path: Path) -> None:
    storage = LocalStorage(path=str(STORES / case / "store"))
    repository = RsyncEngine().open(storage, password=lambda: "wrong")
    backup = repository.backups()[0]
    with pytest.raises(WrongPassword):
        repository.restore(backup.id, str(tmp_path / "out"), RestoreOptions(), Context())
    assert not (tmp_path / "out").exists()


def test_an_empty_storage_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound):
        RsyncEngine().open(LocalStorage(path=str(tmp_path)), password=lambda: None)
