"""``--snapshot`` of backups, ``freezer snapshot``, and backups that come back as plain files."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import copying_snapshots
import pytest
from cli.program import Cli


@pytest.fixture(autouse=True)
def _providers(cli: Cli, tmp_path: Path) -> None:
    copying_snapshots.install(tmp_path / "site")
    cli.env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "site"), str(Path(copying_snapshots.__file__).parent)])


@pytest.fixture
def volume(tree: Path) -> Path:
    (tree / "volume").touch()
    return tree


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def test_a_backup_from_a_snapshot(repo: Cli, volume: Path, store: Path) -> None:
    repo("backup", "create", volume, "--name", "tree", "--snapshot", "auto", "--snapshot-store", store)
    shown = repo("backup", "show", "latest", "-f", "json").json
    assert shown["paths"] == [str(volume)]
    assert shown["facts"]["snapshot"]["provider"] == "copying"
    assert os.listdir(store) == []


def test_a_named_provider_has_its_options_as_flags(repo: Cli, volume: Path, store: Path, tmp_path: Path) -> None:
    text = repo("backup", "create", "--snapshot", "copying", "--help").out
    assert "--snapshot-store PATH" in text
    assert "--snapshot-key-file FILE" in text
    key = tmp_path / "key"
    key.write_text("canary\n")
    options = ["--snapshot-store", store, "--snapshot-fault", "bug", "--snapshot-key-file", key]
    failed = repo("backup", "create", volume, "--snapshot", "copying", *options, "-v", code=1)
    assert "snapshot 'copying'" in failed.err
    assert "something odd with ***" in failed.err
    assert "canary" not in failed.out + failed.err


def test_a_profile_says_it(repo: Cli, volume: Path, store: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[profiles.default]\nstorage = "{repo.env.pop("FREEZER_STORAGE")}"\n'
        f'[profiles.default.snapshot-options]\nstore = "{store}"\nkey = "canary"\n'
        f'[profiles.default.backup]\npaths = "{volume}"\nsnapshot = "copying"\n'
    )
    config.chmod(0o644)
    repo.env["FREEZER_CONFIG"] = str(config)
    repo("backup", "create")
    repo("backup", "create", "--snapshot", "none")
    facts = [row.get("snapshot") for row in (each["facts"] for each in repo("backup", "list", "-f", "json").json)]
    assert [each and each["provider"] for each in facts] == ["copying", None]
    shown = repo("config", "show", "-f", "json")
    assert {"snapshot-options.store", "backup.snapshot"} <= {row["setting"] for row in shown.json}
    assert "canary" not in shown.out
    findings = repo("config", "check", "-f", "json").json
    assert any("holds secrets" in each["message"] for each in findings)
    (store / "freezer-999999999-5-0123456789ab").mkdir()
    assert repo("snapshot", "reap", "--provider", "copying", "-f", "json").json[0]["removed"]
    config.write_text(config.read_text().replace("key =", "kee ="))
    assert "unknown option 'kee'" in repo("config", "check", code=2).out
    config.write_text(config.read_text().replace('"copying"', '"auto"'))
    assert "no snapshot provider has the option 'kee'" in repo("config", "check", code=2).out


def test_an_unknown_provider(repo: Cli, volume: Path) -> None:
    failed = repo("backup", "create", volume, "--snapshot", "nope", code=2)
    assert "there is no snapshot provider 'nope'" in failed.err
    assert "copying" in failed.err


def test_probe(cli: Cli, volume: Path, tmp_path: Path, store: Path) -> None:
    rows = cli("snapshot", "probe", volume, "--option", f"store={store}", "-f", "json").json
    found = {row["provider"]: row for row in rows}
    assert found["copying"] == {
        "provider": "copying",
        "possible": True,
        "automatic": True,
        "reason": "volumes of folders",
    }
    assert found["absent"]["reason"] == "apt-get install absent"
    only = cli("snapshot", "probe", tmp_path, "--provider", "copying", "--option", f"store={store}", code=1).out
    assert "lies on no volume" in only


def test_reap(cli: Cli, store: Path) -> None:
    left = store / "freezer-999999999-5-0123456789ab"
    left.mkdir()
    option = ["--option", f"store={store}"]
    rows = cli("snapshot", "reap", "--provider", "copying", *option, "-f", "json").json
    assert rows == [{"provider": "copying", "removed": [left.name], "error": None}]
    assert not left.exists()
    store.rmdir()
    failed = cli("snapshot", "reap", "--provider", "copying", *option, "-f", "json", code=1).json
    assert "FileNotFoundError" in failed[0]["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_snapshots(repo: Cli, volume: Path, store: Path, number: signal.Signals) -> None:
    process = running(repo, volume, store)
    process.send_signal(number)
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert os.listdir(store) == []
    assert repo("backup", "list", "-f", "json").json == []


def test_what_kill_leaves_is_reaped(repo: Cli, volume: Path, store: Path) -> None:
    process = running(repo, volume, store)
    (alive,) = repo("snapshot", "reap", "--provider", "copying", "--option", f"store={store}", "-f", "json").json
    assert alive["removed"] == []
    process.kill()
    process.communicate(timeout=300)
    assert len(os.listdir(store)) == 1
    repo("snapshot", "reap", "--provider", "copying", "--option", f"store={store}")
    assert os.listdir(store) == []


def running(repo: Cli, volume: Path, store: Path) -> subprocess.Popen[bytes]:
    """A backup from a snapshot that goes on for a minute."""
    flag = repo.home / "started"
    script = f"touch {flag}; while head -c 100000 /dev/zero; do sleep 0.1; done"
    process = repo.popen(
        *("backup", "create", volume, "--name", "slow", "--snapshot", "auto", "--snapshot-store", store),
        *("--command", "slow", "--", "sh", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not flag.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(os.listdir(store)) == 1
    return process


MODE = """
import io
from contextlib import contextmanager

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.modes.base import Mode, Protected, Stream
from freezer_sdk.options import Option


