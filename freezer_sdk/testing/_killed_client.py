"""A client that is killed while it stores an object; run as a program by the storage suite.

Reads a job as JSON from standard input: ``module``, ``file`` and ``class`` of the storage, its ``options``, ``name``
and ``size`` of the object, and ``how`` it is stored: ``put`` (killed when half of it went out), ``timed`` (killed at
some moment of a put) or ``upload`` (killed after half of it was written). The content is zeros.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import random
import signal
import sys
import threading
import time
from types import ModuleType
from typing import Any

from freezer_sdk.storages.base import Storage

PIECE = 1 << 20
KILLED = int(getattr(signal, "SIGKILL", signal.SIGTERM))


class _Trap:
    """Traffic that ends this process after so many bytes."""

    def __init__(self, after: int) -> None:
        self._left = after

    def sent(self, size: int) -> None:
        self._left -= size
        if self._left <= 0:
            kill()

    def received(self, size: int) -> None:
        return


def kill() -> None:
    """Ends this process at once, as a power switch would."""
    os.kill(os.getpid(), KILLED)
    time.sleep(60)  # the signal may take a moment; nothing may happen meanwhile


def main() -> None:
    """Does the job on standard input."""
    job = json.load(sys.stdin)
    storage: Storage = getattr(load_module(job["module"], job["file"]), job["class"])(**job["options"])
    name, size = job["name"], job["size"]
    buffers = [bytes(min(PIECE, size - start)) for start in range(0, size, PIECE)]
    if job["how"] == "put":
        storage.traffic = _Trap(size // 2)
        storage.put(name, buffers)
    elif job["how"] == "timed":
        started = time.monotonic()
        storage.put(name + ".trial", buffers)
        duration = time.monotonic() - started
        storage.delete(name + ".trial")
        threading.Timer(random.uniform(0, duration), kill).start()  # noqa: S311 - any moment will do
        storage.put(name, buffers)
        kill()
    else:
        with storage.upload(name) as upload:
            for buffer in buffers[: (len(buffers) + 1) // 2]:
                upload.write(buffer)
            kill()


def load_module(name: str, file: str) -> ModuleType:
    """A module by its name, or from its file when it is a test's own."""
    try:
        return importlib.import_module(name)
    except ImportError:
        spec: Any = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


if __name__ == "__main__":
    main()
