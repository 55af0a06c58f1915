"""What the actions do: to stores, to what is restored, and what they say of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from agent.program import BIN, Agent
from agent.store import Store, contents


def test_there_and_back(store: Store, tree: Path, tmp_path: Path) -> None:
    result = store.backup()
    assert (result["curr_backup_level"], result["status"]) == (0, "complete")
    store.restore(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tree)


def test_the_result_tells_what_was_done(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    shown = store.agent(
        "-F", store.source, *store.place, "--max-level", "3", "--metadata-out", file, "--backup-id", "record-1"
    )
    assert shown.out.startswith("+--")
    first = json.loads(file.read_text())
    files = [path for path in store.source.rglob("*") if path.is_file() and not path.is_symlink()]
    assert first["files"] == len(files)
    assert first["bytes"] == sum(path.stat().st_size for path in files)
    assert first["backup_id"] == "record-1"
    store.backup("--max-level", "3")
    (store.source / "new").write_bytes(b"12345")
    result = store.backup("--max-level", "3")
    last = max(store.levels(), key=lambda level: int(level.rpartition("_")[2]))
    assert last.endswith(f"/2_{result['time_stamp']}")
    assert result["bytes"] == first["bytes"] + 5
    assert isinstance(result["duration"], float)
    expected = {
        "action": "backup",
        "curr_backup_level": 2,
        "fs_real_path": str(store.source),
        "vol_snap_path": str(store.source),
        "path_to_backup": str(store.source),
        "backup_name": "b",
        "hostname": "node1",
        "container": str(store.folder),
        "storage": "local",
        "mode": "fs",
        "backup_media": "fs",
        "engine_name": "tar",
        "compression": "gzip",
        "max_level": 3,
        "always_level": "",
        "dry_run": "",
        "ssh_port": 22,
        "consistency_checksum": "",
        "problems": [],
    }
    assert {key: result[key] for key in expected} == expected


def test_levels_as_the_options_say(store: Store) -> None:
    def made(*options: str) -> list[object]:
        return [store.backup(*options)["curr_backup_level"] for _ in range(4)]

    assert made() == [0, 0, 0, 0]
    assert made("--incremental", "--max-level", "2", "-N", "max") == [0, 1, 2, 0]
    assert made("--max-level", "2", "-N", "implied") == [0, 1, 2, 0]
    assert made("--always-level", "1", "-N", "always") == [0, 1, 1, 1]
    assert made("--incremental", "-N", "endless") == [0, 1, 2, 3]
    assert made("--no-incremental", "--max-level", "2", "-N", "none") == [0, 0, 0, 0]


def test_a_date_chooses_a_level(store: Store, tmp_path: Path) -> None:
    states = []
    for number in range(3):
        (store.source / "a.txt").write_text(f"state {number}")
        states.append((store.backup("--max-level", "5")["time_stamp"], contents(store.source)))
    for number, (stamp, expected) in enumerate(states):
        assert isinstance(stamp, int)
        date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp))
        target = tmp_path / f"out{number}"
        said = store.restore(target, "--restore-from-date", f"{date}Z")
        assert date.replace("T", " ") in said
        assert contents(target) == expected
    said = store.restore(tmp_path / "no", "--restore-from-date", "1999-12-31T23:59:59", code=1)
    assert "1999-12-31 23:59:59" in said
    assert "local time" in said
    assert not (tmp_path / "no").exists()


def test_local_time_is_meant_where_there_is_no_offset(store: Store, tmp_path: Path) -> None:
    stamp = store.backup()["time_stamp"]
    assert isinstance(stamp, int)
    store.agent.env["TZ"] = "America/New_York"
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp - 5 * 3600))
    arguments = ("--action", "restore", "--restore-abs-path", tmp_path / "out", *store.place)
    result = store.agent.process(*arguments, "--restore-from-date", local, env={"TZ": "XYZ5"})
    assert "-05:00 (local time" in result.err
    assert contents(tmp_path / "out") == contents(store.source)


def test_a_target_that_is_not_empty_is_refused_unless_told(store: Store, tmp_path: Path) -> None:
    store.backup()
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("mine")
    (target / "a.txt").write_text("mine, too")
    before = contents(target)
    store.restore(target, code=1)
    assert contents(target) == before
    store.restore(target, "--overwrite")
    assert contents(target) == {**contents(store.source), "mine": before["mine"]}


def test_a_dry_run_writes_nothing(store: Store, tmp_path: Path) -> None:
    assert store.backup("--dry-run")["dry_run"] is True
    assert not store.folder.exists()
    store.backup("--max-level", "3")
    (store.source / "new").write_text("new")
    before = contents(store.folder)
    assert store.backup("--dry-run", "--max-level", "3")["curr_backup_level"] in (0, 1)
    said = store.restore(tmp_path / "out", "--dry-run")
    assert "create" in said
    assert "a.txt" in said
    assert contents(store.folder) == before
    assert not (tmp_path / "out").exists()


def test_exclude_is_a_pattern_and_no_shell_sees_it(store: Store, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    store.backup("--exclude", f"$(touch {mark})")
    store.backup("--exclude", "*.log")
    assert not mark.exists()
    store.restore(tmp_path / "out")
    expected = contents(store.source)
    del expected["sub/skip.log"]
    assert contents(tmp_path / "out") == expected


@pytest.mark.parametrize("name", ["a b.txt", "quote'\".txt", "$(touch x).txt", "new\nline", "-rf", "back\\slash"])
def test_a_file_of_any_name(store: Store, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(name)
    store.backup("--path-to-backup", file)
    store.restore(tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {name: name}


def test_links_are_stored_as_what_they_lead_to(store: Store, tmp_path: Path) -> None:
    (store.source / "dangling").symlink_to("nowhere")
    store.backup("--dereference-symlink", "soft")
    store.restore(tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()
    assert (tmp_path / "out" / "link").read_text() == "alpha\n"


def test_a_path_that_is_a_link_to_a_directory(store: Store, tmp_path: Path) -> None:
    link = tmp_path / "way"
    link.symlink_to(store.source)
    store.backup("-F", link)
    store.restore(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(store.source)


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz"])
def test_compression(store: Store, tmp_path: Path, compression: str) -> None:
    assert store.backup("--compression", compression, "--max-level", "2")["compression"] == compression
    (store.source / "more").write_text("more")
    store.backup("--compression", compression, "--max-level", "2")
    store.restore(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(store.source)


@pytest.mark.parametrize(("cipher", "folder"), [("openssl", "tar"), ("sealed", "tar-sealed"), ("auto", "tar-sealed")])
def test_ciphers(store: Store, tmp_path: Path, cipher: str, folder: str) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2\n")
    password.chmod(0o600)
    store.backup("--encrypt-pass-file", password, "--cipher", cipher)
    assert [path.name for path in (store.folder / "data").iterdir()] == [folder]
    store.restore(tmp_path / "out", "--encrypt-pass-file", password)
    assert contents(tmp_path / "out") == contents(store.source)


def test_encryption(store: Store, tmp_path: Path) -> None:
    password, wrong = tmp_path / "password", tmp_path / "wrong"
    password.write_text("hunter2\nsecond line\n")
    wrong.write_text("hunter3\n")
    for file in (password, wrong):
        file.chmod(0o600)
    options = ("--encrypt-pass-file", password, "--max-level", "2")
    store.backup(*options)
    (store.source / "more").write_text("more")
    store.backup(*options)
    stored = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert b"b.conf" not in stored
    store.restore(tmp_path / "none", code=12)
    store.restore(tmp_path / "none", "--encrypt-pass-file", wrong, code=12)
    assert not (tmp_path / "none").exists()
    store.restore(tmp_path / "out", "--encrypt-pass-file", password)
    assert contents(tmp_path / "out") == contents(store.source)


def test_each_name_has_its_own_password(store: Store, tmp_path: Path) -> None:
    for name in ("one", "two"):
        file = tmp_path / name
        file.write_text(f"password of {name}")
        file.chmod(0o600)
        store.backup("-N", name, "--encrypt-pass-file", file)
    store.backup("-N", "plain")
    for name in ("one", "two"):
        store.restore(tmp_path / f"out-{name}", "-N", name, "--encrypt-pass-file", tmp_path / name)
    store.restore(tmp_path / "out-plain", "-N", "plain")
    assert all(contents(tmp_path / f"out-{name}") == contents(store.source) for name in ("one", "two", "plain"))


def test_a_relative_container_lies_where_the_program_was_started(agent: Agent, tree: Path, tmp_path: Path) -> None:
    place = ("--storage", "local", "-C", "backups/here", "-N", "b")
    before = contents(tree)
    agent("-F", "../source", *place, "--metadata-out", "result.json")
    assert (agent.home / "backups" / "here" / "metadata").is_dir()
    assert (agent.home / "result.json").is_file()
    assert contents(tree) == before
    agent("--action", "restore", "--restore-abs-path", "out", *place)
    assert contents(agent.home / "out") == before


def test_a_checksum_holds_between_backup_and_restore(store: Store, tmp_path: Path) -> None:
    checksum = store.backup("--consistency-check")["consistency_checksum"]
    assert isinstance(checksum, str)
    store.restore(tmp_path / "out", "--consistency-checksum", checksum)
    said = store.restore(tmp_path / "again", "--consistency-checksum", "0" * 64, code=1)
    assert checksum in said
    excluded = store.backup("--consistency-check", "--exclude", "*.log")["consistency_checksum"]
    assert excluded != checksum
    store.restore(tmp_path / "less", "--consistency-checksum", str(excluded))


def test_a_checksum_of_one_file(store: Store, tmp_path: Path) -> None:
    checksum = store.backup("--consistency-check", "-F", store.source / "a.txt")["consistency_checksum"]
    store.restore(tmp_path / "out", "--consistency-checksum", str(checksum))


def test_info_lists_what_is_there(store: Store) -> None:
    for number in range(2):
        (store.source / "a.txt").write_text(str(number))
        store.backup("--max-level", "3")
    store.backup("-N", "other")
    place = ("--action", "info", "--storage", "local", "-C", store.folder)
    (container,) = store.agent(*place, "--metadata-out", "-").json["containers"]
    assert (container["container_name"], container["storage"]) == (str(store.folder), "local")
    assert container["objects_count"] > 0
    assert container["size"] > 0
    assert [(each["host"], each["name"], each["level"]) for each in container["backups"]] == [
        ("node1", "b", 0),
        ("node1", "b", 1),
        ("node1", "other", 0),
    ]
    shown = store.agent(*place).out
    assert "Object Count" in shown
    assert shown.count("node1") == 3
    assert store.agent(*place, "-N", "other").out.count("node1") == 1
    assert store.agent(*place, "--hostname", "node2").out.count("node1") == 0


def test_an_empty_place(agent: Agent, tmp_path: Path) -> None:
    place = ("--storage", "local", "-C", tmp_path / "nothing", "-N", "b")
    agent("--action", "restore", "--restore-abs-path", tmp_path / "out", *place, code=10)
    agent("--action", "admin", "--remove-older-than", "1", *place, code=10)
    agent("--action", "info", *place, code=10)
    assert not (tmp_path / "nothing").exists()


def test_what_is_missing_is_a_usage_error(agent: Agent, tmp_path: Path) -> None:
    place = ("--storage", "local", "-C", tmp_path / "store", "-N", "b")
    assert "--path-to-backup" in agent(*place, code=2).err
    assert "--restore-abs-path" in agent("--action", "restore", *place, code=2).err
    assert "--remove-older-than" in agent("--action", "admin", *place, code=2).err
    agent("-F", tmp_path / "no-such-path", *place, code=1)


def test_a_backup_that_nobody_made(store: Store, tmp_path: Path) -> None:
    store.backup()
    assert "node2_b" in store.restore(tmp_path / "out", "--hostname", "node2", code=1)


def test_hosts_with_underscores(store: Store, tmp_path: Path) -> None:
    store.backup("--hostname", "my_host_1", "-N", "a_b")
    store.restore(tmp_path / "out", "--hostname", "my_host_1", "-N", "a_b")
    assert contents(tmp_path / "out") == contents(store.source)


def test_names_that_the_original_did_not_fill_in_are_found(agent: Agent, tree: Path, tmp_path: Path) -> None:
    place = ("--storage", "local", "-C", tmp_path / "store", "--hostname", "node1")
    agent("-F", tree, *place, "-N", "freezer_{{mode}}_{{resource_id}}")
    assert next(iter((tmp_path / "store" / "metadata" / "tar").iterdir())).name == "node1_freezer_{mode}_{resource_id}"
    agent("--action", "restore", "--restore-abs-path", tmp_path / "out", *place)
    assert contents(tmp_path / "out") == contents(tree)
    agent("-F", tree, *place)
    assert (tmp_path / "store" / "metadata" / "tar" / "node1_freezer_fs_node1").is_dir()


def test_what_cannot_be_read_makes_it_partial(store: Store, tmp_path: Path) -> None:
    (store.source / "secret").write_text("secret")
    (store.source / "secret").chmod(0)
    arguments = ("-F", store.source, *store.place, "--metadata-out", "-")
    result = store.agent.process(*arguments, before=as_nobody_special(), code=3)
    assert result.json["status"] == "partial"
    assert [problem["path"] for problem in result.json["problems"]] == [str(store.source / "secret")]
    assert "secret" in result.err
    told = store.restore(tmp_path / "out", code=3)
    assert "secret: was not read whole when it was backed up" in told
    expected = contents(store.source)
    del expected["secret"]
    assert contents(tmp_path / "out") == expected


def as_nobody_special() -> tuple[str, ...]:
    """What takes from root the right to read everything."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root can read everything, and setpriv is not here")
    rights = "-dac_override,-dac_read_search"
    return ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")


