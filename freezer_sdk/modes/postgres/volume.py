"""The strategy ``snapshot``: the data directory as of one moment, from which a server recovers as from a power cut."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from freezer_sdk.errors import ConfigurationError, SnapshotError, SourceError, SourceUnreadable
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.modes.base import Protected, SnapshotMaker
from freezer_sdk.modes.postgres.connection import Session, major_version
from freezer_sdk.modes.postgres.facts import described
from freezer_sdk.modes.postgres.settings import Settings, Strategy

LEFT_OUT = ("/postmaster.pid", "/postmaster.opts", "pg_internal.init*", "/pg_stat_tmp/*", "pgsql_tmp*")
"""What belongs to the running server, and what it makes anew."""

_CLOCKS = 2.0  # seconds by which times of files and of the server may differ
_SYSTEM_IDENTIFIER = struct.Struct("=Q")  # the beginning of global/pg_control, in all versions


@contextmanager
def from_snapshot(settings: Settings, snapshots: SnapshotMaker) -> Iterator[Protected]:
    """The data directory and all that its links lead to, from one snapshot.

    Raises:
        SourceError, SnapshotError, ConfigurationError.
    """
    with settings.login.session() as session:
        major, version = major_version(session)
        directory = _data_directory(session, settings)
        if session.value("SHOW fsync") != "on":
            raise SourceError(
                "the server runs with fsync = off: a snapshot of its files may be of no use, as after a power cut",
                hint="switch fsync on, or use the strategy physical or dump",
            )
        linked = dict(_linked(directory))
        _check_one_volume(directory, linked)
        _settle_tablespaces(session, directory, linked)
        facts = described(session, strategy=Strategy.SNAPSHOT, major=major, version=version)
        facts |= {"data_directory": str(directory), "linked": {name: str(path) for name, path in linked.items()}}
    roots = [directory, *linked.values()]
    with snapshots(roots) as group:
        outside = [path for path in group.missing if _is_data(path, directory)]
        if outside:
            raise SnapshotError(f"the snapshot lacks {outside[0]}: the data directory spans several volumes")
        tree = LocalTree([os.fsencode(path) for path in roots], patterns=Patterns(LEFT_OUT), snapshot=group)
        yield Protected(
            sources=[tree],
            facts={"postgres": facts, "snapshot": group.facts},
            excludes=LEFT_OUT,
            confirm=lambda: group.check() or {},
        )


def _data_directory(session: Session, settings: Settings) -> Path:
    """The data directory, without symbolic links; the server's own, proved by its system identifier.

    Raises:
        SourceError: it cannot be read, or belongs to another server.
    """
    given = settings.data_directory
    directory = Path(os.path.realpath(given if given is not None else session.value("SHOW data_directory")))
    try:
        with open(directory / "global" / "pg_control", "rb") as file:
            (found,) = _SYSTEM_IDENTIFIER.unpack(file.read(_SYSTEM_IDENTIFIER.size))
    except (OSError, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) else "pg_control is too short"
        raise SourceUnreadable(
            f"the data directory {directory} cannot be read: {reason}",
            hint="run where the server runs, as root or as its user; in a container: set data_directory",
        ) from error
    if str(found) != session.value("SELECT system_identifier FROM pg_control_system()"):
        raise ConfigurationError(
            f"the data directory {directory} belongs to another server than the one that answers",
            hint="check host and port, and data_directory",
        )
    return directory


def _linked(directory: Path) -> Iterator[tuple[str, Path]]:
    """Where links of the data directory lead: tablespaces, and the write-ahead log."""
    try:
        places = [directory / "pg_wal", *sorted((directory / "pg_tblspc").iterdir())]
        for place in places:
            if place.is_symlink():
                yield str(place.relative_to(directory)), place.resolve(strict=True)
    except OSError as error:
        raise SourceUnreadable(f"{error.filename} cannot be read: {error.strerror}") from error


def _check_one_volume(directory: Path, linked: Mapping[str, Path]) -> None:
    """Crash recovery needs all files as of one moment, which no two file systems give.

    Raises:
        SourceError: they lie on several.
    """
    try:
        inside = [each for place in (directory, directory / "base") for each in place.iterdir() if each.is_dir()]
        lost = [each for each in inside if each.is_symlink() and _is_servers(each, directory)]
        if lost:
            raise SourceError(
                f"{lost[0]} is a link, of a kind that PostgreSQL does not make: a restored server would follow it",
                hint="use the strategy physical or dump",
            )
        inside = [each for each in inside if not each.is_symlink()]
        home = directory.stat().st_dev
        elsewhere = [str(path) for path in (*inside, *linked.values()) if path.stat().st_dev != home]
    except OSError as error:
        raise SourceUnreadable(f"{error.filename} cannot be read: {error.strerror}") from error
    if elsewhere:
        raise SourceError(
            f"{elsewhere[0]} lies on another file system than {directory}; "
            "PostgreSQL cannot recover from snapshots that were not made at the same moment",
            hint="use the strategy physical or dump",
        )


def _settle_tablespaces(session: Session, directory: Path, linked: Mapping[str, Path]) -> None:
    """Recovery makes tablespaces once more that are newer than the checkpoint it starts from, and in their old places.

    Raises:
        SourceError: there is such a one, and this role may not ask for a checkpoint.
    """
    made = [(directory / name).lstat().st_mtime for name in linked if name.startswith("pg_tblspc/")]
    checkpoint = float(session.value("SELECT extract(epoch FROM checkpoint_time) FROM pg_control_checkpoint()"))
    if not made or max(made) + _CLOCKS < checkpoint:
        return
    try:
        session.run("CHECKPOINT")
    except SourceUnreadable as error:
        raise SourceError(
            f"a tablespace is newer than the server's last checkpoint: {error.message}",
            hint="wait for the next one, or GRANT pg_checkpoint to this role",
        ) from error


def _is_servers(link: Path, directory: Path) -> bool:
    """Whether a link stands for a directory of the server's data, other than those with a meaning of their own."""
    name = link.name if link.parent == directory else "base"
    return name in ("base", "global") or (name.startswith("pg_") and name not in ("pg_wal", "pg_log"))


def _is_data(path: Path, directory: Path) -> bool:
    return path.is_relative_to(directory) and "lost+found" not in path.parts
