# SPDX-License-Identifier: MIT
"""Bounds and times of client connections, and who is over them."""
import time

import pytest

from support import origin as o
from support.http1 import Connection, Truncated
from support.net import wait_until

HOST = "a.example"


@pytest.fixture
def limited(pointsman, origin):
    """A server with this configuration, and its target."""

    def make(**config):
        server, target = pointsman(config), origin()
        server.put_route(HOST, targets=[target])
        return server, target

    return make


def metric(server, name):
    return server.metrics().get(f"pointsman_{name}", 0)


def fields(count, value="x"):
    return [(f"X-{i}", value) for i in range(count)]


# --- sizes ---


def test_header_bytes(limited):
    server, target = limited(limits={"header_bytes": 4096})
    assert server.get(host=HOST, headers=fields(1, "x" * 3900)).status == 200
    for headers in (fields(1, "x" * 4096), fields(40, "x" * 100), fields(1, "x" * 100000)):
        reply = server.get(host=HOST, headers=headers)
        assert reply.status == 431 and reply.headers["connection"] == "close"
    assert server.get(host=HOST, target="/" + "x" * 2100).status == 414
    assert server.get(host=HOST, target="/" + "x" * 5000).status == 414
    assert len(target.requests) == 1
    assert metric(server, "requests_refused_total") == 5
    assert sorted(r["http.response.status_code"] for r in server.log_records(6)) == [
        200, 414, 414, 431, 431, 431]


def test_header_bytes_that_never_end(limited):
    """No line end at all: it must not be waited for."""
    server, target = limited(limits={"header_bytes": 4096})
    for start in (b"GET /", b"GET / HTTP/1.1\r\nHost: h\r\nX: "):
        data = server.raw(start + b"a" * 20000)
        assert data.startswith((b"HTTP/1.1 414 ", b"HTTP/1.1 431 ")), data[:100]
    assert target.requests == []


def test_number_of_fields(limited):
    server, target = limited(limits={"headers": 10})
    assert server.get(host=HOST, headers=fields(9)).status == 200
    assert server.get(host=HOST, headers=fields(10)).status == 431
    assert len(target.requests) == 1


def test_large_heads_within_bounds(limited):
    server, target = limited(limits={"header_bytes": "256k", "headers": 200})
    assert server.get(host=HOST, headers=fields(150, "y" * 1000)).status == 200
    assert len(target.last.headers.getall("x-149")[0]) == 1000
    target.handler = o.respond(headers=fields(150, "z" * 1000))
    reply = server.get(host=HOST)
    assert reply.status == 200 and reply.headers["x-149"] == "z" * 1000


def test_response_head_over_the_bounds(limited):
    server, target = limited(limits={"header_bytes": 4096, "headers": 10})
    target.handler = o.respond(headers=fields(1, "x" * 5000))
    assert server.get(host=HOST).status == 502
    target.handler = o.respond(headers=fields(12))
    assert server.get(host=HOST).status == 502
    target.handler = o.script(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20000, 5)
    assert server.get(host=HOST).status == 502


@pytest.mark.parametrize("trailers", [b"".join(b"X-%d: y\r\n" % i for i in range(33)),
                                      b"X: " + b"y" * 9000 + b"\r\n"], ids=["count", "bytes"])
def test_trailers_over_the_bounds(limited, trailers):
    server, target = limited()
    reply = server.exchange("POST", host=HOST, headers={"Transfer-Encoding": "chunked"},
                            body=b"1\r\nx\r\n0\r\n" + trailers + b"\r\n")
    assert reply.status in (400, 431) and reply.headers["connection"] == "close"
    assert not any(r.complete for r in target.requests)


# --- connections ---


def test_connections(limited):
    server, _ = limited(limits={"connections": 20})
    conns = [server.connect() for _ in range(20)]
    for conn in conns:
        assert conn.exchange(host=HOST).status == 200
    with server.connect() as more:
        assert more.is_closed_by_peer()
    assert metric(server, "connections_refused_total") == 1
    assert server.status()["connections"] == 20
    conns.pop().close()
    wait_until(lambda: server.status()["connections"] == 19, "one has left")
    assert server.get(host=HOST).status == 200
    for conn in conns:  # those that are open are not harmed
        assert conn.exchange(host=HOST).status == 200
        conn.close()


