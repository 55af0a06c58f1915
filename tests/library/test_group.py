"""Several repositories, driven like one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from freezer_sdk import (
    BackupNotFound,
    Cancelled,
    CancelToken,
    CommandFailed,
    ConfigurationError,
    Event,
    Freezer,
    FreezerError,
    FreezerGroup,
    GroupResult,
    RepositoryNotFound,
    Status,
    StorageFull,
    StorageUnavailable,
    Target,
    TargetsFailed,
    WrongPassword,
)
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, delay, fail

MEGABYTE = 1 << 20
SMALL = {"pack_size": "1M", "queue_size": "1M"}


@pytest.fixture(autouse=True)
def no_threads_stay() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 120
    while (names := freezer_threads()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert names == []


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What storages wait for that never answer."""
    event = threading.Event()
    yield event
    event.set()


def freezer_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("freezer")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """8 MB of files that do not compress."""
    import random

    folder, content = tmp_path / "source", random.Random(1)
    for number in range(32):
        file = folder / f"d{number % 4}" / f"f{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.randbytes(256 << 10))
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Place:
    """A local repository, in which faults can happen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        Freezer.create(f"local:{folder}", encryption=False).close()

    def __str__(self) -> str:
        return f"local:{self.folder}"

    def storage(self, *faults: Fault) -> FaultyStorage:
        return FaultyStorage(LocalStorage(path=str(self.folder)), *faults)

    def target(self, *faults: Fault) -> Target:
        return Target(self.storage(*faults) if faults else str(self), engine_options=SMALL)

    def ids(self) -> list[str]:
        with Freezer(str(self)) as freezer:
            return [backup.id for backup in freezer.backups()]

    def check(self, source: Path, out: Path) -> None:
        """Its newest backup is whole, and what was backed up."""
        with Freezer(str(self)) as freezer:
            assert freezer.verify(read_data=True).ok
            freezer.restore("latest", out)
        assert read_tree(out) == read_tree(source)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Place, Place]:
    return Place(tmp_path / "one"), Place(tmp_path / "two")


def errors(result: GroupResult) -> list[FreezerError | None]:
    return [target.error for target in result.targets]


def dies(at: int, error: Exception | None = None) -> Fault:
    """From this put on, everything that is written fails."""
    return Fault(fail(error or StorageUnavailable("the cable is cut")), at=at, times=None, methods={"put"})


# -- backups ---------------------------------------------------------------------------------------------------


def test_one_run_has_one_id_and_time_in_all(places: tuple[Place, Place], source: Path, tmp_path: Path) -> None:
    with FreezerGroup([place.target() for place in places]) as group:
        assert group.locations == tuple(str(place) for place in places)
        result = group.backup(source, name="data", tags=["daily"], excludes=["*.tmp"])
        assert result.status is Status.COMPLETE
        assert [target.location for target in result.targets] == [str(place) for place in places]
        for target in result.targets:
            assert target.backup is not None
            assert (target.backup.id, target.backup.time) == (result.id, result.time)
            assert (target.backup.name, target.backup.tags, target.backup.excludes) == ("data", ("daily",), ("*.tmp",))
        second = group.backup(source, name="data")
        assert [target.backup and target.backup.stats.new_files for target in second.targets] == [0, 0]
        assert [target.backup and target.backup.parent for target in second.targets] == [result.id] * 2
    assert [place.ids() for place in places] == [[result.id, second.id]] * 2
    for number, place in enumerate(places):
        place.check(source, tmp_path / f"out{number}")


def test_one_dies_at_half_the_other_is_complete(places: tuple[Place, Place], source: Path, tmp_path: Path) -> None:
    one, two = places
    with FreezerGroup([one.target(dies(5)), two.target()]) as group:
        result = group.backup(source, name="data")
        assert result.status is Status.PARTIAL
        failed, done = result.targets
        assert isinstance(failed.error, StorageUnavailable)
        assert (failed.backup, done.error) == (None, None)
        assert done.backup is not None
        assert done.backup.status is Status.COMPLETE
    assert (one.ids(), two.ids()) == ([], [result.id])
    two.check(source, tmp_path / "out")
    with Freezer(str(one)) as freezer:
        assert freezer.verify(read_data=True).ok


def test_a_copy_makes_them_equal_again(places: tuple[Place, Place], source: Path, tmp_path: Path) -> None:
    one, two = places
    with FreezerGroup([one.target(dies(5)), two.target()]) as group:
        result = group.backup(source, name="data")
        assert result.status is Status.PARTIAL
    with Freezer(str(one)) as first, Freezer(str(two)) as second:
        first.copy(second)
        assert first.find_backup(result.id).time == result.time
    with FreezerGroup([one.target(), two.target()]) as group:
        assert [found.locations for found in group.backups()] == [(str(one), str(two))]
        again = group.backup(source, name="data")
    assert [target.backup and target.backup.stats.new_files for target in again.targets] == [0, 0]
    one.check(source, tmp_path / "out")


def test_when_all_fail_for_one_reason_that_is_what_is_raised(places: tuple[Place, Place], source: Path) -> None:
    one, two = places
    faults = dies(5, StorageFull("the first disk is full")), dies(7, StorageFull("the second disk is full"))
    with FreezerGroup([one.target(faults[0]), two.target(faults[1])]) as group:
        with pytest.raises(StorageFull) as caught:
            group.backup(source)
        assert "first disk" in str(caught.value)
        assert "second disk" in str(caught.value)
        assert str(one) in str(caught.value)


def test_when_all_fail_for_different_reasons(places: tuple[Place, Place], source: Path) -> None:
    one, two = places
    with (
        FreezerGroup([one.target(dies(5, StorageFull("full"))), two.target(dies(5))]) as group,
        pytest.raises(TargetsFailed, match=r"full.*the cable is cut"),
    ):
        group.backup(source)
    assert one.ids() == two.ids() == []


def test_an_unexpected_error_in_one_thread_leaves_the_others_alone(places: tuple[Place, Place], source: Path) -> None:
    with FreezerGroup([places[0].target(dies(3, ZeroDivisionError("oops"))), places[1].target()]) as group:
        result = group.backup(source)
    first, second = errors(result)
    assert isinstance(first, FreezerError)
    assert "ZeroDivisionError" in str(first)
    assert second is None


def test_a_slow_one_keeps_nobody_waiting(places: tuple[Place, Place], source: Path) -> None:
    """The slow one stores its third pack only after the quick one has finished."""
    quick_done = threading.Event()
    in_time: list[bool] = []

    def note(event: Event) -> None:
        if event.kind == "finish" and event.target == str(places[1]):
            quick_done.set()

    slow = Fault(lambda call: in_time.append(quick_done.wait(300)), at=3, methods={"put"}, prefix="packs/")
    with FreezerGroup([places[0].target(slow), places[1].target()], events=note) as group:
        result = group.backup(source)
    assert result.status is Status.COMPLETE
    assert in_time == [True]


def test_problems_of_the_source_are_those_of_each_backup(places: tuple[Place, Place], source: Path) -> None:
    with FreezerGroup([place.target() for place in places]) as group:
        result = group.backup([source, source / "missing"], name="data")
    assert result.status is Status.PARTIAL
    assert errors(result) == [None, None]
    assert [target.backup and target.backup.status for target in result.targets] == [Status.PARTIAL] * 2


def test_a_dry_run_writes_nothing(places: tuple[Place, Place], source: Path) -> None:
    with FreezerGroup([place.target() for place in places]) as group:
        result = group.backup(source, dry_run=True)
    assert [target.backup and target.backup.dry_run for target in result.targets] == [True, True]
    assert [place.ids() for place in places] == [[], []]


def test_the_parent_is_looked_up_in_each(places: tuple[Place, Place], source: Path) -> None:
    with FreezerGroup([place.target() for place in places]) as group:
        first = group.backup(source, name="data")
        group.backup(source, name="data")
        result = group.backup(source, name="data", parent=first.id[:10])
        assert [target.backup and target.backup.parent for target in result.targets] == [first.id] * 2
        with pytest.raises(BackupNotFound):
            group.backup(source, parent="0" * 32)


def test_a_mode_that_cannot_protect_fails_the_run(places: tuple[Place, Place]) -> None:
    with FreezerGroup([place.target() for place in places]) as group:
        with pytest.raises(ConfigurationError, match="nothing to back up"):
            group.backup(name="x")
        with pytest.raises(ConfigurationError, match=r"takes no|unknown option"):
            group.backup("/etc", mode_options={"nonsense": 1})


# -- opening ---------------------------------------------------------------------------------------------------


def test_one_that_cannot_be_opened_is_reported_in_every_run(
    places: tuple[Place, Place], source: Path, tmp_path: Path
) -> None:
    told: list[Event] = []
    targets = [Target(f"local:{tmp_path}/nothing"), places[1].target()]
    with FreezerGroup(targets, events=told.append) as group:
        assert list(group.failures) == [f"local:{tmp_path}/nothing"]
        assert list(group.freezers) == [str(places[1])]
        assert [(event.kind, event.target) for event in told] == [("problem", f"local:{tmp_path}/nothing")]
        result = group.backup(source)
    assert result.status is Status.PARTIAL
    assert isinstance(errors(result)[0], RepositoryNotFound)
    assert errors(result)[1] is None


def test_none_can_be_opened(places: tuple[Place, Place], tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound, match=r"nothing1.*nothing2"):
        FreezerGroup([Target(f"local:{tmp_path}/nothing{number}") for number in (1, 2)])
    Freezer.create(f"local:{tmp_path}/locked", password="right").close()
    with pytest.raises(TargetsFailed, match=r"no repository.*password"):
        FreezerGroup([Target(f"local:{tmp_path}/nothing"), Target(f"local:{tmp_path}/locked", password="wrong")])
    with pytest.raises(WrongPassword):
        FreezerGroup([Target(f"local:{tmp_path}/locked", password="wrong")])
    with pytest.raises(ConfigurationError, match="needs a repository"):
        FreezerGroup([])


def test_each_has_a_password_of_its_own_and_is_made_when_it_shall_be(source: Path, tmp_path: Path) -> None:
    targets = [Target(f"local:{tmp_path}/{word}", password=word, create=True) for word in ("alpha", "beta")]
    with FreezerGroup(targets) as group:
        assert group.backup(source).status is Status.COMPLETE
    for word in ("alpha", "beta"):
        with Freezer(f"local:{tmp_path}/{word}", password=word) as freezer:
            assert len(freezer.backups()) == 1


def test_questions_come_one_after_the_other_in_the_thread_that_opens(source: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    class Person:
        interactive = True

        def __call__(self) -> str:
            asked.append(threading.current_thread().name)
            return "word"

    for name in ("a", "b"):
        Freezer.create(f"local:{tmp_path}/{name}", password="word").close()
    with FreezerGroup([Target(f"local:{tmp_path}/{name}", password=Person()) for name in ("a", "b")]):
        assert asked == [threading.current_thread().name] * 2


def test_one_that_never_answers_at_opening(places: tuple[Place, Place], source: Path, release: threading.Event) -> None:
    hangs = places[0].target(Fault(lambda call: release.wait(600), times=None))
    start = time.monotonic()
    with FreezerGroup([hangs, places[1].target()], stall_timeout=5) as group:
        assert isinstance(group.failures[str(places[0])], StorageUnavailable)
        assert group.backup(source).status is Status.PARTIAL
    assert time.monotonic() - start < 300


def test_the_same_place_twice_is_refused(places: tuple[Place, Place]) -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        FreezerGroup([places[0].target(), places[0].target()])


def test_repositories_that_are_open_stay_open(places: tuple[Place, Place], source: Path) -> None:
    with Freezer(str(places[0])) as freezer:
        with FreezerGroup([freezer, places[1].target()]) as group:
            result = group.backup(source)
        assert [backup.id for backup in freezer.backups()] == [result.id]


def test_secrets_are_not_shown() -> None:
    target = Target("nowhere://me:canary@host/x?key=canary", password="canary", storage_options={"key": "canary"})
    assert repr(target) == "<Target nowhere://me@host/x>"
    with pytest.raises(FreezerError) as caught:
        FreezerGroup([target, Target("nowhere://x@y:canary@z")])
    assert "canary" not in str(caught.value)


# -- streams ---------------------------------------------------------------------------------------------------


def command(*arguments: str) -> dict[str, Any]:
    return {"command": "dump", "command_arguments": arguments}


def test_a_program_runs_once(places: tuple[Place, Place], tmp_path: Path) -> None:
    script = f"echo run >> {tmp_path}/runs; head -c 5000000 /dev/urandom"
    with FreezerGroup([place.target() for place in places]) as group:
        result = group.backup(name="dump", mode_options=command("sh", "-c", script))
        assert result.status is Status.COMPLETE
        contents = []
        for freezer in group.freezers.values():
            with freezer.open(result.id, "/dump") as reader:
                contents.append(reader.read())
    assert len(contents[0]) == 5_000_000
    assert contents[0] == contents[1]
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_program_that_fails_fails_everywhere(places: tuple[Place, Place]) -> None:
    with (
        FreezerGroup([place.target() for place in places]) as group,
        pytest.raises(CommandFailed, match="status 3"),
    ):
        group.backup(name="dump", mode_options=command("sh", "-c", "echo half; exit 3"))
    assert [place.ids() for place in places] == [[], []]


def test_of_a_stream_the_others_get_all_when_one_dies(places: tuple[Place, Place]) -> None:
    with FreezerGroup([places[0].target(dies(4)), places[1].target()]) as group:
        result = group.backup(name="dump", mode_options=command("head", "-c", "9000000", "/dev/urandom"))
    assert isinstance(errors(result)[0], StorageUnavailable)
    assert errors(result)[1] is None
    assert result.targets[1].backup is not None
    assert result.targets[1].backup.stats.bytes == 9_000_000


def test_one_that_cannot_keep_up_with_a_stream_is_left_out(places: tuple[Place, Place]) -> None:
    """It moves all the time, so that it does not count as stalled; but the others wait for it."""
    slow = places[0].target(Fault(delay(0.3), times=None, methods={"put"}, prefix="packs/"))
    with FreezerGroup([slow, places[1].target()], stall_timeout=3, queue_size=MEGABYTE) as group:
        result = group.backup(name="dump", mode_options=command("head", "-c", "60000000", "/dev/urandom"))
        assert result.status is Status.PARTIAL
        assert isinstance(errors(result)[0], StorageUnavailable)
        assert "waited for it" in str(errors(result)[0])
        assert "backup copy" in str(errors(result)[0].hint)  # type: ignore[union-attr]
        assert result.targets[1].backup is not None
        assert result.targets[1].backup.stats.bytes == 60_000_000


# -- what does not move ----------------------------------------------------------------------------------------


def test_one_that_stops_moving_is_left_out_and_does_not_delay_the_end(
    places: tuple[Place, Place], source: Path, tmp_path: Path, release: threading.Event
) -> None:
    stuck = places[0].storage(Fault(lambda call: release.wait(600), at=3, times=None, methods={"put"}))
    start = time.monotonic()
    with FreezerGroup([Target(stuck, engine_options=SMALL), places[1].target()], stall_timeout=5) as group:
        result = group.backup(source, name="data")
        assert result.status is Status.PARTIAL
        assert "nothing has moved" in str(errors(result)[0])
        assert result.targets[1].backup is not None
        assert list(group.failures) == [str(places[0])]
        again = group.backup(source, name="data")  # while the first call has not returned
        assert errors(again)[0] is errors(result)[0]
    assert time.monotonic() - start < 300
    release.set()
    places[1].check(source, tmp_path / "out")
    assert places[0].ids() == []


def test_waiting_for_a_silent_program_is_no_stall(places: tuple[Place, Place]) -> None:
    with FreezerGroup([place.target() for place in places], stall_timeout=3) as group:
        result = group.backup(name="dump", mode_options=command("sh", "-c", "sleep 5; echo late"))
    assert result.status is Status.COMPLETE


def test_slow_but_moving_is_no_stall(places: tuple[Place, Place], source: Path) -> None:
    slow = places[0].target(Fault(delay(0.25), times=None, methods={"put"}))
    with FreezerGroup([slow, places[1].target()], stall_timeout=5) as group:
        assert group.backup(source).status is Status.COMPLETE


def test_all_stall(places: tuple[Place, Place], source: Path, release: threading.Event) -> None:
    faults = [Fault(lambda call: release.wait(600), at=3, times=None, methods={"put"}) for _ in places]
    targets = [place.target(fault) for place, fault in zip(places, faults, strict=True)]
    with FreezerGroup(targets, stall_timeout=5) as group:
        with pytest.raises(StorageUnavailable, match="nothing has moved"):
            group.backup(source)
        with pytest.raises(StorageUnavailable, match="nothing has moved"):
            group.backups()


# -- events and cancellation -----------------------------------------------------------------------------------


def test_events_name_their_target(places: tuple[Place, Place], source: Path) -> None:
    told: list[Event] = []
    with FreezerGroup([places[0].target(dies(5)), places[1].target()], events=told.append) as group:
        result = group.backup(source)
    kinds = {(event.kind, event.target) for event in told}
    one, two = map(str, places)
    assert kinds >= {("start", None), ("progress", one), ("progress", two), ("problem", one), ("finish", two)}
    assert ("finish", one) not in kinds
    assert (told[0].kind, told[0].data["targets"]) == ("start", [one, two])
    assert (told[-1].kind, told[-1].target, told[-1].data["status"]) == ("finish", None, "partial")
    assert told[-1].data["id"] == result.id
    problem = next(event.problem for event in told if event.kind == "problem")
    assert problem is not None
    assert (problem.path, problem.kind, problem.fatal) == (one, "target", True)


def test_a_listener_that_fails_is_not_called_again(places: tuple[Place, Place], source: Path) -> None:
    calls: list[Event] = []

    def listen(event: Event) -> None:
        calls.append(event)
        raise RuntimeError("listener")

    with FreezerGroup([place.target() for place in places]) as group:
        assert group.backup(source, events=listen).status is Status.COMPLETE
    assert len(calls) == 1


def test_cancelling_ends_all(places: tuple[Place, Place], source: Path) -> None:
    token = CancelToken()
    slow = [place.target(Fault(delay(0.1), times=None, methods={"put"})) for place in places]
    with FreezerGroup(slow) as group:
        threading.Timer(0.3, token.cancel).start()
        with pytest.raises(Cancelled):
            group.backup(source, cancel=token)
        with pytest.raises(Cancelled):
            group.backup(source, cancel=token)
    assert [place.ids() for place in places] == [[], []]


def test_cancelling_while_one_never_returns(
    places: tuple[Place, Place], source: Path, release: threading.Event
) -> None:
    token = CancelToken()
    stuck = places[0].target(Fault(lambda call: release.wait(600), at=3, times=None, methods={"put"}))
    start = time.monotonic()
    with FreezerGroup([stuck, places[1].target(Fault(delay(0.2), times=None, methods={"put"}))]) as group:
        threading.Timer(0.3, token.cancel).start()
        with pytest.raises(Cancelled):
            group.backup(source, cancel=token)
    assert time.monotonic() - start < 300


def test_cancelling_a_silent_program(places: tuple[Place, Place]) -> None:
    token = CancelToken()
    start = time.monotonic()
    with FreezerGroup([place.target() for place in places]) as group:
        threading.Timer(0.3, token.cancel).start()
        with pytest.raises(Cancelled):
            group.backup(name="dump", mode_options=command("sleep", "1000"), cancel=token)
    assert time.monotonic() - start < 300


def test_an_interrupt_ends_all(places: tuple[Place, Place], source: Path) -> None:
    import _thread

    slow = [place.target(Fault(delay(0.1), times=None, methods={"put"})) for place in places]
    with FreezerGroup(slow) as group:
        threading.Timer(0.3, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            group.backup(source)
    assert [place.ids() for place in places] == [[], []]


def test_cancelled_after_one_was_done_says_so(places: tuple[Place, Place], source: Path) -> None:
    token = CancelToken()

    def note(event: Event) -> None:
        if event.kind == "finish" and event.target == str(places[1]):
            token.cancel()

    slow = places[0].target(Fault(delay(0.3), times=None, methods={"put"}))
    with FreezerGroup([slow, places[1].target()], events=note) as group:
        with pytest.raises(Cancelled) as caught:
            group.backup(source, cancel=token)
        (made,) = places[1].ids()
        assert made[:8] in str(caught.value.hint)
        assert str(places[1]) in str(caught.value.hint)


# -- reading ---------------------------------------------------------------------------------------------------


@pytest.fixture
def differing(places: tuple[Place, Place], source: Path) -> dict[str, str]:
    """Ids: one only in the first repository, one in both, and one only in the second."""
    ids = {}
    with Freezer(str(places[0])) as one, Freezer(str(places[1])) as two, FreezerGroup([one, two]) as group:
        ids["first"] = one.backup(source, name="data").id
        ids["both"] = group.backup(source, name="data").id
        ids["second"] = two.backup(source, name="data").id
    return ids


def test_a_list_has_every_backup_once(places: tuple[Place, Place], differing: dict[str, str]) -> None:
    one, two = map(str, places)
    with FreezerGroup([place.target() for place in places]) as group:
        listed = [(found.backup.id, found.locations) for found in group.backups(name="data")]
        assert listed == [
            (differing["first"], (one,)),
            (differing["both"], (one, two)),
            (differing["second"], (two,)),
        ]
        assert group.backups(name="other") == []
        assert group.find_backup("latest").backup.id == differing["second"]
        assert group.find_backup(differing["first"][:9]).locations == (one,)
        with pytest.raises(BackupNotFound):
            group.find_backup("0" * 32)


def test_a_list_of_what_can_be_asked(places: tuple[Place, Place], differing: dict[str, str]) -> None:
    told: list[Event] = []
    broken = Fault(fail(StorageUnavailable("gone")), times=None, methods={"list"}, prefix="backups")
    with FreezerGroup([places[0].target(broken), places[1].target()]) as group:
        found = group.backups(events=told.append)
        assert [each.backup.id for each in found] == [differing["both"], differing["second"]]
        assert [(event.kind, event.target) for event in told] == [("problem", str(places[0]))]


def test_a_damaged_copy_does_not_hide_a_good_one(
    places: tuple[Place, Place], differing: dict[str, str], source: Path, tmp_path: Path
) -> None:
    (commit,) = (places[0].folder / "backups").glob(f"*{differing['both']}")
    commit.chmod(0o600)
    commit.write_bytes(b"nonsense")
    with FreezerGroup([place.target() for place in places]) as group:
        found = group.find_backup(differing["both"])
        assert found.backup.status is Status.COMPLETE
        assert found.locations == (str(places[1]),)
        assert group.restore(differing["both"], tmp_path / "out").status is Status.COMPLETE
    assert read_tree(tmp_path / "out") == read_tree(source)


@pytest.mark.parametrize("which", ["first", "both", "second"])
def test_a_restore_takes_a_repository_that_has_it(
    places: tuple[Place, Place], differing: dict[str, str], source: Path, tmp_path: Path, which: str
) -> None:
    with FreezerGroup([place.target() for place in places]) as group:
        result = group.restore(f"{differing[which]}:{source}/d1", tmp_path / "out")
    assert result.status is Status.COMPLETE
    assert read_tree(tmp_path / "out" / "d1") == read_tree(source / "d1")


def test_one_that_never_answers_a_list_is_not_asked_again(
    places: tuple[Place, Place], differing: dict[str, str], release: threading.Event
) -> None:
    stuck = Fault(lambda call: release.wait(600), times=None, methods={"list"}, prefix="backups")
    with FreezerGroup([places[0].target(stuck), places[1].target()], stall_timeout=3) as group:
        for _ in range(2):
            found = group.backups()
            assert [each.backup.id for each in found] == [differing["both"], differing["second"]]
        assert "nothing has moved" in str(group.failures[str(places[0])])
        assert freezer_threads().count("freezer-target") == 1
        release.set()
