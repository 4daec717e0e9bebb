# SPDX-License-Identifier: MIT
"""HTTP/2 in front: requests, bodies, flow control, WebSockets, what is refused, what is too much."""
import json
import os
import struct
import subprocess
import threading
import time

import pytest

from support import h2 as h
from support import origin as o
from support.h2 import H2Client, RawH2, frame
from support.net import PATIENCE, wait_until
from support.tls import TlsConnection, client_context

HOST = "localhost"


@pytest.fixture
def site(pointsman, origin, certs):
    server, target = pointsman(https=True), origin()
    certificate = certs.issue([HOST])
    server.put_certificate("l", certificate.chain, certificate.key)
    server.put_route(HOST, targets=[target])
    return server, target


def port_of(server, tls):
    return server.https_port if tls else server.port


@pytest.mark.parametrize("tls", [True, False])
def test_request(site, tls):
    server, target = site
    with H2Client(port_of(server, tls), tls) as client:
        reply = client.get("/a/b?c=d", headers=[("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2")])
        assert reply.status == 200
        seen = json.loads(reply.body)
        assert seen["method"] == "GET" and seen["target"] == "/a/b?c=d"
        assert target.last.headers["x-a"] == "1"
        assert target.last.headers.getall("cookie") == ["a=1; b=2"]
        assert target.last.headers["host"] == HOST
        assert target.last.headers["x-forwarded-proto"] == ("https" if tls else "http")
        assert "2.0 pointsman" in target.last.headers["via"]
        assert reply.get("connection") is None and reply.get("transfer-encoding") is None
    record = server.log_records(1)[0]
    assert record["http.version"] == "2"
    assert record.get("tls.version") == ("1.3" if tls else None)


def test_many_streams_at_once(site):
    server, target = site
    with H2Client(server.https_port) as client:
        streams = [client.request(path=f"/{i}") for i in range(100)]
        for i, reply in enumerate(client.read(*streams)):
            assert reply.status == 200 and json.loads(reply.body)["target"] == f"/{i}"


def test_bodies_and_trailers(site):
    server, target = site
    body = os.urandom(1 << 20)
    with H2Client(server.https_port) as client:
        assert client.get(method="POST", body=body).status == 200
        assert target.last.body == body
        stream = client.request("POST", headers=[("te", "trailers"), ("content-length", "5")], end=False)
        client.send(stream, b"hello", end=True)
        assert client.read(stream)[0].status == 200
        assert target.last.headers["content-length"] == "5"
        target.handler = o.respond(body=body)
        assert client.get().body == body
        target.handler = o.respond(body=b"x" * 10)
        reply = client.get(method="HEAD")
        assert (reply.status, reply.get("content-length"), reply.body) == (200, "10", b"")


def test_backpressure_is_per_stream(site):
    """A stream that is not read does not hold up the others, and does not fill the memory."""
    server, target = site
    target.on("/big", o.respond(body=b"x" * (8 << 20)))
    with RawH2(server.https_port) as client:
        client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, 1, client.head("/big")))
        time.sleep(0.5)
        client.send(frame(h.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)))
        client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, 3, client.head("/")))
        assert client.status(3) == 200
        assert server.memory() < 400 << 20


@pytest.mark.parametrize("tls", [True, False])
def test_websocket(site, tls):
    """RFC 8441."""
    server, target = site
    target.on("/", o.websocket_echo())
    target.on("/other", o.echo())
    with H2Client(port_of(server, tls), tls) as client:
        while not client.conn.remote_settings.enable_connect_protocol:
            client.step()
        stream = client.request("CONNECT", extra=[(":protocol", "websocket"),
                                                  ("sec-websocket-version", "13")], end=False)
        while client.replies[stream].status is None:
            client.step()
        assert client.replies[stream].status == 200
        assert target.last.headers["upgrade"] == "websocket"
        client.send(stream, b"\x81\x82\0\0\0\0ok")
        while len(client.replies[stream].body) < 4:
            client.step()
        assert client.replies[stream].body == b"\x81\x02ok"
        assert client.get("/other").status == 200  # other streams go on
        client.conn.end_stream(stream)
        client.flush()
        client.read(stream)


