"""Snapshot providers as the library uses them: found, built, asked in order, and watched over."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezer_sdk.boundary import Boundary
from freezer_sdk.errors import ConfigurationError, FreezerError, PluginError
from freezer_sdk.files.mounts import lasting_mounts_below
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.options import secret_values
from freezer_sdk.snapshots.base import Probe, SnapshotProvider

if TYPE_CHECKING:
    from freezer_sdk.plugins import PluginRegistry

_WRITABLE = "writable"
_log = logging.getLogger("freezer_sdk")


@dataclass(frozen=True, kw_only=True)
class Providers:
    """Snapshot providers in the order in which they are asked.

    Attributes:
        usable: built with their options.
        unusable: why others cannot be used here, by name.
    """

    usable: Sequence[ReadyProvider]
    unusable: Mapping[str, str]


def find_providers(
    registry: PluginRegistry,
    name: str | None,
    options: Mapping[str, Any] | None,
    *,
    automatic: bool = False,
    writable: Sequence[str] = (),
) -> Providers:
    """The provider of a name, or all that are installed.

    Args:
        options: of several providers each takes those that it declares.
        automatic: only those that may be taken without being named.
        writable: added to the option ``writable`` of those that declare it: providers that halt file systems.

    Raises:
        ConfigurationError: options are wrong, or none of the providers declares one.
        PluginError, PluginNotFound, PluginUnavailable: about a provider that is named.
    """
    from freezer_sdk import plugins

    values = {key: value for key, value in (options or {}).items() if value is not None}
    if name is not None:
        return Providers(usable=[_build(registry, name, values, writable)], unusable={})
    kinds: list[type[SnapshotProvider]] = []
    unusable: dict[str, str] = {}
    for each in registry.names(plugins.SNAPSHOT):
        try:
            kind = registry.load(plugins.SNAPSHOT, each)
        except PluginError as error:
            unusable[each] = error.message
            continue
        if each == kind.name and not (automatic and kind.preference is None):  # aliases are not asked twice
            kinds.append(kind)
    _refuse_unknown(values, kinds)
    usable = []
    for kind in sorted(kinds, key=_order):
        own = {option.name for option in kind.options}
        try:
            usable.append(_build(registry, kind.name, {key: values[key] for key in values if key in own}, writable))
        except PluginError as error:  # PluginUnavailable among them
            unusable[kind.name] = error.hint or error.message
    return Providers(usable=usable, unusable=unusable)


def _order(kind: type[SnapshotProvider]) -> tuple[bool, int, str]:
    return kind.preference is None, kind.preference or 0, kind.name


def _refuse_unknown(values: Mapping[str, Any], kinds: Sequence[type[SnapshotProvider]]) -> None:
    declared = {option.name for kind in kinds for option in kind.options}
    unknown = ", ".join(repr(key) for key in values if key not in declared)
    if unknown:
        hint = f"known options: {', '.join(sorted(declared))}" if declared else None
        raise ConfigurationError(f"no snapshot provider has the option {unknown}", hint=hint)


def _build(registry: PluginRegistry, name: str, values: Mapping[str, Any], writable: Sequence[str]) -> ReadyProvider:
    from freezer_sdk import plugins

    declared = {option.name: option for option in registry.load(plugins.SNAPSHOT, name).options}
    if writable and _WRITABLE in declared:
        own = declared[_WRITABLE].convert(values.get(_WRITABLE, ()))
        values = {**values, _WRITABLE: (*own, *writable)}
    made = registry.build(plugins.SNAPSHOT, name, values)
    return ReadyProvider(name, made, secrets=secret_values(made.options, values))


class ReadyProvider:
    """A provider with a boundary around it.

    Args:
        secrets: texts that no message may show.
    """

    def __init__(self, name: str, provider: SnapshotProvider, *, secrets: Sequence[str] = ()) -> None:
        self.name = name
        self._provider = provider
        self.boundary = Boundary({type(provider).__module__: f"snapshot {name!r}"}, secrets=secrets)

    @property
    def automatic(self) -> bool:
        """May be taken without being named."""
        return self._provider.preference is not None

    def probe(self, paths: Sequence[Path]) -> Probe:
        """See :meth:`SnapshotProvider.probe <freezer_sdk.snapshots.base.SnapshotProvider.probe>`.

        One that fails at it cannot, which must not keep others from being asked.
        """
        try:
            with self.boundary.guard():
                return self._provider.probe(paths)
        except FreezerError as error:
            return Probe(possible=False, reason=error.message)

    def reap(self) -> tuple[str, ...]:
        """See :meth:`SnapshotProvider.reap <freezer_sdk.snapshots.base.SnapshotProvider.reap>`.

        Raises:
            SnapshotError, PluginError.
        """
        with self.boundary.guard():
            return tuple(self._provider.reap())

    def create(self, paths: Sequence[Path]) -> AbstractContextManager[SnapshotGroup]:
        """Snapshots of all paths, with everything that a provider need not know filled in.

        What goes wrong in the body wins over what goes wrong while the snapshots are removed, which is logged then.

        Raises:
            SnapshotError, PluginError.
        """
        with self.boundary.guard():
            return self._created(self.boundary.entered(self._provider.create(paths)), paths)

    @contextmanager
    def _created(
        self, context: AbstractContextManager[SnapshotGroup], paths: Sequence[Path]
    ) -> Iterator[SnapshotGroup]:
        taken = time.time_ns()
        group = context.__enter__()
        try:
            _log.info("snapshot %s of %s is there", self.name, ", ".join(map(str, paths)))
            yield ReadyGroup(self.name, group, paths, taken_ns=taken, boundary=self.boundary)
        except BaseException as error:
            self._leave(context, error)
            raise
        context.__exit__(None, None, None)
        _log.info("snapshot %s is removed", self.name)

    def _leave(self, context: AbstractContextManager[SnapshotGroup], error: BaseException) -> None:
        try:
            context.__exit__(type(error), error, error.__traceback__)
        except FreezerError as failed:
            if failed is not error:
                _log.error("%s; `freezer snapshot reap --provider %s` tries again", failed.message, self.name)


class ReadyGroup(SnapshotGroup):
    """What a provider made, checked, with what it need not know.

    Raises:
        PluginError: there is no view of a path, or a relative one.
    """

    def __init__(
        self, provider: str, group: SnapshotGroup, paths: Sequence[Path], *, taken_ns: int, boundary: Boundary
    ) -> None:
        self._group, self._boundary = group, boundary
        with boundary.guard():
            self.taken_ns = group.taken_ns or taken_ns
            self.views = dict(group.views)
            self.facts = {"provider": provider, "taken": _moment(self.taken_ns), **group.facts}
            self.missing = sorted({*group.missing, *self._elsewhere(paths)})
        for path in paths:
            view = self.views.get(path)
            if view is None or (isinstance(view, Path) and not view.is_absolute()):
                raise PluginError(f"snapshot {provider!r} gave no absolute path or stream for {path}")

    def check(self) -> None:
        """See :meth:`SnapshotGroup.check <freezer_sdk.modes.base.SnapshotGroup.check>`.

        Raises:
            SnapshotError, PluginError.
        """
        with self._boundary.guard():
            self._group.check()

    def _elsewhere(self, paths: Sequence[Path]) -> Iterator[Path]:
        """File systems below the paths that are not to be seen in the views."""
        for path in paths:
            view = self.views.get(path)
            if isinstance(view, Path):
                below = lasting_mounts_below(path)
                yield from (each for each in below if not _apart(view, view / each.relative_to(path)))


def _apart(view: Path, inside: Path) -> bool:
    """Whether something else is mounted in a view."""
    try:
        return view.stat().st_dev != inside.stat().st_dev
    except OSError:
        return False


def _moment(taken_ns: int) -> str:
    return datetime.fromtimestamp(taken_ns / 1e9, UTC).isoformat(timespec="milliseconds")