INI = """
[default]
path_to_backup = {source}
backup_name = b
hostname = node1
max_level = 2

[storage:first]
storage = local
container = {first}

[storage:second]
storage = local
container = {second}
"""


def test_several_storages(agent: Agent, tree: Path, tmp_path: Path) -> None:
    places = {"first": tmp_path / "first", "second": tmp_path / "second"}
    file = tmp_path / "job.ini"
    file.write_text(INI.format(source=tree, **places))
    config = ("--config", file, "--metadata-out", "-")
    for level in range(2):
        result = agent(*config).json
        assert [(each["name"], each["status"], each["curr_backup_level"]) for each in result["storages"]] == [
            ("first", "complete", level),
            ("second", "complete", level),
        ]
    for name, place in places.items():
        target = tmp_path / f"out-{name}"
        arguments = ("--action", "restore", "--restore-abs-path", target, "--storage", "local", "-C", place)
        agent("--config", file, *arguments)
        assert contents(target) == contents(tree)
    assert len(agent(*config, "--action", "info").json["containers"]) == 2


def test_one_of_several_storages_fails_and_the_others_are_intact(agent: Agent, tree: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    file = tmp_path / "job.ini"
    file.write_text(INI.format(source=tree, first=blocked / "below", second=tmp_path / "second"))
    result = agent("--config", file, "--metadata-out", "-", code=3).json
    assert [each["status"] for each in result["storages"]] == ["failed", "complete"]
    assert (result["status"], result["storage"], result["container"]) == ("partial", "local", str(tmp_path / "second"))
    agent("--config", file, "--action", "restore", "--restore-abs-path", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tree)
    agent("--config", file, "--action", "info", code=3)
    file.write_text(INI.format(source=tree, first=blocked / "below", second=blocked / "too"))
    agent("--config", file, code=1)


def test_a_storage_inside_the_source_is_told_of(store: Store) -> None:
    shown = store.agent("-F", store.source, "--storage", "local", "-C", store.source / "backups", "-N", "b")
    assert "lies inside" in shown.err


@pytest.mark.parametrize("engine", ["rsync", "rsyncv2"])
def test_engines_of_changed_blocks(store: Store, tmp_path: Path, engine: str) -> None:
    options = ("--engine", engine, "--max-level", "2", "--rsync-block-size", "512", "--exclude", "*.log")
    data = bytearray(os.urandom(300_000))
    (store.source / "data").write_bytes(data)
    first = store.backup(*options)
    data[1000:1010] = b"0123456789"
    (store.source / "data").write_bytes(data)
    second = store.backup(*options, "--compression", "bzip2")
    assert (first["curr_backup_level"], second["curr_backup_level"], second["engine_name"]) == (0, 1, engine)
    assert isinstance(second["added_bytes"], int)
    assert second["added_bytes"] < 20_000
    assert (store.folder / "metadata" / "rsync").is_dir()
    store.restore(tmp_path / "out", "--engine", engine)
    expected = contents(store.source)
    del expected["sub/skip.log"]
    assert contents(tmp_path / "out") == expected


def test_blocks_are_not_compressed_by_xz(store: Store) -> None:
    arguments = ("-F", store.source, *store.place, "--engine", "rsyncv2", "--compression", "xz")
    assert "xz" in store.agent(*arguments, code=2).err


def test_nothing_logs_in_when_nothing_needs_it(store: Store, tmp_path: Path) -> None:
    store.agent.env |= {"OS_AUTH_URL": "http://127.0.0.1:1/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p"}
    store.backup()
    store.restore(tmp_path / "out")


def test_an_interrupted_run_leaves_nothing_visible(store: Store) -> None:
    (store.source / "data").write_bytes(os.urandom(4 << 20))
    slow = ("-F", store.source, *store.place, "--upload-limit", "20K")  # it would take minutes
    with subprocess.Popen(
        [BIN / "freezer-agent", *slow], env=store.agent.environment(), cwd=store.agent.home, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not any(path.is_file() for path in store.folder.rglob("*")):
            time.sleep(0.01)
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == 130
    assert store.levels() == []
    store.agent("--action", "restore", "--restore-abs-path", store.folder / "out", *store.place, code=1)
    store.backup()
    assert len(store.levels()) == 1


def test_the_processes_that_are_started_see_no_password(store: Store, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    programs = tmp_path / "bin"
    programs.mkdir()
    real = shutil.which("tar")
    (programs / "tar").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{seen}\nenv >>{seen}\nexec {real} "$@"\n')
    (programs / "tar").chmod(0o755)
    password = tmp_path / "password"
    password.write_text("hunter2\n")
    password.chmod(0o600)
    store.agent.env["PATH"] = f"{programs}:{os.environ['PATH']}"
    arguments = ("-F", store.source, *store.place, "--encrypt-pass-file", password, "--ssh-password", "hunter3")
    result = store.agent.process(*arguments, "--secret-key", "hunter4", "--debug")
    log = (store.agent.home / ".freezer" / "freezer.log").read_text()
    assert "--listed-incremental" in seen.read_text()
    for text in (seen.read_text(), result.out, result.err, log):
        assert "hunter" not in text


def test_names_with_ids_of_instances(store: Store, tree: Path, tmp_path: Path) -> None:
    """The original's modes for instances and images put an id behind the name, as a folder."""
    store.backup()
    shutil.rmtree(store.folder / "freezer-sdk")
    for first in ("metadata", "data"):
        series = store.folder / first / "tar" / "node1_b"
        (chain,) = series.iterdir()
        (series / "7d1c").mkdir()
        chain.rename(series / "7d1c" / chain.name)
    message = store.restore(tmp_path / "out", code=1)
    assert "give the whole name with --backup-name: b/7d1c" in message
    store.restore(tmp_path / "out", "--backup-name", "b/7d1c")
    assert contents(tmp_path / "out") == contents(tree)