def test_goaway_on_drain(site):
    server, target = site
    gate = threading.Event()
    target.on("/slow", lambda request, peer: (gate.wait(PATIENCE), o.respond(body=b"done")(request, peer))[1])
    server.config["timeouts"]["drain"] = "60s"
    server.restart()
    with RawH2(server.https_port) as client:
        client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, 1, client.head("/slow")))
        wait_until(lambda: any(r.target == "/slow" for r in target.requests), "it is under way")
        server.signal(15)
        end = time.monotonic() + PATIENCE
        while client.goaway is None and time.monotonic() < end:
            client.poll(0.1)
        assert client.goaway == h.NO_ERROR
        gate.set()
        assert client.wait(h.DATA, 1) == b"done"
        assert client.status(1) == 200
        assert client.read_to_end()
    server.wait_exit()


# ---- what is refused ----

BAD_HEADS = {
    "upper case": [("X-Upper", "1")],
    "connection": [("connection", "close")],
    "transfer-encoding": [("transfer-encoding", "chunked")],
    "te": [("te", "gzip")],
    "upgrade": [("upgrade", "h2c")],
    "proxy-connection": [("proxy-connection", "close")],
    "CR": [("x-a", "a\rb")],
    "LF": [("x-a", "a\r\nX-B: 1")],
    "NUL": [("x-a", "a\0b")],
    "space in front": [("x-a", " a")],
    "empty name": [("", "a")],
    "colon in name": [("x:a", "a")],
    "space in name": [("x a", "a")],
    "newline in name": [("x\na", "a")],
    "two lengths": [("content-length", "1"), ("content-length", "2")],
    "bad length": [("content-length", "+1")],
    "late pseudo": [("x-a", "1"), (":path", "/b")],
    "unknown pseudo": [(":who", "me")],
    "response pseudo": [(":status", "200")],
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_fields_are_refused(site, name):
    """RFC 9113 8.2, 8.3: the stream is refused, nothing reaches the target, the others go on."""
    server, target = site
    with RawH2(server.https_port) as client:
        client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, 1,
                          client.head(more=BAD_HEADS[name])))
        client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, 3, client.head("/good")))
        reset, status = None, None
        if client.status(3) is None:
            assert client.goaway is not None
        client.wait_any(lambda kind, stream: stream == 1 and kind in (h.RST_STREAM, h.HEADERS))
        for kind, _, stream, payload in client.frames:
            if stream == 1 and kind == h.RST_STREAM:
                reset = payload
            if stream == 1 and kind == h.HEADERS:
                status = payload
        assert reset is not None or status is not None or client.goaway is not None
    assert [r.target for r in target.requests if r.target != "/good"] == []


BAD_PSEUDO = [
    [(":scheme", "https"), (":authority", HOST), (":path", "/")],
    [(":method", "GET"), (":authority", HOST), (":path", "/")],
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST)],
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "")],
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "x")],
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/"), (":path", "/b")],
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/a b")],
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/a\r\nX: y")],
    [(":method", "GE T"), (":scheme", "https"), (":authority", HOST), (":path", "/")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "user@" + HOST), (":path", "/")],
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/"), ("host", "other")],
    [(":method", "CONNECT"), (":authority", HOST + ":80")],
]


@pytest.mark.parametrize("number", range(len(BAD_PSEUDO)))
def test_pseudo_fields_are_refused(site, number):
    server, target = site
    with RawH2(server.https_port) as client:
        client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, 1, client.block(BAD_PSEUDO[number])))
        client.wait_any(lambda kind, stream: stream == 1 or kind == h.GOAWAY)
        answers = [f for f in client.frames if f[2] == 1 or f[0] == h.GOAWAY]
        assert answers, "no answer"
        for kind, _, _, _ in answers:
            if kind == h.HEADERS:
                assert client.statuses[1] >= 400
    assert target.requests == []


def test_length_must_be_the_bodys(site):
    """More or fewer bytes than content-length says: the stream is reset, the target never gets a whole
    request."""
    server, target = site
    for length, body in (("3", b"hello"), ("9", b"hello")):
        with RawH2(server.https_port) as client:
            client.send(frame(h.HEADERS, h.END_HEADERS, 1,
                              client.head(method="POST", more=[("content-length", length)])))
            client.send(frame(h.DATA, h.END_STREAM, 1, body))
            client.wait_any(lambda kind, _: kind in (h.RST_STREAM, h.GOAWAY))
            assert any(kind in (h.RST_STREAM, h.GOAWAY) for kind, _, stream, _ in client.frames)
    for request in target.requests:  # its head may have gone ahead
        assert len(request.body) < int(request.headers["content-length"])


