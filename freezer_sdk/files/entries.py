"""Writing the entries of a restore: files, links, FIFOs, sockets and devices; whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from freezer_sdk.errors import RestoreConflict, RestoreError
from freezer_sdk.files import posix
from freezer_sdk.files.attributes import AttributeWriter, Item, OpenHandle, PinnedHandle
from freezer_sdk.files.failures import explain
from freezer_sdk.files.folders import Folder, Workspace, is_plain_name
from freezer_sdk.files.nodes import make_node
from freezer_sdk.files.report import Reporter
from freezer_sdk.files.writer import FileWriter, data_ranges, write_all, write_at, write_sparse
from freezer_sdk.model import Buffer, RestoreOptions
from freezer_sdk.modes.base import FLAG_HARDLINK, Attributes

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_IN_PLACE = os.O_WRONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.EMLINK, errno.EXDEV, *posix.NOT_SUPPORTED)
_COPY = 1 << 20

StatRow = tuple[int, int, int, int, int, int, int, int]


class EntryWriter:
    """Makes entries under temporary names, sets their attributes, and gives them their names at last."""

    def __init__(
        self,
        workspace: Workspace,
        options: RestoreOptions,
        attributes: AttributeWriter,
        report: Reporter,
        *,
        exact_modes: bool = False,
    ) -> None:
        self._exact_modes = exact_modes  # the process has no umask
        self._workspace = workspace
        self._options = options
        self._attributes = attributes
        self._report = report
        self._dry_run = options.dry_run

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
        worker = self._workspace.worker()
        folder, name = worker.locate(path)
        temporary = worker.scratch
        there = folder.fd
        try:
            ranges = data_ranges(item.extras, item.attributes.size) if item.extras else None
            fd = os.open(temporary, _CREATE, 0o600, dir_fd=there)
            try:
                if ranges is not None and self._options.sparse:
                    os.ftruncate(fd, item.attributes.size)
                    write_sparse(fd, data, 0, ranges)
                elif len(data):
                    write_all(fd, data)
                self._attributes.apply(OpenHandle(fd), path, item, has=self._new(folder), existed=folder.default_acl)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=there, dst_dir_fd=there)
        except BaseException as error:
            _discard(folder, temporary)
            if isinstance(error, (OSError, ValueError)):
                raise self._explain(path, error) from error
            raise

    def write_new(self, directory: bytes, name: bytes, row: StatRow, data: Buffer) -> None:
        """As :meth:`write_file`, for what most files are: in a directory of this restore, without extras.

        Args:
            row: unpacked :data:`~freezer_sdk.modes.base.STAT`.

        Raises:
            RestoreError.
        """
        if self._dry_run or self._options.inplace or not is_plain_name(name):
            self.write_file(_join(directory, name), Item(Attributes(*row), ()), data)
            return
        worker = self._workspace.worker()
        folder = worker.folders.get(directory)
        there, temporary, attributes = folder.fd, worker.scratch, self._attributes
        mode = row[0] & 0o7777
        plain = attributes.is_plain(row[1], row[2], folder.gid) and not folder.default_acl
        at_once = self._exact_modes and plain and mode <= 0o777  # who may not read it cannot pass its directory yet
        try:
            fd = os.open(temporary, _CREATE, mode if at_once else 0o600, dir_fd=there)
            try:
                if (size := len(data)) and os.write(fd, data) != size:
                    write_at(fd, data, 0)  # rarely less than all is taken, or there is an error to tell
                if plain:
                    attributes.finish(fd, None if at_once else mode, row[5])
                else:
                    path, item = _join(directory, name), Item(Attributes(*row), ())
                    attributes.apply(OpenHandle(fd), path, item, has=self._new(folder), existed=folder.default_acl)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=there, dst_dir_fd=there)
        except BaseException as error:
            _discard(folder, temporary)
            if isinstance(error, (OSError, ValueError)):
                raise self._explain(_join(directory, name), error) from error
            raise

    def open_file(self, path: bytes, item: Item) -> FileWriter:
        """Restores a file piece by piece; from any thread.

        Raises:
            RestoreError: or this is a dry run.
        """
        if self._dry_run:
            raise RestoreError("a dry run writes no files")
        worker = self._workspace.worker()
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
            raise self._explain(path, error) from error

        def finish(fd: int) -> None:
            has = None if in_place else self._new(folder)
            self._attributes.apply(OpenHandle(fd), path, item, has=has, existed=in_place or folder.default_acl)
            if not in_place:
                here, name = self._workspace.worker().locate(path)
                os.rename(temporary, name, src_dir_fd=here.fd, dst_dir_fd=here.fd)

        def discard() -> None:
            if not in_place:
                with suppress(RestoreError):
                    _discard(self._workspace.worker().locate(path)[0], temporary)

        def reopen() -> int:
            here, name = self._workspace.worker().locate(path)
            return os.open(name if in_place else temporary, _IN_PLACE, dir_fd=here.fd)

        writer = FileWriter(
            fd,
            ranges=ranges,
            finish=finish,
            discard=discard,
            reopen=reopen,
            wrap=lambda error: self._explain(path, error),
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
        try:
            st = os.fstat(fd)
            if stat.S_ISREG(st.st_mode) and st.st_nlink == 1:  # another name may lie outside of the target
                os.fchmod(fd, 0o600)
                if sparse:
                    os.ftruncate(fd, 0)  # what is to be a hole may be data now
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def special(self, path: bytes, item: Item) -> None:
        """Restores a symbolic link, FIFO, socket or device.

        What the process may not make is a warning, once a kind.

        Raises:
            RestoreError.
        """
        if self._dry_run:
            return
        worker = self._workspace.worker()
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
                raise self._explain(path, error) from error
            raise

    def hardlink(self, path: bytes, first: bytes, item: Item) -> None:
        """Gives the file that was restored as ``first`` another name.

        Raises:
            RestoreError.
        """
        if self._dry_run:
            return
        worker = self._workspace.worker()
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
                    raise self._explain(path, error) from error
                self._report.warn(path, "hardlink", f"restored as a file of its own: {error.strerror}")
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
            raise self._explain(path, error) from error
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
        folder, name = self._workspace.worker().locate(path)
        try:
            self._pinned(folder, name, path, item, existed=True)
        except (OSError, ValueError) as error:
            raise self._explain(path, error) from error

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
            if item.extras and self._attributes.uid != 0:
                handle.chmod(stat.S_IMODE(st.st_mode) | stat.S_IWUSR)  # extended attributes need it
            self._attributes.apply(handle, path, item, has=(st.st_uid, st.st_gid), existed=existed)
        finally:
            os.close(fd)

    def _new(self, folder: Folder) -> tuple[int, int] | None:
        """The owner that a new entry gets, where that is certain."""
        attributes = self._attributes
        return (attributes.uid, attributes.gid) if folder.gid == attributes.gid else None

    def _explain(self, path: bytes, error: OSError | ValueError) -> RestoreError:
        return explain(path, self._workspace.path, error)


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _discard(folder: Folder, temporary: bytes) -> None:
    with suppress(OSError):
        os.unlink(temporary, dir_fd=folder.fd)
