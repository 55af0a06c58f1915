"""Mode ``glance``: images of OpenStack's image service, with their properties; restored as new images, or as files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import Any, ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import (
    AccessDenied,
    AmbiguousError,
    ConfigurationError,
    FreezerError,
    IntegrityError,
    RestoreError,
    SourceUnreadable,
)
from freezer_sdk.model import PlannedAction, Problem, RestoreResult
from freezer_sdk.modes._glance import ACTIVE, Image, ImageService
from freezer_sdk.modes._glance_transfer import ImageReader, Verified
from freezer_sdk.modes.base import SERVER, Mode, Protected, Restorer, SnapshotMaker, Stream, recorded_facts
from freezer_sdk.options import Option, validate
from freezer_sdk.streams.network import CONNECT_TIMEOUT, PROXY, PROXY_PASSWORD, TIMEOUT, Proxy
from freezer_sdk.streams.openstack import OPENSTACK, Cloud
from freezer_sdk.streams.retry import RetryPolicy

_log = logging.getLogger(__name__)
_FACTS = "glance"
_GLANCES_OWN = (
    *("checksum", "created_at", "direct_url", "file", "id", "locations", "os_hash_algo", "os_hash_value", "owner"),
    *("schema", "self", "size", "status", "stores", "updated_at", "virtual_size"),
)
"""What Glance says of an image, and nobody can ask for."""
_PLACES = ("direct_url", "file", "locations", "schema")  # where Glance keeps it, perhaps with its login there
_ID = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)
_RESERVED = "os_glance_"  # properties of Glance's own book-keeping
_PARTS = ("kernel_id", "ramdisk_id")  # images that another one needs to start
_LAST = ("visibility", "protected", "os_hidden")  # a protected image could not be removed when its content fails


class GlanceMode(Mode):
    """Images of OpenStack Glance.

    An image never changes once it has content, so that nothing needs to be quiesced. What is read is compared with the
    hash that Glance keeps of it; so is what is sent on a restore.

    Args:
        image: ids, or names that only one image has.
        image_filter: patterns of names, as of a shell: ``web-*``.
        any_owner: images of other projects fit the patterns, too.
        rename: name of the restored image.
        retry_time: seconds that calls are repeated for.
        connect_timeout, timeout, proxy, proxy_password: see :mod:`freezer_sdk.streams.network`.
        login: values of :data:`freezer_sdk.streams.openstack.OPENSTACK`.

    Raises:
        ConfigurationError: a login that cannot be.
    """

    name: ClassVar[str] = "glance"
    api_version: ClassVar[int] = API_VERSION
    summary: ClassVar[str] = "images of OpenStack Glance"
    options: ClassVar[tuple[Option, ...]] = (
        Option(
            name="image", multiple=True, default=(), help="Id of an image, or a name that only one has; also to restore"
        ),
        Option(name="image_filter", multiple=True, default=(), help="All images whose names fit, such as 'web-*'"),
        Option(name="any_owner", type="bool", default=False, help="With image_filter: images of other projects, too"),
        Option(name="rename", help="Name of the restored image, where only one is restored"),
        Option(
            name="retry_time",
            type="duration",
            default=300.0,
            help="Longest time from a call's first failure to its last attempt",
        ),
        *OPENSTACK,
        CONNECT_TIMEOUT,
        TIMEOUT,
        PROXY,
        PROXY_PASSWORD,
    )

    def __init__(
        self,
        *,
        image: Sequence[str] = (),
        image_filter: Sequence[str] = (),
        any_owner: bool = False,
        rename: str | None = None,
        retry_time: float = 300.0,
        connect_timeout: float = 30.0,
        timeout: float = 60.0,
        proxy: str | None = None,
        proxy_password: str | None = None,
        **login: Any,
    ) -> None:
        self._wanted = tuple(image)
        self._patterns = tuple(image_filter)
        self._any_owner = any_owner
        self._rename = rename
        self._policy = RetryPolicy(total=retry_time)
        through = None if proxy is None else Proxy.parse(proxy, password=proxy_password)
        self._network: dict[str, Any] = {"connect_timeout": connect_timeout, "timeout": timeout, "proxy": through}
        self._login = validate(OPENSTACK, login, owner=f"mode {self.name!r}")

    @classmethod
    def available(cls) -> str | None:
        """Whether the client's libraries are installed."""
        missing = [name for name in ("glanceclient", "keystoneauth1") if find_spec(name) is None]
        return "pip install 'freezer-sdk[glance]'" if missing else None

    def default_name(self) -> str | None:
        """The image, where there is only one."""
        return self._wanted[0] if len(self._wanted) == 1 and not self._patterns else "images"

    @contextmanager
    def protect(self, *, snapshots: SnapshotMaker | None = None) -> Iterator[Protected]:
        """Hands each image over as a stream.

        Raises:
            ConfigurationError: no image is named, or the login makes no sense.
            AmbiguousError: several images have a name.
            SourceUnreadable: an image is not there or has no content yet, or Glance cannot be asked.
        """
        if not self._wanted and not self._patterns:
            raise ConfigurationError("no image to back up", hint="name it by --image, or several by --image-filter")
        with self._service(SourceUnreadable) as service:
            chosen = self._choose(service)
            yield Protected(
                sources=[self._stream(image, service) for image in chosen],
                facts={
                    _FACTS: {
                        "url": service.url,
                        "images": [{"stream": _stream_name(image), "properties": _recorded(image)} for image in chosen],
                    }
                },
            )

    @contextmanager
    def _service(self, failure: type[FreezerError]) -> Iterator[ImageService]:
        cloud = Cloud(self._login, **self._network)
        try:
            yield ImageService(cloud, policy=self._policy, failure=failure)
        finally:
            cloud.close()

    def _stream(self, image: Image, service: ImageService) -> Stream:
        return Stream(
            name=_stream_name(image),
            open=partial(ImageReader, image, service=service, policy=self._policy),
            size=image.size,
        )

    def _choose(self, service: ImageService) -> list[Image]:
        """The images that are asked for, each once."""
        chosen: dict[str, Image] = {}
        everything = service.images()
        for wanted in self._wanted:
            image = _by_id(wanted, everything, service)
            if image is None:
                image = _only(wanted, [each for each in everything if each.name == wanted])
            if image.properties.get("status") != ACTIVE:
                raise SourceUnreadable(f"{image.title} cannot be read: it is {image.properties.get('status')}")
            chosen[image.id] = image
        owner = "" if self._any_owner or not self._patterns else service.project()
        for pattern in self._patterns:
            fitting = [each for each in everything if fnmatchcase(each.name, pattern)]
            own = [each for each in fitting if not owner or each.properties.get("owner") == owner]
            if not own:
                hint = f"{len(fitting)} of other projects do; any_owner takes them" if fitting else None
                raise SourceUnreadable(f"no image has a name like {pattern!r}", hint=hint)
            for image in own:
                if image.properties.get("status") == ACTIVE:
                    chosen[image.id] = image
                else:
                    _log.warning("%s is left out: it is %s", image.title, image.properties.get("status"))
        if not chosen:
            raise SourceUnreadable("none of the images has content yet")
        for image in chosen.values():
            if not image.size:
                _log.warning("%s has no content: volumes that it names are not part of the backup", image.title)
        return sorted(chosen.values(), key=lambda image: image.id)

    def restore(self, restorer: Restorer, target: str) -> RestoreResult:
        """Makes new images of those of the backup, or files.

        Args:
            restorer: gives the backup.
            target: ``server:`` for new images; else a folder for files, which are named by the ids of the images.

        Raises:
            RestoreError: not one image could be restored.
            ConfigurationError: an image is asked for that the backup does not hold, or another mode made it.
            StorageError, IntegrityError, Cancelled.
        """
        if target != SERVER:
            return self._restore_files(restorer, target)
        options = restorer.options
        if options.include or options.exclude or options.delete:
            raise ConfigurationError("images are chosen by --image or their paths, not by include, exclude or delete")
        stored = self._stored(restorer)
        if self._rename is not None and len(stored) != 1:
            raise ConfigurationError(f"{len(stored)} images cannot all be named {self._rename!r}")
        if options.dry_run:
            names = [(SERVER + self._new_name(each.image)).encode() for each in stored]
            plan = [
                PlannedAction(action="create", path=name, size=each.image.size)
                for name, each in zip(names, stored, strict=True)
            ]
            size = sum(step.size for step in plan)
            return RestoreResult(
                backup=restorer.backup.id, target=target, files=len(plan), bytes=size, plan=tuple(plan)
            )
        with self._service(RestoreError) as service:
            return self._restore_all(restorer, stored, service)

    def _restore_files(self, restorer: Restorer, target: str) -> RestoreResult:
        chosen, everything = self._stored(restorer), _parse(recorded_facts(restorer, _FACTS))
        if self._rename is not None or not (restorer.options.paths or len(chosen) == len(everything)):
            raise ConfigurationError(
                "files are chosen by their paths in the backup, and keep their names", hint=_known(everything)
            )
        return restorer.files(target)

    def _stored(self, restorer: Restorer) -> list[_Stored]:
        """The images of a backup that are asked for; those that others need to start come first."""
        everything = _parse(recorded_facts(restorer, _FACTS))
        chosen = everything
        paths = {path.lstrip(b"/") for path in restorer.options.paths}
        if paths:
            chosen = [each for each in everything if each.stream.encode() in paths]
            if len(chosen) != len(paths):
                raise ConfigurationError("some paths are no images", hint=_known(everything))
        if self._wanted:
            found = [each for each in chosen if {each.image.id, each.image.name} & set(self._wanted)]
            for wanted in self._wanted:
                if not any(wanted in (each.image.id, each.image.name) for each in found):
                    raise ConfigurationError(f"the backup holds no image {wanted!r}", hint=_known(everything))
            chosen = found
        if self._patterns:
            chosen = [each for each in chosen if any(fnmatchcase(each.image.name, one) for one in self._patterns)]
        if not chosen:
            raise ConfigurationError("no image is chosen", hint=_known(everything))
        needed = {each.image.properties.get(part) for each in chosen for part in _PARTS}
        return sorted(chosen, key=lambda each: each.image.id not in needed)

    def _restore_all(self, restorer: Restorer, stored: Sequence[_Stored], service: ImageService) -> RestoreResult:
        started = monotonic()
        made: dict[str, Image] = {}
        problems: list[Problem] = []
        failure: FreezerError | None = None
        for each in stored:
            properties = self._properties(each.image, made)
            try:
                image = _restore_one(each, properties, restorer, service)
            except (RestoreError, IntegrityError) as error:  # the others can be restored all the same
                failure = error
                problems.append(Problem(path="/" + each.stream, kind="unrestored", message=error.message))
                continue
            made[each.image.id] = image
            problems += _finish(each, image, service)
        if not made and failure is not None:
            raise failure
        facts = [{"id": image.id, "name": image.name, "of": old} for old, image in made.items()]
        return RestoreResult(
            backup=restorer.backup.id,
            target=service.url,
            files=len(made),
            bytes=sum(image.size for image in made.values()),
            duration=monotonic() - started,
            problems=tuple(problems),
            facts={_FACTS: {"images": facts}},
        )

    def _new_name(self, image: Image) -> str:
        return self._rename if self._rename is not None else image.name

    def _properties(self, image: Image, made: Mapping[str, Image]) -> dict[str, Any]:
        """What the new image is made with; other images of the same restore go by their new ids."""
        kept = {
            name: value
            for name, value in image.properties.items()
            if value is not None and name not in (*_GLANCES_OWN, *_LAST) and not name.startswith(_RESERVED)
        }
        parts = {part: made[kept[part]].id for part in _PARTS if kept.get(part) in made}
        name = self._new_name(image)
        return {**kept, **parts, **({"name": name} if name else {}), "visibility": "private"}


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """An image in a backup."""

    stream: str
    image: Image


