"""What a bucket can do, found out when somebody first wants to know."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import fields
from datetime import timedelta

from freezer_sdk.errors import AccessDenied, CapabilityMissing, FreezerError, ObjectExists, StorageError, Transient
from freezer_sdk.storages._s3_bucket import Bucket
from freezer_sdk.storages._s3_upload import LARGEST_OBJECT
from freezer_sdk.storages.base import Capabilities

_ASKED = ("conditional_put", "object_lock")
_KNOWN = {
    "clock_resolution": timedelta(seconds=2),  # times are whole seconds, and a put knows its own only roughly
    "largest_object": LARGEST_OBJECT,
    "checksum": "md5",
    "paced": True,
}


class Probe:
    """Asks the server, at most once for each question.

    Args:
        scratch: a key that is no object's; it may be written and removed.
        conditional: the answer, when the user gives it.
    """

    def __init__(self, bucket: Bucket, scratch: str, *, conditional: bool | None) -> None:
        self._bucket = bucket
        self._scratch = scratch
        self._lock = threading.Lock()
        self._conditional = conditional
        self._locking: tuple[bool | None] | None = None

    def conditional_put(self) -> bool:
        """Whether ``If-None-Match: *`` works, also when two ask at the same moment.

        Raises:
            StorageThrottled, StorageUnavailable, ConfigurationError.
        """
        with self._lock:
            if self._conditional is None:
                self._conditional = self._try()
            return self._conditional

    def object_lock(self) -> bool | None:
        """Whether objects can be protected against deletion; ``None``: these credentials must not ask.

        Raises:
            StorageThrottled, StorageUnavailable, ConfigurationError.
        """
        with self._lock:
            if self._locking is None:
                self._locking = (self._bucket.has_lock("cannot ask for object lock"),)
            return self._locking[0]

    def _try(self) -> bool:
        """Stores a scratch object twice; an object that another client left there answers at once."""
        what = "cannot find out about conditional puts"
        if not self._bucket.server.known:
            self._bucket.date(self._scratch, what)
        if self._bucket.server.races:
            return False
        try:
            self._put(what)
        except ObjectExists:
            return True
        except (AccessDenied, CapabilityMissing):  # who cannot write needs no answer
            return False
        try:
            self._put(what)
        except ObjectExists:
            return True
        finally:
            with contextlib.suppress(FreezerError):  # whoever may only add leaves one empty object
                self._bucket.delete(self._scratch, what)
        return False

    def _put(self, what: str) -> None:
        try:
            self._bucket.put(self._scratch, [], what, if_absent=True, scratch=True)
        except StorageError as error:
            if isinstance(error, (AccessDenied, CapabilityMissing, ObjectExists, Transient)):
                raise
            raise CapabilityMissing(str(error)) from error


class ProbedCapabilities(Capabilities):
    """Capabilities that cost a request only when they are looked at."""

    __slots__ = ("_probe",)

    _probe: Probe

    def __init__(self, probe: Probe) -> None:
        for field in fields(Capabilities):
            if field.name not in _ASKED:
                object.__setattr__(self, field.name, _KNOWN.get(field.name, field.default))
        object.__setattr__(self, "_probe", probe)

    def __repr__(self) -> str:
        return "<ProbedCapabilities>"  # the dataclass's own would ask

    @property
    def conditional_put(self) -> bool:
        """See :class:`Capabilities`."""
        return self._probe.conditional_put()

    @property
    def object_lock(self) -> bool:
        """See :class:`Capabilities`."""
        return bool(self._probe.object_lock())
