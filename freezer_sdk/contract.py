"""What every plug-in declares about itself."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from freezer_sdk.options import Option

API_VERSION = 1
"""The version of the contracts in this package; a plug-in that declares another one is refused at load."""


class Plugin(ABC):
    """Base of all plug-in contracts.

    A plug-in is a class, named by an entry point in one of the namespaces ``freezer_sdk.engines``,
    ``.storages``, ``.modes``, ``.compressors`` and ``.snapshots``. It is built with the values of its
    declared options as keyword arguments.

    Attributes:
        name: equals the entry point's name (a class may serve several names; this is the first).
        api_version: the contract version that it was written for.
        summary: one line for ``freezer plugin list``.
        options: everything that a user can set.
    """

    name: ClassVar[str]
    api_version: ClassVar[int]
    summary: ClassVar[str]
    options: ClassVar[tuple[Option, ...]] = ()

    @classmethod
    def available(cls) -> str | None:
        """``None`` when it can be used here, else the reason with what to install."""
        return None


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """What is known about an installed plug-in, also about a broken one.

    Attributes:
        kind: ``engine``, ``storage``, ``mode``, ``compressor`` or ``snapshot``.
        name: its entry point.
        reason: why it cannot be used here, and what to install; ``None``: it can.
        target: the ``module:class`` that the entry point names.
        alias_of: the plug-in's first name, when this is another name of the same class.
        options: what a user can set; empty when it could not be loaded.
        common_options: what a user can set for every plug-in of its kind.
    """

    kind: str
    name: str
    distribution: str
    version: str
    summary: str = ""
    reason: str | None = None
    target: str = ""
    alias_of: str | None = None
    options: tuple[Option, ...] = ()
    common_options: tuple[Option, ...] = ()

    @property
    def available(self) -> bool:
        """Whether it can be used here."""
        return self.reason is None
