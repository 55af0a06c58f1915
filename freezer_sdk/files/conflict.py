"""What to do about entries that a target holds already."""

from __future__ import annotations

import os
import stat
from enum import StrEnum

from freezer_sdk.errors import RestoreConflict
from freezer_sdk.files.attributes import Item
from freezer_sdk.files.delete import Remover
from freezer_sdk.files.extras import device, find
from freezer_sdk.files.folders import Folder
from freezer_sdk.model import Overwrite, RestoreOptions
from freezer_sdk.modes.base import FLAG_HARDLINK, Extra


class Decision(StrEnum):
    """What to do with an entry. ``metadata``: its content is there already, only attributes are set."""

    WRITE = "write"
    METADATA = "metadata"
    SKIP = "skip"


class Policy:
    """The overwrite policy of a restore.

    Args:
        remover: clears directories that are in the way of something else, where ``delete`` allows it.
    """

    def __init__(self, options: RestoreOptions, remover: Remover) -> None:
        given = options.overwrite or (Overwrite.ALWAYS if options.force else None)
        self._overwrite = None if given is None else Overwrite(given)
        self._delete = options.delete
        self._dry_run = options.dry_run
        self._remover = remover

    @property
    def accepts_content(self) -> bool:
        """Whether the target may hold something at the start."""
        return self._overwrite is not None

    @property
    def keeps(self) -> bool:
        """Whether everything that exists stays as it is."""
        return self._overwrite is Overwrite.NEVER

    def decide(self, folder: Folder, name: bytes, path: bytes, item: Item, st: os.stat_result) -> Decision:
        """What to do with an entry that is no directory and finds its name taken.

        Raises:
            RestoreConflict: what is there must not be replaced.
        """
        self._check(path)
        if self.keeps:
            return Decision.SKIP
        if stat.S_ISDIR(st.st_mode):
            self._clear(folder, name, path)
            return Decision.WRITE
        if self._overwrite is Overwrite.IF_CHANGED and _same(folder, name, item, st):
            return Decision.METADATA
        return Decision.WRITE

    def clear_for_directory(self, folder: Folder, name: bytes, path: bytes) -> None:
        """Removes what is no directory from where one must be.

        Raises:
            RestoreConflict: it must not be replaced.
            OSError: it cannot be removed.
        """
        self._check(path)
        if self.keeps:
            raise RestoreConflict(f"{os.fsdecode(path)!r} is in the way of a directory, and is kept")
        if not self._dry_run:
            os.unlink(name, dir_fd=folder.fd)

    def _check(self, path: bytes) -> None:
        if self._overwrite is None:
            raise RestoreConflict(
                f"{os.fsdecode(path)!r} exists in the target",
                hint="say what to do with existing files: --overwrite always|if-changed|never",
            )

    def _clear(self, folder: Folder, name: bytes, path: bytes) -> None:
        """Removes a directory from where something else must be: an empty one, or any with ``delete``."""
        if self._delete:
            if not self._remover.remove(folder.fd, name, path):
                raise RestoreConflict(f"the directory {os.fsdecode(path)!r} is in the way, and holds what must stay")
            return
        try:
            if not self._dry_run:
                os.rmdir(name, dir_fd=folder.fd)
        except OSError as error:
            raise RestoreConflict(
                f"the directory {os.fsdecode(path)!r} is in the way: {error.strerror}",
                hint="--delete allows to remove what the backup does not have",
            ) from error


def _same(folder: Folder, name: bytes, item: Item, st: os.stat_result) -> bool:
    """Whether content need not be written again: equal type, and what stands for the content."""
    attributes = item.attributes
    kind = stat.S_IFMT(attributes.mode)
    if kind != stat.S_IFMT(st.st_mode):
        return False
    if st.st_nlink > 1 and not attributes.flags & FLAG_HARDLINK:
        return False  # changing its attributes would change those of a file that is not in the backup
    if kind == stat.S_IFREG:
        return st.st_size == attributes.size and st.st_mtime_ns == attributes.mtime
    if kind == stat.S_IFLNK:
        return os.readlink(name, dir_fd=folder.fd) == find(item.extras, Extra.LINK_TARGET)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return (os.major(st.st_rdev), os.minor(st.st_rdev)) == device(item.extras)
    return True
