"""Restores of chains: every option as with other engines, nothing that is lost is kept quiet."""

from __future__ import annotations

import os
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chains.shelf import T0, LayeredCodec, Part, Shelf, SmallCodec, directory, file, symlink

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.content import Piece
from freezer_sdk.errors import BackupNotFound, Cancelled, IntegrityError, RestoreConflict, RestoreError, WrongPassword
from freezer_sdk.model import Entry, EntryType, Event, Layout, Overwrite, RestoreOptions, Status
from freezer_sdk.streams.cancel import CancelToken

TREE = [
    directory(b".", mode=0o750, mtime_ns=5 * 10**17),
    file(b"a", 5),
    directory(b"d", mode=0o711, mtime_ns=4 * 10**17),
    file(b"d/b", 3, mode=0o600),
    directory(b"d/e"),
    file(b"d/e/c", 0),
    symlink(b"l", b"d/b"),
]
PARTS = [Part(b"a", b"hello"), Part(b"d/b", b"b-b")]


@pytest.fixture
def shelf() -> Shelf:
    made = Shelf()
    made.add(0, TREE, PARTS)
    return made


def test_everything(shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = shelf.restore(out)
    assert (out / "a").read_bytes() == b"hello"
    assert (out / "d/b").read_bytes() == b"b-b"
    assert (out / "d/e/c").read_bytes() == b""
    assert os.readlink(out / "l") == "d/b"
    assert stat.S_IMODE(out.joinpath("d").stat().st_mode) == 0o711
    assert out.joinpath("d").stat().st_mtime_ns == 4 * 10**17
    assert out.joinpath("a").stat().st_mtime_ns == 10**18
    assert stat.S_IMODE(out.joinpath("d/b").stat().st_mode) == 0o600
    assert (result.files, result.directories, result.others, result.bytes) == (3, 3, 1, 8)
    assert result.status is Status.COMPLETE
    assert not result.problems


def test_chosen_paths_bring_the_directories_that_lead_there(shelf: Shelf, tmp_path: Path) -> None:
    result = shelf.restore(tmp_path / "out", paths=(b"d/e",))
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["c", "d", "e"]
    assert stat.S_IMODE((tmp_path / "out/d").stat().st_mode) == 0o711
    assert result.files == 1


def test_an_absolute_path_of_one_file(shelf: Shelf, tmp_path: Path) -> None:
    shelf.restore(tmp_path / "out", paths=(b"/d/b",))
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["d", "b"]


def test_a_path_that_is_not_there_is_told_before_anything_is_made(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match="has no 'nothing'"):
        shelf.restore(tmp_path / "out", paths=(b"nothing",))
    assert not (tmp_path / "out").exists()


def test_patterns(shelf: Shelf, tmp_path: Path) -> None:
    shelf.restore(tmp_path / "in", include=("b",))
    assert sorted(p.name for p in (tmp_path / "in").rglob("*")) == ["b", "d"]
    shelf.restore(tmp_path / "ex", exclude=("/d/",))
    assert sorted(p.name for p in (tmp_path / "ex").rglob("*")) == ["a", "l"]


def test_a_full_layout_has_the_recorded_path(shelf: Shelf, tmp_path: Path) -> None:
    shelf.restore(tmp_path / "out", layout=Layout.FULL)
    assert (tmp_path / "out/d/b").read_bytes() == b"b-b"  # the original does not record where the tree was


def test_a_target_with_content_needs_a_word(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RestoreConflict, match="not empty"):
        shelf.restore(tmp_path)
    assert os.listdir(tmp_path) == ["mine"]


@pytest.mark.parametrize(
    ("overwrite", "content", "skipped"),
    [(Overwrite.ALWAYS, b"hello", 0), (Overwrite.NEVER, b"HELLO", 1), (Overwrite.IF_CHANGED, b"HELLO", 1)],
)
def test_overwriting(shelf: Shelf, tmp_path: Path, overwrite: Overwrite, content: bytes, skipped: int) -> None:
    (tmp_path / "a").write_bytes(b"HELLO")
    os.utime(tmp_path / "a", ns=(10**18, 10**18))
    result = shelf.restore(tmp_path, overwrite=overwrite)
    assert (tmp_path / "a").read_bytes() == content
    assert result.skipped == skipped


def test_in_place_keeps_the_file(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"something longer")
    inode = (tmp_path / "a").stat().st_ino
    shelf.restore(tmp_path, overwrite=Overwrite.ALWAYS, inplace=True)
    assert (tmp_path / "a").read_bytes() == b"hello"
    assert (tmp_path / "a").stat().st_ino == inode


def test_delete_leaves_what_the_backup_has(shelf: Shelf, tmp_path: Path) -> None:
    for name in ("d/extra/deep", "other"):
        (tmp_path / name).mkdir(parents=True)
    result = shelf.restore(tmp_path, overwrite=Overwrite.ALWAYS, delete=True)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["a", "d", "d/b", "d/e", "d/e/c", "l"]
    assert result.deleted == 3


def test_a_plan_changes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"HELLO")
    (tmp_path / "old").write_bytes(b"")
    result = shelf.restore(tmp_path, overwrite=Overwrite.ALWAYS, delete=True, dry_run=True)
    plan = {(step.action, step.path) for step in result.plan}
    assert {("replace", b"a"), ("delete", b"old"), ("create", b"d"), ("create", b"d/e/c")} <= plan
    assert sorted(os.listdir(tmp_path)) == ["a", "old"]
    assert result.files == 3


