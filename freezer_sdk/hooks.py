"""Hooks: programs that run before and after a backup or a restore, to stop a service or to call somebody."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from freezer_sdk.errors import Cancelled, ConfigurationError, FreezerError
from freezer_sdk.streams.cancel import CancelToken

_log = logging.getLogger("freezer_sdk.hooks")


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Programs around a backup or a restore; each is a program and its arguments, and no shell is involved.

    They learn what it is about from their environment: ``FREEZER_OPERATION`` (``backup`` or ``restore``),
    ``FREEZER_HOOK`` (``pre``, ``post``, ``on-failure``), ``FREEZER_STATUS`` (``running``, ``complete``, ``partial``,
    ``failed``, ``cancelled``), ``FREEZER_BACKUP_ID``, ``FREEZER_NAME``, ``FREEZER_MODE``, ``FREEZER_LOCATION``,
    ``FREEZER_TARGET``, ``FREEZER_ERROR``. Their output goes to the log. A dry run runs none of them.

    Attributes:
        pre: runs first; when it fails, nothing else is done.
        post: runs last, whatever became of the rest, a failed ``pre`` and a cancelled run included.
        on_failure: runs before ``post`` when the run failed or was cancelled.
        timeout: seconds that each of them may take; then it is ended, and counts as failed.
        environment: what they get beside the facts; ``None``: what this process has.

    Raises:
        ConfigurationError: a program is one text, which only a shell could take apart; an argument is no text; or the
            time is none.
    """

    pre: Sequence[str] = ()
    post: Sequence[str] = ()
    on_failure: Sequence[str] = ()
    timeout: float = 3600.0
    environment: Mapping[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("pre", "post", "on_failure"):
            command = getattr(self, name)
            if isinstance(command, str):
                raise ConfigurationError(f"the hook {name} is a list of arguments, not one text")
            if not all(isinstance(argument, str) for argument in command):
                raise ConfigurationError(f"the hook {name} has an argument that is no text")
            if command and not command[0]:
                raise ConfigurationError(f"the hook {name} names no program")
        if not self.timeout > 0:
            raise ConfigurationError("the time that hooks may take must be more than nothing")

    @contextmanager
    def around(self, operation: str, facts: Mapping[str, Any], *, cancel: CancelToken) -> Iterator[HookFacts]:
        """Runs them around a block.

        Args:
            operation: ``backup`` or ``restore``.
            facts: what the programs learn from the start, by names as in ``FREEZER_NAME``, in small letters.
            cancel: ends ``pre``; the others are there to clean up, and are not ended by it.

        Raises:
            CommandFailed: ``pre`` or ``post`` failed. Where the block failed as well, its own error counts.
            Cancelled: while ``pre`` ran.
        """
        known = HookFacts({"operation": operation, "status": "running", **facts})
        try:
            if self.pre:
                self._run("pre", self.pre, known, check=cancel)
            yield known
        except BaseException as error:
            known.failed(error)
            self._run_quietly("on-failure", self.on_failure, known)
            self._run_quietly("post", self.post, known)
            raise
        if self.post:
            self._run("post", self.post, known)

    def _run_quietly(self, hook: str, command: Sequence[str], known: HookFacts) -> None:
        """The run has failed already, and for a better reason."""
        if not command:
            return
        try:
            self._run(hook, command, known)
        except FreezerError as error:
            _log.error("%s", error.message)

    def _run(self, hook: str, command: Sequence[str], known: HookFacts, *, check: CancelToken | None = None) -> None:
        from freezer_sdk.hookrun import run_hook

        own = os.environ if self.environment is None else self.environment  # handed on as it is
        environment = {**own, "FREEZER_HOOK": hook, **known.environment()}
        run_hook(hook, command, environment=environment, timeout=self.timeout, cancel=check)


class HookFacts:
    """What hooks learn; whoever runs the block adds to it."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = dict(facts)

    def add(self, **facts: Any) -> None:
        """What is known by now; ``status`` is what the run ends with."""
        self._facts |= facts

    def failed(self, error: BaseException) -> None:
        """The run ends with an error."""
        cancelled = isinstance(error, (Cancelled, KeyboardInterrupt))
        message = error.message if isinstance(error, FreezerError) else type(error).__name__
        self.add(status="cancelled" if cancelled else "failed", error=message)

    def environment(self) -> dict[str, str]:
        """As variables; what is not known has none."""
        return {
            f"FREEZER_{name.upper()}": str(value).replace("\0", " ")
            for name, value in self._facts.items()
            if value is not None
        }


@contextmanager
def hooked(
    hooks: Hooks | None, operation: str, facts: Mapping[str, Any], *, cancel: CancelToken, dry_run: bool
) -> Iterator[HookFacts]:
    """As :meth:`Hooks.around`, where there may be none.

    Raises:
        CommandFailed, Cancelled.
    """
    if hooks is None or dry_run:
        yield HookFacts(facts)
        return
    with hooks.around(operation, facts, cancel=cancel) as known:
        yield known
