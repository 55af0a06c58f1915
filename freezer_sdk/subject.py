"""What is backed up: a mode that was built, the name of the series, and how the backup is recorded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from freezer_sdk import identity
from freezer_sdk.boundary import Boundary
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.hooks import HookFacts, Hooks, hooked
from freezer_sdk.model import BackupOptions
from freezer_sdk.modes.base import Mode, Protected
from freezer_sdk.operation import Operation
from freezer_sdk.options import secret_values

if TYPE_CHECKING:
    from freezer_sdk.plugins import PluginRegistry
    from freezer_sdk.snapshotting import SnapshotChoice

_LOCAL = "local:"  # how the URLs of folders begin

Paths = str | bytes | PathLike[str] | Sequence[str | bytes | PathLike[str]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is backed up, before it is protected.

    Attributes:
        mode: built, not used yet.
        roots: as they were given.
        options: for the engine; patterns in force are known when it is protected.
        secrets: texts that no message may show.
        snapshots: makes volume snapshots for the mode, where they are wanted.
    """

    mode: Mode
    roots: tuple[Any, ...]
    options: BackupOptions
    secrets: tuple[str, ...]
    snapshots: SnapshotChoice | None = None

    @property
    def title(self) -> str:
        """For messages."""
        return f"mode {self.options.mode!r}"

    def facts(self) -> dict[str, Any]:
        """For the event that starts the run."""
        options = self.options
        paths = [os.fsdecode(root) for root in self.roots]
        return {"name": options.name, "mode": options.mode, "paths": paths, "dry_run": options.dry_run}

    def hooked(self, hooks: Hooks | None, operation: Operation, *, location: str) -> AbstractContextManager[HookFacts]:
        """Runs hooks around a backup.

        Args:
            location: where it goes, without secrets.

        Raises:
            CommandFailed, Cancelled.
        """
        options = self.options
        facts = {"name": options.name, "host": options.host, "mode": options.mode, "location": location}
        return hooked(hooks, "backup", facts, cancel=operation.context.cancel, dry_run=options.dry_run)

    @contextmanager
    def protect(self, boundary: Boundary) -> Iterator[Protected]:
        """Hands over the sources, as long as the context lasts.

        Args:
            boundary: around the plug-ins that the mode may meet.

        Raises:
            ConfigurationError, PluginError, SourceError, SnapshotError.
        """
        around = boundary.around(self.title, type(self.mode).__module__, secrets=self.secrets)
        wanted = {} if self.snapshots is None else {"snapshots": self.snapshots}
        with around.guard(), self.mode.protect(**wanted) as protected:
            yield protected

    def calling(self, boundary: Boundary, protected: Protected) -> Boundary:
        """A boundary around an engine that reads the sources."""
        modules = [type(each).__module__ for each in (self.mode, *protected.sources)]
        calling = boundary.calling(self.title, modules, secrets=self.secrets)
        return calling if self.snapshots is None else self.snapshots.boundary.joined(calling)


def build_subject(
    registry: PluginRegistry,
    paths: Paths,
    *,
    boundary: Boundary,
    name: str | None,
    mode: str,
    mode_options: Mapping[str, Any] | None,
    tags: Sequence[str],
    host: str | None,
    excludes: Sequence[str],
    force_read: bool,
    dry_run: bool,
    snapshot: str | None,
    snapshot_options: Mapping[str, Any] | None,
    locations: Sequence[str],
) -> Subject:
    """Builds the mode; other arguments as for :meth:`Freezer.backup <freezer_sdk.client.Freezer.backup>`.

    Args:
        locations: of the storages.

    Raises:
        ConfigurationError, PluginError.
    """
    roots = listed(paths)
    maker = build_mode(registry, mode, roots, excludes, mode_options)
    secrets = secret_values(maker.options, mode_options or {})
    with boundary.around(f"mode {mode!r}", type(maker).__module__, secrets=secrets).guard():
        series = name or _proposed_name(maker, roots)
    options = BackupOptions(
        name=series,
        host=host or identity.host_name(),
        tags=texts(tags, "tags"),
        force_read=force_read,
        dry_run=dry_run,
        username=identity.user_name(),
        machine_id=identity.machine_id(),
        mode=mode,
    )
    snapshots = choose_snapshots(registry, maker, snapshot, snapshot_options, locations)
    return Subject(mode=maker, roots=roots, options=options, secrets=secrets, snapshots=snapshots)


def choose_snapshots(
    registry: PluginRegistry,
    mode: Mode,
    provider: str | None,
    options: Mapping[str, Any] | None,
    locations: Sequence[str] = (),
) -> SnapshotChoice | None:
    """What makes volume snapshots for a mode; ``None``: nobody wants any.

    Args:
        locations: of storages that are written to meanwhile.

    Raises:
        ConfigurationError: the mode makes no use of them, or there are options for none.
        PluginError: the provider cannot be used.
    """
    if provider is None:
        if options:
            raise ConfigurationError("there are options for snapshots, and no snapshot is asked for")
        return None
    from freezer_sdk.snapshotting import SnapshotChoice

    if not mode.takes_snapshots:
        raise ConfigurationError(f"mode {mode.name!r} makes no use of volume snapshots")
    writable = [each.removeprefix(_LOCAL) for each in locations if each.startswith(_LOCAL)]
    return SnapshotChoice(provider, options, registry=registry, writable=writable)


def build_mode(
    registry: PluginRegistry, name: str, roots: Sequence[Any], excludes: Sequence[str], values: Mapping[str, Any] | None
) -> Mode:
    """A mode with its options.

    Raises:
        ConfigurationError, PluginError.
    """
    from freezer_sdk import plugins

    options = {option.name for option in registry.load(plugins.MODE, name).options}
    merged = dict(values or {})
    for option, given in (("paths", roots), ("excludes", texts(excludes, "excludes"))):
        if not given:
            continue
        if option not in options:
            raise ConfigurationError(f"mode {name!r} takes no {option}")
        if merged.get(option) is not None:
            raise ConfigurationError(f"{option} are given twice: directly and in the mode's options")
        merged[option] = tuple(given)
    return registry.build(plugins.MODE, name, merged)


def _proposed_name(mode: Mode, roots: Sequence[str | bytes | PathLike[str]]) -> str:
    if roots:
        return os.path.basename(os.path.abspath(os.fsdecode(roots[0]))) or "root"
    name = mode.default_name()
    if not name:
        message = f"nothing to back up: mode {mode.name!r} was given no path and proposes no name"
        raise ConfigurationError(message, hint="name what to back up, or give the backup a name")
    return name


def listed(values: Any) -> tuple[Any, ...]:
    """One text or path, or several, as several."""
    return (values,) if isinstance(values, (str, bytes, PathLike)) else tuple(values)


def texts(values: Iterable[str], what: str) -> tuple[str, ...]:
    """Several texts.

    Raises:
        ConfigurationError: it is one text, which would silently become one item for each letter.
    """
    if isinstance(values, str):
        raise ConfigurationError(f"{what} is a list of texts, not one text")
    return tuple(values)
