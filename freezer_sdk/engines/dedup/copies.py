"""Second copies of configurations and slots that a power cut kept from being written."""

from __future__ import annotations

from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup import documents, slots
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.stored import Stored
from freezer_sdk.engines.dedup.unlisted import find_object
from freezer_sdk.errors import IntegrityError, StorageError, UnsupportedFormat
from freezer_sdk.storages.base import Storage


def complete_copies(storage: Storage, keys: KeyRing) -> None:
    """Writes what was missing when the repository was opened; only for maintainers, and only from what is whole.

    A storage that refuses is not reported: nothing depends on it now, and verification tells it.
    """
    if not keys.lacking or Role.MAINTAINER not in keys.roles:
        return
    try:
        keys.require("maintain")
        for name in sorted(Stored(storage).lacking):
            if find_object(storage, name) is not None:  # only the listing lacks it
                continue
            raw = _whole(storage, keys, configs.twin_of(name))
            if raw is not None:
                storage.put(name, [raw], if_absent=storage.capabilities.conditional_put)
    except (StorageError, UnsupportedFormat):
        return


def _whole(storage: Storage, keys: KeyRing, name: str) -> bytes | None:
    """The bytes of a configuration or slot that belongs to the repository and is as it was written."""
    plain, config = name.removeprefix(configs.COPIES), keys.config
    number = configs.number_of(plain)
    try:
        raw = documents.read_bounded(storage, name, slots.MAX_SIZE if number is None else configs.MAX_SIZE)
        if raw is None:
            return None
        if number is not None:
            signed = configs.decode_config(raw, number)
            ours = signed.config.repository_id == keys.repository_id and number <= config.number
            return raw if ours and signed.vouched_by(config.former_maintainers()) else None
        slot = slots.decode_slot(raw)
        ours = slot.repository_id == keys.repository_id and config.slot(slot.slot_id) is not None
        return raw if ours and slots.name_of(raw) == plain else None
    except (IntegrityError, UnsupportedFormat):
        return None


def broken_copies(storage: Storage, keys: KeyRing) -> dict[str, bytes]:
    """Configurations and slots that are damaged or missing in one of their two places, and what belongs there.

    Only what is whole in the other place counts, and the configuration in force, which is known.

    Raises:
        StorageError.
    """
    current, found = configs.name_of(keys.config.number), dict[str, bytes]()
    names = {info.name for prefix in (configs.PREFIX, slots.PREFIX, configs.COPIES) for info in storage.list(prefix)}
    plain_names = {name.removeprefix(configs.COPIES) for name in names}
    for plain in sorted({name for name in plain_names if configs.number_of(name) or slots.is_name(name)} | {current}):
        places = (plain, configs.twin_of(plain))
        whole = {name: raw for name in places if (raw := _whole(storage, keys, name)) is not None}
        right = keys.signed_config.raw if plain == current else next(iter(whole.values()), None)
        if right is not None:
            found |= {name: right for name in places if whole.get(name) != right}
    return found
