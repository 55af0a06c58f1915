"""Provider ``vss`` against a stand-in for PowerShell: there is no Windows here.

The stand-in answers the scripts of the provider as Microsoft's documentation of Win32_Volume and Win32_ShadowCopy says.
It proves the order of steps and the cleaning up, not that the scripts do on Windows what they should.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from freezer_sdk.errors import SnapshotError
from freezer_sdk.snapshots import vss
from freezer_sdk.snapshots.vss import PowerShell, VssProvider
from freezer_sdk.testing import SnapshotSuite


class StandInPowerShell(PowerShell):
    """Volumes and shadow copies are folders below one that the test gives."""

    def __init__(self, world: Path) -> None:
        self.world = world
        self.volumes = {"C": world / "C", "D": world / "D"}
        self.shadows = world / "shadows"
        for folder in (*self.volumes.values(), self.shadows):
            folder.mkdir(parents=True, exist_ok=True)

    def run(self, script: str, given: Mapping[str, str]) -> Any:
        answers = {
            vss.VOLUMES: self.list_volumes,
            vss.SHADOWS: self.list_shadows,
            vss.PROCESSES: self.list_processes,
            vss.CREATE: self.create,
            vss.DELETE: self.delete,
        }
        return json.loads(json.dumps(answers[script](dict(given))))

    def list_volumes(self, given: dict[str, str]) -> Any:
        real = [{"Name": f"{path}/", "FileSystem": "NTFS", "DriveType": 3} for path in self.volumes.values()]
        return [*real, {"Name": "/", "FileSystem": None, "DriveType": 5}]

    def list_shadows(self, given: dict[str, str]) -> Any:
        return [{"ID": f"{{{each.name}}}", "DeviceObject": str(each)} for each in self.shadows.iterdir()]

    def list_processes(self, given: dict[str, str]) -> Any:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    def create(self, given: dict[str, str]) -> Any:
        if (self.world / "refuse").exists():
            return [{"ReturnValue": 6, "ShadowID": None}]
        name = str(uuid.uuid4()).upper()
        shutil.copytree(given["volume"], self.shadows / name, symlinks=True)
        with open(given["note"], "a") as note:
            note.write(f"{{{name}}}\r\n")
        return [{"ReturnValue": 0, "ShadowID": f"{{{name}}}"}]

    def delete(self, given: dict[str, str]) -> Any:
        shutil.rmtree(self.shadows / given["id"].strip("{}"))
        return []


class StandInVss(VssProvider):
    """The provider with the stand-in in place of Windows."""

    def __init__(self, *, label_prefix: str = "freezer", folder: str, world: str) -> None:
        super().__init__(label_prefix=label_prefix, folder=folder, powershell=StandInPowerShell(Path(world)))

    @classmethod
    def available(cls) -> str | None:
        return None


class TestConformance(SnapshotSuite):
    provider = StandInVss
    copies = True

    @pytest.fixture(autouse=True)
    def _world(self, tmp_path: Path) -> None:
        self._shell = StandInPowerShell(tmp_path / "world")
        self._links = tmp_path / "links"
        self.options = {"folder": str(self._links), "world": str(tmp_path / "world")}

    def make_volume(self) -> Path:
        path = self._shell.volumes["C"] / secrets.token_hex(6)
        path.mkdir()
        return path

    def leftovers(self, prefix: str) -> list[str]:
        links = os.listdir(self._links) if self._links.exists() else []
        shadows = os.listdir(self._shell.shadows)  # these bear no label: none may be there without a link
        return [name for name in links if name.startswith(f"{prefix}-")] or shadows


@pytest.fixture
def shell(tmp_path: Path) -> StandInPowerShell:
    return StandInPowerShell(tmp_path / "world")


@pytest.fixture
def provider(tmp_path: Path) -> StandInVss:
    return StandInVss(folder=str(tmp_path / "links"), world=str(tmp_path / "world"))


def test_several_volumes_have_a_shadow_copy_each(shell: StandInPowerShell, provider: VssProvider) -> None:
    paths = [shell.volumes[name] / "file" for name in "CD"]
    for path in paths:
        path.write_text("before")
    with provider.create([*paths, paths[0]]) as group:
        assert len(list(shell.shadows.iterdir())) == 2
        assert not group.facts["atomic"]
        for path in paths:
            path.write_text("after")
            assert Path(str(group.views[path])).read_text() == "before"


def test_a_shadow_copy_that_windows_deleted_fails_the_run(shell: StandInPowerShell, provider: VssProvider) -> None:
    with provider.create([shell.volumes["C"]]) as group:
        group.check()
        for each in shell.shadows.iterdir():
            shutil.rmtree(each)
        with pytest.raises(SnapshotError, match="has deleted the shadow copy"):
            group.check()


def test_what_windows_says_is_told(shell: StandInPowerShell, provider: VssProvider, tmp_path: Path) -> None:
    (shell.world / "refuse").touch()
    with pytest.raises(SnapshotError, match="not enough storage"), provider.create([shell.volumes["C"]]):
        pass
    assert os.listdir(tmp_path / "links") == []


def test_others_shadow_copies_stay(shell: StandInPowerShell, provider: VssProvider, tmp_path: Path) -> None:
    (shell.shadows / str(uuid.uuid4()).upper()).mkdir()
    with provider.create([shell.volumes["C"]]):
        pass
    (tmp_path / "links" / "freezer-999999999-5-0123456789ab").mkdir()
    assert provider.reap() == [str(tmp_path / "links" / "freezer-999999999-5-0123456789ab")]
    assert len(list(shell.shadows.iterdir())) == 1


def test_values_never_become_part_of_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "powershell.exe"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\ncat >{tmp_path}/input\necho \'{{"a": 1}}\'\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    value = "C:\\'; Remove-Item x; '\N{SNOWMAN}"
    assert PowerShell().run(vss.CREATE, {"volume": value}) == [{"a": 1}]
    *options, encoded = (tmp_path / "arguments").read_text().splitlines()
    assert options == ["-NoProfile", "-NonInteractive", "-EncodedCommand"]
    script = base64.b64decode(encoded).decode("utf-16-le")
    assert vss.CREATE in script
    assert "Remove-Item" not in script
    assert json.loads((tmp_path / "input").read_text()) == {"volume": value}
    program.write_text("#!/bin/sh\necho 'Access is denied.' >&2; exit 1\n")
    with pytest.raises(SnapshotError, match="Access is denied"):
        PowerShell().run(vss.SHADOWS, {})
