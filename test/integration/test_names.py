# SPDX-License-Identifier: MIT
"""Targets that are names, with a real DNS server whose answers change."""
import collections
import socket
import threading
import time

import pytest

from support.net import PATIENCE, free_port, wait_until
from support.origin import respond

HOST = "n.example"


@pytest.fixture
def server(pointsman, knot):
    return pointsman({"dns": {"servers": [knot.address], "min_ttl": "100ms", "timeout": "500ms"}})


def named(origin, port, *hosts):
    """Origins on one port of several addresses, each of which tells its address."""
    return [origin(respond(200, body=host.encode()), host=host, port=port) for host in hosts]


def served_by(server, count=20):
    replies = [server.get(host=HOST) for _ in range(count)]
    assert {reply.status for reply in replies} == {200}
    return collections.Counter(reply.text for reply in replies)


def targets(server, pool="n"):
    return server.api("GET", f"/v1/pools/{pool}/targets").json


def put(server, target, **fields):
    server.put_pool("n", [target], **fields)
    server.put_route(HOST, pool="n")


def test_all_addresses_of_a_name_serve_and_follow_it(server, knot, origin):
    port = free_port()
    named(origin, port, "127.0.0.2", "127.0.0.3", "127.0.0.4")
    knot.set(["app A 127.0.0.2", "app A 127.0.0.3"])
    put(server, f"app.test:{port}")
    assert set(served_by(server)) == {"127.0.0.2", "127.0.0.3"}
    assert {a["address"] for a in targets(server)[0]["addresses"]} == {"127.0.0.2", "127.0.0.3"}
    knot.set(["app A 127.0.0.3", "app A 127.0.0.4"])
    wait_until(lambda: set(served_by(server, 10)) == {"127.0.0.3", "127.0.0.4"}, "the new answer")
    assert "127.0.0.2" not in served_by(server)


def test_requests_to_an_address_that_is_gone_finish(server, knot, origin):
    port, released = free_port(), threading.Event()

    def slow(request, peer):
        released.wait(PATIENCE)
        return respond(200, body=b"old")(request, peer)

    old = origin(slow, host="127.0.0.2", port=port)
    named(origin, port, "127.0.0.3")
    knot.set(["app A 127.0.0.2"])
    put(server, f"app.test:{port}")
    conn = server.connect()
    conn.request("GET", "/", host=HOST)
    old.wait_requests(1)
    knot.set(["app A 127.0.0.3"])
    wait_until(lambda: [a["address"] for t in targets(server) for a in t.get("addresses", [])
                        if a.get("state") != "leaving"] == ["127.0.0.3"], "the new answer is live")
    assert served_by(server, 5) == {"127.0.0.3": 5}
    released.set()
    assert conn.read_response().text == "old"


def test_a_put_waits_for_the_first_answer(server, knot, origin):
    port = free_port()
    named(origin, port, "127.0.0.2")
    knot.set(["app A 127.0.0.2"])
    for number in range(20):
        server.put_route(f"r{number}.example", targets=[f"app.test:{port}"])
        assert server.get(host=f"r{number}.example").status == 200


class SlowDns:
    """A server's answers over UDP, each so many seconds late."""

    def __init__(self, address, seconds):
        host, _, port = address.rpartition(":")
        self.server, self.seconds = (host, int(port)), seconds
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            question, asker = self.sock.recvfrom(4096)
            threading.Thread(target=self.relay, args=(question, asker), daemon=True).start()

    def relay(self, question, asker):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.sendto(question, self.server)
            answer = sock.recv(4096)
        time.sleep(self.seconds)
        self.sock.sendto(answer, asker)


def ask_during(server, change):
    """The answers to requests meanwhile, one after it, and how long it took."""
    replies, done = [], threading.Event()

    def ask():
        with server.connect() as conn:
            while not done.is_set():
                replies.append(conn.exchange("GET", "/", HOST))

    client = threading.Thread(target=ask)
    client.start()
    try:
        wait_until(lambda: replies, "the first answer")
        before = time.monotonic()
        reply = change()
        took = time.monotonic() - before
        assert reply.status in (200, 202), reply
        return replies, server.get(host=HOST), took
    finally:
        done.set()
        client.join()


@pytest.mark.parametrize("how", ["put", "patch", "switch", "switch_none", "set_backends", "route"])
def test_what_a_name_replaces_serves_until_its_answer(pointsman, knot, origin, how):
    """Nobody gets 503 while the name that takes the place of an address is asked for."""
    port, before = free_port(), origin(respond(200, body=b"before"))
    named(origin, port, "127.0.0.2")
    knot.set([f"app{number} A 127.0.0.2" for number in range(5)])
    server = pointsman({"dns": {"servers": [SlowDns(knot.address, 0.3).address]}})
    pool = "/v1/pools/default"
    change = {
        "put": lambda after: server.put_pool("default", [after]),
        "patch": lambda after: server.api("PATCH", pool, {"targets": [after]}),
        "switch": lambda after: server.api("POST", pool + "/switch", {"targets": [after]}),
        "switch_none": lambda after: server.api("POST", pool + "/switch?wait=none",
                                                {"targets": [after]}),
        "set_backends": lambda after: server.api("POST", "/admin/set_backends/", [after]),
        "route": lambda after: server.put_route(HOST, targets=[after]),
    }[how]
    for number in range(5):  # a second is waited at most, which a machine may stand still for
        server.put_pool("default", [before])
        server.put_route(HOST, **({"targets": [before]} if how == "route" else {"pool": "default"}))
        after = f"app{number}.test:{port}"
        replies, last, took = ask_during(server, lambda: change(after))
        if took < 1:
            break
    assert took < 1
    assert {reply.status for reply in replies} == {200}
    assert replies[0].text == "before"
    assert last.text == "127.0.0.2"  # live when the call returns


