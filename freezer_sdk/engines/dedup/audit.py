"""Everything in a repository that is neither pack nor index nor commit: is each object what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup import confirmed, control, documents, lease, slots
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import BACKUPS, INDEX, META, PACKS
from freezer_sdk.engines.dedup.unlisted import find_object
from freezer_sdk.errors import FreezerError, IntegrityError, ObjectNotFound, UnsupportedFormat
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import ObjectInfo, Storage

RESERVE = "reserve/"
_CONTROL = (lease.PREFIX, *confirmed.PREFIXES)
_ELSEWHERE = (PACKS, META, INDEX, BACKUPS, RESERVE)


def audit(storage: Storage, keys: KeyRing) -> Iterator[Problem]:
    """Findings in configurations, slots, their second copies, leases, marks, sweeps, tombstones and records.

    Raises:
        StorageError.
    """
    found = {
        info.name: info for prefix in (configs.PREFIX, slots.PREFIX, configs.COPIES) for info in storage.list(prefix)
    }
    for name in sorted(found):
        yield from _secured(storage, keys, name)
        twin = configs.twin_of(name)
        if twin not in found:
            message = f"the other copy of {name} is missing; a maintainer's next backup writes it"
            yield Problem(path=twin, kind="missing", message=message, fatal=False)
    current = configs.name_of(keys.config.number)
    places = (current, configs.twin_of(current))
    if not any(name in found or find_object(storage, name) for name in places):
        message = (
            "the configuration in force is gone from both places: somebody has removed it, or set the storage back"
        )
        yield Problem(path=current, kind="missing", message=message)
    for top in storage.list(delimiter="/"):
        if top.name in (configs.PREFIX, slots.PREFIX, configs.COPIES) or top.name in _ELSEWHERE:
            continue
        if not top.is_prefix or top.name not in _CONTROL:
            yield Problem(path=top.name, kind="unknown", message="does not belong to a repository", fatal=False)
            continue
        for info in storage.list(top.name):
            yield from _controlled(storage, keys, info)


def _secured(storage: Storage, keys: KeyRing, name: str) -> Iterator[Problem]:
    """A configuration or slot, or the copy of one."""
    plain = name.removeprefix(configs.COPIES)
    try:
        raw = documents.read_range(storage, name)
    except ObjectNotFound:
        return
    except IntegrityError as error:
        yield Problem(path=name, kind="damaged", message=str(error))
        return
    try:
        number = configs.number_of(plain)
        if number is not None:
            signed = configs.decode_config(raw, number)
            if signed.raw != keys.signed_config.raw and number == keys.config.number:
                raise IntegrityError("it is not the configuration that is in force")
            if not signed.vouched_by(keys.config.former_maintainers()):
                raise IntegrityError("its signature is not that of a maintainer")
        elif plain.startswith(slots.PREFIX):
            if hashlib.sha256(raw).hexdigest() != plain.removeprefix(slots.PREFIX):
                raise IntegrityError("its bytes are not those that it is named by")
            if slots.decode_slot(raw).repository_id != keys.repository_id:
                message = "a slot of another repository: left by an init that was interrupted or too late"
                yield Problem(path=name, kind="unknown", message=message, fatal=False)
        else:
            yield Problem(path=name, kind="unknown", message="does not belong to a repository", fatal=False)
    except FreezerError as error:
        yield Problem(path=name, kind="damaged", message=str(error))


def _controlled(storage: Storage, keys: KeyRing, info: ObjectInfo) -> Iterator[Problem]:
    """A lease, mark, sweep, tombstone, hold, record or confirmation."""
    kind, role = _kind_of(info.name)
    try:
        control.open(keys, kind, info.name, documents.read_range(storage, info.name), role=role)
    except ObjectNotFound:
        return
    except (IntegrityError, UnsupportedFormat) as error:
        yield Problem(path=info.name, kind="damaged", message=str(error))


def _kind_of(name: str) -> tuple[str, Role]:
    if name.startswith(lease.PREFIX):
        return lease.CLOSED_KIND if name.endswith("/closed") else lease.KIND, Role.WRITER
    return confirmed.kind_of(name) or "", Role.MAINTAINER
