"""Programs as the model sees them: a function from the answers of a storage so far to the next call.

The programs are the shipped code. One that runs asks a :class:`Port`; it is run again from its beginning whenever its
next call after a new sequence of answers is to be known, and what it asks is remembered in a tree, whose nodes are the
states of the program. So an interleaving costs a few lookups, and the code runs once for each thing that it can see.
"""

from __future__ import annotations

import contextlib
import io
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model.contents import BEGIN, Answer, Call, Contents
from model.virtual import Virtual

from freezer_sdk.errors import FreezerError
from freezer_sdk.storages.base import Capabilities, ObjectInfo, Reader, Storage, Upload, check_name

_MOST_CALLS = 2000


@dataclass(frozen=True, slots=True)
class Failure:
    """How a program ended that raised an error."""

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class Node:
    """A state of a program: the answers that it was given.

    Attributes:
        moment: when the last of them was given.
        call: what it asks next; ``None``: not known yet, or it has ended.
        ended, result: how it ended.
    """

    __slots__ = ("answer", "call", "children", "ended", "moment", "number", "parent", "result")

    def __init__(self, number: int, parent: Node | None, answer: Answer | None, moment: int) -> None:
        self.number, self.parent, self.answer, self.moment = number, parent, answer, moment
        self.children: dict[tuple[Any, int], Node] = {}
        self.call: Call | None = None
        self.ended, self.result = False, None

    @property
    def known(self) -> bool:
        return self.ended or self.call is not None

    def path(self) -> list[Node]:
        """From the beginning to here."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


@dataclass(eq=False)
class Program:
    """A run of shipped code.

    Args:
        body: the code; what it returns is the result.
        seed: of its random numbers, besides the name.
        skew: seconds by which its machine's clock is wrong.
        clock: seconds on the clock of its machine, by the storage's; the same by default.
        frozen: a virtual machine that is stopped together with its clock: it does not see how long it was suspended.

    Attributes:
        runs: how often the code was run.
    """

    name: str
    body: Callable[[Storage], Any]
    seed: str = ""
    skew: int = 0
    frozen: bool = False
    clock: Callable[[int], int] = int
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(conditional_put=True, remote=False))
    virtual: Virtual = field(default_factory=Virtual)
    runs: int = 0
    nodes: int = 1

    def __post_init__(self) -> None:
        self.root = Node(0, None, None, 0)
        self.root.call = BEGIN

    def next(self, node: Node, answer: Answer, moment: int) -> Node:
        """The state after one more answer."""
        key = (answer.key, moment)
        child = node.children.get(key)
        if child is None:
            child = node.children[key] = Node(self.nodes, node, answer, moment)
            self.nodes += 1
        return child

    def learn(self, node: Node, contents: Contents, moment: int) -> None:
        """Runs the code up to a state, and on to its end on a storage that nobody else uses."""
        self.runs += 1
        run = _Run(self, node.path(), contents, moment)
        with self.virtual.running(run):
            try:
                result = self.body(Port(run))
            except FreezerError as error:
                result = Failure(type(error).__name__, error.message)
        run.end(result)


class _Run:
    """One execution: known answers first, then those of the storage as it is."""

    def __init__(self, program: Program, path: Sequence[Node], contents: Contents, moment: int) -> None:
        self.program, self._path = program, path
        self._at, self._node = 1, path[1]
        self._contents, self._moment = contents, moment
        self._lock = threading.Lock()
        self.random = random.Random(program.name + program.seed)

    @property
    def capabilities(self) -> Capabilities:
        return self.program.capabilities

    @property
    def wall(self) -> float:
        return self.program.clock(self._node.moment) + self.program.skew

    @property
    def boot(self) -> float:
        return 0.0 if self.program.frozen else self.program.clock(self._node.moment)

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.ask(Call("sleep", rest=(seconds,)))

    def ask(self, call: Call) -> Any:
        """The answer to the next call."""
        with self._lock:
            node = self._node
            if node.call is None:
                assert not node.ended, f"{self.program.name} once ended where it now asks: {call}"
                node.call = call
            assert node.call == call, f"{self.program.name} does not repeat itself: {call} instead of {node.call}"
            self._at += 1
            assert self._at < _MOST_CALLS, f"{self.program.name} does not end: {call}"
            if self._at < len(self._path):
                self._node = self._path[self._at]
            else:
                self._contents, answer = self._contents.do(call, self._moment)
                self._node = self.program.next(node, answer, self._moment)
            assert self._node.answer is not None
            value = self._node.answer.value
        if isinstance(value, FreezerError):
            raise type(value)(value.message)
        return value

    def end(self, result: Any) -> None:
        assert self._at >= len(self._path) - 1, f"{self.program.name} ended early: {result}"
        self._node.ended, self._node.result = True, result


class Port(Storage):
    """The storage of a running program: every call waits for its answer."""

    name = "model"
    api_version = 1
    summary = "a storage whose answers a model decides"
    options = ()

    def __init__(self, run: _Run) -> None:
        self._run = run

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        return {}

    @property
    def location(self) -> str:
        return "model:"

    @property
    def capabilities(self) -> Capabilities:
        return self._run.capabilities

    @property
    def max_parallel(self) -> int:
        """A program's own threads take turns, so that it always asks in the same order."""
        return 1

    def put(self, name: str, buffers: Sequence[Any], *, if_absent: bool = False) -> ObjectInfo:
        return self._run.ask(Call("put", check_name(name), b"".join(buffers), (if_absent,)))

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        yield _PortUpload(self, name)

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        content = self._run.ask(Call("get", name))
        start = max(0, len(content) + offset) if offset < 0 else offset
        return content[start:] if length is None else content[start : start + length]

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        yield io.BytesIO(self.get(name))

    def stat(self, name: str) -> ObjectInfo:
        return self._run.ask(Call("stat", name))

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        assert delimiter is None, "not needed by the engine so far"
        return iter(self._run.ask(Call("list", prefix)))

    def delete(self, name: str) -> None:
        self._run.ask(Call("delete", check_name(name)))

    def flush(self) -> None:
        self._run.ask(Call("flush"))

    def now(self) -> datetime:
        return self._run.ask(Call("now"))


class _PortUpload:
    def __init__(self, port: Port, name: str) -> None:
        self._port, self._name, self._content = port, name, bytearray()

    def write(self, data: Any) -> None:
        self._content += data

    def commit(self) -> ObjectInfo:
        return self._port.put(self._name, [self._content])
