#!/usr/bin/env python3
"""Measures the memory of backups: a 4 GiB file, a tree of 200,000 files, defaults and low-memory settings.

    memory.py [--work DIR] [--freezer PROGRAM] [--scale 1.0] [--out FILE]

Prints one table (Markdown):

    defaults     full and incremental backup; the peak must stay under 200 MB
    low memory   the same in a memory cgroup of 128 MB, which ends a run that needs more (root; cgroup v1 or v2)
    sweep        the peak of a full backup of a quarter of the file by --queue-size and --pack-size

The peak is the "Maximum resident set size" of GNU time. DIR must be on a disk for the cgroup runs: what is written to
a tmpfs counts as memory of the writer. About 12 GB are needed there. Exits with 1 when a run fails or needs too much.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import clean_environment, room, run
from programs import PASSWORD

MIB = 1 << 20
FILE_MIB = 4096
TREE_FILES = 200_000
LIMIT_MB = 200
CGROUP = 128 * MIB
LOW_MEMORY = "--queue-size 1M --pack-size 1M --threads 1"
SWEEP = (
    "--queue-size 2M",
    "--queue-size 8M",
    "--queue-size 32M",
    "--queue-size 128M",
    "--pack-size 4M",
    "--pack-size 16M",
    "--pack-size 64M",
)
SIXTEEN = bytes(b"etaoinshrdlcumwf"[byte & 15] for byte in range(256))


def make_file(path: Path, mib: int) -> None:
    """Blocks of 1 MiB that cannot be compressed, and that can be halved, in turn; nothing twice."""
    rng = random.Random("memory:file")
    with path.open("wb") as out:
        for number in range(mib):
            block = rng.randbytes(MIB)
            out.write(block.translate(SIXTEEN) if number % 2 else block)


def change_file(path: Path) -> None:
    """Overwrites about 1 %, scattered."""
    rng, size = random.Random("memory:change"), path.stat().st_size
    with path.open("r+b") as out:
        for _ in range(max(1, size // (100 * 65536))):
            out.seek(rng.randrange(max(1, size - 65536)))
            out.write(rng.randbytes(65536))


def make_tree(root: Path, files: int) -> None:
    """Small files, a hundred in each directory."""
    rng = random.Random("memory:tree")
    for number in range(files):
        directory = root / f"{number // 10_000:03d}" / f"{number // 100 % 100:02d}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"file-{number:06d}.txt").write_bytes(rng.randbytes(rng.randrange(40, 2000)).translate(SIXTEEN))


def change_tree(root: Path) -> None:
    """Appends to every hundredth file."""
    for number, path in enumerate(sorted(root.rglob("*.txt"))):
        if number % 100 == 0:
            with path.open("ab") as out:
                out.write(b"changed\n")


class Cgroup:
    """A memory cgroup with a limit, version 1 or 2."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self.v2 = (root / "cgroup.controllers").exists()
        self.path = (root if self.v2 else root / "memory") / f"freezer-bench-{os.getpid()}"
        self._peak = "memory.peak" if self.v2 else "memory.max_usage_in_bytes"

    def make(self, limit: int) -> None:
        """Makes it.

        Raises:
            OSError: not allowed here, or no such controller.
        """
        if self.v2:
            (self.path.parent / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        (self.path / ("memory.max" if self.v2 else "memory.limit_in_bytes")).write_text(str(limit))
        if self.v2:
            with contextlib.suppress(OSError):  # no swap accounting
                (self.path / "memory.swap.max").write_text("0")

    def wrap(self, command: Sequence[str]) -> list[str]:
        """The command, entering the group before it starts."""
        enter = f'echo $$ > {shlex.quote(str(self.path / "cgroup.procs"))} && exec "$@"'
        return ["sh", "-c", enter, "sh", *command]

    def peak(self) -> float:
        """Largest use since it was made, page cache included, in MB."""
        with contextlib.suppress(OSError):  # memory.peak came with Linux 5.19
            return int((self.path / self._peak).read_text()) / 1e6
        return 0.0

    def remove(self) -> None:
        """Removes it; nothing may run inside."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


@contextlib.contextmanager
def limited(limit: int) -> Iterator[Cgroup]:
    """A memory cgroup for the duration of the block."""
    group = Cgroup()
    group.make(limit)
    try:
        yield group
    finally:
        group.remove()


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table; ``group`` is the peak of the cgroup with page cache, in MB."""

    source: str
    setting: str
    kind: str
    wall: float
    peak: float
    group: float | None
    ok: bool

    def line(self) -> str:
        """As Markdown."""
        group = "–" if self.group is None else f"{self.group:.0f}"
        fields = (self.source, f"`{self.setting}`" if self.setting else "defaults", self.kind, f"{self.wall:.1f}")
        return f"| {' | '.join(fields)} | {self.peak:.0f} | {group} | {'yes' if self.ok else '**NO**'} |"


class Runner:
    """Runs backups into a repository of its own."""

    def __init__(self, program: str, work: Path) -> None:
        self.program, self.home, self.log = program, work / "home", work / "memory.log"
        self.env = clean_environment(self.home) | {
            "FREEZER_STORAGE": f"local:{self.home / 'repo'}",
            "FREEZER_PASSWORD": PASSWORD,
        }

    def fresh(self) -> None:
        """A new repository, no cache.

        Raises:
            SystemExit: it could not be made.
        """
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        if run([self.program, "repository", "init"], cwd=self.home, env=self.env, log=self.log).code:
            raise SystemExit(f"no repository could be made; see {self.log}")

    def backup(
        self, source: Path, setting: str, kind: str, *, limit: float | None = None, group: Cgroup | None = None
    ) -> Result:
        """One backup, whose peak may be ``limit`` MB."""
        command = [self.program, "backup", "create", str(source), "--name", "memory", "--quiet", *shlex.split(setting)]
        cost = run(group.wrap(command) if group else command, cwd=self.home, env=self.env, log=self.log)
        if cost.code:
            printed = self.log.read_text(errors="replace").rpartition("\n$ ")[2]
            print(f"exit code {cost.code}: {printed[-2000:]}", file=sys.stderr)
        return Result(
            source=source.name,
            setting=setting,
            kind=kind,
            wall=cost.wall,
            peak=cost.peak,
            group=group.peak() if group else None,
            ok=cost.code == 0 and (limit is None or cost.peak < limit),
        )


def on_tmpfs(path: Path) -> bool:
    """Whether files there are memory."""
    command = ["stat", "-f", "-c", "%T", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() in ("tmpfs", "ramfs")


def change(source: Path) -> None:
    """Changes about 1 %."""
    (change_tree if source.is_dir() else change_file)(source)


def with_defaults(runner: Runner, sources: Sequence[Path]) -> Iterator[Result]:
    """Full and incremental backups with nothing set."""
    for source in sources:
        runner.fresh()
        yield runner.backup(source, "", "full", limit=LIMIT_MB)
        change(source)
        yield runner.backup(source, "", "incremental", limit=LIMIT_MB)


def in_cgroup(runner: Runner, sources: Sequence[Path], setting: str) -> Iterator[Result]:
    """Full and incremental backups with 128 MB, page cache included."""
    for source in sources:
        runner.fresh()
        for kind in ("full", "incremental"):
            with limited(CGROUP) as group:
                yield runner.backup(source, setting, kind, group=group)
            change(source)


def sweep(runner: Runner, source: Path, settings: Sequence[str]) -> Iterator[Result]:
    """One full backup per setting; there is no limit on what the user asks for."""
    for setting in settings:
        runner.fresh()
        yield runner.backup(source, setting, "full")


def results(options: argparse.Namespace, work: Path) -> Iterator[Result]:
    """Makes the data and runs everything."""
    big, tree, quarter = work / "file.bin", work / "tree", work / "quarter.bin"
    make_file(big, max(4, int(FILE_MIB * options.scale)))
    make_tree(tree, max(200, int(TREE_FILES * options.scale)))
    runner = Runner(options.freezer, work)
    yield from with_defaults(runner, (big, tree))
    if options.no_cgroup or on_tmpfs(work):
        print("the runs in a cgroup are left out", file=sys.stderr)
    else:
        yield from in_cgroup(runner, (big, tree), options.low_memory)
    if options.no_sweep:
        return
    with big.open("r+b") as out:
        out.truncate(big.stat().st_size // 4)
    big.rename(quarter)
    yield from sweep(runner, quarter, SWEEP)


def program(name: str) -> str:
    """An absolute path, since the runs have working directories of their own."""
    found = shutil.which(name)
    if found is None:
        raise argparse.ArgumentTypeError(f"there is no program {name!r}")
    return os.path.abspath(found)


def main() -> int:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="a directory on a disk; default: a new temporary one")
    parser.add_argument("--freezer", default="freezer", type=program, help="the program to run")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--low-memory", default=LOW_MEMORY, help="options of the runs in the cgroup")
    parser.add_argument("--no-cgroup", action="store_true")
    parser.add_argument("--no-sweep", action="store_true")
    options = parser.parse_args()
    if room(options.work or Path(tempfile.gettempdir())) < 12e9 * options.scale:
        raise SystemExit("not enough room; name another place with --work")
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="freezer-memory-", dir=options.work))
    ok = True
    try:
        print("| data | setting | backup | wall s | peak MB | cgroup peak MB | ok |\n" + "| --- " * 7 + "|", flush=True)
        for result in results(options, work):
            print(result.line(), flush=True)
            ok = ok and result.ok
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
