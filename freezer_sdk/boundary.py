"""The line between this library and plug-ins: what comes across it is a FreezerError, whatever was raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Generic, TypeVar

from freezer_sdk.errors import FreezerError, PluginError
from freezer_sdk.storages.base import Reader

T = TypeVar("T")


def describe_failure(error: BaseException, *, secrets: Iterable[str] = ()) -> str:
    """One line for an unexpected exception: its type, its text, and no secret."""
    text = " ".join(str(error).split())
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Boundary:
    """Wraps what plug-ins raise in PluginError, with the name of the plug-in that it came from.

    Args:
        plugins: titles such as ``storage 'local'``, by the module of the plug-in's class; the first one is named
            when no module of a plug-in is found in the traceback.
        secrets: texts that no message may show.
    """

    def __init__(self, plugins: Mapping[str, str], *, secrets: Sequence[str] = ()) -> None:
        self._plugins = dict(plugins)
        self._secrets = tuple(secrets)

    def around(self, title: str, module: str, *, secrets: Sequence[str] = ()) -> Boundary:
        """A boundary around another plug-in, which may call these: it is named by default."""
        others = {name: other for name, other in self._plugins.items() if name != module}
        return Boundary({module: title, **others}, secrets=(*self._secrets, *secrets))

    def calling(self, title: str, modules: Iterable[str], *, secrets: Sequence[str] = ()) -> Boundary:
        """A boundary around these plug-ins while they call into the modules of another one."""
        others = {module: title for module in modules if module not in self._plugins}
        return Boundary({**self._plugins, **others}, secrets=(*self._secrets, *secrets))

    def joined(self, other: Boundary) -> Boundary:
        """A boundary around the plug-ins of both."""
        return Boundary({**other._plugins, **self._plugins}, secrets=(*self._secrets, *other._secrets))

    @contextmanager
    def guard(self) -> Iterator[None]:
        """FreezerErrors and what is no ``Exception`` (KeyboardInterrupt) pass; the rest becomes PluginError."""
        try:
            yield
        except FreezerError:
            raise
        except Exception as error:
            raise self.wrap(error) from error

    def wrap(self, error: Exception) -> PluginError:
        """The PluginError for an unexpected exception."""
        what = describe_failure(error, secrets=self._secrets)
        return PluginError(f"{self._culprit(error)} failed: {what}")

    def iterate(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; what their producer raises is wrapped."""
        with self.guard():
            yield from items

    def opened(self, context: AbstractContextManager[Reader]) -> AbstractContextManager[Reader]:
        """The same reader; what the plug-in raises is wrapped, what the caller's block raises is not."""
        return _Entered(self, context, lambda reader: _GuardedReader(self, reader))

    def entered(self, context: AbstractContextManager[T]) -> AbstractContextManager[T]:
        """The same context; what the plug-in raises is wrapped, what the caller's block raises is not."""
        return _Entered(self, context, lambda value: value)

    def _culprit(self, error: Exception) -> str:
        found = next(iter(self._plugins.values()))
        trace = error.__traceback__
        while trace is not None:  # the innermost plug-in wins
            found = self._plugins.get(trace.tb_frame.f_globals.get("__name__", ""), found)
            trace = trace.tb_next
        return found


class _GuardedReader:
    def __init__(self, boundary: Boundary, reader: Reader) -> None:
        self._boundary = boundary
        self._reader = reader

    def read(self, size: int = -1) -> bytes:
        with self._boundary.guard():
            return self._reader.read(size)


class _Entered(AbstractContextManager[T], Generic[T]):
    def __init__(self, boundary: Boundary, context: AbstractContextManager[T], adapt: Callable[[T], T]) -> None:
        self._boundary = boundary
        self._context = context
        self._adapt = adapt

    def __enter__(self) -> T:
        with self._boundary.guard():
            return self._adapt(self._context.__enter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._context.__exit__(kind, error, trace)
        except FreezerError:
            raise
        except Exception as raised:
            if raised is error:
                raise
            raise self._boundary.wrap(raised) from raised
