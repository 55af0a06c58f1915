"""One process of a soak test: ``PLACE ROLE SEED SECONDS``. PLACE is a JSON document: storage, options, folder."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from freezer_sdk import Freezer, LeaseLost, RepositoryLocked

PASSWORD = "correct horse"
ENGINE = {"pack_size": "1M", "queue_size": "1M", "threads": 1, "cache": "-"}
_POOL = 40  # contents that all writers draw from
_FILES = 14
_KEPT = 3  # backups of a writer that are not forgotten


def content(number: int) -> bytes:
    """One of the contents that all writers share."""
    rng = random.Random(number)
    return rng.randbytes(rng.choice((3_000, 20_000, 60_000, 150_000, 300_000)))


def connect(place: dict[str, Any]) -> Freezer:
    """The repository of the test; it closes its storage."""
    return Freezer(place["storage"], storage_options=place["options"], password=PASSWORD, engine_options=ENGINE)


class Writer:
    """Changes a folder, backs it up, forgets what is old, over and over."""

    def __init__(self, freezer: Freezer, folder: Path, seed: int) -> None:
        self._freezer, self._random, self._seed = freezer, random.Random(seed * 1000 + os.getpid()), seed
        self._source = folder / f"source-{seed}"
        self._notes = folder / "notes"
        shutil.rmtree(self._source, ignore_errors=True)
        for number in range(_FILES):
            self._change(number)
        notes = sorted(self._notes.glob(f"*.{seed}.json"), key=os.path.getmtime)
        self._backups = [note.stem for note in notes if not note.with_suffix(".forgotten").exists()]
        self.failed = 0

    def _change(self, number: int) -> None:
        path = self._source / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(self._random.randrange(_POOL)))

    def round(self) -> None:
        """One backup."""
        for number in self._random.sample(range(_FILES), self._random.randint(0, 4)):
            self._change(number)
        state = {str(p.relative_to(self._source)): _digest(p) for p in self._source.rglob("*") if p.is_file()}
        try:
            backup = self._freezer.backup(self._source, name=f"w{self._seed}", force_read=self._random.random() < 0.1)
        except LeaseLost:
            self.failed += 1
            return
        _write(self._notes / f"{backup.id}.{self._seed}.json", state)
        self._backups.append(f"{backup.id}.{self._seed}")
        while len(self._backups) > _KEPT and self._random.random() < 0.8:
            old = self._backups.pop(self._random.randrange(len(self._backups) - 1))
            _write(self._notes / f"{old}.forgotten", {})
            self._freezer.forget([old.partition(".")[0]])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, document: dict[str, Any]) -> None:
    """Whole or not at all: this process may be killed."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document))
    temporary.rename(path)


def prune(freezer: Freezer, end: float) -> dict[str, int]:
    """Prunes over and over."""
    counts = {"runs": 0, "gave_way": 0}
    while time.monotonic() < end:
        try:
            freezer.maintenance.prune()
            counts["runs"] += 1
        except (RepositoryLocked, LeaseLost):
            counts["gave_way"] += 1
        time.sleep(0.3)
    return counts


def write(freezer: Freezer, folder: Path, seed: int, end: float) -> dict[str, int]:
    """Writes until the end."""
    writer, rounds = Writer(freezer, folder, seed), 0
    while time.monotonic() < end:
        writer.round()
        rounds += 1
    return {"runs": rounds, "failed": writer.failed}


def main() -> None:
    place, role, seed, seconds = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    end = time.monotonic() + seconds
    with connect(place) as freezer:
        result = prune(freezer, end) if role == "prune" else write(freezer, Path(place["folder"]), seed, end)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
