"""What plug-ins take from the environment: only options that say so, and only where nothing else was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from freezer_sdk.errors import PluginNotFound
from freezer_sdk.options import Option
from freezer_sdk.plugins import MODE, PluginRegistry


def from_environment(options: Sequence[Option], environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """Values of the options that the environment gives.

    Args:
        given: options that have a value already.
    """
    values: dict[str, str] = {}
    for option in options:
        if option.name in given or any(name in given or name in values for name in option.env_unless):
            continue
        found = next((environ[name] for name in option.env if environ.get(name)), None)
        if found is not None:
            values[option.name] = found
    return values


def mode_options(mode: str, given: Mapping[str, Any] | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """The options of a mode, with those that the environment gives."""
    known = dict(given or {})
    try:
        options = PluginRegistry().load(MODE, mode).options
    except PluginNotFound:  # whoever builds it says so
        return known
    return {**from_environment(options, environ, known), **known}
