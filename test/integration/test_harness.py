# SPDX-License-Identifier: MIT
"""The harness itself: its origin and its client, against each other and against real programs."""
import asyncio
import hashlib
import subprocess

import httpx
import pytest
import websockets

from support import origin as o
from support.http1 import Connection, Malformed, Truncated
from support.net import is_listening, wait_until


def connect(origin):
    return Connection(("127.0.0.1", origin.port))


def test_echo_keeps_every_byte(origin):
    server = origin()
    with connect(server) as conn:
        reply = conn.exchange("POST", "/a?b=c", headers=[("x-CASE", "1"), ("X-Case", "2")],
                              body=b"\x00\xff")
        assert reply.status == 200 and reply.json["method"] == "POST"
        assert reply.json["headers"] == [["Host", "localhost"], ["x-CASE", "1"], ["X-Case", "2"],
                                         ["Content-Length", "2"]]
        assert reply.json["body"] == "\x00\xff"
        assert conn.exchange(target="/2").json["connection"] == 0
    assert server.requests[0].raw_head == (
        b"POST /a?b=c HTTP/1.1\r\nHost: localhost\r\nx-CASE: 1\r\nX-Case: 2\r\n"
        b"Content-Length: 2\r\n\r\n")
    assert server.connection_count == 1
    wait_until(lambda: server.open_count == 0, "the connection closed")


def test_chunked_and_interim(origin):
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    server = origin(o.respond(200, body=b"x" * 10000, chunked=True, trailers=[("X-End", "yes")],
                              interim=[early]))
    with connect(server) as conn:
        conn.request("POST", headers={"Transfer-Encoding": "chunked"}, body=(
            b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n"))
        reply = conn.read_response()
    assert reply.body == b"x" * 10000 and reply.trailers == [("X-End", "yes")]
    assert [r.status for r in reply.interim] == [103]
    assert server.last.body == b"abc0123456789" and server.last.trailers == [("X-T", "1")]


def test_cut_responses(origin):
    server = origin()
    server.on("/length", o.script(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", o.CLOSE))
    server.on("/chunked", o.script(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", o.CLOSE))
    server.on("/reset", o.script(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 0.01, o.RESET))
    server.on("/nothing", o.script(o.CLOSE))
    server.on("/whole", o.respond(body="abc", length=False))
    for path in ("/length", "/chunked"):
        with connect(server) as conn:
            reply = conn.exchange(target=path, allow_truncated=True)
            assert not reply.complete and reply.body == b"abc"
    for path in ("/length", "/chunked", "/reset", "/nothing"):
        with connect(server) as conn, pytest.raises(Truncated):
            conn.exchange(target=path)
    with connect(server) as conn:
        assert conn.exchange(target="/whole").body == b"abc"


def test_client_refuses_malformed(origin):
    server = origin(o.sequence(
        o.script(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        o.script(b"HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\na"),
        o.script(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"),
        o.script(b"HTTP/2 200 OK\r\n\r\n")))
    for _ in range(4):
        with connect(server) as conn, pytest.raises(Malformed):
            conn.exchange()


def test_origin_reports_malformed(origin):
    server = origin()
    with connect(server) as conn:
        conn.send(b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n")
        assert conn.is_closed_by_peer()
    assert "bare CR or LF" in server.faults[0]
    server.faults.clear()


def test_stream_and_hash(origin):
    big = o.stream(5_000_000)
    server = origin(big)
    with connect(server) as conn:
        reply = conn.exchange("PUT", body=b"u" * 3_000_000)
    assert len(reply.body) == 5_000_000
    assert all(reply.body[i] == i % 251 for i in range(0, 5_000_000, 9973))
    assert server.last.body_sha256 == hashlib.sha256(b"u" * 3_000_000).hexdigest()
    server.handler = o.stream(300_000, chunked=True)
    with connect(server) as conn:
        assert conn.exchange().body == reply.body[:300_000]


def test_restart_and_refuse(origin):
    server = origin()
    with connect(server) as conn:
        assert conn.exchange().status == 200
        server.stop()
        assert conn.is_closed_by_peer()
    assert not is_listening(server.port)
    server.start()
    with connect(server) as conn:
        assert conn.exchange().status == 200


def test_unix_origin(origin):
    server = origin(unix=True)
    with Connection(str(server.unix_path)) as conn:
        assert conn.exchange().json["origin"] == "origin0"


def test_hang_ends_with_its_client(origin):
    server = origin(o.hang())
    with connect(server) as conn:
        conn.request()
        server.wait_requests(1)
    wait_until(lambda: server.open_count == 0, "the connection closed")


def test_tunnels(origin):
    server = origin(o.websocket_echo())
    server.on("/raw", o.switch_protocols())
    with connect(server) as conn:
        conn.request(target="/raw", headers={"Connection": "Upgrade", "Upgrade": "echo"})
        assert conn.read_response().status == 101
        conn.send(b"ping")
        assert conn.wire.some(4) == b"ping"
        conn.finish_sending()
        assert conn.is_closed_by_peer()

    async def talk():
        async with websockets.connect(f"ws://127.0.0.1:{server.port}/ws") as ws:
            for message in ("a", "b" * 70000, b"\x00\x01", ""):
                await ws.send(message)
                assert await ws.recv() == message
            await (await ws.ping())

    asyncio.run(talk())


def test_real_clients(origin):
    server = origin()
    assert httpx.get(f"http://{server.address}/x").json()["target"] == "/x"
    done = subprocess.run(["curl", "-sS", "--data-binary", "abc", f"http://{server.address}/y"],
                          capture_output=True, check=True, timeout=60)
    assert b'"body": "abc"' in done.stdout


def test_nginx(nginx_origin):
    server = nginx_origin("location = /more { return 204; }")
    (server.folder / "html" / "file.txt").write_text("a file")
    assert httpx.get(f"http://{server.address}/hello").text == "hello from nginx\n"
    assert httpx.get(f"http://{server.address}/file.txt").text == "a file"
    assert httpx.get(f"http://{server.address}/more").status_code == 204


def test_node(node_origin):
    server = node_origin()
    assert httpx.post(f"http://{server.address}/x", content=b"abc").json()["body"] == "abc"
    with connect(server) as conn:
        reply = conn.exchange(target="/stream")
        assert reply.body.count(b"\n") == 100 and reply.trailers == [("X-End", "yes")]
