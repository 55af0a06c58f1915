"""The slot objects of one slot: wrapped anew under another password, and removed (repository-format, "Slots")."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import documents, slots
from freezer_sdk.engines.dedup.config import COPIES
from freezer_sdk.engines.dedup.epochs import Bundle
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.recovery_key import phrase_of
from freezer_sdk.engines.dedup.slots import SlotObject, SlotSecrets, store_slot, wrap
from freezer_sdk.engines.dedup.stored import Stored
from freezer_sdk.errors import ConfigurationError, IntegrityError, StorageError, UnsupportedFormat
from freezer_sdk.storages.base import Storage

_TRIED: Final = 32  # wrappings that a new password is tried on
_DEAREST: Final = 4 * Argon2Params().memory * Argon2Params().time  # those that cost more are somebody's trap


def refuse_known_password(storage: Storage, keys: KeyRing, password: str) -> None:
    """One password must not open two slots: nobody could choose between them.

    Raises:
        ConfigurationError: a slot of the repository opens with it.
        StorageError.
    """
    phrase = phrase_of(password)
    live = {line.id for line in keys.config.roster if line.revoked is None}
    objects = [slot for slot in Stored(storage).slots if slot.repository_id == keys.repository_id]
    wrappings = {slot.kdf: slot for slot in objects if slot.slot_id in live and not slot.open}
    for kdf, slot in list(wrappings.items())[:_TRIED]:
        if kdf.params is None or kdf.params.memory * kdf.params.time > _DEAREST:
            continue
        try:
            slot.unwrap(kdf.root(phrase))
        except (IntegrityError, UnsupportedFormat):
            continue
        raise ConfigurationError(
            f"this password opens the key {slot.slot_id.hex()[:8]} already", hint="choose another password"
        )


def change_password(
    storage: Storage, keys: KeyRing, password: str, *, kdf: Argon2Params | None = None
) -> tuple[str, ...]:
    """Wraps the secrets of our slot under another password; no other key and no data change.

    The old wrapping goes when the new one is stored twice and was read back: whenever this ends, one of the two
    passwords opens the repository.

    Returns:
        Names of objects with the old password that are still there: the storage did not let them go, or a maintainer
        rotates at this moment and they hold keys to come.

    Raises:
        ConfigurationError: no encryption here, or an unusable password.
        IntegrityError: the new slot does not come back as it was stored; the old one is still there.
        StorageError.
    """
    if not keys.encrypted:
        raise ConfigurationError("an unencrypted repository has no passwords")
    refuse_known_password(storage, keys, password)
    secret = SlotSecrets(
        kem_private=keys.secret.kem_private,
        signing=keys.secret.signing,
        trust_number=keys.config.number,
        trust=keys.config.maintainers(),
    )
    phrase, old = phrase_of(password), _objects(storage, keys, keys.slot_id)
    params, wrapped = wrap(
        secret,
        repository_id=keys.repository_id,
        slot_id=keys.slot_id,
        password=phrase,
        params=kdf or Argon2Params(),
    )
    new = SlotObject(
        repository_id=keys.repository_id,
        slot_id=keys.slot_id,
        serial=min(documents.MAX_NUMBER, 1 + max((slot.serial for slot in old.values()), default=0)),
        kdf=params,
        wrapped=wrapped,
        bundles=_bundles(keys),
        config=keys.signed_config.raw,
    )
    name = store_slot(storage, new)
    storage.flush()
    _read_back(storage, name, new, phrase)
    old = _objects(storage, keys, keys.slot_id)  # once more: a rotation may have added some
    if name not in old:
        return _unseen(storage, name, old)
    ahead = {each for each, slot in old.items() if each != name and max(slot.bundles, default=0) > keys.epoch}
    left = _delete(storage, [each for each in old if each != name and each not in ahead])
    return (*left, *sorted(ahead))


def _unseen(storage: Storage, name: str, old: Collection[str]) -> tuple[str, ...]:
    """The listing lacks the new slot: the old one must stay.

    Raises:
        IntegrityError: it would go on lacking it.
    """
    if storage.capabilities.listing_lag:
        return tuple(sorted(old))
    _delete(storage, [name])
    raise IntegrityError(
        "readers would not find the new slot: there are more objects below keys/ than they look at",
        hint="the old password still works; remove what is no slot of this repository, then try again",
    )


def drop_slots(storage: Storage, keys: KeyRing, slot_id: bytes) -> tuple[str, ...]:
    """Deletes what a removed holder opened the repository with; the configuration has revoked it before.

    Returns:
        Names of objects that the storage did not let go; nothing depends on them.
    """
    try:
        return _delete(storage, list(_objects(storage, keys, slot_id)))
    except StorageError:
        return ()


def _objects(storage: Storage, keys: KeyRing, slot_id: bytes) -> dict[str, SlotObject]:
    return {
        name: slot
        for name, slot in Stored(storage).named_slots.items()
        if slot.repository_id == keys.repository_id and slot.slot_id == slot_id
    }


def _bundles(keys: KeyRing) -> dict[int, Bundle]:
    """The secrets of all epochs that we know, sealed to ourselves."""
    line = keys.config.slot(keys.slot_id)
    assert line is not None
    return {
        number: epoch.seal(keys.repository_id, keys.slot_id, line.kem_public, line.roles)
        for number, epoch in keys.epochs.items()
    }


def _read_back(storage: Storage, name: str, new: SlotObject, phrase: bytes) -> None:
    for place in (name, COPIES + name):
        if storage.get(place) != new.encode():
            raise IntegrityError(f"{place} does not come back as it was stored", hint="the old password still works")
    slots.decode_slot(new.encode()).unwrap(new.kdf.root(phrase))


def _delete(storage: Storage, names: list[str]) -> tuple[str, ...]:
    """Deletes slots and their second copies; what cannot be deleted is returned."""
    left = []
    for name in names:
        for place in (COPIES + name, name):
            try:
                storage.delete(place)
            except StorageError:
                left.append(place)
    return tuple(left)
