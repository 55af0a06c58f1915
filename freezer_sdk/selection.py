"""Choosing: backups among backups, paths inside a backup, entries by pattern. Pure functions."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.errors import AmbiguousError, BackupNotFound, ConfigurationError
from freezer_sdk.model import Backup, Entry

LATEST: Final = "latest"
_ID = re.compile(r"[0-9a-fA-F]{1,32}", re.ASCII)
_LISTED = 8
_ANY_FOLDERS = "**"


def as_utc(time: datetime) -> datetime:
    """The same moment in UTC, or the end of the calendar next to it; a time without a zone is local time."""
    try:
        return time.astimezone(UTC)
    except (OverflowError, ValueError):
        return (datetime.max if time.year > 1 else datetime.min).replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class BackupFilter:
    """Which backups are meant; every condition that is given must hold.

    Attributes:
        tags: a backup must have all of them.
        before: started before this moment.
        after: started at this moment or later.
        at: started at this moment or before.
        path: one of the recorded roots.
    """

    name: str | None = None
    host: str | None = None
    tags: Sequence[str] = ()
    before: datetime | None = None
    after: datetime | None = None
    at: datetime | None = None
    mode: str | None = None
    path: str | None = None

    def __call__(self, backup: Backup) -> bool:
        """Whether a backup is meant."""
        return (
            (self.name is None or backup.name == self.name)
            and (self.host is None or backup.host == self.host)
            and set(self.tags) <= set(backup.tags)
            and (self.before is None or backup.time < as_utc(self.before))
            and (self.after is None or backup.time >= as_utc(self.after))
            and (self.at is None or backup.time <= as_utc(self.at))
            and (self.mode is None or backup.mode == self.mode)
            and (self.path is None or os.path.normpath(self.path) in backup.paths)
        )


def split_selector(selector: str) -> tuple[str, str | None]:
    """``"1a2b3c4d:/etc/ssh"`` -> ``("1a2b3c4d", "/etc/ssh")``; without a path: ``(selector, None)``.

    Raises:
        ConfigurationError: nothing stands before or after the colon.
    """
    identifier, colon, path = selector.partition(":")
    if not identifier or (colon and not path):
        raise ConfigurationError(
            f"{selector!r} does not choose a backup", hint="write an ID, latest, ID:PATH or latest:PATH"
        )
    return identifier, path or None


def choose_backup(
    backups: Iterable[Backup], identifier: str = LATEST, *, wanted: BackupFilter, this_host: str
) -> Backup:
    """The one backup that is meant.

    Args:
        backups: in any order.
        identifier: the start of an id, or ``latest``. That is never a backup whose time cannot be right, if there is
            another.
        wanted: what else must hold; ``latest`` without a host means ``this_host``.
        this_host: name of this host.

    Raises:
        BackupNotFound: none is left.
        AmbiguousError: an id prefix fits several backups, or ``latest`` fits several names.
        ConfigurationError: neither an id nor ``latest``.
    """
    if identifier == LATEST:
        return _latest(list(backups), wanted, this_host)
    if not _ID.fullmatch(identifier):
        raise ConfigurationError(
            f"{identifier!r} is not the id of a backup", hint="an id is up to 32 hexadecimal digits; or use latest"
        )
    named = [backup for backup in backups if backup.id.startswith(identifier.lower())]
    found = [backup for backup in named if wanted(backup)]
    if len(found) > 1:
        raise AmbiguousError(
            f"{identifier!r} fits {len(found)} backups: {_some(_line(each) for each in found)}",
            hint="give more digits of the id",
        )
    if found:
        return found[0]
    if named:
        raise BackupNotFound(f"backup {_line(named[0])} does not fit the other conditions")
    raise BackupNotFound(f"there is no backup {identifier!r}")


def _latest(backups: Sequence[Backup], wanted: BackupFilter, this_host: str) -> Backup:
    anywhere = [backup for backup in backups if wanted(backup)]
    host = this_host if wanted.host is None else wanted.host
    found = [backup for backup in anywhere if backup.host == host]
    if not found:
        what = f" named {wanted.name!r}" if wanted.name is not None else ""
        others = sorted({backup.host for backup in anywhere})
        hint = f"there are backups of other hosts: {_some(others)}" if others else None
        raise BackupNotFound(f"there is no such backup{what} of host {host!r}", hint=hint)
    names = sorted({backup.name for backup in found})
    if len(names) > 1:
        raise AmbiguousError(
            f"the latest backup of host {host!r} could be one of several names: {_some(names, limit=None)}",
            hint="give the name of the backup, or its id",
        )
    return max(found, key=lambda backup: (backup.plausible, backup.time, backup.id))


def absolute_path(path: str | bytes, roots: Sequence[str]) -> bytes:
    """The recorded absolute path that is meant: absolute already, or below the one root.

    Raises:
        ConfigurationError: it holds ``..`` or NUL, or is relative and there are several roots.
    """
    text = os.fsdecode(path)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in text:
        raise ConfigurationError(f"{text!r} cannot be a path inside a backup")
    if not text.startswith("/"):
        if len(roots) > 1:
            raise ConfigurationError(
                f"{text!r} could lie below several roots", hint=f"give an absolute path; the roots are {_some(roots)}"
            )
        parts = [part for root in roots for part in root.split("/") if part] + parts
    return os.fsencode("/" + "/".join(parts))


def entry_matcher(pattern: str, *, ignore_case: bool = False) -> Callable[[Entry], bool]:
    """A test for entries whose path fits a glob pattern.

    ``*``, ``?`` and ``[...]`` stay inside one name, ``**`` spans folders. A pattern without ``/`` is for the
    last name of a path; one that starts with ``/`` for the whole path; any other for its end.

    Raises:
        ConfigurationError: the pattern is empty.
    """
    parts = [part for part in pattern.split("/") if part]
    if not parts:
        raise ConfigurationError(f"{pattern!r} is not a pattern")
    if not pattern.startswith("/") and parts[0] != _ANY_FOLDERS:
        parts.insert(0, _ANY_FOLDERS)
    flags = re.IGNORECASE if ignore_case else 0
    tests = [None if part == _ANY_FOLDERS else re.compile(fnmatch.translate(part), flags) for part in parts]

    def matches(entry: Entry) -> bool:
        return _fits(tests, [name for name in os.fsdecode(entry.path).split("/") if name])

    return matches


def _fits(tests: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """Whether names fit tests, one by one; ``None`` stands for any number of names."""
    test = name = 0
    last, resume = -1, 0  # the last test that stands for any number, and the name that follows what it stands for now
    while name < len(names):
        current = tests[test] if test < len(tests) else None
        if test < len(tests) and current is None:
            last, resume = test, name
            test += 1
        elif current is not None and current.match(names[name]):
            test, name = test + 1, name + 1
        elif last >= 0:
            resume += 1
            test, name = last + 1, resume
        else:
            return False
    return all(each is None for each in tests[test:])


def _line(backup: Backup) -> str:
    return f"{backup.short_id} ({backup.time:%Y-%m-%d %H:%M:%S} UTC, {backup.host}, {backup.name})"


def _some(items: Iterable[str], *, limit: int | None = _LISTED) -> str:
    listed = list(items)
    shown = listed if limit is None or len(listed) <= limit else [*listed[:limit], f"{len(listed) - limit} more"]
    return ", ".join(shown)
