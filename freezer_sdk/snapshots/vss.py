"""Provider ``vss``: shadow copies of Windows volumes, made, mapped and deleted by PowerShell.

A shadow copy bears no name. Its id is noted in a folder that bears the label, next to the link by which it is read.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import CommandFailed, SnapshotError
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.options import Option
from freezer_sdk.snapshots.base import COMMON_OPTIONS, Probe, SnapshotProvider
from freezer_sdk.snapshots.label import Label, check_prefix
from freezer_sdk.streams.command import run_command

_FOLDER = r"C:\ProgramData\freezer-sdk\shadows"
_NOTE = "shadows"
_LINK = "link"
_ID = re.compile(r"\{[0-9A-Fa-f-]{36}\}")
_TIMEOUT = 600.0
_RETURNED = {  # of Win32_ShadowCopy.Create, as Microsoft documents them
    1: "access is denied",
    2: "invalid argument",
    3: "the volume is not found",
    4: "the volume is not supported",
    5: "the context is not supported",
    6: "not enough storage for it",
    7: "the volume is in use",
    8: "there are as many as there can be",
    9: "another one is being made",
    10: "the provider of shadow copies refused",
    11: "the provider of shadow copies is not registered",
    12: "the provider of shadow copies failed",
}

VOLUMES = "@(Get-CimInstance Win32_Volume | Where-Object Name | Select-Object Name, FileSystem, DriveType)"
SHADOWS = "@(Get-CimInstance Win32_ShadowCopy | Select-Object ID, DeviceObject)"
PROCESSES = "@((Get-Process).Id)"
CREATE = (
    "$made = Invoke-CimMethod -ClassName Win32_ShadowCopy -MethodName Create"
    " -Arguments @{Volume = $given.volume; Context = 'ClientAccessible'};"
    " if ($made.ReturnValue -eq 0) { Add-Content -LiteralPath $given.note -Value $made.ShadowID -Encoding ASCII };"
    " @{ReturnValue = $made.ReturnValue; ShadowID = $made.ShadowID}"
)
DELETE = "Get-CimInstance Win32_ShadowCopy | Where-Object ID -eq $given.id | Remove-CimInstance"


class PowerShell:
    """Runs scripts: the one place where this provider meets Windows."""

    def run(self, script: str, given: Mapping[str, str]) -> Sequence[Any]:
        """All that a script gives, through JSON.

        Args:
            script: an expression of PowerShell.
            given: its values, as ``$given``; they are data, and cannot become part of the script.

        Raises:
            SnapshotError: it failed.
        """
        whole = (
            "$ErrorActionPreference = 'Stop'; [Console]::OutputEncoding = [Text.Encoding]::UTF8;"
            " $given = [Console]::In.ReadToEnd() | ConvertFrom-Json;"
            f" $found = @(& {{ {script} }}); ConvertTo-Json -Compress -InputObject $found"
        )
        encoded = base64.b64encode(whole.encode("utf-16-le")).decode("ascii")
        command = ["powershell.exe", "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded]
        try:
            output = run_command(command, timeout=_TIMEOUT, stdin=json.dumps(dict(given)).encode("ascii"))
            found = json.loads(output or "[]")
        except CommandFailed as error:
            raise SnapshotError(f"Windows: {error.message}", hint=error.hint) from error
        except ValueError as error:
            raise SnapshotError(f"PowerShell said what is not JSON: {output[:200]!r}") from error
        return found if isinstance(found, list) else [found]


class VssProvider(SnapshotProvider):
    """Shadow copies of Windows volumes; needs an administrator.

    Several volumes are copied one right after the other, since WMI makes no two at once.

    Args:
        label_prefix: what the names of folders with links to shadow copies begin with.
        folder: where these folders are; only administrators may write there.
        powershell: what runs the scripts.

    Raises:
        ConfigurationError: names cannot begin like that.
    """

    name: ClassVar[str] = "vss"
    api_version: ClassVar[int] = API_VERSION
    summary: ClassVar[str] = "shadow copies of Windows volumes"
    preference: ClassVar[int | None] = 40
    options: ClassVar[tuple[Option, ...]] = (
        *COMMON_OPTIONS,
        Option(name="folder", type="path", default=_FOLDER, help="Where links to shadow copies are made."),
    )

    def __init__(
        self, *, label_prefix: str = "freezer", folder: str = _FOLDER, powershell: PowerShell | None = None
    ) -> None:
        self._prefix, self._folder = check_prefix(label_prefix), Path(folder)
        self._powershell = powershell or PowerShell()

    @classmethod
    def available(cls) -> str | None:
        """Windows only."""
        return None if sys.platform == "win32" else "shadow copies exist on Windows only"

    def probe(self, paths: Sequence[Path]) -> Probe:
        """See :meth:`SnapshotProvider.probe <freezer_sdk.snapshots.base.SnapshotProvider.probe>`."""
        try:
            places = self._places(paths)
        except SnapshotError as error:
            return Probe(possible=False, reason=error.message)
        return Probe(possible=True, reason=f"volumes {', '.join(sorted({place.volume for place in places}))}")

    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
        """See :meth:`SnapshotProvider.create <freezer_sdk.snapshots.base.SnapshotProvider.create>`."""
        places = self._places(paths)
        folder = self._folder / str(Label.new(self._prefix))
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True)
            except OSError as error:
                raise SnapshotError(f"cannot make {folder}: {error.strerror}") from error
            stack.callback(self._remove, folder)
            made = {volume: self._create(volume, folder) for volume in dict.fromkeys(each.volume for each in places)}
            devices = self._devices()
            links = {}
            for number, (volume, shadow) in enumerate(made.items()):
                if shadow not in devices:
                    raise SnapshotError(f"the shadow copy of {volume} went as soon as it was made")
                links[volume] = _link(folder / f"{_LINK}-{number}", devices[shadow])
            yield _VssGroup(places=places, links=links, shadows=made, devices=self._devices)

    def reap(self) -> Sequence[str]:
        """See :meth:`SnapshotProvider.reap <freezer_sdk.snapshots.base.SnapshotProvider.reap>`.

        A process of another program may have got the number of the one that is gone: then nothing is removed yet.
        """
        names = sorted(os.listdir(self._folder)) if self._folder.is_dir() else []
        labels = [label for label in (Label.parse(name, prefix=self._prefix) for name in names) if label is not None]
        running = set(self._powershell.run(PROCESSES, {})) if labels else set()
        removed: list[str] = []
        for label in labels:
            if label.pid not in running:
                folder = self._folder / str(label)
                removed += [f"shadow copy {shadow} of {label}" for shadow in _noted(folder)] or [str(folder)]
                self._remove(folder)
        return removed

    def _places(self, paths: Sequence[Path]) -> list[_Place]:
        names = [str(each["Name"]) for each in self._powershell.run(VOLUMES, {}) if each.get("FileSystem")]
        return [_Place.of(path, names) for path in paths]

    def _create(self, volume: str, folder: Path) -> str:
        (answer,) = self._powershell.run(CREATE, {"volume": volume, "note": str(folder / _NOTE)})
        if answer["ReturnValue"]:
            reason = _RETURNED.get(answer["ReturnValue"], f"error {answer['ReturnValue']}")
            raise SnapshotError(f"no shadow copy of {volume}: {reason}", hint="it takes an administrator")
        return str(answer["ShadowID"])

    def _devices(self) -> dict[str, str]:
        """Where the contents of all shadow copies are, by id."""
        return {str(each["ID"]): str(each["DeviceObject"]) for each in self._powershell.run(SHADOWS, {})}

    def _remove(self, folder: Path) -> None:
        there = self._devices() if _noted(folder) else {}
        for shadow in _noted(folder):
            if shadow in there:
                self._powershell.run(DELETE, {"id": shadow})
        try:
            for each in folder.iterdir():
                if each.name.startswith(_LINK) and sys.platform == "win32":
                    each.rmdir()  # a link to a folder
                else:
                    each.unlink()
            folder.rmdir()
        except OSError as error:
            raise SnapshotError(f"cannot remove {folder}: {error.strerror}") from error


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A path, the name of its volume such as ``C:\\``, and the way from there."""

    path: Path
    volume: str
    inner: str

    @classmethod
    def of(cls, path: Path, volumes: Sequence[str]) -> _Place:
        try:
            place = os.path.realpath(path, strict=True)
        except OSError as error:
            raise SnapshotError(f"cannot look at {path}: {error.strerror}") from error
        folded = os.path.normcase(os.path.join(place, ""))
        fitting = [volume for volume in volumes if folded.startswith(os.path.normcase(volume))]
        if not fitting:
            raise SnapshotError(f"{path} lies on no volume of this machine that can have shadow copies")
        volume = max(fitting, key=len)
        return cls(path=path, volume=volume, inner=place[len(volume) :])


