"""The conformance suite for modes.

A test of a mode says how it is built, how its data change, and how to see what came back::

    class TestMine(ModeSuite):
        mode = MyMode
        options = {"port": 6379}

        def change(self) -> None: ...                     # the application's data are other ones now
        def content(self) -> object: ...                  # the data of the application, to be compared
        def restored(self, target: str) -> object: ...    # the data in a folder that was restored
        def check_resumed(self) -> None: ...              # fails unless the application works as it should

The suite keeps backups in memory; ``change`` is the only one that writes into the application.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import SnapshotError
from freezer_sdk.modes.base import Mode, Stream, Tree
from freezer_sdk.options import secret_values, validate
from freezer_sdk.snapshots.base import SnapshotProvider
from freezer_sdk.testing._mode_parts import MemoryRepository, WatchedMaker, read_source
from freezer_sdk.testing.suite import Suite, check, check_equal, refused


class ModeSuite(Suite):
    """Tests of the Mode contract; a subclass gives ``mode``, ``options``, and what it can of the methods below.

    Attributes:
        mode: the class under test.
        options: what it is built with; those that are left out have their defaults.
        snapshot_options: the same for a mode that reads from volume snapshots, where that needs other ones.
        restores_into: a folder that does not exist is where backups go; ``False``: they are not restored by the suite.
    """

    mode: ClassVar[type[Mode]]
    options: Mapping[str, Any] = {}
    snapshot_options: Mapping[str, Any] | None = None
    restores_into: bool = True

    def make_provider(self) -> SnapshotProvider | None:
        """What makes volume snapshots of the application's data; by default they are copied, which takes its time."""
        return None

    def change(self) -> None:
        """Makes the application's data other ones; by default nothing."""

    def content(self) -> object:
        """The application's data as they are, to be compared with what comes back; by default nothing."""
        return None

    def restored(self, target: str) -> object:
        """The data in a folder that was restored; by default nothing, which is what :meth:`content` gives."""
        return None

    def check_resumed(self) -> None:
        """Fails unless the application works as if nobody made backups: no lock is held, nothing was left behind."""

    # -- what it says of itself --------------------------------------------------------------------------------

    def test_declares_itself(self) -> None:
        """Name, version, options; a name for backups."""
        kind = self.mode
        check_equal(kind.api_version, API_VERSION, "api_version")
        check(kind.name and kind.summary and "\n" not in kind.summary, "a name and a summary of one line are needed")
        check_equal(kind.available(), None, "available() here")
        name = self._make().default_name()
        check(name is None or (isinstance(name, str) and name), f"default_name() gave {name!r}")

    def test_options_have_defaults(self) -> None:
        """It can be built from its declaration."""
        for option in self.mode.options:
            check(option.help, f"option {option.name!r} has no help")
            if option.default is not None and not option.multiple:
                check_equal(option.convert(option.default), option.default, f"default of {option.name!r}, converted")

    # -- protecting --------------------------------------------------------------------------------------------

    def test_sources_can_be_read_whole(self) -> None:
        """A tree at most, streams with names of their own."""
        with self._make().protect() as protected:
            check(protected.sources, "nothing is handed over")
            names = [source.name for source in protected.sources if isinstance(source, Stream)]
            check_equal(sorted(set(names)), sorted(names), "names of streams")
            for source in protected.sources:
                count, problems = read_source(source)
                check(not problems, f"could not be read: {problems[:3]}")
                check(count, f"{source!r} is empty")
                if isinstance(source, Stream) and source.size is not None and source.extents is None:
                    check_equal(count, source.size, f"bytes of {source.name}")
        self.check_resumed()

    def test_facts_can_be_recorded(self) -> None:
        """They are JSON, and hold no secret."""
        with self._make().protect() as protected:
            for source in protected.sources:
                read_source(source)
            facts = protected.confirmed()
        text = json.dumps(facts)
        check_equal(json.loads(text), facts, "facts after JSON")
        for secret in secret_values(self.mode.options, self.options):
            check(secret not in text and secret not in repr(protected), "a secret is among the facts")

    def test_sources_need_not_be_read(self) -> None:
        """Whoever leaves early leaves nothing running."""
        with self._make().protect():
            pass
        self.check_resumed()
        with self._make().protect() as protected:
            for source in protected.sources:
                if isinstance(source, Stream):
                    with source.open() as reader:
                        reader.readinto(memoryview(bytearray(1)))
        self.check_resumed()

    def test_an_error_in_the_middle_comes_through(self) -> None:
        """And everything is cleaned up; Ctrl-C likewise."""
        with refused(ZeroDivisionError, what="an error in the middle"), self._make().protect():
            raise ZeroDivisionError
        self.check_resumed()
        try:
            with self._make().protect():
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.check_resumed()

    # -- there and back ----------------------------------------------------------------------------------------

    def test_what_was_protected_comes_back(self) -> None:
        """By the mode itself, into a folder that does not exist; a dry run writes nothing."""
        self._check_round_trip(self._make(), None)

    def _check_round_trip(self, mode: Mode, maker: WatchedMaker | None) -> None:
        repository = MemoryRepository()
        try:
            before = self.content()
            with mode.protect(**({} if maker is None else {"snapshots": maker})) as protected:
                backup = repository.store(mode, protected)
            check(not [each for each in backup.problems if each.fatal], f"not whole: {backup.problems[:3]}")
            self.change()
            self.check_resumed()
            if self.restores_into:
                with tempfile.TemporaryDirectory(prefix="freezer-suite-") as folder:
                    target = os.path.join(folder, "target")
                    repository.restore(self._make(), backup, target, dry_run=True)
                    check(not Path(target).exists(), "a dry run wrote something")
                    repository.restore(self._make(), backup, target)
                    check_equal(self.restored(target), before, "what came back")
        finally:
            repository.close()

    # -- volume snapshots --------------------------------------------------------------------------------------

    def test_reads_from_snapshots(self) -> None:
        """What is in them is what is backed up; they are gone afterwards."""
        if not self.mode.takes_snapshots:
            return
        maker = self._maker()
        self._check_round_trip(self._make(self.snapshot_options), maker)
        check(maker.asked, "no snapshot was asked for")
        check(all(path.is_absolute() for path in maker.asked), f"a snapshot of a relative path: {maker.asked}")
        check_equal(maker.open, 0, "snapshots that are still there")

    def test_the_application_goes_on_while_snapshots_are_read(self) -> None:
        """They were made to be left alone with; changes of that time are looked at again by the next run."""
        if not self.mode.takes_snapshots:
            return
        before, maker = self.content(), self._maker()
        with self._make(self.snapshot_options).protect(snapshots=maker) as protected:
            check(maker.open, "the snapshots are gone before they were read")
            self.check_resumed()
            self.change()
            facts = protected.confirmed()
            check_equal(facts.get("snapshot", {}).get("provider"), "suite", "facts of the snapshot")
            for source in protected.sources:
                _count, problems = read_source(source)
                check(not problems, f"could not be read: {problems[:3]}")
                if isinstance(source, Tree):
                    taken = maker.groups[-1].taken_ns
                    check(source.as_of_ns is not None and source.as_of_ns <= taken, "the tree hides its moment")
        check_equal(maker.open, 0, "snapshots that are still there")
        check(before is None or before != self.content(), "change() changes nothing")

    def test_a_spoilt_snapshot_is_never_committed(self) -> None:
        """Engines ask before they commit."""
        if not self.mode.takes_snapshots:
            return
        maker, repository, mode = self._maker(), MemoryRepository(), self._make(self.snapshot_options)
        try:
            with (
                refused(SnapshotError, what="a backup of a spoilt snapshot"),
                mode.protect(snapshots=maker) as protected,
            ):
                maker.groups[-1].full = True
                repository.store(mode, protected)
            check_equal(len(repository.backups()), 0, "backups of a spoilt snapshot")
        finally:
            repository.close()
        check_equal(maker.open, 0, "snapshots that are still there")
        self.check_resumed()

    def test_a_snapshot_that_cannot_be_made_locks_nobody_out(self) -> None:
        """The application goes on."""
        if not self.mode.takes_snapshots:
            return
        mode = self._make(self.snapshot_options)
        with (
            refused(SnapshotError, what="a snapshot that cannot be made"),
            mode.protect(snapshots=self._maker(fails=True)),
        ):
            pass
        self.check_resumed()

    def test_an_error_while_snapshots_are_read(self) -> None:
        """They are removed."""
        if not self.mode.takes_snapshots:
            return
        maker, mode = self._maker(), self._make(self.snapshot_options)
        with refused(ZeroDivisionError, what="an error in the middle"), mode.protect(snapshots=maker):
            raise ZeroDivisionError
        check_equal(maker.open, 0, "snapshots that are still there")
        self.check_resumed()

    # -- helpers -----------------------------------------------------------------------------------------------

    def _maker(self, *, fails: bool = False) -> WatchedMaker:
        return WatchedMaker(self.make_provider(), fails=fails)

    def _make(self, options: Mapping[str, Any] | None = None) -> Mode:
        return self.mode(**validate(self.mode.options, options or self.options, owner=f"mode {self.mode.name!r}"))
