"""The benchmarks run, and count right. No time is asserted."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCALE = "0.003"


@pytest.fixture(scope="module")
def benchmarks(checkout: Path) -> Path:
    return checkout / "benchmarks"


@pytest.fixture(scope="module")
def report(benchmarks: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("freezer_benchmark_report", benchmarks / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make_data(benchmarks: Path, *arguments: str) -> str:
    command = [sys.executable, str(benchmarks / "make_data.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_data_depend_on_seed_and_generation_only(benchmarks: Path, tmp_path: Path) -> None:
    def digests(root: Path, seed: str, generation: str) -> list[str]:
        make_data(benchmarks, "make", str(root), "--scale", SCALE, "--seed", seed)
        found = [make_data(benchmarks, "digest", str(root / name)) for name in ("small", "large")]
        make_data(benchmarks, "mutate", str(root), "--generation", generation)
        return found + [make_data(benchmarks, "digest", str(root / name)) for name in ("small", "large")]

    one, again = digests(tmp_path / "a", "1", "1"), digests(tmp_path / "b", "1", "1")
    assert one == again
    assert one[0] != one[2]
    assert one[1] != one[3]
    other = digests(tmp_path / "c", "2", "2")
    assert set(one).isdisjoint(other)


def test_digest_sees_content_times_and_modes(benchmarks: Path, tmp_path: Path) -> None:
    make_data(benchmarks, "make", str(tmp_path), "--scale", SCALE, "--sets", "small")
    root = tmp_path / "small"
    path = next(path for path in sorted(root.rglob("*.py")) if path.is_file())
    seen = {make_data(benchmarks, "digest", str(root))}
    info = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns))
    seen.add(make_data(benchmarks, "digest", str(root)))
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns + 1))
    seen.add(make_data(benchmarks, "digest", str(root)))
    path.chmod(0o640)
    seen.add(make_data(benchmarks, "digest", str(root)))
    assert len(seen) == 4


@pytest.mark.skipif(shutil.which("time") is None, reason="GNU time is not installed")
def test_comparison_runs_and_restores_are_equal(benchmarks: Path, tmp_path: Path) -> None:
    freezer = Path(sys.executable).with_name("freezer")
    options = {"--data": "data", "--work": "work", "--scale": SCALE, "--tools": "freezer", "--rounds": "1"}
    options |= {"--freezer": str(freezer), "--out": "results.jsonl"}
    command = [sys.executable, str(benchmarks / "compare.py"), *(word for pair in options.items() for word in pair)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(row["set"], row["op"]) for row in rows] == [
        (name, op) for name in ("small", "large") for op in ("first", "same", "mutate", "restore")
    ]
    assert all(row["ok"] and row["wall"] > 0 and row["cpu"] > 0 and row["peak"] > 5 for row in rows)
    first, same, mutate, _restore = rows[:4]
    assert first["added"] > mutate["added"] > same["added"] >= 0
    assert "| freezer | restore |" in done.stdout
    assert not (tmp_path / "work" / "small").joinpath("freezer").exists()


def row(report: ModuleType, tool: str, **values: object) -> object:
    facts = {
        "set": "small",
        "op": "first",
        "round": 0,
        "wall": 1.0,
        "cpu": 1.0,
        "peak": 100.0,
        "repo": 100,
        "added": 100,
    }
    return report.Row(**(facts | {"tool": tool} | values))


def test_check_uses_the_median_of_ratios_by_round(report: ModuleType) -> None:
    # 0.5, 0.5 and 5.0: one bad round does not count, but a bad median does
    restic = [row(report, "restic", round=number, wall=wall) for number, wall in enumerate((2.0, 8.0, 1.0))]
    ours = [row(report, "freezer", round=number, wall=wall) for number, wall in enumerate((1.0, 4.0, 5.0))]
    missed = [text for text in report.check(restic + ours) if "was not measured" not in text]
    assert missed == ["small first: repo / restic is 1.00, more than 0.88"]
    slow = [row(report, "freezer", round=number, wall=9.0, repo=50) for number in range(3)]
    missed = [text for text in report.check(restic + slow) if "was not measured" not in text]
    assert missed == ["small first: wall / restic is 4.50, more than 0.60"]


def test_check_reports_failures_and_what_was_not_measured(report: ModuleType) -> None:
    rows = [row(report, "restic"), row(report, "freezer", wall=0.1, repo=1, ok=False)]
    missed = report.check(rows)
    assert "freezer: first of small failed in round 0" in missed
    assert "small same: wall / restic was not measured" in missed
    assert not [text for text in missed if text.startswith("large")]


def test_table_has_medians_and_ratios(report: ModuleType) -> None:
    rows = [row(report, "restic", wall=4.0), row(report, "freezer", wall=1.0, repo=50)]
    (line,) = (line for line in report.tables(rows).splitlines() if line.startswith("| freezer"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:5] == ["freezer", "first", "1", "1.00", "**0.25**"]
    assert cells[10] == "**0.50**"
    assert cells[-1] == "yes"


def test_memory_benchmark_runs(benchmarks: Path, tmp_path: Path) -> None:
    if shutil.which("time") is None:
        pytest.skip("GNU time is not installed")
    freezer = Path(sys.executable).with_name("freezer")
    command = [sys.executable, str(benchmarks / "memory.py"), "--work", str(tmp_path), "--freezer", str(freezer)]
    command += ["--scale", "0.001", "--no-cgroup", "--no-sweep"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert [line.split("|")[1].strip() for line in lines[:4]] == ["file.bin", "file.bin", "tree", "tree"]
    assert all(line.endswith("| yes |") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_the_index_of_a_large_repository_is_measured(benchmarks: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(benchmarks / "index_scale.py"), "--work", str(tmp_path), "--shapes", "daily"]
    done = subprocess.run([*command, "--blobs", "6000"], capture_output=True, text=True, check=True)
    head, row = (line.strip("| ").split(" | ") for line in done.stdout.splitlines()[1::2])
    figures = dict(zip(head, row, strict=True))
    assert (figures["shape"], figures["objects"]) == ("daily", "6")
    assert all(float(figures[name].replace(",", "")) > 0 for name in ("own", "hits", "misses"))


def test_the_tar_engine_is_timed(benchmarks: Path, tmp_path: Path) -> None:
    if shutil.which("time") is None or shutil.which("tar") is None:
        pytest.skip("GNU time or GNU tar is not installed")
    agent = Path(sys.executable).with_name("freezer-agent")
    command = [sys.executable, str(benchmarks / "tar_engine.py"), "--freezer-agent", str(agent), "--rounds", "1"]
    done = subprocess.run(
        [*command, "--work", str(tmp_path / "work"), "--mib", "4"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line.split("|")[2].strip() for line in done.stdout.splitlines() if line.startswith("| this project")]
    assert steps == ["backup", "restore"]
    assert list(tmp_path.iterdir()) == []
