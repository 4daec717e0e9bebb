# SPDX-License-Identifier: MIT
"""What a client sees when something is wrong, and what the access log says about it."""
import re
import threading

import pytest
import yaml

from support import origin as o
from support.http1 import Malformed, Truncated
from support.net import wait_until
from support.process import ROOT

HOST = "a.example"


@pytest.fixture
def pair(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route(HOST, targets=[target], retries=0)
    return server, target


def put_impatient(server, target, response="500ms"):
    server.put_route(HOST, targets=[target], retries=0, timeouts={"response": response})


def end_of(server, count=1):
    """The end of all `count` requests so far."""
    ends = {record["pointsman.end"] for record in server.log_records(count)}
    assert len(ends) == 1, ends
    return ends.pop()


# --- pages ---


@pytest.mark.parametrize("accept, kind", [
    (None, "html"), ("text/html,*/*", "html"), ("*/*", "html"), ("application/json", "json"),
    ("application/problem+json", "json"), ("text/html, application/json", "html")])
def test_not_found(pair, accept, kind):
    server, _ = pair
    reply = server.get(host="nobody.example", headers={"Accept": accept} if accept else {})
    assert reply.status == 404 and "no-store" in reply.headers["cache-control"]
    assert reply.headers["content-type"].startswith(
        "application/json" if kind == "json" else "text/html")
    if kind == "json":
        assert reply.json["status"] == 404 and reply.json["request_id"]
    else:
        assert b"<h1>" in reply.body
    assert len(reply.body) < 2000 and reply.headers["x-request-id"] in reply.text
    record = server.log_records(1)[0]
    assert record["pointsman.end"] == "no_route" and record["http.response.status_code"] == 404
    assert record["pointsman.request_id"] == reply.headers["x-request-id"]


def test_pages_do_not_repeat_the_request(pair):
    server, _ = pair
    reply = server.get(host="nobody.example", target="/%3Cscript%3Ealert(1)%3C/script%3E?<x",
                       headers={"X-Request-Id": "<b>"})
    assert reply.status in (400, 404) and b"script" not in reply.body and b"<b>" not in reply.body


def test_error_keeps_the_connection(pair, dead_address):
    server, _ = pair
    server.put_route("dead.example", targets=[dead_address])
    with server.connect() as conn:
        assert conn.exchange(host="nobody.example").status == 404
        assert conn.exchange("POST", host="nobody.example", body=b"x" * 1000).status == 404
        assert conn.exchange("POST", host="dead.example", body=b"x" * 1000).status == 502
        assert conn.exchange(host=HOST).status == 200


def test_head_gets_no_page(pair):
    server, _ = pair
    with server.connect() as conn:
        reply = conn.exchange("HEAD", host="nobody.example")
        assert reply.status == 404 and int(reply.headers["content-length"]) > 0
        assert conn.exchange(host=HOST).status == 200


def test_nobody_listens(pair, dead_address):
    server, _ = pair
    server.put_route("dead.example", targets=[dead_address])
    reply = server.get(host="dead.example")
    assert reply.status == 502
    assert reply.headers["proxy-status"] == "pointsman; error=connection_refused"
    record = server.log_records(1)[0]
    assert record["pointsman.end"] == "connect_failed"
    assert record["pointsman.target"] == dead_address


def test_no_live_target(pair):
    server, target = pair
    server.put_pool("p", [{"address": target, "state": "down"}, {"address": "127.0.0.1:9",
                                                                 "weight": 0}])
    server.put_route("down.example", pool="p")
    reply = server.get(host="down.example")
    assert reply.status == 503
    assert reply.headers["proxy-status"] == "pointsman; error=destination_unavailable"
    assert end_of(server) == "no_target"
    server.put_pool("p", [])
    assert server.get(host="down.example").status == 503


def test_origin_closes(pair):
    server, target = pair
    target.handler = o.script(o.CLOSE)
    reply = server.get(host=HOST)
    assert reply.status == 502
    assert reply.headers["proxy-status"] == "pointsman; error=connection_terminated"
    assert end_of(server) == "origin_closed"
    target.handler = o.script(b"HTTP/1.1 200 O", 0.05, o.CLOSE)
    assert server.get(host=HOST).status == 502
    assert end_of(server, 2) == "origin_closed"
    target.handler = o.script(o.RESET)
    assert server.get(host=HOST).status == 502
    assert end_of(server, 3) == "origin_closed"


def test_origin_is_slow(pair):
    server, target = pair
    put_impatient(server, target)
    target.handler = o.hang()
    reply = server.get(host=HOST)
    assert reply.status == 504
    assert reply.headers["proxy-status"] == "pointsman; error=http_response_timeout"
    assert end_of(server) == "origin_timeout"
    wait_until(lambda: target.open_count == 0, "the origin's connection closed")


def test_interim_responses_do_not_stretch_the_time(pair):
    server, target = pair
    put_impatient(server, target)
    target.handler = o.script(*[b"HTTP/1.1 102 Processing\r\n\r\n", 0.1] * 600)
    assert server.get(host=HOST).status == 504
    assert end_of(server) == "origin_timeout"


def test_origin_stops_in_the_body(pair):
    server, target = pair
    put_impatient(server, target)
    target.handler = o.script(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", 60)
    with pytest.raises((Truncated, ConnectionError)):
        server.get(host=HOST)
    assert end_of(server) == "origin_timeout"


def test_slow_body_that_moves_is_not_too_slow(pair):
    server, target = pair
    put_impatient(server, target, "4s")
    target.handler = o.script(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", *[b"x", 0.7] * 8)
    assert server.get(host=HOST).body == b"x" * 8


def test_unavailable_page(pair, dead_address):
    server, target = pair
    page = {"status": 503, "body": "<p>Back soon</p>", "retry_after": "90s"}
    server.put_route("dead.example", targets=[dead_address], unavailable=page)
    reply = server.get(host="dead.example")
    assert reply.status == 503 and reply.text == "<p>Back soon</p>"
    assert reply.headers["retry-after"] == "90"
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.headers["proxy-status"] == "pointsman; error=connection_refused"
    assert end_of(server) == "connect_failed"
    # An answer of the origin's own is not replaced.
    server.put_route(HOST, targets=[target], unavailable=page, retries=0)
    target.handler = o.respond(503, body="mine")
    assert server.get(host=HOST).text == "mine"
    target.handler = o.script(o.CLOSE)
    assert server.get(host=HOST).text == "<p>Back soon</p>"
    server.put_route("dead.example", targets=[dead_address], unavailable={"retry_after": "5s"})
    reply = server.get(host="dead.example")
    assert reply.status == 503 and reply.headers["retry-after"] == "5"


# --- truncated ---

CUT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n12345",
    "in a trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nX: y",
    "malformed": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nzz\r\n",
}


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("how", CUT)
@pytest.mark.parametrize("end", [o.CLOSE, o.RESET], ids=["close", "reset"])
def test_truncated_response_is_visible(pair, how, version, end):
    server, target = pair
    seen = threading.Event()
    target.handler = o.script(CUT[how], seen, end)
    with server.connect() as conn:
        conn.request(host=HOST, version=version)
        if how == "malformed":
            seen.set()  # it ends at once; the head may come or not
        head = None
        with pytest.raises((Truncated, ConnectionError)):
            head = conn.read_head()
            seen.set()
            for _ in conn.iter_body(head):
                pass
            if version == "HTTP/1.0":  # nothing but a reset can say it there
                assert "content-length" not in head.headers
                pytest.fail("the client took it for complete")
    assert end_of(server) == ("origin_bad_response" if how == "malformed" else "origin_truncated")


def test_reset_of_a_close_delimited_response_is_visible(pair):
    server, target = pair
    seen = threading.Event()
    target.handler = o.script(b"HTTP/1.1 200 OK\r\n\r\n12345", seen, o.RESET)
    with server.connect() as conn:
        conn.request(host=HOST)
        head = conn.read_head()
        seen.set()
        with pytest.raises((Truncated, ConnectionError)):
            for _ in conn.iter_body(head):
                pass


# --- the corpus of malformed responses ---


def corpus(name):
    def expand(match):
        return match[1] * int(match[2])

    for entry in yaml.safe_load((ROOT / "test/corpus" / name).read_text()):
        if entry.get("expand"):
            entry["bytes"] = re.sub(r"@\{(.+?)\*(\d+)\}", expand, entry["bytes"], flags=re.S)
        entry["bytes"] = entry["bytes"].encode("latin-1")
        yield entry


def check_response(server, entry):
    method = entry.get("method", "GET")
    with server.connect() as conn:
        conn.request(method, "/", HOST)
        try:
            reply = conn.read_response(method)
        except (Truncated, ConnectionError) as fault:
            assert entry.get("body_fault"), f"{entry['name']}: {fault}"
            return
    assert reply.status == entry["status"], f"{entry['name']}: {reply}"
    if reply.status == 502:
        assert "proxy-status" in reply.headers, entry["name"]
    elif "body" in entry:
        assert reply.body == entry["body"].encode("latin-1"), entry["name"]


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "bytes"])
def test_malformed_responses(pair, pieces):
    server, target = pair
    faults = []
    for entry in corpus("responses.yaml"):
        data = entry["bytes"]
        if pieces and len(data) > 400:
            continue
        steps = [data[i:i + 1] for i in range(len(data))] if pieces else [data]
        target.handler = o.script(*steps, o.CLOSE)
        try:
            check_response(server, entry)
        except (AssertionError, Malformed, TimeoutError) as fault:
            faults.append(f"{entry['name']}: {fault!r}")
    assert not faults, "\n".join(faults)
    target.handler = o.echo()
    assert server.get(host=HOST).status == 200
