#!/usr/bin/env python3
"""Times the engine tar against freezer-agent 19.0.0: the same command line, the same tree, gzip, in turn.

    tar_engine.py --freezer-agent PROGRAM [--original ENV_FILE] [--work DIR] [--mib 500] [--rounds 3] [--check]

ENV_FILE is what tests/services/freezer_agent/start leaves in .test-services/freezer_agent/env: the original's program,
and where the Identity service listens that it asks for. Without it only this project is timed.

The tree has 4,096 small files and four large ones: text, logs, database pages, records, and random bytes. Both
programs write a full backup into an empty store and restore it into an empty directory; every restore is compared with
the tree. A round takes the programs in turn, the next round the other way round. Prints one table (Markdown). With
--check, exits with 1 when backups are not three times, or restores not twice as fast as the original's, by the medians
of the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from corpus import Corpus
from make_data import digest
from measure import Cost, clean_environment, default_root, run, stored_bytes, warm

MIB = 1 << 20
EPOCH = 1_704_067_200
SMALL_FILES = 4096
PROMISED = {"backup": 3.0, "restore": 2.0}
STORE = ("--storage", "local", "--hostname", "bench", "--backup-name", "bench")


@dataclass(frozen=True, kw_only=True)
class Program:
    """One of the two.

    Attributes:
        env: what it needs beside a clean environment.
    """

    name: str
    path: str
    env: Mapping[str, str]


def contents(corpus: Corpus, rng: random.Random, size: int) -> Iterator[bytes]:
    """Something to fill a file with, of one kind each."""
    kind = rng.choice(("code", "prose", "data", "records", "random", "random"))
    for start in range(0, size, MIB):
        part = min(MIB, size - start)
        if kind == "random":
            yield rng.randbytes(part)
        elif kind == "records":
            yield corpus.records(rng, part)
        else:
            yield corpus.kinds[kind].text(rng, part)[:part]


def large(corpus: Corpus, rng: random.Random, number: int, size: int) -> Iterator[bytes]:
    """Two files that compress well and two that do not."""
    if number % 2:
        return (rng.randbytes(min(MIB, size - start)) for start in range(0, size, MIB))
    if number:
        return corpus.log(rng, size)
    return (corpus.page(rng, page, page) for page in range(-(-size // 8192)))


def make_tree(root: Path, mib: int) -> None:
    """The same for everybody: half of it in small files, half in four large ones."""
    rng = random.Random("tar engine")
    corpus = Corpus(1)
    files = max(SMALL_FILES * mib // 500, 8)
    sizes = [rng.lognormvariate(0, 1.6) for _ in range(files)]
    unit = mib * MIB / 2 / sum(sizes)
    for number, size in enumerate(sizes):
        write(root / f"{number // 256:02}" / f"{number % 16:x}" / f"{number}", contents(corpus, rng, int(size * unit)))
    for number in range(4):
        write(root / f"large-{number}", large(corpus, rng, number, mib * MIB // 8))
    for base, _, names in os.walk(root, topdown=False):
        for path in (*(os.path.join(base, name) for name in names), base):
            os.utime(path, (EPOCH, EPOCH))  # the original keeps whole seconds only


def write(path: Path, parts: Iterator[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.writelines(parts)


def original(file: Path) -> Program:
    """The original's agent, as the file that the service's start wrote describes it."""
    env = dict(line.split("=", 1) for line in file.read_text().splitlines() if line)
    return Program(name="freezer-agent 19.0.0", path=env.pop("FREEZER_AGENT"), env=env)


class Bench:
    """One tree and the programs that take turns on it."""

    def __init__(self, work: Path, *, mib: int) -> None:
        self.work, self.tree = work, work / "tree"
        self.tree.mkdir(parents=True)
        make_tree(self.tree, mib)
        self.digest = digest(self.tree)

    def turn(self, program: Program) -> tuple[dict[str, Cost], int]:
        """A backup and a restore; what they cost, and the size of the store."""
        place = self.work / "turn"
        store, out, home = place / "store", place / "out", place / "home"
        for path in (store, out, home):
            path.mkdir(parents=True)
        env = {**clean_environment(home), **program.env}
        agent = [program.path, "--container", str(store), *STORE]
        warm(self.tree)
        commands = {
            "backup": [*agent, "--action", "backup", "--path-to-backup", str(self.tree), "--nosync"],
            "restore": [*agent, "--action", "restore", "--restore-abs-path", str(out)],
        }
        costs = {}
        for step, command in commands.items():
            costs[step] = run(command, cwd=home, env=env, log=self.work / "log")
            if costs[step].code:
                raise SystemExit(f"{program.name}: {step} failed; see {self.work / 'log'}")
        if digest(out) != self.digest:
            raise SystemExit(f"{program.name}: what was restored differs from the tree; see {out}")
        size = stored_bytes(store)
        shutil.rmtree(place)
        return costs, size


def table(rows: list[tuple[str, str, list[Cost], int, float | None]]) -> str:
    """The figures as Markdown."""
    lines = ["| program | step | wall s (min–max) | CPU s | peak MB | store MB | times as fast |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for name, step, costs, size, ratio in rows:
        walls = [cost.wall for cost in costs]
        wall = f"{statistics.median(walls):.2f} ({min(walls):.2f}–{max(walls):.2f})"
        cpu = statistics.median(cost.cpu for cost in costs)
        peak = max(cost.peak for cost in costs)
        times = "–" if ratio is None else f"**{ratio:.1f}**"
        lines.append(f"| {name} | {step} | {wall} | {cpu:.2f} | {peak:.0f} | {size / 1e6:.1f} | {times} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--freezer-agent", required=True, help="program of this project")
    parser.add_argument("--original", type=Path, help="file with the original's program and environment")
    parser.add_argument("--work", type=Path, help="an empty or missing directory; by default in memory")
    parser.add_argument("--mib", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    work = options.work or default_root(options.mib * MIB * 4)
    ours = Program(name="this project", path=str(Path(options.freezer_agent).absolute()), env={})
    programs = [original(options.original), ours] if options.original else [ours]
    bench = Bench(work, mib=options.mib)
    costs: dict[tuple[str, str], list[Cost]] = {}
    sizes: dict[str, int] = {}
    for number in range(options.rounds):
        for program in programs if number % 2 == 0 else programs[::-1]:
            turn, sizes[program.name] = bench.turn(program)
            for step, cost in turn.items():
                costs.setdefault((program.name, step), []).append(cost)
    ratios: dict[str, float] = {}
    if options.original:
        for step in PROMISED:
            pairs = zip(*(costs[program.name, step] for program in programs), strict=True)
            ratios[step] = statistics.median(theirs.wall / mine.wall for theirs, mine in pairs)
    rows = [
        (name, step, each, sizes[name], ratios.get(step) if name == ours.name else None)
        for (name, step), each in sorted(costs.items(), key=lambda item: item[0][1])
    ]
    print(f"tree of {stored_bytes(bench.tree) / 1e6:.0f} MB, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print(table(rows))
    shutil.rmtree(work)
    missed = [step for step, ratio in ratios.items() if ratio < PROMISED[step]]
    return int(options.check and bool(missed))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
