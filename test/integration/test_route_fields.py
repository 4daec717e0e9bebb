# SPDX-License-Identifier: MIT
"""Every field of a route, and which route a request takes."""
import threading
import time

import pytest

from support import origin as o
from support.net import wait_until

HOST = "a.example"


@pytest.fixture
def pair(pointsman, origin):
    return pointsman(), origin()


# --- answers that need no target ---


def test_https_require(pointsman, origin):
    server = pointsman({"trusted_proxies": ["127.0.0.1"]})
    target = origin()
    server.put_route(HOST, targets=[target], https="require")
    reply = server.get(host="A.example:8080", target="/x/../y?q")
    assert reply.status == 308 and reply.headers["location"] == "https://a.example/y?q"
    record = server.log_records(1)[0]
    assert record["pointsman.end"] == "redirect" and record["http.response.status_code"] == 308
    assert server.get(host=HOST, headers={"X-Forwarded-Proto": "https"}).status == 200
    assert server.get(host=HOST, headers={"X-Forwarded-Proto": "http"}).status == 308
    server.put_route(HOST, targets=[target], https="require", redirect_status=301)
    assert server.get(host=HOST).status == 301
    server.put_route(HOST, targets=[target], https="allow")
    assert server.get(host=HOST).status == 200


def test_https_require_is_not_fooled(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], https="require")
    assert server.get(host=HOST, headers={"X-Forwarded-Proto": "https"}).status == 308
    assert target.requests == []


def test_https_port(pointsman, origin):
    server, target = pointsman({"https_port": 8443}), origin()
    server.put_route(HOST, targets=[target], https="require")
    assert server.get(host=HOST, target="/x").headers["location"] == "https://a.example:8443/x"


def test_https_require_without_a_host(pair):
    server, target = pair
    server.put_route("*", targets=[target], https="require")
    reply = server.get(host=None, version="HTTP/1.0")
    assert reply.status in (400, 404, 421)  # there is no URL to redirect to
    assert target.requests == []


@pytest.mark.parametrize("redirect, asked, status, location", [
    ({"to": "https://www.example.com"}, "/x?y", 308, "https://www.example.com/x?y"),
    ({"to": "https://www.example.com/"}, "/x", 308, "https://www.example.com/x"),
    ({"to": "https://www.example.com/new", "keep_path": True, "status": 301}, "/x?y", 301,
     "https://www.example.com/new/x?y"),
    ({"to": "https://www.example.com/new?a=b#c", "keep_path": False, "status": 302}, "/x?y", 302,
     "https://www.example.com/new?a=b#c"),
    ({"to": "/inside", "keep_path": False, "status": 303}, "/x", 303, "/inside"),
])
def test_redirect(pair, redirect, asked, status, location):
    server, _ = pair
    server.put_route(HOST, redirect=redirect)
    reply = server.get(host=HOST, target=asked)
    assert reply.status == status and reply.headers["location"] == location
    assert server.log_records(1)[0]["pointsman.end"] == "redirect"


def test_redirect_cannot_leave_the_site_by_slashes(pair):
    server, _ = pair
    server.put_route(HOST, redirect={"to": "/", "keep_path": True})
    for asked in ("//evil.example/", "/%2e%2e//evil.example", "/x/..//evil.example"):
        location = server.get(host=HOST, target=asked).headers["location"]
        assert not location.startswith("//"), (asked, location)


def test_respond(pair):
    server, _ = pair
    server.put_route(HOST, respond={"status": 410, "body": "gone\n", "content_type": "text/x"})
    with server.connect() as conn:
        reply = conn.exchange(host=HOST, target="/any")
        assert (reply.status, reply.body) == (410, b"gone\n")
        assert reply.headers["content-type"] == "text/x"
        reply = conn.exchange("HEAD", host=HOST)
        assert reply.status == 410 and reply.headers["content-length"] == "5"
        assert conn.exchange("POST", host=HOST, body=b"x" * 5000).status == 410
    assert server.log_records(1)[0]["pointsman.end"] == "respond"
    server.put_route(HOST, respond={"status": 204})
    reply = server.get(host=HOST)
    assert reply.status == 204 and "content-length" not in reply.headers


