"""Plug-ins: found through entry points by stevedore, checked when they are loaded, explained when they are broken.

This is the only module that imports stevedore. Only the plug-in that is asked for is imported.
``python -m freezer_sdk.plugins`` prints the reference page of all installed plug-ins (Markdown).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Final, Generic, TypeVar, cast

from stevedore.named import NamedExtensionManager

from freezer_sdk.boundary import describe_failure
from freezer_sdk.compressors.base import Compressor
from freezer_sdk.contract import API_VERSION, Plugin, PluginInfo
from freezer_sdk.engines.base import Engine
from freezer_sdk.errors import ConfigurationError, FreezerError, PluginError, PluginNotFound, PluginUnavailable
from freezer_sdk.modes.base import Mode
from freezer_sdk.options import Option, markdown_table, secret_values, validate
from freezer_sdk.snapshots.base import SnapshotProvider
from freezer_sdk.storages.base import COMMON_OPTIONS, Storage

P = TypeVar("P", bound=Plugin)


@dataclass(frozen=True)
class Kind(Generic[P]):
    """One kind of plug-in.

    Attributes:
        name: ``engine``, ``storage``, ``mode``, ``compressor`` or ``snapshot``.
        contract: the class that plug-ins of this kind derive from.
        common: options of all plug-ins of this kind, beside their own; the plug-in itself never sees them.
        title: for people, where it is not the name.
    """

    name: str
    contract: type[Plugin]
    common: tuple[Option, ...] = ()
    title: str = ""

    def __str__(self) -> str:
        return self.title or self.name

    @property
    def namespace(self) -> str:
        """The entry point group."""
        return f"freezer_sdk.{self.name}s"


ENGINE: Final[Kind[Engine]] = Kind("engine", Engine)
STORAGE: Final[Kind[Storage]] = Kind("storage", Storage, COMMON_OPTIONS)
MODE: Final[Kind[Mode]] = Kind("mode", Mode)
COMPRESSOR: Final[Kind[Compressor]] = Kind("compressor", Compressor)
SNAPSHOT: Final[Kind[SnapshotProvider]] = Kind("snapshot", SnapshotProvider, title="snapshot provider")
KINDS: Final[Mapping[str, Kind[Any]]] = {kind.name: kind for kind in (ENGINE, STORAGE, MODE, COMPRESSOR, SNAPSHOT)}


class _Manager(NamedExtensionManager):  # type: ignore[misc,type-arg,unused-ignore]
    """Stevedore's manager for some names of one namespace; a failure to load ends in an error, not in a log line."""

    def __init__(self, namespace: str, names: Sequence[str], found: Sequence[EntryPoint] | None) -> None:
        self._found = found
        self.ENTRY_POINT_CACHE = {}  # the inherited one is per process: it would miss what sys.path gains later
        super().__init__(namespace, names, on_load_failure_callback=self._failed, on_missing_entrypoints_callback=None)

    def list_entry_points(self) -> list[EntryPoint]:
        if self._found is None:
            return super().list_entry_points()
        return [point for point in self._found if point.group == self.namespace]

    @staticmethod
    def _failed(manager: Any, point: EntryPoint, error: BaseException) -> None:
        raise error