def test_hard_links_are_one_file(tmp_path: Path) -> None:
    shelf = Shelf()
    names = [file(name, 4, link_group=b"1") for name in (b"a", b"b", b"c")]
    shelf.add(0, [directory(b"."), *names], [Part(b"a", b"data")])
    result = shelf.restore(tmp_path / "out")
    assert len({(tmp_path / "out" / name).stat().st_ino for name in "abc"}) == 1
    assert result.files == 3


def test_a_hard_link_whose_first_name_is_kept(tmp_path: Path) -> None:
    shelf = Shelf()
    names = [file(name, 4, link_group=b"1") for name in (b"a", b"b")]
    shelf.add(0, [directory(b"."), *names], [Part(b"b", b"data")])
    (tmp_path / "a").write_bytes(b"mine")
    shelf.restore(tmp_path, overwrite=Overwrite.NEVER)
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert (tmp_path / "b").read_bytes() == b"data"


def test_holes_stay_holes(tmp_path: Path) -> None:
    shelf = Shelf()
    size = 1 << 20
    shelf.add(
        0,
        [directory(b"."), file(b"hole", size, extents=()), file(b"some", size, extents=((4096, 4),))],
        [Part(b"some", b"data", offset=4096)],
    )
    shelf.restore(tmp_path / "out")
    assert (tmp_path / "out/some").read_bytes() == bytes(4096) + b"data" + bytes(size - 4100)
    assert (tmp_path / "out/hole").stat().st_blocks == 0
    assert (tmp_path / "out/hole").stat().st_size == size


# -- several levels ----------------------------------------------------------------------------------------------------


def layers(files: int, size: int = 100) -> Shelf:
    """Files whose parts lie in three levels."""
    shelf = Shelf(codec=LayeredCodec())
    tree = [directory(b".")] + [file(b"%05d" % number, size) for number in range(files)]
    names = [entry.path for entry in tree[1:]]
    shelf.add(0, tree, [Part(name, bytes(size), last=False) for name in names])
    shelf.add(1, tree, [Part(name, name, offset=10, last=False) for name in names])
    shelf.add(2, tree, [Part(name, name[::-1], offset=12) for name in names])
    return shelf


def layered(number: int, size: int = 100) -> bytes:
    name = b"%05d" % number
    return bytes(10) + name[:2] + name[::-1] + bytes(size - 17)


