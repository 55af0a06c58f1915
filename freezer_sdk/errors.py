"""Every error that the library raises on purpose.

::

    FreezerError                        code            exit
    ├── ConfigurationError              configuration      2   wrong option, URL, file or combination of them
    │   └── AmbiguousError              ambiguous          2   more than one thing matches; the message lists them
    ├── PluginError                     plugin             1   a plug-in is missing, broken or of a wrong version
    │   ├── PluginNotFound              plugin_not_found   2
    │   └── PluginUnavailable           plugin_unavailable 1   its library or program is not installed
    ├── StorageError                    storage            1
    │   ├── ObjectNotFound              not_found          1
    │   ├── ObjectExists                exists             1   a conditional put lost the race
    │   ├── InvalidName                 invalid_name       1
    │   ├── AccessDenied                denied             1
    │   ├── StorageFull                 quota              1   no space or quota left
    │   ├── ReadOnlyStorage             read_only          1
    │   ├── StorageUnavailable (T)      unavailable        1
    │   ├── StorageThrottled (T)        throttled          1
    │   ├── ChecksumMismatch            checksum           1   stored bytes are not those that were sent
    │   └── CapabilityMissing           capability         1   the backend cannot do what was asked
    ├── RepositoryError                 repository         1
    │   ├── RepositoryNotFound          no_repository     10
    │   ├── RepositoryExists            repository_exists  1
    │   ├── UnsupportedFormat           unsupported        1   a newer version or an unknown feature
    │   ├── RepositoryLocked            locked            11
    │   ├── WrongPassword               wrong_password    12
    │   ├── IntegrityError              integrity         13   damaged, forged or missing data
    │   ├── BackupNotFound              no_backup          1
    │   └── LeaseLost                   lease_lost         1   the run was away for too long; its backup does not count
    ├── SourceError                     source             1
    │   ├── SourceUnreadable            unreadable         1
    │   ├── SourceChanged               changed            1
    │   └── CommandFailed               command_failed     1
    ├── SnapshotError                   snapshot           1
    ├── RestoreError                    restore            1
    │   ├── UnsafePath                  unsafe_path        1   would lead outside the target
    │   └── RestoreConflict             conflict           1   the target holds something that must not be replaced
    ├── PolicyRefusal                   policy            14
    ├── Overdue                         overdue           15
    ├── TargetsFailed                   targets            1   none of several repositories could do it
    └── Cancelled                       cancelled        130

    (T): also a Transient: trying again later may succeed.
"""

from __future__ import annotations

from typing import ClassVar


class Transient:
    """Mixin: the operation may succeed when tried again.

    Attributes:
        retry_after: seconds that the other side asked to wait, or ``None``.
    """

    retry_after: float | None = None


class FreezerError(Exception):
    """Base of all errors of this library.

    Args:
        message: says what happened and names the thing; never holds a secret.
        hint: what the user can do about it.

    Attributes:
        code: stable, machine-readable name of the kind of error.
        exit_code: what the command line exits with.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ConfigurationError(FreezerError):
    """An option, URL, file, or a combination of them, makes no sense."""

    code = "configuration"
    exit_code = 2


class AmbiguousError(ConfigurationError):
    """More than one thing matches what was asked for."""

    code = "ambiguous"


class PluginError(FreezerError):
    """A plug-in is broken; the message names its distribution."""

    code = "plugin"


class PluginNotFound(PluginError):
    """No installed distribution provides the plug-in."""

    code = "plugin_not_found"
    exit_code = 2


class PluginUnavailable(PluginError):
    """The plug-in is there, but something that it needs is not."""

    code = "plugin_unavailable"


class StorageError(FreezerError):
    """A storage failed."""

    code = "storage"


class ObjectNotFound(StorageError):
    """There is no object of this name."""

    code = "not_found"


class ObjectExists(StorageError):
    """A put with ``if_absent`` found the name taken."""

    code = "exists"


class InvalidName(StorageError):
    """The name cannot be the name of an object."""

    code = "invalid_name"


class AccessDenied(StorageError):
    """The storage refuses access with these credentials."""

    code = "denied"


class StorageFull(StorageError):
    """No space, inodes or quota left."""

    code = "quota"


class ReadOnlyStorage(StorageError):
    """The storage takes no writes at all."""

    code = "read_only"


class StorageUnavailable(Transient, StorageError):
    """The storage cannot be reached now."""

    code = "unavailable"


class StorageThrottled(Transient, StorageError):
    """The storage asks to slow down."""

    code = "throttled"


class ChecksumMismatch(StorageError):
    """What the storage holds is not what was sent."""

    code = "checksum"


class CapabilityMissing(StorageError):
    """The backend does not have a capability that was asked for."""

    code = "capability"


class RepositoryError(FreezerError):
    """A repository cannot be used as asked."""

    code = "repository"


class RepositoryNotFound(RepositoryError):
    """The storage holds no repository."""

    code = "no_repository"
    exit_code = 10


class RepositoryExists(RepositoryError):
    """There is a repository already."""

    code = "repository_exists"


class UnsupportedFormat(RepositoryError):
    """The repository needs something that this version does not know."""

    code = "unsupported"


class RepositoryLocked(RepositoryError):
    """Somebody else holds what is needed."""

    code = "locked"
    exit_code = 11


class WrongPassword(RepositoryError):
    """No slot opens with this password."""

    code = "wrong_password"
    exit_code = 12


class IntegrityError(RepositoryError):
    """Stored data are damaged, forged or missing."""

    code = "integrity"
    exit_code = 13


class BackupNotFound(RepositoryError):
    """No backup matches."""

    code = "no_backup"


class LeaseLost(RepositoryError):
    """The writer was away for longer than the grace time; what it committed does not count."""

    code = "lease_lost"


class SourceError(FreezerError):
    """What should be backed up cannot be read as asked."""

    code = "source"


class SourceUnreadable(SourceError):
    """A source cannot be read at all."""

    code = "unreadable"


class SourceChanged(SourceError):
    """A source changed while it was read."""

    code = "changed"


class CommandFailed(SourceError):
    """A child process ended with an error."""

    code = "command_failed"


class SnapshotError(FreezerError):
    """A volume snapshot could not be made, used or removed."""

    code = "snapshot"


class RestoreError(FreezerError):
    """A restore failed."""

    code = "restore"


class UnsafePath(RestoreError):
    """Following this path would lead outside the target."""

    code = "unsafe_path"


class RestoreConflict(RestoreError):
    """The target holds something that must not be replaced."""

    code = "conflict"


class PolicyRefusal(FreezerError):
    """A rule forbids it; ``--force`` or a changed rule allows it."""

    code = "policy"
    exit_code = 14


class Overdue(FreezerError):
    """A backup is older than it may be."""

    code = "overdue"
    exit_code = 15


class TargetsFailed(FreezerError):
    """None of several repositories could do it, each for a reason of its own; the message has them all."""

    code = "targets"


class Cancelled(FreezerError):
    """The user or the program asked to stop."""

    code = "cancelled"
    exit_code = 130
