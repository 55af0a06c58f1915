"""What lies in the folders of an FTP server.

A listing that came over a data connection in the clear may have been cut short without anybody noticing: TCP ends a
broken connection as it ends a good one. So it is taken over the control connection (``STAT``, whose end is marked)
where that gives what is needed, and compared with the names that ``STAT`` gives where it does not.
"""

from __future__ import annotations

import ftplib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from freezer_sdk.errors import AccessDenied, StorageUnavailable
from freezer_sdk.storages._ftp import Connection, fact_table, moment
from freezer_sdk.storages._ftp_transfer import read_lines
from freezer_sdk.storages.base import MAX_NAME, ObjectInfo

NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of a common prefix."""

Kind = Literal["file", "folder", "other"]

_UNIX = re.compile(
    r"""(?P<type>[-dlbcpsD])[-rwxsStTlL]{9}[.+@]?[ ]+
    (?:\d+[ ]+)?                                    # links
    (?:\S.*?[ ]+)?                                  # owner and group, which may contain blanks
    (?P<size>\d+)(?:,[ ]+\d+)?[ ]+                  # of a device: its numbers
    (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[ ]+\d{1,2}[ ]+(?:\d{1,2}:\d{2}|\d{4})
    [ ](?P<name>.+)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_BEFORE_LINE = re.compile(r"^(?:\d{3}-)? *", re.ASCII)
_TOTAL = re.compile(r"total \d+", re.ASCII | re.IGNORECASE)
_KINDS: dict[str, Kind] = {"-": "file", "d": "folder"}
_MLSD_KINDS: dict[str, Kind] = {"file": "file", "dir": "folder"}
_OWN = (".", "..")
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """What has a name in a folder.

    Attributes:
        modified: ``None`` where the listing does not say it exactly.
    """

    name: str
    kind: Kind
    size: int = 0
    modified: datetime | None = None


def parse_unix(line: str) -> Entry | None:
    """A line of LIST, as ``ls -l`` writes it; its times are no use: without zone, without seconds or even hours.

    Returns:
        ``None`` for the folder itself, the one above, and the line that sums up.

    Raises:
        ValueError: it is something else.
    """
    match = _UNIX.fullmatch(line)
    if match is None:
        if _TOTAL.fullmatch(line):
            return None
        raise ValueError(f"this line of a listing is not understood: {line[:200]!r}")
    if match["name"] in _OWN:
        return None
    return Entry(match["name"], _KINDS.get(match["type"], "other"), int(match["size"]))


def parse_mlsd(line: str) -> Entry | None:
    """A line of MLSD.

    Returns:
        ``None`` for the folder itself and the one above.

    Raises:
        ValueError: it is something else, or lacks size or time of a file.
    """
    facts, blank, name = line.partition(" ")
    table = fact_table(facts)
    if not blank or not name or "type" not in table:
        raise ValueError(f"this line of a listing is not understood: {line[:200]!r}")
    kind = table["type"].lower()
    if kind in ("cdir", "pdir"):
        return None
    if kind != "file":
        return Entry(name, _MLSD_KINDS.get(kind, "other"))
    return Entry(name, "file", int(table.get("size", "")), moment(table.get("modify", "")))


def read_folder(connection: Connection, path: str) -> list[Entry] | None:
    """What lies in a folder and has a name that is text; ``None``: there is no such folder, or it may not be listed.

    Raises:
        StorageUnavailable: the listing was cut short.
        ftplib.Error, OSError, EOFError, ValueError: it is not complete, or not understood.
    """
    if connection.features.mlst:
        return _over_data(connection, path, f"MLSD {path}", parse_mlsd)
    if not connection.enters(path):
        return None
    if connection.features.stat_folder is not False:
        lines = connection.lines_of("STAT -a") or []
        entries = _entries(lines)
        usable = bool(lines) and any(line.endswith(" .") for line in lines)  # else "-a" may have been taken for a name
        if not usable and not connection.enters(path):
            return None  # it was removed meanwhile
        connection.features.stat_folder = usable and entries is not None
        if usable and entries is not None:
            return entries
    return _over_data(connection, path, "LIST -a", parse_unix)


def _over_data(
    connection: Connection, path: str, command: str, parse: Callable[[str], Entry | None]
) -> list[Entry] | None:
    before = None if connection.secure else _entries(connection.lines_of(f"STAT {path}"))
    try:
        lines, sealed = read_lines(connection, command)
    except ftplib.error_perm as error:
        if str(error)[:3] in ("501", "550", "553"):
            return None
        raise
    entries = [entry for line in lines if (entry := parse(line)) is not None and is_text(entry.name)]
    if connection.secure and not sealed:
        raise StorageUnavailable(f"the listing of {path!r} was cut short: its TLS connection was not closed properly")
    names = {entry.name for entry in entries}
    for entry in before or ():
        if entry.name not in names and _exists(connection, path, entry):
            raise StorageUnavailable(f"the listing of {path!r} was cut short: {entry.name!r} is missing in it")
    return entries


def _entries(lines: Sequence[str] | None) -> list[Entry] | None:
    """The entries of a listing by STAT; ``None``: the server means something else by it."""
    try:
        parsed = [parse_unix(_BEFORE_LINE.sub("", line)) for line in lines or ()]
    except ValueError:
        return None
    return [entry for entry in parsed if entry is not None and is_text(entry.name)]


def _exists(connection: Connection, path: str, entry: Entry) -> bool:
    where = f"{path.rstrip('/')}/{entry.name}"
    if entry.kind == "folder":
        return connection.enters(where)
    try:
        connection.facts(where)
    except ftplib.error_perm:
        return False
    return True


def find(connection: Connection, path: str) -> Kind | None:
    """What has this name, by the listing of its folder: proof that it is not there, which a refusal is not.

    Raises:
        AccessDenied: nobody can tell, for a folder above may not be entered or listed.
        StorageUnavailable, ftplib.Error, OSError, EOFError, ValueError.
    """
    folder, _, name = path.rstrip("/").rpartition("/")
    if not name:
        return "folder"
    entries = read_folder(connection, folder or "/")
    if entries is None:
        if find(connection, folder) == "folder":
            raise AccessDenied(f"{folder or '/'!r} may not be listed", hint="check what the user may do on the server")
        return None
    return next((entry.kind for entry in entries if entry.name == name), None)


def with_times(connection: Connection, path: str, entries: Sequence[Entry]) -> list[Entry]:
    """The files among the entries of a folder, with exact times; those that vanished meanwhile are left out.

    Raises:
        ftplib.Error, OSError, EOFError, ValueError: also where a file is there and may not be looked at.
    """
    files = [entry for entry in entries if entry.kind == "file"]
    for _ in range(_ATTEMPTS):
        unknown = [entry for entry in files if entry.modified is None]
        replies = connection.many([f"MDTM {path.rstrip('/')}/{entry.name}" for entry in unknown])
        refused = {}
        for entry, reply in zip(unknown, replies, strict=True):
            if reply[:3] == "550":
                refused[entry.name] = ftplib.error_perm(reply)
            elif reply[:3] != "213":
                raise (ftplib.error_temp if reply[:1] == "4" else ftplib.error_perm)(reply)
        times = {entry.name: reply[3:] for entry, reply in zip(unknown, replies, strict=True)}
        files = [
            replace(entry, modified=entry.modified or moment(times[entry.name].strip()))
            for entry in files
            if entry.name not in refused
        ]
        again = [entry for entry in (refused and read_folder(connection, path)) or () if entry.name in refused]
        if not again:
            return files
        files += again  # there once more, or it may not be looked at
    raise refused[again[0].name]


def is_text(name: str) -> bool:
    """Whether an object can have this as a part of its name: UTF-8, and no line ends."""
    if "\r" in name or "\n" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Node:
    """A file, or without ``info`` a folder; ``key`` is what all names of it begin with."""

    key: str
    info: ObjectInfo | None


class Tree:
    """Folders of objects, listed in the order of whole names.

    Args:
        scan: gives the entries of a folder (its name ends with ``/``, or is empty) whose names start with a text; none
            where there is no such folder. Files have their times unless ``bare``.
        hidden: names in the root that are no objects.
    """

    def __init__(self, scan: Callable[[str, str, bool], Sequence[Entry]], *, hidden: Collection[str]) -> None:
        self._scan = scan
        self._hidden = hidden

    def listing(self, prefix: str, *, deep: bool) -> Iterator[ObjectInfo]:
        """Objects whose names begin with ``prefix``, sorted by code point.

        Args:
            deep: else folders below that of the prefix are summed up.
        """
        *folders, start = prefix.split("/")
        if any(part in ("", *_OWN) for part in folders) or not is_text(prefix) or "\0" in prefix:
            return  # no object has such a name
        if (folders and folders[0] in self._hidden) or len(prefix.encode()) > MAX_NAME:
            return
        pending = self._nodes("".join(part + "/" for part in folders), start)
        while pending:
            node = pending.pop()
            if node.info is not None:
                yield node.info
            elif deep:
                pending += self._nodes(node.key)
            elif self._holds_objects(node.key):
                yield ObjectInfo(name=node.key, size=0, modified=NO_TIME, is_prefix=True)

    def _nodes(self, folder: str, start: str = "", *, bare: bool = False) -> list[_Node]:
        """The entries of a folder, the last one first."""
        nodes = []
        for entry in self._scan(folder, start, bare):
            if (not folder and entry.name in self._hidden) or not is_text(entry.name):
                continue
            name = folder + entry.name
            if entry.kind == "other" or len(name.encode()) > MAX_NAME:
                continue
            if entry.kind == "folder":
                nodes.append(_Node(name + "/", None))
            else:
                info = ObjectInfo(name=name, size=entry.size, modified=entry.modified or NO_TIME)
                nodes.append(_Node(name, info))
        # a folder sorts as the names below it do: "a-b" < "a/b" < "a0"
        nodes.sort(key=lambda node: node.key, reverse=True)
        return nodes

    def _holds_objects(self, folder: str) -> bool:
        below = self._nodes(folder, bare=True)
        return any(node.info for node in below) or any(self._holds_objects(node.key) for node in below)
