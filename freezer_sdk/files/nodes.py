"""Making entries that are neither files nor directories."""

from __future__ import annotations

import errno
import os
import stat

from freezer_sdk.files import posix
from freezer_sdk.files.attributes import Item
from freezer_sdk.files.extras import device, find
from freezer_sdk.files.report import Reporter
from freezer_sdk.modes.base import Extra

_NOT_PERMITTED = (errno.EPERM, errno.EACCES, errno.EINVAL, *posix.NOT_SUPPORTED)
_WORDS = {
    stat.S_IFLNK: "symbolic links",
    stat.S_IFIFO: "FIFOs",
    stat.S_IFSOCK: "sockets",
    stat.S_IFCHR: "character devices",
    stat.S_IFBLK: "block devices",
}


def make_node(dir_fd: int, name: bytes, path: bytes, item: Item, report: Reporter) -> bool:
    """Makes a symbolic link, FIFO, socket or device without rights for others.

    Args:
        path: for messages.

    Returns:
        Whether it was made; what the platform or the process's rights do not allow is a warning, once a kind.

    Raises:
        OSError: it could not be made for another reason.
        ValueError: the backup does not say what to make.
    """
    kind = stat.S_IFMT(item.attributes.mode)
    if kind not in _WORDS:
        raise ValueError("the backup holds an unknown type of entry")
    try:
        if kind == stat.S_IFLNK:
            target = find(item.extras, Extra.LINK_TARGET)
            if not target:
                raise ValueError("the backup does not say where the link leads")
            os.symlink(target, name, dir_fd=dir_fd)
        elif kind == stat.S_IFIFO:
            os.mkfifo(name, 0o600, dir_fd=dir_fd)
        elif kind == stat.S_IFSOCK:
            os.mknod(name, 0o600 | kind, dir_fd=dir_fd)
        else:
            numbers = device(item.extras)
            if numbers is None:
                raise ValueError("the backup does not hold the device's number")
            os.mknod(name, 0o600 | kind, os.makedev(*numbers), dir_fd=dir_fd)
    except OverflowError:
        raise ValueError("the backup holds a device's number that cannot be") from None
    except OSError as error:
        if error.errno not in _NOT_PERMITTED:
            raise
        words = _WORDS[kind]
        report.warn(path, "special", f"{words} could not be restored: {error.strerror}", key=words)
        return False
    return True
