"""Administration of keys: who opens a repository, and what with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

from freezer_sdk.boundary import Boundary
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.key_model import (
    KeyInfo,
    KeyRole,
    PasswordChange,
    RecoveryKey,
    RecoverySheet,
    Rewrite,
    RotationResult,
)
from freezer_sdk.model import EventHandler
from freezer_sdk.operation import Operation
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.subject import listed

if TYPE_CHECKING:
    from freezer_sdk.services.base import KeyService

Secret = str | Callable[[], str | None]
"""A new password, or what gives it when it is needed."""

Begin = Callable[[str, EventHandler | None, CancelToken | None], Operation]
Watch = Callable[[CancelToken], AbstractContextManager[None]]

E = TypeVar("E", KeyRole, Rewrite)


class Keys:
    """The keys of a repository, from :attr:`freezer_sdk.Freezer.keys`. May be used from several threads.

    Every password opens one key, which has roles: a *writer* adds backups, a *reader* reads them, a *maintainer* may
    read, and decides what is deleted and who has keys; an *owner* is all of them.
    """

    def __init__(self, service: Callable[[], KeyService], boundary: Boundary, begin: Begin, watch: Watch) -> None:
        self._service, self._boundary, self._begin, self._watch = service, boundary, begin, watch

    def list(self) -> Sequence[KeyInfo]:
        """All keys, in the order in which they were added; those that were removed, too.

        Raises:
            IntegrityError, WrongPassword: the key in use was removed; StorageError.
        """
        with self._boundary.guard():
            return self._service().list()

    def add(
        self,
        password: Secret,
        *,
        roles: str | Sequence[str] = (KeyRole.OWNER,),
        label: str = "",
        trusted: bool | None = None,
        hosts: str | Sequence[str] | None = None,
    ) -> KeyInfo:
        """Lets another password open the repository. No data are encrypted again.

        Args:
            password: text, or a callable that gives it.
            roles: of ``writer``, ``reader``, ``maintainer``, ``owner``.
            label: to know it by; in clear text in the storage.
            trusted: others do not store again what this key has stored, and go on from its backups. Whoever may
                only write, and is not trusted, cannot spoil the backups of others. By default only maintainers are.
            hosts: whose backups it may make; any host's by default.

        Raises:
            ConfigurationError: no encryption here, or an unusable password, label, host or set of roles.
            AccessDenied: the key in use may not maintain.
            RepositoryLocked, IntegrityError, StorageError.
        """
        wanted = [_member(KeyRole, role, "role") for role in listed(roles)]
        names = None if hosts is None else listed(hosts)
        with self._boundary.guard():
            service = self._service()
            return service.add(_text(password), roles=wanted, label=label, trusted=trusted, hosts=names)

    def remove(self, key: str, *, keep_trust: bool = False) -> RotationResult:
        """Takes a key away, and rotates: what is stored from now on it could not open.

        Whoever had the key may have read all that was stored before.

        Args:
            key: its label, or the start of its id.
            keep_trust: others go on building on what it has stored. Not for a key that may be in wrong hands.

        Raises:
            PolicyRefusal: it is the last owner.
            AmbiguousError: it fits several.
            ConfigurationError: there is no such key, or it is the one in use.
            AccessDenied: the key in use may not maintain.
            RepositoryLocked, IntegrityError, StorageError.
        """
        with self._boundary.guard():
            return self._service().remove(key, keep_trust=keep_trust)

    def change_password(self, password: Secret) -> PasswordChange:
        """Gives the key in use another password. Whenever this ends, one of the two opens the repository.

        It does not help against somebody who knows the old password and has a copy of the storage: for that, add
        another key and remove this one.

        Raises:
            ConfigurationError: no encryption here, or an unusable password.
            IntegrityError, StorageError.
        """
        with self._boundary.guard():
            service = self._service()
            return service.change_password(_text(password))

    def rotate(
        self,
        *,
        rewrite: str = Rewrite.LAZILY,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> RotationResult:
        """Encrypts what is stored from now on with new keys.

        Args:
            rewrite: ``now`` or ``lazily``: what becomes of what is there. ``now`` prunes, see
                :meth:`freezer_sdk.maintenance.Maintenance.prune`.
            events: as for :class:`freezer_sdk.Freezer`, which is not called then.
            cancel: ends the rewriting; the keys are rotated all the same.

        Raises:
            ConfigurationError: ``rewrite`` is none of these.
            AccessDenied: the key in use may not maintain.
            RepositoryLocked, IntegrityError, StorageError, Cancelled.
        """
        how = _member(Rewrite, rewrite, "rewrite")
        service = self._service()
        operation = self._begin("rotate", events, cancel)
        operation.start(rewrite=str(how))
        with self._boundary.guard(), self._watch(operation.context.cancel):
            result = service.rotate(operation.context, rewrite=how)
        operation.finish(added=result.rewritten_bytes)
        return result

    def recovery_key(self, *, label: str = "recovery key") -> RecoveryKey:
        """Makes a key to print and put away: an owner, with a random password that is easy to type without errors.

        Raises:
            As :meth:`add`.
        """
        with self._boundary.guard():
            return self._service().recovery_key(label=label)

    def export_recovery(self, *, with_recovery_key: bool = False) -> RecoverySheet:
        """What somebody needs who has nothing but the storage and a password.

        Args:
            with_recovery_key: make a recovery key, and put it on the sheet.

        Raises:
            As :meth:`list`; with a recovery key as :meth:`add`.
        """
        with self._boundary.guard():
            return self._service().export_recovery(with_recovery_key=with_recovery_key)


def _text(password: Secret) -> str:
    text = password if isinstance(password, str) else password()
    if not text:
        raise ConfigurationError("a new password is needed", hint="give it by prompt, file or command")
    return text


def _member(kind: type[E], value: str, what: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise ConfigurationError(f"{what} {value!r} is none of {', '.join(kind)}") from None