class PluginRegistry:
    """Finds, loads and explains plug-ins.

    Args:
        distributions: look only into these, instead of into everything that is installed (for tests of plug-ins
            that are not installed).
    """

    def __init__(self, distributions: Iterable[Distribution] | None = None) -> None:
        self._given = None if distributions is None else tuple(distributions)
        self._points: list[EntryPoint] | None = None
        if self._given is not None:
            self._points = [point for each in self._given for point in each.entry_points]

    def names(self, kind: Kind[Any]) -> list[str]:
        """The names of one kind, sorted; nothing is imported."""
        return sorted({point.name for point in self._entry_points(kind)})

    def load(self, kind: Kind[P], name: str) -> type[P]:
        """The class behind a name, checked against its contract.

        Raises:
            PluginNotFound: no distribution has it.
            PluginError: two have it, it cannot be imported, or it does not fulfil the contract.
        """
        points = [point for point in self._entry_points(kind) if point.name == name]
        if not points:
            known = ", ".join(self.names(kind)) or "none"
            raise PluginNotFound(f"there is no {kind} {name!r}", hint=f"installed {kind.name} plug-ins: {known}")
        if len(points) > 1:
            owners = " and ".join(sorted(f"{owner} ({point.value})" for point, owner in self._owned(points)))
            raise PluginError(
                f"{kind} {name!r} is claimed by two distributions: {owners}", hint="uninstall one of them"
            )
        return cast("type[P]", self._load_one(kind, points[0]))

    def require(self, kind: Kind[P], name: str) -> type[P]:
        """As :meth:`load`, and it must be usable here.

        Raises:
            PluginNotFound, PluginError: see :meth:`load`.
            PluginUnavailable: something that it needs is missing; the message says what to install.
        """
        plugin = self.load(kind, name)
        try:
            reason = plugin.available()
        except Exception as error:
            raise PluginError(f"{self._title(kind, name)}: available() failed: {describe_failure(error)}") from error
        if reason is not None:
            raise PluginUnavailable(f"{self._title(kind, name)} cannot be used here: {reason}", hint=reason)
        return plugin

    def options(self, kind: Kind[Any], name: str) -> tuple[Option, ...]:
        """Everything that a user can set for a plug-in: its own options, and those of its kind.

        Raises:
            PluginNotFound, PluginError: see :meth:`load`.
        """
        return (*self.load(kind, name).options, *kind.common)

    def build(self, kind: Kind[P], name: str, values: Mapping[str, Any] | None = None) -> P:
        """A plug-in, built with the values of its options.

        Args:
            kind: what is wanted.
            name: the entry point.
            values: by option name; see :func:`freezer_sdk.options.validate`.

        Raises:
            PluginNotFound, PluginError, PluginUnavailable: see :meth:`require`.
            ConfigurationError: unknown, missing or wrong options; all of them in one message.
        """
        plugin = self.require(kind, name)
        accepted = validate(plugin.options, values or {}, owner=f"{kind} {name!r}")
        secrets = secret_values(plugin.options, accepted)
        try:
            return plugin(**accepted)
        except FreezerError:
            raise
        except Exception as error:
            what = describe_failure(error, secrets=secrets)
            raise PluginError(f"{self._title(kind, name)} could not be made: {what}") from error

    def describe(self, kind: Kind[Any], name: str) -> PluginInfo:
        """Everything about one name, also when it is broken.

        Raises:
            PluginNotFound: no distribution has it.
        """
        found = [info for info in self.installed(kind) if info.name == name]
        if not found:
            self.load(kind, name)
        return found[0]

    def installed(self, kind: Kind[Any] | None = None) -> list[PluginInfo]:
        """All plug-ins, or those of one kind; a broken one is listed with the reason."""
        infos = [
            self._info(each, point, owner)
            for each in ([kind] if kind is not None else KINDS.values())
            for point, owner in self._owned(self._entry_points(each))
        ]
        order = list(KINDS)
        return sorted(infos, key=lambda info: (order.index(info.kind), info.name, info.distribution))

    def _info(self, kind: Kind[Any], point: EntryPoint, owner: str) -> PluginInfo:
        distribution, _, version = owner.partition(" ")
        reason, summary, options, first = None, "", (), point.name
        try:
            plugin = self.load(kind, point.name)
            summary, options, first = plugin.summary, plugin.options, plugin.name
            self.require(kind, point.name)
        except PluginUnavailable as error:
            reason = error.hint
        except PluginError as error:
            reason = error.message
        return PluginInfo(
            kind=kind.name,
            name=point.name,
            distribution=distribution,
            version=version,
            summary=summary,
            reason=reason,
            target=point.value,
            alias_of=None if first == point.name else first,
            options=options,
            common_options=kind.common,
        )

    def _entry_points(self, kind: Kind[Any]) -> list[EntryPoint]:
        manager = _Manager(kind.namespace, (), self._points)
        return list(manager.list_entry_points())

    def _load_one(self, kind: Kind[Any], point: EntryPoint) -> type[Plugin]:
        try:
            extension = _Manager(kind.namespace, (point.name,), self._points)[point.name]
        except (Exception, SystemExit) as error:  # a module may end in sys.exit()
            title = self._title(kind, point.name, point)
            raise PluginError(
                f"{title} cannot be imported from {point.value}: {describe_failure(error)}",
                hint=self._import_hint(point, error),
            ) from error
        wrong = _faults(kind, point, extension.plugin, self._entry_points(kind))
        if wrong:
            raise PluginError(f"{self._title(kind, point.name, point)} is not usable: {'; '.join(wrong)}")
        return cast("type[Plugin]", extension.plugin)

    def _import_hint(self, point: EntryPoint, error: BaseException) -> str | None:
        if not isinstance(error, ModuleNotFoundError) or error.name is None:
            return None
        if error.name.partition(".")[0] == point.module.partition(".")[0]:
            return "its distribution is not installed whole: install it again"
        if point.extras:
            distribution = self._owner(point).partition(" ")[0]
            return f"pip install '{distribution}[{','.join(point.extras)}]'"
        return f"install the library that provides {error.name!r}"

    def _title(self, kind: Kind[Any], name: str, point: EntryPoint | None = None) -> str:
        if point is None:
            point = next(each for each in self._entry_points(kind) if each.name == name)
        return f"{kind} {name!r} of {self._owner(point)}"

    def _owner(self, point: EntryPoint) -> str:
        return self._owned([point])[0][1]

    def _owned(self, points: Sequence[EntryPoint]) -> list[tuple[EntryPoint, str]]:
        """With each entry point "distribution version"; stevedore's cache of entry points does not keep it."""
        owners: dict[tuple[str, str, str], str] = {}
        for distribution in distributions() if self._given is None else self._given:
            for point in distribution.entry_points:
                title = f"{distribution.metadata['Name']} {distribution.version}"
                owners.setdefault((point.group, point.name, point.value), title)
        return [(point, owners.get((point.group, point.name, point.value), "unknown distribution")) for point in points]