def change_quietly(server, after, how):
    """A change that nobody asked the name for before it is live."""
    if how == "batch":
        return server.batch([{"op": "put", "kind": "pool", "key": "default",
                              "value": {"targets": [after]}}])
    return server.api("PUT", f"/v1/pools/default?wait={how}", {"targets": [after]})


@pytest.mark.parametrize("how", ["none", "batch", "fleet"])
def test_what_a_name_replaces_serves_where_nobody_waits_for_it(pointsman, fleet, redis, knot, origin, how):
    """`how` fleet: as the other node sees it."""
    port, before = free_port(), origin(respond(200, body=b"before"))
    named(origin, port, "127.0.0.2")
    knot.set([f"app{number} A 127.0.0.2" for number in range(5)])
    config = {"dns": {"servers": [SlowDns(knot.address, 0.3).address]}}
    if how == "fleet":
        writer, server = fleet(redis(), 2, config)
    else:
        writer = server = pointsman(config)
    writer.put_pool("default", [before])
    writer.put_route(HOST, pool="default")
    seen = []

    def change(after):
        begin = time.monotonic()
        reply = change_quietly(writer, after, how)
        wait_until(lambda: server.get(host=HOST).text == "127.0.0.2", "the new target serves")
        seen.append(time.monotonic() - begin)
        return reply

    for number in range(5):  # as above
        writer.put_pool("default", [before])
        wait_until(lambda: server.get(host=HOST).text == "before", "the old target serves")
        replies, _, _ = ask_during(server, lambda: change(f"app{number}.test:{port}"))
        if seen[-1] < 1:
            break
    assert seen[-1] < 1
    assert {reply.status for reply in replies} == {200}
    assert {reply.text for reply in replies} == {"before", "127.0.0.2"}


def test_a_drain_waits_for_no_name(pointsman, knot, origin):
    one, other = origin(), origin()
    server = pointsman({"dns": {"servers": [SlowDns(knot.address, 9).address], "timeout": "10s"}})
    server.put_pool("n", [one, other, "app.test:80"])  # waits a second, in vain
    server.put_route(HOST, pool="n")
    took = {"drain": [], "up": []}
    for state in ["drain", "up"] * 3:
        before = time.monotonic()
        server.put_target("n", one, state=state)
        took[state].append(time.monotonic() - before)
    # A second each, if they waited; the others may have met a machine that stood still.
    assert max(map(min, took.values())) < 0.9, took
    assert server.get(host=HOST).status == 200


def test_a_name_without_an_answer_is_503_until_there_is_one(server, knot, origin):
    port = free_port()
    named(origin, port, "127.0.0.2")
    before = time.monotonic()
    put(server, f"later.test:{port}")
    assert time.monotonic() - before < 30  # a second, and no more than that by itself
    before = time.monotonic()
    reply = server.get(host=HOST)
    assert reply.status == 503 and time.monotonic() - before < 30
    assert server.log_records(1)[-1]["pointsman.end"] == "no_target"
    knot.set(["later A 127.0.0.2"])
    wait_until(lambda: server.get(host=HOST).status == 200, "the name is known")


def test_the_last_answer_is_kept_when_dns_fails(server, knot, origin):
    port = free_port()
    named(origin, port, "127.0.0.2")
    knot.set(["app A 127.0.0.2"])
    put(server, f"app.test:{port}")
    assert served_by(server, 2)
    failures = server.metrics()["pointsman_dns_failures_total"]
    knot.stop()
    wait_until(lambda: server.metrics()["pointsman_dns_failures_total"] > failures,
               "a question failed")
    assert served_by(server, 5) == {"127.0.0.2": 5}
    knot.start()
    knot.set(["app A 127.0.0.3"])
    named(origin, port, "127.0.0.3")
    wait_until(lambda: "127.0.0.3" in served_by(server, 4), "DNS is followed again")


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on loopback")


@needs_ipv6
def test_both_families_are_used(server, knot, origin):
    port = free_port()
    named(origin, port, "127.0.0.1", "::1")
    knot.set(["dual A 127.0.0.1", "dual AAAA ::1"])
    put(server, f"dual.test:{port}")
    assert set(served_by(server)) == {"127.0.0.1", "::1"}


@needs_ipv6
def test_a_silent_family_costs_a_quarter_of_a_second(server, knot, origin):
    port = free_port()
    silent = socket.socket(socket.AF_INET6)
    silent.bind(("::1", port))
    silent.listen(0)
    waiting = []
    for _ in range(4):  # its queue is full: connections are not answered
        sock = socket.socket(socket.AF_INET6)
        sock.setblocking(False)
        sock.connect_ex(("::1", port))
        waiting.append(sock)
    named(origin, port, "127.0.0.1")
    knot.set(["dual A 127.0.0.1", "dual AAAA ::1"])
    # Passive health would put the silent one aside after a few.
    put(server, f"dual.test:{port}", passive={"max_fails": 0}, keepalive={"idle": 0},
        timeouts={"connect": "20s"})
    times = []
    for _ in range(12):
        before = time.monotonic()
        assert server.get(host=HOST).status == 200
        times.append(time.monotonic() - before)
    assert max(times) < 10, times  # long before the silent one's time is over
    assert server.metrics()["pointsman_upstream_second_address_total"] >= 1
    assert sum(t["requests"] for t in targets(server)) == 0
    for sock in [silent, *waiting]:
        sock.close()
