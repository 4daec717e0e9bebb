# SPDX-License-Identifier: MIT
"""Upgrades: WebSocket and any other protocol, as a tunnel through the proxy."""
import asyncio
import threading
import time

import pytest
import websockets

from support import origin as o
from support.http1 import Connection
from support.net import PATIENCE, wait_until

HOST = "a.example"
ASK = {"Connection": "Upgrade", "Upgrade": "echo"}
HEAD = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


@pytest.fixture
def pair(pointsman, origin):
    server, target = pointsman({"timeouts": {"tunnel_idle": "5s"}}), origin()
    target.handler = o.switch_protocols()
    server.put_route(HOST, targets=[target])
    return server, target


def opened(server, headers=None):
    conn = server.connect()
    conn.request(host=HOST, headers=headers or ASK)
    reply = conn.read_head()
    assert reply.status == 101, reply
    return conn, reply


def read(conn, count):
    data = b""
    while len(data) < count:
        piece = conn.wire.some(count - len(data))
        assert piece, f"the end after {data!r}"
        data += piece
    return data


def test_any_protocol(pair):
    server, target = pair
    conn, reply = opened(server)
    assert reply.headers["upgrade"] == "echo"
    assert "upgrade" in reply.headers["connection"].lower()
    assert target.last.headers["upgrade"] == "echo"
    assert "upgrade" in target.last.headers["connection"].lower()
    for i in range(50):
        conn.send(b"\x00\xff%d" % i)
        assert read(conn, len(b"\x00\xff%d" % i)) == b"\x00\xff%d" % i
    assert server.metrics()["pointsman_tunnels_total"] == 1
    conn.finish_sending()
    assert conn.is_closed_by_peer()
    record = server.log_records(1)[0]
    assert record["pointsman.end"] == "tunnel_closed"
    assert record["http.response.status_code"] == 101
    wait_until(lambda: target.open_count == 0, "the origin's connection closed")
    conn.close()


def test_bytes_right_behind_the_request(pair):
    server, _ = pair
    with server.connect() as conn:
        conn.send(HEAD + b"early bytes")
        assert conn.read_head().status == 101
        assert read(conn, 11) == b"early bytes"
        conn.send(b"more")
        assert read(conn, 4) == b"more"


def test_bytes_right_behind_the_response(pair):
    server, target = pair
    target.handler = o.script(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello",
        lambda r, p: p.wait_closed(), read_body=False)
    conn, _ = opened(server)
    assert read(conn, 5) == b"hello"
    conn.close()


