"""Searches the worlds for longer than continuous integration does. ``python tests/model/long.py --help``"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from model.actors import Program
from model.lab import Lab
from model.schedules import CROWDS, Burst, end, play
from model.search import Search
from model.virtual import Virtual
from model.worlds import WORLDS


def main() -> int:
    parser = argparse.ArgumentParser(description="Search small worlds for a schedule that loses a backup.")
    parser.add_argument("worlds", nargs="*", help="parts of their names; all by default")
    parser.add_argument("--interruptions", type=int, default=2, help="most of them in a schedule")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each world at most")
    parser.add_argument("--chance", type=float, default=0.0, metavar="SECONDS", help="then play schedules by chance")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of chance")
    arguments = parser.parse_args()
    virtual, bad = Virtual(), 0
    with virtual.installed():
        for name, make in WORLDS.items():
            if all(part in name for part in arguments.worlds):
                with tempfile.TemporaryDirectory() as folder:
                    world = make(Lab(virtual, Path(folder)))
                    report = Search(world, most=arguments.interruptions, seconds=arguments.seconds).run()
                print(report, flush=True)
                if report.violation:
                    print(report.story())
                    bad += 1
        bad += by_chance(virtual, arguments.chance, arguments.seed)
    return 1 if bad else 0


def by_chance(virtual: Virtual, seconds: float, seed: int) -> int:
    """Plays schedules of crowds until the time is over; gives how many went wrong."""
    rng, until, played = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for name, crowd in CROWDS.items():
            with tempfile.TemporaryDirectory() as folder:
                world = crowd(Lab(virtual, Path(folder)))
                for _ in range(200):
                    bursts = chance(rng, world.programs)
                    result = play(world, [*bursts, *end(world)])
                    played += 1
                    if result.violation:
                        print(f"{name}, seed {seed}, schedule {played}: {result.violation}")
                        print("\n".join(str(step) for step in result.steps))
                        return 1
    if seconds:
        print(f"nothing lost in {played} schedules by chance (seed {seed})")
    return 0


def chance(rng: random.Random, programs: list[Program]) -> list[Burst]:
    """A schedule."""
    return [
        Burst(
            rng.randrange(len(programs) + 1) if rng.random() < 0.85 else len(programs),
            rng.choice((1, 1, 2, 3, 5, 8, 13, 21, 34)),
            rng.random() < 0.3,
        )
        for _ in range(rng.randint(5, 60))
    ]


if __name__ == "__main__":
    sys.exit(main())
