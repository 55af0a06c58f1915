"""Making and opening repositories: from a storage and a password to a key ring."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.crypto import hpke, sign
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup import documents
from freezer_sdk.engines.dedup.chunker import DEFAULT_CLASSES, ChunkerClass
from freezer_sdk.engines.dedup.config import COPIES, FEATURE_KINDS, OWNER, Config, SignedConfig, Slot
from freezer_sdk.engines.dedup.epochs import EpochSecrets
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.recovery_key import phrase_of
from freezer_sdk.engines.dedup.slots import SlotObject, SlotSecrets, store_slot, wrap
from freezer_sdk.engines.dedup.stored import Stored
from freezer_sdk.engines.dedup.unlisted import find_object
from freezer_sdk.engines.dedup.unlock import unlock
from freezer_sdk.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectExists,
    PolicyRefusal,
    RepositoryExists,
    RepositoryNotFound,
    UnsupportedFormat,
    WrongPassword,
)
from freezer_sdk.storages.base import Storage

PasswordSource = Callable[[], str | None]

_LISTING_HINT: Final = "if other clients can open it, the storage may list only a part of what it holds"
_INIT_HINT: Final = "freezer repository init makes one; check the storage's URL"


def is_repository(storage: Storage) -> bool:
    """Whether the storage holds a repository of this engine, whole or damaged.

    Raises:
        StorageError.
    """
    return bool(Stored(storage).numbers)


def create_repository(
    storage: Storage,
    *,
    password: str | None,
    features: Mapping[str, Collection[str]] | None = None,
    chunker_classes: tuple[ChunkerClass, ...] = DEFAULT_CLASSES,
    segment: int = 1 << 20,
    grace: int = configs.DEFAULT_GRACE,
    label: str = "",
    supported: frozenset[str] = frozenset(),
    kdf: Argon2Params | None = None,
    short_grace: bool = False,
    like: KeyRing | None = None,
) -> KeyRing:
    """Makes a repository with one owner slot.

    The configuration is stored last and makes the repository visible. Where the storage has conditional put,
    of several programs that do this at the same time one wins.

    Args:
        password: ``None``: no encryption.
        features: by kind (``read``, ``write``, ``maintain``) what a program must know.
        grace: seconds, an hour at least.
        label: of the slot, in clear text.
        supported: features that this program knows.
        kdf: costs of the password; the defaults are right for people.
        short_grace: for tests: allow a grace time of seconds.
        like: keys of a repository whose hash key, chunker seed and sizes the new one gets: what is stored in one has
            the same names in the other. All else is new.

    Raises:
        RepositoryExists: there is one already, or another program was faster.
        ConfigurationError: an empty password, or values out of bounds.
        PolicyRefusal: without encryption, but like one that is encrypted.
        StorageError.
    """
    if like is not None and like.encrypted and password is None:
        raise PolicyRefusal(
            "an unencrypted repository cannot be like an encrypted one: it would publish the key that names content",
            hint="encrypt both (the passwords may differ), or make it without a model: copies work all the same",
        )
    if is_repository(storage):
        raise _exists(storage)
    model = None
    if like is not None:
        model = like.epochs[like.epoch]
        chunker_classes, segment = like.config.chunker_classes, like.config.segment
    phrase = None if password is None else phrase_of(password)
    repository_id, slot_id, now = secrets.token_bytes(16), secrets.token_bytes(16), datetime.now(UTC)
    kem, signing, epoch = hpke.generate(), sign.SigningKey.generate(), EpochSecrets.generate(1, model)
    config = configs.check_choices(
        Config(
            repository_id=repository_id,
            number=1,
            created=now,
            changed=now,
            encrypted=phrase is not None,
            features={kind: tuple(sorted((features or {}).get(kind, ()))) for kind in FEATURE_KINDS},
            grace=grace,
            chunker_classes=chunker_classes,
            segment=segment,
            epochs=(epoch.public(repository_id, now),),
            roster=(
                Slot(
                    id=slot_id,
                    label=label,
                    roles=OWNER,
                    kem_public=kem.public,
                    signing_public=signing.public,
                    since=1,
                    trusted=True,
                ),
            ),
        ),
        short_grace=short_grace,
    )
    signed = configs.encode_config(config, slot_id, signing)
    secret = SlotSecrets(kem_private=kem.private, signing=signing, trust_number=1, trust=config.maintainers())
    params, wrapped = wrap(
        secret, repository_id=repository_id, slot_id=slot_id, password=phrase, params=kdf or Argon2Params()
    )
    slot = SlotObject(
        repository_id=repository_id,
        slot_id=slot_id,
        serial=1,
        kdf=params,
        wrapped=wrapped,
        bundles={1: epoch.seal(repository_id, slot_id, kem.public, OWNER)},
        config=signed.raw,
    )
    name = store_slot(storage, slot)
    try:
        store_config(storage, signed)
    except ObjectExists:
        storage.delete_many([name, COPIES + name])
        raise _exists(storage) from None
    return KeyRing(signed_config=signed, slot_id=slot_id, secret=secret, epochs={1: epoch}, supported=supported)


def open_repository(
    storage: Storage, password_source: PasswordSource, *, supported: frozenset[str] = frozenset()
) -> KeyRing:
    """Opens a repository; writes nothing.

    Args:
        password_source: asked once, after it is known that there is a repository and that it is encrypted. For an
            unencrypted one it is asked too, so that a password that was meant to protect is not silently ignored,
            unless it has an attribute ``interactive`` that is true (it would disturb a person).
        supported: features that this program knows.

    Raises:
        RepositoryNotFound: nothing here.
        UnsupportedFormat: a newer version, or a feature that is not known.
        WrongPassword: none, or no slot opens with it.
        ConfigurationError: a password for an unencrypted repository.
        IntegrityError: damaged in both places, or forged.
        StorageError.
    """
    stored = Stored(storage)
    if not stored.numbers:
        raise RepositoryNotFound(f"there is no repository at {storage.location}", hint=_INIT_HINT)
    next(_previews(stored, supported))  # refuses what this program does not know, before anybody is asked
    slots = _candidates(stored)
    if not slots:
        message = f"no slot of the repository at {storage.location} can be read; it cannot be opened"
        raise IntegrityError(message, hint=_LISTING_HINT)
    phrase = _ask(password_source, slots)
    failure: Exception | None = None
    roots: dict[object, bytes] = {}
    for slot in slots:
        if slot.open is not (phrase is None):
            continue  # an open slot among others was planted: it must not answer for the password
        try:
            if slot.kdf not in roots:
                roots[slot.kdf] = slot.kdf.root(phrase or b"")
            secret = slot.unwrap(roots[slot.kdf])
        except (IntegrityError, UnsupportedFormat):
            continue
        try:
            return unlock(
                stored,
                secret,
                repository_id=slot.repository_id,
                slot_id=slot.slot_id,
                encrypted=not slot.open,
                supported=supported,
            )
        except (IntegrityError, WrongPassword) as error:
            failure = failure or error
    if failure is not None:
        raise failure
    lacking = _lacking_slots(stored, supported)
    if lacking:
        message = f"no slot that can be read opens with this password, and {lacking} of the repository cannot be read"
        raise IntegrityError(message, hint=f"check the password; {_LISTING_HINT}")
    raise WrongPassword("no slot of the repository opens with this password", hint="check the password")


def store_config(storage: Storage, signed: SignedConfig) -> None:
    """Puts a configuration under its number, and its second copy. What it builds on is made durable before.

    Raises:
        ObjectExists: another one has this number.
        StorageError.
    """
    storage.flush()
    name = configs.name_of(signed.config.number)
    capabilities = storage.capabilities
    if not capabilities.conditional_put and find_object(storage, name) is not None:
        raise ObjectExists(f"{name} is there already")
    try:
        storage.put(name, [signed.raw], if_absent=capabilities.conditional_put)
    except ObjectExists:
        if documents.read_bounded(storage, name, configs.MAX_SIZE) != signed.raw:
            raise
        # else it is ours: an answer was lost on the way, and the storage was asked again
    if not capabilities.conditional_put:
        time.sleep(capabilities.listing_lag.total_seconds())
        if documents.read_bounded(storage, name, configs.MAX_SIZE) != signed.raw:
            raise ObjectExists(f"{name} was stored by another program at the same time")
    storage.put(COPIES + name, [signed.raw])
    storage.flush()


def _previews(stored: Stored, supported: frozenset[str]) -> Iterator[Config]:
    """Configurations before any trust, newest first: they only say who to ask, or that nobody needs to be asked.

    Raises:
        UnsupportedFormat: none is anything for this program.
        IntegrityError: all are damaged.
    """
    refusal, found = None, False
    for number in sorted(stored.numbers, reverse=True):
        for _, raw in stored.config(number):
            try:
                config = configs.decode_config(raw or b"", number).config
                configs.check_features(config, "read", supported)
            except UnsupportedFormat as error:  # whether it counts is known when its signature can be checked
                refusal = refusal or error
            except IntegrityError:
                pass
            else:
                found = True
                yield config
    if refusal is not None and not found:
        raise refusal
    if not found:
        raise IntegrityError("the configuration of the repository is damaged in both places")


def _lacking_slots(stored: Stored, supported: frozenset[str]) -> int:
    """How many of those in the roster were not found: they are damaged, or the listing lacks them."""
    config = next(_previews(stored, supported))
    return len({slot.id for slot in config.roster if slot.revoked is None} - {slot.slot_id for slot in stored.slots})


def _candidates(stored: Stored) -> list[SlotObject]:
    """The slots of the repositories that a configuration is there of (a lost race leaves others).

    The oldest come first: whoever can add objects can add slots that cost minutes to try, and configurations that name
    them, but cannot put them before those that were there already.
    """
    known = set()
    for number in stored.numbers:
        for _, raw in stored.config(number):
            with suppress(IntegrityError, UnsupportedFormat):
                known.add(configs.decode_config(raw or b"", number).config.repository_id)
                break
    return [slot for slot in stored.slots if slot.repository_id in known] or list(stored.slots)


def _ask(source: PasswordSource, slots: Sequence[SlotObject]) -> bytes | None:
    if all(slot.open for slot in slots):
        if not getattr(source, "interactive", False) and source() is not None:
            raise ConfigurationError(
                "a password was given, but this repository is not encrypted",
                hint="if it used to be encrypted, somebody has replaced it; else give no password",
            )
        return None
    password = source()
    if password is None:
        raise WrongPassword(
            "the repository is encrypted and needs a password",
            hint="give it by prompt, file, command, environment or keyring",
        )
    return phrase_of(password)


def _exists(storage: Storage) -> RepositoryExists:
    return RepositoryExists(f"there is a repository at {storage.location} already")