def test_2000_silent_connections(limited):
    server, _ = limited()
    before = server.memory()
    conns = [server.connect() for _ in range(2000)]
    wait_until(lambda: server.status()["connections"] == 2000, "all accepted")
    for i in range(20):
        assert server.get(host=HOST).status == 200
    assert server.memory() - before < 30 << 20
    for conn in conns:
        conn.close()
    wait_until(lambda: server.status()["connections"] == 0, "all closed")


# --- times ---


def test_silent_connection_is_closed(limited):
    server, _ = limited(timeouts={"header": "3s"})
    with server.connect() as conn:
        started = time.monotonic()
        assert conn.is_closed_by_peer()
        assert time.monotonic() - started < 30  # timeouts.idle is 60 s
    assert server.get(host=HOST).status == 200
    assert len(server.log_records(1)) == 1  # none for the silent one


def test_head_that_comes_slowly(limited):
    """A byte now and then does not stretch the time for a head."""
    server, target = limited(timeouts={"header": "3s"})
    started = time.monotonic()  # before the server's time begins
    with server.connect() as conn:
        conn.sock.settimeout(0.1)
        data = b""
        for byte in b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
            try:
                conn.send(bytes([byte]))
                data = conn.sock.recv(1000)  # a pause, and what comes
                break
            except TimeoutError:
                pass
            except ConnectionError:
                break
        assert 2.9 < time.monotonic() - started
        assert data.startswith(b"HTTP/1.1 408 ")
    assert server.log_records(1)[0]["http.response.status_code"] == 408
    assert target.requests == []


def test_second_head_that_comes_slowly(limited):
    server, _ = limited(timeouts={"header": "3s", "idle": "90s"})
    with server.connect() as conn:
        assert conn.exchange(host=HOST).status == 200
        conn.send(b"GET / HT")
        started = time.monotonic()
        assert conn.read_response().status == 408
        assert time.monotonic() - started < 30  # timeouts.idle is 60 s


def test_idle_connection_is_closed(limited):
    server, _ = limited(timeouts={"idle": "4s", "header": "90s"})  # a client that stalls between two requests
    with server.connect() as conn:
        for _ in range(4):
            started = time.monotonic()
            assert conn.exchange(host=HOST).status == 200
        assert conn.is_closed_by_peer()
        assert 3.9 < time.monotonic() - started < 60
    assert len(server.log_records(4)) == 4  # no record for the close


def test_body_that_stops(limited):
    server, target = limited(timeouts={"response": "4s"})
    with server.connect() as conn:
        conn.request("POST", host=HOST, headers={"Content-Length": "10"})
        conn.send(b"12345")
        reply = conn.read_response()
        assert reply.status == 408 and reply.headers["connection"] == "close"
    assert server.log_records(1)[0]["pointsman.end"] == "client_timeout"
    assert not any(r.complete for r in target.requests)


def test_client_that_does_not_read_is_given_up(limited):
    server, target = limited(timeouts={"response": "5s"})
    target.handler = o.stream(50 << 20)
    with server.connect() as conn:
        conn.request(host=HOST)
        conn.read_head()
        record = server.log_records(1)[0]
        assert record["pointsman.end"] == "client_timeout"
        with pytest.raises((Truncated, ConnectionError, OSError)):
            while conn.wire.some(65536):
                pass
            raise Truncated("it ended, short")
    wait_until(lambda: target.open_count == 0, "the origin's connection closed")


def test_slow_clients_hold_nobody_else(limited):
    server, target = limited()
    slow = [server.connect() for _ in range(50)]
    for i, conn in enumerate(slow):
        if i % 2:
            conn.send(b"GET / HTTP/1.1\r\nHost: a.exa")
        else:
            conn.request("POST", host=HOST, headers={"Content-Length": "100000"}, body=b"x" * 10)
    with server.connect() as quick:
        for _ in range(200):
            assert quick.exchange(host=HOST).status == 200
    for conn in slow:
        conn.close()


def test_many_pipelined_requests_hold_nobody_else(limited):
    """One client with a thousand requests waiting; another is served meanwhile."""
    server, _ = limited()
    with server.connect() as greedy, server.connect() as other:
        greedy.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n" * 1000)
        for _ in range(50):
            assert other.exchange(host=HOST).status == 200
        for _ in range(1000):
            assert greedy.read_response().status == 200


def test_admin_has_bounds_too(limited):
    server, _ = limited()
    with Connection(("127.0.0.1", server.admin_port)) as conn:
        conn.request(target="/v1/status", host=f"127.0.0.1:{server.admin_port}",
                     headers=fields(1, "x" * 100000))
        assert conn.read_response().status == 431
