#!/usr/bin/env python3
"""Compares backup tools on the same data, in turn, round by round.

    compare.py --data DIR --work DIR [--sets small,large] [--tools restic,borg,freezer] [--rounds 3] [--check]
    compare.py --report results.jsonl [--check]

Each round takes every tool through the same step before the next step begins, and starts with another tool each time:

    first    a new repository, the first backup
    same     a backup with nothing changed
    mutate   a backup after about 1 % of the data was changed
    restore  of that backup, in full; the tree must equal the source: names, types, modes, times and content

What a command reads is read once before, so that all find a warm page cache. Wall and CPU seconds are of the whole
process tree, the peak is the resident memory of its largest process. Every tool encrypts and runs with its defaults.

Data are made in DIR/base when they are not there (see make_data.py). --data and --work on /dev/shm keep the disk out of
it; the default is a new directory there, which is removed at the end. --check exits with 1 when a figure that the
project promises is missed (report.py, HOLDS). Results are added to --out line by line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import make_data
from measure import default_root
from programs import TOOLS, Bench
from report import OPERATIONS, Row, check, tables


def prepare(data: Path, name: str, scale: float) -> Path:
    """A live copy of a set, made first when it is not there."""
    base, live = data / "base" / name, data / "live" / name
    if not base.exists():
        make_data.make(data / "base", name, scale)
    shutil.rmtree(live, ignore_errors=True)
    shutil.copytree(base, live, symlinks=True)
    return live


def one_round(name: str, number: int, benches: list[Bench], live: Path, operations: list[str]) -> Iterator[Row]:
    """All operations of one round, tool by tool."""
    turn = benches[number % len(benches) :] + benches[: number % len(benches)]
    for op in operations:
        if op == "mutate":
            make_data.mutate(live.parent, name, number + 1)
        wanted = make_data.digest(live) if op == "restore" else ""
        for bench in turn:
            load = os.getloadavg()[0]
            size, added = None, None
            if op == "restore":
                cost = bench.restore()
                ok = cost.code == 0 and make_data.digest(bench.out) == wanted
                shutil.rmtree(bench.out)
            else:
                if op == "first":
                    bench.fresh()
                cost, size, added = bench.backup()
                ok = cost.code == 0
            yield Row(
                set=name,
                op=op,
                round=number,
                tool=bench.tool.name,
                wall=cost.wall,
                cpu=cost.cpu,
                peak=cost.peak,
                repo=size,
                added=added,
                ok=ok,
                load=round(load, 2),
            )


def measure(options: argparse.Namespace, note: Callable[[Row], None]) -> None:
    """Runs everything that was asked for."""
    programs = {"restic": options.restic, "borg": options.borg, "freezer": options.freezer}
    log = options.work / "tools.log"
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.sets.split(","):
        live = prepare(options.data, name, options.scale)
        benches = [
            Bench(TOOLS[tool](programs[tool]), data=live, work=options.work / name, log=log)
            for tool in options.tools.split(",")
        ]
        try:
            for bench in benches:
                print(f"{bench.tool.name}: {bench.version()}", file=sys.stderr)
            for number in range(options.rounds):
                for row in one_round(name, number, benches, live, options.ops.split(",")):
                    note(row)
        finally:
            for bench in benches:
                bench.clean()
            shutil.rmtree(live)


def read(path: Path) -> list[Row]:
    """Results that were written before."""
    return [Row(**json.loads(text)) for text in path.read_text().splitlines()]


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="where base/SET is or will be made")
    parser.add_argument("--work", type=Path, help="where repositories and restored trees go")
    parser.add_argument("--sets", default="small,large")
    parser.add_argument("--tools", default="restic,borg,freezer")
    parser.add_argument("--ops", default=",".join(OPERATIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="size of data that have to be made")
    parser.add_argument("--restic", default="restic", help="the program to run")
    parser.add_argument("--borg", default="borg")
    parser.add_argument("--freezer", default="freezer")
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"))
    parser.add_argument("--report", type=Path, metavar="FILE", help="only print what was measured before")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a promised figure is missed")
    parser.add_argument("--slack", type=float, default=1.0, help="factor on the promised figures")
    return parser.parse_args()


def main() -> int:
    """Runs, reports, checks."""
    options = parse()
    if options.report:
        rows = read(options.report)
    else:
        rows = []
        temporary: list[Path] = []
        if options.data is None or options.work is None:
            temporary.append(default_root(int(12e9 * options.scale) + 200_000_000))
            options.data = (options.data or temporary[0] / "data").absolute()
            options.work = (options.work or temporary[0] / "work").absolute()
        options.data, options.work = options.data.absolute(), options.work.absolute()
        try:
            with options.out.open("a", buffering=1) as out:

                def note(row: Row) -> None:
                    rows.append(row)
                    out.write(json.dumps(asdict(row)) + "\n")
                    print(f"{row.set} {row.op} {row.round} {row.tool}: {row.wall:.2f} s", file=sys.stderr)

                measure(options, note)
        finally:
            for path in temporary:
                shutil.rmtree(path, ignore_errors=True)
    print(tables(rows))
    missed = check(rows, slack=options.slack) if options.check else []
    for text in missed:
        print(f"MISSED: {text}", file=sys.stderr)
    failed = any(not row.ok for row in rows)
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main())