# --- who may pass ---


@pytest.mark.parametrize("fields, client, status", [
    ({"allow": ["127.0.0.0/8"]}, None, 200),
    ({"allow": ["10.0.0.0/8"]}, None, 403),
    ({"deny": ["127.0.0.1"]}, None, 403),
    ({"allow": ["127.0.0.0/8"], "deny": ["127.0.0.1"]}, None, 403),
    ({"allow": ["2001:db8::/32"]}, "2001:db8:1::1", 200),
    ({"allow": ["2001:db8::/32"]}, "2001:db9::1", 403),
    ({"deny": ["203.0.113.0/24"]}, "203.0.113.9", 403),
    ({"deny": ["203.0.113.0/24"]}, "::ffff:203.0.113.9", 403),
    ({"deny": ["203.0.113.0/24"]}, "203.0.114.9", 200),
])
def test_allow_and_deny(pointsman, origin, fields, client, status):
    server = pointsman({"trusted_proxies": ["127.0.0.1"]} if client else {})
    target = origin()
    server.put_route(HOST, targets=[target], **fields)
    reply = server.get(host=HOST, headers={"X-Forwarded-For": client} if client else {})
    assert reply.status == status
    if status == 403:
        assert target.requests == [] and server.log_records(1)[0]["pointsman.end"] == "denied"


def test_deny_cannot_be_talked_away(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], deny=["127.0.0.1"])
    assert server.get(host=HOST, headers={"X-Forwarded-For": "10.0.0.1"}).status == 403


# --- bodies ---


def test_buffer_request(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], buffer_request="100k")
    with server.connect() as conn:
        conn.request("POST", "/", HOST, {"Content-Length": "50000"})
        conn.send(b"x" * 49999)
        wait_until(lambda: server.status()["connections"] == 1, "accepted")
        with server.connect() as other:  # time for the proxy to have taken it
            assert other.exchange(host=HOST, target="/other").status == 200
        assert [r.target for r in target.requests] == ["/other"]
        conn.send(b"x")
        assert conn.read_response().json["body_len"] == 50000


def test_buffer_request_of_a_chunked_body(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], buffer_request="100k")
    reply = server.exchange("POST", host=HOST, headers={"Transfer-Encoding": "chunked"},
                            body=b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert reply.json["body"] == "hello world"
    assert target.last.headers.get("content-length") == "11"


def test_buffer_request_is_bounded(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], buffer_request="100k")
    with server.connect() as conn:
        conn.request("POST", "/", HOST, {"Content-Length": "300000"})
        conn.send(b"x" * 150000)
        target.wait_requests(1)  # over the bound it is sent on as it comes
        conn.send(b"x" * 150000)
        assert conn.read_response().json["body_len"] == 300000


def test_body_limit_by_length(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], limits={"body": "1k"})
    assert server.exchange("POST", host=HOST, body=b"x" * 1024).status == 200
    with server.connect() as conn:
        conn.request("POST", host=HOST, headers={"Content-Length": "1025"})
        reply = conn.read_response()
        assert reply.status == 413 and reply.headers["connection"] == "close"
    assert len(target.requests) == 1
    assert sorted(r["pointsman.end"] for r in server.log_records(2)) == ["body_too_large", "done"]


def test_body_limit_of_a_chunked_body(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], limits={"body": "1k"})
    chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
    framing = {"Transfer-Encoding": "chunked"}
    assert server.exchange("POST", host=HOST, headers=framing,
                           body=chunk * 2 + b"0\r\n\r\n").status == 200
    reply = server.exchange("POST", host=HOST, headers=framing, body=chunk * 3 + b"0\r\n\r\n")
    assert reply.status == 413
    assert sum(r.complete for r in target.requests) == 1  # the other one was cut
    assert sorted(r["pointsman.end"] for r in server.log_records(2)) == ["body_too_large", "done"]


