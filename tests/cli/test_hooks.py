"""``--pre-command`` and its relatives, and their keys in profiles."""

from __future__ import annotations

from pathlib import Path

from cli.program import PASSWORD, Cli


def test_commands_are_taken_apart_without_a_shell(repo: Cli, tree: Path, tmp_path: Path) -> None:
    before, after, log = tmp_path / "it's before", tmp_path / "after", tmp_path / "log"
    words = ["--pre-command", f'touch "{before}"', "--post-command", f"sh -c 'echo $FREEZER_STATUS | tee {after}'"]
    repo("backup", "create", tree, "--name", "etc", *words, "--log-file", log)
    assert before.exists()
    assert after.read_text() == "complete\n"
    assert "freezer_sdk.hooks: post: complete\n" in log.read_text()


def test_a_failing_pre_command(repo: Cli, tree: Path, tmp_path: Path) -> None:
    note = tmp_path / "note"
    words = ["--pre-command", "sh -c 'echo broken; exit 7'", "--on-failure-command", f"touch {note}"]
    failed = repo("backup", "create", tree, *words, code=1)
    assert "error: pre-command 'sh' exited with status 7: broken" in failed.err
    assert note.exists()
    assert repo("backup", "list", "-f", "json").json == []
    slow = repo("backup", "create", tree, "--pre-command", "sleep 1000", "--hook-timeout", "100ms", code=1)
    assert "did not end within 0.1 seconds" in slow.err


def test_restores_have_them_too(filled: Cli, tmp_path: Path) -> None:
    note = tmp_path / "note"
    filled("backup", "restore", "latest", tmp_path / "out", "--post-command", f"touch {note}", "--name", "etc")
    assert note.exists()


def test_profiles(repo: Cli, tree: Path, tmp_path: Path) -> None:
    config, note = tmp_path / "freezer.toml", tmp_path / "note"
    config.write_text(
        f'[profiles.default.backup]\npre-command = ["sh", "-c", "echo backup >> {note}"]\nhook-timeout = "1m"\n'
        f"[profiles.default.restore]\npost-command = \"sh -c 'echo restore >> {note}'\"\n"
    )
    repo.env["FREEZER_CONFIG"] = str(config)
    repo("backup", "create", tree, "--name", "etc")
    repo("backup", "restore", "latest", tmp_path / "out")
    assert note.read_text() == "backup\nrestore\n"
    repo("backup", "create", tree, "--name", "etc", "--pre-command", "true")
    repo("backup", "create", tree, "--name", "etc", "--pre-command", "")
    assert note.read_text() == "backup\nrestore\n"
    shown = {row["setting"]: row["value"] for row in repo("config", "show", "-f", "json").json}
    assert shown["backup.hook-timeout"] == "1m"
    config.write_text('[profiles.default.backup]\npre-command = "sh -c \'open"\n')
    assert "No closing quotation" in repo("config", "check", code=2).out
    assert "No closing quotation" in repo("backup", "create", tree, code=2).err


def test_hooks_do_not_get_the_password(cli: Cli, tree: Path, tmp_path: Path) -> None:
    cli.env |= {"FREEZER_STORAGE": f"local:{tmp_path / 'repository'}", "FREEZER_PASSWORD": PASSWORD}
    cli("repository", "init")
    note = tmp_path / "note"
    cli("backup", "create", tree, "--pre-command", f"sh -c 'env > {note}'")
    assert "FREEZER_OPERATION=backup" in note.read_text()
    assert PASSWORD not in note.read_text()
