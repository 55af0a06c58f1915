"""Storages ``sftp`` and ``ssh``: objects as files on a server with SSH, over several connections.

A name ``packs/ab/x`` is the file ``packs/ab/x`` below a folder. Unfinished files lie in ``.freezer-tmp`` and get their
names by one rename, or one hard link, when they are whole and synced. Nothing but SFTP is asked of the server.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from freezer_sdk.errors import (
    CapabilityMissing,
    ConfigurationError,
    FreezerError,
    InvalidName,
    StorageError,
    StorageUnavailable,
)
from freezer_sdk.model import Buffer
from freezer_sdk.storages._sftp_listing import listing, moment
from freezer_sdk.storages._sftp_options import (
    OPTIONS,
    checked_fingerprint,
    checked_jumps,
    checked_path,
    checked_word,
    location,
    parse_url,
)
from freezer_sdk.storages._sftp_place import Place
from freezer_sdk.storages._sftp_pool import SessionPool
from freezer_sdk.storages._sftp_server import RESERVED, Server, SftpReader, SftpUpload, all_of, checked, close_handle
from freezer_sdk.storages._sftp_session import HARDLINK, ConnectionLost, Session
from freezer_sdk.storages._sftp_transfer import Download
from freezer_sdk.storages._ssh import Connector, Settings
from freezer_sdk.storages._ssh_config import Wishes
from freezer_sdk.storages.base import Capabilities, ObjectInfo, Reader, Storage, Upload
from freezer_sdk.streams.network import CONNECT_TIMEOUT, TIMEOUT, Proxy

_DELETIONS = 128  # in one round trip


class SftpStorage(Storage):
    """Objects as files on a server with SSH.

    Args:
        host: its name or address, or a name in the SSH configuration.
        path: the folder, absolute or below the one where a login begins; made on the first write.
        ssh_config: read instead of ``~/.ssh/config`` and ``/etc/ssh/ssh_config``; ``none``: no file.
        hard_links: ``False``: the server's file system has none, so that there are no conditional puts.

    Raises:
        ConfigurationError: an option that makes no sense.
    """

    name = "sftp"
    api_version = 1
    summary = "a folder on a server with SSH (SFTP)"
    options = OPTIONS

    def __init__(
        self,
        *,
        host: str,
        path: str,
        port: int | None = None,
        user: str | None = None,
        password: str | None = None,
        identity_file: Sequence[str] = (),
        passphrase: str | None = None,
        agent: bool = True,
        host_key: str | None = None,
        known_hosts: Sequence[str] = (),
        ssh_config: str | None = None,
        proxy_jump: str | None = None,
        proxy: str | None = None,
        proxy_password: str | None = None,
        connections: int = 4,
        connect_timeout: float = CONNECT_TIMEOUT.default,
        timeout: float = TIMEOUT.default,
        keepalive: float = 30.0,
        hard_links: bool = True,
    ) -> None:
        if connections < 1 or timeout <= 0 or connect_timeout <= 0:
            raise ConfigurationError("connections, timeout and connect_timeout must be more than 0")
        self._host = checked_word(host, "host")
        self._user = checked_word(user, "user") if user else None
        self._port = port
        self._path = checked_path(path)
        self._connections = connections
        self._hard_links = hard_links
        settings = Settings(
            wishes=Wishes(
                host=self._host,
                port=port,
                user=self._user,
                keys=tuple(identity_file),
                known_hosts=tuple(known_hosts),
                jump=checked_jumps(proxy_jump),
                config=ssh_config,
                proxied=proxy is not None,
            ),
            password=password,
            passphrase=passphrase,
            agent=agent,
            host_key=checked_fingerprint(host_key),
            proxy=Proxy.parse(proxy, password=proxy_password) if proxy is not None else None,
            connect_timeout=connect_timeout if connect_timeout != CONNECT_TIMEOUT.default else None,
            timeout=timeout,
            keepalive=keepalive,
        )
        pool = SessionPool(Connector(settings).connect, connections)
        self._server = Server(Place(self._path), pool, self.location)
        self._capabilities: Capabilities | None = None

    @classmethod
    def available(cls) -> str | None:
        """See :meth:`Plugin.available`."""
        try:
            import paramiko  # noqa: F401
        except ImportError:
            return "paramiko is not installed: pip install 'freezer-sdk[sftp]'"
        return None

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """See :meth:`Storage.parse_url`; ``sftp://[USER[:PASSWORD]@]HOST[:PORT]/PATH``, percent-encoded.

        The path is absolute; ``/~/PATH`` and ``/./PATH`` begin at the folder where a login begins.
        """
        return parse_url(url)

    @property
    def location(self) -> str:
        """A URL that opens the same place again, without a password."""
        return location(host=self._host, port=self._port, user=self._user, path=self._path)

    @property
    def capabilities(self) -> Capabilities:
        """See :meth:`Storage.capabilities`; asks the server when it was not asked before.

        Raises:
            StorageError: it cannot be asked.
        """
        if self._capabilities is None:
            with self._server.asking(f"{self.location} does not say what it can do") as session:
                self._learn(session)
        assert self._capabilities is not None
        return self._capabilities

    @property
    def max_parallel(self) -> int:
        """See :meth:`Storage.max_parallel`."""
        return self._connections

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        checked(name)
        what = f"cannot store {name!r} in {self.location}"
        server = self._server
        with server.asking(what, writing=True) as session:
            if if_absent and not self._learn(session).conditional_put:
                raise CapabilityMissing(f"{what} on condition: this server has no hard links")
            temp = server.files.temp(session, self.traffic)
            with server.files.discarding(temp), server.explaining(session, what, writing=True):
                temp.write(buffers)
                info = server.publish(session, temp, name, if_absent=if_absent)
        self._remember()
        return info

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`."""
        checked(name)
        what = f"cannot store {name!r} in {self.location}"
        with contextlib.ExitStack() as stack:
            with self._server.leasing(what, writing=True) as member:
                temp = self._server.files.temp(member.link.session, self.traffic)
                stack.enter_context(self._server.pool.pinning(member))
            upload = SftpUpload(self._server, member, temp, name, what)
            try:
                yield upload
            finally:
                upload.end()
        self._remember()

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        if length is not None and length < 0:
            raise ValueError("length must not be negative")
        what = f"cannot read {name!r} in {self.location}"

        def ranged(size: int) -> Download:
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            end = size if length is None else min(size, start + length)
            return Download(session, handle, start, end, self.traffic, all_at_once=True)

        with self._server.asking(what) as session:
            handle, likely = self._server.open(session, name)
            try:
                asked = session.fstat(handle)
                download = ranged(likely.size)
                if (size := asked.result().size) != likely.size:  # replaced between the two questions
                    download = ranged(size)
                return all_of(download, what)
            finally:
                close_handle(session, handle)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`."""
        what = f"cannot read {name!r} in {self.location}"
        with contextlib.ExitStack() as stack:
            with self._server.leasing(what) as member:
                session = member.link.session
                handle, _ = self._server.open(session, name)
                stack.enter_context(self._server.pool.pinning(member))
                size = session.fstat(handle).result().size
                download = Download(session, handle, 0, size, self.traffic, all_at_once=False)
            try:
                yield SftpReader(self._server, member, download, what)
            finally:
                with contextlib.suppress(ConnectionLost, StorageError), self._server.pool.use(member):
                    close_handle(session, handle)

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        with self._server.asking(f"cannot look at {name!r} in {self.location}") as session:
            attributes = self._server.look(session, name)
        return ObjectInfo(name=name, size=attributes.size, modified=moment(attributes.mtime))

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`; only regular files whose names are UTF-8 are objects."""
        if delimiter not in (None, "/"):
            raise ValueError("the delimiter can only be '/'")
        return listing(self._server.read_folders, prefix, deep=delimiter is None, hidden=RESERVED)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`; folders that become empty go too."""
        self._server.delete([checked(name)])

    def delete_many(self, names: Iterable[str]) -> None:
        """See :meth:`Storage.delete_many`; many in one round trip."""
        failure: Exception | None = None
        iterator = iter(names)
        while some := [*itertools.islice(iterator, _DELETIONS)]:
            good = []
            for name in some:
                try:
                    good.append(checked(name))
                except InvalidName as error:
                    failure = error
            try:
                if good:
                    self._server.delete(good)
            except FreezerError as error:  # the rest is still to be removed
                failure = error
        if failure is not None:
            raise failure

    def flush(self) -> None:
        """See :meth:`Storage.flush`; without fsync@openssh.com the server only says that it has taken everything.

        Raises:
            StorageError: something acknowledged may be lost; so it stays for this object.
        """
        self._server.barrier.run(lambda: self._server.asking(f"objects in {self.location} may be lost"))

    def now(self) -> datetime:
        """See :meth:`Storage.now`; by the time of a fresh file."""
        what = f"cannot tell the time of {self.location}"
        with self._server.asking(what, writing=True) as session:
            temp = self._server.files.temp(session, self.traffic)
            with self._server.files.discarding(temp), self._server.explaining(session, what, writing=True):
                attributes = temp.finish()
                session.remove(temp.path).result()
        return moment(attributes.mtime)

    def close(self) -> None:
        """Ends the connections; does not flush."""
        self._server.pool.close()

    def _learn(self, session: Session) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = Capabilities(
                conditional_put=self._hard_links and session.has(HARDLINK),
                clock_resolution=timedelta(seconds=1),
                paced=True,
                repeatable_barrier=True,
            )
        return self._capabilities

    def _remember(self) -> None:
        if self._server.barrier.due:
            with contextlib.suppress(StorageUnavailable):  # then the next barrier does it
                self.flush()