def test_body_limit_of_the_node(pointsman, origin):
    server, target = pointsman({"limits": {"body": 10}}), origin()
    server.put_route(HOST, targets=[target])
    server.put_route(HOST, "/large", targets=[target], limits={"body": "1m"})
    server.put_route(HOST, "/free", targets=[target], limits={"body": 0})
    assert server.exchange("POST", host=HOST, body=b"x" * 11).status == 413
    assert server.exchange("POST", "/large", HOST, body=b"x" * 5000).status == 200
    assert server.exchange("POST", "/free", HOST, body=b"x" * 5000).status == 200


# --- times ---


def test_response_timeout_of_a_route(pair):
    server, target = pair
    server.put_route(HOST, targets=[target], timeouts={"response": "200ms"}, retries=0)
    target.handler = o.hang()
    started = time.monotonic()
    assert server.get(host=HOST).status == 504
    assert 0.19 < time.monotonic() - started < 30


def test_idle_timeout_between_pieces(pair):
    """A response whose next piece does not come is cut, long before timeouts.response."""
    server, target = pair
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"
    target.handler = o.script(head, o.hang())
    server.put_route(HOST, targets=[target], timeouts={"idle": "300ms", "response": "50s"})
    started = time.monotonic()
    reply = server.raw(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode(), 40)
    assert reply.endswith(b"12345") and time.monotonic() - started < 30
    assert server.log_records(1)[0]["pointsman.end"] == "origin_timeout"


def test_timeouts_route_over_pool(pair):
    server, target = pair
    target.handler = o.script(3, o.encode_response(200, body="late"), keep=True)
    server.put_pool("p", [target], timeouts={"response": "500ms"})
    server.put_route("pool.example", pool="p", retries=0)
    server.put_route("route.example", pool="p", timeouts={"response": "60s"})
    assert server.get(host="pool.example").status == 504
    assert server.get(host="route.example").status == 200


def full_listener():
    """An address whose accept queue is full: connections to it hang."""
    import socket
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        waiting.append(sock)
    return listener, waiting


def test_connect_timeout(pair):
    server, _ = pair
    listener, waiting = full_listener()
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    server.put_route(HOST, targets=[address], timeouts={"connect": "200ms"}, retries=0)
    started = time.monotonic()
    reply = server.get(host=HOST)
    assert reply.status == 504 and time.monotonic() - started < 30
    assert reply.headers["proxy-status"] == "pointsman; error=connection_timeout"
    assert server.log_records(1)[0]["pointsman.end"] == "connect_timeout"
    for sock in [listener, *waiting]:
        sock.close()


# --- where to ---


def test_split_by_weight(pair, origin):
    server, one = pair
    two = origin(name="two")
    server.put_pool("v1", [one])
    server.put_pool("v2", [two])
    server.put_route(HOST, split=[{"pool": "v1", "weight": 90}, {"pool": "v2", "weight": 10}])
    with server.connect() as conn:
        for _ in range(1000):
            assert conn.exchange(host=HOST).status == 200
    assert 40 < len(two.requests) < 190 and len(one.requests) + len(two.requests) == 1000
    server.put_route(HOST, split=[{"pool": "v1", "weight": 0}, {"pool": "v2", "weight": 1}])
    one.clear()
    for _ in range(20):
        server.get(host=HOST)
    assert one.requests == []


def test_round_robin_by_weight(pair, origin):
    server, one = pair
    two, three = origin(name="two"), origin(name="three")
    server.put_pool("p", [{"address": one, "weight": 1}, {"address": two, "weight": 3},
                          {"address": three, "weight": 0}], balance="round_robin")
    server.put_route(HOST, pool="p")
    with server.connect() as conn:
        for _ in range(400):
            assert conn.exchange(host=HOST).status == 200
    assert abs(len(one.requests) - 100) <= 4 and abs(len(two.requests) - 300) <= 4
    assert three.requests == []


def test_least_requests(pair, origin):
    """New ones go where fewer are under way, whichever worker has them."""
    server, one = pair
    two = origin(name="two")
    release = threading.Event()
    one.handler = two.handler = o.script(release, o.encode_response(200), keep=True)
    server.put_pool("p", [one, two])
    server.put_route(HOST, pool="p")
    conns = [server.connect() for _ in range(20)]
    for i, conn in enumerate(conns):
        conn.request(host=HOST)
        wait_until(lambda: len(one.requests) + len(two.requests) == i + 1, "it came")
        assert abs(len(one.requests) - len(two.requests)) <= 1
    release.set()
    for conn in conns:
        assert conn.read_response().status == 200
        conn.close()


