"""Four writers and a prune loop on one repository, in processes of their own: some stopped, some killed meanwhile.

Then everything that a writer reported as stored, and that nobody forgot, must be restored exactly, and after the grace
time pruning must give back the space of the rest. ``python tests/model/soak.py --help`` runs it for longer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from freezer_sdk import Freezer, LeaseLost, open_storage
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.local import LocalStorage

CHILD = Path(__file__).with_name("soak_child.py")
sys.path.insert(0, str(CHILD.parent.parent))
from model.soak_child import ENGINE, PASSWORD, connect  # noqa: E402

WRITERS = 4
_MOST_PRUNES = 12


@dataclass
class Soak:
    """One run.

    Args:
        storage: URL. options: of the storage.
        folder: for sources and notes.
        grace: seconds.
    """

    storage: str
    options: dict[str, Any]
    folder: Path
    grace: int = 3
    seed: int = 1
    backups: int = 0
    failed: int = 0
    prunes: int = 0
    stopped: int = 0
    killed: int = 0
    checked: int = 0
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def place(self) -> dict[str, Any]:
        return {"storage": self.storage, "options": self.options, "folder": str(self.folder)}

    def run(self, seconds: float) -> None:
        """Makes the repository, lets everybody work, and checks."""
        (self.folder / "notes").mkdir(parents=True)
        with open_storage(self.storage, options=self.options) as storage:
            cheap = Argon2Params(memory=8, time=1, lanes=1)
            create_repository(storage, password=PASSWORD, kdf=cheap, grace=self.grace, short_grace=True)
        self._work(seconds)
        with connect(self.place) as freezer:
            self._check(freezer)
            self._clear(freezer)
            self._check(freezer)
            self._measure(freezer)

    # -- work ----------------------------------------------------------------------------------------------

    def _work(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        pruner = self._start("prune", 0, seconds)
        writers = [self._start("write", number, seconds) for number in range(WRITERS)]
        try:
            self._disturb(writers, end)
            self.failed = sum(self._result(process)["failed"] for process in writers)
            self.prunes = self._result(pruner)["runs"]
        finally:
            for process in (pruner, *writers):
                process.kill()
                process.wait()
        self.backups = len(list((self.folder / "notes").glob("*.json")))

    def _disturb(self, writers: list[subprocess.Popen[str]], end: float) -> None:
        """Stops one, or kills one and starts it again, over and over."""
        rng = random.Random(self.seed)
        while end - time.monotonic() > self.grace + 2:
            time.sleep(rng.uniform(0.3, 1.5))
            number = rng.randrange(WRITERS)
            if rng.random() < 0.5:
                self._pause(writers[number], rng.uniform(0.2, self.grace + 1.5))
            else:
                self._kill(writers[number])
                writers[number] = self._start("write", number, max(0.0, end - time.monotonic()))

    def _start(self, role: str, number: int, seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, str(CHILD), json.dumps(self.place), role, str(number), str(seconds)]
        path = os.pathsep.join([str(CHILD.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )

    def _pause(self, process: subprocess.Popen[str], seconds: float) -> None:
        """As a laptop that sleeps, now and then for longer than the grace time."""
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        self.stopped += 1

    def _kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        _output, errors = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), errors
        self.killed += 1

    @staticmethod
    def _result(process: subprocess.Popen[str]) -> dict[str, int]:
        output, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
        return dict(json.loads(output))

    # -- checks --------------------------------------------------------------------------------------------

    def _check(self, freezer: Freezer) -> None:
        """Everything that was reported and not forgotten is there, and is restored exactly."""
        notes = self.folder / "notes"
        there = {backup.id for backup in freezer.backups()}
        self.checked = 0
        for note in sorted(notes.glob("*.json")):
            backup = note.name.partition(".")[0]
            if (notes / f"{note.stem}.forgotten").exists():
                continue
            assert backup in there, f"backup {backup} was reported as stored and is not there"
            target = self.folder / "restored"
            shutil.rmtree(target, ignore_errors=True)
            freezer.restore(backup, target)
            found = {
                str(path.relative_to(target)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in target.rglob("*")
                if path.is_file()
            }
            assert found == json.loads(note.read_text()), f"backup {backup} is not restored exactly"
            self.checked += 1
        result = freezer.verify(read_data=True)
        assert result.ok, result.problems

    def _clear(self, freezer: Freezer) -> None:
        """Prunes as often as it takes until all that was marked is gone."""
        for _ in range(_MOST_PRUNES):
            try:
                result = freezer.maintenance.prune()
            except LeaseLost:  # a busy machine
                continue
            if result.due is None:
                return
            left = (result.due - datetime.now(UTC)).total_seconds()
            time.sleep(max(0.0, left) + 0.2)
        raise AssertionError("something is marked and never swept")

    def _measure(self, freezer: Freezer) -> None:
        """Compares with a repository that never held anything else."""
        ideal = self.folder / "ideal"
        with LocalStorage(path=str(ideal)) as storage:
            create_repository(storage, password=PASSWORD, kdf=Argon2Params(memory=8, time=1, lanes=1))
        with Freezer(f"local:{ideal}", password=PASSWORD, engine_options=ENGINE) as copy:
            copy.copy(freezer, [backup.id for backup in freezer.backups()])
            least = _used(copy)
        used = _used(freezer)
        self.sizes = {"used": used, "reachable": least}
        assert used <= 1.1 * least, f"{used} bytes are used, {least} are reachable"

    def __str__(self) -> str:
        return (
            f"{self.storage.partition(':')[0]}: {self.backups} backups of {WRITERS} writers, {self.failed} void; "
            f"{self.prunes} prunes; {self.stopped} stops, {self.killed} kills; {self.checked} restored exactly; "
            f"{self.sizes}"
        )


def _used(freezer: Freezer) -> int:
    kinds = freezer.stats().by_kind
    return sum(kinds.get(kind, {}).get("bytes", 0) for kind in ("packs", "meta", "index"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to work; ten minutes by default")
    parser.add_argument("--grace", type=int, default=5, help="seconds")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the disturbances")
    parser.add_argument("--storage", default="", help="URL of an empty place; a local folder by default")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the storage")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(
            storage=arguments.storage or f"local:{folder}/repository",
            options=dict(option.split("=", 1) for option in arguments.option),
            folder=Path(folder) / "work",
            grace=arguments.grace,
            seed=arguments.seed,
        )
        print(f"seed {soak.seed}", flush=True)
        soak.run(arguments.seconds)
        print(soak)


if __name__ == "__main__":
    main()
