#!/usr/bin/env python3
"""Compares each storage with the best client of its own kind, on real servers on loopback.

    storages.py [--work DIR] [--storages sftp,swift,s3-swift,s3-seaweedfs,ftp,ftps] [--objects 8] [--size 64M]
                [--rounds 3]

In each round the storage and its peer move the same objects, first up, then down, in turn; who begins changes. Times
are those of whole processes, from start to exit. The peers, each with as many connections as the storage uses:

    sftp    OpenSSH's sftp, one process for each connection
    swift   python-swiftclient's SwiftService (what `swift upload` is), plain objects
    s3      boto3's upload_file and download_file, in parts, with its default concurrency
    ftp     curl, one process for each connection

Prints medians of MiB/s and of the ratios of each round. The servers are those of tests/services, which install what
they need (root, apt, PyPI). Needs: pip install '.[all]', and apt-get install openssh-client curl.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from servers import start, stop  # noqa: E402

from freezer_sdk.options import parse_size  # noqa: E402

OURS = textwrap.dedent("""
    import json, os, sys
    from concurrent.futures import ThreadPoolExecutor
    from freezer_sdk import open_storage

    direction, folder, url, options, connections = sys.argv[1:]
    with open_storage(url, options=json.loads(options)) as storage, ThreadPoolExecutor(int(connections)) as pool:
        def up(name):
            with open(os.path.join(folder, name), "rb") as file:
                storage.put(name, [file.read()])
        def down(name):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(storage.get(name))
        names = sorted(os.listdir(folder)) if direction == "up" else [info.name for info in storage.list()]
        list(pool.map(up if direction == "up" else down, names))
        storage.flush()
""")

SWIFT = textwrap.dedent("""
    import os, sys
    from swiftclient.service import SwiftService, SwiftUploadObject

    direction, folder, container, connections = sys.argv[1:]
    options = {"object_uu_threads": int(connections), "object_dd_threads": int(connections), "out_directory": folder}
    with SwiftService(options) as swift:
        if direction == "up":
            objects = [SwiftUploadObject(os.path.join(folder, name), object_name=name) for name in os.listdir(folder)]
            results = swift.upload(container, objects)
        else:
            results = swift.download(container)
        for result in results:
            if not result["success"]:
                raise SystemExit(result["error"])
""")

S3 = textwrap.dedent("""
    import os, sys
    from concurrent.futures import ThreadPoolExecutor
    import boto3
    from botocore.config import Config

    direction, folder, bucket, endpoint, connections = sys.argv[1:]
    s3 = boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=32))
    if direction == "up":
        names = os.listdir(folder)
    else:
        names = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    def move(name):
        path = os.path.join(folder, name)
        s3.upload_file(path, bucket, name) if direction == "up" else s3.download_file(bucket, name, path)
    with ThreadPoolExecutor(int(connections)) as pool:
        list(pool.map(move, names))
""")


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A storage and its peer.

    Attributes:
        url, options: of the storage; ``{run}`` is replaced, so that each upload finds an empty place.
        peer: direction, folder and run to the command lines that run at once.
        prepare: makes the peer's empty place for a run.
    """

    url: str
    options: dict[str, str]
    connections: int
    env: dict[str, str]
    peer: Callable[[str, Path, str], list[list[str]]]
    prepare: Callable[[str], None] = lambda run: None


def contest(name: str, folder: Path) -> Contest:
    """Starts what a storage needs."""
    if name == "sftp":
        return sftp(start("sshd"), folder)
    if name == "swift":
        return swift(start("swift"))
    if name.startswith("s3-"):
        return s3(start(name.removeprefix("s3-")))
    return ftp(start("vsftpd"), tls=name == "ftps")


def sftp(env: dict[str, str], folder: Path) -> Contest:
    """OpenSSH's own client, with the same key."""
    key, base = f"{env['SSH_KEYS']}/ed25519", folder / "sftp"
    base.mkdir()
    options = {"identity_file": key, "host_key": env["SSH_FINGERPRINT"], "ssh_config": "none"}
    common = ["-q", "-i", key, "-P", env["SSH_PORT"], "-o", f"UserKnownHostsFile={env['SSH_KNOWN_HOSTS']}"]
    target = f"{env['SSH_USER']}@{env['SSH_HOST']}"

    def peer(direction: str, local: Path, run: str) -> list[list[str]]:
        commands = []
        place = base / f"peer-{run}"
        for number, names in enumerate(
            dealt(sorted(path.name for path in (local if direction == "up" else place).iterdir()), 4)
        ):
            batch = folder / f"batch-{number}"
            verb = "put {0}/{2} {1}/{2}" if direction == "up" else "get {1}/{2} {0}/{2}"
            batch.write_text("".join(verb.format(local, place, name) + "\n" for name in names))
            commands.append(["sftp", "-b", str(batch), *common, target])
        return commands

    url = f"sftp://{target}:{env['SSH_PORT']}{base}/ours-{{run}}"
    return Contest(
        url=url, options=options, connections=4, env={}, peer=peer, prepare=lambda run: (base / f"peer-{run}").mkdir()
    )


def swift(env: dict[str, str]) -> Contest:
    """python-swiftclient, with tempauth."""
    auth = {"ST_AUTH": env["SWIFT_AUTH_URL"], "ST_USER": env["SWIFT_USER"], "ST_KEY": env["SWIFT_KEY"]}
    options = {"os_auth_url": auth["ST_AUTH"], "os_username": auth["ST_USER"], "os_password": auth["ST_KEY"]}
    options["os_identity_api_version"] = "1"

    def peer(direction: str, local: Path, run: str) -> list[list[str]]:
        return [[sys.executable, "-c", SWIFT, direction, str(local), f"peer-{run}", "4"]]

    return Contest(url="swift:ours-{run}", options=options, connections=4, env=auth, peer=peer)


