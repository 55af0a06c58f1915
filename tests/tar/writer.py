"""Levels written by the engine, and what the original's restore command and our own reader make of them."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tar.chain import TAR, Facts, disk, levels_of, merged

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Written
from freezer_sdk.engines.tar.codec import TarCodec
from freezer_sdk.engines.tar.reading import read_levels
from freezer_sdk.engines.tar.writing import WriteOptions
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import Problem
from freezer_sdk.modes.base import Protected

RESTORE = ("--incremental", "--extract", "--ignore-zeros", "--warning=none", "--overwrite")
"""What the original gives GNU tar to restore a level, but for the compressor and the directory."""


class Writer:
    """One series of a source.

    Attributes:
        streams, written, problems: of each level.
    """

    def __init__(self, source: Path | bytes, *, writing: WriteOptions | None = None, **tree: Any) -> None:
        self.source = os.fsencode(source)
        self.streams: list[bytes] = []
        self.written: list[Written] = []
        self.problems: list[list[Problem]] = []
        self._codec = TarCodec(writing=writing)
        self._tree = tree

    def backup(self, *, context: Context | None = None, writing: WriteOptions | None = None, **tree: Any) -> Written:
        """One more level on top of the last one."""
        options = {**self._tree, **tree}
        patterns = Patterns(options.pop("excludes", ()))
        protected = Protected(sources=[LocalTree([self.source], patterns=patterns, **options)])
        stream, problems = bytearray(), list[Problem]()
        written = (TarCodec(writing=writing) if writing else self._codec).write(
            protected,
            level=len(self.written),
            base=self.written[-1].state if self.written else None,
            output=stream.extend,
            context=context or Context(),
            problem=problems.append,
        )
        self.streams.append(bytes(stream))
        self.written.append(written)
        self.problems.append(problems)
        return written

    def said(self, level: int = -1) -> list[tuple[str, str, bool]]:
        """Kind, name below the source, and gravity of the problems of a level."""
        top = os.fsdecode(self.source).rstrip("/") + "/"
        return sorted((each.kind, each.path.removeprefix(top), each.fatal) for each in self.problems[level])

    def restored(self, target: Path, *, levels: int | None = None, options: Sequence[str] = ()) -> Facts:
        """What the original's command makes of the levels."""
        target.mkdir()
        for stream in self.streams[:levels]:
            command = [TAR or "tar", "-z", *RESTORE, *options, "--directory", os.fspath(target)]
            stored = gzip.compress(stream, 1)
            done = subprocess.run(command, input=stored, cwd=target.parent, capture_output=True, check=False)
            assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")
        return disk(target, fine=True)

    def read(self, *, levels: int | None = None, xattrs: bool = False) -> Facts:
        """What our own reader makes of them."""
        problems: list[Problem] = []
        content = read_levels(levels_of(self.streams[:levels]), problem=problems.append)
        facts = merged(content, fine=True, xattrs=xattrs)
        assert [each for each in problems if each.fatal] == []
        return facts


def names(facts: Facts) -> set[str]:
    """Paths below the root."""
    return {os.fsdecode(path) for path in facts} - {"."}
