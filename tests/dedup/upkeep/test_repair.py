"""Each thing that a repair mends, and that it only adds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from dedup.upkeep.world import Clocked, content, keys_of, new_repository, opened, write_files

from freezer_sdk import AccessDenied, Event, Freezer, RepairResult, RepositoryLocked, RetentionPolicy
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import control, keyholders
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.catalog import COMMIT
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import ObjectInfo
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import FaultyStorage, damage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "source", seed=1)


@pytest.fixture
def storage(source: Path) -> Clocked:
    storage = Clocked()
    new_repository(storage)
    with opened(storage) as freezer:
        freezer.backup(source, name="first")
        write_files(source, seed=2, files=3)
        freezer.backup(source, name="second", force_read=True)
    return storage


def repair(storage: Clocked, **options: object) -> RepairResult:
    with opened(storage) as freezer:
        plan = freezer.maintenance.plan_repair(**options)  # type: ignore[arg-type]
        result = freezer.maintenance.repair(**options)  # type: ignore[arg-type]
        assert [(step.action, step.path) for step in plan.steps] == [(step.action, step.path) for step in result.steps]
        assert freezer.maintenance.repair(**options).steps == ()  # type: ignore[arg-type]
        return result


def actions(result: RepairResult) -> list[str]:
    return [step.action for step in result.steps]


def below(storage: MemoryStorage, prefix: str) -> list[str]:
    return [info.name for info in storage.list(prefix)]


def largest(storage: Clocked, prefix: str = "packs/") -> str:
    return max(below(storage, prefix), key=lambda name: len(storage.get(name)))


def restores(storage: Clocked, source: Path, out: Path) -> None:
    with opened(storage) as freezer:
        newest = freezer.find_backup(name="second")
        assert freezer.restore(newest.id, out).problems == ()
    assert content(out) == content(source)


def test_a_whole_repository_is_left_alone(storage: Clocked) -> None:
    before = storage.content()
    result = repair(storage, read_data=True)
    assert (result.steps, result.lost, result.broken, result.added_bytes) == ((), (), (), 0)
    assert storage.content() == before


def test_what_a_plan_has_read_is_not_read_again(storage: Clocked) -> None:
    damage(storage, largest(storage), offset=1000)
    faulty = FaultyStorage(storage)
    with opened(faulty) as freezer:
        plan = freezer.maintenance.plan_repair(read_data=True)
        begin = len(faulty.calls)
        result = freezer.maintenance.repair(plan=plan, read_data=True)
    assert plan.damaged == (largest(storage),)
    assert (result.steps, result.lost) == (plan.steps, plan.lost)
    read = {call.name for call in faulty.calls[begin:] if call.method == "get" and call.name.startswith("packs/")}
    tables = len(below(storage, "packs/"))
    gets = [call for call in faulty.calls[begin:] if call.method == "get" and call.name.startswith("packs/")]
    assert len(read) == tables
    assert len([call for call in gets if call.name not in plan.damaged]) <= 2 * tables, "only the others' tables"


def test_a_plan_writes_nothing(storage: Clocked) -> None:
    damage(storage, largest(storage), offset=-100)
    storage.delete(below(storage, "index/")[0])
    before = storage.content()
    with opened(storage) as freezer:
        assert freezer.maintenance.plan_repair(read_data=True).steps
    assert storage.content() == before


@pytest.mark.parametrize("prefix", ["config/", "copies/config/", "keys/", "copies/keys/"])
@pytest.mark.parametrize("gone", [True, False])
def test_copies_of_keys_and_configuration_are_written_again(storage: Clocked, prefix: str, gone: bool) -> None:
    (name,) = below(storage, prefix)
    whole = storage.get(name)
    storage.delete(name) if gone else damage(storage, name, offset=50)
    assert actions(repair(storage)) == ["copy"]
    assert storage.get(name) == whole
    with opened(storage) as freezer:
        assert freezer.maintenance.check().findings == ()


@pytest.mark.parametrize("gone", [True, False])
def test_a_configuration_that_is_lost_in_both_places_is_known_to_who_has_it_open(storage: Clocked, gone: bool) -> None:
    names = ["config/00000001", "copies/config/00000001"]
    with opened(storage) as freezer:
        for name in names:
            storage.delete(name) if gone else damage(storage, name, offset=50)
        found = freezer.maintenance.check().findings
        assert [finding.path for finding in found if finding.fatal] == (names[:1] if gone else names)
        assert [step.path for step in freezer.maintenance.repair().steps] == names
    assert repair(storage).steps == ()


def test_a_lost_index_is_made_from_the_tables_of_the_packs(storage: Clocked, source: Path, tmp_path: Path) -> None:
    for name in below(storage, "index/"):
        storage.delete(name)
    result = repair(storage)
    assert actions(result) == ["index"]
    assert len(below(storage, "index/")) == 1
    with opened(storage) as freezer:
        assert freezer.maintenance.check(read_data=True).findings == ()
    restores(storage, source, tmp_path / "out")


def test_a_damaged_index_is_replaced_and_stays(storage: Clocked) -> None:
    name = below(storage, "index/")[0]
    damage(storage, name, offset=100)
    assert actions(repair(storage)) == ["index"]
    with opened(storage) as freezer:
        result = freezer.maintenance.check()
    assert result.ok
    assert [(finding.path, finding.fatal) for finding in result.findings] == [(name, False)]


def test_what_is_whole_in_a_pack_without_its_table_is_stored_again(
    storage: Clocked, source: Path, tmp_path: Path
) -> None:
    for name in below(storage, "packs/") + below(storage, "meta/"):
        storage.put(name, [storage.get(name)[:-13]])
    for name in below(storage, "index/"):
        storage.delete(name)
    result = repair(storage)
    assert set(actions(result)) == {"salvage", "mark"}
    assert result.lost == ()
    restores(storage, source, tmp_path / "out")
    with opened(storage) as freezer:
        assert freezer.maintenance.check(read_data=True).ok


def test_the_damaged_pack_goes_with_a_later_prune(storage: Clocked, source: Path, tmp_path: Path) -> None:
    name = largest(storage)
    storage.put(name, [storage.get(name)[:-1]])
    assert set(actions(repair(storage))) == {"salvage", "mark"}
    with opened(storage) as freezer:
        freezer.maintenance.prune(max_waste=1.0)
        storage.pass_time()
        assert freezer.maintenance.prune(max_waste=1.0).freed_packs >= 1
        assert name not in storage.content()
        assert freezer.maintenance.check(read_data=True).ok
        assert repair(storage, read_data=True).lost == ()
    restores(storage, source, tmp_path / "out")


def test_lost_files_are_written_down_and_told(storage: Clocked, source: Path, tmp_path: Path) -> None:
    name = largest(storage)
    damage(storage, name, offset=1000)
    assert repair(storage).steps == (), "nothing shows as long as nobody reads"
    result = repair(storage, read_data=True)
    assert set(actions(result)) <= {"mark", "record", "salvage"}
    assert result.lost
    with opened(storage) as freezer:
        for backup in freezer.backups():
            lost = {path for each in result.lost if each.backup == backup.id for path in each.paths}
            assert backup.status == ("partial" if lost else "complete")
            assert {problem.path for problem in backup.problems if problem.kind == "lost"} == lost
            marked = {os.fsdecode(entry.path) for entry in freezer.entries(backup.id) if entry.incomplete}
            assert marked == lost
        found = freezer.maintenance.check(read_data=True)
        assert found.ok
        assert {finding.kind for finding in found.findings} == {"damaged", "lost"}
        whole = freezer.restore(freezer.find_backup(name="second").id, tmp_path / "out")
    assert whole.status == "partial"
    assert content(tmp_path / "out").items() < content(source).items()


def test_the_next_backup_brings_back_what_is_still_on_disk(storage: Clocked, source: Path, tmp_path: Path) -> None:
    damage(storage, largest(storage), offset=1000)
    repair(storage, read_data=True)
    with opened(storage) as freezer:
        third = freezer.backup(source, name="second")
        assert third.stats.unmodified_files == 0, "what looks unchanged refers to what is lost"
        fourth = freezer.backup(source, name="second")
        assert fourth.stats.read_bytes == 0
        assert {finding.kind for finding in freezer.maintenance.check().findings} == {"damaged", "healed"}
    result = repair(storage)
    assert actions(result) == ["record"] * len(result.steps)
    assert result.lost == ()
    with opened(storage) as freezer:
        assert {backup.status for backup in freezer.backups()} == {"complete"}
    restores(storage, source, tmp_path / "out")


def test_prune_goes_on_when_lost_files_are_written_down(storage: Clocked) -> None:
    for name in below(storage, "packs/"):
        storage.delete(name)
    with opened(storage) as freezer:
        with pytest.raises(IntegrityError):
            freezer.maintenance.prune()
        freezer.maintenance.repair()
        freezer.maintenance.prune()
        assert len(freezer.backups()) == 2


def test_a_backup_whose_record_is_damaged_is_forgotten_only_when_told(storage: Clocked) -> None:
    name = below(storage, "backups/")[0]
    damage(storage, name, offset=200)
    result = repair(storage)
    assert (result.steps, result.broken) == ((), (name[-32:],))
    with opened(storage) as freezer:
        assert sorted(backup.status for backup in freezer.backups()) == ["complete", "damaged"]
        with pytest.raises(IntegrityError):
            freezer.maintenance.prune()
    result = repair(storage, forget_broken=True)
    assert (actions(result), result.broken) == (["forget"], ())
    with opened(storage) as freezer:
        assert [backup.status for backup in freezer.backups()] == ["complete"]
        found = freezer.maintenance.check()
        assert [(finding.path, finding.fatal) for finding in found.findings] == [(name, False)]
        freezer.maintenance.prune()


def test_a_record_that_a_newer_program_wrote_is_not_taken_for_garbage(storage: Clocked) -> None:
    keys, name = keys_of(storage), below(storage, "backups/")[0]
    storage.put(name, [control.seal(keys, COMMIT, name, {"version": 99, "id": name[-32:]}, secrecy="data")])
    later = below(storage, "backups/")[1]
    data = bytearray(storage.get(later))
    data[4] = 7  # the version of the object
    storage.put(later, [data])
    before = storage.content()
    result = repair(storage, forget_broken=True)
    assert (result.steps, sorted(result.broken)) == ((), sorted([name[-32:], later[-32:]]))
    assert storage.content() == before


def test_only_maintainers_repair_and_one_at_a_time(storage: Clocked, source: Path) -> None:
    locked = Clocked()
    keys = create_repository(locked, password="correct horse", kdf=CHEAP)
    keyholders.add_slot(locked, keys, password="a reader", roles={Role.READER, Role.WRITER}, kdf=CHEAP)
    with Freezer(locked, password="a reader") as reader, pytest.raises(AccessDenied):
        reader.maintenance.repair()
    storage.delete(below(storage, "index/")[0])
    with opened(storage) as freezer, Claim(storage, keys_of(storage)):
        assert freezer.maintenance.plan_repair().steps
        with pytest.raises(RepositoryLocked):
            freezer.maintenance.repair()


# -- from another repository -------------------------------------------------------------------------------------------


@pytest.fixture(params=["alike", "other keys"])
def twin(request: pytest.FixtureRequest, storage: Clocked) -> Iterator[Freezer]:
    """A repository that has copies of all backups."""
    other = Clocked()
    like = keys_of(storage) if request.param == "alike" else None
    create_repository(other, password="another", kdf=CHEAP, like=like)
    with opened(storage) as freezer, Freezer(other, password="another") as twin:
        assert [result.outcome for result in twin.copy(freezer)] == ["copied", "copied"]
        yield twin


def lose_contents(storage: Clocked) -> None:
    for name in below(storage, "packs/"):
        damage(storage, name, offset=1000)


def lose_directories(storage: Clocked) -> None:
    for name in below(storage, "meta/"):
        storage.delete(name)


def lose_all(storage: Clocked) -> None:
    for prefix in ("meta/", "packs/", "index/"):
        for name in below(storage, prefix):
            storage.delete(name)


@pytest.mark.parametrize("lose", [lose_contents, lose_directories, lose_all])
def test_what_is_lost_is_fetched(
    storage: Clocked, twin: Freezer, source: Path, tmp_path: Path, lose: Callable[[Clocked], None]
) -> None:
    lose(storage)
    with opened(storage) as freezer:
        result = freezer.maintenance.repair(read_data=True, sources=[twin])
        assert "fetch" in actions(result)
        assert result.lost == ()
        assert freezer.maintenance.repair(read_data=True, sources=[twin]).steps == ()
        assert freezer.maintenance.check(read_data=True).ok
        assert {backup.status for backup in freezer.backups()} == {"complete"}
        for number, backup in enumerate(freezer.backups()):
            assert freezer.restore(backup.id, tmp_path / f"out{number}").problems == ()
    restores(storage, source, tmp_path / "out")


def test_a_damaged_record_is_copied_again(storage: Clocked, twin: Freezer, source: Path, tmp_path: Path) -> None:
    before = {}
    with opened(storage) as freezer:
        before = {backup.id: backup for backup in freezer.backups()}
    for name in below(storage, "backups/"):
        damage(storage, name, offset=200)
    with opened(storage) as freezer:
        result = freezer.maintenance.repair(sources=[twin])
        assert actions(result) == ["commit", "commit"]
        assert result.broken == ()
        after = {backup.id: backup for backup in freezer.backups()}
        assert {each: (backup.time, backup.stats, backup.host) for each, backup in after.items()} == {
            each: (backup.time, backup.stats, backup.host) for each, backup in before.items()
        }
        assert freezer.maintenance.check(read_data=True).ok
    restores(storage, source, tmp_path / "out")


def test_what_the_other_repository_does_not_have_is_lost(storage: Clocked, twin: Freezer, source: Path) -> None:
    with opened(storage) as freezer:
        write_files(source, seed=3, files=2)
        third = freezer.backup(source, name="third", force_read=True)
        lose_contents(storage)
        result = freezer.maintenance.repair(read_data=True, sources=[twin])
        assert [each.backup for each in result.lost] == [third.id]
        fresh = {str(path) for path in source.rglob("f3-*")}
        assert set(result.lost[0].paths) == fresh


def test_a_source_must_be_another_repository_of_the_engine(storage: Clocked) -> None:
    lose_contents(storage)
    with opened(storage) as freezer, opened(storage) as same:
        assert freezer.maintenance.repair(read_data=True, sources=[same]).lost, "a repository is no help to itself"


def test_a_backup_that_has_lost_files_is_not_the_last_complete_one(storage: Clocked, source: Path) -> None:
    before = set(below(storage, "packs/"))
    with opened(storage) as freezer:
        third = freezer.backup(write_files(source, seed=3, files=1), name="second", force_read=True)
        for name in set(below(storage, "packs/")) - before:
            storage.delete(name)
        assert freezer.maintenance.repair().lost[0].backup == third.id
        plan = freezer.retention.plan(RetentionPolicy(keep_last=1, floor=timedelta(0)), name="second")
        kept = {decision.backup.id for group in plan.groups for decision in group.decisions if decision.keep}
        second = next(backup for backup in freezer.backups() if backup.id != third.id and backup.name == "second")
    assert second.id in kept, "the last complete backup gave way to one that has lost files"


def test_a_storage_that_takes_only_new_objects_is_mended_as_far_as_it_goes(
    storage: Clocked, source: Path, tmp_path: Path
) -> None:
    """Append-only: what needs an overwrite stays damaged, all else is mended, and records are as good as ever."""

    class AppendOnly(Clocked):
        def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
            if name in self.content():
                raise AccessDenied(f"{name} is there")
            return super().put(name, buffers, if_absent=if_absent)

        def delete(self, name: str) -> None:
            raise AccessDenied("nothing is ever deleted")

    damage(storage, "copies/config/00000001", offset=50)
    for name in below(storage, "index/"):
        storage.delete(name)
    name = largest(storage)
    storage.put(name, [storage.get(name)[:-1]])
    locked = AppendOnly()
    locked.load(storage.save())
    seen: list[Event] = []
    with opened(locked) as freezer:
        result = freezer.maintenance.repair(events=seen.append)
        assert set(actions(result)) == {"copy", "index", "salvage", "mark"}
        assert [event.path for event in seen if event.kind == "problem"] == ["copies/config/00000001"]
        found = freezer.maintenance.check(read_data=True)
        assert [finding.path for finding in found.findings if finding.fatal] == ["copies/config/00000001"]
        again = freezer.maintenance.check(max_age=timedelta(days=1))
        assert again.packs_read == 0, "what was read is remembered all the same"
        newest = freezer.find_backup(name="second")
        assert freezer.restore(newest.id, tmp_path / "out").problems == ()
    assert content(tmp_path / "out") == content(source)


def test_a_copy_stores_again_what_is_damaged_in_the_target(tmp_path: Path, source: Path) -> None:
    """What an earlier copy brought over is not believed to be there when it is known to be damaged."""
    storage, target = Clocked(), Clocked()
    new_repository(storage)
    create_repository(target, password=None, like=keys_of(storage))
    with opened(storage) as freezer, opened(target) as twin:
        freezer.backup(source, name="second")
        twin.copy(freezer)
        (source / "d0" / "new").write_bytes(b"new")
        freezer.backup(source, name="second")
        damage(target, largest(target), offset=1000)
        assert not twin.maintenance.check(read_data=True).ok
        assert [result.outcome for result in twin.copy(freezer)] == ["present", "copied"]
        twin.maintenance.repair()
        assert {backup.status for backup in twin.backups()} == {"complete"}
    restores(target, source, tmp_path / "out")
