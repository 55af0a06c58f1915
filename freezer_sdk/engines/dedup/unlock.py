"""From the secrets of a slot to the configuration that holds, and the keys that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from freezer_sdk.crypto import hpke
from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup.config import Epoch, SignedConfig, Slot
from freezer_sdk.engines.dedup.confirmed import read_confirmed
from freezer_sdk.engines.dedup.epochs import EpochSecrets, open_bundle
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.slots import SlotObject, SlotSecrets
from freezer_sdk.engines.dedup.stored import Stored
from freezer_sdk.errors import IntegrityError, UnsupportedFormat, WrongPassword


def unlock(
    stored: Stored,
    secret: SlotSecrets,
    *,
    repository_id: bytes,
    slot_id: bytes,
    encrypted: bool,
    supported: frozenset[str],
) -> KeyRing:
    """Finds the newest configuration that the slot can trust, and opens its bundles.

    Args:
        encrypted: whether the secrets were wrapped under a password.

    Raises:
        IntegrityError: nothing that the slot can trust, or keys that do not fit.
        WrongPassword: the slot was removed.
        UnsupportedFormat: a newer version, or a feature that is not known.
        StorageError.
    """
    ours = [slot for slot in stored.slots if slot.repository_id == repository_id]
    signed = _Chain(stored, repository_id, ours).newest(secret)
    config = signed.config
    if config.encrypted is not encrypted:
        raise IntegrityError("the slot and the configuration disagree about encryption")
    entry = config.slot(slot_id)
    if entry is None or entry.revoked is not None:
        raise WrongPassword("this password was removed from the repository", hint="use a current password")
    if (entry.kem_public, entry.signing_public) != (hpke.public_key(secret.kem_private), secret.signing.public):
        raise IntegrityError("the configuration names other keys for this slot than it holds")
    configs.check_features(config, "read", supported)
    own = [slot for slot in ours if slot.slot_id == slot_id]
    epochs: dict[int, EpochSecrets] = {}
    for epoch in config.epochs:
        found = _open_epoch(own, secret, epoch, entry)
        if found is not None:
            epochs[epoch.number] = found
        elif epoch.number == config.epoch:
            raise IntegrityError(f"the slot has no keys for epoch {epoch.number}")
        else:
            message = f"the slot has no keys for epoch {epoch.number}"
            stored.damaged(configs.name_of(config.number), message)
    keys = KeyRing(
        signed_config=signed,
        slot_id=slot_id,
        secret=secret,
        epochs=epochs,
        supported=supported,
        problems=tuple(stored.problems),
        lacking=stored.lacking,
    )
    keys.confirmed = read_confirmed(stored.storage, keys)
    return keys


def _open_epoch(own: Sequence[SlotObject], secret: SlotSecrets, epoch: Epoch, entry: Slot) -> EpochSecrets | None:
    for other in own:
        bundle = other.bundles.get(epoch.number)
        if bundle is None:
            continue
        try:
            return open_bundle(
                bundle,
                repository_id=other.repository_id,
                slot_id=entry.id,
                kem_private=secret.kem_private,
                epoch=epoch,
                roles=entry.roles,
            )
        except (IntegrityError, UnsupportedFormat):
            continue  # a forged or outdated object of the slot; another one may be whole
    return None


class _Chain:
    """The configurations, from the one that the slot trusts to the newest that follows from it."""

    def __init__(self, stored: Stored, repository_id: bytes, slots: Sequence[SlotObject]) -> None:
        self._stored, self._repository_id = stored, repository_id
        self._embedded: dict[int, list[SignedConfig]] = {}
        for raw in {slot.config for slot in slots}:
            try:
                signed = configs.decode_config(raw)
            except (IntegrityError, UnsupportedFormat):
                continue
            self._embedded.setdefault(signed.config.number, []).append(signed)
        self._numbers = sorted({*stored.numbers, *self._embedded})

    def newest(self, secret: SlotSecrets) -> SignedConfig:
        """Each configuration must be signed by a maintainer of the valid one before it.

        Raises:
            IntegrityError: none is.
            UnsupportedFormat: a newer one is of a version that is not known.
        """
        trusted, best, stored = secret.trust, None, False
        refusal: UnsupportedFormat | None = None
        for number in self._numbers:
            if number < secret.trust_number:
                continue
            try:
                valid = self._valid(number, trusted)
            except UnsupportedFormat as error:
                refusal = error
                continue
            if valid is not None:
                best, trusted, refusal = valid[0], valid[0].config.maintainers(), None
                stored = stored or valid[1]
        if refusal is not None:
            raise refusal
        if best is None or not stored:
            raise IntegrityError("no configuration is signed by a maintainer whom this slot trusts")
        return best

    def _valid(self, number: int, trusted: Mapping[bytes, bytes]) -> tuple[SignedConfig, bool] | None:
        """The configuration of a number, and whether it lay in a place of its own: first, second, then in a slot.

        Raises:
            UnsupportedFormat: none is valid, and one is of a version that is not known.
        """
        refusal = None
        for name, raw in self._stored.config(number):
            try:
                if raw is None:
                    raise IntegrityError("the configuration is missing or damaged here")
                signed = configs.decode_config(raw, number)
                if self._vouched(signed, trusted):
                    return signed, True
                raise IntegrityError("the configuration here is not signed by a maintainer")
            except UnsupportedFormat as error:
                if configs.is_signed_by(raw or b"", self._repository_id, trusted):  # anybody may have put another
                    refusal = error
                self._stored.damaged(name, error.message)
            except IntegrityError as error:
                self._stored.damaged(name, error.message)
        for signed in self._embedded.get(number, ()):
            if self._vouched(signed, trusted):
                return signed, False
        if refusal is not None:
            raise refusal
        return None

    def _vouched(self, signed: SignedConfig, trusted: Mapping[bytes, bytes]) -> bool:
        return signed.config.repository_id == self._repository_id and signed.vouched_by(trusted)
