"""Restores of what was made to get out of the target, while somebody moves things about in it."""

from __future__ import annotations

import base64
import os
import stat
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trees
from files.helpers import as_nobody, everybodys_directory
from hardening.forge import DIRECTORY, FILE, LINK, Entry, Forge

from freezer_sdk import Freezer
from freezer_sdk.modes.base import FLAG_HARDLINK, Extra
from freezer_sdk.storages.memory import MemoryStorage

PASSWD = b"root::0:0::/:/bin/sh\n"


@pytest.fixture
def made() -> Forge:
    return Forge(MemoryStorage())


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that nothing may reach, looked at again at the end."""
    path = tmp_path / "outside"
    path.mkdir(mode=0o700)
    (path / "file").write_bytes(b"precious")
    (path / "file").chmod(0o600)
    yield path
    assert sorted(os.listdir(path)) == ["file"]
    assert (path / "file").read_bytes() == b"precious"
    assert stat.S_IMODE((path / "file").stat().st_mode) == 0o600
    assert (path / "file").stat().st_nlink == 1


def link(name: bytes, target: Path | bytes, *facts: tuple[int, bytes]) -> Entry:
    return Entry(name, LINK, facts=[(Extra.LINK_TARGET, os.fsencode(target)), *facts])


def test_a_link_and_a_directory_of_one_name_in_two_roots(made: Forge, outside: Path, tmp_path: Path) -> None:
    """The first root has a link where the second root has a directory."""
    evil = made.directory(Entry(b"file", content=made.file(PASSWD), size=len(PASSWD)))
    first = made.directory(link(b"b", outside))
    roots = made.directory(Entry(b"/a", DIRECTORY, first), Entry(b"/a/b", DIRECTORY, evil))
    backup = made.commit(roots, paths=["L2E=", "L2EvYg=="])
    with Freezer(made.storage) as freezer:
        for overwrite in (None, "always"):
            result = freezer.restore(backup, tmp_path / f"out-{overwrite}", overwrite=overwrite)
            assert result.problems or overwrite


def test_a_directory_and_a_link_of_one_name_in_two_roots(made: Forge, outside: Path, tmp_path: Path) -> None:
    first = made.directory(Entry(b"b", DIRECTORY, made.directory(Entry(b"x"))))
    roots = made.directory(Entry(b"/a", DIRECTORY, first), link(b"/a/b", outside))
    backup = made.commit(roots, paths=["L2E=", "L2EvYg=="])
    with Freezer(made.storage) as freezer:
        for overwrite in (None, "always"):
            freezer.restore(backup, tmp_path / f"out-{overwrite}", overwrite=overwrite)


def test_a_root_that_is_a_link_above_another_root(made: Forge, outside: Path, tmp_path: Path) -> None:
    evil = made.file(PASSWD)
    roots = made.directory(link(b"/a", outside), Entry(b"/a/file", content=evil, size=len(PASSWD)))
    backup = made.commit(roots, paths=["L2E=", "L2EvZmlsZQ=="])
    with Freezer(made.storage) as freezer:
        for overwrite in (None, "always", "if-changed"):
            freezer.restore(backup, tmp_path / f"out-{overwrite}", overwrite=overwrite, layout="full")


@pytest.mark.parametrize("inplace", [False, True])
def test_hard_link_groups_of_things_that_are_no_files(
    made: Forge, outside: Path, tmp_path: Path, inplace: bool
) -> None:
    """One group holds a link that leads outside and a file: writing the file must not write through the link."""
    group = (Extra.LINK_GROUP, b"g")
    content = made.file(PASSWD)
    backup = made.backup(
        link(b"a", outside / "file", group),
        Entry(b"b", FILE, content, size=len(PASSWD), facts=[group], flags=FLAG_HARDLINK),
        Entry(b"c", DIRECTORY, made.directory(Entry(b"x")), facts=[group]),
        Entry(b"d", stat.S_IFIFO | 0o600, facts=[group]),
    )
    out = tmp_path / "out"
    out.mkdir()
    os.symlink(outside, out / "e")
    with Freezer(made.storage) as freezer:
        freezer.restore(backup, out, overwrite="always", inplace=inplace)
    assert (out / "b").read_bytes() == PASSWD
    assert not (out / "b").is_symlink()


def test_a_hard_link_to_a_name_outside_of_what_is_restored(made: Forge, outside: Path, tmp_path: Path) -> None:
    """The first name of a group is not restored, and something else has its name in the target."""
    group = (Extra.LINK_GROUP, b"g")
    content = made.file(PASSWD)
    first = Entry(b"a", content=content, size=len(PASSWD), facts=[group], flags=FLAG_HARDLINK)
    second = Entry(b"b", content=content, size=len(PASSWD), facts=[group], flags=FLAG_HARDLINK)
    backup = made.backup(first, second)
    out = tmp_path / "out"
    out.mkdir()
    os.symlink(outside / "file", out / "a")
    with Freezer(made.storage) as freezer:
        freezer.restore(backup, out, overwrite="never")
    assert (out / "b").read_bytes() == PASSWD
    assert (out / "b").stat().st_nlink == 1


@contextmanager
def busy(change: object) -> Iterator[list[int]]:
    """Somebody who goes on changing things until the block ends; counts how often."""
    stop, counts = threading.Event(), [0]

    def work() -> None:
        while not stop.is_set():
            with suppress(OSError):
                change()  # type: ignore[operator]
                counts[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("inplace", [False, True])
def test_directories_swapped_for_links_all_the_time(made: Forge, outside: Path, tmp_path: Path, inplace: bool) -> None:
    """Between each check and each use somebody may have put a link there."""
    files = [Entry(b"file", content=made.file(PASSWD), size=len(PASSWD), mode=FILE | 0o4777)]
    files += [Entry(b"file-%02d" % number, content=files[0].content, size=len(PASSWD)) for number in range(20)]
    inner = made.directory(*files, Entry(b"sub", DIRECTORY, made.directory(*files)))
    folders = [Entry(b"d%02d" % number, DIRECTORY, inner) for number in range(20)]
    backup = made.backup(*folders)
    out = tmp_path / "out"

    def swap() -> None:
        for number in range(20):
            for inside in ("", "sub"):
                path, aside = out / f"d{number:02}" / inside, tmp_path / "aside"
                with suppress(OSError):
                    os.rename(path, aside)
                    os.symlink(outside, path)
                    time.sleep(0.0002)
                    os.unlink(path)
                    os.rename(aside, path)
                with suppress(OSError):
                    os.rename(aside, tmp_path / f"lost-{time.monotonic_ns()}")

    with Freezer(made.storage) as freezer, busy(swap) as counts:
        for _round in range(4):
            freezer.restore(backup, out, overwrite="always", inplace=inplace)
    assert counts[0] > 1


def test_files_swapped_for_links_all_the_time(made: Forge, outside: Path, tmp_path: Path) -> None:
    files = [Entry(b"f%02d" % n, content=made.file(PASSWD), size=len(PASSWD), mode=FILE | 0o666) for n in range(30)]
    backup = made.backup(*files)
    out = tmp_path / "out"
    out.mkdir()

    def swap() -> None:
        for number in range(30):
            temporary = out / "link"
            with suppress(FileExistsError):
                os.symlink(outside / "file", temporary)
            os.rename(temporary, out / f"f{number:02}")
        for name in os.listdir(out):  # also the names that a restore works under
            if name.startswith(".freezer-"):
                with suppress(OSError):
                    os.unlink(out / name)
                    os.symlink(outside / "file", out / name)

    with Freezer(made.storage) as freezer, busy(swap) as counts:
        for inplace in (True, False, True, False):
            for overwrite in ("always", "if-changed"):
                freezer.restore(backup, out, overwrite=overwrite, inplace=inplace)
    assert counts[0] > 1


def special(made: Forge) -> str:
    numbers = struct.pack("<II", (1 << 32) - 1, (1 << 32) - 1)
    return made.backup(
        Entry(b"block", stat.S_IFBLK | 0o666, facts=[(Extra.DEVICE, struct.pack("<II", 8, 0))]),
        Entry(b"char", stat.S_IFCHR | 0o666, facts=[(Extra.DEVICE, numbers)]),
        Entry(b"fifo", stat.S_IFIFO | 0o640),
        Entry(b"no-number", stat.S_IFCHR | 0o666),
        Entry(b"setuid", FILE | 0o4755, made.file(PASSWD), size=len(PASSWD), uid=0, gid=0),
        Entry(b"short-number", stat.S_IFBLK | 0o666, facts=[(Extra.DEVICE, b"123")]),
        Entry(b"socket", stat.S_IFSOCK | 0o666),
        Entry(b"strange-type", 0o170644),
        Entry(b"strange-uid", FILE | 0o4755, made.file(PASSWD), size=len(PASSWD), uid=(1 << 32) - 1, gid=(1 << 32) - 1),
        Entry(b"zero-link", LINK, facts=[(Extra.LINK_TARGET, b"")]),
        Entry(b"zero-type", 0o644),
    )


@pytest.mark.root
@pytest.mark.skipif(not trees.is_root(), reason="drops its rights")
def test_devices_and_setuid_as_an_ordinary_user(made: Forge) -> None:
    backup = special(made)
    with everybodys_directory() as place:

        def restore() -> tuple[list[str], dict[str, int]]:
            with Freezer(made.storage) as freezer:
                result = freezer.restore(backup, place / "out")
            modes = {path.name: path.lstat().st_mode for path in (place / "out").iterdir()}
            return [problem.path for problem in result.problems], modes

        problems, modes = as_nobody(restore)
    assert set(modes) == {"fifo", "setuid", "socket", "strange-uid"}
    assert not (modes["setuid"] | modes["strange-uid"]) & 0o6000
    assert {"no-number", "short-number", "strange-type", "zero-link", "zero-type"} <= set(problems)


def test_entries_of_strange_types_fail_alone(made: Forge, tmp_path: Path) -> None:
    backup = special(made)
    with Freezer(made.storage) as freezer:
        result = freezer.restore(backup, tmp_path / "out", owner=False)
        assert {problem.path for problem in result.problems} >= {"no-number", "strange-type", "zero-link"}
        assert stat.S_ISFIFO((tmp_path / "out" / "fifo").lstat().st_mode)
        assert (tmp_path / "out" / "setuid").read_bytes() == PASSWD


def xattr(name: bytes, value: bytes = b"v") -> tuple[int, bytes]:
    return Extra.XATTR, struct.pack("<H", len(name)) + name + value


@pytest.mark.parametrize("owner", [None, False])
def test_attributes_with_names_of_the_systems_own(made: Forge, tmp_path: Path, owner: bool | None) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    facts = [
        xattr(b"security.capability", capability),
        xattr(b"security.evm"),
        xattr(b"system.posix_acl_access", b"\xff" * 40),
        xattr(b"trusted.overlay.redirect", b"/etc"),
        xattr(b"user." + b"n" * 300),
        xattr(b"user.ok"),
        xattr(b"user.\x1b[31m"),
        xattr(b"no-namespace"),
    ]
    content = made.file(PASSWD)
    backup = made.backup(
        Entry(b"a", content=content, size=len(PASSWD), facts=facts),
        Entry(b"b", content=content, size=len(PASSWD), facts=[xattr(b"user.with\0nul")]),
        Entry(b"c", content=content, size=len(PASSWD), facts=[(Extra.XATTR, b"\xff\xff")]),
        Entry(b"d", DIRECTORY, made.directory(Entry(b"x")), facts=[xattr(b"user.with\0nul")]),
        Entry(b"e", content=content, size=len(PASSWD), uid=12345),
    )
    with Freezer(made.storage) as freezer:
        result = freezer.restore(backup, tmp_path / "out", owner=owner)
    out = tmp_path / "out"
    assert (out / "a").read_bytes() == PASSWD
    assert (out / "e").read_bytes() == PASSWD
    assert not (out / "b").exists()
    assert not (out / "c").exists()
    assert {problem.path for problem in result.problems} >= {"a", "b", "c", "d"}
    if owner is False:
        assert "security.capability" not in os.listxattr(out / "a") or (out / "a").stat().st_uid == 0


SLOW_PATTERNS = [
    (b"*a" * 30 + b"b", b"a" * 255),
    (b"**/a/" * 20 + b"b", b"a/" * 40 + b"c"),
    (b"**/*a*a*a*" * 5 + b"b", b"aaaaaaaaaaaa/" * 20 + b"c"),
    (b"?*" * 40 + b"[!a]", b"a" * 255),
]


@pytest.mark.parametrize(("pattern", "path"), SLOW_PATTERNS)
def test_patterns_that_come_with_a_backup_do_not_search_for_ever(
    made: Forge, tmp_path: Path, pattern: bytes, path: bytes
) -> None:
    """``--delete`` spares what the backup excluded: the patterns are those that its writer chose."""

    backup = made.backup(Entry(b"f"), excludes=[base64.b64encode(each).decode() for each in (pattern, b"/" + pattern)])
    out = tmp_path / "out"
    fd = os.open(tmp_path, os.O_RDONLY)
    for part in (b"out/" + path).split(b"/"):
        with suppress(FileExistsError):
            os.mkdir(part, dir_fd=fd)
        below = os.open(part, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    started = time.process_time()
    with Freezer(made.storage) as freezer:
        result = freezer.restore(backup, out, overwrite="always", delete=True)
    assert time.process_time() - started < 30
    assert result.deleted
    assert os.listdir(out) == ["f"]


def test_paths_that_are_very_deep_are_found_in_time(made: Forge) -> None:
    content = made.directory(Entry(b"f"))
    for _ in range(600):
        content = made.directory(Entry(b"d", DIRECTORY, content))
    made.commit(made.directory(Entry(b"/srv", DIRECTORY, content)))
    started = time.process_time()
    with Freezer(made.storage) as freezer:
        assert len(list(freezer.find("**/d/**/d/f"))) == 1
        assert not list(freezer.find("**/x/**/d/**/y"))
    assert time.process_time() - started < 30
