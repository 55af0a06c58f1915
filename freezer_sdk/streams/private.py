"""Where programs find secrets: in files that have no name, and that only they and we can open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unnamed_file(content: bytes) -> Iterator[int]:
    """A descriptor of a file that nobody else can find, for a program that inherits it.

    The program opens it as ``/dev/fd/NUMBER`` (see :func:`descriptor_path`), from its start each time.
    """
    descriptor = _unnamed()
    try:
        os.fchmod(descriptor, 0o600)  # programs skip what others may write to
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        yield descriptor
    finally:
        os.close(descriptor)


def descriptor_path(descriptor: int) -> str:
    """The path under which a program opens a descriptor that it inherited."""
    return f"/dev/fd/{descriptor}"


def _unnamed() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("freezer")
    import tempfile

    descriptor, name = tempfile.mkstemp()
    os.unlink(name)
    return descriptor
