"""Tables of benchmark results, and whether they hold what the project promises."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OPERATIONS = ("first", "same", "mutate", "restore")
AGAINST = "restic"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One command of one tool in one round.

    Attributes:
        wall, cpu: seconds. peak: MB.
        repo, added: bytes of the repository after a backup, and how much of it this backup added.
        ok: it succeeded; a restore also gave back the same tree.
        load: load average of the machine when it started.
    """

    set: str
    op: str
    round: int
    tool: str
    wall: float
    cpu: float
    peak: float
    repo: int | None = None
    added: int | None = None
    ok: bool = True
    load: float = 0.0


@dataclass(frozen=True)
class Hold:
    """A figure of ours, divided by that of the other tool in the same round, may not be larger than ``limit``."""

    set: str
    op: str
    figure: str
    limit: float


SETS = ("small", "large")
HOLDS = (
    Hold("small", "first", "wall", 0.60),
    Hold("small", "same", "wall", 0.35),
    Hold("large", "first", "wall", 0.70),
    Hold("small", "restore", "wall", 0.60),
    Hold("large", "restore", "wall", 0.60),
    Hold("small", "first", "repo", 0.88),
    Hold("large", "mutate", "added", 0.25),
    *(Hold(name, op, "peak", 1.20) for name in SETS for op in OPERATIONS),
)


def select(rows: Iterable[Row], **wanted: object) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


def ratios(rows: Sequence[Row], tool: str, figure: str, against: str = AGAINST) -> list[float]:
    """Per round, a figure of ``tool`` divided by that of ``against``; the rows are of one set and operation."""
    other = {row.round: getattr(row, figure) for row in select(rows, tool=against)}
    pairs = ((getattr(row, figure), other.get(row.round)) for row in select(rows, tool=tool))
    return [mine / theirs for mine, theirs in pairs if mine is not None and theirs]


def check(rows: Sequence[Row], *, tool: str = "freezer", slack: float = 1.0) -> list[str]:
    """What does not hold, one line each.

    Args:
        slack: factor on the limits, for tiny data on a busy machine.
    """
    missed = [f"{row.tool}: {row.op} of {row.set} failed in round {row.round}" for row in rows if not row.ok]
    for hold in HOLDS:
        found = ratios(select(rows, set=hold.set, op=hold.op), tool, hold.figure)
        what = f"{hold.set} {hold.op}: {hold.figure} / {AGAINST}"
        if found and statistics.median(found) > hold.limit * slack:
            missed.append(f"{what} is {statistics.median(found):.2f}, more than {hold.limit * slack:.2f}")
        if not found and select(rows, set=hold.set):
            missed.append(f"{what} was not measured")
    return missed


def spread(values: Sequence[float], digits: int) -> str:
    """Median, smallest and largest value."""
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) < 2:
        return median
    return f"{median} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratio(values: Sequence[float]) -> str:
    """The median of ratios, in bold, for a table."""
    return f"**{statistics.median(values):.2f}**" if values else "–"


def line(rows: Sequence[Row], tool: str, op: str) -> str:
    """One line of a table."""
    mine = select(rows, tool=tool)
    sizes = [row.repo for row in mine if row.repo is not None]
    added = [row.added for row in mine if row.added is not None]
    fields = (
        tool,
        op,
        str(len(mine)),
        spread([row.wall for row in mine], 2),
        ratio(ratios(rows, tool, "wall")),
        f"{statistics.median(row.cpu for row in mine):.2f}",
        ratio(ratios(rows, tool, "cpu")),
        f"{statistics.median(row.peak for row in mine):.0f}",
        ratio(ratios(rows, tool, "peak")),
        f"{statistics.median(sizes) / 1e6:.1f}" if sizes else "–",
        ratio(ratios(rows, tool, "repo")),
        f"{statistics.median(added) / 1e6:.2f}" if added else "–",
        ratio(ratios(rows, tool, "added")) if op != "same" else "–",
        "yes" if all(row.ok for row in mine) else "**NO**",
    )
    return f"| {' | '.join(fields)} |"


def tables(rows: Sequence[Row]) -> str:
    """A Markdown table per set: medians over the rounds, and medians of the ratios to restic in the same round."""
    heads = [
        *("tool", "op", "rounds", "wall s (min–max)", "/ restic", "CPU s", "/ restic", "peak MB", "/ restic"),
        *("repository MB", "/ restic", "added MB", "/ restic", "ok"),
    ]
    lines: list[str] = []
    for name in dict.fromkeys(row.set for row in rows):
        load = spread([row.load for row in select(rows, set=name)], 1)
        lines += [f"\n### {name} (load average {load})\n", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
        for op in OPERATIONS:
            some = select(rows, set=name, op=op)
            lines += [line(some, tool, op) for tool in dict.fromkeys(row.tool for row in some)]
    return "\n".join(lines)
