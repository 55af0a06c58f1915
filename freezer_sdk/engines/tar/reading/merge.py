"""Reads the headers of all levels of a chain, and makes one tree of them."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from freezer_sdk.engines.chains.codec import LevelStream
from freezer_sdk.engines.tar.reading import dumpdir
from freezer_sdk.engines.tar.reading.early import Early
from freezer_sdk.engines.tar.reading.headers import Member
from freezer_sdk.engines.tar.reading.members import MemberStream
from freezer_sdk.engines.tar.reading.renames import Listed, Renaming
from freezer_sdk.engines.tar.reading.tree import BadPath, Directory, File, Lost, Tree
from freezer_sdk.errors import IntegrityError
from freezer_sdk.files.posix import Owners
from freezer_sdk.model import Problem
from freezer_sdk.modes.base import ProblemHandler


class Merge:
    """A tree in the making.

    Args:
        early: gives files on while they are read.

    Attributes:
        tree: what the levels made so far.
        damaged: numbers of streams that could not be read to their end, by their place in ``levels``.
    """

    def __init__(
        self, levels: Sequence[LevelStream], *, problem: ProblemHandler, owners: Owners, early: Early | None = None
    ) -> None:
        self.tree = Tree()
        self.damaged: set[int] = set()
        self._levels = levels
        self._problem = problem
        self._owners = owners
        self._early = early
        self._doubtful = False  # a level below the one that is read is damaged or missing
        self._members = 0
        self._waiting: list[Listed] = []  # directories of the level, while some were renamed

    def run(self) -> None:
        """Reads all levels.

        Raises:
            IntegrityError: nothing at all can be read.
            WrongPassword, UnsupportedFormat, StorageError.
        """
        failure: IntegrityError | None = None
        before = -1
        for number, level in enumerate(self._levels):
            for missing in range(before + 1, level.id.level):
                self._doubtful = True
                place = f"{level.id.folder}/{level.id.series}/{level.id.chain}"
                self._tell(f"{place}/{missing}", "missing", "this level is not there; what it held is lost")
            before = level.id.level
            members = self._members
            try:
                self._read(number, level)
            except IntegrityError as error:
                failure = error
                self.damaged.add(number)
                self.tree.finish(number, damaged=True)
                self._doubtful = True
                self._tell(level.id.data, "damaged", f"{error}; what was whole before is kept")
            else:
                self.tree.finish(number, damaged=False)
            if not number and self._members == members and failure is None:
                self._tell(level.id.data, "empty", "the archive has no entries: nothing was backed up")
        if failure is not None and not self._members:
            raise failure
        self._tell_losses()

    def _read(self, number: int, level: LevelStream) -> None:
        with level.open() as reader:
            stream = MemberStream(reader, self._owners)
            try:
                for member in stream:
                    self._members += 1
                    try:
                        if self._early is not None and not self._waiting:  # names are still to be found for some
                            self._early.see(member, stream, self.tree)
                        stream.pass_over()
                    except IntegrityError:
                        if stat.S_ISREG(member.mode) and not member.hard:
                            self._take(member, number, lost=True)
                        raise
                    self._take(member, number)
            finally:
                self._take_waiting(number)

    def _take(self, member: Member, number: int, *, lost: bool = False) -> None:
        for warning in member.warnings:
            self._tell(_text(member.name), "attributes", warning, fatal=False)
        if stat.S_ISDIR(member.mode):
            listed = Listed(member, self._listing(member))
            if self._waiting or (listed.listing and listed.listing.renames):
                self._waiting.append(listed)  # all directories of the level tell which of them were renamed
            else:
                self._take_directory(listed)
            return
        self._take_waiting(number)
        try:
            if member.hard:
                self.tree.link(member)
            else:
                self.tree.file(member, number, lost=lost)
        except BadPath as error:
            self._tell(_text(member.name), "unsafe_path", f"not restored: {error}")

    def _take_waiting(self, number: int) -> None:
        """Takes the directories of a level in which some were renamed."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        since = self._levels[number - 1].id.time * 10**9 if number else 0
        Renaming(self.tree.root, waiting, since=since).apply()
        for listed in waiting:
            self._take_directory(listed, renamed=True)

    def _take_directory(self, listed: Listed, *, renamed: bool = False) -> None:
        try:
            self.tree.directory(listed.member, listed.listing, doubtful=self._doubtful or renamed)
        except BadPath as error:
            self._tell(_text(listed.member.name), "unsafe_path", f"not restored: {error}")

    def _listing(self, member: Member) -> dumpdir.Dumpdir | None:
        if not member.listing:
            return None
        try:
            return dumpdir.parse(member.listing)
        except dumpdir.BadDumpdir as error:
            message = f"{error}, at byte {member.position} of the tar stream; what it did not hold any more is kept"
            self._tell(_text(member.name), "damaged", message)
            return None

    # -- telling -------------------------------------------------------------------------------------------

    def _tell(self, path: str, kind: str, message: str, *, fatal: bool = True) -> None:
        self._problem(Problem(path=path, kind=kind, message=message, fatal=fatal))

    def _tell_losses(self) -> None:
        """Tells what the final tree lacks."""
        for path, node in self.tree.walk():
            if isinstance(node, Directory):
                self._tell_missing(path, node)
            elif isinstance(node, Lost) or node.lost:
                level = self._levels[node.level].id
                self._tell(_text(path), "damaged", f"lost: it is in what cannot be read of level {level.level}")
            elif isinstance(node, File) and node.stale:
                level = self._levels[node.level].id
                message = f"a later backup could not read it; this is how it was at level {level.level}"
                self._tell(_text(path), "stale", message)

    def _tell_missing(self, path: bytes, node: Directory) -> None:
        prefix = b"" if path == b"." else path + b"/"
        for name in sorted(node.missing):
            message = "listed, but not stored: a socket, or it could not be read when the backup was made"
            self._tell(_text(prefix + name), "missing", message, fatal=False)
        for name in sorted(node.lacking):
            message = "lost, if it was not left out on purpose: it is listed as unchanged, and no level has it"
            self._tell(_text(prefix + name), "lost", message)
        if node.stale:
            message = "a later backup could not read this directory, or left it out; what it holds is as it was before"
            self._tell(_text(path), "stale", message, fatal=node.doubtful)


def _text(path: bytes) -> str:
    """A path of an entry for messages."""
    path = path.strip(b"/").removeprefix(b"./")
    return path.decode("utf-8", "surrogateescape") or "."
