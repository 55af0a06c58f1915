"""The conformance suite for snapshot providers.

A test of a provider says how it is built, where it may make snapshots, and how to see what it left behind::

    class TestMine(SnapshotSuite):
        provider = MyProvider
        options = {"size": "16M"}

        def make_volume(self) -> Path: ...
        def leftovers(self, prefix: str) -> list[str]: ...

The suite writes into the folder that ``make_volume`` gives, and makes snapshots under a prefix of its own.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import ConfigurationError, SnapshotError
from freezer_sdk.modes.base import SnapshotGroup, Stream
from freezer_sdk.snapshots.base import COMMON_OPTIONS, SnapshotProvider
from freezer_sdk.testing._killed_client import KILLED
from freezer_sdk.testing.suite import Suite, SuiteFailure, check, check_equal, refused

_BIG = 300_000


class SnapshotSuite(Suite):
    """Tests of the Snapshot contract; a subclass gives ``provider``, ``make_volume`` and ``leftovers``.

    Attributes:
        provider: the class under test.
        options: what it is built with, but for ``label_prefix``.
        outside: a path that it cannot make snapshots of; ``None``: there is none here.
        copies: its views are copies, with inodes and change times of their own.
    """

    provider: ClassVar[type[SnapshotProvider]]
    options: Mapping[str, Any] = {}
    outside: Path | None = Path("/proc")
    copies: bool = False

    def make_volume(self) -> Path:
        """An empty folder on a volume that the provider can make snapshots of; the suite may fill it."""
        raise TypeError(f"{type(self).__name__} must define make_volume")

    def leftovers(self, prefix: str) -> Sequence[str]:
        """Names of all snapshots, volumes, mounts and folders there are whose names begin with ``PREFIX-``."""
        raise TypeError(f"{type(self).__name__} must define leftovers")

    def setup_method(self) -> None:
        """Chooses a prefix that nobody else uses."""
        self.prefix = f"suite{secrets.token_hex(4)}"

    # -- what it says of itself --------------------------------------------------------------------------------

    def test_declares_itself(self) -> None:
        """Name, version, options."""
        kind = self.provider
        check(re.fullmatch(r"[a-z0-9-]{1,32}", kind.name), f"name {kind.name!r} is not 1 to 32 characters of a-z0-9-")
        check_equal(kind.api_version, API_VERSION, "api_version")
        check(kind.summary and "\n" not in kind.summary, "a summary of one line is needed")
        check_equal(kind.available(), None, "available() here")
        for option in COMMON_OPTIONS:
            check(option in kind.options, f"the common option {option.name!r} is not declared")

    def test_refuses_a_prefix_that_names_cannot_begin_with(self) -> None:
        """It could be taken for an option, or for a folder."""
        for prefix in ("", "-x", "a/b", "a b"):
            with refused(ConfigurationError, what=f"the prefix {prefix!r}"):
                self.provider(**{**self.options, "label_prefix": prefix})

    def test_probe_tells_and_changes_nothing(self) -> None:
        """Yes here, no elsewhere, each with a reason."""
        volume = self._filled()
        here = self._make().probe([volume, volume / "folder"])
        check(here.possible, f"the volume under test is refused: {here.reason}")
        check(here.reason, "a probe gives a reason")
        gone = self._make().probe([volume / "no such thing"])
        check(not gone.possible and gone.reason, "a path that does not exist is accepted")
        if self.outside is not None:
            there = self._make().probe([self.outside])
            check(not there.possible and there.reason, f"{self.outside} is accepted, or refused without a reason")
            both = self._make().probe([volume, self.outside])
            check(not both.possible, f"{self.outside} is accepted beside another path")
        check_equal(list(self.leftovers(self.prefix)), [], "left behind by a probe")

    # -- views -------------------------------------------------------------------------------------------------

    def test_views_show_one_moment(self) -> None:
        """Later changes of every kind are not in them."""
        volume = self._filled()
        before = _content(volume)
        with self._make().create([volume]) as group:
            view = _path(group, volume)
            if view is None:
                return
            (volume / "folder/file").write_text("later")
            (volume / "new").mkdir()
            (volume / "big").unlink()
            (volume / "empty").rename(volume / "elsewhere")
            check_equal(_content(view), before, "content of the view after changes")
            group.check()

    def test_views_keep_what_is_known_of_files(self) -> None:
        """Or else unmodified files look changed: sizes, times, permissions; inodes too, unless it copies."""
        volume = self._filled()
        with self._make().create([volume]) as group:
            view = _path(group, volume)
            if view is None:
                return
            for name in ("folder", "folder/file", "big", "link"):
                was, now = (volume / name).lstat(), (view / name).lstat()
                check_equal(_known(now), _known(was), f"size, time, permissions and owner of {name}")
                if not self.copies:
                    own = (now.st_ino, now.st_ctime_ns)
                    check_equal(own, (was.st_ino, was.st_ctime_ns), f"inode and time of change of {name}")

    def test_every_path_has_its_view(self) -> None:
        """Folders, files, and links above them."""
        volume = self._filled()
        (volume / "way").symlink_to("folder")
        paths = [volume, volume / "folder", volume / "folder/file", volume / "way/file"]
        with self._make().create(paths) as group:
            check(set(paths) <= set(group.views), f"views are missing: {set(paths) - set(group.views)}")
            for path in paths[2:]:
                view = _path(group, path)
                check(view is None or view.read_text() == "content", f"the view of {path} is not what is there")

    def test_writing_into_a_view_does_not_reach_the_volume(self) -> None:
        """Most providers refuse it altogether."""
        volume = self._filled()
        with self._make().create([volume]) as group:
            view = _path(group, volume)
            if view is not None:
                with suppress(OSError):
                    (view / "folder/file").write_text("written into the view")
        check_equal((volume / "folder/file").read_text(), "content", "the volume after a write into the view")

    def test_two_groups_at_once(self) -> None:
        """Each shows its own moment, and goes for itself."""
        volume = self._filled()
        with self._make().create([volume]) as first:
            (volume / "folder/file").write_text("later")
            with self._make().create([volume]) as second:
                views = [_path(group, volume) for group in (first, second)]
                texts = [view and (view / "folder/file").read_text() for view in views]
                check(texts in (["content", "later"], [None, None]), f"two groups show {texts}")
            view = views[0]
            check(view is None or (view / "folder/file").read_text() == "content", "the end of one group hurt another")

    def test_facts_can_be_recorded(self) -> None:
        """They are JSON; the check may be asked from any thread."""
        volume = self._filled()
        with self._make().create([volume]) as group:
            check_equal(json.loads(json.dumps(group.facts)), dict(group.facts), "facts after JSON")
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: group.check(), range(8)))

    # -- cleaning up -------------------------------------------------------------------------------------------

    def test_what_is_made_bears_the_label_and_is_removed(self) -> None:
        """Also the view is gone; the volume is as it was."""
        volume = self._filled()
        before = _content(volume)
        with self._make().create([volume]) as group:
            view = _path(group, volume)
            check(self.leftovers(self.prefix), "leftovers() shows nothing while there is a snapshot")
        check_equal(list(self.leftovers(self.prefix)), [], "left behind")
        check(view is None or not view.exists(), f"the view {view} is still there")
        check_equal(_content(volume), before, "the volume afterwards")

    def test_it_is_removed_after_an_error(self) -> None:
        """The error comes through as it is."""
        volume = self._filled()
        with refused(ZeroDivisionError, what="an error in the middle"), self._make().create([volume]):
            raise ZeroDivisionError
        check_equal(list(self.leftovers(self.prefix)), [], "left behind")

    def test_it_is_removed_after_an_interruption(self) -> None:
        """Ctrl-C."""
        volume = self._filled()
        try:
            with self._make().create([volume]):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        check_equal(list(self.leftovers(self.prefix)), [], "left behind")

    def test_a_path_that_does_not_exist(self) -> None:
        """Nothing of what was made for the others stays."""
        volume = self._filled()
        paths = [volume, volume / "no such thing"]
        with refused(SnapshotError, what="a path that does not exist"), self._make().create(paths):
            pass
        check_equal(list(self.leftovers(self.prefix)), [], "left behind")

    def test_reap_removes_what_a_killed_run_left(self) -> None:
        """Nothing of the living, nothing of other prefixes, and once is enough."""
        volume = self._filled()
        self._kill_in_the_middle(volume)
        check(self.leftovers(self.prefix), "a killed run left nothing: the test proves nothing")
        other = self.provider(**{**self.options, "label_prefix": f"{self.prefix}x"})
        check_equal(list(other.reap()), [], "removed for another prefix")
        with self._make().create([volume]) as group:
            check(self._make().reap(), "reap removed nothing, or did not say so")
            view = _path(group, volume)
            check(view is None or (view / "folder/file").read_text() == "content", "reap hurt a living run")
            group.check()
            check_equal(list(self._make().reap()), [], "removed by the second reap")
        check_equal(list(self.leftovers(self.prefix)), [], "left behind")
        check_equal((volume / "folder/file").read_text(), "content", "the volume afterwards")

    # -- helpers -----------------------------------------------------------------------------------------------

    def _make(self) -> SnapshotProvider:
        return self.provider(**{**self.options, "label_prefix": self.prefix})

    def _filled(self) -> Path:
        volume = self.make_volume()
        (volume / "folder").mkdir()
        (volume / "folder/file").write_text("content")
        (volume / "folder/file").chmod(0o640)
        (volume / "big").write_bytes(b"0123456789" * (_BIG // 10))
        (volume / "empty").touch()
        (volume / "link").symlink_to("folder/file")
        (volume / os.fsdecode(b"\xff name")).touch()
        return volume

    def _kill_in_the_middle(self, volume: Path) -> None:
        job = {
            "module": self.provider.__module__,
            "file": getattr(sys.modules[self.provider.__module__], "__file__", None),
            "class": self.provider.__name__,
            "options": {**self.options, "label_prefix": self.prefix},
            "paths": [str(volume)],
        }
        done = subprocess.run(
            [sys.executable, "-m", "freezer_sdk.testing._killed_snapshot"],
            input=json.dumps(job, default=os.fspath),  # not an argument: there may be secrets in it
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != -KILLED:
            raise SuiteFailure(f"the run that should be killed ended by itself: {done.stderr[-2000:]}")


def _path(group: SnapshotGroup, path: Path) -> Path | None:
    """The view of a path; ``None`` for streams, of which only the comings and goings are tested."""
    view = group.views[path]
    if isinstance(view, Stream):
        return None
    check(view.is_absolute(), f"the view {view} is not absolute")
    return view


def _content(folder: Path) -> dict[bytes, bytes | str]:
    """All that is below a folder, without what file systems put there themselves."""
    found: dict[bytes, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder))
        if name != b"lost+found":
            found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


def _known(st: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    return st.st_mode, st.st_uid, st.st_gid, size, st.st_mtime_ns