class _VssGroup(SnapshotGroup):
    """Views are folders below links to shadow copies; Windows deletes those when the room for changes is used up."""

    def __init__(
        self, *, places: Sequence[_Place], links: Mapping[str, Path], shadows: Mapping[str, str], devices: Any
    ) -> None:
        self.views = {place.path: links[place.volume] / place.inner for place in places}
        self._shadows, self._devices = dict(shadows), devices
        made = [{"name": shadow, "volume": volume} for volume, shadow in shadows.items()]
        self.facts = {"provider": "vss", "snapshots": made, "atomic": len(made) == 1}

    def check(self) -> None:
        """Whether Windows still has all of them.

        Raises:
            SnapshotError: it has deleted one.
        """
        there = self._devices()
        for volume, shadow in self._shadows.items():
            if shadow not in there:
                raise SnapshotError(
                    f"Windows has deleted the shadow copy of {volume} while it was in use",
                    hint="vssadmin resize shadowstorage gives more room for changes",
                )


def _link(link: Path, device: str) -> Path:
    try:
        # the separator makes it the root of the volume, not the device
        link.symlink_to(device + os.sep, target_is_directory=True)
    except OSError as error:
        raise SnapshotError(f"cannot make {link}: {error.strerror}") from error
    return link


def _noted(folder: Path) -> list[str]:
    """Ids of the shadow copies that were made for a folder."""
    with suppress(FileNotFoundError):
        return _ID.findall((folder / _NOTE).read_text(encoding="ascii", errors="replace"))
    return []
