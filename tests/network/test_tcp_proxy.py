"""The proxy that other tests trust does what it says."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from tcp_proxy import TcpProxy


class Echo:
    """Sends back what it gets, until the client is done."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = []
        self.accepting = threading.Thread(target=self.accept)
        self.accepting.start()
        return self

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.threads.append(threading.Thread(target=self.serve, args=(connection,)))
            self.threads[-1].start()

    def serve(self, connection):
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in (self.accepting, *self.threads):
            thread.join()


@pytest.fixture
def proxy():
    before = threading.active_count()
    with Echo() as echo, TcpProxy("127.0.0.1", echo.port) as made:
        yield made
    assert threading.active_count() == before


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def read_all(connection):
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def ask(connection, data=b"hello"):
    connection.sendall(data)
    received = b""
    while len(received) < len(data):
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    return received


def test_it_forwards_both_ways_and_counts(proxy):
    data = bytes(range(256)) * 4096
    with connect(proxy) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read_all(connection) == data
        sender.join()
    assert (proxy.connections, proxy.up, proxy.down) == (1, len(data), len(data))


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_reset_after_exactly_so_many_bytes(proxy, direction):
    proxy.cut("reset", after=1000, direction=direction, times=1)
    with connect(proxy) as connection, pytest.raises(ConnectionResetError):
        ask(connection, b"x" * 5000)
    assert getattr(proxy, direction) == 1000
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"


def test_a_truncated_answer_is_delivered_and_then_ends(proxy):
    proxy.cut("close", after=1000, direction="down")
    for _ in range(2):
        with connect(proxy) as connection:
            connection.sendall(b"x" * 1500)
            assert len(read_all(connection)) == 1000


def test_a_stalled_connection_goes_on_when_healed(proxy):
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"
        proxy.cut("stall")
        connection.settimeout(0.2)
        connection.sendall(b"anybody there?")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        with connect(proxy) as other:
            other.settimeout(0.2)
            other.sendall(b"and here?")
            with pytest.raises(TimeoutError):
                other.recv(100)
        proxy.heal()
        connection.settimeout(5)
        assert connection.recv(100) == b"anybody there?"


def test_open_connections_can_be_dropped_at_once(proxy):
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"
        proxy.drop()
        with pytest.raises(ConnectionResetError):
            ask(connection)
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"


def test_connections_can_be_refused_for_a_while(proxy):
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"


def test_a_rate_holds(proxy):
    proxy.rate = 200_000
    started = time.monotonic()
    with connect(proxy) as connection:
        assert len(ask(connection, b"x" * 40_000)) == 40_000
    assert time.monotonic() - started > 0.25  # 80,000 bytes pass, the burst aside
