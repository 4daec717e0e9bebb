# SPDX-License-Identifier: MIT
"""Second attempts: which requests get one, and that stale connections are no client's problem."""
import threading

import pytest

from support import origin as o
from support.net import PATIENCE, wait_until

HOST = "a.example"
LOOPS = 200


@pytest.fixture
def pair(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route(HOST, targets=[target])
    return server, target


# --- another target ---


def test_dead_targets_are_passed_over(pointsman, origin, dead_address):
    server, target = pointsman(), origin()
    server.put_pool("p", [dead_address, target], balance="round_robin")
    server.put_route(HOST, pool="p")
    for method in ("GET", "POST"):  # nothing was sent: any method
        for i in range(10):
            body = b"hello" if method == "POST" else b""
            reply = server.exchange(method, f"/{i}", HOST, body=body or None)
            assert reply.status == 200 and reply.json["body"] == body.decode()
    assert server.metrics()["pointsman_upstream_retries_total"] > 0
    assert max(r.get("pointsman.retries", 0) for r in server.log_records(20)) == 1


def test_number_of_retries(pointsman, origin):
    server = pointsman()
    targets = [origin(o.script(o.CLOSE)) for _ in range(4)]
    server.put_pool("p", targets)
    for retries in (0, 1, 3):
        server.put_route(HOST, pool="p", retries=retries)
        for target in targets:
            target.clear()
        assert server.get(host=HOST).status == 502
        assert sum(len(t.requests) for t in targets) == retries + 1
        assert max(len(t.requests) for t in targets) == 1  # each another one


def test_all_targets_dead(pointsman, dead_address):
    server = pointsman()
    server.put_route(HOST, targets=[dead_address], retries=5)
    assert server.get(host=HOST).status == 502


@pytest.mark.parametrize("status", [502, 503, 504])
def test_retry_on_a_status(pointsman, origin, status):
    server = pointsman()
    bad, good = origin(o.respond(status, body="bad")), origin()
    server.put_pool("p", [bad, good], balance="round_robin")
    server.put_route(HOST, pool="p", retry_on=[str(status)])
    for _ in range(6):
        assert server.get(host=HOST).status == 200
        reply = server.exchange("PUT", host=HOST, body=b"again")
        assert reply.status == 200 and reply.json["body"] == "again"
    assert bad.requests
    codes = {server.exchange("POST", host=HOST, body=b"x").status for _ in range(6)}
    assert codes == {200, status}  # a POST is not sent twice
    server.put_route(HOST, pool="p")
    assert {server.get(host=HOST).status for _ in range(6)} == {200, status}


def test_the_last_bad_answer_is_the_clients(pointsman, origin):
    server = pointsman()
    targets = [origin(o.respond(503, body=f"bad {i}")) for i in range(2)]
    server.put_route(HOST, targets=targets, retry_on=["503"], retries=1)
    reply = server.get(host=HOST)
    assert reply.status == 503 and reply.text.startswith("bad")


def test_retry_on_timeout(pointsman, origin):
    server = pointsman()
    slow, good = origin(o.hang()), origin()
    # Without ejection: the slow one would soon not be asked any more.
    server.put_pool("p", [slow, good], balance="round_robin", passive={"max_fails": 0})
    server.put_route(HOST, pool="p", retry_on=["timeout"], timeouts={"response": "4s"})
    for _ in range(2):
        assert server.get(host=HOST).status == 200
    assert slow.requests
    server.put_route(HOST, pool="p", timeouts={"response": "4s"})
    assert {server.get(host=HOST).status for _ in range(2)} == {200, 504}


def test_put_is_sent_again_with_its_body(pointsman, origin):
    server = pointsman()
    bad = origin(o.script(o.CLOSE))
    good = origin()
    server.put_pool("p", [bad, good], balance="round_robin")
    server.put_route(HOST, pool="p")
    body = bytes(range(256)) * 200
    for _ in range(6):
        reply = server.exchange("PUT", host=HOST, body=body)
        assert reply.status == 200 and good.last.body == body
        reply = server.exchange("PUT", host=HOST, headers={"Transfer-Encoding": "chunked"},
                                body=b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n")
        assert reply.json["body"] == "hello"
    assert bad.requests


def test_post_is_not_sent_again(pair):
    server, target = pair
    target.handler = o.script(o.CLOSE)
    assert server.exchange("POST", host=HOST, body=b"pay").status == 502
    assert len(target.requests) == 1


def test_large_put_is_not_sent_again(pair):
    """Its beginning is not kept any more; half of it must not be sent as if it were all."""
    server, target = pair
    target.handler = o.script(o.CLOSE)
    assert server.exchange("PUT", host=HOST, body=b"x" * 200000).status == 502
    assert len(target.requests) == 1
    server.put_route(HOST, targets=[target], buffer_request="1m")
    assert server.exchange("PUT", host=HOST, body=b"x" * 200000).status == 502
    assert len(target.requests) in (2, 3)


def test_begun_response_is_not_asked_for_again(pair):
    server, target = pair
    target.handler = o.script(b"HTTP/1.1 200 OK\r\nX-Half: ", 0.05, o.CLOSE)
    assert server.get(host=HOST).status == 502
    assert len(target.requests) == 1


# --- connections that the origin closed ---


def test_stale_connections_are_invisible(pair):
    """The origin closes after each response without saying so; the next request comes at once."""
    server, target = pair
    target.handler = o.script(o.encode_response(200, body="x"), o.CLOSE)
    for method in ("GET", "POST", "PUT"):
        with server.connect() as conn:
            for i in range(LOOPS):
                body = None if method == "GET" else b"hello"
                reply = conn.exchange(method, f"/{i}", HOST, body=body)
                assert reply.status == 200, (method, i, reply)
                if method == "POST":  # one that is closed while it is on its way: 502 is right then
                    wait_until(lambda: target.open_count == 0, "the target has closed")
    assert len(target.requests) == 3 * LOOPS  # and each came once


def test_stale_connection_under_a_streamed_body(pair):
    server, target = pair
    target.handler = o.script(o.encode_response(200, body="x"), o.CLOSE)
    with server.connect() as conn:
        for _ in range(LOOPS // 4):
            conn.request("POST", "/", HOST, {"Content-Length": "1000"})
            conn.send(b"x" * 500)
            conn.send(b"x" * 500)
            assert conn.read_response().status == 200
            # One that closes while the next body is on its way may have acted on it: 502 is right then.
            wait_until(lambda: target.open_count == 0, "the target has closed")
    assert all(r.complete and r.body_len == 1000 for r in target.requests)
    assert len(target.requests) == LOOPS // 4


def test_stale_after_a_while(pair):
    """The connection is closed while it is idle."""
    server, target = pair
    with server.connect() as conn:
        for _ in range(20):
            for method in ("GET", "POST"):
                assert conn.exchange(method, host=HOST, body=b"x").status == 200
                target.close_connections()
    assert [r.method for r in target.requests].count("POST") == 20


def test_stale_after_a_reset(pair):
    """The origin resets the connection a moment after its response."""
    server, target = pair
    target.handler = o.script(o.encode_response(200, body="x"), 0.01, o.RESET)
    with server.connect() as conn:
        for _ in range(10):
            for method in ("GET", "POST"):
                count = len(target.requests)
                assert conn.exchange(method, host=HOST, body=b"x").status == 200
                wait_until(lambda: target.open_count == 0, "it is reset")
                assert len(target.requests) == count + 1


def test_origin_restarts(pair):
    server, target = pair
    conns = [server.connect() for _ in range(8)]
    for conn in conns:
        assert conn.exchange(host=HOST).status == 200
    target.stop()
    target.start()
    for conn in conns:
        assert conn.exchange("POST", host=HOST, body=b"x").status == 200
        conn.close()


def test_close_while_a_request_is_on_its_way(pair):
    """The origin takes the second request on a kept connection and closes without an answer."""
    server, target = pair
    first = o.encode_response(200, body="one")

    def close_second(_request, peer):
        peer.send(first)
        if peer.wire.until(b"\r\n\r\n"):
            seen.append(peer.wire.seen)
        return False

    seen = []
    target.handler = close_second
    with server.connect() as conn:
        assert conn.exchange(host=HOST).body == b"one"
        assert conn.exchange(host=HOST).body == b"one"  # GET: sent again on a new connection
    assert len(seen) == 1
    with server.connect() as conn:
        assert conn.exchange(host=HOST).status == 200
        assert conn.exchange("POST", host=HOST, body=b"pay").status in (200, 502)
    posts = [r for r in target.requests if r.method == "POST"]
    taken = sum(b"POST " in bytes(data) for data in seen)
    assert len(posts) + taken == 1  # once only


@pytest.mark.parametrize("pause", [0, 0.05])
def test_response_that_nobody_asked_for(pair, pause):
    """It must not become the answer of the next request."""
    server, target = pair
    mine, evil = o.encode_response(200, body="mine"), o.encode_response(200, body="evil")
    for i in range(10):
        target.handler = o.script(*([mine, pause, evil] if pause else [mine + evil]), keep=True)
        with server.connect() as conn:
            assert conn.exchange(host=HOST).body == b"mine"
            wait_until(lambda: target.open_count == 0, "the connection was dropped")
            assert conn.exchange("POST" if i % 2 else "GET", host=HOST).body == b"mine"
            wait_until(lambda: target.open_count == 0, "the connection was dropped")


def test_keepalive_settings(pair):
    server, target = pair
    server.put_pool("p", [target], keepalive={"idle": 0})
    server.put_route(HOST, pool="p")
    for _ in range(3):
        assert server.get(host=HOST).status == 200
    assert target.connection_count == 3
    server.put_pool("p", [target], keepalive={"idle": 4, "timeout": "3s"})
    assert server.get(host=HOST).status == 200
    assert target.open_count == 1
    wait_until(lambda: target.open_count == 0, "the idle connection was closed")


def test_connections_are_shared_by_clients(pair):
    server, target = pair
    threads, faults = [], []

    def work():
        try:
            with server.connect() as conn:
                for _ in range(50):
                    assert conn.exchange(host=HOST).status == 200
        except Exception as fault:  # told by the test
            faults.append(fault)

    for _ in range(8):
        threads.append(threading.Thread(target=work))
        threads[-1].start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not faults
    assert target.connection_count <= 16 and len(target.requests) == 400
