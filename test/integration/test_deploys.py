# SPDX-License-Identifier: MIT
"""Targets that are restarted, replaced and killed under load, without an error for a client."""
import json
import threading
import time

import pytest

from support.deploys import Fleet, Load, build_load
from support.net import PATIENCE, free_port, wait_until
from support.origin import hang, respond

HOST = "s.example"


@pytest.fixture
def fleet(tmp_path):
    started = []

    def make(server, **fields):
        started.append(Fleet(server, tmp_path, **fields))
        return started[-1]

    yield make
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    return build_load(tmp_path_factory.mktemp("steady"))


def put_under_load(steady, server, three):
    """More than one target has requests under way all the time; no rate that needs a fast machine."""
    return Load(steady, server, three.host, rate=500, seconds=12)


def under_load(load, change, pause=0.0):
    """Changes one target after the other as long as the load goes on. How many times."""
    rounds = 0
    while load.is_running() and rounds < 20:
        change(rounds)
        rounds += 1
        time.sleep(pause)
    return rounds


@pytest.mark.deadline(300)
def test_rolling_restart_with_drain(pointsman, fleet, steady):
    server = pointsman(release=True)
    three = fleet(server)
    load = put_under_load(steady, server, three)
    rounds = under_load(load, lambda n: three.restart_drained(three.origins[n % 3]))
    result = load.result()
    assert rounds >= 3 and result["ok"] > 1000, (rounds, result)
    assert result["bad"] + result["begun"] + result["unanswered"] == 0, (rounds, result)


@pytest.mark.deadline(300)
def test_targets_that_are_killed(pointsman, fleet, steady):
    server = pointsman(release=True)
    three = fleet(server)
    load = put_under_load(steady, server, three)
    rounds = under_load(load, lambda n: three.kill(three.origins[n % 3]), pause=0.3)
    result = load.result()
    assert rounds >= 3 and result["ok"] > 1000, (rounds, result)
    # A response that had begun cannot be taken back.
    assert result["bad"] + result["unanswered"] == 0, (rounds, result)
    assert result["begun"] <= server.metrics()["pointsman_responses_truncated_total"]


def put(server, targets, **fields):
    server.put_pool("s", [t.address for t in targets], **fields)
    server.put_route(HOST, pool="s")


def switch(server, targets, **fields):
    return server.api("POST", "/v1/pools/s/switch",
                      json={"targets": [getattr(t, "address", t) for t in targets], **fields})


def addresses(server, pool="s"):
    return [t["address"] for t in server.api("GET", f"/v1/pools/{pool}").json["targets"]]


# Who is slow on a busy machine is not down.
HEALTH = {"path": "/healthz", "interval": "500ms", "timeout": "500ms", "fall": 10}


def test_switch(pointsman, origin):
    server = pointsman()
    blue, green = origin(respond(200, body=b"blue")), origin(respond(200, body=b"green"))
    put(server, [blue], health=HEALTH)
    assert server.get(host=HOST).text == "blue"
    reply = switch(server, [green], wait_healthy="60s")
    assert reply.status == 200, reply.text
    assert addresses(server) == [green.address]
    assert {server.get(host=HOST).text for _ in range(10)} == {"green"}
    # Back, by the command line.
    out = server.cli("pool", "switch", "s", "--to", blue.address, "--wait-healthy", "60s")
    assert out.returncode == 0
    assert {server.get(host=HOST).text for _ in range(10)} == {"blue"}


def test_switch_to_what_is_not_healthy_changes_nothing(pointsman, origin):
    server = pointsman()
    blue, green = origin(respond(200, body=b"blue")), origin(respond(200, body=b"green"))
    green.on("/healthz", respond(500, body=b""))
    put(server, [blue], health=HEALTH)
    revision = server.status()["revision"]

    def refused():
        before = time.monotonic()
        reply = switch(server, [green], wait_healthy="1s")
        assert reply.status == 409 and time.monotonic() - before > 0.8
        assert green.address in reply.text
        return "500" in json.dumps(json.loads(reply.body))  # or that the last check took too long

    wait_until(refused, "the status is told")
    assert addresses(server) == [blue.address] and server.status()["revision"] == revision
    assert all(r.path == "/healthz" for r in green.requests), "no request went there"
    out = server.cli("pool", "switch", "s", "--to", green.address, "--wait-healthy", "500ms",
                     check=False)
    assert out.returncode == 1 and green.address in out.stdout + out.stderr
    assert {server.get(host=HOST).text for _ in range(5)} == {"blue"}


