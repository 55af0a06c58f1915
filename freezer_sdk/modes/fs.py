"""Mode ``fs``: files and directories of this machine, the output of a program, or standard input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.files import posix
from freezer_sdk.files.patterns import Patterns, read_patterns
from freezer_sdk.files.scan import Follow, LocalTree
from freezer_sdk.model import RestoreResult
from freezer_sdk.modes.base import Mode, Protected, Restorer, SnapshotGroup, SnapshotMaker, Stream
from freezer_sdk.options import Option
from freezer_sdk.streams.process import ProcessReader, open_descriptor

_STDIN = 0
_SYNC_PATIENCE = 10.0


class FilesystemMode(Mode):
    """Files and directories as they are, with everything that the file system knows about them.

    What changes while it is read is reported; from a volume snapshot all is read as of one moment.

    Args:
        paths: roots; relative ones start at the working directory. A trailing slash follows a symbolic link.
        excludes: gitignore-like patterns, see :mod:`freezer_sdk.files.patterns`.
        exclude_from: files of such patterns.
        exclude_caches: leave out the content of directories tagged by a ``CACHEDIR.TAG``.
        one_file_system: stay on the file systems that the roots lie on.
        follow: see :class:`~freezer_sdk.files.scan.Follow`.
        sync: have the kernel write out first what other programs wrote to these file systems; waits ten
            seconds at most.
        stdin: name under which standard input is stored.
        command: name under which the output of ``command_arguments`` is stored.

    Raises:
        ConfigurationError: nothing to back up, or half of a command.
    """

    name: ClassVar[str] = "fs"
    api_version: ClassVar[int] = API_VERSION
    takes_snapshots: ClassVar[bool] = True
    summary: ClassVar[str] = "files and directories, the output of a program, or standard input"
    options: ClassVar[tuple[Option, ...]] = (
        Option(name="paths", type="path", multiple=True, default=(), help="Files and directories to back up."),
        Option(name="excludes", multiple=True, default=(), help="Leave out what matches, as in .gitignore."),
        Option(name="exclude_from", type="path", multiple=True, default=(), help="Files of exclude patterns."),
        Option(
            name="exclude_caches", type="bool", default=False, help="Leave out directories tagged by a CACHEDIR.TAG."
        ),
        Option(name="one_file_system", type="bool", default=False, help="Do not enter other file systems."),
        Option(
            name="follow",
            choices=tuple(Follow),
            default=str(Follow.NONE),
            help="Links stored as what they lead to: symbolic (soft), hard or all.",
        ),
        Option(name="sync", type="bool", default=True, help="Flush the system's write cache before reading."),
        Option(name="stdin", help="Store standard input as a file of this name."),
        Option(name="command", help="Store the output of a program as a file of this name."),
        Option(name="command_arguments", multiple=True, default=(), help="The program and its arguments; no shell."),
    )

    def __init__(
        self,
        *,
        paths: Sequence[str | bytes | os.PathLike[str]] = (),
        excludes: Sequence[str] = (),
        exclude_from: Sequence[str] = (),
        exclude_caches: bool = False,
        one_file_system: bool = False,
        follow: str = Follow.NONE,
        sync: bool = True,
        stdin: str | None = None,
        command: str | None = None,
        command_arguments: Sequence[str] = (),
    ) -> None:
        self._paths = tuple(paths)
        self._excludes = tuple(excludes)
        self._exclude_from = tuple(exclude_from)
        self._exclude_caches = exclude_caches
        self._one_file_system = one_file_system
        self._follow = Follow(follow)
        self._sync = sync
        self._stdin = stdin
        self._command = command
        self._arguments = tuple(command_arguments)
        if (command is None) != (not self._arguments):
            raise ConfigurationError(
                "a command needs both the name of its output and a program",
                hint="for example: --command db.sql -- pg_dump mydb",
            )
        for name in (stdin, command):
            if name is not None:
                _check_stream_name(name)
        if stdin is not None and stdin == command:
            raise ConfigurationError(f"standard input and the command's output are both named {stdin!r}")

    @contextmanager
    def protect(self, *, snapshots: SnapshotMaker | None = None) -> Iterator[Protected]:
        """Hands over the tree and the streams.

        Args:
            snapshots: makes volume snapshots to read the tree from.

        Raises:
            ConfigurationError: nothing to back up, an exclude file that cannot be read, a terminal as input, or a
                snapshot without paths.
            SnapshotError.
        """
        lines: list[str | bytes] = list(self._excludes)
        for path in self._exclude_from:
            lines += read_patterns(path)
        streams = list(self._streams())
        if not streams and not self._paths:
            raise ConfigurationError(
                "nothing to back up", hint="name files or directories, --stdin NAME, or --command NAME -- PROGRAM ..."
            )
        if snapshots is not None and not self._paths:
            raise ConfigurationError(
                "there are no paths to make a volume snapshot of, only streams", hint="leave the snapshot out (none)"
            )
        if self._paths and self._sync:
            posix.sync(map(_root, self._paths), patience=_SYNC_PATIENCE)
        excludes = tuple(os.fsdecode(line) for line in lines)
        if snapshots is None:
            trees = [self._tree(Patterns(lines))] if self._paths else []
            yield Protected(sources=[*trees, *streams], excludes=excludes)
            return
        with snapshots([Path(os.fsdecode(_root(path))) for path in self._paths]) as group:
            yield Protected(
                sources=[self._tree(Patterns(lines), group), *streams],
                facts={"snapshot": group.facts},
                excludes=excludes,
                confirm=lambda: group.check() or {},
            )

    def _tree(self, patterns: Patterns, snapshot: SnapshotGroup | None = None) -> LocalTree:
        return LocalTree(
            [_root(path) for path in self._paths],
            patterns=patterns,
            one_file_system=self._one_file_system,
            exclude_caches=self._exclude_caches,
            follow=self._follow,
            snapshot=snapshot,
        )

    def _streams(self) -> Iterator[Stream]:
        if self._stdin is not None:
            if os.isatty(_STDIN):
                raise ConfigurationError("standard input is a terminal", hint="pipe or redirect something into it")
            yield Stream(name=self._stdin, open=lambda: open_descriptor(_STDIN))
        name = self._command
        if name is not None:
            yield Stream(name=name, open=lambda: ProcessReader(self._arguments, name=name))

    def restore(self, restorer: Restorer, target: str) -> RestoreResult:
        """Brings files and streams back below the target.

        Raises:
            RestoreError.
        """
        return restorer.files(target)

    def default_name(self) -> str | None:
        """The name of the stream, when there are no paths."""
        return None if self._paths else self._command or self._stdin


def _check_stream_name(name: str) -> None:
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise ConfigurationError(f"not a file name: {name!r}")


def _root(path: str | bytes | os.PathLike[str]) -> bytes:
    raw = os.fsencode(path)
    if not raw:
        raise ConfigurationError("an empty path cannot be backed up")
    if raw.endswith(b"/"):
        return os.path.realpath(raw)
    if b".." in raw.split(b"/"):  # behind a symbolic link, .. is not what it looks like
        return os.path.join(os.path.realpath(os.path.dirname(raw)), os.path.basename(raw))
    return os.path.abspath(raw)
