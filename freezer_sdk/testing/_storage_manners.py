"""Storage suite, part four: what others notice of a storage: its traffic, what it leaves behind, what it tells."""

from __future__ import annotations

import base64
import contextlib
import gc
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from freezer_sdk.errors import FreezerError, InvalidName, ObjectNotFound
from freezer_sdk.options import secret_values
from freezer_sdk.storages.base import TRAFFIC_BLOCK, Storage
from freezer_sdk.testing._storage_case import StorageCase
from freezer_sdk.testing.suite import SuiteFailure, check, check_equal, refused

OLD = b"what was there"
_PATIENCE = 10.0
_SHORTEST_SECRET = 4
_DESCRIPTORS = "/proc/self/fd"


class Counter:
    """Traffic that is counted."""

    def __init__(self) -> None:
        self.blocks: list[tuple[str, int]] = []
        self._lock = threading.Lock()

    def sent(self, size: int) -> None:
        """See :meth:`Traffic.sent`."""
        with self._lock:
            self.blocks.append(("sent", size))

    def received(self, size: int) -> None:
        """See :meth:`Traffic.received`."""
        with self._lock:
            self.blocks.append(("received", size))

    def taken(self) -> dict[str, int]:
        """Totals since the last call."""
        with self._lock:
            blocks, self.blocks = self.blocks, []
        for direction, size in blocks:
            check(0 < size <= TRAFFIC_BLOCK, f"a block of {size} bytes {direction}: 1 to {TRAFFIC_BLOCK} are right")
        totals = {"sent": 0, "received": 0}
        for direction, size in blocks:
            totals[direction] += size
        return totals


