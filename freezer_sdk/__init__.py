"""Freezer SDK: backup, restore and disaster recovery as a library.

::

    from freezer_sdk import Freezer

    with Freezer("local:/srv/backups", password="...", create=True) as freezer:
        backup = freezer.backup("/etc", name="etc")
        freezer.restore(backup.id, "/tmp/out", paths=["ssh"])

The public names are those in ``__all__``, and the contracts for plug-ins in ``freezer_sdk.*.base``,
``freezer_sdk.contract``, ``freezer_sdk.options`` and ``freezer_sdk.testing``. Modules are loaded when a name of
theirs is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freezer_sdk.client import Freezer
    from freezer_sdk.contract import PluginInfo
    from freezer_sdk.drill_model import Drill, DrillLog, Verifier
    from freezer_sdk.drills.drills import Drills
    from freezer_sdk.engines.base import EngineCapabilities
    from freezer_sdk.errors import (
        AccessDenied,
        AmbiguousError,
        BackupNotFound,
        Cancelled,
        CapabilityMissing,
        ChecksumMismatch,
        CommandFailed,
        ConfigurationError,
        FreezerError,
        IntegrityError,
        InvalidName,
        LeaseLost,
        ObjectExists,
        ObjectNotFound,
        Overdue,
        PluginError,
        PluginNotFound,
        PluginUnavailable,
        PolicyRefusal,
        ReadOnlyStorage,
        RepositoryError,
        RepositoryExists,
        RepositoryLocked,
        RepositoryNotFound,
        RestoreConflict,
        RestoreError,
        SnapshotError,
        SourceChanged,
        SourceError,
        SourceUnreadable,
        StorageError,
        StorageFull,
        StorageThrottled,
        StorageUnavailable,
        TargetsFailed,
        Transient,
        UnsafePath,
        UnsupportedFormat,
        WrongPassword,
    )
    from freezer_sdk.freshness import Freshness, FreshnessReport, SeriesFreshness
    from freezer_sdk.group import FreezerGroup
    from freezer_sdk.hooks import Hooks
    from freezer_sdk.key_model import (
        KeyInfo,
        KeyRole,
        PasswordChange,
        RecoveryKey,
        RecoverySheet,
        Rewrite,
        RotationResult,
    )
    from freezer_sdk.keys import Keys
    from freezer_sdk.maintenance import Maintenance
    from freezer_sdk.member import Target
    from freezer_sdk.model import (
        Backup,
        BackupStats,
        Change,
        CopyOutcome,
        CopyResult,
        Entry,
        EntryType,
        Event,
        GroupBackup,
        GroupResult,
        Layout,
        Overwrite,
        PlannedAction,
        Problem,
        RepositoryInfo,
        RepositoryStats,
        RestoreResult,
        Status,
        TargetResult,
        VerifyResult,
    )
    from freezer_sdk.opening import open_storage
    from freezer_sdk.plugins import list_plugins
    from freezer_sdk.protection import protect
    from freezer_sdk.retention import Retention
    from freezer_sdk.retention_model import (
        ForgottenBackup,
        Hold,
        RetentionDecision,
        RetentionGroup,
        RetentionPlan,
        RetentionPolicy,
        RetentionReason,
    )
    from freezer_sdk.selection import split_selector
    from freezer_sdk.snapshotting import ReapedSnapshots, SnapshotProbe, probe_snapshots, reap_snapshots, snapshot
    from freezer_sdk.streams.cancel import CancelToken
    from freezer_sdk.streams.ratelimit import Limits
    from freezer_sdk.upkeep_model import (
        Affected,
        CheckResult,
        Finding,
        LeaseInfo,
        LeaseStatus,
        PruneResult,
        RepairPlan,
        RepairResult,
        RepairStep,
    )

    __version__: str

__all__ = [
    "AccessDenied",
    "Affected",
    "AmbiguousError",
    "Backup",
    "BackupNotFound",
    "BackupStats",
    "CancelToken",
    "Cancelled",
    "CapabilityMissing",
    "Change",
    "CheckResult",
    "ChecksumMismatch",
    "CommandFailed",
    "ConfigurationError",
    "CopyOutcome",
    "CopyResult",
    "Drill",
    "DrillLog",
    "Drills",
    "EngineCapabilities",
    "Entry",
    "EntryType",
    "Event",
    "Finding",
    "ForgottenBackup",
    "Freezer",
    "FreezerError",
    "FreezerGroup",
    "Freshness",
    "FreshnessReport",
    "GroupBackup",
    "GroupResult",
    "Hold",
    "Hooks",
    "IntegrityError",
    "InvalidName",
    "KeyInfo",
    "KeyRole",
    "Keys",
    "Layout",
    "LeaseInfo",
    "LeaseLost",
    "LeaseStatus",
    "Limits",
    "Maintenance",
    "ObjectExists",
    "ObjectNotFound",
    "Overdue",
    "Overwrite",
    "PasswordChange",
    "PlannedAction",
    "PluginError",
    "PluginInfo",
    "PluginNotFound",
    "PluginUnavailable",
    "PolicyRefusal",
    "Problem",
    "PruneResult",
    "ReadOnlyStorage",
    "ReapedSnapshots",
    "RecoveryKey",
    "RecoverySheet",
    "RepairPlan",
    "RepairResult",
    "RepairStep",
    "RepositoryError",
    "RepositoryExists",
    "RepositoryInfo",
    "RepositoryLocked",
    "RepositoryNotFound",
    "RepositoryStats",
    "RestoreConflict",
    "RestoreError",
    "RestoreResult",
    "Retention",
    "RetentionDecision",
    "RetentionGroup",
    "RetentionPlan",
    "RetentionPolicy",
    "RetentionReason",
    "Rewrite",
    "RotationResult",
    "SeriesFreshness",
    "SnapshotError",
    "SnapshotProbe",
    "SourceChanged",
    "SourceError",
    "SourceUnreadable",
    "Status",
    "StorageError",
    "StorageFull",
    "StorageThrottled",
    "StorageUnavailable",
    "Target",
    "TargetResult",
    "TargetsFailed",
    "Transient",
    "UnsafePath",
    "UnsupportedFormat",
    "Verifier",
    "VerifyResult",
    "WrongPassword",
    "list_plugins",
    "open_storage",
    "probe_snapshots",
    "protect",
    "reap_snapshots",
    "snapshot",
    "split_selector",
]

_DRILLS = "freezer_sdk.drill_model"
_ERRORS = "freezer_sdk.errors"
_KEYS = "freezer_sdk.key_model"
_MODEL = "freezer_sdk.model"
_RETENTION = "freezer_sdk.retention_model"
_SNAPSHOTS = "freezer_sdk.snapshotting"
_UPKEEP = "freezer_sdk.upkeep_model"
_HOMES = {
    "Affected": _UPKEEP,
    "Backup": _MODEL,
    "BackupStats": _MODEL,
    "CancelToken": "freezer_sdk.streams.cancel",
    "Change": _MODEL,
    "CheckResult": _UPKEEP,
    "CopyOutcome": _MODEL,
    "CopyResult": _MODEL,
    "Drill": _DRILLS,
    "DrillLog": _DRILLS,
    "Drills": "freezer_sdk.drills.drills",
    "EngineCapabilities": "freezer_sdk.engines.base",
    "Entry": _MODEL,
    "EntryType": _MODEL,
    "Event": _MODEL,
    "Finding": _UPKEEP,
    "ForgottenBackup": _RETENTION,
    "Freezer": "freezer_sdk.client",
    "FreezerGroup": "freezer_sdk.group",
    "Freshness": "freezer_sdk.freshness",
    "FreshnessReport": "freezer_sdk.freshness",
    "GroupBackup": _MODEL,
    "GroupResult": _MODEL,
    "Hold": _RETENTION,
    "Hooks": "freezer_sdk.hooks",
    "KeyInfo": _KEYS,
    "KeyRole": _KEYS,
    "Keys": "freezer_sdk.keys",
    "Layout": _MODEL,
    "LeaseInfo": _UPKEEP,
    "LeaseStatus": _UPKEEP,
    "Limits": "freezer_sdk.streams.ratelimit",
    "Maintenance": "freezer_sdk.maintenance",
    "Overwrite": _MODEL,
    "PasswordChange": _KEYS,
    "PlannedAction": _MODEL,
    "PluginInfo": "freezer_sdk.contract",
    "Problem": _MODEL,
    "PruneResult": _UPKEEP,
    "ReapedSnapshots": _SNAPSHOTS,
    "RecoveryKey": _KEYS,
    "RecoverySheet": _KEYS,
    "RepairPlan": _UPKEEP,
    "RepairResult": _UPKEEP,
    "RepairStep": _UPKEEP,
    "RepositoryInfo": _MODEL,
    "RepositoryStats": _MODEL,
    "RestoreResult": _MODEL,
    "Retention": "freezer_sdk.retention",
    "RetentionDecision": _RETENTION,
    "RetentionGroup": _RETENTION,
    "RetentionPlan": _RETENTION,
    "RetentionPolicy": _RETENTION,
    "RetentionReason": _RETENTION,
    "Rewrite": _KEYS,
    "RotationResult": _KEYS,
    "SnapshotProbe": _SNAPSHOTS,
    "SeriesFreshness": "freezer_sdk.freshness",
    "Status": _MODEL,
    "Target": "freezer_sdk.member",
    "TargetResult": _MODEL,
    "Verifier": _DRILLS,
    "VerifyResult": _MODEL,
    "list_plugins": "freezer_sdk.plugins",
    "open_storage": "freezer_sdk.opening",
    "probe_snapshots": _SNAPSHOTS,
    "protect": "freezer_sdk.protection",
    "reap_snapshots": _SNAPSHOTS,
    "snapshot": _SNAPSHOTS,
    "split_selector": "freezer_sdk.selection",
}
"""Where the public names live; the others are errors."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("freezer-sdk")
    if name not in __all__:
        raise AttributeError(f"module 'freezer_sdk' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES.get(name, _ERRORS)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
