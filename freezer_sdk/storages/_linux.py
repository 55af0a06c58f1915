"""Two system calls that Python does not wrap; where they do not exist the callers do without."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Callable
from typing import Any

_RENAME_NOREPLACE = 1


@functools.cache
def _function(name: str) -> Callable[..., int] | None:
    try:
        function: Any = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError, TypeError):
        return None
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


def _checked(result: int, name: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def has_syncfs() -> bool:
    """Whether :func:`syncfs` can be used."""
    return _function("syncfs") is not None


def syncfs(fd: int) -> None:
    """Makes everything on the file system of ``fd`` durable; reports write errors since ``fd`` was opened.

    Raises:
        OSError: something did not reach the disk.
    """
    function = _function("syncfs")
    if function is None:
        raise OSError(errno.ENOSYS, "this platform has no syncfs")
    _checked(function(fd), "syncfs")


def rename_noreplace(source: str, source_fd: int, target: str, target_fd: int) -> None:
    """Renames unless the target exists, in one step.

    Raises:
        FileExistsError: the target exists.
        OSError: among others ``EINVAL`` and ``ENOSYS`` where the file system cannot do it.
    """
    function = _function("renameat2")
    if function is None:
        raise OSError(errno.ENOSYS, "this platform has no renameat2")
    arguments = (source_fd, os.fsencode(source), target_fd, os.fsencode(target), ctypes.c_uint(_RENAME_NOREPLACE))
    _checked(function(*arguments), "renameat2")
