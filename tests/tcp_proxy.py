"""A TCP proxy that harms connections on demand, between a client under test and a real server.

::

    with TcpProxy("127.0.0.1", port) as proxy:
        storage = open_storage(f"sftp://user@127.0.0.1:{proxy.port}/")
        proxy.cut("reset", after=100_000, direction="up", times=1)   # one connection, in the middle of sending
        proxy.cut("stall")                                           # every connection goes silent, new ones too
        proxy.heal()                                                 # no rule is left, silent ones go on
        proxy.refuse()                                               # nobody listens
        proxy.rate = 50_000                                          # bytes a second, of all connections together

A server that sends its clients to other ports (passive FTP) needs a proxy for each port under another address:
``TcpProxy("127.0.0.1", 30001, listen_host="127.0.0.2", listen_port=30001)``.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

Harm = Literal["reset", "close", "stall"]
Direction = Literal["up", "down", "any"]

_BLOCK = 64 << 10
_TICK = 0.02
_BURST = 0.05  # seconds of the rate that may pass at once
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST and drops what is unsent


@dataclass(eq=False)
class Rule:
    """What happens to a connection once enough bytes passed."""

    how: Harm
    after: int
    direction: Direction
    times: int | None
    struck: int = 0


@dataclass(eq=False)
class Side:
    """One socket of a connection, and what is still to be written to it."""

    socket: socket.socket
    pending: bytearray = field(default_factory=bytearray)
    ended: bool = False  # it sends nothing more
    told: bool = False  # it was told that nothing more comes


@dataclass(eq=False)
class Link:
    """A client's connection and the one to the server."""

    client: Side
    server: Side
    passed: dict[Rule, int] = field(default_factory=dict)
    stalled: bool = False


