"""The proxy does to a connection what it says, and nothing else."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.torture.faults.proxy import (
    Bandwidth,
    Flapping,
    HalfOpen,
    Latency,
    Proxy,
    Refuse,
    Reset,
    Stall,
    Way,
)


@pytest.fixture
def echo():
    """A server that sends back what it gets; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError:
                return

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def proxy(echo):
    with Proxy(echo) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy):
    opened = []

    def connect():
        opened.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=30))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def heard(connection, within_s=30.0):
    """What comes by itself."""
    connection.settimeout(within_s)
    return connection.recv(100)


def asked(connection, text=b"ping", *, within_s=30.0):
    """What comes back for a text, or ``None`` if nothing does in time."""
    connection.settimeout(within_s)
    connection.sendall(text)
    found = b""
    try:
        while len(found) < len(text):
            data = connection.recv(65_536)
            if not data:
                break
            found += data
    except TimeoutError:
        return None
    return found


def test_bytes_pass_whole_and_in_order(connect):
    sent = bytes(range(256)) * 8_192

    connection = connect()
    sender = threading.Thread(target=connection.sendall, args=(sent,))
    sender.start()
    found = b""
    while len(found) < len(sent):
        found += connection.recv(65_536)
    sender.join()

    assert found == sent


def test_latency_is_added_each_way_and_order_is_kept(proxy, connect):
    connection = connect()
    asked(connection)

    with Latency(proxy, 0.1, jitter_s=0.05):
        began = time.monotonic()
        answers = [asked(connection, b"%04d" % n) for n in range(5)]
        took_s = time.monotonic() - began

    assert answers == [b"%04d" % n for n in range(5)]
    assert took_s >= 0.5
    assert asked(connection) == b"ping"


def test_a_stall_answers_nothing_and_everything_once_healed(proxy, connect):
    old = connect()
    asked(old)

    with Stall(proxy):
        new = connect()
        assert asked(old, within_s=0.3) is None
        assert asked(new, within_s=0.3) is None

    assert [heard(c) for c in (old, new)] == [b"ping", b"ping"]


def test_a_stall_of_one_direction_lets_the_other_pass(proxy, connect):
    connection = connect()
    asked(connection)

    with Stall(proxy, ways=(Way.DOWN,)):
        assert asked(connection, within_s=0.3) is None

    assert heard(connection) == b"ping"


def test_a_reset_breaks_old_and_new_connections_until_healed(proxy, connect):
    old = connect()
    asked(old)

    with Reset(proxy):
        with pytest.raises(ConnectionResetError):
            old.recv(1)
        with pytest.raises((ConnectionError, AssertionError)):
            assert asked(connect()) == b"ping"

    assert asked(connect()) == b"ping"


def test_a_half_open_connection_stays_silent_for_ever(proxy, connect):
    old = connect()
    asked(old)

    with HalfOpen(proxy):
        new = connect()
        assert asked(old, within_s=0.3) is None
        assert asked(new, within_s=0.3) is None

    assert asked(old, within_s=0.3) is None
    assert asked(new, within_s=0.3) is None
    assert asked(connect()) == b"ping"


def test_a_slow_line_is_slow(proxy, connect):
    connection = connect()
    asked(connection)

    with Bandwidth(proxy, 100_000, ways=(Way.UP,)):
        began = time.monotonic()
        found = asked(connection, b"x" * 50_000)
        took_s = time.monotonic() - began

    assert found == b"x" * 50_000
    assert took_s >= 0.4


def test_refused_is_refused_until_healed_on_the_same_port(proxy, connect):
    old = connect()
    asked(old)

    refused = Refuse(proxy)
    refused.start()
    with pytest.raises(ConnectionRefusedError):
        connect()
    with pytest.raises(ConnectionResetError):
        old.recv(1)
    refused.heal()
    refused.heal()

    assert asked(connect()) == b"ping"


def test_flapping_breaks_connections_again_and_again(proxy, connect):
    flapping = Flapping(proxy, every_s=0.05)

    with flapping:
        for _ in range(3):
            with pytest.raises((ConnectionError, AssertionError)):
                connection = connect()
                while True:
                    assert asked(connection) == b"ping"
                    time.sleep(0.01)

    assert asked(connect()) == b"ping"
    assert flapping.count >= 3