def test_large_heads(site):
    server, _ = site
    with RawH2(server.https_port) as client:
        more = [(f"x-{i}", "v" * 1000) for i in range(40)]
        block = client.head(more=more)
        client.send(frame(h.HEADERS, h.END_STREAM, 1, block[:16000]))
        rest = block[16000:]
        while rest:
            piece, rest = rest[:16000], rest[16000:]
            client.send(frame(h.CONTINUATION, 0 if rest else h.END_HEADERS, 1, piece))
        assert client.status(1) == 431
    with H2Client(server.https_port) as client:
        assert client.get(headers=[(f"x-{i}", "v") for i in range(150)]).status == 431
        assert client.get().status == 200


# ---- what is too much ----


def attack(server, send, counter, seconds=PATIENCE, tls=True):
    """Runs `send(client, i)` until the connection is ended; it must be, soon, with a reason that is
    counted, while others are served and memory stays."""
    before, memory = server.metrics().get(f"pointsman_h2_{counter}_total", 0), server.memory()
    cpu = server.cpu_seconds()
    with H2Client(server.https_port) as other, RawH2(port_of(server, tls), tls) as client:
        end, i = time.monotonic() + seconds, 0
        while not client.ended and time.monotonic() < end and i < 200_000:
            if not send(client, i):
                break
            i += 1
            if i % 50 == 0:
                client.poll()
        assert client.read_to_end(), f"still open after {i} rounds"
        assert other.get().status == 200
        counted = {k: v for k, v in server.metrics().items() if k.startswith("pointsman_h2_") and v}
        assert counted.get(f"pointsman_h2_{counter}_total", 0) > before, (counted, i, client.goaway)
        assert server.memory() - memory < 64 << 20
        assert server.cpu_seconds() - cpu < 30  # of the sanitized program, also on a slow machine
        return client, i


def test_rapid_reset(site):
    """CVE-2023-44487."""
    server, _ = site

    def send(client, i):
        stream = 2 * i + 1
        return client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, stream, client.head()) +
                           frame(h.RST_STREAM, 0, stream, struct.pack(">I", 8)))

    client, rounds = attack(server, send, "rapid_reset")
    assert client.goaway in (h.ENHANCE_YOUR_CALM, None)
    assert rounds < 20_000


def test_made_you_reset(site):
    """CVE-2025-8671: errors that make the server reset."""
    server, _ = site

    def send(client, i):
        stream = 2 * i + 1
        return client.send(frame(h.HEADERS, h.END_HEADERS, stream, client.head(method="POST")) +
                           frame(h.WINDOW_UPDATE, 0, stream, struct.pack(">I", 0x7FFFFFFF)))

    def send_slowly(client, i):  # or there would be more streams at once than are allowed
        client.poll(0.01)
        return send(client, i)

    attack(server, send_slowly, "rapid_reset")


def test_resets_by_trailers(site):
    """The same by trailers that are too large."""
    server, _ = site

    def send(client, i):
        stream = 2 * i + 1
        return client.send(
            frame(h.HEADERS, h.END_HEADERS, stream, client.head(method="POST")) +
            frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, stream,
                  client.block([(f"x-{j}", "b") for j in range(120)])))

    attack(server, send, "header_bomb")


def test_resets_between_cheap_answers(site):
    """Answers of our own do not pay for resets one for one."""
    server, target = site
    gate = threading.Event()
    target.on("/held", lambda request, peer: (gate.wait(PATIENCE), o.respond()(request, peer))[1])

    def send(client, i):
        first, second = 4 * i + 1, 4 * i + 3
        return client.send(
            frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, first,
                  client.head("/", "unknown.example", "HEAD")) +
            frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, second, client.head("/held")) +
            frame(h.RST_STREAM, 0, second, struct.pack(">I", 8)))

    try:
        attack(server, send, "rapid_reset")
    finally:
        gate.set()