def test_parts_of_many_files_in_several_levels_need_few_open_files(tmp_path: Path) -> None:
    import resource

    shelf = layers(300)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 150, hard))
    try:
        result = shelf.restore(tmp_path / "out", level=2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not result.problems
    assert len(os.listdir(tmp_path / "out")) == 300
    for number in range(300):
        assert (tmp_path / "out" / f"{number:05d}").read_bytes() == layered(number)


def test_a_file_of_several_levels_is_read_alone() -> None:
    shelf = layers(3)
    with shelf.repository() as repository:
        (newest,) = (each for each in repository.backups() if each.level == 2)
        with repository.open(newest.id, b"/00001") as reader:
            assert reader.read(12) == layered(1)[:12]
            assert reader.read() == layered(1)[12:]


def test_a_file_that_somebody_swaps_between_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary name of a file that is closed meanwhile leads to another file when it is opened again."""
    from freezer_sdk.engines.chains import writers

    monkeypatch.setattr(writers, "_OPEN", 1)
    shelf = layers(2)
    (tmp_path / "victim").write_bytes(b"precious")
    context, done = Context(), []

    def swap(event: Event) -> None:
        for name in os.listdir(tmp_path / "out") if not done else ():
            if name.startswith(".freezer"):
                os.unlink(tmp_path / "out" / name)
                os.link(tmp_path / "victim", tmp_path / "out" / name)
                done.append(name)

    from freezer_sdk.engines.chains import restore

    monkeypatch.setattr(restore, "_TICK_AFTER", 1)
    monkeypatch.setattr(restore, "_EVENT_EVERY", 0)
    context = Context(events=swap)
    result = shelf.restore(tmp_path / "out", level=2, context=context)
    assert done
    assert result.status is Status.PARTIAL
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_each_level_and_date(tmp_path: Path) -> None:
    shelf = Shelf()
    for level in range(4):
        names = [b"%d" % number for number in range(level + 1)]
        tree = [directory(b"."), *(file(name, 1) for name in names)]
        shelf.add(level, tree, [Part(names[-1], names[-1])])
    for level in range(4):
        shelf.restore(tmp_path / str(level), level=level)
        assert sorted(os.listdir(tmp_path / str(level))) == [str(number) for number in range(level + 1)]


def test_what_the_listing_says_of_chains() -> None:
    shelf = Shelf()
    for chain in (T0, T0 + 100):
        for level in range(3):
            shelf.add(level, [directory(b".")], chain=chain)
    backups = shelf.backups()
    assert [each.level for each in backups] == [0, 1, 2, 0, 1, 2]
    assert {each.host for each in backups} == {"host"}
    assert [each.chain for each in backups] == [backups[0].id] * 3 + [backups[3].id] * 3
    assert [each.parent for each in backups[:3]] == [None, backups[0].id, backups[1].id]
    assert backups[0].time.timestamp() == T0


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_level_loses_only_what_is_in_it(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.add(0, [directory(b"."), file(b"a", 1)], [Part(b"a", b"a")])
    noise = os.urandom(100_000)
    broken = shelf.add(
        1,
        [directory(b"."), file(b"a", 1), file(b"b", len(noise)), file(b"c", 9)],
        [Part(b"b", noise), Part(b"c", b"9" * 9)],
    )
    shelf.add(
        2, [directory(b"."), file(b"a", 1), file(b"b", len(noise)), file(b"c", 9), file(b"d", 1)], [Part(b"d", b"d")]
    )
    data = shelf.storage.get(broken.data)
    shelf.storage.put(broken.data, [data[: len(data) // 2]])
    result = shelf.restore(tmp_path / "out", level=2)
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "d"]
    assert result.status is Status.PARTIAL
    assert {problem.path for problem in result.problems if problem.fatal} == {broken.data, "b", "c"}
    assert result.files == 2


def test_a_level_that_is_missing_in_the_middle(tmp_path: Path) -> None:
    shelf = Shelf()
    tree = [directory(b"."), file(b"a", 1), file(b"b", 1), file(b"c", 1)]
    shelf.add(0, tree, [Part(b"a", b"a")])
    gone = shelf.add(1, tree, [Part(b"b", b"b")])
    shelf.add(2, tree, [Part(b"c", b"c")])
    shelf.storage.delete(gone.metadata)
    backups = shelf.backups()
    assert [(each.level, each.status) for each in backups] == [(0, Status.COMPLETE), (2, Status.DAMAGED)]
    result = shelf.restore(tmp_path / "out", level=2)
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "c"]
    assert any("level 1" in problem.message and problem.fatal for problem in result.problems)
    assert any(problem.path == "b" for problem in result.problems)


def test_nothing_is_deleted_when_the_backup_is_not_whole(tmp_path: Path) -> None:
    shelf = Shelf()
    level = shelf.add(0, [directory(b"."), file(b"a", 1)], [Part(b"a", b"a")])
    shelf.add(1, [directory(b"."), file(b"a", 1)])
    shelf.damage(level.data)
    (tmp_path / "mine").write_bytes(b"")
    result = shelf.restore(tmp_path, level=1, overwrite=Overwrite.ALWAYS, delete=True)
    assert (tmp_path / "mine").exists()
    assert any(problem.kind == "delete" for problem in result.problems)


def test_a_wrong_password_is_told_before_anything_is_made(tmp_path: Path) -> None:
    shelf = Shelf(password="right")
    shelf.add(0, TREE, PARTS)
    (backup,) = shelf.backups()
    with pytest.raises(WrongPassword):
        shelf.repository("wrong").restore(backup.id, str(tmp_path / "out"), RestoreOptions(), Context())
    with pytest.raises(WrongPassword):
        Shelf(storage=shelf.storage).repository().restore(backup.id, str(tmp_path / "out"), RestoreOptions(), Context())
    assert not (tmp_path / "out").exists()
    shelf.restore(tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == b"hello"


def test_a_level_with_another_password_is_as_good_as_damaged(tmp_path: Path) -> None:
    shelf = Shelf(password="right")
    shelf.add(0, [directory(b"."), file(b"a", 1)], [Part(b"a", b"a")])
    Shelf(storage=shelf.storage, password="other").add(1, TREE, PARTS)
    shelf.add(2, [directory(b"."), file(b"a", 1), file(b"b", 1)], [Part(b"b", b"b")])
    result = shelf.restore(tmp_path / "out", level=2)
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "b"]
    assert result.status is Status.PARTIAL


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    shelf = Shelf()
    level = shelf.add(0, TREE, PARTS)
    shelf.storage.put(level.data, [b"no stream"])
    with pytest.raises(IntegrityError):
        shelf.restore(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cancelled_restore_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from freezer_sdk.engines.chains import restore

    monkeypatch.setattr(restore, "_TICK_AFTER", 1)
    monkeypatch.setattr(restore, "_EVENT_EVERY", 0)
    cancel = CancelToken()
    events = 0

    def stop(event: Event) -> None:
        nonlocal events
        events += 1
        if events == 60:
            cancel.cancel()

    with pytest.raises(Cancelled):
        layers(40).restore(tmp_path / "out", level=2, context=Context(events=stop, cancel=cancel))
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".freezer")]


# -- browsing ----------------------------------------------------------------------------------------------------------


def test_entries(shelf: Shelf) -> None:
    repository = shelf.repository()
    (backup,) = repository.backups()

    def names(path: bytes | None = None, *, recursive: bool = True) -> list[bytes]:
        return [entry.path for entry in repository.entries(backup.id, path=path, recursive=recursive)]

    assert names() == [b"/", b"/a", b"/d", b"/d/b", b"/d/e", b"/d/e/c", b"/l"]
    assert names(recursive=False) == [b"/"]
    assert names(b"/d") == [b"/d", b"/d/b", b"/d/e", b"/d/e/c"]
    assert names(b"/d", recursive=False) == [b"/d", b"/d/b", b"/d/e"]
    assert names(b"/", recursive=False) == [b"/", b"/a", b"/d", b"/l"]
    assert names(b"/nothing") == []
    with pytest.raises(BackupNotFound):
        next(repository.entries("0" * 32))


def test_one_file_as_a_stream(shelf: Shelf) -> None:
    repository = shelf.repository()
    (backup,) = repository.backups()
    with repository.open(backup.id, b"/a") as reader:
        assert [reader.read(3), reader.read(3), reader.read(3)] == [b"hel", b"lo", b""]
    with repository.open(backup.id, b"/d/e/c") as reader:
        assert reader.read() == b""
    for path in (b"/d", b"/l", b"/x"):
        with pytest.raises(RestoreError):
            repository.open(backup.id, path)


def test_entries_of_a_broken_backup_end_in_an_error() -> None:
    shelf = Shelf()
    level = shelf.add(0, TREE, PARTS)
    shelf.add(1, TREE)
    shelf.damage(level.data)
    repository = shelf.repository()
    entries = repository.entries(repository.backups()[-1].id)
    assert [next(entries).path for _ in TREE][3] == b"/d/b"
    with pytest.raises(IntegrityError):
        next(entries)


def test_stores_that_look_like_nothing(tmp_path: Path) -> None:
    repository = Shelf().repository()
    assert list(repository.backups()) == []
    assert repository.info().details["levels"] == 0
    assert repository.stats().backups == 0


def test_special_entries_are_made_where_that_is_allowed(tmp_path: Path) -> None:
    shelf = Shelf()
    fifo = Entry(path=b"fifo", type=EntryType.FIFO, mode=0o600)
    shelf.add(0, [directory(b"."), fifo])
    result = shelf.restore(tmp_path / "out")
    assert stat.S_ISFIFO((tmp_path / "out/fifo").stat().st_mode)
    assert result.others == 1


def test_what_is_forgotten_or_mended_meanwhile_is_seen(shelf: Shelf) -> None:
    level = shelf.add(1, [*TREE, file(b"z", 1)], [Part(b"z", b"z")])
    repository = shelf.repository()
    first, second = (each.id for each in repository.backups())
    whole = shelf.storage.get(level.data)
    shelf.storage.put(level.data, [whole[:-9]])
    with pytest.raises(IntegrityError):
        list(repository.entries(second))
    shelf.storage.put(level.data, [whole])
    assert len(list(repository.entries(second))) == len(TREE) + 1
    shelf.storage.delete(level.metadata)
    with pytest.raises(BackupNotFound):
        list(repository.entries(second))
    assert len(list(repository.entries(first))) == len(TREE)


def test_memory_for_a_file_that_waits_for_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of each is little: a tree of millions must not fill the memory."""
    files = 20_000
    stopped = Cancelled("enough seen")

    class Many:
        def entries(self) -> Iterator[Entry]:
            yield directory(b".")
            for number in range(files):
                yield file(b"a name of usual length %06d" % number, 10)

        def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
            self.kept = tracemalloc.get_traced_memory()[0] - before
            raise stopped
            yield

    content = Many()
    shelf = Shelf()
    shelf.add(0, [directory(b".")])
    monkeypatch.setattr(SmallCodec, "content", lambda codec, levels, problem: content)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with pytest.raises(Cancelled):
            shelf.restore(tmp_path / "out")
    finally:
        tracemalloc.stop()
    assert content.kept / files < 320


@pytest.mark.parametrize("last", [True, False])
def test_small_files_in_parts_with_others_between_them(tmp_path: Path, last: bool) -> None:
    shelf = Shelf(codec=LayeredCodec())
    names = [b"a", b"b", b"c", b"d"]
    parts = [
        *(Part(b"a", bytes([65 + number]) * 3, offset=3 * number, last=number == 2) for number in range(3)),
        Part(b"b", b"bbb", last=False),
        Part(b"c", b"ccc", last=False),
        Part(b"b", b"BBBBBB", offset=3),
        Part(b"c", b"CCCCCC", offset=3),
        Part(b"d", b"ddd", last=False),
        Part(b"d", b"DDDDDD", offset=3, last=last),
    ]
    shelf.add(0, [directory(b"."), *(file(name, 9) for name in names)], parts)
    result = shelf.restore(tmp_path / "out")
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    whole = {"a": b"AAABBBCCC", "b": b"bbbBBBBBB", "c": b"cccCCCCCC"}
    assert found == ({**whole, "d": b"dddDDDDDD"} if last else whole)
    assert [problem.path for problem in result.problems] == ([] if last else ["d"])
