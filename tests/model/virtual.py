"""Time and chance that a test decides: while a program runs, its clocks and random numbers are the model's.

Its threads take turns as well: a job that is handed to a pool is done at once. So a program asks its storage in one
order.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol
from unittest.mock import patch

import freezer_sdk.engines.dedup
from freezer_sdk.crypto import hpke
from freezer_sdk.engines.dedup.keyring import KeyRing

BASE = datetime(2040, 1, 1, tzinfo=UTC)
"""The storage's clock when a world begins; later than the times of any file that a world backs up."""
_BOOT = 1000.0


class Local(Protocol):
    """What a running program perceives.

    Attributes:
        wall: seconds since :data:`BASE` on the clock of its machine.
        boot: seconds on the clock that no user can set.
    """

    random: random.Random

    @property
    def wall(self) -> float: ...

    @property
    def boot(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class Virtual:
    """Replaces clocks and random numbers in this process; what runs outside of :meth:`running` has the real ones."""

    def __init__(self) -> None:
        self._local: Local | None = None
        self._thread = 0

    @contextmanager
    def running(self, local: Local) -> Iterator[None]:
        """All threads of the process perceive the clocks, this one the random numbers; one program runs at a time."""
        assert self._local is None, "one program at a time"
        self._local = local
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._local = None

    @contextmanager
    def installed(self) -> Iterator[Virtual]:
        """Until the block is left."""
        with ExitStack() as stack:
            clocks = self._clocks()
            for function in _functions(_modules()):
                for name, value in (function.__kwdefaults__ or {}).items():
                    if value is time.sleep:
                        stack.enter_context(patch.dict(function.__kwdefaults__, {name: clocks["sleep"]}))
            for name, value in clocks.items():
                stack.enter_context(patch.object(time, name, value))
            urandom = self._urandom()
            stack.enter_context(patch.object(os, "urandom", urandom))
            stack.enter_context(patch.object(random, "_urandom", urandom))
            stack.enter_context(patch.object(hpke, "seal", _remembered(hpke.seal)))
            stack.enter_context(patch.object(KeyRing, "check", _checked_once(KeyRing.check)))
            virtual = self._datetime()
            modules = _modules()
            for module in modules:
                for name, inline in _INLINE.items():
                    if hasattr(module, name) and not module.__name__.startswith("freezer_sdk.streams"):
                        stack.enter_context(patch.object(module, name, inline))
            for module in modules:
                if getattr(module, "datetime", None) is datetime:
                    stack.enter_context(patch.object(module, "datetime", virtual))
            yield self

    def _clocks(self) -> dict[str, Callable[..., Any]]:
        real = {name: getattr(time, name) for name in ("time", "monotonic", "clock_gettime", "sleep")}

        def seconds(clock: int) -> float:
            local = self._local
            if local is None:
                return float(real["clock_gettime"](clock))
            if clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME):
                return _BOOT + local.boot
            return BASE.timestamp() + local.wall

        def sleep(duration: float) -> None:
            (real["sleep"] if self._local is None else self._local.sleep)(duration)

        return {
            "clock_gettime": seconds,
            "clock_gettime_ns": lambda clock: int(seconds(clock) * 1e9),
            "time": lambda: seconds(time.CLOCK_REALTIME),
            "time_ns": lambda: int(seconds(time.CLOCK_REALTIME) * 1e9),
            "monotonic": lambda: real["monotonic"]() if self._local is None else _BOOT + self._local.boot,
            "sleep": sleep,
        }

    def _urandom(self) -> Callable[[int], bytes]:
        real = os.urandom

        def urandom(size: int) -> bytes:
            local = self._local
            # a connection that another test left open draws random numbers in a thread of its own
            if local is None or threading.get_ident() != self._thread:
                return real(size)
            return local.random.randbytes(size)

        return urandom

    def _datetime(self) -> type[datetime]:
        this = self

        class VirtualDatetime(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Any:
                local = this._local
                return datetime.now(tz) if local is None else (BASE + timedelta(seconds=local.wall)).astimezone(tz)

        return VirtualDatetime


class InlineExecutor:
    """A ``ThreadPoolExecutor`` without threads."""

    def __init__(self, max_workers: int | None = None, **_options: Any) -> None:
        del max_workers

    def __enter__(self) -> InlineExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def map(self, function: Callable[..., Any], *items: Iterable[Any]) -> Iterator[Any]:
        return iter([function(*each) for each in zip(*items, strict=False)])

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_options: Any) -> None:
        return


class InlinePool:
    """A ``WorkerPool`` without threads."""

    def __init__(self, name: str, **_options: Any) -> None:
        self._name = name
        self._error: BaseException | None = None

    def submit(self, job: Callable[..., Any], *args: Any, weight: int = 1) -> None:
        del weight
        self.check()
        try:
            job(*args)
        except BaseException as error:
            self._error = error
            raise

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def drain(self) -> None:
        self.check()

    def close(self) -> None:
        return


class InlineReader:
    """A ``PatientReader`` without a thread."""

    def __init__(self, readinto: Callable[[memoryview], int | None], tick: Callable[[], None]) -> None:
        self._readinto, self._tick = readinto, tick

    def __enter__(self) -> InlineReader:
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def readinto(self, buffer: memoryview) -> int:
        count = self._readinto(buffer) or 0
        self._tick()
        return count


_INLINE = {"ThreadPoolExecutor": InlineExecutor, "WorkerPool": InlinePool, "PatientReader": InlineReader}


def _checked_once(check: Callable[..., None]) -> Callable[..., None]:
    """The same signatures are looked at over and over."""
    good: set[tuple[Any, ...]] = set()

    def checked(self: KeyRing, *args: Any, **options: Any) -> None:
        key = (id(self.signed_config), *map(bytes, args), *sorted(options.items()))
        if key not in good:
            check(self, *args, **options)
            good.add(key)

    return checked


def _remembered(seal: Callable[..., bytes]) -> Callable[..., bytes]:
    """Sealing draws randomness of its own: what a run sealed once it seals the same when it is run again."""
    known: dict[tuple[bytes, bytes, bytes], bytes] = {}

    def remembered(public: bytes, plaintext: Any, info: bytes, **options: Any) -> bytes:
        key = (bytes(public), bytes(plaintext), bytes(info))
        if key not in known:
            known[key] = seal(public, plaintext, info, **options)
        return known[key]

    return remembered


def _functions(modules: Iterable[Any]) -> Iterator[Any]:
    """Functions and methods."""
    for module in modules:
        for value in list(vars(module).values()):
            if inspect.isclass(value):
                yield from (each for each in vars(value).values() if inspect.isfunction(each))
            elif inspect.isfunction(value):
                yield value


def _modules() -> list[Any]:
    package = freezer_sdk.engines.dedup
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
    return [module for name, module in sorted(sys.modules.items()) if name.startswith("freezer_sdk.")]