def _restore_one(stored: _Stored, properties: dict[str, Any], restorer: Restorer, service: ImageService) -> Image:
    """Makes an image with its content; nothing is left of one that failed."""
    with restorer.stream(stored.stream) as reader:
        content = Verified(reader, stored.image.digest, lambda size: restorer.progress(size=size))
        made = service.create(properties)
        try:
            image = service.upload(made, content, size=stored.image.size)
            problem = content.problem(image)
            if problem is not None:
                raise RestoreError(f"{stored.image.title} was not restored: {problem}")
        except BaseException:
            with suppress(FreezerError):
                service.delete(made)
            raise
    return image


def _finish(stored: _Stored, image: Image, service: ImageService) -> Iterator[Problem]:
    """What can only be set when the content is there, and may be refused."""
    for name in _LAST:
        value = stored.image.properties.get(name)
        if value in (None, image.properties.get(name)):
            continue
        try:
            service.update(image, **{name: value})
        except (AccessDenied, RestoreError) as error:
            message = f"the new {image.title} is not {name}={value}: {error.message}"
            yield Problem(path="/" + stored.stream, kind="property", message=message, fatal=False)


def _parse(facts: Mapping[str, Any]) -> list[_Stored]:
    try:
        return [
            _Stored(stream=str(each["stream"]), image=Image(properties={"id": "", **each["properties"]}))
            for each in facts["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RestoreError("this backup does not say what images it holds") from error


def _known(stored: Sequence[_Stored]) -> str:
    return "it holds " + ", ".join(f"/{each.stream} ({each.image.name})" for each in stored)


def _recorded(image: Image) -> dict[str, Any]:
    return {name: value for name, value in image.properties.items() if name not in _PLACES}


def _by_id(wanted: str, everything: Sequence[Image], service: ImageService) -> Image | None:
    """An image by its id; some that a user may see are in no list, such as those of a community."""
    listed = next((each for each in everything if each.id == wanted), None)
    return listed if listed is not None or not _ID.fullmatch(wanted) else service.get(wanted)


def _only(wanted: str, found: Sequence[Image]) -> Image:
    if not found:
        raise SourceUnreadable(f"there is no image {wanted!r}", hint="check the id or name, and the project")
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        raise AmbiguousError(f"{len(found)} images are named {wanted!r}: {ids}", hint="use an id")
    return found[0]


def _stream_name(image: Image) -> str:
    return f"{image.id}.{image.properties.get('disk_format') or 'raw'}"
