# SPDX-License-Identifier: MIT
"""What is known of targets: active checks, failures of requests, and what is told of it."""
import json
import socket
import threading
import time

import pytest

from support.net import PATIENCE, wait_until
from support.origin import RESET, hang, respond, script

HOST = "h.example"
FAST = {"path": "/healthz", "interval": "500ms", "timeout": "500ms", "rise": 2, "fall": 3}
OK = respond(200, body=b"ok")


class Healthy:
    """The answers to checks of an origin, and how many came."""

    def __init__(self, origin):
        self.origin, self.status, self.headers, self.body = origin, 200, [], b"fine"
        origin.on("/healthz", self.answer)

    def answer(self, request, peer):
        return respond(self.status, self.headers, self.body)(request, peer)

    @property
    def checks(self):
        return [r for r in self.origin.requests if r.path == "/healthz"]


@pytest.fixture
def pair(origin):
    origins = [origin(respond(200, body=str(number).encode())) for number in range(2)]
    return [Healthy(one) for one in origins]


def put(server, healthy, **fields):
    server.put_pool("h", [h.origin.address for h in healthy], **{"health": FAST, **fields})
    server.put_route(HOST, pool="h")


def state_of(server, healthy):
    for target in server.api("GET", "/v1/pools/h/targets").json:
        if target["address"] == healthy.origin.address:
            return target
    return None


def wait_health(server, healthy, health):
    wait_until(lambda: state_of(server, healthy)["health"] == health, f"health {health}")


def answers(server, count=10):
    replies = [server.get(host=HOST) for _ in range(count)]
    assert {reply.status for reply in replies} == {200}
    return {reply.text for reply in replies}


