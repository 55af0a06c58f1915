"""Which engine's backups lie in a storage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from freezer_sdk.errors import ConfigurationError, PluginError, RepositoryNotFound, StorageError

if TYPE_CHECKING:
    from freezer_sdk.boundary import Boundary
    from freezer_sdk.plugins import PluginRegistry
    from freezer_sdk.storages.base import Storage

DEFAULT_ENGINE = "dedup"

EngineOptions = Mapping[str, Any] | Callable[[str], Mapping[str, Any]] | None
"""Values of an engine's options, or what gives them for the name of an engine that was found."""

_log = logging.getLogger("freezer_sdk")


def options_for(options: EngineOptions, engine: str) -> Mapping[str, Any] | None:
    """The values for one engine."""
    return options(engine) if callable(options) else options


def engines_in(
    registry: PluginRegistry, storage: Storage, *, boundary: Callable[[str, str], Boundary], but: str
) -> list[str]:
    """The installed engines that have something in a storage, by name.

    Args:
        boundary: around the engine of a name and module.
        but: an engine that need not be asked.

    Raises:
        PluginError, StorageError.
    """
    from freezer_sdk.plugins import ENGINE

    found = []
    for name in registry.names(ENGINE):
        try:
            plugin = registry.require(ENGINE, name)
            if name == but or plugin.name != name:  # another name of the same engine
                continue
            engine = registry.build(ENGINE, name)
        except (PluginError, ConfigurationError) as error:  # one that cannot be used keeps no other from being found
            _log.debug("engine %s cannot be asked: %s", name, error)
            continue
        with boundary(name, plugin.__module__).guard():
            if engine.probe(storage):
                found.append(name)
    return found


def only_engine(found: list[str], location: str) -> str | None:
    """The one engine that was found, if there is any.

    Raises:
        ConfigurationError: there are several.
    """
    if len(found) > 1:
        message = f"{location} holds backups of several engines: {', '.join(found)}"
        raise ConfigurationError(message, hint=f"choose one of them: {_choice(found)}")
    return found[0] if found else None


def tell_of_others(error: RepositoryNotFound, look: Callable[[], list[str]]) -> None:
    """Says in the error's hint which other engines have backups where the asked one has none."""
    try:
        found = look()
    except (PluginError, StorageError) as other:  # the error that there is says more
        _log.debug("other engines cannot be asked: %s", other)
        return
    if found:
        error.hint = f"there are backups of another engine: {_choice(found)}"


def _choice(found: list[str]) -> str:
    return " or ".join(f"--engine {name}" for name in found)
