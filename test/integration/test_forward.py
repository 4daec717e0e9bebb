# SPDX-License-Identifier: MIT
"""Fields on their way through: hop-by-hop, forwarding, ids, Location, Host, the route's own rules."""
import re

import pytest

from support import origin as o

HOST = "a.example"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def pair(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route(HOST, targets=[target])
    return server, target


@pytest.fixture
def trusting(pointsman, origin):
    """127.0.0.1 and 10.0.0.0/8 and fd00::/8 are trusted proxies."""
    server = pointsman({"trusted_proxies": ["127.0.0.1", "10.0.0.0/8", "fd00::/8"]})
    target = origin()
    server.put_route(HOST, targets=[target])
    return server, target


def sent(pair, headers=(), target="/", host=HOST, **more):
    """What the origin got for these fields."""
    server, origin = pair
    reply = server.get(target=target, host=host, headers=headers, **more)
    assert reply.status == 200, reply
    return origin.last.headers


# --- hop-by-hop ---


def test_hop_by_hop_fields_end_here(pair):
    got = sent(pair, [
        ("Connection", "X-Mine, keep-alive"), ("X-Mine", "1"), ("x-mine", "2"),
        ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"), ("Proxy", "http://6.6.6.6"),
        ("Proxy-Authorization", "Basic eDp5"), ("TE", "gzip"), ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"), ("X-Stays", "1")])
    for name in ("connection", "x-mine", "keep-alive", "proxy-connection", "proxy", "proxy-authorization",
                 "te", "upgrade", "http2-settings"):
        assert name not in got, name
    assert got["x-stays"] == "1"


def test_connection_in_several_fields(pair):
    got = sent(pair, [("Connection", "X-A"), ("Connection", ",, X-B ,"), ("X-A", "1"),
                      ("X-B", "2"), ("X-C", "3")])
    assert "x-a" not in got and "x-b" not in got and got["x-c"] == "3"


def test_security_fields_cannot_be_named_away(pair):
    got = sent(pair, [
        ("Connection", "close, Host, Authorization, Cookie, X-Forwarded-For, X-Forwarded-Proto, "
                       "X-Real-IP, X-Forwarded-Host, Forwarded, Via, Content-Length"),
        ("Authorization", "Bearer t"), ("Cookie", "a=b")], method="POST", body=b"hello")
    assert got["authorization"] == "Bearer t" and got["cookie"] == "a=b"
    for name in ("host", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "x-forwarded-host",
                 "forwarded", "via"):
        assert name in got, name
    assert got["content-length"] == "5"


def test_hop_by_hop_fields_of_responses(pair):
    server, target = pair
    target.handler = o.respond(headers=[
        ("Connection", "keep-alive, X-Mine"), ("X-Mine", "1"), ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "close"), ("Upgrade", "h2c"), ("X-Stays", "1"), ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2")])
    got = server.get(host=HOST).headers
    for name in ("connection", "x-mine", "keep-alive", "proxy-connection", "upgrade"):
        assert name not in got, name
    assert got["x-stays"] == "1" and got.getall("set-cookie") == ["a=1", "b=2"]


def test_underscore_forms_are_dropped(pair):
    got = sent(pair, [("X_Forwarded_For", "6.6.6.6"), ("X_Forwarded-For", "6.6.6.6"),
                      ("x_real_ip", "6.6.6.6"), ("Content_Length", "7"),
                      ("Transfer_Encoding", "chunked"), ("X_Request_Id", "1"), ("X_Own", "stays")])
    names = [name.lower().replace("_", "-") for name, _ in got]
    assert names.count("x-forwarded-for") == 1 and got["x-forwarded-for"] == "127.0.0.1"
    assert names.count("x-real-ip") == 1 and "content-length" not in names
    assert "transfer-encoding" not in names and names.count("x-request-id") == 1
    assert got["x_own"] == "stays"


# --- who asks ---


def test_forwarding_fields_of_an_untrusted_client(pair):
    got = sent(pair, [
        ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "7.7.7.7"),
        ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil"), ("X-Forwarded-Port", "1"),
        ("X-Real-IP", "6.6.6.6"), ("Forwarded", "for=6.6.6.6;proto=https"),
        ("X-Request-Id", "mine")], host="A.example:8080")
    assert got.getall("x-forwarded-for") == ["127.0.0.1"]
    assert got.getall("x-forwarded-proto") == ["http"]
    assert got.getall("x-forwarded-host") == ["A.example:8080"]
    assert got.getall("x-forwarded-port") == [str(pair[0].port)]
    assert got.getall("x-real-ip") == ["127.0.0.1"]
    assert got.getall("forwarded") == ['for=127.0.0.1;host="A.example:8080";proto=http']
    assert got.getall("via") == ["1.1 pointsman"]
    assert len(got.getall("x-request-id")) == 1
    assert re.fullmatch(r"[0-9a-f]{32}", got["x-request-id"])
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", got["traceparent"])


def test_forwarding_fields_of_a_trusted_proxy(trusting):
    got = sent(trusting, [
        ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.example"), ("X-Forwarded-Port", "8443"),
        ("X-Real-IP", "9.9.9.9"), ("Forwarded", "for=203.0.113.7;proto=https"),
        ("X-Request-Id", "abc-123"), ("Via", "1.1 edge")])
    assert got["x-forwarded-for"] == "203.0.113.7, 127.0.0.1"
    assert got["x-forwarded-proto"] == "https" and got["x-forwarded-host"] == "public.example"
    assert got["x-forwarded-port"] == "8443" and got["x-real-ip"] == "203.0.113.7"
    assert got["forwarded"] == (
        'for=203.0.113.7;proto=https, for=127.0.0.1;host="a.example";proto=https')
    assert got["via"] == "1.1 edge, 1.1 pointsman" and got["x-request-id"] == "abc-123"
    assert trusting[0].log_records(1)[0]["client.ip"] == "203.0.113.7"


@pytest.mark.parametrize("value, client", [
    ("1.1.1.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),  # past our own, not past strangers
    ("1.1.1.1, 203.0.113.7:5555", "203.0.113.7"),
    ("10.9.9.9, 10.1.2.3", "10.9.9.9"),  # only trusted ones: the first of them
    ("2001:db8::1, fd00::7", "2001:db8::1"),
    ("[2001:db8::1]:99, 10.0.0.1", "2001:db8::1"),
    ("1.1.1.1, garbage", "127.0.0.1"),
    ("1.1.1.1, unknown, 10.0.0.1", "10.0.0.1"),
    ("", "127.0.0.1"),
    (",,", "127.0.0.1"),
    ("999.1.1.1", "127.0.0.1"),
])
def test_client_address_from_trusted_hops(trusting, value, client):
    got = sent(trusting, [("X-Forwarded-For", value)])
    assert got["x-real-ip"] == client
    assert trusting[0].log_records(1)[0]["client.ip"] == client


def test_client_address_over_several_fields(trusting):
    got = sent(trusting, [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "203.0.113.7"),
                          ("X-Forwarded-For", "10.0.0.1")])
    assert got["x-real-ip"] == "203.0.113.7"
    assert got["x-forwarded-for"] == "1.1.1.1, 203.0.113.7, 10.0.0.1, 127.0.0.1"


def test_trusted_ipv6_peer(pointsman, origin):
    server, target = pointsman({"trusted_proxies": ["127.0.0.1"]}), origin()
    server.put_route(HOST, targets=[target])
    got = sent((server, target), [("X-Forwarded-For", "::ffff:10.0.0.1, 2001:db8::7")])
    assert got["x-real-ip"] == "2001:db8::7"


@pytest.mark.parametrize("given, kept", [
    ("abc", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ('a"b', False)])
def test_request_id_of_a_trusted_proxy(trusting, given, kept):
    got = sent(trusting, [("X-Request-Id", given)])
    assert (got["x-request-id"] == given) == kept


@pytest.mark.parametrize("given, kept", [
    (TRACE, True), (TRACE.upper(), False), (TRACE[:-1], False), (TRACE + "-x", False),
    ("01" + TRACE[2:] + "-more", True), ("ff" + TRACE[2:], False), ("zz" + TRACE[2:], False),
    ("00-" + "0" * 32 + TRACE[35:], False), (TRACE[:36] + "0" * 16 + "-01", False),
    (TRACE[:-2] + "zz", False)])
def test_traceparent(pair, given, kept):
    got = sent(pair, [("traceparent", given), ("tracestate", "a=b")])
    assert (got["traceparent"] == given) == kept
    record = pair[0].log_records(1)[0]
    assert record["trace.id"] == got["traceparent"][3:35]
    assert record["pointsman.request_id"] == got["x-request-id"]


# --- Location ---


@pytest.mark.parametrize("fields, location, expected", [
    ({}, "http://{target}/x?y#z", "http://a.example/x?y#z"),
    ({}, "http://{target}", "http://a.example"),
    ({}, "https://{target}/x", "http://a.example/x"),
    ({}, "/x", "/x"),
    ({}, "x/../y", "x/../y"),
    ({}, "//other.example/x", "//other.example/x"),
    ({}, "http://other.example/x", "http://other.example/x"),
    ({}, "http://{target}.evil.example/x", "http://{target}.evil.example/x"),
    ({}, "http://a.example/x", "http://a.example/x"),
    ({"target_path": "/base"}, "http://{target}/base/x", "http://a.example/x"),
    ({"target_path": "/base"}, "/base/x?y", "/x?y"),
    ({"target_path": "/base"}, "/base", "/"),
    ({"target_path": "/base"}, "/based/x", "/based/x"),
    ({"target_path": "/base"}, "/base//evil.example", "/evil.example"),
    ({"host_header": "inner.example"}, "http://inner.example/x", "http://a.example/x"),
    ({"host_header": "target"}, "http://{target}/x", "http://a.example/x"),
])
def test_location(pair, fields, location, expected):
    server, target = pair
    server.put_route(HOST, targets=[target], **fields)
    location = location.replace("{target}", target.address)
    target.handler = o.respond(302, {"Location": location})
    reply = server.get(host=HOST)
    assert reply.headers.getall("location") == [expected.replace("{target}", target.address)]


def test_location_with_a_stripped_prefix(pair):
    server, target = pair
    server.put_route(HOST, "/app", targets=[target], strip_path=True)
    for given, expected in (("/x", "/app/x"), ("/", "/app/"),
                            (f"http://{target.address}/x", "http://a.example/app/x")):
        target.handler = o.respond(302, {"Location": given})
        assert server.get(host=HOST, target="/app/y").headers["location"] == expected
    assert target.last.target == "/y"


def test_location_keeps_the_public_scheme_and_port(trusting):
    server, target = trusting
    target.handler = o.respond(201, {"Location": f"http://{target.address}/x",
                                     "Content-Location": f"http://{target.address}/y"})
    reply = server.get(host="a.example:8443", headers={"X-Forwarded-Proto": "https"})
    assert reply.headers["location"] == "https://a.example:8443/x"
    assert reply.headers["content-location"] == "https://a.example:8443/y"


# --- Host and paths ---


@pytest.mark.parametrize("mode, expected", [
    (None, "A.Example:81"), ("keep", "A.Example:81"), ("target", "{target}"),
    ("inner.example", "inner.example"), ("inner.example:99", "inner.example:99")])
def test_host_header(pair, mode, expected):
    server, target = pair
    server.put_route(HOST, targets=[target], **({"host_header": mode} if mode else {}))
    got = sent(pair, host="A.Example:81")
    assert got.getall("host") == [expected.replace("{target}", target.address)]
    assert got["x-forwarded-host"] == "A.Example:81"


@pytest.mark.parametrize("path, fields, asked, expected", [
    ("/", {"target_path": "/base"}, "/x?y", "/base/x?y"),
    ("/", {"target_path": "/base"}, "/", "/base/"),
    ("/app", {"strip_path": True}, "/app/x?y", "/x?y"),
    ("/app", {"strip_path": True}, "/app", "/"),
    ("/app", {"strip_path": True}, "/app?y", "/?y"),
    ("/app", {"strip_path": True}, "/app/", "/"),
    ("/app", {"strip_path": True, "target_path": "/base"}, "/app/x", "/base/x"),
    ("/app", {"strip_path": True, "target_path": "/base"}, "/app", "/base"),
    ("/app", {}, "/app/x", "/app/x"),
])
def test_paths_sent_on(pair, path, fields, asked, expected):
    server, target = pair
    server.put_route(HOST, path, targets=[target], **fields)
    assert server.get(host=HOST, target=asked).json["target"] == expected


# --- rules ---


def test_request_header_rules(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], request_headers={
        "set": {"X-A": "1", "User-Agent": "ours", "X-Forwarded-Proto": "https"},
        "remove": ["X-B", "Cookie"]})
    got = sent(pair, [("x-a", "0"), ("X-A", "00"), ("x-B", "2"), ("Cookie", "a=b"),
                      ("User-Agent", "theirs"), ("X-C", "3")])
    assert got.getall("x-a") == ["1"] and got.getall("user-agent") == ["ours"]
    assert "x-b" not in got and "cookie" not in got and got["x-c"] == "3"
    assert got.getall("x-forwarded-proto") == ["https"]


def test_removed_forwarding_fields_are_not_sent(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], request_headers={
        "remove": ["X-Real-IP", "Forwarded", "Via", "traceparent"]})
    got = sent(pair, [("X-Real-IP", "6.6.6.6")])
    for name in ("x-real-ip", "forwarded", "via", "traceparent"):
        assert name not in got, name
    assert got["x-forwarded-for"] == "127.0.0.1"


def test_response_header_rules(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], response_headers={
        "set": {"X-A": "1", "Cache-Control": "no-store"}, "remove": ["Server", "X-B"]})
    target.handler = o.respond(headers=[("X-A", "0"), ("server", "inner"), ("X-B", "1"),
                                        ("Cache-Control", "public"), ("X-C", "3")])
    got = server.get(host=HOST).headers
    assert got.getall("x-a") == ["1"] and got.getall("cache-control") == ["no-store"]
    assert "server" not in got and "x-b" not in got and got["x-c"] == "3"


def test_date_of_the_rules(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], response_headers={"set": {"Date": "mine"}})
    assert server.get(host=HOST).headers.getall("date") == ["mine"]


def test_date_and_via(pair):
    server, target = pair
    reply = server.get(host=HOST)
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", reply.headers["date"])
    assert len(reply.headers.getall("date")) == 1 and reply.headers["via"] == "1.1 pointsman"
    target.handler = o.respond(headers=[("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                                        ("Via", "1.1 inner")])
    reply = server.get(host=HOST)
    assert reply.headers.getall("date") == ["Sun, 06 Nov 1994 08:49:37 GMT"]
    assert reply.headers["via"] == "1.1 inner, 1.1 pointsman"


def test_values_pass_unchanged(pair):
    value = "caf\xe9 \t \"a;b\" 100%"
    got = sent(pair, [("X-Text", value), ("X-Empty", ""), ("Accept-Language", "de")])
    assert got["x-text"] == value and got.getall("x-empty") == [""]
    assert [n for n, _ in got if n.startswith("X-Text")] == ["X-Text"]  # the case stays too
