"""Volume snapshots: who makes them, for modes that read from them and for programs that want nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import reduce
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from freezer_sdk.boundary import Boundary
from freezer_sdk.errors import ConfigurationError, FreezerError, SnapshotError
from freezer_sdk.modes.base import SnapshotGroup, Stream
from freezer_sdk.providers import ReadyProvider, find_providers

if TYPE_CHECKING:
    from freezer_sdk.plugins import PluginRegistry

AUTO = "auto"
"""Takes the first provider that can: those that are cheap and atomic are asked first."""

_ADVICE = "`freezer snapshot probe PATH` asks all providers; without a snapshot files may change while they are read"
_log = logging.getLogger("freezer_sdk")

OnePath = str | bytes | PathLike[str]


@dataclass(frozen=True, kw_only=True)
class SnapshotProbe:
    """Whether a provider can snapshot some paths.

    Attributes:
        possible: it can.
        reason: why, or why not, for people.
        automatic: ``auto`` may take it; else it must be named.
    """

    provider: str
    possible: bool
    reason: str
    automatic: bool


@dataclass(frozen=True, kw_only=True)
class ReapedSnapshots:
    """What a provider removed of what killed runs had left behind.

    Attributes:
        removed: names, as the provider gives them.
        error: something with our label could not be removed.
    """

    provider: str
    removed: tuple[str, ...] = ()
    error: FreezerError | None = None


@overload
def snapshot(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
    paths: OnePath, provider: str = AUTO, *, options: Mapping[str, Any] | None = None
) -> AbstractContextManager[Path]: ...
@overload
def snapshot(
    paths: Sequence[OnePath], provider: str = AUTO, *, options: Mapping[str, Any] | None = None
) -> AbstractContextManager[Mapping[Path, Path]]: ...
def snapshot(
    paths: OnePath | Sequence[OnePath], provider: str = AUTO, *, options: Mapping[str, Any] | None = None
) -> AbstractContextManager[Path] | AbstractContextManager[Mapping[Path, Path]]:
    """Some paths as they are now, readable for as long as the context lasts::

        with freezer_sdk.snapshot("/var/lib/mysql") as path:
            shutil.copytree(path, "/srv/copy")

    Nothing is known of applications that write there: they find what a power cut would have left them.

    Args:
        paths: one, or several that are to be of one moment.
        provider: what makes the snapshot; ``auto``: the first that can.
        options: values of the provider's declared options; with ``auto`` each takes those that it declares.

    Returns:
        A context: where the path is readable; for several a mapping from each absolute path.

    Raises:
        SnapshotError: it cannot be made or removed, or shows no longer what it should when the context is left.
        ConfigurationError, PluginError.
    """
    views = _views(_absolute(paths), provider, options)
    return _only(views) if isinstance(paths, (str, bytes, PathLike)) else views


@contextmanager
def _views(roots: Sequence[Path], provider: str, options: Mapping[str, Any] | None) -> Iterator[Mapping[Path, Path]]:
    with SnapshotChoice(provider, options)(roots) as group:
        yield {path: _readable(group.views[path]) for path in roots}
        group.check()


@contextmanager
def _only(views: AbstractContextManager[Mapping[Path, Path]]) -> Iterator[Path]:
    with views as found:
        (view,) = found.values()
        yield view


def _readable(view: Path | Stream) -> Path:
    """The path of a view.

    Raises:
        SnapshotError: it is a stream.
    """
    if isinstance(view, Stream):
        raise SnapshotError(
            f"the snapshot of {view.name!r} is a stream of its volume, and has no files to read",
            hint="choose another provider",
        )
    return view


def probe_snapshots(
    paths: OnePath | Sequence[OnePath], *, provider: str | None = None, options: Mapping[str, Any] | None = None
) -> list[SnapshotProbe]:
    """What each installed provider says about some paths, in the order in which ``auto`` asks; changes nothing.

    Args:
        provider: ask only this one.
        options: values of the providers' options; each takes those that it declares.

    Raises:
        ConfigurationError: no path, an option that none of them declares, or a wrong value.
        PluginNotFound: there is no such provider.
    """
    roots = _absolute(paths)
    chosen = find_providers(_registry(), provider, options)
    said = [(each, each.probe(roots)) for each in chosen.usable]
    return [
        *(
            SnapshotProbe(provider=ready.name, possible=found.possible, reason=found.reason, automatic=ready.automatic)
            for ready, found in said
        ),
        *(
            SnapshotProbe(provider=name, possible=False, reason=reason, automatic=False)
            for name, reason in chosen.unusable.items()
        ),
    ]


def reap_snapshots(provider: str | None = None, *, options: Mapping[str, Any] | None = None) -> list[ReapedSnapshots]:
    """Removes snapshots that killed runs left behind: what bears our label, and whose process is gone.

    Args:
        provider: only those of this one; by default all that can be used here.
        options: values of the providers' options (``label_prefix``); each takes those that it declares.

    Returns:
        What became of it, for each provider that was asked.

    Raises:
        ConfigurationError, PluginNotFound, PluginError, PluginUnavailable.
    """
    return [_reap(ready) for ready in find_providers(_registry(), provider, options).usable]


def _reap(ready: ReadyProvider) -> ReapedSnapshots:
    try:
        return ReapedSnapshots(provider=ready.name, removed=ready.reap())
    except FreezerError as error:
        return ReapedSnapshots(provider=ready.name, error=error)


class SnapshotChoice:
    """Volume snapshots by the provider that was chosen: a :data:`~freezer_sdk.modes.base.SnapshotMaker`.

    Args:
        provider: its name, or ``auto``.
        options: values of its declared options; with ``auto`` each provider takes those that it declares.
        writable: what is written to meanwhile, for providers with an option of that name.

    Raises:
        ConfigurationError, PluginError: the named one cannot be used, or options are wrong.
    """

    def __init__(
        self,
        provider: str = AUTO,
        options: Mapping[str, Any] | None = None,
        *,
        registry: PluginRegistry | None = None,
        writable: Sequence[str] = (),
    ) -> None:
        name = None if provider == AUTO else provider
        self._providers = find_providers(_registry(registry), name, options, automatic=True, writable=writable)

    @property
    def boundary(self) -> Boundary:
        """Around all providers that may be asked."""
        return reduce(Boundary.joined, (each.boundary for each in self._providers.usable), Boundary({}))

    def __call__(self, paths: Sequence[Path]) -> AbstractContextManager[SnapshotGroup]:
        """Asks for a provider that can; it makes the snapshots when the context is entered.

        Raises:
            SnapshotError: none can; the message has everyone's reason.
            PluginError.
        """
        roots = list(dict.fromkeys(paths))
        places = ", ".join(map(str, roots))
        refused = []
        for ready in self._providers.usable:
            said = ready.probe(roots)
            _log.debug("snapshot %s of %s: %s", ready.name, places, said.reason)
            if said.possible:
                return ready.create(roots)
            refused.append(f"{ready.name}: {said.reason}")
        refused += [f"{name}: {reason}" for name, reason in self._providers.unusable.items()]
        raise SnapshotError(
            f"no snapshot of {places} can be made ({'; '.join(refused) or 'no provider is installed'})", hint=_ADVICE
        )


def _registry(registry: PluginRegistry | None = None) -> PluginRegistry:
    from freezer_sdk.plugins import PluginRegistry

    return PluginRegistry() if registry is None else registry


def _absolute(paths: OnePath | Sequence[OnePath]) -> list[Path]:
    """Some paths as providers want them.

    Raises:
        ConfigurationError: there is none.
    """
    given = [paths] if isinstance(paths, (str, bytes, PathLike)) else paths
    found = [Path(os.path.abspath(os.fsdecode(path))) for path in given]
    if not found:
        raise ConfigurationError("no path to make a snapshot of")
    return found
