"""What this machine has seen of a repository, so that a storage that was set back as a whole is noticed.

Whoever can write to a storage can bring back an older state of all of it, and every signature in it is valid. Only
somebody who remembers the newer state can tell.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.cache import OPEN, make_folder
from freezer_sdk.engines.dedup.deletion import SWEEPS
from freezer_sdk.engines.dedup.documents import MAX_NUMBER
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import BACKUPS, parse_backup_name
from freezer_sdk.engines.dedup.unlisted import find_object
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import Storage

_FILE: Final = "seen.json"
_MAX_SIZE: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The newest of everything.

    Attributes:
        configuration: number of the configuration.
        generation: of marks and sweeps.
        commit: name of the last commit object by time, ``""``: none.
    """

    configuration: int = 0
    generation: int = 0
    commit: str = ""


class Memory:
    """Keeps it in a file. What is deleted, damaged or cannot be written is not remembered.

    Args:
        folder: that of the repository in the local cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> Seen:
        """What was seen; nothing when that is not known."""
        try:
            with os.fdopen(os.open(self.folder / _FILE, OPEN), "rb") as file:
                document = json.loads(file.read(_MAX_SIZE))
            configuration, generation, commit = (document[name] for name in ("configuration", "generation", "commit"))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return Seen()
        numbers = all(type(number) is int and 0 <= number <= MAX_NUMBER for number in (configuration, generation))
        known = isinstance(commit, str) and (not commit or parse_backup_name(commit) is not None)
        return Seen(configuration=configuration, generation=generation, commit=commit) if numbers and known else Seen()

    def store(self, seen: Seen) -> None:
        """Remembers; a process that does the same at this moment may win, and the next run makes good for it."""
        if seen == self.load():
            return
        temporary = self.folder / f".{secrets.token_hex(8)}.tmp"
        with suppress(OSError):
            make_folder(self.folder)
            try:
                temporary.write_text(json.dumps(asdict(seen)), encoding="ascii")
                os.replace(temporary, self.folder / _FILE)
            finally:
                temporary.unlink(missing_ok=True)


def look_back(memory: Memory, storage: Storage, keys: KeyRing, *, generation: int | None = None) -> list[Problem]:
    """Warns of everything that was seen and is not there any more, and remembers what is new.

    Args:
        generation: the newest of marks and sweeps, where the caller has read them.

    Raises:
        StorageError.
    """
    seen, number = memory.load(), keys.config.number
    commits = {info.name for info in storage.list(BACKUPS) if parse_backup_name(info.name) is not None}
    gone = bool(seen.commit) and seen.commit not in commits and find_object(storage, seen.commit) is None
    if gone and _forgotten(storage, keys, seen.commit):  # a sweep that was announced before may have let it go
        seen, gone = replace(seen, commit=""), False
    if gone and generation is None:
        marks, sweeps = protocol.read_marks(storage, keys), protocol.read_sweeps(storage, keys)
        generation = max(marks.generation, sweeps.generation)
    warnings = []
    if number < seen.configuration:
        warnings.append((configs.name_of(seen.configuration), f"configuration {number} is the newest"))
    if generation is not None and generation < seen.generation:
        warnings.append((f"{SWEEPS}{seen.generation:016d}", f"generation {generation} is the newest"))
    if gone and generation is not None and generation <= seen.generation:  # no sweep can have removed it
        warnings.append((seen.commit, "no sweep has removed it"))
    else:
        seen = replace(seen, commit=max(commits | ({seen.commit} - {""} if not gone else set()), default=""))
    newest = max(seen.configuration, number), max(seen.generation, generation or 0)
    memory.store(replace(seen, configuration=newest[0], generation=newest[1]))
    return [Problem(path=path, kind="set-back", message=_message(what, memory), fatal=False) for path, what in warnings]


def _forgotten(storage: Storage, keys: KeyRing, commit: str) -> bool:
    parsed = parse_backup_name(commit)
    return parsed is not None and protocol.is_forgotten(storage, keys, parsed[1])


def _message(what: str, memory: Memory) -> str:
    return (
        f"this machine saw it in the repository, and it is not there any more ({what}): the storage was set back; "
        f"find out who did it, and if it was you, delete {memory.folder}"
    )
