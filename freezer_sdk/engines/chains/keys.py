"""The password of a store: asked for when it is first needed, and what it opens and seals."""

from __future__ import annotations

import threading
from typing import Protocol

from freezer_sdk.crypto.sealed import SealKeys
from freezer_sdk.engines.base import PasswordSource
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.errors import WrongPassword
from freezer_sdk.model import Buffer

_HINT = "give the password by file, command, environment or prompt"


class Transform(Protocol):
    """Encrypts or decrypts a stream."""

    def update(self, data: Buffer) -> bytes:
        """Takes bytes in, gives what is ready."""

    def finalize(self) -> bytes:
        """Gives the rest."""


class Keys:
    """What a password opens. May be used from several threads.

    Args:
        source: asked once at most.
    """

    def __init__(self, source: PasswordSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._asked = False
        self._text: str | None = None
        self._seal: SealKeys | None = None

    @property
    def given(self) -> bool:
        """Whether there is a password; asks for it."""
        with self._lock:
            if not self._asked:
                self._text, self._asked = self._source() or None, True
            return self._text is not None

    @property
    def offered(self) -> bool:
        """As :attr:`given`, but nobody is disturbed for it: who sits at a terminal is asked only when it must be."""
        return not getattr(self._source, "interactive", False) and self.given

    def text(self) -> str:
        """The password.

        Raises:
            WrongPassword: there is none.
        """
        if not self.given or self._text is None:
            raise WrongPassword("this is encrypted and needs a password", hint=_HINT)
        return self._text

    def seal(self) -> SealKeys:
        """What opens and makes sealed streams.

        Raises:
            WrongPassword: there is no password.
        """
        text = self.text()
        with self._lock:
            if self._seal is None:
                self._seal = SealKeys(text)
            return self._seal


def seal_context(level: LevelId, part: str) -> bytes:
    """Binds a sealed stream to its place: ``data``, ``engine_metadata`` or ``record`` of a level."""
    return f"freezer-sdk {level.path}/{part}".encode()