class TcpProxy:
    """Forwards connections to a server until it is told to harm them; a context manager.

    Args:
        host, port: the server.
        listen_host, listen_port: where clients connect; port 0: any free one.

    Attributes:
        port: where it listens.
        rate: bytes a second, of all connections and both directions together; ``None``: no limit. May be changed.
        connections: accepted so far.
        up, down: bytes that were forwarded to the server, and to clients.
    """

    def __init__(self, host: str, port: int, *, listen_host: str = "127.0.0.1", listen_port: int = 0) -> None:
        self._target = (host, port)
        self._listener: socket.socket | None = _listen(listen_host, listen_port)
        self.host = listen_host
        self.port: int = self._listener.getsockname()[1]
        self.rate: float | None = None
        self.connections = 0
        self.up = 0
        self.down = 0
        self._rules: list[Rule] = []
        self._links: list[Link] = []
        self._allowance, self._refilled = 0.0, time.monotonic()
        self._commands: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._running = True
        self._thread = threading.Thread(target=self._loop, name="tcp-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end)
        self._thread.join()
        self._wake.close()
        self._woken.close()

    @property
    def open_connections(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    def cut(self, how: Harm, *, after: int = 0, direction: Direction = "any", times: int | None = None) -> None:
        """From now on, harms each connection that has forwarded exactly ``after`` bytes since now or since it began.

        Args:
            how: ``reset`` (RST to both sides), ``close`` (what came so far is delivered, then a clean end: a truncated
                answer), ``stall`` (open, but silent in both directions).
            direction: which bytes count: to the server (``up``), to the client (``down``), or both.
            times: how many connections; ``None``: all, existing and new ones.
        """
        self._do(lambda: self._rules.append(Rule(how, after, direction, times)))

    def drop(self, how: Harm = "reset") -> None:
        """Harms all connections that are open now, and no later one."""

        def strike_all() -> None:
            for link in tuple(self._links):
                self._strike(link, how)

        self._do(strike_all)

    def refuse(self) -> None:
        """New connections are refused until :meth:`heal`."""
        self._do(self._stop_listening)

    def heal(self) -> None:
        """Forgets all rules and the rate, listens again; connections that were stalled go on."""

        def mend() -> None:
            self._rules.clear()
            self.rate = None
            for link in self._links:
                link.stalled = False
            self._listener = self._listener or _listen(self.host, self.port)

        self._do(mend)

    def _do(self, command: Callable[[], None]) -> None:
        """Runs something on the proxy's thread, and waits for it."""
        done = threading.Event()
        self._commands.put((command, done))
        self._wake.send(b"x")
        done.wait()

    def _end(self) -> None:
        self._running = False
        self._stop_listening()
        for link in tuple(self._links):
            self._close(link)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _loop(self) -> None:
        while self._running:
            self._refill()
            with selectors.DefaultSelector() as selector:
                selector.register(self._woken, selectors.EVENT_READ, self._run_commands)
                if self._listener is not None:
                    selector.register(self._listener, selectors.EVENT_READ, self._accept)
                for link in self._links:
                    self._register(selector, link)
                ready = selector.select(_TICK)
            for key, events in ready:
                key.data(events) if key.fileobj is not self._woken else None
            for key, events in ready:  # the last ones: they may close what was ready
                key.data(events) if key.fileobj is self._woken else None
            for link in tuple(self._links):
                self._judge(link)

    def _register(self, selector: selectors.DefaultSelector, link: Link) -> None:
        if link.stalled:
            return
        for side, other in ((link.client, link.server), (link.server, link.client)):
            reads = not side.ended and not other.pending and (self.rate is None or self._allowance >= 1)
            events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if side.pending else 0)
            if events:
                selector.register(side.socket, events, self._mover(link, side, other))

    def _mover(self, link: Link, side: Side, other: Side) -> Callable[[int], None]:
        def move(events: int) -> None:
            if link not in self._links or link.stalled:
                return
            try:
                if events & selectors.EVENT_WRITE:
                    del side.pending[: side.socket.send(side.pending)]
                if events & selectors.EVENT_READ and not other.pending:
                    self._read(link, side, other)
            except BlockingIOError:
                pass
            except OSError:
                self._strike(link, "reset")

        return move

    def _read(self, link: Link, side: Side, other: Side) -> None:
        direction: Direction = "up" if side is link.client else "down"
        counting = [rule for rule in self._rules if rule.direction in (direction, "any") and not _spent(rule)]
        room = min([_BLOCK, *(rule.after - link.passed.get(rule, 0) for rule in counting)])
        if self.rate is not None:
            room = min(room, max(1, int(self._allowance)))
        if room <= 0:
            return
        data = side.socket.recv(room)
        side.ended = not data
        other.pending += data
        self._allowance -= len(data)
        for rule in counting:
            link.passed[rule] = link.passed.get(rule, 0) + len(data)
        if direction == "up":
            self.up += len(data)
        else:
            self.down += len(data)
        with contextlib.suppress(BlockingIOError):
            del other.pending[: other.socket.send(other.pending)]

    def _judge(self, link: Link) -> None:
        """Harms the connection if a rule says so, and passes ends on."""
        if not link.client.pending and not link.server.pending:
            for rule in self._rules:
                if not _spent(rule) and not link.stalled and link.passed.get(rule, 0) >= rule.after:
                    rule.struck += 1
                    self._strike(link, rule.how)
                    return
        if link.stalled:
            return
        for side, other in ((link.client, link.server), (link.server, link.client)):
            if side.ended and not other.pending and not other.told:
                other.told = True
                with contextlib.suppress(OSError):
                    other.socket.shutdown(socket.SHUT_WR)
        if link.client.told and link.server.told:
            self._close(link)

    def _strike(self, link: Link, how: Harm) -> None:
        if how == "stall":
            link.stalled = True
            return
        if how == "reset":
            for side in (link.client, link.server):
                with contextlib.suppress(OSError):
                    side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close(link)

    def _close(self, link: Link) -> None:
        if link in self._links:
            self._links.remove(link)
        for side in (link.client, link.server):
            side.socket.close()

    def _accept(self, _events: int) -> None:
        if self._listener is None:
            return
        client, _address = self._listener.accept()
        self.connections += 1
        if _gone(client):
            client.close()
            return
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            return
        for side in (client, server):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(Link(Side(client), Side(server)))

    def _run_commands(self, _events: int) -> None:
        self._woken.recv(4096)
        with contextlib.suppress(queue.Empty):
            while True:
                command, done = self._commands.get_nowait()
                command()
                for link in tuple(self._links) if self._running else ():
                    self._judge(link)
                done.set()

    def _refill(self) -> None:
        now = time.monotonic()
        if self.rate is not None:
            allowance = self._allowance + (now - self._refilled) * self.rate
            self._allowance = min(allowance, max(1.0, self.rate * _BURST))
        self._refilled = now


def _gone(client: socket.socket) -> bool:
    """Whether a client has left before its turn came.

    The server must not hear of it: one that gives out few ports for data may wait for the next client at this one by
    now, and would take this connection for that client's.
    """
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _spent(rule: Rule) -> bool:
    return rule.times is not None and rule.struck >= rule.times


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), backlog=128)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)  # a stalled client notices soon
    return listener
