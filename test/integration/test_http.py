# SPDX-License-Identifier: MIT
"""HTTP/1 between a client and a target, through a running proxy: framing, interim responses, ends."""
import hashlib
import socket
import threading
import time

import pytest

from support import origin as o
from support.http1 import Connection, Truncated
from support.net import PATIENCE, wait_until

HOST = "a.example"
HUNDRED_MB = 100 * 1000 * 1000


@pytest.fixture
def pair(pointsman, origin):
    """(server, target, a connection): HOST is routed to the target, as is "*"."""
    server, target = pointsman(), origin()
    server.put_route(HOST, targets=[target])
    server.put_route("*", targets=[target])
    with server.connect() as conn:
        yield server, target, conn


def ends(server, count):
    """The end reasons of the access log, when there are `count` records."""
    return [record["pointsman.end"] for record in server.log_records(count)]


# --- requests ---


def test_keep_alive_on_both_sides(pair):
    _, target, conn = pair
    for i in range(50):
        reply = conn.exchange(target=f"/{i}", host=HOST, body=b"x" * i if i % 2 else None)
        assert reply.json["target"] == f"/{i}" and reply.json["body_len"] == (i if i % 2 else 0)
        assert reply.version == "HTTP/1.1" and "connection" not in reply.headers
    assert target.connection_count == 1


def test_connection_close(pair):
    _, target, conn = pair
    reply = conn.exchange(host=HOST, headers={"Connection": "close"})
    assert reply.headers["connection"] == "close" and conn.is_closed_by_peer()
    assert "connection" not in target.last.headers


@pytest.mark.parametrize("count", [2, 100])
def test_pipelining(pair, count):
    _, target, conn = pair
    request = b"POST /%d HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\n%03d"
    data = b"".join(request % (i, i) for i in range(count))
    conn.send(data)
    for i in range(count):
        reply = conn.read_response()
        assert reply.json["target"] == f"/{i}" and reply.json["body"] == f"{i:03d}"
    assert [r.target for r in target.requests] == [f"/{i}" for i in range(count)]


