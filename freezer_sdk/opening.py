"""Opening: from a URL to a storage, and from a storage to a repository."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from freezer_sdk.activity import Activity, WatchedStorage
from freezer_sdk.boundary import Boundary
from freezer_sdk.detection import (
    DEFAULT_ENGINE,
    EngineOptions,
    engines_in,
    only_engine,
    options_for,
    tell_of_others,
)
from freezer_sdk.engines.base import Engine, Repository
from freezer_sdk.errors import ConfigurationError, FreezerError, RepositoryExists, RepositoryNotFound
from freezer_sdk.model import Problem
from freezer_sdk.options import secret_values, validate
from freezer_sdk.storages.base import COMMON_OPTIONS, Storage
from freezer_sdk.streams.cancel import CancelToken

if TYPE_CHECKING:
    from freezer_sdk.plugins import PluginRegistry
    from freezer_sdk.reliable import ReliableStorage
    from freezer_sdk.streams.ratelimit import Limits

Password = str | Callable[[], str | None] | None

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.ASCII)


def open_storage(
    url: str, *, options: Mapping[str, Any] | None = None, limits: Limits | None = None
) -> ReliableStorage:
    """The storage that a URL names; it repeats calls that fail for a while, and keeps to bandwidth limits.

    Args:
        url: for example ``local:/srv/backups``; the scheme is the name of the plug-in.
        options: values of the plug-in's options, and of those that all storages have
            (:data:`~freezer_sdk.storages.base.COMMON_OPTIONS`); they win over what the URL says.
        limits: hold beside those among the options, for all storages that are given the same object together.

    Raises:
        ConfigurationError, PluginError, StorageError.
    """
    from freezer_sdk import plugins
    from freezer_sdk.reliable import ReliableStorage
    from freezer_sdk.streams.process import secrets_in
    from freezer_sdk.streams.ratelimit import Limits
    from freezer_sdk.streams.retry import RetryPolicy

    match = _SCHEME.match(url)
    if match is None:
        raise ConfigurationError(
            "the storage URL has no scheme", hint="write for example local:/srv/backups for a folder of this machine"
        )
    registry = plugins.PluginRegistry()
    plugin = registry.require(plugins.STORAGE, match[1])
    title = f"storage {match[1]!r}"
    with Boundary({plugin.__module__: title}, secrets=secrets_in([url])).guard():
        parsed = plugin.parse_url(url)
    values = {**parsed, **(options or {})}
    accepted = validate((*plugin.options, *COMMON_OPTIONS), values, owner=title)
    given = {option.name for option in COMMON_OPTIONS if values.get(option.name) is not None}
    common = {option.name: accepted.pop(option.name) for option in COMMON_OPTIONS}
    policy = None
    if given & {"retry_attempts", "retry_time"}:
        policy = RetryPolicy(attempts=common["retry_attempts"], total=common["retry_time"])
    own = Limits(upload=common["upload_limit"], download=common["download_limit"])
    secrets = (*secrets_in([url]), *secret_values(plugin.options, accepted))
    made = registry.build(plugins.STORAGE, match[1], accepted)
    return ReliableStorage(made, policy=policy, limits=[own] if limits is None else [limits, own], secrets=secrets)


class Opening(Enum):
    """What to do about a repository that is there, or is not."""

    OPEN = "open"
    ENSURE = "ensure"
    CREATE = "create"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An open repository with what it stands on.

    Attributes:
        owns_storage: the storage was opened here, and is closed here.
        location: URL of the storage, without secrets.
        problems: warnings of the opening.
        boundary: knows the engine and the storage.
        reliable: the storage, when :func:`open_storage` made it.
        activity: of the storage.
    """

    registry: PluginRegistry
    engine: Engine
    storage: Storage
    owns_storage: bool
    location: str
    repository: Repository
    problems: tuple[Problem, ...]
    boundary: Boundary
    activity: Activity
    reliable: ReliableStorage | None

    @property
    def limits(self) -> Limits:
        """Bandwidth limits of the storage.

        Raises:
            ConfigurationError: a Storage was given that knows none.
        """
        if self.reliable is None:
            raise ConfigurationError(
                f"{self.location} was opened by the caller, without limits", hint="give its URL, or use open_storage()"
            )
        return self.reliable.limits

    def watching(self, cancel: CancelToken) -> AbstractContextManager[None]:
        """Inside, the storage waits for nothing any more once the token is cancelled."""
        return nullcontext() if self.reliable is None else self.reliable.watching(cancel)

    def close(self) -> None:
        """Releases the repository, then the storage if it was opened here."""
        try:
            with self.boundary.guard():
                self.repository.close()
        finally:
            if self.owns_storage:
                with self.boundary.guard():
                    self.storage.close()


