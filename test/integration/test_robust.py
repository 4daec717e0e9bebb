# SPDX-License-Identifier: MIT
"""Peers that are slow, silent or never read: memory stays bounded and the rest is unharmed."""
import contextlib
import os
import re
import resource
import selectors
import socket
import threading
import time

import pytest

from support import origin as o
from support.net import PATIENCE, wait_until

MIB = 1 << 20


def held_by_sockets():
    """Bytes that one way through the proxy, of two connections, may hold in the kernel's buffers."""
    total = 0
    for name in ("tcp_rmem", "tcp_wmem"):
        with open(f"/proc/sys/net/ipv4/{name}", encoding="ascii") as file:
            total += 2 * int(file.read().split()[2])
    return total + MIB


def others_are_served(server, count=50, host="ok.example"):
    """All answered, the slowest long before the slow ones are: nobody waits for those."""
    slowest = 0.0
    with server.connect() as kept:
        for i in range(count):
            start = time.monotonic()
            if i % 2:
                reply = kept.exchange(host=host)
            else:
                reply = server.get(host=host)
            assert reply.status == 200 and reply.text == "ok"
            slowest = max(slowest, time.monotonic() - start)
    assert slowest < 30.0
    return True


@pytest.fixture
def serving(pointsman, origin):
    """A server with ok.example, and slow.example at a target of its own."""

    def make(slow, config=None, **more):
        server, ok, target = pointsman(config, **more), origin(o.respond(body="ok")), origin(slow)
        server.put_route("ok.example", targets=[ok])
        server.put_route("slow.example", targets=[target])
        assert others_are_served(server)
        return server, target

    return make