def test_pipelined_behind_a_chunked_body(pair):
    _, _, conn = pair
    conn.send(b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"3\r\nabc\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert conn.read_response().json["body"] == "abc"
    assert conn.read_response().json["target"] == "/b"


def test_pipelined_behind_a_close(pair):
    _, target, conn = pair
    conn.send(b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
              b"GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert conn.read_response().json["target"] == "/a"
    assert conn.is_closed_by_peer()
    assert [r.target for r in target.requests] == ["/a"]


def test_http10(pair):
    _, target, conn = pair
    reply = conn.exchange(host=HOST, version="HTTP/1.0")
    assert reply.status == 200 and reply.headers["connection"] == "close"
    assert conn.is_closed_by_peer()
    assert target.last.version == "HTTP/1.1"
    assert target.last.headers["via"] == "1.0 pointsman"


def test_http10_keep_alive(pair):
    _, target, conn = pair
    for i in range(5):
        reply = conn.exchange(target=f"/{i}", host=HOST, version="HTTP/1.0",
                              headers={"Connection": "keep-alive"})
        assert reply.headers["connection"] == "keep-alive" and reply.json["target"] == f"/{i}"
    assert target.connection_count == 1


def test_http10_without_host_goes_to_the_asterisk(pair):
    server, target, conn = pair
    assert conn.exchange(host=None, version="HTTP/1.0").status == 200
    assert target.last.headers["host"] == target.address
    server.delete_route("*")
    with server.connect() as again:
        assert again.exchange(host=None, version="HTTP/1.0").status == 404


def test_head(pair):
    _, target, conn = pair
    target.on("/length", o.respond(body=b"x" * 1234))
    target.on("/chunked", o.respond(body=b"x" * 1234, chunked=True))
    target.on("/none", o.script(b"HTTP/1.1 200 OK\r\nX-None: 1\r\n\r\n", keep=True))
    reply = conn.exchange("HEAD", "/length", HOST)
    assert reply.headers["content-length"] == "1234" and reply.body == b""
    reply = conn.exchange("HEAD", "/chunked", HOST)
    assert reply.status == 200 and "content-length" not in reply.headers
    reply = conn.exchange("HEAD", "/none", HOST)
    assert reply.headers["x-none"] == "1" and "content-length" not in reply.headers
    assert conn.exchange(target="/", host=HOST).status == 200  # the connection is in step
    assert target.connection_count == 1


def test_no_content_and_not_modified(pair):
    _, target, conn = pair
    target.on("/204", o.respond(204))
    target.on("/304", o.script(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n"
                               b"Content-Length: 77\r\n\r\n", keep=True))
    reply = conn.exchange(target="/204", host=HOST)
    assert reply.status == 204 and "content-length" not in reply.headers
    reply = conn.exchange(target="/304", host=HOST)
    assert reply.status == 304 and reply.headers["etag"] == '"a"'
    assert reply.headers.get("content-length") in (None, "77")
    assert conn.exchange(host=HOST).status == 200
    assert target.connection_count == 1


def test_options_asterisk(pair):
    _, target, conn = pair
    assert conn.exchange("OPTIONS", "*", HOST).json["target"] == "*"
    assert target.last.method == "OPTIONS" and target.last.headers["host"] == HOST


def test_absolute_form_wins_over_host(pair, origin):
    server, _, conn = pair
    other = origin(name="other")
    server.put_route("b.example", targets=[other])
    reply = conn.exchange(target="http://b.example:81/x?y", host=HOST)
    assert reply.json["origin"] == "other" and reply.json["target"] == "/x?y"
    assert other.last.headers.getall("host") == ["b.example:81"]


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_connect_and_trace_are_refused(pair, method):
    _, target, conn = pair
    conn.request(method, "a.example:80" if method == "CONNECT" else "/", HOST)
    reply = conn.read_response()
    assert reply.status == 405 and "allow" in reply.headers and conn.is_closed_by_peer()
    assert target.requests == []


def test_chunked_request_with_trailers(pair):
    _, target, conn = pair
    conn.send(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n"
              b"Trailer: X-Sum\r\n\r\n")
    conn.send(b"5;ext=\"a\"\r\nhello\r\n")
    target.wait_requests(1)  # it is not waited for
    conn.send(b"6\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n")
    reply = conn.read_response()
    assert reply.json["body"] == "hello world" and reply.json["trailers"] == [["X-Sum", "42"]]
    assert target.last.headers.getall("transfer-encoding") == ["chunked"]
    assert "content-length" not in target.last.headers


def test_trailers_cannot_bring_framing_or_forwarding(pair):
    _, target, conn = pair
    conn.send(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"2\r\nhi\r\n")
    target.wait_requests(1)
    conn.send(b"0\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 7\r\nHost: evil\r\n"
              b"Transfer-Encoding: chunked\r\nX-Ok: 1\r\n\r\n")
    reply = conn.read_response()
    if reply.status == 200:
        assert [n.lower() for n, _ in reply.json["trailers"]] == ["x-ok"]
    else:
        assert reply.status == 400


# --- 1xx ---


def test_expect_is_passed_on(pair):
    _, target, conn = pair
    conn.request("PUT", "/", HOST, {"Expect": "100-continue", "Content-Length": "5"})
    assert conn.read_head().status == 100
    assert target.last.headers["expect"] == "100-continue" and not target.last.complete
    conn.send(b"hello")
    assert conn.read_response().json["body"] == "hello"
    assert conn.exchange(host=HOST).status == 200


def test_expect_with_a_final_response_instead(pair):
    server, target, conn = pair
    target.handler = o.script(o.encode_response(401, body="no"), read_body=False)
    conn.request("POST", "/", HOST, {"Expect": "100-continue", "Content-Length": "5"})
    reply = conn.read_response()
    assert reply.status == 401 and reply.interim == []
    # Whether the body comes now is anybody's guess, so the connection must not be used again.
    assert reply.headers["connection"] == "close"
    assert ends(server, 1) == ["done"]


def test_expect_when_the_body_is_buffered_here(pair):
    server, target, conn = pair
    server.put_route(HOST, targets=[target], buffer_request="1m")
    conn.request("PUT", "/", HOST, {"Expect": "100-continue", "Content-Length": "5"})
    assert conn.read_head().status == 100  # nobody else could say so
    assert target.requests == []
    conn.send(b"hello")
    assert conn.read_response().json["body"] == "hello"


def test_expect_of_http10_is_ignored(pair):
    _, _, conn = pair
    conn.request("POST", "/", HOST, {"Expect": "100-continue"}, b"hello", "HTTP/1.0")
    reply = conn.read_response()
    assert reply.interim == [] and reply.json["body"] == "hello"


def test_interim_responses(pair):
    _, target, conn = pair
    interim = [b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
               b"HTTP/1.1 102 Processing\r\n\r\n",
               b"HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n"]
    target.handler = o.respond(body="done", interim=interim)
    for _ in range(2):
        reply = conn.exchange(host=HOST)
        assert [r.status for r in reply.interim] == [103, 102, 103]
        assert reply.interim[0].headers["link"] == "</a.css>; rel=preload"
        assert reply.body == b"done"
    for head in reply.interim:
        assert "content-length" not in head.headers and "connection" not in head.headers


def test_many_interim_responses(pair):
    """They take no memory that would be missing for the answer; an endless row of them is a fault."""
    _, target, conn = pair
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: <" + b"a" * 3000 + b">\r\n\r\n"
    target.handler = o.respond(body="done", interim=[interim] * 900)
    reply = conn.exchange(host=HOST)
    assert reply.status == 200 and len(reply.interim) == 900 and reply.body == b"done"
    target.handler = o.respond(body="done", interim=[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 1100)
    reply = conn.exchange(host=HOST)
    assert reply.status == 502 and len(reply.interim) == 1000


def test_no_interim_responses_to_http10(pair):
    _, target, conn = pair
    interim = [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]
    target.handler = o.respond(body="done", interim=interim)
    reply = conn.exchange(host=HOST, version="HTTP/1.0")
    assert reply.interim == [] and reply.body == b"done"


# --- responses ---


def test_chunked_response_with_trailers(pair):
    _, target, conn = pair
    target.handler = o.respond(body=b"x" * 10000, chunked=True, trailers=[("X-Sum", "42")],
                               headers={"Trailer": "X-Sum"})
    reply = conn.exchange(host=HOST, headers={"TE": "trailers", "Connection": "TE"})
    assert reply.body == b"x" * 10000 and reply.trailers == [("X-Sum", "42")]
    assert target.last.headers["te"] == "trailers"
    reply = conn.exchange(host=HOST)
    assert reply.body == b"x" * 10000 and reply.trailers == []
    assert "te" not in target.last.headers
    assert target.connection_count == 1


def test_close_delimited_response(pair):
    _, target, conn = pair
    target.handler = o.respond(body=b"x" * 100000, length=False, close=True)
    reply = conn.exchange(host=HOST)
    assert reply.headers["transfer-encoding"] == "chunked" and reply.body == b"x" * 100000
    assert conn.exchange(host=HOST).body == b"x" * 100000
    reply = conn.exchange(host=HOST, version="HTTP/1.0")
    assert "transfer-encoding" not in reply.headers and reply.body == b"x" * 100000
    assert reply.headers["connection"] == "close"


def test_chunked_response_to_http10(pair):
    _, target, conn = pair
    target.handler = o.respond(body=b"x" * 5000, chunked=True)
    reply = conn.exchange(host=HOST, version="HTTP/1.0", headers={"Connection": "keep-alive"})
    assert "transfer-encoding" not in reply.headers and "content-length" not in reply.headers
    assert reply.headers["connection"] == "close" and reply.body == b"x" * 5000


def test_response_of_http10_origin(pair):
    _, target, conn = pair
    target.handler = o.respond(body=b"old", version="HTTP/1.0", close=True)
    reply = conn.exchange(host=HOST)
    assert reply.version == "HTTP/1.1" and reply.body == b"old"
    assert reply.headers["via"] == "1.0 pointsman"
    assert conn.exchange(host=HOST).body == b"old"
    assert target.connection_count == 2


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1000000])
@pytest.mark.parametrize("chunked", [False, True])
def test_sizes(pair, size, chunked):
    _, target, conn = pair
    body = o.stream.PATTERN * (size // len(o.stream.PATTERN) + 1)
    body = body[:size]
    target.handler = o.respond(body=body, chunked=chunked)
    if chunked:
        coded = b"%x\r\n%s\r\n" % (size, body) if size else b""
        reply = conn.exchange("POST", "/", HOST, {"Transfer-Encoding": "chunked"},
                              coded + b"0\r\n\r\n")
    else:
        reply = conn.exchange("POST", "/", HOST, body=body)
    assert reply.body == body and target.last.body == body


# --- streaming ---


def expected_hash(total):
    digest, at, pattern = hashlib.sha256(), 0, o.stream.PATTERN
    while at < total:
        part = pattern[:total - at]
        digest.update(part)
        at += len(part)
    return digest.hexdigest()


@pytest.mark.parametrize("chunked", [False, True])
def test_large_download_in_bounded_memory(pair, chunked):
    server, target, conn = pair
    source = o.stream(HUNDRED_MB, chunked)
    target.handler = source
    before = server.memory()
    conn.request(host=HOST)
    head = conn.read_head()
    digest, count, most = hashlib.sha256(), 0, 0
    for piece in conn.iter_body(head):
        digest.update(piece)
        count += 1
        if count % 200 == 0:
            most = max(most, server.memory())
    assert digest.hexdigest() == expected_hash(HUNDRED_MB)
    assert most - before < 20 << 20, f"{before} {most}"


@pytest.mark.parametrize("chunked", [False, True])
def test_large_upload_in_bounded_memory(pair, chunked):
    server, target, conn = pair
    before = server.memory()
    block = o.stream.PATTERN
    blocks = HUNDRED_MB // len(block)
    framing = {"Transfer-Encoding": "chunked"} if chunked else {
        "Content-Length": str(blocks * len(block))}
    conn.request("POST", "/", HOST, framing)
    most, data = 0, b"%x\r\n%s\r\n" % (len(block), block) if chunked else block
    for i in range(blocks):
        conn.send(data)
        if i % 200 == 0:
            most = max(most, server.memory())
    conn.send(b"0\r\n\r\n" if chunked else b"")
    assert conn.read_response().json["body_len"] == blocks * len(block)
    assert target.last.body_sha256 == expected_hash(blocks * len(block))
    assert most - before < 20 << 20, f"{before} {most}"


def grows_no_more(value, timeout=PATIENCE):
    """Waits until value() > 0 stays the same for three seconds; returns it."""
    deadline, last, since = time.monotonic() + timeout, -1, time.monotonic()
    while time.monotonic() < deadline:
        now = value()
        if now != last:
            last, since = now, time.monotonic()
        elif now > 0 and time.monotonic() - since > 3:
            return now
        time.sleep(0.02)
    raise AssertionError(f"still growing: {last}")


def test_client_that_does_not_read_stops_the_origin(pair):
    server, target, conn = pair
    source = o.stream(HUNDRED_MB)
    target.handler = source
    before = server.memory()
    conn.request(host=HOST)
    assert grows_no_more(lambda: source.sent) < HUNDRED_MB // 2
    assert server.memory() - before < 10 << 20
    reply = conn.read_response()
    assert hashlib.sha256(reply.body).hexdigest() == expected_hash(HUNDRED_MB)


def test_origin_that_does_not_read_stops_the_client(pair):
    server, target, conn = pair
    go = threading.Event()
    sent = [0]

    def wait_and_read(request, peer):
        go.wait(PATIENCE)
        peer.read_body(request)
        return o.echo()(request, peer)

    wait_and_read.reads_body = False
    target.handler = wait_and_read
    before, block, blocks = server.memory(), b"x" * 100000, 500
    conn.request("POST", "/", HOST, {"Content-Length": str(len(block) * blocks)})

    def send():
        for _ in range(blocks):
            conn.send(block)
            sent[0] += len(block)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    assert grows_no_more(lambda: sent[0]) < len(block) * blocks // 2
    assert server.memory() - before < 10 << 20
    go.set()
    thread.join(PATIENCE)
    assert conn.read_response().json["body_len"] == len(block) * blocks


def test_origin_is_free_while_slow_clients_read(pointsman, origin):
    """Up to 64 KiB of a response are taken from the origin at once, so that it is free again."""
    server, target = pointsman(workers=1), origin()
    server.put_route(HOST, targets=[target])
    target.on("/large", o.respond(body=b"x" * 60000))
    slow = []
    for i in range(20):
        conn = Connection(("127.0.0.1", server.port))
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        conn.request(target="/large", host=HOST)
        slow.append(conn)
        target.wait_requests(2 * i + 1)
        assert server.get(host=HOST).status == 200
    assert target.connection_count <= 5
    for conn in slow:  # reading through such a window would take the kernel long
        assert conn.read_head().status == 200
        conn.close()


def test_early_response_then_the_rest_of_the_body(pair):
    server, target, conn = pair
    target.handler = o.script(o.encode_response(200, body="early"), lambda r, p: p.read_body(r),
                              read_body=False, keep=True)
    conn.request("POST", "/", HOST, {"Content-Length": "20"})
    conn.send(b"x" * 10)
    reply = conn.read_response()
    assert reply.body == b"early"
    conn.send(b"x" * 10)
    target.handler = o.echo()
    assert conn.exchange(target="/next", host=HOST).json["target"] == "/next"
    assert ends(server, 2) == ["done", "done"]


def test_early_response_to_an_endless_body(pair):
    _, target, conn = pair
    target.handler = o.script(o.encode_response(413, body="stop"), o.CLOSE, read_body=False)
    conn.request("POST", "/", HOST, {"Content-Length": str(1 << 40)})
    stop = threading.Event()

    def send():
        try:
            while not stop.is_set():
                conn.send(b"x" * 65536)
        except OSError:
            pass

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    reply = conn.read_response()
    assert reply.status == 413 and reply.headers["connection"] == "close"
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_response_while_the_request_goes_on(pair):
    """Both directions at once: the origin answers each piece as it comes."""
    _, target, conn = pair

    def talk(request, peer):
        peer.send(o.encode_response(200, [("Transfer-Encoding", "chunked")], length=False))
        for piece in request.iter_body(peer.wire):
            peer.send(b"%x\r\n%s\r\n" % (len(piece), piece.upper()))
        peer.send(b"0\r\n\r\n")
        return True

    talk.reads_body = False
    target.handler = talk
    conn.request("POST", "/", HOST, {"Transfer-Encoding": "chunked"})
    head = conn.read_head()
    pieces = conn.iter_body(head)
    for word in (b"one", b"two", b"three"):
        conn.send(b"%x\r\n%s\r\n" % (len(word), word))
        assert next(pieces) == word.upper()
    conn.send(b"0\r\n\r\n")
    assert list(pieces) == []


# --- ends ---


def test_fin_after_a_request_cancels_it(pair):
    server, target, conn = pair
    gone = threading.Event()

    def wait(_request, peer):
        if peer.wait_closed():
            gone.set()

    target.handler = wait
    conn.request(host=HOST)
    target.wait_requests(1)
    conn.finish_sending()
    assert gone.wait(10), "the origin's connection was not closed"
    record = server.log_records(1)[0]
    assert record["pointsman.end"] == "client_left"
    assert record["http.response.status_code"] == 499
    assert conn.is_closed_by_peer()
    assert server.metrics()["pointsman_client_gone_total"] == 1


def test_reset_after_a_request_cancels_it(pair):
    server, target, conn = pair
    gone = threading.Event()
    target.handler = lambda _request, peer: peer.wait_closed() and gone.set()
    conn.request(host=HOST)
    target.wait_requests(1)
    conn.reset()
    assert gone.wait(10)
    assert ends(server, 1) == ["client_left"]


def test_fin_while_the_response_comes(pair):
    server, target, conn = pair
    gone = threading.Event()

    def start(_request, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        peer.wait_closed() and gone.set()

    target.handler = start
    conn.request(host=HOST)
    conn.read_head()
    conn.finish_sending()
    assert gone.wait(10)
    assert ends(server, 1) == ["client_left"]
    assert server.log_records(1)[0]["http.response.status_code"] == 200


def test_half_close(pointsman, origin):
    server, target = pointsman({"listen": {"half_close": True}}), origin()
    server.put_route(HOST, targets=[target])
    go = threading.Event()
    target.handler = o.script(go, o.encode_response(200, body="late"), keep=True)
    with server.connect() as conn:
        conn.request(host=HOST)
        target.wait_requests(1)
        conn.finish_sending()
        go.set()
        reply = conn.read_response()
        assert reply.body == b"late" and conn.is_closed_by_peer()
    assert ends(server, 1) == ["done"]


def test_fin_in_a_head(pair):
    server, target, conn = pair
    conn.send(b"GET / HTTP/1.1\r\nHost: a.exa")
    conn.finish_sending()
    data = conn.read_to_end()
    assert data == b"" or data.startswith(b"HTTP/1.1 400 ")
    assert target.requests == [] and conn.wire.ended


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\n12345",
                                     b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"])
def test_fin_in_a_body(pair, framing):
    server, target, conn = pair
    conn.send(b"POST / HTTP/1.1\r\nHost: a.example\r\n" + framing)
    target.wait_requests(1)
    conn.finish_sending()
    data = conn.read_to_end()
    assert data == b"" or data.startswith(b"HTTP/1.1 400 ")
    wait_until(lambda: target.open_count == 0, "the origin's connection closed")
    assert not target.last.complete  # it must not take it for a whole one
    assert ends(server, 1) == ["client_left"]


def test_connection_without_a_request(pair):
    server, _, conn = pair
    conn.finish_sending()
    assert conn.is_closed_by_peer()
    assert server.get(host=HOST).status == 200
    assert len(server.log_records(1)) == 1


def test_malformed_body_behind_a_response(pair):
    """The response has begun when the request turns out to be malformed."""
    server, target, conn = pair
    target.handler = o.script(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        lambda r, p: p.wait_closed(), read_body=False)
    conn.send(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    head = conn.read_head()
    conn.send(b"zz\r\n")
    with pytest.raises((Truncated, ConnectionError)):
        list(conn.iter_body(head))
    assert ends(server, 1) == ["bad_request"]