def test_connect_that_is_answered_like_a_get(site):
    """A 2xx of a target that knows no WebSocket must not say that the tunnel is open."""
    server, target = site
    target.handler = o.respond(body=b"no socket here")
    with H2Client(server.https_port) as client:
        while not client.conn.remote_settings.enable_connect_protocol:
            client.step()
        stream = client.request("CONNECT", extra=[(":protocol", "websocket")], end=False)
        assert client.read(stream)[0].status == 502
        server.put_route(HOST, respond={"status": 200, "body": "x"})
        stream = client.request("CONNECT", extra=[(":protocol", "websocket")], end=False)
        assert client.read(stream)[0].status == 501


def test_continuation_flood(site):
    """CVE-2024-27316."""
    server, _ = site

    def send(client, i):
        if i == 0:
            return client.send(frame(h.HEADERS, h.END_STREAM, 1, client.head()))
        return client.send(frame(h.CONTINUATION, 0, 1, client.block([(f"x-{i}", "v" * 100)])))

    _, rounds = attack(server, send, "continuation")
    assert rounds < 5000


@pytest.mark.parametrize("payload", [
    frame(h.SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)), frame(h.PING, 0, 0, b"12345678"),
    frame(h.PRIORITY, 0, 1, b"\0\0\0\0\x10"), frame(0x42, 0, 0, b"unknown"),
], ids=["settings", "ping", "priority", "unknown"])
def test_control_flood(site, payload):
    server, _ = site
    attack(server, lambda client, i: client.send(payload * 20), "control_flood")


def test_empty_frames(site):
    """CVE-2019-9518."""
    server, _ = site

    def send(client, i):
        if i == 0:
            return client.send(frame(h.HEADERS, h.END_HEADERS, 1, client.head(method="POST")))
        return client.send(frame(h.DATA, 0, 1) * 20)

    attack(server, send, "empty_frames")


def test_header_bomb(site):
    """One large field in the dynamic table, named again and again."""
    server, _ = site

    def send(client, i):
        stream = 2 * i + 1
        large = ("x-bomb", "v" * 3900)
        return client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, stream,
                                 client.head(more=[large] * 200)))

    attack(server, send, "header_bomb")


def test_zero_window(pointsman, origin, certs):
    """A client that never gives window holds its streams only for so long."""
    server, target = pointsman({"timeouts": {"response": "4s"}}, https=True), origin()
    target.handler = o.respond(body=b"x" * 300_000)
    certificate = certs.issue([HOST])
    server.put_certificate("l", certificate.chain, certificate.key)
    server.put_route(HOST, targets=[target])
    with RawH2(server.https_port, settings=struct.pack(">HI", 4, 0)) as client:
        for stream in range(1, 41, 2):
            client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, stream, client.head()))
        wait_until(lambda: server.metrics()["pointsman_h2_stalled_total"] >= 20, "all are ended")
    with H2Client(server.https_port) as other:
        assert other.get().status == 200


def test_first_bytes_that_are_no_preface(site):
    server, _ = site
    context = client_context(alpn=("h2",))
    with TlsConnection(server.https_port, HOST, context) as conn:
        conn.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert conn.read_to_end() is not None
    reply = server.raw(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
    assert reply[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 505")


# ---- real clients ----


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)


def test_nghttp(site):
    server, target = site
    done = run("nghttp", "-v", f"https://localhost:{server.https_port}/x")
    assert done.returncode == 0 and ":status: 200" in done.stdout, done.stdout + done.stderr
    done = run("nghttp", "-v", f"http://localhost:{server.port}/x")
    assert done.returncode == 0 and ":status: 200" in done.stdout, done.stdout + done.stderr


def test_h2load(site):
    server, target = site
    target.handler = o.respond(body=b"x" * 1000)
    for url in (f"https://localhost:{server.https_port}/", f"http://localhost:{server.port}/"):
        done = run("h2load", "-n", "2000", "-c", "5", "-m", "20", url)
        assert "2000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout


def test_priorities_are_taken(site):
    """RFC 9218: the urgent response is not behind the large one."""
    server, target = site
    target.on("/big", o.respond(body=b"x" * (2 << 20)))
    target.on("/urgent", o.respond(body=b"u" * 1000))
    with H2Client(server.https_port) as client:
        big = client.request(path="/big", headers=[("priority", "u=7")])
        urgent = client.request(path="/urgent", headers=[("priority", "u=0")])
        client.read(urgent)
        assert not client.replies[big].ended
        client.read(big)
        assert len(client.replies[big].body) == 2 << 20
