"""What the plug-ins of engines with levels share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.engines.base import Engine, EngineCapabilities, PasswordSource, Repository
from freezer_sdk.engines.chains.codec import Codec
from freezer_sdk.engines.chains.coding import NONE, SEALED, Coding
from freezer_sdk.engines.chains.keys import Keys
from freezer_sdk.engines.chains.layout import DATA, METADATA, STORE
from freezer_sdk.engines.chains.layout import SEALED as SEALED_FOLDER
from freezer_sdk.engines.chains.repository import ChainRepository
from freezer_sdk.engines.chains.settings import AUTO, ChainSettings
from freezer_sdk.engines.chains.store import Marker, Store
from freezer_sdk.errors import (
    ConfigurationError,
    PluginNotFound,
    RepositoryExists,
    RepositoryNotFound,
    UnsupportedFormat,
)
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import Storage


class ChainEngine(Engine):
    """Levels in chains, in the original's layout. A subclass brings the format.

    Attributes:
        compression_names: what the option ``compression`` may say -> name in the original's documents.
    """

    compression_names: ClassVar[dict[str, str]]

    def __init__(self, **options: Any) -> None:
        self._options = {name: value for name, value in options.items() if value is not None}
        default = next(iter(self.compression_names))
        compression = self.compression_names[self._options.get("compression", default)]
        self._settings = ChainSettings.of(self._options, compression=compression)
        self._compressors: dict[str, Compressor] = {}

    @abstractmethod
    def codec(self) -> Codec:
        """The format of the levels."""

    @property
    def capabilities(self) -> EngineCapabilities:
        """Levels, retention that knows of them, and records of drills."""
        return EngineCapabilities(levels=True, retention=True, whole=True, drills=True)

    def probe(self, storage: Storage) -> bool:
        """Whether there is a store that this program made for this engine, or one with levels of it.

        Raises:
            IntegrityError, UnsupportedFormat, StorageError.
        """
        marker = Marker.read(storage)
        return (marker is not None and marker.engine == self.name) or self._has_levels(storage)

    def create(
        self,
        storage: Storage,
        *,
        password: PasswordSource,
        encryption: bool = True,
        like: Repository | None = None,
    ) -> ChainRepository:
        """Makes a store and opens it.

        Raises:
            RepositoryExists, ConfigurationError, StorageError.
        """
        if like is not None:
            raise ConfigurationError(f"a store of the engine {self.name} cannot be like another one")
        if Marker.read(storage) is not None or self._has_levels(storage):
            raise RepositoryExists(f"there is a store already: {storage.location}")
        keys, cipher = Keys(password), NONE
        if encryption:
            if not keys.given:
                raise ConfigurationError(
                    "an encrypted store needs a password",
                    hint="give one by file, command, environment or prompt; --no-encryption only for trusted media",
                )
            cipher = SEALED if self._settings.cipher == AUTO else self._settings.cipher
        marker = Marker.new(self.name, cipher=cipher, keys=keys)
        marker.write(storage)
        return self._repository(storage, keys, marker)

    def open(self, storage: Storage, *, password: PasswordSource) -> ChainRepository:
        """Opens a store: also one of the original, and one that was made for another engine with levels.

        Raises:
            RepositoryNotFound, WrongPassword, UnsupportedFormat, IntegrityError, StorageError.
        """
        marker, problems = Marker.read(storage), []
        if (marker is None or marker.engine != self.name) and not self._has_levels(storage):
            if marker is None:
                raise RepositoryNotFound(
                    f"there are no backups of the engine {self.name} in {storage.location}",
                    hint=f"check the location; freezer repository init --engine {self.name} makes a new store",
                )
            message = f"this store was made for the engine {marker.engine}, and has no backups of {self.name} yet"
            problems.append(Problem(path=STORE, kind="engine", message=message, fatal=False))
        keys = Keys(password)
        if marker is not None:
            marker.unlock(keys)
        return self._repository(storage, keys, marker, problems)

    def _repository(
        self, storage: Storage, keys: Keys, marker: Marker | None, problems: Sequence[Problem] = ()
    ) -> ChainRepository:
        coding = Coding(
            storage=storage,
            codec=self.codec(),
            keys=keys,
            compressor=self.compressor,
            segment_size=self._settings.segment_size,
        )
        store = Store(engine=self.name, coding=coding, settings=self._settings, marker=marker)
        return ChainRepository(store, problems=problems)

    def _has_levels(self, storage: Storage) -> bool:
        """Of a run that was interrupted there may be nothing but the stream."""
        folder = self.codec().folder
        prefixes = (f"{first}/{each}/" for first in (METADATA, DATA) for each in (folder, folder + SEALED_FOLDER))
        return any(next(iter(storage.list(prefix)), None) is not None for prefix in prefixes)

    def compressor(self, name: str) -> Compressor:
        """An installed compressor by its id.

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
                    f"the compressor {name!r} is not installed", hint="install the plug-in that provides it"
                ) from None
            self._compressors[name] = made
        return made
