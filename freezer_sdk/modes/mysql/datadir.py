"""The data directory: where it is, whether it is whole, and whether a server uses it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from freezer_sdk.errors import ConfigurationError, RestoreConflict, SourceError
from freezer_sdk.files.datadir import check_data_directory
from freezer_sdk.model import RestoreOptions
from freezer_sdk.modes.mysql.server import Server, plain

LEFT_OUT = (
    *("/ibtmp*", "!/ibtmp*/"),  # files only: databases may be named so
    "/#innodb_temp/",
    "/*.pid",
    "/*.sock",
    "/*.sock.lock",
    "/*.lower-test",
    "/lost+found/",
)
"""What a server makes anew whenever it starts, and what belongs to the file system."""
_ELSEWHERE = (
    "innodb_data_home_dir",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "innodb_doublewrite_dir",
    "rocksdb_datadir",
    "rocksdb_wal_dir",
    "aria_log_dir_path",
)
_LOCKED = ("ibdata1", "aria_log_control")
_NEEDED = (  # a server that starts on the files must know these as the one that wrote them
    "innodb_data_file_path",
    "innodb_page_size",
    "innodb_undo_tablespaces",
    "innodb_log_file_size",
    "innodb_log_files_in_group",
    "innodb_checksum_algorithm",
    "lower_case_table_names",
)


def data_directory(server: Server, given: str | None) -> Path:
    """The data directory, without symbolic links.

    Raises:
        SourceError: the server runs elsewhere, or keeps some of its data outside.
    """
    told = server.variables("datadir", "hostname", "innodb_data_file_path", *_ELSEWHERE)
    here = server.is_here and told.get("hostname") in (None, os.uname().nodename)  # a container has a name of its own
    if given is None and not here:
        raise SourceError(
            "the database server may run on another machine, so its data directory is not looked for on this one",
            hint="run where the server runs, name its data_directory as seen from here, or use the strategy dump",
        )
    directory = Path(os.path.realpath(given or told["datadir"]))
    if not (directory / "mysql").is_dir():
        raise SourceError(
            f"not a data directory of MariaDB or MySQL, or not readable: {directory}",
            hint="run as root or as the server's user; data_directory names it where the server is in a container",
        )
    if given is None and not in_use(os.fspath(directory)):
        raise SourceError(
            f"no server uses {directory}, so it is not the data directory of this one",
            hint="a server in a container has its data elsewhere: name its data_directory as seen from here",
        )
    outside = [*_settings_outside(told), *_links(directory)]
    if outside:
        names = "; ".join(outside[:5])
        raise SourceError(
            f"some data lie outside of the data directory {directory}: {names}",
            hint="they would not all be in the backup, or come back to their places; use the strategy dump",
        )
    return directory


def _settings_outside(told: Mapping[str, Any]) -> Iterator[str]:
    home = os.path.realpath(told["datadir"])
    for name in _ELSEWHERE:
        value = told.get(name) or ""
        if value and not Path(os.path.realpath(os.path.join(home, value))).is_relative_to(home):
            yield f"{name} is {value}"
    for part in str(told.get("innodb_data_file_path", "")).split(";"):
        if part.startswith("/") and told.get("innodb_data_home_dir") == "":
            yield f"innodb_data_file_path has {part}"


def _links(directory: Path) -> Iterator[str]:
    """Databases and tables that only a link leads to, or that lie on another file system."""
    home = directory.stat().st_dev
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink() and not entry.name.endswith((".sock", ".pid")):
                yield f"{entry.name} is a symbolic link"
            elif entry.is_dir(follow_symlinks=False):
                if entry.name != "lost+found" and entry.stat(follow_symlinks=False).st_dev != home:
                    yield f"{entry.name} is another file system"
                with suppress(PermissionError), os.scandir(entry.path) as files:
                    for file in files:
                        if file.name.endswith(".isl") or file.is_symlink():
                            yield f"table {entry.name}/{file.name}"


def described(server: Server) -> dict[str, Any]:
    """For the record: what server this is, and how its files must be read."""
    told = plain(server.variables("hostname", "server_id", "server_uuid", *_NEEDED))
    settings = {name: told.pop(name) for name in _NEEDED if name in told}
    product = "MariaDB" if server.mariadb else "MySQL"
    return {"server": {"product": product, "version": server.full_version, **told}, "settings": settings}


def owner_of(directory: Path) -> dict[str, Any]:
    """For the record: whose the files are.

    Raises:
        SourceError: the directory cannot be looked at.
    """
    import grp
    import pwd

    try:
        st = directory.stat()
    except OSError as error:
        raise SourceError(f"the data directory cannot be looked at: {directory}: {error.strerror}") from error
    owner: dict[str, Any] = {"uid": st.st_uid, "gid": st.st_gid, "mode": st.st_mode & 0o7777}
    with suppress(KeyError):
        owner["user"] = pwd.getpwuid(st.st_uid).pw_name
    with suppress(KeyError):
        owner["group"] = grp.getgrgid(st.st_gid).gr_name
    return owner


def check_target(target: str, options: RestoreOptions) -> None:
    """Whether a data directory may be restored there: into nothing, or in place of one that no server uses.

    Raises:
        RestoreConflict: a server uses it, or something is there and must not be replaced.
        RestoreError: it is no folder, or cannot be looked at.
    """
    if in_use(target):
        raise RestoreConflict(f"a database server runs on {target}", hint="stop it first, or choose another folder")
    check_data_directory(Path(target), options)


def in_use(directory: str) -> bool:
    """Whether a server has its files locked."""
    import fcntl

    for name in _LOCKED:
        try:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return True
        finally:
            os.close(descriptor)
    return False


def account_for(owner: Mapping[str, Any], *, numeric: bool) -> tuple[int, int]:
    """User and group of restored files: by name where this machine knows it.

    Raises:
        ConfigurationError: the record has none.
    """
    import grp
    import pwd

    try:
        user, group = int(owner["uid"]), int(owner["gid"])
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError("the backup does not say whose its data directory was") from None
    if not numeric:
        with suppress(KeyError, TypeError):
            user = pwd.getpwnam(str(owner["user"])).pw_uid
        with suppress(KeyError, TypeError):
            group = grp.getgrnam(str(owner["group"])).gr_gid
    return user, group
