#!/usr/bin/env python3
"""Measures how well storages keep to their bandwidth limits, on real servers on loopback.

    bandwidth.py [--work DIR] [--storages local,sftp,swift,s3-seaweedfs,ftps] [--rate 8M] [--seconds 10] [--object 1M]

Objects go up, and come down again, over four connections at once, for about so many seconds at the limit. Three cases:
the limit as it is, a limit that is doubled when half has moved, and one that two storages of the kind share. Prints
the rate that was reached as a share of the one that was asked for; exits with 1 when any is off by more than 10 %.

Content counts, not the protocol's own bytes. The servers are those of tests/services; see storages.py.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from storages import contest, stop

from freezer_sdk import Limits, open_storage
from freezer_sdk.options import parse_size
from freezer_sdk.storages.base import Storage

THREADS = 4
TOLERANCE = 0.10
SERVICES = {"sftp": "sshd", "ftp": "vsftpd", "ftps": "vsftpd"}


@contextmanager
def opened(name: str, work: Path, limits: Limits, runs: int) -> Iterator[list[Storage]]:
    """Storages of one kind that share their limits."""
    folder = Path(tempfile.mkdtemp(dir=work))
    with ExitStack() as stack:
        if name == "local":
            places = [(f"local:{folder}/{run}", {}) for run in range(runs)]
        else:
            entrant = contest(name, folder)
            for variable, value in entrant.env.items():
                os.environ[variable] = value
            run_id = f"{os.getpid()}-{time.monotonic_ns()}"
            places = [(entrant.url.format(run=f"{run_id}-{run}"), entrant.options) for run in range(runs)]
        yield [stack.enter_context(open_storage(url, options=options, limits=limits)) for url, options in places]


def move(
    storages: list[Storage], names: list[str], content: bytes, *, direction: str, limits: Limits, case: str
) -> float:
    """Moves all objects, and gives the seconds that it took."""
    half = len(names) // 2

    def one(job: tuple[int, str, Storage]) -> None:
        number, name, storage = job
        if case == "doubled" and number == half:
            if direction == "up":
                limits.upload = (limits.upload or 0) * 2
            else:
                limits.download = (limits.download or 0) * 2
        if direction == "up":
            storage.put(name, [content])
        elif storage.get(name) != content:
            raise SystemExit(f"{name} came back changed")

    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS * len(storages)) as pool:
        list(pool.map(one, zip(itertools.count(), names, itertools.cycle(storages))))
    return time.perf_counter() - started


def measure(name: str, work: Path, *, rate: int, seconds: float, size: int, case: str) -> Iterator[tuple[str, float]]:
    """The share of the asked-for rate that was reached, by direction."""
    content = os.urandom(size)
    names = [f"object-{number:05}" for number in range(max(8, round(rate * seconds / size)))]
    limits = Limits()
    with opened(name, work, limits, 2 if case == "shared" else 1) as storages:
        for storage in storages:  # the login is not what is measured
            storage.put("first", [b""])
        for direction in ("up", "down"):
            limits.upload = limits.download = rate
            took = move(storages, names, content, direction=direction, limits=limits, case=case)
            expected = len(names) * size / rate * (0.75 if case == "doubled" else 1.0)
            yield direction, expected / took
        limits.upload = limits.download = None
        for storage in storages:
            storage.delete_many([*names, "first"])


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--storages", default="local,sftp,swift,s3-seaweedfs,ftps")
    parser.add_argument("--rate", type=parse_size, default=8 << 20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--object", type=parse_size, default=1 << 20)
    arguments = parser.parse_args()
    worst = 0.0
    print("| storage | limit | up | down |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        for name in arguments.storages.split(","):
            for case in ("fixed", "doubled", "shared"):
                found = dict(
                    measure(
                        name,
                        Path(work),
                        rate=arguments.rate,
                        seconds=arguments.seconds,
                        size=arguments.object,
                        case=case,
                    )
                )
                worst = max(worst, *(abs(share - 1) for share in found.values()))
                print(f"| {name} | {case} | {found['up']:.3f} | {found['down']:.3f} |", flush=True)
            if name != "local":
                stop(SERVICES.get(name, name.removeprefix("s3-")))
    if worst > TOLERANCE:
        sys.exit(f"off by {worst:.0%}")


if __name__ == "__main__":
    main()
