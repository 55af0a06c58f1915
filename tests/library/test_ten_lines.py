"""What the library promises: ten lines, public names only."""

from __future__ import annotations

from pathlib import Path

from freezer_sdk import Freezer


def test_back_up_list_verify_and_restore_in_ten_lines(tmp_path: Path) -> None:
    source, store, out = tmp_path / "etc", tmp_path / "backups", tmp_path / "out"
    (source / "ssh").mkdir(parents=True)
    (source / "ssh" / "sshd_config").write_text("Port 22\n")
    (source / "hosts").write_text("127.0.0.1 localhost\n")

    with Freezer(f"local:{store}", password="secret", create=True) as freezer:
        backup = freezer.backup(source, name="etc", tags=["daily"])
        listed = [(entry.id, entry.name, entry.tags) for entry in freezer.backups(name="etc")]
        result = freezer.verify(backup.id, read_data=True)
        freezer.restore(backup.id, out, paths=["ssh"])

    assert listed == [(backup.id, "etc", ("daily",))]
    assert (backup.status, result.ok, result.problems) == ("complete", True, ())
    assert backup.stats.added_bytes > 0
    assert (out / "ssh" / "sshd_config").read_text() == "Port 22\n"
    assert not (out / "hosts").exists()
    assert all(b"Port 22" not in file.read_bytes() for file in store.rglob("*") if file.is_file())
