"""One SFTP server as a storage sees it: sessions to ask it, and its answers as errors of this library."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence

from freezer_sdk.errors import ChecksumMismatch, InvalidName, ObjectNotFound, StorageError, StorageUnavailable
from freezer_sdk.model import Buffer
from freezer_sdk.storages._sftp_answers import Attributes, Code, ServerStatus
from freezer_sdk.storages._sftp_barrier import Barrier
from freezer_sdk.storages._sftp_files import PRIVATE, Files, TempFile
from freezer_sdk.storages._sftp_listing import Names, moment, read_folders
from freezer_sdk.storages._sftp_place import Place, explain
from freezer_sdk.storages._sftp_pool import Member, SessionPool
from freezer_sdk.storages._sftp_session import READ, ConnectionLost, Session
from freezer_sdk.storages._sftp_transfer import Download
from freezer_sdk.storages.base import ObjectInfo, check_name

RESERVED = (PRIVATE, "lost+found")
"""Names in the root that are no objects."""


class Server:
    """What all calls of a storage share.

    Args:
        location: for messages.
    """

    def __init__(self, place: Place, pool: SessionPool, location: str) -> None:
        self.place = place
        self.pool = pool
        self.files = Files(place)
        self.barrier = Barrier(place, self.files, pool)
        self._location = location

    @contextlib.contextmanager
    def leasing(self, what: str, *, writing: bool = False, member: Member | None = None) -> Iterator[Member]:
        """A connection for the body, whose errors become those of this library."""
        try:
            with self.pool.use(member) as leased, self.explaining(leased.link.session, what, writing=writing):
                yield leased
        except ConnectionLost as error:
            raise StorageUnavailable(f"{what}: {error}") from error

    @contextlib.contextmanager
    def asking(self, what: str, *, writing: bool = False) -> Iterator[Session]:
        """As :meth:`leasing`, for calls that end before they return."""
        with self.leasing(what, writing=writing) as member:
            yield member.link.session

    @contextlib.contextmanager
    def explaining(self, session: Session, what: str, *, writing: bool = False) -> Iterator[None]:
        """Turns refusals of the server into errors of this library, while things are as they were refused."""
        try:
            yield
        except ServerStatus as status:
            raise explain(session, self.place, status, what, writing=writing) from status

    def publish(self, session: Session, temp: TempFile, name: str, *, if_absent: bool = False) -> ObjectInfo:
        """Gives a whole file its name.

        Raises:
            ServerStatus, ConnectionLost, StorageError.
        """
        attributes = temp.finish()
        self.files.publish(session, temp, name, if_absent=if_absent)
        self.barrier.stored(name, attributes.size)
        return ObjectInfo(name=name, size=attributes.size, modified=moment(attributes.mtime))

    def abandon(self, member: Member, temp: TempFile) -> None:
        """Removes an unfinished file, now or later."""
        try:
            with self.pool.use(member):
                temp.discard()
        except (ConnectionLost, StorageError):
            self.files.leave(temp.path)

    def open(self, session: Session, name: str) -> tuple[bytes, Attributes]:
        """An object's handle, and what it probably is: it may have been replaced meanwhile.

        Raises:
            ObjectNotFound, InvalidName, StorageUnavailable.
            ServerStatus, ConnectionLost.
        """
        path = self.place.file(checked(name))
        looked, opened = session.lstat(path), session.open(path, READ)
        try:
            attributes = looked.result()
            if not attributes.is_file and not attributes.is_folder:
                session.lost("the server may wait for ever in opening what is no file")
                raise self._no_file(name)
            handle = opened.result()
        except ServerStatus as status:
            raise self._absent(session, name, status) from status
        self.files.seen = True
        if not attributes.is_file:
            session.close(handle)
            raise self._no_file(name)
        return handle, attributes

    def look(self, session: Session, name: str) -> Attributes:
        """What there is of an object.

        Raises:
            ObjectNotFound, InvalidName, StorageUnavailable.
            ServerStatus, ConnectionLost.
        """
        try:
            attributes = session.lstat(self.place.file(checked(name))).result()
        except ServerStatus as status:
            raise self._absent(session, name, status) from status
        self.files.seen = True
        if not attributes.is_file:
            raise self._no_file(name)
        return attributes

    def _no_file(self, name: str) -> ObjectNotFound:
        return ObjectNotFound(f"{self._location} holds no object {name!r}: it is no regular file")

    def _absent(self, session: Session, name: str, status: ServerStatus) -> Exception:
        if status.code != Code.NO_SUCH_FILE:
            return status
        if self.files.vanished(session):
            return StorageUnavailable(f"{self._location} has vanished")
        return ObjectNotFound(f"{self._location} holds no object {name!r}")

    def read_folders(self, keys: Sequence[str], until_file: bool) -> Sequence[Names | None]:
        """See :data:`~freezer_sdk.storages._sftp_listing.ReadFolders`.

        Raises:
            AccessDenied, StorageUnavailable, StorageError.
        """
        with self.asking(f"cannot list {keys[0]!r} in {self._location}") as session:
            found = read_folders(session, [self.place.folder(key) for key in keys], until_file=until_file)
            if None not in found:
                self.files.seen = True
            elif self.files.vanished(session):
                raise StorageUnavailable(f"{self._location} has vanished")
        return found

    def delete(self, names: Sequence[str]) -> None:
        """Removes objects, and the folders that become empty, in one round trip.

        Raises:
            AccessDenied, ReadOnlyStorage, StorageUnavailable, StorageError: the others were removed.
        """
        self.barrier.removing(names)
        folders = dict.fromkeys(folder for name in names for folder in _folders_of(name))
        with self.asking(f"cannot delete {names[0]!r} in {self._location}", writing=True) as session:
            removed = [(name, session.remove(self.place.file(name))) for name in names]
            pruned = [
                (folder, session.rmdir(self.place.file(folder))) for folder in sorted(folders, key=len, reverse=True)
            ]
            failure = None
            for name, pending in removed:
                try:
                    pending.result()
                except ServerStatus as status:
                    if status.code != Code.NO_SUCH_FILE and self._is_object(session, name):
                        failure = status
            for folder, pending in pruned:
                with contextlib.suppress(ServerStatus):  # it is not empty
                    pending.result()
                    self.files.forget(folder)
            if failure is not None:
                raise failure

    def _is_object(self, session: Session, name: str) -> bool:
        try:
            return not session.lstat(self.place.file(name)).result().is_folder
        except ServerStatus as status:
            if status.code != Code.NO_SUCH_FILE:
                raise
            return False


class SftpUpload:
    """A stream on its way into a temporary file, over one connection."""

    def __init__(self, server: Server, member: Member, temp: TempFile, name: str, what: str) -> None:
        self._server = server
        self._member = member
        self._temp = temp
        self._open = True
        self._stored = False
        self._name = name
        self._what = what

    def write(self, data: Buffer) -> None:
        self._check()
        with self._server.leasing(self._what, writing=True, member=self._member):
            self._temp.write([data])

    def commit(self) -> ObjectInfo:
        self._check()
        self._open = False
        with self._server.leasing(self._what, writing=True, member=self._member) as member:
            info = self._server.publish(member.link.session, self._temp, self._name)
        self._stored = True
        return info

    def end(self) -> None:
        """Removes what was not committed."""
        self._open = False
        if not self._stored:
            self._server.abandon(self._member, self._temp)

    def _check(self) -> None:
        if not self._open:
            raise StorageError(f"{self._what}: the upload has ended")


class SftpReader:
    """An open file, read from its start, over one connection."""

    def __init__(self, server: Server, member: Member, download: Download, what: str) -> None:
        self._server = server
        self._member = member
        self._download = download
        self._what = what
        self._rest = memoryview(b"")  # a view, so that small reads do not copy what is left again and again

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            with self._server.leasing(self._what, member=self._member):
                rest, self._rest = self._rest, memoryview(b"")
                return bytes(rest) + all_of(self._download, self._what)
        if not self._rest and size:
            with self._server.leasing(self._what, member=self._member):
                self._rest = memoryview(_next_of(self._download, self._what))
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)


def all_of(download: Download, what: str) -> bytes:
    """Everything that is left of a download.

    Raises:
        ChecksumMismatch: the content cannot be read.
        ServerStatus, ConnectionLost.
    """
    content = io.BytesIO()  # joining pieces would need all of it twice
    while piece := _next_of(download, what):
        content.write(piece)
    return content.getvalue()


def _next_of(download: Download, what: str) -> bytes:
    try:
        return download.piece()
    except ServerStatus as status:
        if status.code != Code.FAILURE:
            raise
        hint = "the server's disk may be failing: save what can still be read"
        raise ChecksumMismatch(f"{what}: {status}", hint=hint) from status
    except EOFError as error:
        raise ChecksumMismatch(f"{what}: {error}") from error


def close_handle(session: Session, handle: bytes) -> None:
    """Closes a handle where that is still possible."""
    if not session.broken:
        session.close(handle)


def checked(name: str) -> str:
    """The name of an object.

    Raises:
        InvalidName: it cannot be one here.
    """
    first = check_name(name).partition("/")[0]
    if first in RESERVED:
        raise InvalidName(f"{name!r} cannot be the name of an object here: {first!r} has a meaning of its own")
    return name


def _folders_of(name: str) -> Iterator[str]:
    folder = name.rpartition("/")[0]
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
