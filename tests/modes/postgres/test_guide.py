"""The recovery runbook of ``docs/how-to/postgres.md``, as it stands there, on a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from postgres_server import PAGE, Cluster, new_cluster
from running_writer import commands

from freezer_sdk import Freezer

pytestmark = pytest.mark.postgres


def run(script: str, folder: Path, **environment: str) -> None:
    """Runs commands of the guide, where ``systemctl`` starts and stops the tests' own server."""
    programs = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, **environment, "PATH": programs, "HOME": str(folder)}
    done = subprocess.run(["sh", "-euc", script], env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def write_systemctl(folder: Path, instance: str, data: Path) -> None:
    service = servers.HERE / "postgresql"
    (folder / "systemctl").write_text(
        f"#!/bin/sh\nFREEZER_TEST_INSTANCE={instance} POSTGRES_DATA={data} exec sh {service}/$1\n"
    )
    (folder / "systemctl").chmod(0o755)


def test_a_whole_server(freezer: Freezer, folder: Path) -> None:
    instance, data = f"guide-{os.getpid()}", folder / "15" / "main"
    data.parent.mkdir()
    with new_cluster(instance, data=data) as cluster:
        cluster.psql("CREATE TABLE people (name text); INSERT INTO people VALUES ('Ada')")
        freezer.backup(mode="postgres", mode_options=cluster.login())
        cluster.psql("DROP TABLE people")
        write_systemctl(folder, instance, data)
        (script,) = commands(PAGE, "### A whole server", "sh")
        script = script.replace("/var/lib/postgresql", str(folder))
        run(script, folder, FREEZER_STORAGE=freezer.location)
        assert cluster.psql("SELECT name FROM people") == "Ada"
        assert data.with_name("main.broken").is_dir()


def test_one_database(cluster: Cluster, freezer: Freezer, folder: Path) -> None:
    cluster.psql("CREATE DATABASE shop")
    cluster.psql("CREATE TABLE people (name text); INSERT INTO people VALUES ('Ada')", database="shop")
    freezer.backup(mode="postgres", name="dumps", mode_options=cluster.login(strategy="dump"))
    cluster.psql("DROP DATABASE shop")
    service = f"[admin]\nhost=127.0.0.1\nport={cluster.port}\nuser=postgres\n"
    (folder / "services").write_text(service)
    (folder / "passwords").write_text(f"*:*:*:postgres:{cluster.password}\n")
    (folder / "passwords").chmod(0o600)
    try:
        (script,) = commands(PAGE, "### One database", "sh")
        run(
            script,
            folder,
            FREEZER_STORAGE=freezer.location,
            PGSERVICEFILE=str(folder / "services"),
            PGPASSFILE=str(folder / "passwords"),
        )
        assert cluster.psql("SELECT name FROM people", database="shop") == "Ada"
    finally:
        cluster.psql("DROP DATABASE IF EXISTS shop")
