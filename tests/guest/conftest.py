"""Tests that need a Linux kernel of their own, with device-mapper: run in a guest (``tests/services/lvm/run``).

Outside a guest each file ``test_*.py`` of this folder is one test. It boots a guest, runs the file there by pytest, and
fails with what that said. The file itself is not imported outside. Nothing else is needed to add one, but know:

- The guest has only its own loopback, and what is installed on the machine. ``SERVICES = ("mariadb", ...)`` at the top
  of a file names services whose ``install`` is run before it boots. ``servers.start("mariadb")`` works in it as usual.
- It is slow: one processor, programs start about five times slower. A few tests a file, no more.
- ``record_property("figure", "...")`` shows a line at the end of the whole run.
- ``GUEST_PYTEST="-k name -x"`` gives arguments to the pytest in the guest.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import servers

INSIDE = "FREEZER_TEST_GUEST" in os.environ
RUN = servers.HERE / "lvm" / "run"


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return None if INSIDE else GuestFile.from_parent(parent, path=module_path)


class GuestFile(pytest.File):
    """A file of tests, seen from outside."""

    def collect(self) -> Iterator[pytest.Item]:
        yield GuestRun.from_parent(self, name="in_a_guest")


class GuestFailure(Exception):
    """The pytest in the guest failed; its output is the message."""


class GuestRun(pytest.Item):
    """All tests of one file, run in one guest."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(**arguments)
        for marker in ("guest", "root", "slow"):
            self.add_marker(marker)

    def runtest(self) -> None:
        for service in ("lvm", *_services(self.path)):
            servers.install(service)
        servers.start("lvm")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-p", "no:xdist"]
            command += ["--color=no", "--tb=short", f"--rootdir={self.config.rootpath}"]
            command += [f"--junitxml={report}", "-o", "junit_family=xunit1"]  # with the properties of tests
            command += [*shlex.split(os.environ.get("GUEST_PYTEST", "")), str(self.path)]
            environment = {**os.environ, "GUEST_WRITE": folder, "GUEST_TIMEOUT": "1800"}
            done = subprocess.run(
                [RUN, *command],
                cwd=self.config.rootpath,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output = done.stdout.decode("utf-8", "replace")
            if done.returncode:
                raise GuestFailure(f"exit status {done.returncode}\n{output}")
            self.add_report_section("call", "guest", output)
            for each in ElementTree.parse(report).iter("property"):
                self.user_properties.append((each.get("name", ""), each.get("value", "")))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: str | None = None) -> str:
        if isinstance(excinfo.value, GuestFailure):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.nodeid


def _services(path: Path) -> tuple[str, ...]:
    """The value of ``SERVICES`` in a file that cannot be imported here."""
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["SERVICES"]:
            return tuple(ast.literal_eval(node.value))
    return ()


@pytest.fixture(scope="session", autouse=True)
def _services_of_the_guest() -> Iterator[None]:
    """Servers of the guest have a state of their own; what is installed for them is the machine's."""
    outside = servers.state_root()
    inside = Path("/run/freezer-test-services")
    inside.mkdir()
    (inside / "venvs").symlink_to(outside / "venvs")
    os.environ["FREEZER_TEST_SERVICES"] = str(inside)
    yield
    subprocess.run(["sh", str(servers.HERE / "stop-all")], check=True)
