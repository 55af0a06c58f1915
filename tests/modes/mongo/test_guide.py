"""The recovery runbook of ``docs/how-to/mongo.md``, as it stands there, on a real server of MongoDB's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from btrfs_volume import new_subvolume
from mongo_server import PAGE, new_mongo
from running_writer import commands

from freezer_sdk import Freezer

pytestmark = pytest.mark.mongo


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.root
def test_a_whole_server(freezer: Freezer, tmp_path: Path) -> None:
    instance = f"guide-{os.getpid()}"
    with new_subvolume() as volume, new_mongo(instance, data=volume / "mongodb") as server:
        with server.client() as client:
            client.shop.people.insert_one({"_id": "Ada"})
        freezer.backup(mode="mongo", mode_options=server.login(), snapshot="btrfs")
        with server.client() as client:
            client.drop_database("shop")
        # this server's programs have other names and options than MongoDB's own
        service, stub = servers.HERE / "mongodb", servers.ROOT / "tests" / "stub_mongod.py"
        write(tmp_path / "systemctl", f"FREEZER_TEST_INSTANCE={instance} MONGODB_DATA={server.data} sh {service}/$1")
        write(tmp_path / "mongod", f'exec {sys.executable} {stub} {server.env["MONGODB_SERVER"]} "$@"')
        script = commands(PAGE, "### A whole server", "sh")[0].replace("/var/lib", str(volume))
        programs = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
        env = {**os.environ, "PATH": programs, "FREEZER_STORAGE": freezer.location}
        done = subprocess.run(["sh", "-euc", script], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with server.client() as client:
            assert client.shop.people.find_one() == {"_id": "Ada"}
        assert (volume / "mongodb.broken").is_dir()