def test_fin_of_the_client_is_passed_on(pair):
    """The origin sends on after the client has said that it will not."""
    server, target = pair
    got = []

    def collect(_request, peer):
        peer.send(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        while data := peer.wire.some(1000):
            got.append(data)
        peer.send(b"got it")
        return False

    collect.reads_body = False
    target.handler = collect
    conn, _ = opened(server)
    conn.send(b"last words")
    conn.finish_sending()
    assert conn.read_to_end() == b"got it" and conn.wire.ended
    assert b"".join(got) == b"last words"
    assert server.log_records(1)[0]["pointsman.end"] == "tunnel_closed"


def test_fin_of_the_origin_is_passed_on(pair):
    server, target = pair
    got, done = [], threading.Event()

    def say_and_listen(_request, peer):
        peer.send(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nbye")
        peer.sock.shutdown(1)
        while data := peer.wire.some(1000):
            got.append(data)
        done.set()
        return False

    say_and_listen.reads_body = False
    target.handler = say_and_listen
    conn, _ = opened(server)
    assert conn.read_to_end() == b"bye" and conn.wire.ended
    conn.send(b"still here")
    conn.finish_sending()
    assert done.wait(PATIENCE) and b"".join(got) == b"still here"
    assert server.log_records(1)[0]["pointsman.end"] == "tunnel_closed"


def test_last_words_reach_a_slow_origin(pair):
    """Both sides have said that they end, and what the client said last is still under way."""
    server, target = pair
    words, got, go, done = b"x" * 8_000_000, [], threading.Event(), threading.Event()

    def say_and_listen_late(_request, peer):
        peer.send(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        peer.sock.shutdown(1)
        go.wait(PATIENCE)
        while data := peer.wire.some(1_000_000):
            got.append(len(data))
        done.set()
        return False

    say_and_listen_late.reads_body = False
    target.handler = say_and_listen_late
    conn, _ = opened(server)
    assert conn.read_to_end() == b""
    sender = threading.Thread(target=lambda: (conn.send(words), conn.finish_sending()))
    sender.start()
    go.set()
    sender.join(PATIENCE)
    assert done.wait(PATIENCE) and sum(got) == len(words)


@pytest.mark.parametrize("who", ["client", "origin"])
def test_reset_ends_the_other_side(pair, who):
    server, target = pair
    conn, _ = opened(server)
    conn.send(b"x")
    assert read(conn, 1) == b"x"
    if who == "client":
        conn.reset()
        wait_until(lambda: target.open_count == 0, "the origin's connection closed")
    else:
        target.close_connections(reset=True)
        assert conn.is_closed_by_peer()
    assert server.log_records(1)[0]["pointsman.end"] == "tunnel_closed"


def test_backpressure_each_way(pair):
    """The echo's answers are not read while 30 MB are sent: both sides must stop, none is lost."""
    server, target = pair
    server.put_route(HOST, targets=[target], timeouts={"tunnel_idle": "300s"})
    conn, _ = opened(server)
    before, block, blocks, sent = server.memory(), o.stream.PATTERN, 500, [0]

    def send():
        for _ in range(blocks):
            conn.send(block)
            sent[0] += len(block)
        conn.finish_sending()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 3:
        if sent[0] != last:
            last, since = sent[0], time.monotonic()
        time.sleep(0.02)
    assert 0 < last < blocks * len(block)
    assert server.memory() - before < 10 << 20
    for _ in range(blocks):
        assert read(conn, len(block)) == block
    thread.join(PATIENCE)
    assert conn.is_closed_by_peer()


def test_idle_tunnel_ends(pair):
    server, target = pair
    conn, _ = opened(server)
    started = time.monotonic()
    for _ in range(6):  # one that is used lives longer
        conn.send(b"x")
        assert read(conn, 1) == b"x"
        target.released.wait(1)
    assert time.monotonic() - started > 5.5
    assert conn.is_closed_by_peer()
    assert server.log_records(1)[0]["pointsman.end"] == "tunnel_idle"
    wait_until(lambda: target.open_count == 0, "the origin's connection closed")


def test_other_timeouts_do_not_end_a_tunnel(pointsman, origin):
    server = pointsman({"timeouts": {"response": "3s", "idle": "3s", "header": "3s"}})
    target = origin(o.switch_protocols())
    server.put_route(HOST, targets=[target])
    conn, _ = opened(server)
    target.released.wait(4)
    conn.send(b"alive")
    assert read(conn, 5) == b"alive"
    conn.close()


def test_origin_refuses_the_upgrade(pair):
    server, target = pair
    target.handler = o.respond(426, {"Upgrade": "other", "Connection": "Upgrade"}, "no")
    with server.connect() as conn:
        reply = conn.exchange(host=HOST, headers=ASK)
        assert reply.status == 426 and reply.body == b"no"
        target.handler = o.echo()
        assert conn.exchange(host=HOST).status == 200  # HTTP goes on


def test_origin_ignores_the_upgrade(pair):
    server, target = pair
    target.handler = o.echo()
    with server.connect() as conn:
        assert conn.exchange(host=HOST, headers=ASK).status == 200
        conn.send(b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert conn.read_response().json["target"] == "/next"


@pytest.mark.parametrize("headers, body", [({}, None), (ASK, b"body")])
def test_switch_that_nobody_asked_for(pair, headers, body):
    server, _ = pair
    reply = server.exchange("POST", host=HOST, headers=headers, body=body)
    assert reply.status == 502
    assert reply.headers["proxy-status"] == "pointsman; error=http_upgrade_failed"
    assert server.log_records(1)[0]["pointsman.end"] == "upgrade_failed"


def test_switch_to_another_protocol(pair):
    """RFC 9110 7.8: a server must not switch to what the client did not name."""
    server, target = pair
    target.handler = o.switch_protocols("other")
    assert server.get(host=HOST, headers=ASK).status == 502
    target.handler = o.script(b"HTTP/1.1 101 S\r\n\r\n", lambda r, p: p.wait_closed(),
                              read_body=False)
    assert server.get(host=HOST, headers=ASK).status == 502


def test_upgrade_without_connection_is_no_upgrade(pair):
    server, target = pair
    target.handler = o.echo()
    assert server.get(host=HOST, headers={"Upgrade": "echo"}).status == 200
    assert "upgrade" not in target.last.headers


def test_upgrade_of_a_post_without_content(pair):
    server, _ = pair
    with server.connect() as conn:
        conn.request("POST", host=HOST, headers=ASK, body=b"")
        assert conn.read_head().status == 101
        conn.send(b"x")
        assert read(conn, 1) == b"x"


def test_one_of_several_protocols(pair):
    server, _ = pair
    conn, reply = opened(server, {"Connection": "Upgrade", "Upgrade": "other/2, ECHO"})
    assert reply.headers["upgrade"] == "echo"
    conn.close()


def test_connection_upgrade_over_http10(pair):
    """RFC 9110 7.8: ignored in an HTTP/1.0 request."""
    server, target = pair
    target.handler = o.echo()
    assert server.get(host=HOST, headers=ASK, version="HTTP/1.0").status == 200
    assert "upgrade" not in target.last.headers


def test_tunnel_outlives_its_route(pair):
    server, target = pair
    server.put_pool("p", [target])
    server.put_route("b.example", pool="p", timeouts={"tunnel_idle": "300s"})
    conn = Connection(("127.0.0.1", server.port))
    conn.request(host="b.example", headers=ASK)
    assert conn.read_head().status == 101
    server.delete_route("b.example")
    server.delete_pool("p")
    conn.send(b"x")
    assert read(conn, 1) == b"x"
    conn.close()


# --- WebSocket ---


def test_websockets_client_with_scripted_server(pair):
    server, target = pair
    target.handler = o.websocket_echo()

    async def talk():
        async with websockets.connect(f"ws://127.0.0.1:{server.port}/chat") as socket:
            for message in ("hello", "x" * 70000, b"\x00\x01", ""):
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())

    server.put_route("127.0.0.1", targets=[target])
    asyncio.run(asyncio.wait_for(talk(), 10))
    assert target.last.target == "/chat"


def test_websockets_client_and_server(pointsman):
    server = pointsman()

    async def talk():
        async def serve(socket):
            async for message in socket:
                await socket.send(message)

        async with websockets.serve(serve, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            server.put_route("127.0.0.1", targets=[f"127.0.0.1:{port}"])
            async with websockets.connect(f"ws://127.0.0.1:{server.port}/") as socket:
                data = bytes(range(256)) * 4000
                for _ in range(5):
                    await socket.send(data)
                    assert await socket.recv() == data
            many = [await websockets.connect(f"ws://127.0.0.1:{server.port}/") for _ in range(50)]
            for i, socket in enumerate(many):
                await socket.send(str(i))
            assert [await socket.recv() for socket in many] == [str(i) for i in range(50)]
            for socket in many:
                await socket.close()
                assert socket.close_code == 1000

    asyncio.run(asyncio.wait_for(talk(), 20))
    wait_until(lambda: server.metrics()["pointsman_tunnels"] == 0, "all tunnels ended")
