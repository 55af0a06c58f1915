"""A look at a tree before GNU tar reads it: for what GNU tar cannot be told by options, or gets wrong."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.report import Reporter
from freezer_sdk.modes.base import TreeRules

_DANGLING: Final = "left out, since it leads nowhere"
_SEEN: Final = "left out, since it leads to a directory that is stored at another place, or that contains it"


class _Folder(NamedTuple):
    member: bytes  # ``.`` or ``./a/b``
    path: bytes  # where it is read


class Survey:
    """Finds the members that are to be left out of one tree.

    GNU tar follows a loop of symbolic links for ever, and takes a directory that it meets twice for a renamed one, so
    that its own extraction fails. Directories are therefore visited before links to them, and each of them once.

    Args:
        root: the recorded root.
        location: where it is read.
        report: is told of links that are left out.
        check: called for every directory; may raise.
    """

    def __init__(
        self, rules: TreeRules, *, root: bytes, location: bytes, report: Reporter, check: Callable[[], None]
    ) -> None:
        self._rules, self._root, self._location = rules, root, location
        self._patterns = Patterns(rules.excludes)
        self._follow = rules.follow in ("soft", "all")
        self._report, self._check = report, check
        self._visited: set[tuple[int, int]] = set()
        self._device = os.stat(location).st_dev

    def left_out(self) -> Iterator[bytes]:
        """Names of members; what lies below them is not named."""
        folders, links = deque([_Folder(b".", self._location)]), deque[_Folder]()
        while folders or links:
            folder = folders.popleft() if folders else links.popleft()
            self._check()
            if not self._enter(folder):
                self._report.note(self._recorded(folder.member), "loop", _SEEN)
                yield folder.member
                continue
            try:
                with os.scandir(folder.path) as entries:
                    for entry in entries:
                        member = b"%s/%s" % (folder.member, entry.name)
                        if self._excluded(entry, member):
                            yield member
                        elif self._is_folder(entry):
                            queue = links if entry.is_symlink() else folders
                            queue.append(_Folder(member, entry.path))
                        elif self._follow and entry.is_symlink() and not os.path.exists(entry.path):
                            self._report.note(self._recorded(member), "dangling", _DANGLING)
                            yield member
            except OSError:
                continue  # GNU tar will meet the same, and say so

    def _enter(self, folder: _Folder) -> bool:
        if not self._follow:
            return True
        try:
            st = os.stat(folder.path)
        except OSError:
            return True
        identity = (st.st_dev, st.st_ino)
        if identity in self._visited:
            return False
        self._visited.add(identity)
        return True

    def _is_folder(self, entry: os.DirEntry[bytes]) -> bool:
        try:
            if not entry.is_dir(follow_symlinks=self._follow):
                return False
            return not self._rules.one_file_system or entry.stat(follow_symlinks=self._follow).st_dev == self._device
        except OSError:
            return False

    def _excluded(self, entry: os.DirEntry[bytes], member: bytes) -> bool:
        if not self._patterns:
            return False
        try:
            is_directory = self._patterns.need_types and entry.is_dir(follow_symlinks=self._follow)
        except OSError:
            is_directory = False
        return bool(self._patterns.verdict(self._recorded(member), is_directory=is_directory, root=self._root))

    def _recorded(self, member: bytes) -> bytes:
        return self._root.rstrip(b"/") + member[1:]