def test_target_states(pair, origin):
    server, one = pair
    two = origin(name="two")
    server.put_pool("p", [one, two])
    server.put_route(HOST, pool="p")
    for state in ("drain", "down"):
        server.put_target("p", one, state=state)
        one.clear()
        assert {server.get(host=HOST).json["origin"] for _ in range(20)} == {"two"}
        assert one.requests == []
    server.put_target("p", one, state="up")
    assert {server.get(host=HOST).json["origin"] for _ in range(40)} == {"origin0", "two"}


def test_unix_socket_target(pointsman, origin):
    server, target = pointsman(), origin(unix=True)
    server.put_route(HOST, targets=[target])
    reply = server.get(host=HOST)
    assert reply.status == 200 and target.last.headers["host"] == HOST
    assert server.log_records(1)[0]["pointsman.target"] == target.address


def test_name_as_target(pair):
    server, target = pair
    server.put_route(HOST, targets=[f"localhost:{target.port}"])
    wait_until(lambda: server.get(host=HOST).status == 200, "the name is resolved")


def test_access_log_off(pair):
    server, target = pair
    server.put_route("quiet.example", targets=[target], access_log=False)
    server.put_route(HOST, targets=[target])
    assert server.get(host="quiet.example").status == 200
    assert server.get(host=HOST).status == 200
    assert [r["url.domain"] for r in server.log_records(1)] == [HOST]


def test_access_log_record(pair):
    server, target = pair
    server.put_pool("p", [target])
    server.put_route(HOST, "/api", pool="p", tenant="acme")
    server.exchange("POST", "/api/x?a=b", "A.example:80", {
        "User-Agent": "me/1", "Referer": "http://r/"}, b"hello")
    record = server.log_records(1)[0]
    expected = {"client.ip": "127.0.0.1", "http.request.method": "POST", "url.domain": HOST,
                "url.path": "/api/x", "url.query": "a=b", "http.version": "1.1",
                "http.response.status_code": 200, "user_agent.original": "me/1",
                "http.request.referrer": "http://r/", "pointsman.route": "a.example/api",
                "pointsman.pool": "p", "pointsman.target": target.address,
                "pointsman.tenant": "acme", "pointsman.end": "done"}
    assert {key: record.get(key) for key in expected} == expected
    assert record.get("pointsman.retries", 0) == 0
    assert record["event.duration"] >= record["pointsman.origin_ns"] > 0
    assert record["http.request.bytes"] > 50 and record["http.response.bytes"] > 50


# --- which route ---


@pytest.fixture
def hosts(pointsman, origin):
    """A server where each of these hosts answers with its own pattern."""
    server = pointsman()
    for pattern in ("a.example", "*.example", "*.b.example", "x.b.example", "*"):
        server.put_route(pattern, respond={"status": 200, "body": pattern})
    return server


@pytest.mark.parametrize("host, pattern", [
    ("a.example", "a.example"), ("A.EXAMPLE", "a.example"), ("a.example.", "a.example"),
    ("a.example:8080", "a.example"), ("A.example.:1", "a.example"), ("z.example", "*.example"),
    ("y.z.example", "*.example"), ("q.a.example", "*.example"), ("b.example", "*.example"),
    ("y.b.example", "*.b.example"), ("z.y.b.example", "*.b.example"),
    ("x.b.example", "x.b.example"), ("w.x.b.example", "*.b.example"), ("example", "*"),
    ("xexample", "*"), ("other.test", "*"), ("127.0.0.1", "*"), ("[::1]:80", "*"),
])
def test_host_matching(hosts, host, pattern):
    assert hosts.get(host=host).text == pattern


def test_no_asterisk(hosts):
    hosts.delete_route("*")
    assert hosts.get(host="other.test").status == 404
    assert hosts.get(host="example").status == 404