def test_switch_waits_until_all_are_healthy(pointsman, origin):
    server = pointsman()
    blue, green = origin(respond(200, body=b"blue")), origin(respond(200, body=b"green"))
    green.on("/healthz", respond(503, body=b""))
    put(server, [blue], health=HEALTH)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(
        switch(server, [green], wait_healthy="2m").status))
    asking.start()
    green.wait_requests(3)  # its checks fail
    assert addresses(server) == [blue.address] and not answers
    green.on("/healthz", respond(200, body=b""))
    asking.join(PATIENCE)
    assert answers == [200]
    assert server.get(host=HOST).text == "green"


def test_requests_at_the_old_ones_finish(pointsman, origin):
    server, old, new = pointsman(), origin(hang()), origin(respond(200, body=b"new"))
    put(server, [old])
    conn = server.connect()
    conn.request("GET", "/", host=HOST)
    old.wait_requests(1)
    assert switch(server, [new], wait_healthy="60s").status == 200
    assert server.get(host=HOST).text == "new"
    leaving = [t for t in server.api("GET", "/v1/pools/s/targets").json
               if t.get("state") == "leaving"]
    assert [(t["address"], t["requests"]) for t in leaving] == [(old.address, 1)]
    old.released.set()
    conn.close()
    wait_until(lambda: len(server.api("GET", "/v1/pools/s/targets").json) == 1, "it has left")


def test_switch_refuses_nonsense(pointsman, origin):
    server, one = pointsman(), origin()
    put(server, [one])
    for body, status in [({}, 422), ({"targets": []}, 422), ({"targets": "x"}, 422),
                         ({"targets": ["not an address!"]}, 422),
                         ({"targets": [one.address], "wait_healthy": "soon"}, 422),
                         ({"targets": [one.address], "tragets": []}, 422), ([], 422)]:
        reply = server.api("POST", "/v1/pools/s/switch", json=body)
        assert reply.status == status, (body, reply.text)
    assert server.api("POST", "/v1/pools/none/switch",
                      json={"targets": [one.address]}).status == 404
    assert addresses(server) == [one.address]


@pytest.mark.parametrize("path", ["/admin/set_backends/", "/admin/set_backends"])
def test_set_backends(pointsman, origin, path):
    server = pointsman()
    a, b = origin(respond(200, body=b"a")), origin(respond(200, body=b"b"))
    reply = server.api("POST", path, json=[a.address])
    assert reply.status == 200, reply.text
    assert server.get(host="anything.example").text == "a"
    assert addresses(server, "default") == [a.address]
    server.put_target("default", a.address, weight=7)
    assert server.api("POST", path, json={a.address: {}, b.address: {"x": 1}}).status == 200
    pool = server.api("GET", "/v1/pools/default").json
    assert {t["address"]: t.get("weight", 1) for t in pool["targets"]} == {a.address: 7,
                                                                          b.address: 1}
    assert server.api("POST", path, json=[b.address]).status == 200
    assert {server.get(host="x.example").text for _ in range(5)} == {"b"}
    for body in ["x", 5, [5], ["not an address!"], {"a b": {}}]:
        assert server.api("POST", path, json=body).status in (400, 422)
    assert server.api("POST", path, data=b"{").status == 400
    assert addresses(server, "default") == [b.address]


def test_drain_and_up_by_the_command_line(pointsman, origin):
    server = pointsman()
    a, b = origin(respond(200, body=b"a")), origin(respond(200, body=b"b"))
    put(server, [a, b])
    server.cli("pool", "drain", "s", a.address)
    assert {server.get(host=HOST).text for _ in range(10)} == {"b"}
    assert {t["address"]: t["state"] for t in server.api("GET", "/v1/pools/s/targets").json} == {
        a.address: "drain", b.address: "up"}
    server.cli("pool", "up", "s", a.address)
    assert {server.get(host=HOST).text for _ in range(20)} == {"a", "b"}
    assert f"127.0.0.1:{free_port()}" not in addresses(server)
