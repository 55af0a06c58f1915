"""From the options of the original to storages and engines of the library."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from freezer_cli.agent.settings import Place, Settings
from freezer_cli.passwords import from_file
from freezer_cli.plugin_options import environment_values
from freezer_sdk import Limits, Target
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.plugins import ENGINE, PluginRegistry

_ENGINES = {"rsyncv2": "rsync"}
_PARTS = (5 << 20, 5 << 30)  # what S3 takes as a part
_PREFIX = "freezer_"


class Opener:
    """Says how the storages of a run are opened; they share its bandwidth.

    Args:
        settings: of the run.
        environ: login of OpenStack and keys of S3, where the options do not say them.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings, self._environ = settings, environ
        self._limits = Limits(upload=settings.upload_limit, download=settings.download_limit)
        self.engine = _ENGINES.get(settings.engine, settings.engine)
        self._declared = {option.name for option in PluginRegistry().load(ENGINE, self.engine).options}

    def target(self, place: Place, *, create: bool = False) -> Target:
        """How one storage is opened.

        Args:
            place: which one.
            create: also where no backups are yet.

        Raises:
            ConfigurationError: the options do not say enough, or contradict each other.
        """
        url, options = storage_of(place, self._settings.segment_size, self._environ)
        return Target(
            url,
            password=self._password,
            create=create,
            engine=self.engine,
            encryption=False,  # each backup name has its own password, or none: the store is bound to none
            storage_options=options,
            engine_options=self._engine_options(),
            limits=self._limits,
        )

    def scratch(self) -> Target:
        """A place in memory that takes the part of one that does not exist yet, for what must not be written."""
        return Target(
            "memory:",
            password=self._password,
            create=True,
            engine=self.engine,
            encryption=False,
            engine_options=self._engine_options(),
        )

    @property
    def excludes(self) -> bool:
        """The engine itself knows the patterns of ``--exclude``; else the mode has to do with them."""
        return "tar_exclude" in self._declared

    @property
    def _password(self) -> str | None:
        file = self._settings.password_file
        return None if file is None else from_file(file)

    def _engine_options(self) -> dict[str, Any]:
        settings = self._settings
        wanted = {
            "strategy": settings.levels.strategy,
            "max_level": settings.levels.max_level,
            "always_level": settings.levels.always_level,
            "restart_always_level": settings.levels.restart_always_level,
            "compression": settings.compression,
            "cipher": settings.cipher,
            "segment_size": settings.segment_size,
            "tar_exclude": settings.exclude,
            "block_size": settings.block_size,
        }
        return {name: value for name, value in wanted.items() if value is not None and name in self._declared}


def other_containers(place: Place) -> tuple[Place, ...]:
    """Where backups of the same container may lie, too: early agents put ``freezer_`` before its name in Swift."""
    if place.storage != "swift" or place.container.startswith(_PREFIX):
        return ()
    container = _PREFIX + place.container
    return (
        Place(name=place.name, storage="swift", container=container, values={**place.values, "container": container}),
    )


def storage_of(place: Place, segment_size: int, environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """URL and options of a storage.

    Raises:
        ConfigurationError: something is missing.
    """
    url, options = _STORAGES[place.storage](place, segment_size, environ)
    if place.storage != "local":
        options |= _through(place.values["proxy"])
    return url, {name: value for name, value in options.items() if value is not None}


def _local(place: Place, _segment_size: int, _environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    return f"local:{os.path.abspath(os.path.expanduser(place.container))}", {}


def _swift(place: Place, _segment_size: int, environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    url, values = f"swift:{place.container}", place.values
    given: dict[str, Any] = {}
    if values["osrc"]:
        given["osrc"] = os.path.expanduser(values["osrc"])
    if values["os_trust_id"]:
        given["os_trust_id"] = values["os_trust_id"]
    if values["os_identity_api_version"] == "1":
        given["os_identity_api_version"] = "1"
    if values["insecure"]:
        given["os_insecure"] = True
    return url, {**environment_values(url, environ, given), **given}


def _ssh(place: Place, _segment_size: int, _environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    values = place.values
    key = values["ssh_key"]
    path = place.container if place.container.startswith("/") else f"/~/{place.container}"
    url = f"ssh://{_host(place, 'ssh_host')}{quote(path)}"
    return url, {
        "port": values["ssh_port"],
        "user": values["ssh_username"],
        "password": values["ssh_password"],
        "identity_file": os.path.expanduser(key) if key and not values["ssh_password"] else None,
    }


def _ftp(place: Place, _segment_size: int, _environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    values = place.values
    url = f"{place.storage}://{_host(place, 'ftp_host')}{quote('/' + place.container.lstrip('/'))}"
    options = {"port": values["ftp_port"], "user": values["ftp_username"], "password": values["ftp_password"]}
    if place.storage == "ftps" and values["insecure"]:
        options["insecure"] = True
    return url, options


def _s3(place: Place, segment_size: int, environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    values = place.values
    low, high = _PARTS
    bucket, slash, prefix = place.container.partition("/")
    return f"s3://{quote(bucket, safe='')}{slash}{quote(prefix)}", {
        "access_key": values["access_key"] or environ.get("ACCESS_KEY") or None,
        "secret_key": values["secret_key"] or environ.get("SECRET_KEY") or None,
        "endpoint": values["endpoint"] or environ.get("ENDPOINT") or None,
        "part_size": min(max(segment_size, low), high),
        "insecure": values["insecure"] or None,
        "create_bucket": True,
    }


_STORAGES = {"local": _local, "swift": _swift, "ssh": _ssh, "ftp": _ftp, "ftps": _ftp, "s3": _s3}


def _host(place: Place, key: str) -> str:
    host = place.values[key]
    if not host:
        raise ConfigurationError(f"--{key.replace('_', '-')} is missing: on which server is {place.container}?")
    return f"[{host}]" if ":" in host else quote(host, safe="")


def _through(proxy: str | None) -> dict[str, str]:
    """Options of a proxy; its password apart from the URL, which messages may show."""
    if not proxy:
        return {}
    try:
        parts = urlsplit(proxy)
        password = parts.password
    except ValueError:
        return {"proxy": "?"}  # the storage says that it is none
    if password is None:
        return {"proxy": proxy}
    at = parts.netloc.rpartition("@")[2]
    return {"proxy": parts._replace(netloc=f"{parts.username}@{at}").geturl(), "proxy_password": password}
