"""Random changes of trees, from numbers that hypothesis can shrink."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

NAMES = (b"a", b"b", b"c", b"d", b"e", b"z", b"A0", b" ", b'\xff\n"', b"x" * 120, b"y" * 250, b"-")

Change = tuple[int, int, int, int]


class Changes:
    """Changes a directory. What makes no sense in its present state is left out."""

    def __init__(self, root: os.PathLike[str]) -> None:
        self._root = os.fsencode(root)
        self._kinds: Sequence[Callable[[int, int, int], None]] = (
            self._create,
            self._directory,
            self._move_directory,
            self._exchange,
            self._edit,
            self._append,
            self._truncate,
            self._remove,
            self._remove_directory,
            self._move,
            self._hard_link,
            self._symbolic_link,
            self._fifo,
            self._mode,
            self._owner,
            self._backdate,
            self._file_to_directory,
            self._directory_to_file,
            self._grow,
        )

    @staticmethod
    def lists(*, most: int) -> st.SearchStrategy[list[Change]]:
        """Changes between two backups."""
        number = st.integers(0, 30)
        return st.lists(st.tuples(st.integers(0, 18), number, number, number), max_size=most)

    def apply(self, changes: Sequence[Change]) -> None:
        """Makes them, one after the other."""
        for kind, *numbers in changes:
            try:
                self._kinds[kind](*numbers)
            except OSError:  # a name is taken, a path too long: no change then
                continue

    # -- what is there -------------------------------------------------------------------------------------

    def _paths(self, *, directories: bool) -> list[bytes]:
        found = [self._root] if directories else []
        for directory, subdirectories, files in os.walk(self._root):
            names = [name for name in subdirectories if not os.path.islink(os.path.join(directory, name))]
            others = [name for name in [*subdirectories, *files] if name not in names]
            found += [os.path.join(directory, name) for name in (names if directories else others)]
        return sorted(found)

    def _one(self, number: int, *, directory: bool, root: bool = True) -> bytes:
        found = [path for path in self._paths(directories=directory) if root or path != self._root]
        if not found:
            raise FileNotFoundError
        return found[number % len(found)]

    def _regular(self, number: int) -> bytes:
        found = [path for path in self._paths(directories=False) if os.path.isfile(path) and not os.path.islink(path)]
        if not found:
            raise FileNotFoundError
        return found[number % len(found)]

    def _new(self, directory: int, name: int) -> bytes:
        path = os.path.join(self._one(directory, directory=True), NAMES[name % len(NAMES)])
        if os.path.lexists(path):
            raise FileExistsError
        return path

    # -- changes -------------------------------------------------------------------------------------------

    def _create(self, directory: int, name: int, size: int) -> None:
        with open(self._new(directory, name), "xb") as file:
            file.write(bytes([65 + size]) * (size * 171))

    def _directory(self, directory: int, name: int, _: int) -> None:
        os.mkdir(self._new(directory, name))

    def _move_directory(self, directory: int, name: int, which: int) -> None:
        os.rename(self._one(which, directory=True, root=False), self._new(directory, name))

    def _exchange(self, one: int, other: int, _: int) -> None:
        first, second = self._one(one, directory=True, root=False), self._one(other, directory=True, root=False)
        if (first + b"/").startswith(second + b"/") or (second + b"/").startswith(first + b"/"):
            return
        os.rename(first, self._root + b"/!")
        os.rename(second, first)
        os.rename(self._root + b"/!", second)

    def _edit(self, which: int, what: int, _: int) -> None:
        with open(self._regular(which), "r+b") as file:
            file.write(b"edited %d" % what)

    def _append(self, which: int, size: int, _: int) -> None:
        with open(self._regular(which), "ab") as file:
            file.write(b"+" * size * 50)

    def _truncate(self, which: int, size: int, _: int) -> None:
        path = self._regular(which)
        os.truncate(path, min(os.path.getsize(path), size * 30))

    def _grow(self, which: int, size: int, _: int) -> None:
        path = self._regular(which)
        os.truncate(path, os.path.getsize(path) + size * 20_000)
        with open(path, "ab") as file:
            file.write(b"end")

    def _remove(self, which: int, _: int, __: int) -> None:
        os.unlink(self._one(which, directory=False))

    def _remove_directory(self, which: int, _: int, __: int) -> None:
        shutil.rmtree(self._one(which, directory=True, root=False))

    def _move(self, directory: int, name: int, which: int) -> None:
        path = os.path.join(self._one(directory, directory=True), NAMES[name % len(NAMES)])
        os.rename(self._one(which, directory=False), path)

    def _hard_link(self, directory: int, name: int, which: int) -> None:
        os.link(self._one(which, directory=False), self._new(directory, name), follow_symlinks=False)

    def _symbolic_link(self, directory: int, name: int, target: int) -> None:
        os.symlink((b"a", b"../b", b"/etc/passwd", b"t" * 200)[target % 4], self._new(directory, name))

    def _fifo(self, directory: int, name: int, _: int) -> None:
        os.mkfifo(self._new(directory, name))

    def _mode(self, which: int, mode: int, directory: int) -> None:
        path = self._one(which, directory=True) if directory % 2 else self._regular(which)
        os.chmod(path, (0o600, 0o755, 0o4711, 0o1777, 0o700)[mode % 5])

    def _owner(self, which: int, owner: int, directory: int) -> None:
        if os.geteuid() == 0:
            path = self._one(which, directory=bool(directory % 2))
            os.chown(path, owner, owner * 100_000, follow_symlinks=False)

    def _backdate(self, which: int, when: int, directory: int) -> None:
        path = self._one(which, directory=True) if directory % 2 else self._regular(which)
        os.utime(path, ns=(10**18, (when - 5) * 10**17 + 7))

    def _file_to_directory(self, which: int, _: int, __: int) -> None:
        path = self._regular(which)
        os.unlink(path)
        os.mkdir(path)
        with open(path + b"/in", "wb") as file:
            file.write(b"it was a file")

    def _directory_to_file(self, which: int, _: int, __: int) -> None:
        path = self._one(which, directory=True, root=False)
        shutil.rmtree(path)
        with open(path, "wb") as file:
            file.write(b"it was a directory")