def list_plugins(kind: str | None = None) -> list[PluginInfo]:
    """All installed plug-ins, also broken ones.

    Args:
        kind: ``engine``, ``storage``, ``mode``, ``compressor`` or ``snapshot``; ``None``: all.

    Raises:
        ConfigurationError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigurationError(f"{kind!r} is no kind of plug-in", hint=f"kinds: {', '.join(KINDS)}")
    return PluginRegistry().installed(None if kind is None else KINDS[kind])


def reference_page(plugins: Iterable[PluginInfo]) -> str:
    """The reference page of plug-ins, in Markdown, from what they declare."""
    lines = ["# Plug-ins", ""]
    last = None
    for info in plugins:
        if info.kind != last:
            lines += [f"## {info.kind.capitalize()} plug-ins", ""]
            if info.common_options:
                lines += [f"Beside its own options, each {info.kind} has these:", ""]
                lines += [markdown_table(info.common_options), ""]
            last = info.kind
        lines += [f"### `{info.name}`", ""]
        if info.alias_of is not None:
            lines += [f"Another name of `{info.alias_of}`.", ""]
            continue
        if not info.summary:
            lines += [f"It cannot be described: {info.reason}", ""]
            continue
        lines += [f"{info.summary.rstrip('.')}. From `{info.distribution}`.", "", markdown_table(info.options), ""]
    return "\n".join(lines).rstrip() + "\n"


def _faults(kind: Kind[Any], point: EntryPoint, plugin: object, points: Sequence[EntryPoint]) -> list[str]:
    """What a loaded object lacks to be a plug-in of this kind."""
    if not inspect.isclass(plugin):
        return [f"{point.value} is not a class"]
    version = getattr(plugin, "api_version", None)
    if version != API_VERSION:
        return [f"it is written for api_version {version!r}, this is {API_VERSION}: install a matching release of it"]
    if not issubclass(plugin, kind.contract):
        contract = f"{kind.contract.__module__}.{kind.contract.__qualname__}"
        return [f"{point.value} does not derive from {contract}"]
    wrong: list[str] = []
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    if missing:
        wrong.append(f"it lacks the methods {', '.join(missing)}")
    declared = {name for base in kind.contract.__mro__ for name in inspect.get_annotations(base)}
    unset = sorted(name for name in declared if not hasattr(plugin, name))
    if unset:
        wrong.append(f"it does not declare {', '.join(unset)}")
        return wrong
    same = {each.name for each in points if each.value == point.value}
    if plugin.name not in same:
        wrong.append(f"it calls itself {plugin.name!r}, which is no entry point of it")
    if not isinstance(plugin.summary, str) or not plugin.summary.strip() or "\n" in plugin.summary:
        wrong.append("its summary is not one line of text")
    names = [each.name for each in plugin.options if isinstance(each, Option)]
    if len(names) != len(plugin.options) or len(set(names)) != len(names):
        wrong.append("its options are not distinct Option objects")
    else:
        odd = [option.name for option in plugin.options if not _fits(option)]
        wrong += [f"the defaults of its options {', '.join(odd)} are not of their types"] if odd else []
    clash = sorted({each.name for each in kind.common} & set(names))
    if clash:
        wrong.append(f"every {kind} has the options {', '.join(clash)} already")
    return wrong


def _fits(option: Option) -> bool:
    """Whether a default is what the plug-in is given; nobody converts it."""
    try:
        return option.default is None or bool(option.convert(option.default) == option.default)
    except ConfigurationError:
        return False


if __name__ == "__main__":
    sys.stdout.write(reference_page(list_plugins()))
