"""A mode by itself: its data made consistent for a program that does with them what it likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from freezer_sdk.boundary import Boundary
from freezer_sdk.modes.base import Protected
from freezer_sdk.options import secret_values
from freezer_sdk.subject import Paths, build_mode, choose_snapshots, listed


@contextmanager
def protect(
    mode: str,
    paths: Paths = (),
    *,
    mode_options: Mapping[str, Any] | None = None,
    excludes: Sequence[str] = (),
    snapshot: str | None = None,
    snapshot_options: Mapping[str, Any] | None = None,
) -> Iterator[Protected]:
    """What a mode protects, consistent for as long as the context lasts, without any repository::

        with freezer_sdk.protect("postgres", mode_options={"strategy": "dump"}) as protected:
            for source in protected.sources: ...

    Args:
        mode: its name.
        paths: for modes that protect paths.
        mode_options: values of the mode's declared options.
        excludes: gitignore-like patterns, for modes that know them.
        snapshot: the name of a snapshot provider, or ``auto``, for modes that read from volume snapshots.
        snapshot_options: values of the provider's declared options.

    Yields:
        The sources, with the mode's facts.

    Raises:
        ConfigurationError, PluginError, SourceError.
        SnapshotError: also on leaving, when the data were not consistent after all.
    """
    from freezer_sdk.plugins import PluginRegistry

    registry = PluginRegistry()
    maker = build_mode(registry, mode, listed(paths), excludes, mode_options)
    snapshots = choose_snapshots(registry, maker, snapshot, snapshot_options)
    secrets = secret_values(maker.options, mode_options or {})
    wanted = {} if snapshots is None else {"snapshots": snapshots}
    boundary = Boundary({type(maker).__module__: f"mode {mode!r}"}, secrets=secrets)
    with boundary.guard():
        context = boundary.entered(maker.protect(**wanted))
    with context as protected:
        yield protected
        with boundary.guard():
            protected.confirmed()