@contextlib.contextmanager
def many_connections(server, count):
    """Non-blocking sockets, connected."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 200:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
    socks = []
    try:
        for _ in range(count):
            socks.append(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
        for sock in socks:
            sock.setblocking(False)
        yield socks
    finally:
        for sock in socks:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def wait_all_closed(socks, timeout):
    """What each received before the server closed it."""
    received = {sock: b"" for sock in socks}
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            assert time.monotonic() < deadline, f"{len(selector.get_map())} are still open"
            for key, _ in selector.select(0.5):
                try:
                    data = key.fileobj.recv(65536)
                except ConnectionError:
                    data = b""
                received[key.fileobj] += data
                if not data:
                    selector.unregister(key.fileobj)
    return received


def test_connections_that_send_nothing(serving):
    server, _ = serving(o.hang(), {"timeouts": {"header": "30s"}}, release=True)
    before = server.memory()
    with many_connections(server, 2000) as socks:
        wait_until(lambda: server.status()["connections"] >= 2000, "2,000 connections")
        assert server.memory() - before < 2000 * 1024 + 2 * MIB
        assert others_are_served(server)
        wait_all_closed(socks, 2 * PATIENCE)
    wait_until(lambda: server.status()["connections"] == 0, "none is left")
    assert server.metrics()["pointsman_connections_timed_out_total"] >= 2000
    assert others_are_served(server)


def test_headers_a_byte_at_a_time(serving):
    """Bytes do not buy time: timeouts.header holds for the whole head."""
    server, target = serving(o.echo(), {"timeouts": {"header": "3s"}})
    text = b"GET / HTTP/1.1\r\nHost: slow.example\r\nX-Long: " + b"a" * 200 + b"\r\n\r\n"
    stop, start = threading.Event(), time.monotonic()

    def feed(socks):
        for at in range(len(text)):
            for sock in socks:
                try:
                    sock.send(text[at:at + 1])
                except OSError:
                    pass  # closed by now, as it should be
            if stop.wait(0.2):
                return

    with many_connections(server, 200) as socks:
        feeder = threading.Thread(target=feed, args=(socks,), daemon=True)
        feeder.start()
        assert others_are_served(server, 100)
        received = wait_all_closed(socks, 2 * PATIENCE)
        stop.set()
        feeder.join(PATIENCE)
    assert time.monotonic() - start > 2.5
    assert not target.requests
    told = {data[:12] for data in received.values() if data}
    assert told <= {b"HTTP/1.1 408"} and told, told
    assert others_are_served(server)


def test_bodies_a_byte_at_a_time(serving):
    """An upload that goes on slowly is let go on, and holds nobody up."""
    server, target = serving(o.respond(body="taken"))
    conns = [server.connect() for _ in range(30)]
    for conn in conns:
        conn.request("POST", host="slow.example", headers={"Content-Length": "20"})
    for i in range(20):
        for conn in conns:
            conn.send(b"%d" % (i % 10))
        if i % 5 == 0:
            assert others_are_served(server, 10)
    for conn in conns:
        assert conn.read_response().text == "taken"
        conn.close()
    wait_until(lambda: all(r.body == b"01234567890123456789" for r in target.requests),
               "the whole bodies")


def test_bodies_that_stop(serving):
    server, _ = serving(o.respond(body="taken"), {"timeouts": {"response": "10s"}})
    conns = [server.connect() for _ in range(50)]
    for conn in conns:
        conn.request("POST", host="slow.example", headers={"Content-Length": "100000"})
        conn.send(b"x" * 1000)
    assert others_are_served(server)
    for conn in conns:
        data = conn.read_to_end(PATIENCE)
        assert conn.wire.ended or not data or data.startswith(b"HTTP/1.1 4"), data[:100]
    wait_until(lambda: server.status()["connections"] == 0, "the connections closed")


def test_origins_that_never_answer(serving):
    server, target = serving(o.hang(), {"timeouts": {"response": "10s"}})
    conns = [server.connect() for _ in range(300)]
    for conn in conns:
        conn.request(host="slow.example")
    target.wait_requests(300)
    assert others_are_served(server)
    for conn in conns:
        reply = conn.read_response()
        assert reply.status == 504 and "Proxy-Status" in reply.headers
        conn.close()
    wait_until(lambda: target.open_count == 0, "the connections to the target closed")
    assert others_are_served(server)


def test_origins_that_answer_slowly(serving):
    text = o.encode_response(body="slowly but well")
    server, _ = serving(o.one_by_one(text, 0.02))
    conns = [server.connect() for _ in range(60)]
    for conn in conns:
        conn.request(host="slow.example")
    assert others_are_served(server)
    for conn in conns:
        assert conn.read_response().text == "slowly but well"
        conn.close()


@pytest.mark.deadline(600)
def test_clients_that_never_read(serving):
    """20 clients ask for 1 GB each and read nothing but the head."""
    big = o.stream(1 << 30)
    server, target = serving(big, release=True)
    before = server.memory()
    conns = [server.connect() for _ in range(20)]
    for conn in conns:
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        conn.request(host="slow.example")
    target.wait_requests(20)
    for conn in conns:
        assert conn.read_head().status == 200

    sent = [0, time.monotonic()]

    def is_quiet():
        if big.sent != sent[0]:
            sent[:] = [big.sent, time.monotonic()]
        return time.monotonic() - sent[1] > 1

    wait_until(is_quiet, "the target is held back", 4 * PATIENCE)
    assert others_are_served(server)
    assert server.memory() - before < 8 * MIB
    assert big.sent < 20 * min(held_by_sockets(), big.total // 4)
    for conn in conns:
        conn.close()
    wait_until(lambda: target.open_count == 0, "the target's connections are closed")
    assert others_are_served(server)


def test_a_slow_reader_gets_it_all(serving):
    big = o.stream(8 * MIB, chunked=True)
    server, _ = serving(big)
    with server.connect() as conn:
        conn.request(host="slow.example")
        head, at = conn.read_head(), 0
        for piece in conn.iter_body(head):
            assert piece == bytes(i % 251 for i in range(at % 251, at % 251 + len(piece)))
            at += len(piece)
            if at < 2 * MIB:
                time.sleep(0.001)
        assert at == 8 * MIB


def test_origins_that_never_read(serving):
    """Uploads to a target that does not read stop at the client; memory is bounded."""
    server, target = serving(o.script(200.0, read_body=False), {"timeouts": {"response": "300s"}},
                             release=True)
    before = server.memory()
    conns = [server.connect() for _ in range(10)]
    sent = 0
    for conn in conns:
        conn.request("POST", host="slow.example", headers={"Content-Length": str(1 << 30)})
    target.wait_requests(10)
    for conn in conns:
        conn.sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 30:
                sent += conn.sock.send(b"x" * 262144)
    assert sent < 10 * min(held_by_sockets(), 1 << 28)
    assert server.memory() - before < 8 * MIB
    assert others_are_served(server)
    for conn in conns:
        conn.close()


def test_tunnels_that_never_read(serving):
    """Each direction of a tunnel stops alone."""
    server, _ = serving(o.switch_protocols(), release=True)
    conns = [server.connect() for _ in range(10)]
    before = server.memory()
    for conn in conns:
        conn.request(host="slow.example", headers={"Connection": "Upgrade", "Upgrade": "echo"})
        assert conn.read_head().status == 101
        conn.sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            for _ in range(400):
                conn.send(b"x" * 262144)
    assert server.memory() - before < 8 * MIB
    assert others_are_served(server)
    for conn in conns:
        conn.close()
    wait_until(lambda: server.status()["connections"] == 0, "all ended")


def test_connections_that_come_and_go(serving):
    """Resets at every moment of an exchange leave nothing behind."""
    server, target = serving(o.one_by_one(o.encode_response(body="x" * 20), 0.001))
    text = b"POST / HTTP/1.1\r\nHost: slow.example\r\nContent-Length: 4\r\n\r\nbody"
    for cut in range(0, len(text) + 1, 2):
        conn = server.connect()
        conn.send(text[:cut])
        conn.reset()
    for wait in range(60):
        conn = server.connect()
        conn.send(text)
        conn.wire.some(1)
        time.sleep(wait / 2000)
        conn.reset()
    wait_until(lambda: server.status()["connections"] == 0, "all ended")
    wait_until(lambda: len(server.log_records(0)) >= 60, "all logged")
    assert others_are_served(server)
    descriptors = len(os.listdir(f"/proc/{server.pid}/fd"))
    assert descriptors < 40 + target.open_count + 10, descriptors


def test_status_tells_what_is_refused(serving):
    """Pipelined garbage behind a good request, from many at once."""
    server, target = serving(o.respond(body="x"))
    data = (b"GET / HTTP/1.1\r\nHost: slow.example\r\n\r\n"
            b"GET / HTTP/1.1\r\nHost: slow.example\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /no HTTP/1.1\r\n\r\n")
    for _ in range(30):
        got = server.raw(data)
        assert re.findall(rb"HTTP/1\.1 (\d+)", got) == [b"200", b"400"], got
    assert {r.target for r in target.requests} == {"/"} and len(target.requests) == 30
    assert server.metrics()["pointsman_requests_refused_total"] >= 30
