"""Writing a level of version 2: the list of what has changed, then the contents."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Written
from freezer_sdk.engines.rsync.items import Damaged
from freezer_sdk.engines.rsync.packing import Packing
from freezer_sdk.engines.rsync.signature import STRONG, Hasher, Signature
from freezer_sdk.engines.rsync.state import State, dump, load
from freezer_sdk.engines.rsync.survey import CHUNK, Pending, Survey, directories
from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.model import Buffer, Problem
from freezer_sdk.modes.base import STAT, Attributes, Directory, ProblemHandler, Protected, Tree

Output = Callable[[Buffer], None]
_ZEROS: Final = bytes(CHUNK)


def write_level(
    protected: Protected,
    *,
    base: bytes | None,
    block_size: int,
    compression: str,
    output: Output,
    context: Context,
    problem: ProblemHandler,
) -> Written:
    """Writes one level.

    Args:
        base: state of the level below.
        block_size: of a new chain.
        compression: of the state, by its name in the metadata document.

    Raises:
        ConfigurationError, IntegrityError, SourceError, Cancelled, and whatever ``output`` raises.
    """
    tree = _the_tree(protected)
    below = None if base is None else usable_state(base)
    if below is not None:
        block_size = below.block_size
    root = tree.roots[0]
    survey = Survey(below, root, block_size=block_size, context=context, problem=problem)
    del below
    survey.walk(tree)
    mount_points = tuple(tree.mount_points)
    output(Packing().list(survey.count))
    for at in range(0, len(survey.items), CHUNK):
        output(survey.items[at : at + CHUNK])
    survey.items.clear()
    Contents(survey, block_size, output=output, context=context, problem=problem).write(tree)
    survey.state.location = root
    return Written(
        state=dump(survey.state, compression=compression, platform=sys.platform),
        root=root,
        stats=survey.counts.stats(),
        mount_points=mount_points,
        document={"rsync_block_size": block_size},
    )


def usable_state(stored: bytes) -> State:
    """The state of a level that another one can be written on.

    Raises:
        IntegrityError: damaged, or of another format.
    """
    try:
        state = load(stored)
    except Damaged as error:
        raise IntegrityError(f"what the level below knows of the files is damaged: {error}") from error
    if state.version != 2:
        raise IntegrityError("the level below is of the original's rsync engine, version 1, which is only read")
    return state


def _the_tree(protected: Protected) -> Tree:
    trees = [source for source in protected.sources if isinstance(source, Tree)]
    if len(trees) != len(protected.sources) or len(trees) != 1:
        raise ConfigurationError(
            "the rsync engine stores files, no streams", hint="choose the engine dedup for streams"
        )
    if len(trees[0].roots) != 1:
        raise ConfigurationError(
            "the rsync engine stores one directory or file in a backup",
            hint="make a backup of each, with a name of its own, or choose the engine dedup",
        )
    return trees[0]


class Contents:
    """The second walk: contents of the files that the list names, in its order and with its sizes.

    What the list says cannot be taken back: where a file has become shorter or is gone, zeros fill its place.
    """

    def __init__(
        self, survey: Survey, block_size: int, *, output: Output, context: Context, problem: ProblemHandler
    ) -> None:
        self._survey = survey
        self._pending = survey.pending[::-1]
        self._block_size = block_size
        self._output = output
        self._context = context
        self._problem = problem

    def write(self, tree: Tree) -> None:
        """Writes all of them.

        Raises:
            SourceError, Cancelled, and whatever the output raises.
        """
        if not self._pending:
            return
        for directory, below in directories(tree, lambda problem: None):
            self._context.cancel.check()
            while self._pending and _order(self._pending[-1].directory) < _order(below):
                self._vanished(self._pending.pop())
            names: dict[bytes, int] | None = None
            while self._pending and self._pending[-1].directory == below:
                pending = self._pending.pop()
                names = names or {name: index for index, name in enumerate(directory.names)}
                index = names.get(pending.name)
                if index is None:
                    self._vanished(pending)
                else:
                    self._file(directory, index, pending)
            if not self._pending:
                return
        while self._pending:
            self._vanished(self._pending.pop())

    def _file(self, directory: Directory, index: int, pending: Pending) -> None:
        try:
            fd = directory.open(index)
        except OSError as error:
            self._lost(pending, error)
            return
        try:
            before = Attributes._make(STAT.unpack(directory.restat(index, fd)))
            left = self._whole(fd, pending) if pending.blocks is None else self._blocks(fd, pending, pending.blocks)
            after = Attributes._make(STAT.unpack(directory.restat(index, fd)))
        except OSError as error:
            self._problem(
                Problem(path=self._survey.shown(pending.path), kind="unreadable", message=str(error.strerror))
            )
            return
        finally:
            os.close(fd)
        self._judge(pending, before, after, torn=left)

    def _judge(self, pending: Pending, before: Attributes, after: Attributes, *, torn: bool) -> None:
        """Whether what was written is what the file was at one time."""
        recorded = pending.attributes
        if before != recorded or after != recorded:
            pending.known.racy = True  # what the next level has to look at again
        path = self._survey.shown(pending.path)
        if torn or after != before or after.size < recorded.size:
            self._problem(Problem(path=path, kind="changed", message="changed while it was read"))
        elif after.size > recorded.size:
            message = f"it grew meanwhile; its first {recorded.size} bytes are stored"
            self._problem(Problem(path=path, kind="changed", message=message, fatal=False))

    def _whole(self, fd: int, pending: Pending) -> bool:
        """Writes a whole file; whether it is shorter than it was."""
        hasher = Hasher(self._block_size)
        left = pending.attributes.size
        short = False
        try:
            while left:
                self._context.cancel.check()
                data = b"" if short else os.read(fd, min(CHUNK, left))
                if not data:
                    short = True
                    data = _ZEROS[:left]
                else:
                    self._survey.counts.read_bytes += len(data)
                hasher.update(data)
                self._output(data)
                left -= len(data)
        except OSError:
            self._fail(pending, left)
            raise
        pending.known.signature = hasher.finish()
        return short

    def _blocks(self, fd: int, pending: Pending, blocks: Sequence[int]) -> bool:
        """Writes changed blocks; whether one is not what it was when the file was compared."""
        signature = pending.known.signature or Signature()
        strong = bytearray(signature.strong)
        size, torn = pending.attributes.size, False
        for position, number in enumerate(blocks):
            self._context.cancel.check()
            length = min(self._block_size, size - number * self._block_size)
            try:
                data = os.pread(fd, length, number * self._block_size)
            except OSError:
                left = sum(min(self._block_size, size - later * self._block_size) for later in blocks[position:])
                self._fail(pending, left)
                raise
            self._survey.counts.read_bytes += len(data)
            data = data.ljust(length, b"\0")
            hasher = Hasher(self._block_size)
            hasher.update(data)
            found = hasher.finish()
            if found.strong != strong[number * STRONG : (number + 1) * STRONG]:
                torn = True
                strong[number * STRONG : (number + 1) * STRONG] = found.strong
                signature.weak[number] = found.weak[0]
            self._output(data)
        signature.strong = bytes(strong)
        return torn

    # -- what cannot be read -------------------------------------------------------------------------------

    def _vanished(self, pending: Pending) -> None:
        self._lost(pending, FileNotFoundError(0, "vanished before it was read"))

    def _lost(self, pending: Pending, error: OSError) -> None:
        kind = "vanished" if isinstance(error, FileNotFoundError) else "unreadable"
        message = error.strerror or str(error)
        self._problem(Problem(path=self._survey.shown(pending.path), kind=kind, message=message))
        size = pending.attributes.size
        blocks = pending.blocks
        left = (
            size
            if blocks is None
            else sum(min(self._block_size, size - number * self._block_size) for number in blocks)
        )
        self._fail(pending, left)

    def _fail(self, pending: Pending, left: int) -> None:
        """Fills the place of what is missing; the state says that the file is not whole."""
        for data in _zeros(left):
            self._context.cancel.check()
            self._output(data)
        known = pending.known
        known.incomplete, known.signature = True, Signature()
        known.mtime = known.ctime = 0.0  # the original, too, takes it for changed


def _zeros(left: int) -> Iterator[bytes]:
    while left > 0:
        yield _ZEROS[:left]
        left -= len(_ZEROS)


def _order(directory: bytes | None) -> tuple[int, list[bytes]]:
    """Where a walk comes to a directory."""
    if directory is None:
        return 0, []
    return 1, directory.split(b"/") if directory else []