class Events(threading.Thread):
    """The health events from now on."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.sock = socket.create_connection(("127.0.0.1", server.admin_port))
        self.sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.all, self.connected = [], threading.Event()
        self.start()

    def run(self):
        kind = None
        try:
            for line in self.sock.makefile(encoding="utf-8"):
                line = line.strip()
                if line == ": connected":
                    self.connected.set()
                elif line.startswith("event:"):
                    kind = line[6:].strip()
                elif line.startswith("data:") and kind == "health":
                    self.all.append(json.loads(line[5:]))
        except (OSError, ValueError):
            pass

    def wait(self, **wanted):
        def found():
            return [e for e in self.all if all(e.get(k) == v for k, v in wanted.items())]
        wait_until(found, f"an event {wanted} among {self.all}")
        return found()[0]

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


@pytest.fixture
def events():
    started = []

    def make(server):
        started.append(Events(server))
        assert started[-1].connected.wait(PATIENCE)
        return started[-1]

    yield make
    for one in started:
        one.close()


def test_a_failing_target_goes_and_comes_back(pointsman, pair, events):
    server, (a, b) = pointsman(), pair
    told = events(server)
    put(server, pair)
    wait_health(server, a, "up")
    wait_health(server, b, "up")
    assert answers(server) == {"0", "1"}
    a.status = 503
    wait_health(server, a, "down")
    assert answers(server) == {"1"}
    assert state_of(server, a)["reason"] == "status 503" and state_of(server, a)["since"]
    event = told.wait(pool="h", target=a.origin.address, state="down")
    assert event["reason"] == "status 503" and event["time"]
    metrics = server.metrics()
    assert metrics["pointsman_targets_down"] == 1
    assert metrics[f'pointsman_target_up{{pool="h",target="{a.origin.address}"}}'] == 0
    assert metrics[f'pointsman_target_up{{pool="h",target="{b.origin.address}"}}'] == 1
    assert f"{a.origin.address}" in server.stderr() and "status 503" in server.stderr()
    a.status = 200
    wait_health(server, a, "up")
    assert answers(server) == {"0", "1"}
    told.wait(target=a.origin.address, state="up")
    assert server.metrics()["pointsman_health_transitions_total"] >= 2


def test_rise_and_fall(pointsman, pair):
    server, (a, b) = pointsman(), pair
    # One that ran out of time may not have come to the origin: there is enough of it.
    put(server, pair, health={**FAST, "interval": "3s", "timeout": "3s", "fall": 4, "rise": 3})
    wait_health(server, a, "up")
    count = len(a.checks)
    a.status = 500
    wait_health(server, a, "down")
    assert len(a.checks) - count >= 4
    count, a.status = len(a.checks), 200
    wait_health(server, a, "up")
    assert len(a.checks) - count >= 3
    assert answers(server) == {"0", "1"}
    wait_health(server, b, "up")


def test_all_down_is_503_at_once(pointsman, pair):
    server = pointsman()
    put(server, pair, limits={"requests_per_target": 1, "queue": 100, "queue_timeout": "20s"})
    for healthy in pair:
        healthy.status = 500
    for healthy in pair:
        wait_health(server, healthy, "down")
    before = time.monotonic()
    reply = server.get(host=HOST, timeout=30)
    assert reply.status == 503 and time.monotonic() - before < 15  # it did not wait for the queue
    assert server.metrics()["pointsman_queued_total"] == 0
    record = server.log_records(1)[-1]
    assert record["pointsman.end"] == "no_target"
    assert "destination_unavailable" in reply.headers.get("proxy-status")


def test_what_a_check_says_and_expects(pointsman, pair):
    server, (a, b) = pointsman(), pair
    put(server, pair, health={**FAST, "path": "/healthz?deep=1", "host": "check.example",
                              "status": "204,210-220"})
    a.status, b.status = 215, 200
    wait_health(server, a, "up")
    wait_health(server, b, "down")
    head = a.checks[-1]
    assert head.target == "/healthz?deep=1" and head.headers.get("host") == "check.example"
    assert head.headers.get("user-agent").startswith("pointsman")
    put(server, pair, health={**FAST, "body": "all is well"})
    a.body, b.body, a.status, b.status = b"x" * 5000 + b"all is well", b"all is wrong", 200, 200
    wait_health(server, a, "up")
    # It was down before: the reason is that of the newest check.
    wait_until(lambda: state_of(server, b)["reason"] == "body not found", "the body's check")
    wait_health(server, b, "down")


def test_tcp_checks(pointsman, pair):
    server, (a, b) = pointsman(), pair
    put(server, pair, health={"type": "tcp", "interval": "500ms", "timeout": "500ms", "rise": 1,
                              "fall": 1})
    wait_health(server, a, "up")
    a.origin.stop()
    wait_health(server, a, "down")
    assert "connect" in state_of(server, a)["reason"]
    assert answers(server) == {"1"}
    a.origin.start()
    wait_health(server, a, "up")
    assert b.origin.faults == []


def test_a_silent_target_is_down(pointsman, pair):
    server, (a, _) = pointsman(), pair
    a.origin.on("/healthz", hang())
    put(server, pair, health={**FAST, "timeout": "300ms"})
    wait_health(server, a, "down")
    assert "no answer" in state_of(server, a)["reason"]


def test_its_own_word(pointsman, pair, events):
    server, (a, b) = pointsman(workers=1), pair
    told = events(server)
    put(server, pair, balance="round_robin")
    wait_health(server, a, "up")
    wait_health(server, b, "up")
    a.headers = [("Pointsman-Target", "drain")]
    told.wait(target=a.origin.address, state="drain")
    assert answers(server) == {"1"}
    shown = state_of(server, a)
    assert (shown["health"], shown["reason"], shown["weight_now"]) == (
        "up", "it says drain itself", 0)
    a.headers = [("Pointsman-Target", "weight=3, drain")]
    told.wait(target=a.origin.address, state="weight")
    assert state_of(server, a)["weight_now"] == 0
    a.headers = [("Pointsman-Target", "weight=3")]
    wait_until(lambda: state_of(server, a)["weight_now"] == 3, "the weight")
    replies = [server.get(host=HOST).text for _ in range(40)]
    assert replies.count("0") == 30
    a.headers = []
    wait_until(lambda: state_of(server, a)["weight_now"] == 1, "what is declared")


def test_one_prober_and_none_for_what_is_gone(pointsman, pair):
    server, (a, b) = pointsman(), pair
    put(server, pair, health=FAST)
    for number in range(20):
        server.put_route(f"r{number}.example", pool="h")
    wait_health(server, a, "up")
    count = len(a.checks)
    began = time.monotonic()
    wait_until(lambda: len(a.checks) - count >= 10, "checks")
    # Between two there is an interval, less at most a tenth.
    assert len(a.checks) - count <= (time.monotonic() - began) / 0.45 + 2, "however many routes"
    server.delete_target("h", a.origin.address)
    wait_until(lambda: a.origin.open_count == 0, "the last check")
    count, others = len(a.checks), len(b.checks)
    wait_until(lambda: len(b.checks) > others + 5, "the other's checks go on")
    assert len(a.checks) == count


def test_an_unchanged_target_keeps_its_state(pointsman, pair):
    server, (a, b) = pointsman(), pair
    put(server, pair, health={**FAST, "interval": "1s", "rise": 100})
    a.status = 500
    wait_health(server, a, "down")
    a.status = 200  # it would have to be good a hundred times
    for number in range(10):
        put(server, pair, health={**FAST, "interval": "1s", "rise": 100}, timeouts={"response": f"{number + 1}s"})
        server.put_target("h", b.origin.address, weight=number + 1)
        assert state_of(server, a)["health"] == "down"
        assert answers(server, 3) == {"1"}


def test_failing_requests_eject(pointsman, origin, events):
    server = pointsman()
    good, bad = origin(respond(200, body=b"good")), origin(script(RESET))
    told = events(server)
    server.put_pool("h", [good.address, bad.address], passive={"max_fails": 3},
                    eject={"base_time": "20s"})
    server.put_route(HOST, pool="h", retries=0)
    statuses = [server.get(host=HOST).status for _ in range(60)]
    failed = statuses.count(502)
    assert 3 <= failed <= 6, statuses
    event = told.wait(pool="h", target=bad.address, state="ejected")
    assert event["reason"]
    assert server.metrics()["pointsman_ejections_total"] == 1
    assert server.metrics()["pointsman_targets_ejected"] == 1
    bad.handler = respond(200, body=b"better")
    told.wait(target=bad.address, state="returned")
    wait_until(lambda: server.get(host=HOST).text == "better", "it serves again")


def test_one_of_one_is_never_ejected(pointsman, origin):
    server, bad = pointsman(), origin(script(RESET))
    server.put_pool("h", [bad.address])
    server.put_route(HOST, pool="h", retries=0)
    assert {server.get(host=HOST).status for _ in range(20)} == {502}
    assert server.metrics()["pointsman_ejections_total"] == 0
    bad.handler = OK
    assert server.get(host=HOST).status == 200


def test_statuses_may_count_as_failures(pointsman, origin):
    server = pointsman()
    good, bad = origin(respond(200, body=b"good")), origin(respond(500, body=b"bad"))
    server.put_pool("h", [good.address, bad.address],
                    passive={"max_fails": 2, "status": "500-504"}, eject={"base_time": "60s"})
    server.put_route(HOST, pool="h")
    statuses = [server.get(host=HOST).status for _ in range(40)]
    assert 2 <= statuses.count(500) <= 6 and statuses[-10:] == [200] * 10


def test_panic(pointsman, origin, events):
    server = pointsman()
    origins = [origin(script(RESET)) for _ in range(4)]
    told = events(server)
    server.put_pool("h", [o.address for o in origins], passive={"max_fails": 1},
                    eject={"max_percent": 100, "base_time": "60s"}, panic_percent=50)
    server.put_route(HOST, pool="h", retries=0)
    for _ in range(40):
        assert server.get(host=HOST).status == 502
    told.wait(pool="h", state="panic")
    assert server.metrics()["pointsman_pools_in_panic"] == 1
    for one in origins:
        one.handler = OK
    assert {server.get(host=HOST).status for _ in range(20)} == {200}
    assert all(one.requests[-1].complete for one in origins)


def test_slow_start(pointsman, pair):
    server, (a, b) = pointsman(workers=1), pair
    # Long: a third of the whole weight is not reached while a slow machine asks.
    rules = {"balance": "round_robin", "health": {**FAST, "rise": 1}}
    put(server, pair, slow_start="120s", **rules)
    wait_health(server, a, "up")
    wait_health(server, b, "up")
    a.status = 500
    wait_health(server, a, "down")
    a.status = 200
    wait_health(server, a, "up")
    replies = [server.get(host=HOST).text for _ in range(60)]
    early = replies.count("0")
    assert 0 < early < 24, "a cold target gets a part of its share"
    put(server, pair, slow_start="1s", **rules)
    wait_until(lambda: [server.get(host=HOST).text for _ in range(60)].count("0") == 30,
               "its whole share")


def test_checks_over_tls(pointsman, certs, tls_origin):
    """TLS as the pool says, or settings of the check's own: here they do not trust the target."""
    server, target = pointsman(), tls_origin(certs.issue("t.example"))
    tls = {"ca": certs.ca_pem, "server_name": "t.example"}
    health = {**FAST, "timeout": "3s", "interval": "3s", "fall": 1, "rise": 1}

    def state():
        return server.api("GET", "/v1/pools/h/targets").json[0]

    server.put_pool("h", [target.address], tls=tls, health={**health, "tls": {}})
    wait_until(lambda: state()["health"] == "down", "the check trusts only the system")
    assert "TLS" in state()["reason"]
    server.put_pool("h", [target.address], tls=tls, health=health)
    wait_until(lambda: state()["health"] == "up", "the check does as the pool")


def test_checks_do_not_reach_the_admin_api(pointsman):
    server = pointsman()
    for address in (f"127.0.0.1:{server.admin_port}", f"localhost:{server.admin_port}"):
        server.put_pool("h", [address], health={**FAST, "path": "/v1/status"})
        wait_until(lambda: server.api("GET", "/v1/pools/h/targets").json[0]["health"] == "down",
                   "refused")
        target = server.api("GET", "/v1/pools/h/targets").json[0]
        assert "admin" in target["reason"]
