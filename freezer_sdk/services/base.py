"""What an engine may offer beside backups: retention, keys, maintenance, drills. Its capabilities say which."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from freezer_sdk.drill_model import Drill, DrillLog
from freezer_sdk.key_model import (
    KeyInfo,
    KeyRole,
    PasswordChange,
    RecoveryKey,
    RecoverySheet,
    Rewrite,
    RotationResult,
)
from freezer_sdk.model import Backup
from freezer_sdk.retention_model import ForgottenBackup, Hold, RetentionState
from freezer_sdk.upkeep_model import (
    CheckOptions,
    CheckResult,
    LeaseInfo,
    PruneOptions,
    PruneResult,
    RepairOptions,
    RepairPlan,
    RepairResult,
)

if TYPE_CHECKING:
    from freezer_sdk.engines.base import Context, Repository


class RetentionService(Protocol):
    """Forgetting by rules, holds, and bringing back. What the rules are is no affair of an engine."""

    def state(self) -> RetentionState:
        """What there is, and what is known of it.

        Raises:
            AccessDenied, StorageError.
        """

    def forget(self, backups: Mapping[str, str]) -> None:
        """Hides backups, and leaves their space to maintenance; without the capability ``undelete``, deletes them.

        Args:
            backups: full ids, with the reason for each.

        Raises:
            BackupNotFound, AccessDenied, RepositoryLocked, StorageError.
            PolicyRefusal: one is held, or needed by one that stays.
        """

    def hold(self, backup: str, *, reason: str, until: datetime | None) -> Hold:
        """Forbids to forget a backup.

        Args:
            backup: full id.
            until: with a zone; ``None``: until it is released.

        Raises:
            BackupNotFound, AccessDenied, StorageError.
        """

    def release(self, backup: str) -> Sequence[Hold]:
        """Ends all holds of a backup that are in force, and gives them.

        Args:
            backup: full id.

        Raises:
            AccessDenied, StorageError.
        """

    def holds(self) -> Sequence[Hold]:
        """All holds in force, the oldest first.

        Raises:
            AccessDenied, StorageError.
        """

    def forgotten(self) -> Sequence[ForgottenBackup]:
        """Backups that can be brought back, the oldest first. Only called with the capability ``undelete``.

        Raises:
            AccessDenied, StorageError.
        """

    def undelete(self, backup: str, context: Context) -> Backup:
        """Brings a forgotten backup back; it may have another id then. Only called with the capability ``undelete``.

        Args:
            backup: full id.

        Raises:
            BackupNotFound: there is nothing left of it.
            IntegrityError, AccessDenied, LeaseLost, StorageError, Cancelled.
        """


class DrillService(Protocol):
    """Records of restore drills. How a drill is made is no affair of an engine."""

    def require(self) -> None:
        """Refuses to begin a drill whose record could not be stored.

        Raises:
            AccessDenied, RepositoryError, StorageError.
        """

    def write(self, drill: Drill) -> Drill:
        """Stores the record of a drill, so that others can tell who wrote it, where the engine has a way.

        Returns:
            The same, with its signer.

        Raises:
            AccessDenied, StorageError.
        """

    def read(self) -> DrillLog:
        """All records that count, and what is wrong with the others.

        Raises:
            AccessDenied, StorageError.
        """


class KeyService(Protocol):
    """Administration of keys; see :class:`freezer_sdk.keys.Keys` for what each method does and raises."""

    def list(self) -> Sequence[KeyInfo]:
        """All keys.

        Raises:
            RepositoryError, StorageError.
        """

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
            ConfigurationError, AccessDenied, RepositoryError, StorageError.
        """

    def remove(self, key: str, *, keep_trust: bool = False) -> RotationResult:
        """Takes a key away, and rotates.

        Raises:
            ConfigurationError, PolicyRefusal, AccessDenied, RepositoryError, StorageError.
        """

    def change_password(self, password: str) -> PasswordChange:
        """Gives the key in use another password.

        Raises:
            ConfigurationError, RepositoryError, StorageError.
        """

    def rotate(self, context: Context, *, rewrite: Rewrite = Rewrite.LAZILY) -> RotationResult:
        """Encrypts what is stored from now on with new keys.

        Raises:
            AccessDenied, RepositoryError, StorageError, Cancelled.
        """

    def recovery_key(self, *, label: str = "recovery key") -> RecoveryKey:
        """Makes a key to print.

        Raises:
            ConfigurationError, AccessDenied, RepositoryError, StorageError.
        """

    def export_recovery(self, *, with_recovery_key: bool = False) -> RecoverySheet:
        """What an emergency needs.

        Raises:
            ConfigurationError, AccessDenied, RepositoryError, StorageError.
        """


class MaintenanceService(Protocol):
    """What a repository needs now and then; see :class:`freezer_sdk.maintenance.Maintenance`."""

    def prune(self, options: PruneOptions, context: Context) -> PruneResult:
        """Frees what no backup needs, while others are at work.

        Raises:
            RepositoryLocked, IntegrityError, AccessDenied, StorageError, RepositoryError, Cancelled.
        """

    def check(self, options: CheckOptions, context: Context) -> CheckResult:
        """Looks for damage; findings are in the result.

        Raises:
            ConfigurationError, AccessDenied, StorageError, Cancelled.
        """

    def plan_repair(self, options: RepairOptions, context: Context, *, others: Sequence[Repository] = ()) -> RepairPlan:
        """What :meth:`repair` would do.

        Args:
            others: repositories that may have what is lost, of any engine.

        Raises:
            AccessDenied, StorageError, Cancelled.
        """

    def repair(self, options: RepairOptions, context: Context, *, others: Sequence[Repository] = ()) -> RepairResult:
        """Mends what can be mended, and writes down what is lost; nothing is deleted.

        Args:
            others: repositories that may have what is lost, of any engine.

        Raises:
            RepositoryLocked, AccessDenied, StorageError, RepositoryError, Cancelled.
        """

    def leases(self) -> Sequence[LeaseInfo]:
        """Who is at work, or died at it.

        Raises:
            StorageError.
        """

    def set_grace(self, seconds: int) -> None:
        """Changes how long what no backup needs stays before it is deleted.

        Raises:
            ConfigurationError: too short or too long.
            RepositoryLocked, AccessDenied, StorageError.
        """

    def unlock(self, leases: Sequence[str]) -> Sequence[LeaseInfo]:
        """Removes leases of those who have ended or died.

        Args:
            leases: ids, or their beginnings; none: all such leases.

        Raises:
            RepositoryLocked, ConfigurationError, AccessDenied, StorageError.
        """
