# SPDX-License-Identifier: MIT
"""What RFC 9110 and RFC 9112 ask of an intermediary and no other test shows (docs/conformance.md)."""
import re

import pytest

from support import origin as o

HOST = "a.example"


@pytest.fixture
def pair(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route(HOST, targets=[target])
    return server, target


# --- fields (RFC 9110 5) ---


def test_unknown_fields_pass_in_order(pair):
    server, target = pair
    given = [("X-B", "1"), ("x-a", "2"), ("X-B", "3, 4"), ("Sec-New-Thing", "?1"), ("X-B", ""),
             ("Cache-Control", "no-transform")]
    target.handler = o.respond(headers=[("X-R", "1"), ("New-Thing", "a"), ("x-r", "2"),
                                        ("Warning", '299 - "x"')])
    reply = server.get(host=HOST, headers=given)
    names = {name.lower() for name, _ in given}
    assert [(n, v) for n, v in target.last.headers if n.lower() in names] == given
    assert reply.headers.getall("x-r") == ["1", "2"]
    assert reply.headers["new-thing"] == "a" and reply.headers["warning"] == '299 - "x"'


def test_white_space_around_values_is_no_part_of_them(pair):
    server, target = pair
    answer = server.raw(b"GET / HTTP/1.1\r\nHost:\t a.example \t\r\nX-A: \t a b\t \r\n"
                        b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nX-A: a b\r\n" in target.last.raw_head
    assert b"\r\nHost: a.example\r\n" in target.last.raw_head


def test_end_to_end_fields_are_not_touched(pair):
    server, target = pair
    challenge = 'Digest realm="r", nonce="n", qop="auth", Basic realm="x"'
    kept = [("ETag", 'W/"x"'), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("WWW-Authenticate", challenge), ("Content-Encoding", "gzip"),
            ("Content-Type", "text/plain;charset=x"), ("Vary", "*"), ("Age", "3"),
            ("Cache-Control", "no-transform"), ("Server", "origin/1"),
            ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")]
    target.handler = o.respond(401, kept, b"\x1f\x8b body")
    asked = [("If-None-Match", '"a", W/"b"'), ("If-Modified-Since", "x"), ("Range", "bytes=0-1"),
             ("If-Range", '"a"'), ("Authorization", "Digest x=y"), ("Accept-Encoding", "gzip;q=0")]
    reply = server.get(host=HOST, headers=asked)
    assert reply.status == 401 and reply.body == b"\x1f\x8b body"
    for name, value in kept:
        assert reply.headers.getall(name) == [value]
    for name, value in asked:
        assert target.last.headers.getall(name) == [value]


def test_partial_content_passes(pair):
    server, target = pair
    target.handler = o.respond(206, [("Content-Range", "bytes 2-4/9")], b"cde")
    reply = server.get(host=HOST, headers={"Range": "bytes=2-4"})
    assert reply.status == 206 and reply.body == b"cde"
    assert reply.headers["content-range"] == "bytes 2-4/9" and target.last.headers["range"]


# --- control data: versions, methods, statuses (RFC 9110 6.2, 9.1, 15) ---


def test_own_version_in_both_directions(pair):
    server, target = pair
    target.handler = o.respond(body="x", version="HTTP/1.0", close=True)
    reply = server.get(host=HOST, version="HTTP/1.0")
    assert target.last.version == "HTTP/1.1" and reply.version == "HTTP/1.1"


@pytest.mark.parametrize("method", ["get", "PURGE", "M-SEARCH", "!#$%&'*+-.^_`|~0aZ"])
def test_methods_keep_their_case(pair, method):
    server, target = pair
    assert server.get(method, host=HOST).status == 200
    assert target.last.method == method


@pytest.mark.parametrize("status", [203, 226, 299, 300, 399, 418, 451, 499, 511, 599])
def test_statuses_pass_known_or_not(pair, status):
    server, target = pair
    target.handler = o.respond(status, body="x", reason="Own Words")
    reply = server.get(host=HOST)
    assert (reply.status, reply.reason, reply.body) == (status, "Own Words", b"x")


def test_status_line_has_its_space_without_a_reason(pair):
    server, target = pair
    target.handler = o.script(b"HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n")
    assert server.get(host=HOST).raw_head.startswith(b"HTTP/1.1 299 \r\n")


# --- connections (RFC 9110 3.3, 7.6.1, 10.1.4; RFC 9112 9) ---


def test_each_request_of_a_connection_stands_alone(pointsman, origin):
    server, target = pointsman({"trusted_proxies": ["127.0.0.1"]}), origin()
    server.put_route(HOST, targets=[target])
    server.put_route("b.example", respond={"body": "b"})
    with server.connect() as conn:
        for ip in ("192.0.2.1", "192.0.2.2"):
            conn.exchange(host=HOST, headers={"X-Forwarded-For": ip, "X-Request-Id": ip,
                                              "X-Forwarded-Proto": "https"})
            assert target.last.headers["x-real-ip"] == ip
            assert target.last.headers["x-request-id"] == ip
        conn.exchange(host=HOST)
        assert target.last.headers["x-real-ip"] == "127.0.0.1"
        assert target.last.headers["x-forwarded-proto"] == "http"
        assert target.last.headers["x-request-id"] not in ("192.0.2.1", "192.0.2.2")
        assert conn.exchange(host="b.example").text == "b"


def test_te_is_named_in_connection(pair):
    server, target = pair
    server.get(host=HOST, headers={"TE": "gzip;q=1, trailers", "Connection": "TE"})
    assert target.last.headers.getall("te") == ["trailers"]
    assert "te" in [part.strip().lower() for part in target.last.headers["connection"].split(",")]


def test_requests_that_are_not_idempotent_are_not_sent_again(pair):
    server, target = pair
    for method in ("POST", "PATCH", "SOMETHING"):
        target.clear()
        target.handler = o.script(o.CLOSE)
        assert server.get(method, host=HOST, body=b"x").status == 502
        assert len(target.requests) == 1, method
    target.clear()
    target.handler = o.sequence(o.script(o.CLOSE), o.echo())
    assert server.get("PUT", host=HOST, body=b"x").status == 200
    assert len(target.requests) == 2


def test_a_loop_ends(pointsman):
    """RFC 9110 7.6: Via grows until the head is over its bound."""
    server = pointsman({"limits": {"header_bytes": "1k"}})
    server.put_route("*", targets=[f"127.0.0.1:{server.port}"])
    assert server.get(host=HOST).status == 431
    assert server.get(host=HOST).status == 431


def test_bytes_behind_a_response_are_no_response(pair):
    server, target = pair
    target.handler = o.sequence(
        o.script(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n"
                 b"Content-Length: 4\r\n\r\nevil", keep=True), o.echo())
    with server.connect() as conn:
        assert conn.exchange(host=HOST).body == b"x"
        assert conn.exchange(host=HOST).json["origin"] == target.name
    assert [request.connection for request in target.requests] == [0, 1]


# --- Via and Date (RFC 9110 7.6.3, 6.6.1) ---


def test_via_is_appended_with_the_received_version(pair):
    server, target = pair
    target.handler = o.respond(headers=[("Via", "1.0 inner (x)"), ("Via", "1.1 second")])
    reply = server.get(host=HOST, headers=[("Via", "1.0 fred, 1.1 p.example"), ("Via", "2 third")])
    assert target.last.headers.getall("via") == ["1.0 fred, 1.1 p.example, 2 third, 1.1 pointsman"]
    assert reply.headers.getall("via") == ["1.0 inner (x), 1.1 second, 1.1 pointsman"]
    target.handler = o.echo()
    server.get(host=HOST, version="HTTP/1.0")
    assert target.last.headers.getall("via") == ["1.0 pointsman"]


def test_dates_that_are_added_are_imf_fixdates(pair):
    server, _ = pair
    date = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
    for host in (HOST, "nobody.example"):
        assert re.fullmatch(date, server.get(host=host).headers["date"])
    malformed = server.raw(b"GET / HTTP/1.1\r\n\r\n")
    assert re.search(rb"\r\nDate: [^\r\n]+ GMT\r\n", malformed)


def test_unauthorized_answers_carry_a_challenge(pointsman):
    server = pointsman({"admin": {"require_token": True}})
    reply = server.api("GET", "/v1/status")
    assert reply.status == 401 and reply.headers["www-authenticate"].startswith("Bearer ")


# --- request targets (RFC 9112 3.2) ---


def test_target_is_sent_in_origin_form(pair):
    server, target = pair
    for asked, sent in (("http://a.example", "/"), ("http://a.example?q=%zz", "/?q=%zz"),
                        ("HTTP://A.EXAMPLE:80/x?", "/x?"), ("/x?a=/../b#"[:-1], "/x?a=/../b")):
        assert server.get(target=asked, host=HOST).status == 200
        assert target.last.target == sent


# --- framing (RFC 9112 6, RFC 9110 8.6) ---


def test_length_is_never_sent_with_a_coding(pair):
    server, target = pair
    with server.connect() as conn:
        conn.send(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: Chunked\r\n\r\n")
        target.wait_requests(1)  # it is passed on before its length is known
        conn.send(b"3\r\nabc\r\n0\r\n\r\n")
        assert conn.read_response().status == 200
    assert target.last.headers.getall("transfer-encoding") == ["chunked"]
    assert "content-length" not in target.last.headers and target.last.body == b"abc"


def test_chunk_extensions_are_dropped(pair):
    server, target = pair
    target.handler = o.script(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                              b'3;a=b;c="d;e"\r\nabc\r\n0;last\r\n\r\n')
    with server.connect() as conn:
        conn.request(host=HOST, headers={"Connection": "close"})
        answer = conn.read_to_end()
    assert b";" not in answer[answer.index(b"\r\n\r\n"):] and b"abc" in answer


# --- Upgrade (RFC 9110 7.8, 15.2.2) ---


def test_upgrade_is_passed_on_and_named_in_connection(pair):
    server, target = pair
    target.handler = o.switch_protocols("echo/2")
    with server.connect() as conn:
        conn.request(host=HOST, headers=[("Connection", "keep-alive, Upgrade"),
                                         ("Upgrade", "other, echo/2")])
        reply = conn.read_response()
        assert reply.status == 101 and reply.headers["upgrade"] == "echo/2"
        assert reply.headers["connection"].lower() == "upgrade"
        assert target.last.headers["upgrade"] == "other, echo/2"
        assert target.last.headers["connection"].lower() == "upgrade"
        conn.send(b"hello")
        assert conn.wire.until(b"hello") == b"hello"


@pytest.mark.parametrize("version, headers", [
    ("HTTP/1.0", [("Connection", "upgrade"), ("Upgrade", "echo")]),
    ("HTTP/1.1", [("Upgrade", "echo")]),
    ("HTTP/1.1", [("Connection", "upgrade"), ("Upgrade", "h2c")]),
])
def test_upgrade_that_does_not_count_is_not_passed_on(pair, version, headers):
    server, target = pair
    assert server.get(host=HOST, headers=headers, version=version).status == 200
    assert "upgrade" not in target.last.headers


def test_no_switch_that_was_not_asked_for(pair):
    server, target = pair
    target.handler = o.switch_protocols("echo")
    assert server.get(host=HOST).status == 502
    # Refused with an answer: the connection goes on as HTTP/1.1.
    target.handler = o.respond(426, [("Upgrade", "echo"), ("Connection", "upgrade")], "no")
    with server.connect() as conn:
        reply = conn.exchange(host=HOST, headers={"Connection": "upgrade", "Upgrade": "echo"})
        assert reply.status == 426
        target.handler = o.echo()
        assert conn.exchange(host=HOST).status == 200


# --- Max-Forwards (RFC 9110 7.6.2) ---


def test_max_forwards_of_options(pair):
    server, target = pair
    server.get("OPTIONS", host=HOST, headers={"Max-Forwards": "3"})
    assert target.last.headers["max-forwards"] == "2"
    target.clear()
    answer = server.get("OPTIONS", host=HOST, headers={"Max-Forwards": "0"})
    assert answer.status == 200 and "OPTIONS" in answer.headers["allow"]
    assert target.requests == []
