"""The repository is fit to be read by others."""

from __future__ import annotations

import re
from pathlib import Path

LIMIT = 500
LONG_FOR_A_REASON: dict[str, str] = {
    "LICENSE": "its own text",
    "freezer_sdk/engines/dedup/scan.py": "one walk: what decides whether a file is read stands together",
    "freezer_sdk/engines/dedup/restore.py": "one restore: what is planned, fetched and written shares one state",
    "freezer_sdk/files/target.py": "every step of a restore below a descriptor, in the order that makes it safe",
    "tests/dedup/second_reader.py": "the whole format by itself: it must need nothing of the program",
    "tools/freezer_recover.py": "one file by design: it is copied to where nothing else is",
    "tests/files/test_target.py": "one case for each kind of entry, conflict and attack",
    "tests/library/test_group.py": "one case for each way in which one of several repositories can fail",
    "tests/network/test_reliable.py": "one case for each call that can fail, and each way",
    "tests/plugins/test_boundary.py": "one case for each method of each contract",
    "tests/storages/test_s3_faults.py": "one case for each answer and failure of a server",
}
MACHINE_PATHS = re.compile(r"(?<![\w.~-])(/wor" + "k/|/tmp/" + "w/|/ro" + r"ot/\.)|py" + "env/versions")


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def test_no_file_is_long_without_a_reason(checkout: Path, tracked: list[Path]) -> None:
    code = [path for path in tracked if path.suffix in (".py", "") or path.name == "lib.sh"]
    lengths = {str(path.relative_to(checkout)): text_of(path).count("\n") for path in code}
    assert {name: lines for name, lines in lengths.items() if lines > LIMIT and name not in LONG_FOR_A_REASON} == {}


def test_no_paths_of_somebodys_machine(checkout: Path, tracked: list[Path]) -> None:
    assert [str(path.relative_to(checkout)) for path in tracked if MACHINE_PATHS.search(text_of(path))] == []


def test_nothing_is_left_unfinished(checkout: Path, tracked: list[Path]) -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
    code = [path for path in tracked if path.suffix == ".py"]
    assert [str(path.relative_to(checkout)) for path in code if marks.search(text_of(path))] == []


def test_no_private_keys_or_passwords(checkout: Path, tracked: list[Path]) -> None:
    marks = re.compile("BEGIN [A-Z ]*PRIVATE" + " KEY")
    assert [str(path.relative_to(checkout)) for path in tracked if marks.search(text_of(path))] == []
