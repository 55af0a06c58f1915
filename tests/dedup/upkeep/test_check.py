"""A check names what is damaged, what needs it, and nothing else; and it takes turns in reading."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dedup.upkeep.world import Clocked, content, keys_of, new_repository, opened, write_files

from freezer_sdk import AccessDenied, CheckResult, ConfigurationError, Event, Finding, Freezer
from freezer_sdk.engines.dedup import control, keyholders, protocol
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.backup import BackupRun
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.upkeep.readings import Readings
from freezer_sdk.errors import StorageFull
from freezer_sdk.testing import Fault, FaultyStorage, damage, fail


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "source", seed=1)


@pytest.fixture
def storage(source: Path) -> Clocked:
    """Two backups, the second one with packs of its own."""
    storage = Clocked()
    new_repository(storage)
    with opened(storage) as freezer:
        freezer.backup(source, name="first")
        write_files(source, seed=2, files=3)
        freezer.backup(source, name="second", force_read=True)
    return storage


def packs(storage: Clocked) -> list[str]:
    return sorted(name for name in storage.content() if name.startswith(("packs/", "meta/")))


def check(storage: Clocked, **options: object) -> CheckResult:
    with opened(storage) as freezer:
        return freezer.maintenance.check(**options)  # type: ignore[arg-type]


def only(result: CheckResult) -> Finding:
    (finding,) = result.findings
    return finding


def test_nothing_is_wrong_with_a_whole_repository(storage: Clocked) -> None:
    result = check(storage)
    assert result.ok
    assert result.findings == ()
    assert (result.backups, result.packs, result.packs_read, result.bytes_read) == (2, len(packs(storage)), 0, 0)
    assert result.leases == {"open": 0, "dead": 0, "closed": 2}
    assert result.marks == {"marks": 0, "packs": 0, "generation": 0}
    assert not [name for name in storage.content() if name.startswith("records/verified")], "nothing was read"
    read = check(storage, read_data=True)
    assert (read.ok, read.packs_read, read.packs_left) == (True, read.packs, 0)
    assert read.bytes_read == sum(len(data) for name, data in storage.content().items() if name in packs(storage))


def test_the_files_that_need_a_damaged_segment_are_named(storage: Clocked, source: Path) -> None:
    name = max((name for name in packs(storage) if name.startswith("packs/")), key=lambda name: len(storage.get(name)))
    damage(storage, name, offset=1000)
    assert check(storage).ok, "only reading can tell"
    finding = only(check(storage, read_data=True))
    assert (finding.path, finding.kind, finding.fatal) == (name, "damaged", True)
    lost = {(each.backup, path) for each in finding.affected for path in each.paths}
    with opened(storage) as freezer:
        for backup in freezer.backups():
            for path in content(source):
                whole = readable(freezer, backup.id, source / path)
                assert whole is ((backup.id, str(source / path)) not in lost), path
    assert lost
    again = only(check(storage))
    assert (again.path, again.affected) == (name, finding.affected), "what was found is looked at every time"


def readable(freezer: Freezer, backup: str, path: Path) -> bool:
    try:
        with freezer.open(backup, path) as reader:
            return reader.read() == path.read_bytes()
    except Exception:
        return not any(entry.path == bytes(path) for entry in freezer.entries(backup))


def test_a_pack_that_is_gone_and_one_that_is_cut_short(storage: Clocked) -> None:
    gone, short = [name for name in packs(storage) if name.startswith("packs/")][:2]
    storage.delete(gone)
    storage.put(short, [storage.get(short)[:-1]])
    found = {finding.path: finding for finding in check(storage).findings}
    assert found.keys() == {gone, short}
    assert (found[gone].kind, found[short].kind) == ("missing", "damaged")
    assert found[gone].fatal
    assert found[gone].affected
    assert found[short].fatal
    assert found[short].affected == (), "all of its segments are whole, and can be read"


def test_an_index_that_is_damaged_or_gone(storage: Clocked) -> None:
    first, second = sorted(name for name in storage.content() if name.startswith("index/"))
    before = storage.save()
    damage(storage, first, offset=100)
    kinds = {finding.path: (finding.kind, finding.fatal) for finding in check(storage).findings}
    assert kinds == {first: ("damaged", True), "index": ("unindexed", True)}
    storage.load(before)
    storage.delete(second)
    assert only(check(storage)).kind == "unindexed"


def test_backups_that_do_not_count_are_no_damage(storage: Clocked, source: Path) -> None:
    keys = keys_of(storage)
    with opened(storage) as freezer:
        late = freezer.backup(source, name="late")
        gone = freezer.backup(source, name="gone")
        freezer.forget(gone.id)
        names = [info.name for info in storage.list("backups/")]
        protocol.decide(storage, keys, 1, condemned=[], alive=[each for each in names if late.id not in each])
        result = freezer.maintenance.check()
    assert result.ok
    assert (result.backups, result.forgotten, result.void, result.marks["generation"]) == (2, 1, 1, 1)
    assert (only(result).kind, only(result).fatal) == ("void", False)
    assert late.id in only(result).path


def test_a_forged_backup_is_no_damage(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Clocked()
    keys = create_repository(storage, password="correct horse")
    keyholders.add_slot(storage, keys, password="a client", roles={Role.WRITER, Role.READER}, hosts=["client"])
    with Freezer(storage, password="correct horse") as freezer:
        freezer.backup(source, name="t", host="server")
    monkeypatch.setattr(BackupRun, "_refuse_host", lambda run: None)  # the client runs what it likes
    with Freezer(storage, password="a client") as client:
        forged = client.backup(source, name="t", host="server")
    with Freezer(storage, password="correct horse") as freezer:
        result = freezer.maintenance.check(read_data=True)
    assert result.ok
    assert (result.backups, result.forged) == (1, 1)
    assert (only(result).kind, only(result).fatal) == ("forged", False)
    assert forged.id in only(result).path


def test_a_damaged_commit_is_named_and_the_others_are_whole(storage: Clocked) -> None:
    name = next(info.name for info in storage.list("backups/"))
    damage(storage, name, offset=200)
    finding = only(check(storage))
    assert (finding.path, finding.kind, finding.fatal) == (name, "damaged", True)
    assert [each.backup for each in finding.affected] == [name[-32:]]


@pytest.mark.parametrize("prefix", ["config/", "copies/config/", "keys/", "copies/keys/"])
def test_copies_of_keys_and_configuration(storage: Clocked, prefix: str) -> None:
    name = next(info.name for info in storage.list(prefix))
    damage(storage, name, offset=50)
    assert (only(check(storage)).path, only(check(storage)).fatal) == (name, True)


@pytest.mark.parametrize("prefix", ["leases/", "records/"])
def test_damage_that_nothing_depends_on_is_a_note(storage: Clocked, prefix: str) -> None:
    check(storage, read_data=True)
    name = next(info.name for info in storage.list(prefix))
    damage(storage, name, offset=50)
    result = check(storage)
    assert (only(result).path, only(result).fatal, result.ok) == (name, False, True)


def test_a_damaged_tombstone_matters_as_long_as_its_backup_is_there(storage: Clocked) -> None:
    keys, backup = keys_of(storage), next(info.name for info in storage.list("backups/"))[-32:]
    protocol.write_tombstone(storage, keys, backup)
    protocol.write_tombstone(storage, keys, secrets.token_hex(16))
    for info in list(storage.list("forgotten/")):
        damage(storage, info.name, offset=50)
    found = {finding.path.removeprefix("forgotten/"): finding.fatal for finding in check(storage).findings}
    assert sorted(found.values()) == [False, True]
    assert found[backup]


def test_findings_are_told_while_it_runs(storage: Clocked) -> None:
    damage(storage, packs(storage)[0], offset=1000)
    seen: list[Event] = []
    with opened(storage) as freezer:
        result = freezer.maintenance.check(read_data=True, events=seen.append)
    problems = [event.problem for event in seen if event.problem is not None]
    assert [problem.path for problem in problems] == [finding.path for finding in result.findings]
    assert seen[0].kind == "start"
    assert seen[-1].kind == "finish"


# -- taking turns ----------------------------------------------------------------------------------------------------


def reads(storage: Clocked, names: list[str]) -> set[str]:
    """Packs that were read whole so far, by what is written down."""
    readings = Readings.load(storage, keys_of(storage))
    return {name for name in names if readings.last(bytes.fromhex(name[-64:])) is not None}


def test_parts_make_the_whole(storage: Clocked) -> None:
    names = packs(storage)
    seen: set[str] = set()
    for number in (1, 2, 3):
        before = reads(storage, names)
        expected = {name for name in names if int(name[-64:-48], 16) % 3 == number - 1}
        assert check(storage, subset=f"{number}/3").packs_read == len(expected)
        assert reads(storage, names) - before == expected - seen
        seen |= expected
    assert seen == set(names)


def test_a_share_is_read_in_turns(storage: Clocked) -> None:
    names, seen = packs(storage), set[str]()
    while len(seen) < len(names):
        result = check(storage, subset="1%")
        fresh = reads(storage, names) - seen
        seen |= fresh
        in_turn = len(fresh) == result.packs_read or len(seen) == len(names)
        assert fresh
        assert in_turn, "what was read before is read again while something was not"
    assert check(storage).oldest is not None
    assert len([name for name in storage.content() if name.startswith("records/verified")]) == 1
    assert check(storage, subset="100%").packs_read == len(names)


def test_only_what_is_older_than_an_age_is_read(storage: Clocked, source: Path) -> None:
    assert check(storage, max_age=timedelta(days=30)).packs_read == len(packs(storage))
    assert check(storage, max_age=timedelta(days=30)).packs_read == 0
    before = len(packs(storage))
    with opened(storage) as freezer:
        freezer.backup(write_files(source, seed=3, files=1), name="third", force_read=True)
    assert check(storage, max_age=timedelta(days=30)).packs_read == len(packs(storage)) - before
    assert check(storage, max_age=timedelta(0)).packs_read == len(packs(storage))


def test_what_was_left_comes_first_next_time(storage: Clocked) -> None:
    names = packs(storage)
    with opened(storage) as freezer:
        first = freezer.maintenance.check(max_duration=timedelta(microseconds=1))
    assert (first.ok, first.packs_read, first.packs_left) == (True, 0, len(names))
    assert first.bytes_left == sum(len(storage.get(name)) for name in names)
    check(storage, subset="1%")
    second = check(storage, max_duration=timedelta(minutes=5))
    assert (second.packs_read, second.packs_left) == (len(names), 0)
    assert second.oldest is not None


def test_the_record_does_not_grow(storage: Clocked, source: Path) -> None:
    for number in range(5):
        check(storage, read_data=True)
        with opened(storage) as freezer:
            freezer.backup(write_files(source, seed=10 + number, files=1), name="more", force_read=True)
    (name,) = [name for name in storage.content() if name.startswith("records/verified")]
    assert len(storage.get(name)) < 1500
    for gone in packs(storage):
        storage.delete(gone)
    check(storage, read_data=True)
    later = Readings.load(storage, keys_of(storage))
    assert not any(later.last(bytes.fromhex(gone[-64:])) for gone in packs(storage))


def test_what_is_said_to_be_read_in_the_future_is_not_believed(storage: Clocked) -> None:
    keys, names = keys_of(storage), packs(storage)
    ahead = Readings([], datetime.now(UTC) + timedelta(days=400))
    digests = [bytes.fromhex(name[-64:]) for name in names]
    ahead.note(digests, keys.slot_id)
    ahead.store(storage, keys, digests)
    assert check(storage, max_age=timedelta(days=30)).packs_read == len(names)


def test_a_damaged_pack_is_read_again_until_it_is_whole(storage: Clocked) -> None:
    name = packs(storage)[0]
    before = storage.get(name)
    damage(storage, name, offset=1000)
    assert not check(storage, read_data=True).ok
    assert not check(storage, max_age=timedelta(days=1)).ok
    storage.put(name, [before])  # a medium that was read wrongly
    result = check(storage)
    assert (result.ok, result.packs_read) == (True, 1)
    assert check(storage).packs_read == 0


def test_who_may_only_read_checks_and_writes_nothing(source: Path) -> None:
    storage = Clocked()
    keys = create_repository(storage, password="correct horse")
    keyholders.add_slot(storage, keys, password="a reader", roles={Role.READER})
    keyholders.add_slot(storage, keys, password="a writer", roles={Role.WRITER})
    with Freezer(storage, password="correct horse") as freezer:
        freezer.backup(source, name="t")
    before = storage.content()
    with Freezer(storage, password="a reader") as reader:
        assert reader.maintenance.check(read_data=True).packs_read == len(packs(storage))
    assert storage.content() == before
    with Freezer(storage, password="a writer") as writer, pytest.raises(AccessDenied):
        writer.maintenance.check()


def test_a_full_storage_does_not_stop_a_check(storage: Clocked) -> None:
    full = FaultyStorage(storage, Fault(fail(StorageFull("no space left")), times=None, methods={"put"}))
    result = opened(full).maintenance.check(read_data=True)
    assert (result.ok, result.packs_read) == (True, len(packs(storage)))
    assert "cannot be written down" in only(result).message


@pytest.mark.parametrize("options", [{"subset": text} for text in ("", "0%", "101%", "0/3", "4/3", "1/0", "half", "5")])
def test_what_makes_no_sense_is_refused(storage: Clocked, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        check(storage, **options)


def test_a_sweep_during_the_check_is_no_damage(storage: Clocked, source: Path) -> None:
    """Indexes were read, then an old one is replaced and a pack of it deleted."""
    keys = keys_of(storage)
    with opened(storage) as freezer:
        gone = freezer.backup(write_files(source / "more", seed=9), name="gone")
        freezer.forget(gone.id)
    old = [info.name for info in storage.list("index/")]
    unused = [name for name in packs(storage) if not _needed(storage, name)]
    assert unused

    def sweep(_call: object) -> None:
        alive = [info.name for info in storage.list("backups/") if gone.id not in info.name]
        condemned = [bytes.fromhex(name[-64:]) for name in unused]
        protocol.decide(storage, keys, 1, condemned=condemned, alive=alive)
        for name in unused:
            storage.delete(name)

    faulty = FaultyStorage(storage, Fault(sweep, at=len(old) + 1, when="after", methods={"get"}, prefix="index/"))
    result = opened(faulty).maintenance.check(read_data=True)
    assert result.ok
    assert not [finding for finding in result.findings if finding.fatal]


def test_indexes_that_are_merged_during_the_check_are_no_damage(storage: Clocked) -> None:
    before = storage.save()
    old = [info.name for info in storage.list("index/")]
    for name in old:
        storage.delete(name)
    with opened(storage) as freezer:
        freezer.maintenance.repair()  # makes one of two
    (merged,) = [info.name for info in storage.list("index/")]
    data = storage.get(merged)
    storage.load(before)

    def merge(_call: object) -> None:
        storage.put(merged, [data])
        for name in old:
            storage.delete(name)

    faulty = FaultyStorage(storage, Fault(merge, when="before", methods={"get"}, prefix=old[-1]))
    result = opened(faulty).maintenance.check(read_data=True)
    assert (result.ok, result.findings) == (True, ())


def _needed(storage: Clocked, name: str) -> bool:
    """Whether a check misses a pack."""
    before = storage.save()
    storage.delete(name)
    ok = check(storage).ok
    storage.load(before)
    return not ok


def test_control_objects_of_nobody_are_damage(storage: Clocked) -> None:
    stranger = create_repository(Clocked(), password=None)
    name = f"marks/{hashlib.md5(b'x', usedforsecurity=False).hexdigest()}"
    storage.put(name, [control.seal(stranger, "mark", name, {"generation": 1, "packs": []}, secrecy="index")])
    assert only(check(storage)).path == name