def open_repository(
    storage: str | Storage,
    *,
    how: Opening,
    engine: str | None,
    password: Password,
    encryption: bool,
    storage_options: Mapping[str, Any] | None,
    engine_options: EngineOptions,
    like: Repository | None = None,
    limits: Limits | None = None,
) -> Opened:
    """Opens or makes a repository.

    Args:
        engine: ``None``: the one whose repository is there; to make one, the default engine.
        engine_options: of the engine; or a function that gives them for the name of the one that was found.
        limits: only for a storage URL.
        like: only for making one.

    Raises:
        RepositoryExists: only when one must be made.
        ConfigurationError, PluginError, RepositoryNotFound, WrongPassword, UnsupportedFormat, StorageError.
    """
    from freezer_sdk import plugins

    if not isinstance(storage, str) and (storage_options or limits is not None):
        what = "storage options" if storage_options else "limits"
        raise ConfigurationError(f"{what} are for a storage URL, not for a Storage that is open already")
    registry = plugins.PluginRegistry()
    first = engine or DEFAULT_ENGINE
    detects = engine is None and how is not Opening.CREATE
    maker = None if detects else registry.build(plugins.ENGINE, first, options_for(engine_options, first))
    place = open_storage(storage, options=storage_options, limits=limits) if isinstance(storage, str) else storage
    desk = _Desk(
        registry=registry,
        place=place,
        owned=isinstance(storage, str),
        source=_Password(password),
        encryption=encryption,
        like=like,
        watched=WatchedStorage(place),
    )
    try:
        return desk.open_found(how, engine_options) if maker is None else desk.open(maker, first, how)
    except BaseException as error:
        if isinstance(error, RepositoryNotFound) and engine is not None:
            tell_of_others(error, partial(desk.others, first))
        if isinstance(storage, str):
            with suppress(Exception):  # the first error says more
                place.close()
        raise


@dataclass(frozen=True, kw_only=True)
class _Desk:
    """Opens repositories of different engines in one storage, until one fits."""

    registry: PluginRegistry
    place: Storage
    owned: bool
    source: _Password
    encryption: bool
    like: Repository | None
    watched: WatchedStorage

    @property
    def _reliable(self) -> ReliableStorage | None:
        from freezer_sdk.reliable import ReliableStorage

        return self.place if isinstance(self.place, ReliableStorage) else None

    def _boundary(self, engine: str, module: str) -> Boundary:
        reliable = self._reliable
        plain, secrets = (self.place, ()) if reliable is None else (reliable.inner, reliable.secrets)
        titles = {module: f"engine {engine!r}", type(plain).__module__: f"storage {plain.name!r}"}
        return Boundary(titles, secrets=secrets)

    def others(self, engine: str) -> list[str]:
        """Other engines that have something there."""
        return engines_in(self.registry, self.watched, boundary=self._boundary, but=engine)

    def open_found(self, how: Opening, options: EngineOptions) -> Opened:
        """Opens the repository of whatever engine is there, the default one first."""
        from freezer_sdk import plugins

        try:
            maker: Engine = self.registry.build(plugins.ENGINE, DEFAULT_ENGINE, options_for(options, DEFAULT_ENGINE))
        except ConfigurationError:  # the options may be those of another one
            found = self.others("")
            if not found or DEFAULT_ENGINE in found:
                raise
            other = only_engine(found, self.place.location)
            assert other is not None
            return self._open_other(other, options)
        try:
            return self.open(maker, DEFAULT_ENGINE, Opening.OPEN)
        except RepositoryNotFound:
            other = only_engine(self.others(DEFAULT_ENGINE), self.place.location)
            if other is None and how is Opening.OPEN:
                raise
        if other is None:
            return self.open(maker, DEFAULT_ENGINE, how)
        return self._open_other(other, options)

    def _open_other(self, engine: str, options: EngineOptions) -> Opened:
        from freezer_sdk import plugins

        maker = self.registry.build(plugins.ENGINE, engine, options_for(options, engine))
        return self.open(maker, engine, Opening.OPEN)

    def open(self, maker: Engine, engine: str, how: Opening) -> Opened:
        """Opens or makes a repository of one engine."""
        boundary = self._boundary(engine, type(maker).__module__)
        with boundary.guard():
            make = partial(maker.create, self.watched, password=self.source, encryption=self.encryption)
            if self.like is not None:
                if not maker.capabilities.copies:
                    raise ConfigurationError(f"engine {engine!r} cannot make a repository like another one")
                make = partial(make, like=self.like)
            repository = _repository(maker, self.watched, how, self.source, make)
            return Opened(
                registry=self.registry,
                engine=maker,
                storage=self.place,
                owns_storage=self.owned,
                location=self.place.location,
                repository=repository,
                problems=tuple(repository.problems),
                boundary=boundary,
                activity=self.watched.activity,
                reliable=self._reliable,
            )


def _repository(
    maker: Engine, place: Storage, how: Opening, source: _Password, make: Callable[[], Repository]
) -> Repository:
    if how is Opening.CREATE:
        return make()
    if how is Opening.ENSURE and not maker.probe(place):
        with suppress(RepositoryExists):  # somebody else was quicker: then theirs is opened
            return make()
    return maker.open(place, password=source)


class _Password:
    """Asks for the password at most once; shows it nowhere."""

    def __init__(self, given: Password) -> None:
        self._given = given
        self._lock = threading.Lock()

    @property
    def interactive(self) -> bool:
        """Asking disturbs a person; an engine then asks only when it cannot go on without."""
        return bool(getattr(self._given, "interactive", False))

    def __call__(self) -> str | None:
        with self._lock:
            if callable(self._given):
                self._given = self._ask(self._given)
            return self._given

    @staticmethod
    def _ask(source: Callable[[], str | None]) -> str | None:
        try:
            answer = source()
        except FreezerError:
            raise
        except Exception as error:
            raise ConfigurationError(f"asking for the password failed: {type(error).__name__}") from error
        if answer is not None and not isinstance(answer, str):
            raise ConfigurationError(f"the password is {type(answer).__name__} instead of text")
        return answer
