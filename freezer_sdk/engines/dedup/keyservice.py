"""Administration of keys: who opens the repository, and with what."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import keyholders, recovery_key
from freezer_sdk.engines.dedup.config import OWNER, VERSION, Role, Slot
from freezer_sdk.engines.dedup.confirmed import confirm
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.password import change_password, drop_slots, refuse_known_password
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.engines.dedup.upkeep.prune import Prune
from freezer_sdk.errors import AmbiguousError, ConfigurationError, FreezerError, PolicyRefusal
from freezer_sdk.key_model import (
    KeyInfo,
    KeyRole,
    PasswordChange,
    RecoveryKey,
    RecoverySheet,
    Rewrite,
    RotationResult,
)
from freezer_sdk.upkeep_model import PruneOptions

_ROLES: Final = {
    KeyRole.WRITER: frozenset({Role.WRITER}),
    KeyRole.READER: frozenset({Role.READER}),
    KeyRole.MAINTAINER: frozenset({Role.MAINTAINER, Role.READER}),
    KeyRole.OWNER: OWNER,
}
_RECOVERY: Final = "recovery key"
_TOOL: Final = "python3 freezer_recover.py"


class DedupKeys:
    """See :class:`~freezer_sdk.services.base.KeyService`.

    Args:
        changed: told of the key ring that knows what was changed.
        kdf: costs of new passwords; the defaults are right for people.
    """

    def __init__(self, handle: Handle, changed: Callable[[KeyRing], None], *, kdf: Argon2Params | None = None) -> None:
        self._handle, self._storage, self._changed, self._kdf = handle, handle.storage, changed, kdf

    def list(self) -> Sequence[KeyInfo]:
        """All keys, those that were removed too, in the order in which they were added.

        Raises:
            IntegrityError, WrongPassword, StorageError.
        """
        keys = self._fresh()
        return [_info(line, keys) for line in keys.config.roster]

    def add(
        self,
        password: str,
        *,
        roles: Collection[KeyRole],
        label: str = "",
        trusted: bool | None = None,
        hosts: Collection[str] | None = None,
    ) -> KeyInfo:
        """Lets another password open the repository.

        Raises:
            ConfigurationError: no encryption here, an unusable password, label, host or set of roles.
            AccessDenied: this key may not maintain.
            RepositoryLocked, IntegrityError, StorageError.
        """
        keys = self._fresh()
        keys.require_role(Role.MAINTAINER)
        if label and any(line.label == label and line.revoked is None for line in keys.config.roster):
            raise ConfigurationError(f"there is a key with the label {label!r} already", hint="give another --label")
        refuse_known_password(self._storage, keys, password)
        held = frozenset[Role]().union(*(_ROLES[role] for role in roles))
        line = keyholders.add_slot(
            self._storage,
            keys,
            password=password,
            roles=held,
            label=label,
            trusted=trusted,
            hosts=hosts,
            kdf=self._kdf,
        )
        return _info(line, self._fresh())

    def remove(self, key: str, *, keep_trust: bool = False) -> RotationResult:
        """Takes a key away and starts a new epoch.

        Raises:
            PolicyRefusal: the last key that may do everything.
            AmbiguousError: several keys have this label, or an id that starts so.
            ConfigurationError: there is no such key, or it is the one in use.
            AccessDenied, RepositoryLocked, IntegrityError, StorageError.
        """
        keys = self._fresh()
        keys.require_role(Role.MAINTAINER)
        line = _chosen(keys, key)
        others = [slot for slot in keys.config.roster if slot.revoked is None and slot.id != line.id]
        if line.roles == OWNER and not any(slot.roles == OWNER for slot in others):
            raise PolicyRefusal(
                f"{_named(line)} is the last owner of the repository",
                hint="freezer repository key add --role owner, then remove this one with the new password",
            )
        if line.id == keys.slot_id:
            raise ConfigurationError(
                f"{_named(line)} is the one that the repository was opened with",
                hint="open it with another maintainer's password; freezer repository key passwd changes this one",
            )
        removed = _info(line, keys)
        with self._nobody_else_maintains(keys, line):
            if Role.MAINTAINER in line.roles:
                confirm(self._storage, keys, line.id)
            keys = keyholders.rotate(self._storage, keys, revoke=[line.id], keep_trust=keep_trust)
        self._changed(keys)
        drop_slots(self._storage, keys, line.id)
        return RotationResult(epoch=keys.epoch, removed=(removed,))

    def _nobody_else_maintains(self, keys: KeyRing, line: Slot) -> AbstractContextManager[object]:
        """What a maintainer decides while it is removed would not count, and be done all the same."""
        wanted = Role.MAINTAINER in line.roles and Role.WRITER in keys.roles
        return Claim(self._storage, keys) if wanted else nullcontext()

    def change_password(self, password: str) -> PasswordChange:
        """Gives the key in use another password.

        Raises:
            ConfigurationError: no encryption here, or an unusable password.
            IntegrityError, StorageError.
        """
        keys = self._fresh()
        left = change_password(self._storage, keys, password, kdf=self._kdf)
        line = keys.config.slot(keys.slot_id)
        assert line is not None
        return PasswordChange(key=_info(line, keys), left=left)

    def rotate(self, context: Context, *, rewrite: Rewrite = Rewrite.LAZILY) -> RotationResult:
        """Starts a new epoch: what is stored from now on is encrypted with new keys.

        Raises:
            AccessDenied: this key may not maintain, or may not write and something is to be rewritten.
            RepositoryLocked, IntegrityError, StorageError, Cancelled.
        """
        keys = self._fresh()
        keys.require_role(Role.MAINTAINER)
        if rewrite is Rewrite.NOW:
            keys.require_role(Role.WRITER)  # before anything is done
        keys = keyholders.rotate(self._storage, keys)
        self._changed(keys)
        if rewrite is Rewrite.LAZILY:
            return RotationResult(epoch=keys.epoch)
        try:
            done = Prune(replace(self._handle, keys=keys), PruneOptions(old_keys=True), context).run()
        except FreezerError as error:
            error.hint = f"the keys were rotated, to epoch {keys.epoch}; freezer repository prune --old-keys goes on"
            raise
        return RotationResult(
            epoch=keys.epoch,
            rewritten_bytes=done.rewritten_bytes,
            marked_packs=done.marked_packs,
            marked_bytes=done.marked_bytes,
            due=done.due,
        )

    def recovery_key(self, *, label: str = _RECOVERY) -> RecoveryKey:
        """Makes an owner's key to print and put away.

        Raises:
            As :meth:`add`.
        """
        text = recovery_key.generate()
        return RecoveryKey(key=self.add(text, roles=[KeyRole.OWNER], label=self._free_label(label)), text=text)

    def export_recovery(self, *, with_recovery_key: bool = False) -> RecoverySheet:
        """What somebody needs who has nothing but the storage and a password.

        Raises:
            As :meth:`recovery_key`, if one is asked for; else IntegrityError, WrongPassword, StorageError.
        """
        text = self.recovery_key().text if with_recovery_key else None
        keys, location = self._fresh(), shlex.quote(self._storage.location)
        return RecoverySheet(
            location=self._storage.location,
            repository_id=keys.repository_id.hex(),
            format=f"freezer-repository {VERSION}",
            encrypted=keys.encrypted,
            created=keys.config.created,
            printed=datetime.now(UTC),
            epoch=keys.epoch,
            keys=tuple(_info(line, keys) for line in keys.config.roster if line.revoked is None),
            commands=(
                f"freezer backup list --storage {location}",
                f"freezer backup restore ID TARGET --storage {location}",
            ),
            tool_commands=(
                f"{_TOOL} list FOLDER",
                f"{_TOOL} restore FOLDER BACKUP TARGET",
                f"{_TOOL} verify FOLDER --read-data",
            ),
            recovery_key=text,
        )

    def _free_label(self, label: str) -> str:
        known = {line.label for line in self._fresh().config.roster if line.revoked is None}
        if label not in known:
            return label
        return next(name for number in range(2, len(known) + 3) if (name := f"{label} {number}") not in known)

    def _fresh(self) -> KeyRing:
        return keyholders.reload(self._storage, self._handle.keys)


def _info(line: Slot, keys: KeyRing) -> KeyInfo:
    return KeyInfo(
        id=line.id.hex(),
        label=line.label,
        roles=tuple(sorted(line.roles)),
        trusted=keys.vouches_for(line.id),
        hosts=line.hosts,
        added=line.since,
        removed=line.revoked,
        own=line.id == keys.slot_id,
    )


def _chosen(keys: KeyRing, text: str) -> Slot:
    """The key that is meant: a label, or the start of an id."""
    lines = [line for line in keys.config.roster if line.revoked is None]
    found = [line for line in lines if text and line.label == text]
    found = found or [line for line in lines if len(text) >= 4 and line.id.hex().startswith(text.lower())]
    if len(found) > 1:
        raise AmbiguousError(f"{text!r} fits several keys: {', '.join(_named(line) for line in found)}")
    if not found:
        raise ConfigurationError(f"there is no key {text!r}", hint="freezer repository key list shows what there is")
    return found[0]


def _named(line: Slot) -> str:
    return f"the key {line.id.hex()[:8]}" + (f" ({line.label})" if line.label else "")