def test_idn(hosts):
    hosts.put_route("bücher.example", respond={"body": "idn"})
    assert hosts.get(host="xn--bcher-kva.example").text == "idn"


def test_path_of_a_host_falls_back_to_its_own_routes_only(pair):
    """A path that its host does not have is not found, whatever other hosts have."""
    server, _ = pair
    server.put_route("b.example", respond={"body": "b"})
    server.put_route(HOST, "/api", respond={"body": "api"})
    assert server.get(host=HOST, target="/api/x").text == "api"
    assert server.get(host=HOST, target="/x").status == 404
    assert server.get(host=HOST, target="/api/../x").status == 404


@pytest.fixture
def paths(pointsman, origin):
    """(server, targets by name): /, /api, /api/v2 and /admin of one host are pools of their own."""
    server = pointsman()
    targets = {}
    for name, path in (("root", "/"), ("api", "/api"), ("v2", "/api/v2"), ("admin", "/admin")):
        targets[name] = origin(name=name)
        server.put_route(HOST, path, targets=[targets[name]])
    return server, targets


@pytest.mark.parametrize("asked, name, sent", [
    ("/", "root", "/"), ("/api", "api", "/api"), ("/api/", "api", "/api/"),
    ("/api?x", "api", "/api?x"), ("/apix", "root", "/apix"), ("/api/v2", "v2", "/api/v2"),
    ("/api/v2x", "api", "/api/v2x"), ("/api/v2/y", "v2", "/api/v2/y"),
    ("/API", "root", "/API"), ("/%61pi/x", "api", "/api/x"), ("/%61%70%69", "api", "/api"),
    ("/x/../admin", "admin", "/admin"), ("/api/../admin/x", "admin", "/admin/x"),
    ("/api/%2e%2e/admin", "admin", "/admin"), ("/api/%2E./admin", "admin", "/admin"),
    ("/api/./x", "api", "/api/x"), ("/./admin", "admin", "/admin"),
    ("/../../admin", "admin", "/admin"), ("/admin/..", "root", "/"),
    ("/admin/.", "admin", "/admin/"),
    ("//admin", "root", "//admin"), ("/api//x", "api", "/api//x"), ("/api/..", "root", "/"),
    ("//api/../admin", "root", "//admin"),
    ("/admin;x", "root", "/admin;x"), ("/%2561dmin", "root", "/%2561dmin"),
    ("/admin%20", "root", "/admin%20"),
])
def test_path_matching(paths, asked, name, sent):
    server, targets = paths
    reply = server.get(host=HOST, target=asked)
    assert reply.json["origin"] == name and reply.json["target"] == sent


@pytest.mark.parametrize("asked", ["/api/%2e%2e%2fadmin", "/x%2F..%2fadmin", "/api\\..\\admin",
                                   "/api/%5c..%5Cadmin", "/admin%00", "/%00", "/api/..\\admin"])
def test_ambiguous_paths_are_refused(paths, asked):
    server, targets = paths
    reply = server.get(host=HOST, target=asked)
    assert reply.status == 400
    assert all(target.requests == [] for target in targets.values())


@pytest.mark.parametrize("asked, sent", [("/api/%2e%2e%2fadmin", "/api/..%2Fadmin"),
                                         ("/api/x%5Cy", "/api/x%5Cy"),
                                         ("/api/a%2Fb", "/api/a%2Fb")])
def test_loose_paths_still_go_to_their_own_route(pointsman, origin, asked, sent):
    server, api, admin = pointsman({"paths": "loose"}), origin(), origin()
    server.put_route(HOST, "/api", targets=[api])
    server.put_route(HOST, "/admin", targets=[admin])
    reply = server.get(host=HOST, target=asked)
    assert reply.status == 200 and reply.json["target"] == sent
    assert admin.requests == []


def test_absolute_form_chooses_the_route(paths):
    server, targets = paths
    server.put_route("other.example", respond={"body": "other"})
    assert server.get(host="other.example",
                      target="http://a.example/x/../admin").json["origin"] == "admin"
    assert server.get(host=HOST, target="http://other.example/admin").text == "other"
