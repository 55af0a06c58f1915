"""The key ring: everything that an open repository can do with its keys."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from freezer_sdk.crypto import hpke, sign
from freezer_sdk.crypto.hashing import derive
from freezer_sdk.engines.dedup.config import OWNER, Role, SignedConfig, check_features, signed_message
from freezer_sdk.engines.dedup.epochs import EpochSecrets
from freezer_sdk.engines.dedup.slots import SlotSecrets
from freezer_sdk.errors import AccessDenied, IntegrityError
from freezer_sdk.model import Problem

__all__ = ["OWNER", "KeyRing", "Role", "RunKey"]

SEALED_SIZE: Final = 32 + hpke.OVERHEAD
"""Length of a sealed run key."""

_RUN_KEY: Final = b"freezer-sdk/1/run-key\0"
_DATA_IDS: Final = "freezer-sdk/1/data-ids"
_META_IDS: Final = "freezer-sdk/1/meta-ids"
_MAX_CACHED: Final = 65_536
_HINTS: Final = {
    Role.WRITER: "backups are made, copied and pruned with the password of a writer or an owner",
    Role.READER: "backups are listed, restored and verified with the password of a reader or an owner",
    Role.MAINTAINER: "what is deleted, and who has keys, is decided with the password of a maintainer or an owner",
}


class RunKey(NamedTuple):
    """The random key of one run: what it encrypts, only readers open.

    Attributes:
        key: 32 bytes, secret.
        sealed: 80 bytes, stored beside what the key encrypts.
    """

    epoch: int
    key: bytes
    sealed: bytes

    def __repr__(self) -> str:
        return f"RunKey(epoch={self.epoch})"


class KeyRing:
    """The keys of one slot in one repository. May be used from several threads.

    Made by :func:`~freezer_sdk.engines.dedup.access.create_repository` and ``open_repository``.

    Attributes:
        repository_id: 16 bytes.
        slot_id: 16 bytes: who we are.
        roles: what we may do.
        encrypted: false for the open slot.
        config: the newest valid configuration.
        signed_config: the same as stored.
        supported: features that this program knows.
        problems: what was found damaged on the way, and replaced by its second copy.
        lacking: names of configurations and slots of which only the other copy was there.
        secret, epochs: the keys themselves, for those who administer them.
        confirmed: names and SHA-256 (hex) of what removed maintainers have signed and what counts.
    """

    def __init__(
        self,
        *,
        signed_config: SignedConfig,
        slot_id: bytes,
        secret: SlotSecrets,
        epochs: Mapping[int, EpochSecrets],
        supported: frozenset[str] = frozenset(),
        problems: tuple[Problem, ...] = (),
        lacking: frozenset[str] = frozenset(),
    ) -> None:
        config = signed_config.config
        self._roster = {slot.id: slot for slot in config.roster}
        self.signed_config, self.config = signed_config, config
        self.repository_id, self.slot_id = config.repository_id, slot_id
        self.roles = self._roster[slot_id].roles
        self.encrypted = config.encrypted
        self.supported, self.problems, self.lacking = supported, problems, lacking
        self.secret, self.epochs = secret, dict(epochs)
        self.confirmed: frozenset[tuple[str, str]] = frozenset()
        newest = self.epochs[config.epoch]
        self._data_hash_key = derive(_DATA_IDS, newest.hash_key)
        self._meta_hash_key = derive(_META_IDS, newest.hash_key)
        self._opened: dict[tuple[int, bytes], bytes] = {}

    def __repr__(self) -> str:
        return f"KeyRing(repository={self.repository_id.hex()}, slot={self.slot_id.hex()}, epoch={self.epoch})"

    @property
    def epoch(self) -> int:
        """The newest epoch: the one to write in."""
        return self.config.epoch

    @property
    def chunker_seed(self) -> int:
        """Secret, 1 to 2**63-1."""
        return self.epochs[self.epoch].chunker_seed

    def data_hash_key(self) -> bytes:
        """Names blobs of file data; 32 bytes, secret, the same in all epochs."""
        return self._data_hash_key

    def meta_hash_key(self) -> bytes:
        """Names blobs of pages and lists; 32 bytes, secret, the same in all epochs."""
        return self._meta_hash_key

    def require(self, kind: str) -> None:
        """Refuses to go on when the repository needs features for it that this program does not know.

        Args:
            kind: ``read``, ``write`` or ``maintain``.

        Raises:
            UnsupportedFormat: names the features.
        """
        check_features(self.config, kind, self.supported)

    def require_role(self, role: Role) -> None:
        """Refuses to go on without a role.

        Raises:
            AccessDenied: this slot does not have it.
        """
        if role not in self.roles:
            raise AccessDenied(
                f"this needs the role {role}; the slot of this password has {', '.join(sorted(self.roles))}",
                hint=_HINTS[role],
            )

    def trusts(self, slot_id: bytes) -> bool:
        """Whether to build on what this slot wrote: our own slot, maintainers, and whom the roster calls trusted.

        Reading needs no trust, since names prove contents. Reuse does: who writes packs with false contents would
        spoil the backups of all who refer to them instead of storing their own.
        """
        return bytes(slot_id) == self.slot_id or self.vouches_for(slot_id)

    def vouches_for(self, slot_id: bytes) -> bool:
        """Whether the roster calls a slot trusted, or it is a maintainer: the same for whoever asks."""
        line = self._roster.get(bytes(slot_id))
        return line is not None and (line.trusted or (line.revoked is None and Role.MAINTAINER in line.roles))

    def is_removed(self, slot_id: bytes) -> bool:
        """Whether a slot was revoked."""
        line = self._roster.get(bytes(slot_id))
        return line is not None and line.revoked is not None

    def speaks_for(self, slot_id: bytes, host: str) -> bool:
        """Whether backups of this host count when this slot signed them."""
        line = self._roster.get(bytes(slot_id))
        return line is not None and line.speaks_for(host)

    def index_key(self, epoch: int) -> bytes:
        """The key of what writers may read in an epoch: tables, indexes, control objects; 32 bytes, secret.

        Raises:
            IntegrityError: there is no such epoch, or its keys are lost.
        """
        return self._epoch(epoch).index_key

    def new_run_key(self) -> RunKey:
        """A random key, sealed to the readers of the newest epoch."""
        newest = self._epoch(self.epoch)
        key = secrets.token_bytes(32)
        return RunKey(newest.number, key, hpke.seal(newest.data_public, key, self._run_key_info(newest.number)))

    def open_run_key(self, epoch: int, sealed: bytes) -> bytes:
        """The key that a run sealed; 32 bytes, secret.

        Raises:
            AccessDenied: this slot is not allowed to read.
            IntegrityError: damaged, or of another repository or epoch.
        """
        sealed = bytes(sealed)
        known = self._opened.get((epoch, sealed))
        if known is not None:
            return known
        self.require_role(Role.READER)
        private = self._epoch(epoch).data_private
        if private is None:  # a reader's bundle holds it, or was refused
            raise IntegrityError(f"the keys of epoch {epoch} are not whole")
        key = hpke.open(private, sealed, self._run_key_info(epoch))
        if len(key) != 32:
            raise IntegrityError("a sealed key is of a wrong length")
        if len(self._opened) >= _MAX_CACHED:
            self._opened.clear()
        self._opened[epoch, sealed] = key
        return key

    def sign(self, context: bytes, payload: bytes) -> bytes:
        """A signature in the name of this slot, 64 bytes.

        Args:
            context: the kind of thing and its name; checking needs the same. Must tell apart whatever must not
                be taken for one another.
        """
        return self.secret.signing.sign(signed_message(self.repository_id, self.slot_id, context, payload))

    def check(
        self,
        signer: bytes,
        context: bytes,
        payload: bytes,
        signature: bytes,
        *,
        role: Role,
        epoch: int | None = None,
    ) -> None:
        """Refuses what was not signed by a slot of the role.

        Args:
            signer: slot id, 16 bytes.
            epoch: the epoch that the thing is encrypted in. What a slot that was revoked since then signed in an
                earlier epoch still counts; without an epoch it does not.

        Raises:
            IntegrityError: unknown, revoked, without the role, or not the signature of this.
        """
        slot = self._roster.get(bytes(signer))
        if slot is None:
            raise IntegrityError(f"signed by the slot {bytes(signer).hex()}, which is not in the configuration")
        if role not in slot.roles:
            raise IntegrityError(f"signed by the slot {slot.id.hex()}, which does not have the role {role}")
        if slot.revoked is not None and (epoch is None or epoch >= slot.revoked):
            raise IntegrityError(f"signed by the slot {slot.id.hex()}, which was revoked")
        message = signed_message(self.repository_id, slot.id, context, payload)
        if not sign.verify(slot.signing_public, message, signature):
            raise IntegrityError(f"the signature of the slot {slot.id.hex()} is not valid")

    def _epoch(self, number: int) -> EpochSecrets:
        try:
            return self.epochs[number]
        except KeyError:
            raise IntegrityError(f"there are no keys for epoch {number}") from None

    def _run_key_info(self, epoch: int) -> bytes:
        return _RUN_KEY + self.repository_id + struct.pack("<I", epoch)
