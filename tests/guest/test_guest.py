"""The guest itself: what tests beside this one build on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import servers


def test_a_guest_has_device_mapper_and_files_of_its_own(record_property: Callable[[str, str], None]) -> None:
    subprocess.run(["dmsetup", "version"], check=True)
    assert Path("/proc/1/comm").read_text().strip() == "init"
    written = servers.ROOT / "written-in-a-guest"
    written.touch()  # gone with the guest
    release = Path("/proc/sys/kernel/osrelease").read_text().strip()
    record_property("figure", f"the guest's kernel is Linux {release}")
