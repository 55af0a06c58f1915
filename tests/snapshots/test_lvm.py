"""What of provider ``lvm`` needs no volumes; ``tests/guest/test_lvm.py`` has the rest."""

from __future__ import annotations

from typing import Any

import pytest

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.snapshots.lvm import LvmProvider


@pytest.mark.parametrize("size", ["500M", "8G", "80%FREE", "100%free", "20%ORIGIN", "150%ORIGIN", "10%VG"])
def test_sizes_are_amounts_or_shares(size: str) -> None:
    LvmProvider(size=size)


@pytest.mark.parametrize("size", ["", "0", "-1G", "80%", "%FREE", "0%FREE", "101%FREE", "80%PVS", "8 G G", "٨G"])
def test_other_sizes_are_refused(size: str) -> None:
    with pytest.raises(ConfigurationError, match="snapshot"):
        LvmProvider(size=size)


@pytest.mark.parametrize(
    "values",
    [
        {"snapshot_name": "-x"},
        {"snapshot_name": "a/b"},
        {"snapshot_name": ""},
        {"mount_point": "relative"},
        {"label_prefix": "--yes"},
    ],
)
def test_names_that_lvm_cannot_have_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        LvmProvider(**values)


def test_missing_programs_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freezer_sdk.streams.command._SYSTEM_FOLDERS", "/none")
    monkeypatch.setenv("PATH", "/none")
    assert LvmProvider.available() == "the program 'lvs' is missing: apt-get install lvm2"
