"""Changing who holds keys, and the configuration: for maintainers (repository-format, "Keys")."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.crypto import hpke, sign
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup.access import store_config
from freezer_sdk.engines.dedup.config import COPIES, Config, Role, Slot
from freezer_sdk.engines.dedup.epochs import EpochSecrets
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.recovery_key import phrase_of
from freezer_sdk.engines.dedup.slots import SlotObject, SlotSecrets, store_slot, wrap
from freezer_sdk.engines.dedup.stored import Stored
from freezer_sdk.engines.dedup.unlock import unlock
from freezer_sdk.errors import ConfigurationError, IntegrityError, ObjectExists, RepositoryLocked
from freezer_sdk.storages.base import Storage

_ATTEMPTS: Final = 8

_Change = tuple[Config, Collection[SlotObject]]


def reload(storage: Storage, keys: KeyRing) -> KeyRing:
    """The same key ring with what was configured since; needs no password.

    Raises:
        IntegrityError: the configuration is older than the one that is known: the storage was set back.
        WrongPassword: the slot was removed meanwhile.
        UnsupportedFormat, StorageError.
    """
    fresh = unlock(
        Stored(storage),
        keys.secret,
        repository_id=keys.repository_id,
        slot_id=keys.slot_id,
        encrypted=keys.encrypted,
        supported=keys.supported,
    )
    if fresh.config.number < keys.config.number:
        raise IntegrityError(
            f"configuration {keys.config.number} was there and is not any more: the storage was set back",
            hint="find out who restored or changed the storage before anything is written to it",
        )
    return fresh


def add_slot(
    storage: Storage,
    keys: KeyRing,
    *,
    password: str,
    roles: Collection[Role],
    label: str = "",
    trusted: bool | None = None,
    hosts: Collection[str] | None = None,
    kdf: Argon2Params | None = None,
) -> Slot:
    """Lets another password open the repository. No data are encrypted again.

    Args:
        roles: a maintainer must be a reader too.
        label: in clear text.
        trusted: whether other writers build on what it writes; by default only on what a maintainer writes.
        hosts: whose backups it may make; any host's by default.

    Returns:
        The new line of the roster; :func:`reload` gives a key ring that knows it.

    Raises:
        ConfigurationError: no encryption here, an empty password, or roles that make no sense.
        AccessDenied: our slot may not maintain.
        RepositoryLocked: others change the configuration all the time.
        StorageError.
    """
    if not keys.encrypted:
        raise ConfigurationError("an unencrypted repository has no passwords")
    held = frozenset(roles)
    if not held or (Role.MAINTAINER in held and Role.READER not in held):
        raise ConfigurationError("a slot needs a role, and a maintainer must be a reader too")
    phrase = phrase_of(password)
    slot_id, kem, signing = secrets.token_bytes(16), hpke.generate(), sign.SigningKey.generate()

    def change(ring: KeyRing) -> _Change:
        old = ring.config
        secret = SlotSecrets(kem_private=kem.private, signing=signing, trust_number=old.number, trust=old.maintainers())
        params, wrapped = wrap(
            secret,
            repository_id=old.repository_id,
            slot_id=slot_id,
            password=phrase,
            params=kdf or Argon2Params(),
        )
        stored = SlotObject(
            repository_id=old.repository_id,
            slot_id=slot_id,
            serial=1,
            kdf=params,
            wrapped=wrapped,
            bundles={
                number: epoch.seal(old.repository_id, slot_id, kem.public, held)
                for number, epoch in ring.epochs.items()
            },
            config=ring.signed_config.raw,
        )
        line = Slot(
            id=slot_id,
            label=label,
            roles=held,
            kem_public=kem.public,
            signing_public=signing.public,
            since=old.number + 1,
            trusted=Role.MAINTAINER in held if trusted is None else trusted,
            hosts=None if hosts is None else tuple(sorted(set(hosts))),
        )
        return configs.successor(old, datetime.now(UTC), roster=(*old.roster, line)), [stored]

    line = _update(storage, keys, change).config.slot(slot_id)
    if line is None:  # pragma: no cover - a maintainer removed it in this moment
        raise RepositoryLocked("the new slot was removed at once by another maintainer")
    return line


def rotate(storage: Storage, keys: KeyRing, *, revoke: Collection[bytes] = (), keep_trust: bool = False) -> KeyRing:
    """Starts a new epoch with new keys for the remaining slots; nothing that is stored is encrypted again.

    Args:
        revoke: ids of slots that get no keys of the new epoch, and whose signatures in it count for nothing.
        keep_trust: others go on building on what these slots wrote. Not for keys that somebody may have stolen: a
            thief can still write as if it were before the removal.

    Raises:
        ConfigurationError: an unknown slot, or our own.
        AccessDenied: our slot may not maintain.
        IntegrityError: a remaining slot cannot be found.
        RepositoryLocked: others change the configuration all the time.
        StorageError.
    """
    gone = frozenset(revoke)
    if keys.slot_id in gone:
        raise ConfigurationError("a slot cannot remove itself", hint="use the password of another maintainer")

    def change(ring: KeyRing) -> _Change:
        old, now = ring.config, datetime.now(UTC)
        unknown = gone - {slot.id for slot in old.roster}
        if unknown:
            raise ConfigurationError(f"there is no slot {', '.join(sorted(slot.hex() for slot in unknown))}")
        epoch = EpochSecrets.generate(old.epoch + 1, ring.epochs[old.epoch])
        objects = _newest_objects(storage, old.repository_id)
        stored, roster = [], []
        for line in old.roster:
            if line.revoked is None and line.id in gone:
                roster.append(
                    dataclasses.replace(line, revoked=epoch.number, trusted=keep_trust and ring.trusts(line.id))
                )
                continue
            roster.append(line)
            if line.revoked is None:
                if line.id not in objects:
                    raise IntegrityError(
                        f"the slot {line.id.hex()} cannot be found", hint="revoke it, then add it anew"
                    )
                known = {**ring.epochs, epoch.number: epoch}
                bundles = {
                    number: each.seal(old.repository_id, line.id, line.kem_public, line.roles)
                    for number, each in known.items()
                }
                stored.append(objects[line.id].successor(bundles, ring.signed_config.raw))
        epochs = (*old.epochs, epoch.public(old.repository_id, now))
        return configs.successor(old, now, epochs=epochs, roster=tuple(roster)), stored

    return _update(storage, keys, change)


def reconfigure(
    storage: Storage,
    keys: KeyRing,
    *,
    grace: int | None = None,
    features: Mapping[str, Collection[str]] | None = None,
) -> KeyRing:
    """Changes the grace time (seconds), or adds needed features.

    Raises:
        ConfigurationError: out of bounds.
        AccessDenied: our slot may not maintain.
        RepositoryLocked: others change the configuration all the time.
        StorageError.
    """

    def change(ring: KeyRing) -> _Change:
        old = ring.config
        more = features or {}
        merged = {kind: tuple(sorted({*names, *more.get(kind, ())})) for kind, names in old.features.items()}
        new = configs.successor(old, datetime.now(UTC), features=merged)
        if grace is not None and grace != old.grace:
            new = dataclasses.replace(new, grace=grace, previous_grace=old.grace)
        return new, []

    return _update(storage, keys, change)


def _update(storage: Storage, keys: KeyRing, change: Callable[[KeyRing], _Change]) -> KeyRing:
    """Slots first, then the configuration that makes them count; begins anew when somebody else was faster."""
    for _ in range(_ATTEMPTS):
        taken = Stored(storage).numbers  # before the configuration is read: what comes later must collide with ours
        ring = reload(storage, keys)
        ring.require_role(Role.MAINTAINER)
        ring.require("maintain")
        new, slots = change(ring)
        new = _renumbered(new, _free_number(ring, taken))
        # what nobody could read must not be signed; a short grace time that a test has made may stay
        configs.check_choices(new, short_grace=new.grace == ring.config.grace)
        names = [store_slot(storage, slot) for slot in slots]
        try:
            _refuse_unseen(storage, slots)
        except IntegrityError:
            storage.delete_many([*names, *(COPIES + name for name in names)])
            raise
        try:
            store_config(storage, configs.encode_config(new, ring.slot_id, ring.secret.signing))
        except ObjectExists:
            storage.delete_many([*names, *(COPIES + name for name in names)])
            continue
        return reload(storage, ring)
    raise RepositoryLocked("others change the configuration all the time", hint="try again later")


def _free_number(ring: KeyRing, taken: Collection[int]) -> int:
    """The next number that is not taken: whoever can add objects can put what is no configuration under any."""
    number = ring.config.number + 1
    while number in taken:
        number += 1
    return number


def _renumbered(new: Config, number: int) -> Config:
    roster = (dataclasses.replace(line, since=number) if line.since == new.number else line for line in new.roster)
    return dataclasses.replace(new, number=number, roster=tuple(roster))


def _refuse_unseen(storage: Storage, slots: Collection[SlotObject]) -> None:
    """What readers pass over because there is too much else must not be what they are to rely on.

    Raises:
        IntegrityError: not all slots are among those that a reader looks at.
    """
    if storage.capabilities.listing_lag:
        return
    if slots and not set(map(SlotObject.encode, slots)) <= set(map(SlotObject.encode, Stored(storage).slots)):
        raise IntegrityError(
            "readers would not find the new slots: there are more objects below keys/ than they look at",
            hint="somebody puts objects there that are no slots of this repository; remove those first",
        )


def _newest_objects(storage: Storage, repository_id: bytes) -> dict[bytes, SlotObject]:
    newest: dict[bytes, SlotObject] = {}
    for slot in Stored(storage).slots:
        known = newest.get(slot.slot_id)
        if slot.repository_id == repository_id and (known is None or slot.serial > known.serial):
            newest[slot.slot_id] = slot
    return newest