def s3(env: dict[str, str]) -> Contest:
    """boto3's transfer manager."""
    keys = {
        "AWS_ACCESS_KEY_ID": env["S3_ACCESS"],
        "AWS_SECRET_ACCESS_KEY": env["S3_SECRET"],
        "AWS_REGION": env["S3_REGION"],
    }

    def prepare(run: str) -> None:
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=env["S3_ENDPOINT"],
            aws_access_key_id=env["S3_ACCESS"],
            aws_secret_access_key=env["S3_SECRET"],
            region_name=env["S3_REGION"],
        )
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # boto3 asked again after a late answer
            client.create_bucket(Bucket=f"peer-{run}")

    def peer(direction: str, local: Path, run: str) -> list[list[str]]:
        return [[sys.executable, "-c", S3, direction, str(local), f"peer-{run}", env["S3_ENDPOINT"], "4"]]

    options = {"endpoint": env["S3_ENDPOINT"], "create_bucket": "yes"}
    return Contest(url="s3://ours-{run}", options=options, connections=4, env=keys, peer=peer, prepare=prepare)


def ftp(env: dict[str, str], *, tls: bool) -> Contest:
    """curl, with explicit TLS or without."""
    port = env["FTPS_PORT" if tls else "FTP_PORT"]
    base = f"ftp://127.0.0.1:{port}{env['FTP_PATH']}"
    login = ["curl", "-sS", "--fail", "--ftp-create-dirs", "-u", f"{env['FTP_USER']}:{env['FTP_PASSWORD']}"]
    login += ["--ssl-reqd", "--cacert", env["FTP_CA"]] if tls else []

    def peer(direction: str, local: Path, run: str) -> list[list[str]]:
        there = Path(env["FTP_FOLDER"]) / f"peer-{run}"
        names = sorted(path.name for path in (local if direction == "up" else there).iterdir())
        commands = []
        for part in dealt(names, 4):
            command = list(login)
            for name in part:
                side = ["-T", str(local / name)] if direction == "up" else ["-o", str(local / name)]
                command += [*side, f"{base}/peer-{run}/{name}"]
            commands.append(command)
        return commands

    options = {"password": env["FTP_PASSWORD"], **({"ca_file": env["FTP_CA"]} if tls else {})}
    url = f"{'ftps' if tls else 'ftp'}://{env['FTP_USER']}@127.0.0.1:{port}{env['FTP_PATH']}/ours-{{run}}"
    return Contest(url=url, options=options, connections=4, env={}, peer=peer)


def dealt(names: list[str], hands: int) -> list[list[str]]:
    """Names, dealt out evenly."""
    return [part for hand in range(hands) if (part := names[hand::hands])]


def seconds(commands: list[list[str]], env: dict[str, str]) -> float:
    """How long some processes take that run at once.

    Raises:
        SystemExit: one fails.
    """
    started = time.perf_counter()
    running = [
        subprocess.Popen(command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for command in commands
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f"a command failed: {commands[0][:2]}")
    return time.perf_counter() - started


def race(name: str, work: Path, source: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the storage and of its peer, by direction, round by round."""
    import json

    folder = Path(tempfile.mkdtemp(dir=work))
    entrant = contest(name, folder)
    times: dict[str, list[tuple[float, float]]] = {"up": [], "down": []}
    for number in range(rounds):
        run = f"{os.getpid()}-{number}"
        entrant.prepare(run)
        for direction, rows in times.items():
            took = {}
            for who in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
                local = source if direction == "up" else Path(tempfile.mkdtemp(dir=folder))
                if who == "ours":
                    url, options = entrant.url.format(run=run), json.dumps(entrant.options)
                    command = [
                        sys.executable,
                        "-c",
                        OURS,
                        direction,
                        str(local),
                        url,
                        options,
                        str(entrant.connections),
                    ]
                    took[who] = seconds([command], entrant.env)
                else:
                    took[who] = seconds(entrant.peer(direction, local, run), entrant.env)
                if direction == "down":
                    check(source, local)
                    shutil.rmtree(local)
            rows.append((took["ours"], took["peer"]))
    shutil.rmtree(folder)
    return times


def check(source: Path, local: Path) -> None:
    """What came back must be what went.

    Raises:
        SystemExit: it is not.
    """
    for path in source.iterdir():
        if path.read_bytes() != (local / path.name).read_bytes():
            raise SystemExit(f"{path.name} came back changed")


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--storages", default="sftp,swift,s3-swift,s3-seaweedfs,ftp,ftps")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--size", type=parse_size, default=64 << 20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    mebibytes = arguments.objects * arguments.size / (1 << 20)
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        source = Path(work) / "source"
        source.mkdir()
        for number in range(arguments.objects):
            (source / f"object-{number}").write_bytes(os.urandom(arguments.size))
        print("| storage | direction | MiB/s | its own client, MiB/s | ratio of the rates |")
        print("| --- | --- | --- | --- | --- |")
        for name in arguments.storages.split(","):
            for direction, rows in race(name, Path(work), source, arguments.rounds).items():
                ours, peer = (mebibytes / statistics.median(column) for column in zip(*rows, strict=True))
                ratio = statistics.median(other / own for own, other in rows)
                print(f"| {name} | {direction} | {ours:.0f} | {peer:.0f} | **{ratio:.2f}** |", flush=True)
            stop({"sftp": "sshd", "ftp": "vsftpd", "ftps": "vsftpd"}.get(name, name.removeprefix("s3-")))


if __name__ == "__main__":
    main()
