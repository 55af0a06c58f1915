"""Repairs that are killed: what could be restored before still can, and the next repair comes to the same end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dedup.upkeep.oracle import Pristine, fill, given_back, make_pristine
from dedup.upkeep.world import Clocked, opened, write_files

from freezer_sdk import Freezer, RepairResult
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.errors import PluginError
from freezer_sdk.testing import Fault, FaultyStorage, fail


class PowerCut(Exception):
    """Nothing happens after this."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    return make_pristine(tmp_path_factory.mktemp("pristine"))


def harm(pristine: Pristine) -> dict[str, bytes]:
    """Something of everything: no index, no table of a pack, one segment and one record damaged, one copy gone."""
    objects = dict(pristine.content)
    old, newest = sorted(name for name in pristine.commits.values() if pristine.forgotten not in name)
    objects[old] = objects[old][:-1] + bytes([objects[old][-1] ^ 1])
    needed = {each for file in pristine.files if file.backup == newest[-32:] for each in file.segments}
    segment = min((data for kind, data in needed if kind is Kind.DATA), key=len)
    for name in [name for name in objects if name.startswith(("packs/", "index/"))]:
        if name.startswith("index/"):
            del objects[name]
            continue
        at = objects[name].find(segment)
        data = bytearray(objects[name][:-1])
        if at >= 0:
            data[at + 140] ^= 4
        objects[name] = bytes(data)
    del objects["copies/config/00000001"]
    return objects


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_storage_call(pristine: Pristine, when: str) -> None:
    def run(*faults: Fault) -> tuple[Clocked, FaultyStorage, RepairResult | None]:
        storage = Clocked()
        fill(storage, harm(pristine))
        faulty = FaultyStorage(storage, *faults)
        with opened(faulty) as freezer:
            begin = len(faulty.calls)
            try:
                result = freezer.maintenance.repair(read_data=True, forget_broken=True)
            except (PowerCut, PluginError):
                result = None
        run.begin = begin  # type: ignore[attr-defined]
        return storage, faulty, result

    storage, faulty, done = run()
    begin, end = run.begin, len(faulty.calls)  # type: ignore[attr-defined]
    assert done is not None
    assert {step.action for step in done.steps} == {"copy", "index", "salvage", "mark", "record", "forget"}
    expected = given_back(pristine, storage)
    untouched = Clocked()
    fill(untouched, harm(pristine))
    before = given_back(pristine, untouched)
    assert before.items() < expected.items(), "the repair must give something back"
    writes = [call.number for call in faulty.calls[begin:] if call.method in ("put", "delete", "flush")]
    for number in [*writes, *range(begin + 1, end + 1, 9)]:
        storage, _faulty, _result = run(Fault(fail(PowerCut()), at=number, times=None, when=when))  # type: ignore[arg-type]
        with opened(storage) as freezer:
            assert given_back(pristine, storage).items() >= before.items(), number
            storage.pass_time(400)  # who has died keeps others from it for a few minutes
            again = freezer.maintenance.repair(read_data=True, forget_broken=True)
            assert given_back(pristine, storage) == expected, number
            assert again.lost == done.lost, number
            assert freezer.maintenance.repair(read_data=True, forget_broken=True).steps == ()
            assert freezer.maintenance.check(read_data=True).ok


@pytest.mark.slow
def test_killed_for_real(tmp_path: Path) -> None:
    """The same on disk, with processes that are really killed, at every fifth call."""
    template, source = tmp_path / "template", write_files(tmp_path / "source", seed=1)
    with Freezer(f"local:{template}", create=True, encryption=False) as freezer:
        freezer.backup(source / "d0", name="whole")
        before = set(template.glob("packs/*/*"))
        write_files(source / "d0", seed=5, files=2, size=1000, subdirs=1)
        freezer.backup(source / "d0", name="lossy", force_read=True)
    (pack,) = set(template.glob("packs/*/*")) - before
    data = bytearray(pack.read_bytes())
    data[200] ^= 1
    pack.write_bytes(data)
    cut = max(before, key=lambda path: path.stat().st_size)
    cut.write_bytes(cut.read_bytes()[:-1])
    for path in [*template.glob("index/*"), *template.glob("copies/keys/*")]:
        path.unlink()
    (tmp_path / "work").mkdir()
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("repair_killer.py")), str(template), str(tmp_path / "work"), "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) > 8
    assert [status for _number, status, _before, _after in lines] == ["killed"] * (len(lines) - 1) + ["done"]
    assert {after for _number, _status, _before, after in lines} == {"f5-0,f5-1"}
    unmended, mended = lines[0][2], lines[-1][2]
    assert mended == "f5-0,f5-1", "all that can be restored is"
    assert {before for _number, _status, before, _after in lines} == {unmended, mended}
