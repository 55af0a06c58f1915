"""The dedup engine's plug-in class."""

from __future__ import annotations

from typing import Any

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.engines.base import Engine, EngineCapabilities, PasswordSource, Repository
from freezer_sdk.engines.dedup import access, features
from freezer_sdk.engines.dedup.cache import LocalCache
from freezer_sdk.engines.dedup.config import DEFAULT_GRACE
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.repository import DedupRepository
from freezer_sdk.engines.dedup.settings import NO_CACHE, OPTIONS, Settings
from freezer_sdk.engines.dedup.upkeep.spare import SpareStorage
from freezer_sdk.errors import ConfigurationError, PluginNotFound, UnsupportedFormat
from freezer_sdk.storages.base import Storage


class DedupEngine(Engine):
    """Content-defined chunks, deduplicated, compressed and encrypted; every backup is complete."""

    name = "dedup"
    api_version = 1
    summary = "deduplicating, encrypting repository; every backup is complete by reference"
    options = OPTIONS

    def __init__(self, **options: Any) -> None:
        self._settings = Settings(**{name: value for name, value in options.items() if value is not None})
        self._compressors: dict[str, Compressor] = {}

    @property
    def capabilities(self) -> EngineCapabilities:
        """No levels: every backup is full by reference."""
        return EngineCapabilities(
            prune=True, keys=True, streams=True, copies=True, retention=True, undelete=True, drills=True
        )

    def probe(self, storage: Storage) -> bool:
        """Whether there is a configuration.

        Raises:
            StorageError.
        """
        return access.is_repository(storage)

    def create(
        self,
        storage: Storage,
        *,
        password: PasswordSource,
        encryption: bool = True,
        like: Repository | None = None,
    ) -> DedupRepository:
        """Makes a repository and opens it.

        Raises:
            RepositoryExists, ConfigurationError, PolicyRefusal, StorageError.
        """
        if like is not None and not isinstance(like, DedupRepository):
            raise ConfigurationError("a repository of the engine dedup can only be like another one of this engine")
        keys = access.create_repository(
            storage,
            password=_asked(password) if encryption else None,
            features={"read": features.read_features(self._settings.compression, self.compressor)},
            supported=self._supported(),
            like=None if like is None else like.keys,
            grace=DEFAULT_GRACE if self._settings.grace is None else round(self._settings.grace),
        )
        SpareStorage(storage).restore(self._settings.reserve)  # should it fail, a later prune makes it
        return self._repository(storage, keys)

    def open(self, storage: Storage, *, password: PasswordSource) -> DedupRepository:
        """Opens a repository.

        Raises:
            RepositoryNotFound, WrongPassword, UnsupportedFormat, IntegrityError, StorageError.
        """
        keys = access.open_repository(storage, password, supported=self._supported())
        return self._repository(storage, keys)

    def _repository(self, storage: Storage, keys: KeyRing) -> DedupRepository:
        """With a cache where reading costs a network round trip."""
        cache, settings = None, self._settings
        if settings.cache not in (None, NO_CACHE) and storage.capabilities.remote:
            cache = LocalCache(settings.cache, keys.repository_id, storage, limit=settings.cache_size)
        handle = Handle(storage, keys, settings, self.compressor, cache)
        return DedupRepository(handle, problems=(*keys.problems, *handle.look_back()))

    @staticmethod
    def _supported() -> frozenset[str]:
        """Features that installed plug-ins bring."""
        from freezer_sdk import plugins

        return features.supported(plugins.PluginRegistry().names(plugins.COMPRESSOR))

    def compressor(self, name: str) -> Compressor:
        """An installed compressor by the name that is stored with data.

        Raises:
            UnsupportedFormat: not installed.
        """
        made = self._compressors.get(name)
        if made is None:
            from freezer_sdk import plugins

            try:
                made = plugins.PluginRegistry().build(plugins.COMPRESSOR, name)
            except PluginNotFound:
                raise UnsupportedFormat(
                    f"the compressor {name!r} is not installed",
                    hint="install the plug-in that provides it",
                ) from None
            self._compressors[name] = made
        return made


def _asked(password: PasswordSource) -> str:
    """The password for a new repository.

    Raises:
        ConfigurationError: there is none.
    """
    text = password()
    if not text:
        raise ConfigurationError(
            "an encrypted repository needs a password",
            hint="give one by file, command, environment or prompt; --no-encryption only for trusted media",
        )
    return text
