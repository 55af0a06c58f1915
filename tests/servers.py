"""Real servers for tests: started when a test first asks, by the scripts in ``tests/services/``."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "services"
ROOT = HERE.parent.parent


def state_root() -> Path:
    """Where all services keep their state; the same as in ``tests/services/lib.sh``."""
    return Path(os.environ.get("FREEZER_TEST_SERVICES") or ROOT / ".test-services")


def start(service: str, *, instance: str = "", **variables: str) -> dict[str, str]:
    """Starts a service unless it runs, and gives the names and values that its ``start`` wrote.

    Args:
        instance: names a server of the test's own (to be killed, say); the shared one otherwise.
        variables: environment for the script.

    A test is skipped where the service cannot be started, but fails in CI.
    """
    _run_or_skip(service, "start", instance, variables)
    state = state_root() / (service + (f"-{instance}" if instance else ""))
    lines = (state / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def install(service: str) -> None:
    """Installs what a service needs, without starting it, as a guest cannot do for itself; skips as :func:`start`."""
    _run_or_skip(service, "install", "", {})


def stop(service: str, *, instance: str = "") -> None:
    """Ends a service, or one instance of it."""
    _run(service, "stop", instance, {}).check_returncode()


def _run_or_skip(service: str, script: str, instance: str, variables: dict[str, str]) -> None:
    root = state_root()
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w") as lock:  # workers of one test run, and runs beside each other
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = _run(service, script, instance, variables)
    if done.returncode:
        reason = f"service {service} does not {script}: {(done.stderr or done.stdout).strip()[-2000:]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _run(service: str, script: str, instance: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **variables, "FREEZER_TEST_INSTANCE": instance}
    return subprocess.run(
        ["sh", str(HERE / service / script)], env=env, capture_output=True, text=True, timeout=600, check=False
    )
