"""GNU tar: finding it, and what it is told to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Final

from freezer_sdk.errors import PluginUnavailable

_NAMES: Final = ("tar", "gtar", "gnutar")
_VERSION: Final = re.compile(r"\(GNU tar\) ([0-9]+)\.([0-9]+)")
_ATTRIBUTES_SINCE: Final = (1, 27)
_HINT: Final = (
    "install GNU tar: the package tar on Linux, gtar on FreeBSD, OpenBSD (gtar) and NetBSD (gtar-base), "
    "gnu-tar from Homebrew on macOS; the tar of BSD and macOS is another program"
)

ENVIRONMENT: Final = {"LC_ALL": "C"}
"""Messages in one language, names as bytes, and none of the user's ``TAR_OPTIONS``."""


@dataclass(frozen=True, kw_only=True)
class GnuTar:
    """An installed GNU tar.

    Attributes:
        path: of the program.
        version: as 1.34 is ``(1, 34)``.
    """

    path: str
    version: tuple[int, int]

    @classmethod
    def find(cls) -> GnuTar:
        """The first GNU tar in the search path, whatever it is called.

        Raises:
            PluginUnavailable: there is none.
        """
        others: list[str] = []
        for name in _NAMES:
            path = shutil.which(name)
            if path is None:
                continue
            found = _VERSION.search(first := _says(path))
            if found:
                return cls(path=path, version=(int(found[1]), int(found[2])))
            others.append(f"{path} is {first or 'another program'}")
        reason = f" ({'; '.join(others)})" if others else ""
        raise PluginUnavailable(f"the engine tar needs GNU tar, which is not installed{reason}", hint=_HINT)

    @property
    def stores_attributes(self) -> bool:
        """Whether it knows the options for extended attributes."""
        return self.version >= _ATTRIBUTES_SINCE


def _says(path: str) -> str:
    """The first line of what a program says of its version."""
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").split("\n", 1)[0].strip()
