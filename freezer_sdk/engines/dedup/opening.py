"""Reading many control objects: several at once, and what is wrong with one does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from freezer_sdk.engines.dedup import control, documents
from freezer_sdk.engines.dedup.documents import Fields
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.errors import AccessDenied, IntegrityError, UnsupportedFormat
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import ObjectInfo, Storage


class Found(NamedTuple):
    """An object that opened.

    Attributes:
        signer: id of the slot that signed it.
    """

    info: ObjectInfo
    fields: Fields
    signer: bytes


class Reported:
    """Turns what is wrong with one object into a problem, and goes on after the block."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self._name, self._problems = name, problems

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, IntegrityError | UnsupportedFormat | AccessDenied):
            return False
        self._problems.append(Problem(path=self._name, kind="damaged", message=error.message, fatal=False))
        return True


def open_all(
    storage: Storage,
    keys: KeyRing,
    infos: Iterable[ObjectInfo],
    *,
    kind: Callable[[str], str],
    role: Role,
    problems: list[Problem],
    tick: Callable[[], None] | None = None,
) -> Iterator[Found]:
    """Opens control objects; one that is gone meanwhile is passed over in silence.

    Args:
        kind: of the object of a name.
        role: what a signer must be allowed to do.
        problems: what is damaged, forged or not allowed is added here.
        tick: called again and again while there are more.

    Raises:
        StorageError.
    """
    listed = list(infos)
    if not listed:
        return

    def fetch(info: ObjectInfo) -> bytes | IntegrityError | None:
        try:
            return documents.read_bounded(storage, info.name, control.MAX_OBJECT)
        except IntegrityError as error:
            return error

    width = max(1, min(storage.max_parallel, len(listed)))
    with ThreadPoolExecutor(max_workers=width) as pool:
        for start in range(0, len(listed), width):  # in batches, so that large objects do not pile up
            batch = listed[start : start + width]
            if tick is not None and start:
                tick()
            fetched = pool.map(fetch, batch) if width > 1 else map(fetch, batch)  # a thread for one is no gain
            for info, data in zip(batch, fetched, strict=True):
                with Reported(info.name, problems):
                    if isinstance(data, IntegrityError):
                        raise data
                    if data is not None:
                        opened = control.open(keys, kind(info.name), info.name, data, role=role)
                        yield Found(info, Fields(opened.payload, info.name), opened.signer)