class TrafficTests(StorageCase):
    """A storage that declares ``paced`` tells of every byte of content once; another one of none."""

    def test_traffic_is_told_once(self) -> None:
        """By put, upload, get and open, in blocks that are not too large; nothing else is content."""
        storage, counter = self.storage, Counter()
        storage.traffic = counter
        paced = self.capabilities.paced
        size = min(3 * TRAFFIC_BLOCK + 1234, self.capabilities.largest_object or 1 << 30)
        content = bytes(range(256)) * (size // 256) + bytes(size % 256)
        for step, direction, moved, call in self._steps(storage, content):
            result = call()
            check(result is None or result == content[: len(result)], f"{step} gave another content")
            expected = {"sent": 0, "received": 0}
            if paced and direction is not None:
                expected[direction] = moved
            check_equal(counter.taken(), expected, f"traffic of {step}")

    def _steps(self, storage: Storage, content: bytes) -> list[tuple[str, str | None, int, Callable[[], bytes | None]]]:
        key, size = self.key("traffic"), len(content)
        middle = size // 2

        def put() -> None:
            storage.put(key, [content[:middle], bytearray(content[middle:]), b""])

        def upload() -> None:
            with storage.upload(key + ".stream") as stream:
                for start in range(0, size, 100_001):
                    stream.write(content[start : start + 100_001])
                stream.commit()

        def read() -> bytes:
            with storage.open(key) as reader:
                return b"".join(iter(lambda: reader.read(100_001), b""))

        def others() -> None:
            storage.stat(key)
            list(storage.list(self.prefix))
            with refused(ObjectNotFound, what="get of nothing"):
                storage.get(key + ".absent")
            storage.delete(key + ".absent")
            storage.flush()

        return [
            ("put", "sent", size, put),
            ("upload", "sent", size, upload),
            ("get", "received", size, lambda: storage.get(key)),
            ("get of a range", "received", middle, lambda: storage.get(key, offset=0, length=middle)),
            ("get of nothing", None, 0, lambda: storage.get(key, offset=0, length=0)),
            ("open", "received", size, read),
            ("stat, list, delete and flush", None, 0, others),
        ]


class KilledClientTests(StorageCase):
    """Another process is killed while it stores an object. Runs when ``options`` say how that process opens it."""

    def test_a_client_killed_in_a_put(self) -> None:
        """Leaves what was there."""
        self._check_killed("put" if self.capabilities.paced else "timed", "replaced")

    def test_a_client_killed_in_an_upload(self) -> None:
        """Leaves nothing."""
        self._check_killed("upload", "fresh")

    def _check_killed(self, how: str, name: str) -> None:
        self.put("replaced", OLD)
        if self.options is None:
            return
        size = min(self.large // 2, self.capabilities.largest_object or self.large)
        self._run_and_kill(how, name, size)
        possible = {"replaced": [OLD], name: [OLD] if name == "replaced" else []}
        if how == "timed":  # it may have come to its end, or not even have begun
            possible[name].append(bytes(size))
            possible[name + ".trial"] = [bytes(size)]
        time.sleep(self.capabilities.listing_lag.total_seconds())
        listed = self.names()
        check("replaced" in listed, f"an object is gone after a client was killed in its {how}")
        for each in listed:
            check(each in possible, f"{each!r} is listed after a client was killed in its {how}")
            found = self.storage.get(self.key(each))
            check(found in possible[each], f"{each!r}: {len(found)} bytes after a client was killed in its {how}")
            self.storage.delete(self.key(each))
        if name not in listed:
            with refused(ObjectNotFound, what=f"stat of what a client did not finish that was killed in its {how}"):
                self.storage.stat(self.key(name))

    def _run_and_kill(self, how: str, name: str, size: int) -> None:
        kind = type(self.storage)
        job = {
            "module": kind.__module__,
            "file": getattr(sys.modules[kind.__module__], "__file__", None),
            "class": kind.__name__,
            "options": dict(self.options or {}),
            "name": self.key(name),
            "size": size,
            "how": how,
        }
        done = subprocess.run(
            [sys.executable, "-m", "freezer_sdk.testing._killed_client"],
            input=json.dumps(job, default=os.fspath),  # not an argument: there may be secrets in it
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != -getattr(signal, "SIGKILL", signal.SIGTERM):
            raise SuiteFailure(f"the client that should be killed ended by itself: {done.stderr[-2000:]}")


class LeakTests(StorageCase):
    """What a storage opens, it closes."""

    def test_close_releases_everything(self) -> None:
        """Threads, sockets and files, also after reads and listings that were left early, and after errors."""
        self._use()  # what is loaded or started once for all stays
        gc.collect()
        threads, descriptors = set(threading.enumerate()), _descriptors()
        self._use()
        deadline = time.monotonic() + _PATIENCE
        while True:
            gc.collect()
            left = [thread.name for thread in set(threading.enumerate()) - threads]
            left += [f"{number}: {what}" for number, what in set(_descriptors().items()) - set(descriptors.items())]
            if not left or time.monotonic() > deadline:
                break
            time.sleep(0.1)  # the other side may be in this process, and close its own a little later
        check(not left, f"left open after close(): {left}")

    def _use(self) -> None:
        with contextlib.closing(self.make_storage()) as storage:
            names = [self.key(f"leak/{number}") for number in range(8)]
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda name: storage.put(name, [b"x" * 100_000]), names))
                list(pool.map(storage.get, names))
            abandoned = storage.list(self.prefix)
            list(itertools.islice(abandoned, 2))
            with storage.open(names[0]) as reader:
                reader.read(10)
            with storage.upload(self.key("leak/upload")) as upload:
                upload.write(b"never committed")
            with contextlib.suppress(ObjectNotFound):
                storage.get(self.key("absent"))
            storage.delete_many(names)


class SecretTests(StorageCase):
    """Secret options are told to nobody. Runs when ``options`` or ``secrets`` name some."""

    def test_secrets_stay_secret(self) -> None:
        """Not in log messages of any level and library, nor in errors, ``repr`` and ``location``."""
        values = self.options or {}
        secrets = [*self.secrets, *secret_values(type(self.storage).options, values)]
        forbidden = {form for secret in secrets for form in _forms(secret, values)}
        if not forbidden:
            return
        texts: list[str] = []
        with _log_messages(texts), contextlib.closing(self.make_storage()) as storage:
            texts += [repr(storage), str(storage), storage.location]
            storage.put(self.key("x"), [b"content"])
            storage.get(self.key("x"))
            list(storage.list(self.prefix))
            for call in (lambda: storage.get(self.key("absent")), lambda: storage.stat("../bad")):
                try:
                    call()
                except (ObjectNotFound, InvalidName) as error:
                    texts += _told(error)
            storage.delete(self.key("x"))
        for text in texts:
            if any(secret in text for secret in forbidden):
                for secret in forbidden:
                    text = text.replace(secret, "<SECRET>")  # noqa: PLW2901 - what follows shows it
                raise SuiteFailure(f"a secret is told: {text[:500]}")


def _forms(secret: str, values: Any) -> Iterator[str]:
    """A secret as it may be written: plain, in URLs, in HTTP headers."""
    if len(secret) < _SHORTEST_SECRET:
        return
    yield secret
    yield quote(secret, safe="")
    yield base64.b64encode(secret.encode()).decode()
    for user in values.values():
        if isinstance(user, str):
            yield base64.b64encode(f"{user}:{secret}".encode()).decode()


def _told(error: FreezerError) -> list[str]:
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        texts += [str(cause), repr(cause)]
        cause = cause.__cause__
    return [*texts, error.hint or ""]


@contextlib.contextmanager
def _log_messages(texts: list[str]) -> Iterator[None]:
    """Collects all log messages of this process, of all levels."""
    formatter = logging.Formatter()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(formatter.format(record))

    root, handler = logging.getLogger(), Collector(logging.DEBUG)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _descriptors() -> dict[str, str]:
    """What is open, where the system tells."""
    found = {}
    with contextlib.suppress(OSError):
        for number in os.listdir(_DESCRIPTORS):
            with contextlib.suppress(OSError):  # the one that listed them
                found[number] = os.readlink(f"{_DESCRIPTORS}/{number}")
    return found
