"""A long operation: progress, cancellation, and the last event."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezer_cli.documents import Document
from freezer_cli.progress import JSONEvents, Listener, listening
from freezer_cli.signals import cancellation

if TYPE_CHECKING:
    from freezer_cli.base import FreezerCommand
    from freezer_sdk import CancelToken

PARTIAL = 3
INTEGRITY = 13


@dataclass(frozen=True)
class Running:
    """What a long operation of the library is given."""

    listener: Listener
    cancel: CancelToken

    def finish(self, document: Document, exit_code: int) -> None:
        """Tells a wrapper the result."""
        if isinstance(self.listener, JSONEvents):
            self.listener.write({"event": "result", "exit_code": exit_code, **document})


@contextmanager
def running(command: FreezerCommand, parsed_args: argparse.Namespace, operation: str) -> Iterator[Running]:
    """Shows progress and listens to signals until the operation has ended."""
    app = command.app
    with (
        listening(parsed_args, app.options, operation, app.stdout, app.stderr) as listener,
        cancellation(listener.close) as token,
    ):
        yield Running(listener, token)
