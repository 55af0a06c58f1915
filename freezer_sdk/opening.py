"""Opening: from a URL to a storage, and from a storage to a repository."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from freezer_sdk.activity import Activity, WatchedStorage
from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import Engine, Repository
from freezer_sdk.errors import ConfigurationError, FreezerError, RepositoryExists
from freezer_sdk.model import Problem
from freezer_sdk.options import secret_values
from freezer_sdk.storages.base import Storage

if TYPE_CHECKING:
    from freezer_sdk.plugins import PluginRegistry

Password = str | Callable[[], str | None] | None

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.ASCII)


def open_storage(url: str, *, options: Mapping[str, Any] | None = None) -> Storage:
    """The storage that a URL names.

    Args:
        url: for example ``local:/srv/backups``; the scheme is the name of the plug-in.
        options: values of the plug-in's options; they win over what the URL says.

    Raises:
        ConfigurationError, PluginError, StorageError.
    """
    from freezer_sdk import plugins

    match = _SCHEME.match(url)
    if match is None:
        raise ConfigurationError(
            "the storage URL has no scheme", hint="write for example local:/srv/backups for a folder of this machine"
        )
    registry = plugins.PluginRegistry()
    plugin = registry.require(plugins.STORAGE, match[1])
    with Boundary({plugin.__module__: f"storage {match[1]!r}"}).guard():
        values = plugin.parse_url(url)
    return registry.build(plugins.STORAGE, match[1], {**values, **(options or {})})


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
    engine: str,
    password: Password,
    encryption: bool,
    storage_options: Mapping[str, Any] | None,
    engine_options: Mapping[str, Any] | None,
    like: Repository | None = None,
) -> Opened:
    """Opens or makes a repository.

    Args:
        like: only for making one.

    Raises:
        RepositoryExists: only when one must be made.
        ConfigurationError, PluginError, RepositoryNotFound, WrongPassword, UnsupportedFormat, StorageError.
    """
    from freezer_sdk import plugins

    if not isinstance(storage, str) and storage_options:
        raise ConfigurationError("storage options are for a storage URL, not for a Storage that is open already")
    registry = plugins.PluginRegistry()
    maker = registry.build(plugins.ENGINE, engine, engine_options)
    place = open_storage(storage, options=storage_options) if isinstance(storage, str) else storage
    boundary = Boundary(
        {type(maker).__module__: f"engine {engine!r}", type(place).__module__: f"storage {place.name!r}"},
        secrets=secret_values(place.options, storage_options or {}),
    )
    source = _Password(password)
    watched = WatchedStorage(place)
    try:
        with boundary.guard():
            make = partial(maker.create, watched, password=source, encryption=encryption)
            if like is not None:
                if not maker.capabilities.copies:
                    raise ConfigurationError(f"engine {engine!r} cannot make a repository like another one")
                make = partial(make, like=like)
            repository = _repository(maker, watched, how, source, make)
            return Opened(
                registry=registry,
                engine=maker,
                storage=place,
                owns_storage=isinstance(storage, str),
                location=place.location,
                repository=repository,
                problems=tuple(repository.problems),
                boundary=boundary,
                activity=watched.activity,
            )
    except BaseException:
        if isinstance(storage, str):
            with suppress(Exception):  # the first error says more
                place.close()
        raise


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
