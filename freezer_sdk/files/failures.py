"""What went wrong while something was restored, in words that help."""

from __future__ import annotations

import errno
import os

from freezer_sdk.errors import RestoreError

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class TargetUnusable(RestoreError):
    """Nothing more can be written; the restore ends here."""

    ends_restore = True


def explain(path: bytes, target: str, error: OSError | ValueError) -> RestoreError:
    """The error to raise for an entry of a target."""
    shown = os.fsdecode(path) or target
    if not isinstance(error, OSError):
        return RestoreError(f"cannot restore {shown!r}: {error}")
    if error.errno in _FULL:
        message = f"no space left in the target {target}"
        return TargetUnusable(message, hint="free some space, and restore again with --overwrite if-changed")
    if error.errno == errno.EROFS:
        return TargetUnusable(f"the target {target} is read-only")
    return RestoreError(f"cannot restore {shown!r}: {error.strerror}")