class ToyMode(Mode):
    name = "toy"
    api_version = 1
    summary = "one stream"
    options = (Option(name="table", help="which", default="all"), Option(name="password", help="its", secret=True))

    def __init__(self, *, table, password):
        self._table = table

    @contextmanager
    def protect(self, *, snapshots=None):
        yield Protected(sources=[Stream(name="dump", open=lambda: opened())], facts={"toy": {"table": self._table}})

    def restore(self, restorer, target):
        raise ConfigurationError(f"the table {self._table} cannot be brought back to {target}")

    def default_name(self):
        return "toy"


@contextmanager
def opened():
    yield io.BytesIO(b"dumped")
"""


@pytest.fixture
def toy(repo: Cli, tmp_path: Path) -> Cli:
    """A backup of a mode that brings nothing back itself."""
    site = tmp_path / "site"
    (site / "toy_mode.py").write_text(MODE)
    info = site / "toy_mode-1.dist-info"  # of its own: what is read of a known file may be remembered
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-mode\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[freezer_sdk.modes]\ntoy = toy_mode:ToyMode\n")
    repo("backup", "create", "--mode", "toy", "--table", "users")
    return repo


def test_the_mode_that_made_a_backup_brings_it_back(toy: Cli, tmp_path: Path) -> None:
    failed = toy("backup", "restore", "latest", tmp_path / "out", "--mode", "toy", "--table", "pets", code=2)
    assert f"the table pets cannot be brought back to {tmp_path / 'out'}" in failed.err
    assert "the table all cannot" in toy("backup", "restore", "latest", tmp_path / "out", code=2).err


def test_any_backup_comes_back_as_plain_files(toy: Cli, tmp_path: Path) -> None:
    toy("backup", "restore", "latest", tmp_path / "out", "--mode", "fs")
    assert (tmp_path / "out" / "dump").read_text() == "dumped"


def test_options_of_another_mode_are_refused(filled: Cli, toy: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[profiles.default.backup]\nmode = "toy"\ntable = "cats"\npassword = "canary"\n')
    toy.env["FREEZER_CONFIG"] = str(config)
    restore = ["backup", "restore", "latest", tmp_path / "out"]
    assert "the table cats" in toy(*restore, "--name", "toy", code=2).err
    failed = toy(*restore, "--name", "etc", "--table", "dogs", code=2)
    assert "options of the mode toy, and the backup was made by fs" in failed.err
    toy(*restore, "--name", "etc")
    shown = toy("config", "show").out
    assert "backup.table" in shown
    assert "canary" not in shown


def test_a_mode_without_use_for_snapshots_refuses_them(toy: Cli, store: Path) -> None:
    options = ["--snapshot", "copying", "--snapshot-store", store]
    failed = toy("backup", "create", "--mode", "toy", *options, code=2)
    assert "mode 'toy' makes no use of volume snapshots" in failed.err
