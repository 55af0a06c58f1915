"""The target of a restore: nothing is ever written outside of it, and nothing half restored looks whole."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NamedTuple, Self

from freezer_sdk.errors import RestoreConflict, RestoreError
from freezer_sdk.files import posix
from freezer_sdk.files.attributes import AttributeWriter, Item, OpenHandle, PinnedHandle
from freezer_sdk.files.conflict import Decision, Policy
from freezer_sdk.files.delete import Remover
from freezer_sdk.files.folders import Folder, Folders, Worker, check_name, open_folder
from freezer_sdk.files.nodes import make_node
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.report import Reporter
from freezer_sdk.files.writer import FileWriter, data_ranges, write_all, write_sparse
from freezer_sdk.model import Buffer, PlannedAction, RestoreOptions
from freezer_sdk.modes.base import (
    FLAG_HARDLINK,
    FLAG_INCOMPLETE,
    FLAG_NOT_DESCENDED,
    STAT,
    Attributes,
    Extras,
    ProblemHandler,
)

__all__ = ["Decision", "FileWriter", "Item", "RestoreTarget", "TargetUnusable"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_IN_PLACE = os.O_WRONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS = (errno.EPERM, errno.EMLINK, errno.EXDEV, *posix.NOT_SUPPORTED)
_MADE_BY_MKFS = b"lost+found"
_COPY = 1 << 20


class TargetUnusable(RestoreError):
    """Nothing more can be written; the restore ends here."""

    ends_restore = True


class _Pending(NamedTuple):
    """Attributes that a directory gets when everything in it is done."""

    attributes: bytes  # packed, since there may be millions
    extras: Extras
    existed: bool


class RestoreTarget:
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
        self.plan: list[PlannedAction] = []
        self.deleted = 0
        self._path = path
        self._options = options
        self._dry_run = options.dry_run
        self._report = Reporter(problem)
        self._attributes = AttributeWriter(options, self._report, users, groups)
        self._keep = Patterns(keep)
        self._origin = origin.rstrip(b"/") + b"/"
        self._keep_roots = tuple(dict.fromkeys((b"/", origin, *roots)))
        self._remover = Remover(self._report, keeps=self._keeps, removed=self._removed, dry_run=options.dry_run)
        self._policy = Policy(options, self._remover)
        self._fresh: set[bytes] = set()  # directories without content that is not ours
        self._pending: dict[bytes, _Pending] = {}
        self._modes: dict[bytes, int] = {}  # of directories made writable for a while
        self._doomed: list[tuple[bytes, list[bytes]]] = []
        self._root: Folder | None = None
        self._local = threading.local()
        self._workers: list[Worker] = []
        self._prefix = b".freezer-" + secrets.token_hex(6).encode()

    def __enter__(self) -> Self:
        try:
            if not self._dry_run:
                os.makedirs(self._path, exist_ok=True)
            fd = os.open(self._path, posix.READ_DIRECTORY)
        except (FileExistsError, NotADirectoryError) as error:
            raise RestoreConflict(f"the target {self._path} is no directory") from error
        except OSError as error:
            if self._dry_run and error.errno == errno.ENOENT:
                self._fresh.add(b"")
                return self
            raise RestoreError(f"cannot use the target {self._path}: {error.strerror}") from error
        try:
            self._root = open_folder(fd, fresh=False)
            self._check_content(fd)
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
                f"the target {self._path} is not empty",
                hint="choose another target, or say what to do with its files: --overwrite always|if-changed|never",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.folders.close()
        if self._root is not None:
            os.close(self._root.fd)
            self._root = None

    # -- directories ---------------------------------------------------------------------------------------

    def directory(self, path: bytes, item: Item, *, names: Collection[bytes] | None = None) -> None:
        """Makes a directory; its attributes are set by :meth:`finish`.

        Args:
            names: all recorded names in it, when others may be deleted; ``None``: delete nothing in it.

        Raises:
            UnsafePath: not a path below the target.
            TargetUnusable.
        """
        existed = self._make(path, 0o700, item)
        if existed is None or (self._dry_run and not existed):
            return
        if not (existed and self._policy.keeps):
            self._pending[path] = _Pending(STAT.pack(*item.attributes), item.extras, existed)
        if (
            existed
            and names is not None
            and self._options.delete
            and not item.attributes.flags & (FLAG_NOT_DESCENDED | FLAG_INCOMPLETE)
        ):
            self._doom(path, names)

    def implied_directory(self, path: bytes) -> None:
        """Makes a directory that only leads to chosen entries, with the attributes of any new one.

        Raises:
            UnsafePath: not a path below the target.
            TargetUnusable.
        """
        self._make(path, 0o777, None)

    def _make(self, path: bytes, mode: int, item: Item | None) -> bool | None:
        """Makes sure that a directory is there; returns whether it was, or ``None`` if it is not now."""
        if not path:
            return path not in self._fresh
        check_name(path[path.rfind(b"/") + 1 :], path)
        try:
            return self._made(path, mode, item)
        except RestoreError as error:
            self._report.fatal(path, error.code, str(error))
        except OSError as error:
            failure = self._wrap(path, error)
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
        folder = self._worker().folders.get(parent)
        st = None if parent in self._fresh else _look(folder, name)
        if st is not None and stat.S_ISDIR(st.st_mode):
            self._make_usable(folder, name, path, st)
            self._planned("metadata" if item and not self._policy.keeps else "same", path)
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
        st = _look(folder, name)
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
            self._modes.setdefault(path, mode)

    # -- decisions -----------------------------------------------------------------------------------------

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
        folder, name = self._worker().locate(path)
        st = _look(folder, name)
        if st is None:
            self._planned("create", path, item.attributes)
            return Decision.WRITE
        try:
            decision = self._policy.decide(folder, name, path, item, st)
        except (OSError, ValueError) as error:
            raise self._wrap(path, error) from error
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
        if not path or self._root is None:
            return self._root is not None
        try:
            folder, name = self._worker().locate(path)
        except RestoreError:
            return False
        return _look(folder, name) is not None

    # -- entries -------------------------------------------------------------------------------------------

    def write_file(self, path: bytes, item: Item, data: Buffer) -> None:
        """Restores a whole file; from any thread.

        Raises:
            RestoreError.
        """
        if self._dry_run:
            return
        if self._options.inplace:
            with self.open_file(path, item) as writer:
                writer.write_at(0, data)
                writer.commit()
            return
        worker = self._worker()
        folder, name = worker.locate(path)
        temporary = worker.temporary()
        try:
            ranges = data_ranges(item.extras, item.attributes.size) if item.extras else None
            fd = os.open(temporary, _CREATE, 0o600, dir_fd=folder.fd)
            try:
                if ranges is not None and self._options.sparse:
                    os.ftruncate(fd, item.attributes.size)
                    write_sparse(fd, data, 0, ranges)
                elif len(data):
                    write_all(fd, data)
                self._attributes.apply(OpenHandle(fd), path, item, has=self._new(folder), existed=folder.default_acl)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except BaseException as error:
            _discard(folder, temporary)
            if isinstance(error, (OSError, ValueError)):
                raise self._wrap(path, error) from error
            raise

    def open_file(self, path: bytes, item: Item) -> FileWriter:
        """Restores a file piece by piece; from any thread.

        Raises:
            RestoreError: or this is a dry run.
        """
        if self._dry_run:
            raise RestoreError("a dry run writes no files")
        worker = self._worker()
        folder, name = worker.locate(path)
        size = item.attributes.size
        temporary = worker.temporary()
        try:
            ranges = data_ranges(item.extras, size)
            fd = self._open_in_place(folder, name, sparse=ranges is not None) if self._options.inplace else None
            in_place = fd is not None
            if fd is None:
                fd = os.open(temporary, _CREATE, 0o600, dir_fd=folder.fd)
        except (OSError, ValueError) as error:
            raise self._wrap(path, error) from error

        def finish(fd: int) -> None:
            has = None if in_place else self._new(folder)
            self._attributes.apply(OpenHandle(fd), path, item, has=has, existed=in_place or folder.default_acl)
            if not in_place:
                here, name = self._worker().locate(path)
                os.rename(temporary, name, src_dir_fd=here.fd, dst_dir_fd=here.fd)

        def discard() -> None:
            if not in_place:
                with suppress(RestoreError):
                    _discard(self._worker().locate(path)[0], temporary)

        writer = FileWriter(
            fd, ranges=ranges, finish=finish, discard=discard, wrap=lambda error: self._wrap(path, error)
        )
        try:
            writer.resize(size, allocate=ranges is not None and not self._options.sparse)
        except BaseException:
            writer.abort()
            raise
        return writer

    def _open_in_place(self, folder: Folder, name: bytes, *, sparse: bool) -> int | None:
        """An existing file, ready to be written over; ``None``: it has to be replaced."""
        try:
            fd = os.open(name, _IN_PLACE, dir_fd=folder.fd)
        except OSError:
            return None
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode) or st.st_nlink > 1:  # another name may lie outside of the target
            os.close(fd)
            return None
        os.fchmod(fd, 0o600)
        if sparse:
            os.ftruncate(fd, 0)  # what is to be a hole may be data now
        return fd

    def special(self, path: bytes, item: Item) -> None:
        """Restores a symbolic link, FIFO, socket or device.

        What the process may not make is a warning, once a kind.

        Raises:
            RestoreError.
        """
        if self._dry_run:
            return
        worker = self._worker()
        folder, name = worker.locate(path)
        temporary = worker.temporary()
        try:
            if not make_node(folder.fd, temporary, path, item, self._report):
                return
            self._pinned(folder, temporary, path, item, existed=folder.default_acl)
            os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except BaseException as error:
            _discard(folder, temporary)
            if isinstance(error, (OSError, ValueError)):
                raise self._wrap(path, error) from error
            raise

    def hardlink(self, path: bytes, first: bytes, item: Item) -> None:
        """Gives the file that was restored as ``first`` another name.

        Raises:
            RestoreError.
        """
        if self._dry_run:
            return
        worker = self._worker()
        source, source_name = worker.locate(first)
        source_fd = os.dup(source.fd)  # looking up the other directory may close this one
        try:
            folder, name = worker.locate(path)
            temporary = worker.temporary()
            try:
                os.link(source_name, temporary, src_dir_fd=source_fd, dst_dir_fd=folder.fd, follow_symlinks=False)
                os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise self._wrap(path, error) from error
                self._report.warn(path, "hardlink", f"stored as a file of its own: {error.strerror}")
            else:
                return
            finally:
                _discard(folder, temporary)  # renaming does nothing when both names lead to one file already
            self._copy(path, source_fd, source_name, item)
        finally:
            os.close(source_fd)

    def _copy(self, path: bytes, source_fd: int, source_name: bytes, item: Item) -> None:
        if not stat.S_ISREG(item.attributes.mode):
            self.special(path, item)
            return
        try:
            fd = posix.open_regular(source_name, dir_fd=source_fd)
        except OSError as error:
            raise self._wrap(path, error) from error
        try:
            with self.open_file(path, item) as writer:
                offset = 0
                while data := os.pread(fd, _COPY, offset):
                    writer.write_at(offset, data)
                    offset += len(data)
                writer.commit()
        finally:
            os.close(fd)

    def metadata(self, path: bytes, item: Item) -> None:
        """Sets the attributes of an entry whose content is there already.

        Raises:
            RestoreError: or it is not the entry any more that was decided on.
        """
        if self._dry_run:
            return
        folder, name = self._worker().locate(path)
        try:
            self._pinned(folder, name, path, item, existed=True)
        except (OSError, ValueError) as error:
            raise self._wrap(path, error) from error

    def _pinned(self, folder: Folder, name: bytes, path: bytes, item: Item, *, existed: bool) -> None:
        """Sets attributes of an entry by name, after checking that the name leads to what it should."""
        fd = posix.pin(folder.fd, name)
        try:
            st = os.fstat(fd)
            if stat.S_IFMT(st.st_mode) != stat.S_IFMT(item.attributes.mode) or (
                st.st_nlink > 1 and not item.attributes.flags & FLAG_HARDLINK
            ):
                raise RestoreConflict(f"{os.fsdecode(path)!r} was replaced by somebody else meanwhile")
            handle = PinnedHandle(fd, symlink=stat.S_ISLNK(st.st_mode))
            self._attributes.apply(handle, path, item, has=(st.st_uid, st.st_gid), existed=existed)
        finally:
            os.close(fd)

    # -- the end -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Deletes what is to be deleted, then sets the attributes of directories, deepest first.

        Raises:
            TargetUnusable.
        """
        folders = self._worker().folders
        for path, names in self._doomed:
            with self._reported(path):
                folder = folders.get(path)
                for name in names:
                    self._remover.remove(folder.fd, name, path + b"/" + name if path else name)
        self._doomed.clear()
        if not self._dry_run:
            while self._pending:
                path, pending = self._pending.popitem()
                self._modes.pop(path, None)
                with self._reported(path):
                    handle = OpenHandle(folders.get(path).fd)
                    item = Item(Attributes(*STAT.unpack(pending.attributes)), pending.extras)
                    self._attributes.apply(handle, path, item, existed=pending.existed)
            while self._modes:
                path, mode = self._modes.popitem()
                with self._reported(path):
                    os.fchmod(folders.get(path).fd, mode)
        self._report.close()

    def _doom(self, path: bytes, names: Collection[bytes]) -> None:
        """Remembers what a directory has beyond the recorded names."""
        with self._reported(path):
            known = names if isinstance(names, (set, frozenset)) else set(names)
            found = (os.fsencode(name) for name in os.listdir(self._worker().folders.get(path).fd))
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

    def _worker(self) -> Worker:
        worker: Worker | None = getattr(self._local, "worker", None)
        if worker is None:
            if self._root is None:
                raise RestoreError(f"the target {self._path} is not open")
            worker = Worker(Folders(self._root, self._fresh), b"%s-%x" % (self._prefix, len(self._workers)))
            self._workers.append(worker)
            self._local.worker = worker
        return worker

    def _new(self, folder: Folder) -> tuple[int, int] | None:
        """The owner that a new entry gets, where that is certain."""
        attributes = self._attributes
        return (attributes.uid, attributes.gid) if folder.gid == attributes.gid else None

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
            self._report.fatal(path, "unwritable", str(self._wrap(path, error)))

    def _wrap(self, path: bytes, error: OSError | ValueError) -> RestoreError:
        shown = os.fsdecode(path) or self._path
        if not isinstance(error, OSError):
            return RestoreError(f"cannot restore {shown!r}: {error}")
        if error.errno in _FULL:
            message = f"no space left in the target {self._path}"
            return TargetUnusable(message, hint="free some space and restore again with --overwrite if-changed")
        if error.errno == errno.EROFS:
            return TargetUnusable(f"the target {self._path} is read-only")
        return RestoreError(f"cannot restore {shown!r}: {error.strerror}")


def _look(folder: Folder, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _discard(folder: Folder, temporary: bytes) -> None:
    with suppress(OSError):
        os.unlink(temporary, dir_fd=folder.fd)
