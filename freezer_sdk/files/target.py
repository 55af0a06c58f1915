"""The target of a restore: nothing is ever written outside of it, and nothing half restored looks whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NamedTuple, Self

from freezer_sdk.errors import RestoreConflict, RestoreError
from freezer_sdk.files import posix
from freezer_sdk.files.attributes import AttributeWriter, Item, OpenHandle
from freezer_sdk.files.conflict import Decision, Policy
from freezer_sdk.files.delete import Remover
from freezer_sdk.files.entries import EntryWriter
from freezer_sdk.files.failures import TargetUnusable
from freezer_sdk.files.folders import Folder, Workspace, check_name, look, open_folder
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.report import Reporter
from freezer_sdk.files.writer import FileWriter
from freezer_sdk.files.writer_process import WriterProcess
from freezer_sdk.model import PlannedAction, RestoreOptions
from freezer_sdk.modes.base import (
    FLAG_INCOMPLETE,
    FLAG_NOT_DESCENDED,
    STAT,
    Attributes,
    Extra,
    Extras,
    ProblemHandler,
)

__all__ = ["Decision", "FileWriter", "Item", "RestoreTarget", "TargetUnusable"]

_MADE_BY_MKFS = b"lost+found"
_MOST_PENDING = 16 << 20  # bytes of extended attributes of directories
_LARGE_XATTR = 4096  # lists of access rights are smaller: those must wait until everything is in a directory


class _Pending(NamedTuple):
    """What a directory gets when everything in it is done: attributes, or only the mode that it had."""

    attributes: bytes  # packed, since there may be millions
    extras: Extras = ()
    existed: bool = False
    mode: int | None = None


class RestoreTarget(EntryWriter):
    """Where a restore writes. Paths are relative to the target, ``b""`` is the target itself.

    Parents come before what they hold. ``write_file``, ``open_file`` and what they give may be used by several
    threads, everything else by one. In a dry run nothing is written: ``decide``, ``directory`` and ``finish``
    fill ``plan``, all else does nothing.

    An entry that cannot be restored raises a RestoreError, and the restore may go on with the next one, unless the
    error is a :class:`TargetUnusable`. Directories report instead, since what they hold will fail and say so.

    Args:
        path: the target; made if it is not there.
        users, groups: recorded names of owners, by number.
        keep: exclude patterns of the backup: ``delete`` leaves alone what they match.
        origin: recorded absolute path of what the target itself stands for.
        roots: recorded roots, for patterns relative to them.

    Attributes:
        plan: what a dry run would do.
        deleted: number of removed entries.

    Raises:
        RestoreConflict: on entering: the target is not empty, and nothing says what to do with its content.
        RestoreError: on entering: it cannot be made or opened.
    """

    def __init__(
        self,
        path: str,
        options: RestoreOptions,
        *,
        problem: ProblemHandler,
        users: Mapping[int, str],
        groups: Mapping[int, str],
        keep: Sequence[str] = (),
        origin: bytes = b"/",
        roots: Sequence[bytes] = (),
    ) -> None:
        report = Reporter(problem)
        super().__init__(Workspace(path), options, AttributeWriter(options, report, users, groups), report)
        self._users, self._groups = users, groups
        self.plan: list[PlannedAction] = []
        self.deleted = 0
        self._fresh = self._workspace.fresh
        self._keep = Patterns(keep)
        self._origin = origin.rstrip(b"/") + b"/"
        self._keep_roots = tuple(dict.fromkeys((b"/", origin, *roots)))
        self._remover = Remover(report, keeps=self._keeps, removed=self._removed, dry_run=options.dry_run)
        self._policy = Policy(options, self._remover)
        self._pending: dict[bytes, _Pending] = {}
        self._pending_bytes = 0
        self._doomed: list[tuple[bytes, list[bytes]]] = []

    def __enter__(self) -> Self:
        try:
            if not self._dry_run:
                os.makedirs(self._workspace.path, exist_ok=True)
            fd = os.open(self._workspace.path, posix.READ_DIRECTORY)
        except (FileExistsError, NotADirectoryError) as error:
            raise RestoreConflict(f"the target {self._workspace.path} is no directory") from error
        except (OSError, ValueError) as error:
            if self._dry_run and isinstance(error, FileNotFoundError):
                self._fresh.add(b"")
                return self
            reason = error.strerror if isinstance(error, OSError) else error
            raise RestoreError(f"cannot use the target {self._workspace.path!r}: {reason}") from error
        try:
            self._check_content(fd)
            self._workspace.root = open_folder(fd, fresh=False)
        except BaseException:
            os.close(fd)
            raise
        return self

    def _check_content(self, fd: int) -> None:
        found = {os.fsencode(name) for name in os.listdir(fd)}
        if not found:
            self._fresh.add(b"")
        elif found != {_MADE_BY_MKFS} and not self._policy.accepts_content:
            raise RestoreConflict(
                f"the target {self._workspace.path} is not empty",
                hint="choose another target, or say with --overwrite what to do with its files",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workspace.close()

    # -- directories ---------------------------------------------------------------------------------------

    def directory(self, path: bytes, item: Item, *, names: Collection[bytes] | None = None) -> None:
        """Makes a directory; its attributes are set by :meth:`finish`.

        Args:
            names: all recorded names in it, when others may be deleted; ``None``: delete nothing in it.

        Raises:
            TargetUnusable: everything else is reported.
        """
        existed = self._make(path, 0o700, item)
        if existed is None:
            return
        if not (existed and self._policy.keeps) and not self._dry_run:
            extras: Extras = [fact for fact in item.extras if fact[0] == Extra.XATTR]
            self._pending_bytes += sum(len(value) for _tag, value in extras)
            if self._pending_bytes > _MOST_PENDING and not existed:
                extras = self._set_large(path, item, extras)
            self._pending[path] = _Pending(STAT.pack(*item.attributes), extras, existed)
        if (
            existed
            and names is not None
            and self._options.delete
            and not item.attributes.flags & (FLAG_NOT_DESCENDED | FLAG_INCOMPLETE)
        ):
            self._doom(path, names)

    def _set_large(self, path: bytes, item: Item, extras: Extras) -> Extras:
        """Sets large extended attributes now, so that they need not be kept; gives the others."""
        large = [fact for fact in extras if len(fact[1]) > _LARGE_XATTR]
        with self._reported(path):
            if large:
                folder = self._workspace.worker().folders.get(path)
                open_for_us = item.attributes._replace(mode=item.attributes.mode | stat.S_IRWXU)
                self._attributes.apply(OpenHandle(folder.fd), path, Item(open_for_us, large))
        self._pending_bytes -= sum(len(value) for _tag, value in large)
        return [fact for fact in extras if len(fact[1]) <= _LARGE_XATTR]

    def implied_directory(self, path: bytes) -> None:
        """Makes a directory that only leads to chosen entries, with the attributes of any new one.

        Raises:
            TargetUnusable: everything else is reported.
        """
        self._make(path, 0o777, None)

    def _make(self, path: bytes, mode: int, item: Item | None) -> bool | None:
        """Makes sure that a directory is there; returns whether it was, or ``None`` if it is not now."""
        if not path:
            return path not in self._fresh
        try:
            check_name(path[path.rfind(b"/") + 1 :], path)
            return self._made(path, mode, item)
        except RestoreError as error:
            self._report.fatal(path, error.code, str(error))
        except OSError as error:
            failure = self._explain(path, error)
            if isinstance(failure, TargetUnusable):
                raise failure from error
            self._report.fatal(path, "unwritable", str(failure))
        return None

    def _made(self, path: bytes, mode: int, item: Item | None) -> bool:
        parent, _, name = path.rpartition(b"/")
        if self._dry_run and parent in self._fresh:
            self._fresh.add(path)
            self._planned("create", path)
            return False
        folder = self._workspace.worker().folders.get(parent)
        st = None if parent in self._fresh else look(folder, name)
        if st is not None and stat.S_ISDIR(st.st_mode):
            self._make_usable(folder, name, path, st)
            same = item is None or self._policy.keeps or self._has_attributes(item.attributes, st)
            self._planned("same" if same else "metadata", path)
            return True
        if st is not None:
            self._policy.clear_for_directory(folder, name, path)
        self._planned("create" if st is None else "replace", path)
        if not self._dry_run:
            try:
                os.mkdir(name, mode, dir_fd=folder.fd)
            except FileExistsError:
                if st is None and parent in self._fresh:  # two roots share a parent, or somebody was faster
                    return self._found(folder, name, path)
                raise
            if folder.default_acl:
                posix.forget_acl(folder.fd, name)
        self._fresh.add(path)
        return False

    def _found(self, folder: Folder, name: bytes, path: bytes) -> bool:
        st = look(folder, name)
        if st is None or not stat.S_ISDIR(st.st_mode):
            raise RestoreConflict(f"{os.fsdecode(path)!r} is in the way of a directory")
        return path not in self._fresh

    def _make_usable(self, folder: Folder, name: bytes, path: bytes, st: os.stat_result) -> None:
        """Lets an unprivileged owner write into a directory until :meth:`finish`."""
        mode = stat.S_IMODE(st.st_mode)
        if self._dry_run or self._attributes.uid == 0 or mode & stat.S_IRWXU == stat.S_IRWXU:
            return
        with suppress(OSError):  # then what it holds cannot be written, and says so
            posix.chmod_entry(folder.fd, name, mode | stat.S_IRWXU)
            self._pending.setdefault(path, _Pending(b"", mode=mode))

    # -- decisions -----------------------------------------------------------------------------------------

    def made(self, directory: bytes) -> bool:
        """Whether this restore made a directory, so that nothing can be in the way of what it holds."""
        return directory in self._fresh

    def writer_process(self, key: bytes) -> WriterProcess | None:
        """Another process for ``write_new``; ``None``: there can be none here.

        Args:
            key: of the hashes of the content that it will be given.
        """
        root = self._workspace.root
        if root is None or self._dry_run or self._options.inplace or not WriterProcess.possible():
            return None
        try:
            return WriterProcess(root.fd, self._options, key=key, users=self._users, groups=self._groups)
        except OSError:  # too many processes, say
            return None

    def decide(self, path: bytes, item: Item) -> Decision:
        """What to do with an entry that is no directory, by the overwrite policy.

        A name of a hard-link group that is not its first goes to :meth:`hardlink` unless it is skipped.

        Raises:
            RestoreConflict: something is in the way that must not be replaced.
            RestoreError: its directory is not there, or leads out of the target.
        """
        parent, _, name = path.rpartition(b"/")
        if parent in self._fresh:
            self._planned("create", path, item.attributes)
            return Decision.WRITE
        folder, name = self._workspace.worker().locate(path)
        st = look(folder, name)
        if st is None:
            self._planned("create", path, item.attributes)
            return Decision.WRITE
        try:
            decision = self._policy.decide(folder, name, path, item, st)
        except (OSError, ValueError) as error:
            raise self._explain(path, error) from error
        if self._dry_run:
            actions = {Decision.WRITE: "replace", Decision.SKIP: "skip", Decision.METADATA: "metadata"}
            unchanged = decision is Decision.METADATA and self._has_attributes(item.attributes, st)
            self._planned("same" if unchanged else actions[decision], path, item.attributes)
        return decision

    def _has_attributes(self, attributes: Attributes, st: os.stat_result) -> bool:
        if (st.st_mode, st.st_mtime_ns) != (attributes.mode, attributes.mtime):
            return False
        return not self._attributes.sets_owner or (st.st_uid, st.st_gid) == self._attributes.wanted_owner(attributes)

    def exists(self, path: bytes) -> bool:
        """Whether the target has an entry."""
        if not path or self._workspace.root is None:
            return self._workspace.root is not None
        try:
            folder, name = self._workspace.worker().locate(path)
        except RestoreError:
            return False
        return look(folder, name) is not None

    def take_back(self, made: Iterable[tuple[bytes, bool]]) -> None:
        """Removes what this restore made, as if it had not begun; by the thread that made it.

        Args:
            made: paths, and whether each is a directory; what a directory holds comes before it. The target itself
                stays, and so does a directory in which somebody else has put something.
        """
        worker = self._workspace.worker()
        for path, is_directory in made:
            if path:
                with suppress(RestoreError, OSError):
                    folder, name = worker.locate(path)
                    (os.rmdir if is_directory else os.unlink)(name, dir_fd=folder.fd)
                self._fresh.discard(path)
                self._pending.pop(path, None)
        worker.folders.close()

    # -- the end -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Deletes what is to be deleted, then sets the attributes of directories, deepest first.

        Raises:
            TargetUnusable.
        """
        if self._workspace.root is not None:
            folders = self._workspace.worker().folders
            for path, names in self._doomed:
                with self._reported(path):
                    folder = folders.get(path)
                    for name in names:
                        self._remover.remove(folder.fd, name, path + b"/" + name if path else name)
            while self._pending:  # deepest first: a directory's time changes with what is in it
                path, pending = self._pending.popitem()
                with self._reported(path):
                    self._settle(folders.get(path), path, pending)
        self._report.close()

    def _settle(self, folder: Folder, path: bytes, pending: _Pending) -> None:
        if pending.mode is not None:
            os.fchmod(folder.fd, pending.mode)
            return
        item = Item(Attributes(*STAT.unpack(pending.attributes)), pending.extras)
        self._attributes.apply(OpenHandle(folder.fd), path, item, existed=pending.existed)

    def _doom(self, path: bytes, names: Collection[bytes]) -> None:
        """Remembers what a directory has beyond the recorded names."""
        with self._reported(path):
            known = names if isinstance(names, (set, frozenset)) else set(names)
            found = (os.fsencode(name) for name in os.listdir(self._workspace.worker().folders.get(path).fd))
            extra = sorted(name for name in found if name not in known)
            if extra:
                self._doomed.append((path, extra))

    def _keeps(self, path: bytes, is_directory: bool) -> bool:
        """Whether ``delete`` has to leave an entry alone."""
        if path == _MADE_BY_MKFS:
            return True
        if not self._keep:
            return False
        recorded = self._origin + path
        if self._keep.excludes(b"/" + path, is_directory=is_directory):
            return True
        roots = (root for root in self._keep_roots if recorded.startswith(root))
        return any(self._keep.excludes(recorded, is_directory=is_directory, root=root) for root in roots)

    def _removed(self, path: bytes) -> None:
        self._planned("delete", path)
        self.deleted += not self._dry_run

    # -- helpers -------------------------------------------------------------------------------------------

    def _planned(self, action: str, path: bytes, attributes: Attributes | None = None) -> None:
        if self._dry_run:
            self.plan.append(PlannedAction(action=action, path=path, size=attributes.size if attributes else 0))

    @contextmanager
    def _reported(self, path: bytes) -> Iterator[None]:
        """Turns a failure into a problem, so that the next directory has its turn."""
        try:
            yield
        except TargetUnusable:
            raise
        except RestoreError as error:
            self._report.fatal(path, error.code, str(error))
        except (OSError, ValueError) as error:
            self._report.fatal(path, "unwritable", str(self._explain(path, error)))
