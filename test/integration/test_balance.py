# SPDX-License-Identifier: MIT
"""Which target a request goes to: weights, hashing, stickiness, zones, limits and the queue."""
import collections
import threading
import time

import h2.settings
import pytest

from support.h2 import H2Origin
from support.net import PATIENCE, wait_until
from support.origin import hang, respond

HOST = "b.example"


def origins(origin, count):
    return [origin(respond(200, body=str(number).encode())) for number in range(count)]


def put(server, targets, **fields):
    server.put_pool("b", [t if isinstance(t, dict) else t.address for t in targets], **fields)
    server.put_route(HOST, pool="b")


def target(origin, **fields):
    return {"address": origin.address, **fields}


def served_by(server, count, **request):
    replies = [server.get(host=HOST, **request) for _ in range(count)]
    assert {reply.status for reply in replies} == {200}
    return collections.Counter(reply.text for reply in replies)


@pytest.mark.parametrize("balance", ["round_robin", "least_requests"])
def test_weights(pointsman, origin, balance):
    server, (a, b) = pointsman(workers=1), origins(origin, 2)
    put(server, [target(a, weight=3), target(b, weight=1)], balance=balance)
    count = served_by(server, 80)
    if balance == "round_robin":
        assert count == {"0": 60, "1": 20}
    else:  # nothing is under way between requests: ties go to the heavier one
        assert count["0"] >= 60
    put(server, [target(a, weight=0), target(b)], balance=balance)
    assert served_by(server, 10) == {"1": 10}


@pytest.mark.parametrize("balance", ["least_requests", "random_two"])
def test_a_slow_target_gets_less(pointsman, origin, balance):
    server = pointsman()

    def slow(request, peer):
        time.sleep(1)
        return respond(200, body=b"slow")(request, peer)

    fast, slow_one = origin(respond(200, body=b"fast")), origin(slow)
    put(server, [fast, slow_one], balance=balance)
    counts, lock = collections.Counter(), threading.Lock()

    def client():
        with server.connect() as conn:
            until = time.monotonic() + 4
            while time.monotonic() < until:
                conn.request("GET", "/", host=HOST)
                text = conn.read_response().text
                with lock:
                    counts[text] += 1

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Half of the clients at most wait for the slow one, once a second.
    assert counts["slow"] >= 1 and counts["fast"] > 4 * counts["slow"], counts


HASHED = {
    "path": lambda key: {"target": f"/{key}?x=1"},
    "header:X-User": lambda key: {"headers": [("x-user", key)]},
    "cookie:uid": lambda key: {"headers": [("Cookie", f"a=b; uid={key}")]},
    "query:user": lambda key: {"target": f"/?a=b&user={key}"},
    "key": lambda key: {"headers": [("X-Api-Key", key)]},
    "form:user": lambda key: {
        "method": "POST", "body": f"a=b&user={key}".encode(),
        "headers": [("Content-Type", "application/x-www-form-urlencoded")]},
}


def send(server, request):
    request = {"method": "GET", "target": "/", **request}
    reply = server.exchange(request.pop("method"), request.pop("target"), host=HOST, **request)
    assert reply.status == 200
    return reply.text


@pytest.mark.parametrize("by", HASHED)
def test_hash(pointsman, origin, by):
    server, all_origins = pointsman(), origins(origin, 3)
    put(server, all_origins[:2], balance="hash", hash=by)
    keys = [f"key{number}" for number in range(40)]
    where = {key: send(server, HASHED[by](key)) for key in keys}
    assert set(where.values()) == {"0", "1"}
    assert where == {key: send(server, HASHED[by](key)) for key in keys}
    server.restart()
    assert where == {key: send(server, HASHED[by](key)) for key in keys}, "the same after a restart"
    put(server, all_origins, balance="hash", hash=by)
    after = {key: send(server, HASHED[by](key)) for key in keys}
    moved = [key for key in keys if where[key] != after[key]]
    assert moved and all(after[key] == "2" for key in moved), "keys move to the new target only"
    assert len(moved) < len(keys) * 2 / 3


def test_keys_of_a_dead_target_go_on_and_come_back(pointsman, origin):
    server, all_origins = pointsman(), origins(origin, 3)
    put(server, all_origins, balance="hash", hash="query:user",
        # Who refuses is down at once; who is only slow on a busy machine is not.
        health={"path": "/", "interval": "5s", "rise": 1, "fall": 1, "timeout": "5s"})
    keys = [f"key{number}" for number in range(30)]
    # Beside others that are up, one that was not checked yet gets nothing.
    wait_until(lambda: {target["health"] for target in server.api("GET", "/v1/pools/b/targets").json} ==
               {"up"}, "all were checked")

    def where():
        return {key: send(server, HASHED["query:user"](key)) for key in keys}

    def records():
        return [(r["url.query"], r["pointsman.target"], r["pointsman.end"], r.get("pointsman.retries"))
                for r in server.log_records(0)]

    before = where()
    all_origins[0].stop()
    wait_until(lambda: server.status()["health"]["targets_down"] == 1, "the target is down")
    during = where()
    assert set(during.values()) == {"1", "2"}
    assert all(during[key] == before[key] for key in keys if before[key] != "0"), records()
    all_origins[0].start()
    wait_until(lambda: server.status()["health"]["targets_down"] == 0, "the target is up")
    assert where() == before, records()


def cookie_of(reply):
    return reply.headers.get("set-cookie").partition(";")[0]


def test_sticky(pointsman, origin):
    server, all_origins = pointsman(), origins(origin, 3)
    sticky = {"cookie": "pm_target", "ttl": "1h"}
    put(server, all_origins, sticky=sticky)
    first = server.get(host=HOST)
    cookie = first.headers.get("set-cookie")
    assert cookie.startswith("pm_target=") and "Max-Age=3600" in cookie and "HttpOnly" in cookie
    jar = [("Cookie", cookie_of(first))]
    assert served_by(server, 20, headers=jar) == {first.text: 20}
    assert server.get(host=HOST, headers=jar).headers.get("set-cookie") is None
    server.restart()
    assert served_by(server, 10, headers=jar) == {first.text: 10}, "the same after a restart"
    # A target that drains: its clients move, and are told so.
    number = int(first.text)
    server.put_target("b", all_origins[number].address, state="drain")
    moved = server.get(host=HOST, headers=jar)
    assert moved.text != first.text and moved.headers.get("set-cookie") is not None
    assert server.metrics()["pointsman_sticky_moved_total"] >= 1
    # By option they stay until the end.
    put(server, [target(o, state="drain" if i == number else "up")
                 for i, o in enumerate(all_origins)], sticky={**sticky, "draining": "stay"})
    assert served_by(server, 5, headers=jar) == {first.text: 5}
    assert first.text not in served_by(server, 20)
    # A cookie that says nothing is replaced.
    for nonsense in ["pm_target=", "pm_target=xyz", "pm_target=" + "f" * 16]:
        reply = server.get(host=HOST, headers=[("Cookie", nonsense)])
        assert reply.status == 200 and reply.headers.get("set-cookie").startswith("pm_target=")


def test_backups_serve_when_nobody_else_can(pointsman, origin):
    server, (a, b) = pointsman(), origins(origin, 2)
    put(server, [target(a), target(b, backup=True)])
    assert served_by(server, 10) == {"0": 10}
    server.put_target("b", a.address, state="down")
    assert served_by(server, 5) == {"1": 5}
    server.put_target("b", a.address, state="up")
    assert served_by(server, 5) == {"0": 5}


def test_own_zone_first(pointsman, origin):
    server, (a, b) = pointsman({"node": {"zone": "west"}}), origins(origin, 2)
    put(server, [target(a, zone="west"), target(b, zone="east")])
    assert served_by(server, 10) == {"0": 10}
    server.put_target("b", a.address, state="down")
    assert served_by(server, 5) == {"1": 5}


def test_limit_and_queue(pointsman, origin):
    server, target_of = pointsman(), origin(hang())
    put(server, [target_of], limits={"requests_per_target": 2, "queue": 1, "queue_timeout": "5m"})
    busy = [server.connect() for _ in range(2)]
    for conn in busy:
        conn.request("GET", "/", host=HOST)
    target_of.wait_requests(2)
    waiting = server.connect()
    waiting.request("GET", "/", host=HOST)
    wait_until(lambda: server.metrics()["pointsman_queued_total"] == 1, "it waits")
    refused = server.get(host=HOST)
    assert refused.status == 503 and int(refused.headers.get("retry-after")) >= 1
    assert server.log_records(1)[-1]["pointsman.end"] == "queue_full"
    target_of.handler = respond(200, body=b"done")
    busy[0].close()  # its slot is free
    reply = waiting.read_response()
    assert reply.status == 200 and reply.text == "done"
    metrics = server.metrics()
    assert metrics["pointsman_queue_full_total"] == 1
    record = [r for r in server.log_records(3) if r["http.response.status_code"] == 200][-1]
    assert record["pointsman.queue_ns"] > 0
    for conn in [*busy, waiting]:
        conn.close()
    wait_until(lambda: server.api("GET", "/v1/pools/b/targets").json[0]["requests"] == 0, "0 left")


@pytest.mark.parametrize("change", ["target", "limit", "gone"])
def test_a_change_wakes_who_waits(pointsman, origin, change):
    server, busy, free = pointsman(), origin(hang()), origin(respond(200, body=b"free"))
    limits = {"requests_per_target": 1, "queue": 5, "queue_timeout": "5m"}
    put(server, [busy], limits=limits)
    first, waiting = server.connect(), server.connect()
    first.request("GET", "/", host=HOST)
    busy.wait_requests(1)
    waiting.request("GET", "/", host=HOST)
    wait_until(lambda: server.metrics()["pointsman_queue_length"] == 1, "it waits")
    if change == "target":
        server.put_target("b", free.address)
        assert waiting.read_response().text == "free"
    elif change == "limit":
        busy.handler = respond(200, body=b"more")
        put(server, [busy], limits={**limits, "requests_per_target": 2})
        assert waiting.read_response().text == "more"
    else:
        server.put_target("b", busy.address, state="down")
        assert waiting.read_response().status == 503
    first.close()
    waiting.close()


def test_queue_deadline(pointsman, origin):
    server, target_of = pointsman(), origin(hang())
    put(server, [target_of], limits={"requests_per_target": 1, "queue": 5,
                                     "queue_timeout": "300ms"})
    busy = server.connect()
    busy.request("GET", "/", host=HOST)
    target_of.wait_requests(1)
    before = time.monotonic()
    reply = server.get(host=HOST)
    assert reply.status == 503 and reply.headers.get("retry-after")
    assert 0.25 < time.monotonic() - before < 30  # the default of timeouts.response: 60 s
    assert server.metrics()["pointsman_queue_timeouts_total"] == 1
    busy.close()


def test_queue_is_first_come_first_served(pointsman, origin):
    server, order, gate = pointsman(), [], threading.Event()

    def note(request, peer):
        order.append(request.target)
        gate.wait(PATIENCE)
        return respond(200, body=b"ok")(request, peer)

    target_of = origin(note)
    put(server, [target_of], limits={"requests_per_target": 1, "queue": 50, "queue_timeout": "5m"})
    conns = []
    for number in range(12):
        conns.append(server.connect())
        conns[-1].request("GET", f"/{number}", host=HOST)
        target_of.wait_requests(1)
        wait_until(lambda: server.metrics()["pointsman_queue_length"] == number, "it waits")
    gate.set()
    for conn in conns:
        assert conn.read_response().status == 200
        conn.close()
    assert order == [f"/{number}" for number in range(12)]


def test_limit_is_exact_under_load(pointsman, origin):
    server, lock, now, most = pointsman(), threading.Lock(), [0], [0]

    def count(request, peer):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1
        return respond(200, body=b"ok")(request, peer)

    put(server, [origin(count)], limits={"requests_per_target": 3, "queue": 100,
                                         "queue_timeout": "5m"})
    failed = []

    def client():
        with server.connect() as conn:
            for _ in range(30):
                conn.request("GET", "/", host=HOST)
                if conn.read_response().status != 200:
                    failed.append(1)

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and most[0] <= 3
    wait_until(lambda: server.api("GET", "/v1/pools/b/targets").json[0]["requests"] == 0, "0 left")


def test_connection_limit(pointsman, origin):
    server, target_of = pointsman(), origin(hang())
    put(server, [target(target_of, max_connections=2)], limits={"queue": 10,
                                                                 "queue_timeout": "5m"})
    conns = [server.connect() for _ in range(5)]
    for conn in conns:
        conn.request("GET", "/", host=HOST)
    target_of.wait_requests(2)
    time.sleep(0.3)
    assert target_of.open_count == 2 and len(target_of.requests) == 2
    target_of.handler = respond(200, body=b"ok")
    target_of.released.set()
    target_of.close_connections()  # both requests end with their connections
    statuses = sorted(conn.read_response().status for conn in conns)
    assert statuses.count(200) >= 3
    for conn in conns:
        conn.close()


@pytest.mark.parametrize("balance", ["round_robin", "least_requests", "random_two"])
def test_many_at_their_connection_limit(pointsman, origin, balance):
    """Whoever has a connection to spare is found, however many have none."""
    server, target_of = pointsman(workers=1), origin(host="0.0.0.0")
    port = target_of.address.rpartition(":")[2]
    targets = [{"address": f"127.0.0.{i}:{port}", "max_connections": 1, "weight": 100 if i < 21 else 1}
               for i in range(1, 24)]
    target_of.handler = hang()
    server.put_pool("b", targets[:20])
    server.put_route(HOST, pool="b")
    conns = [server.connect() for _ in range(20)]
    for conn in conns:
        conn.request("GET", "/", host=HOST)
    target_of.wait_requests(20)
    target_of.handler = respond(200, body=b"ok")
    server.put_pool("b", targets, balance=balance)
    for _ in range(60):
        assert server.get(host=HOST).status == 200
    for conn in conns:
        conn.close()


def two_workers_one_connection(pointsman, seconds):
    """A node of two workers, and a target that takes one connection with three requests, each for `seconds`."""
    def answer(_origin, conn, stream, *_):
        time.sleep(seconds)
        conn.respond(stream, [(":status", "200")], b"ok")

    server = pointsman(workers=2)
    target_of = H2Origin(answer, settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 3})
    put(server, [target(target_of, max_connections=1)], limits={"queue": 100,
                                                                 "queue_timeout": "40s"})
    return server, target_of


def test_connection_limit_over_h2(pointsman):
    """One connection for two workers, and room on it for three requests: all are served in the end."""
    server, target_of = two_workers_one_connection(pointsman, 0.005)
    most, statuses = [0], []

    def client():
        for _ in range(10):
            statuses.append(server.get(host=HOST).status)
            most[0] = max(most[0], server.api("GET", "/v1/pools/b/targets").json[0]["connections"])

    threads = [threading.Thread(target=client) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    target_of.stop()
    assert collections.Counter(statuses) == {200: 200}
    assert most[0] == 1


def connections_by_worker(server, host, count):
    """That many connections for each of two workers, found by whose count of requests grows."""
    def requests():
        return [worker["requests"] for worker in server.status()["workers"]]

    found = [[], []]
    while min(map(len, found)) < count:
        before, conn = requests(), server.connect()
        assert conn.exchange(host=host).status == 200
        wait_until(lambda: requests() != before, "the request is counted")
        found[requests()[1] != before[1]].append(conn)
    return found


def test_no_worker_keeps_a_connection_for_itself(pointsman):
    """One worker's requests are never out of work for the one connection: the other's come to it, too."""
    server, target_of = two_workers_one_connection(pointsman, 0.002)
    server.put_route("idle.example", respond={"status": 200})
    first, second = connections_by_worker(server, "idle.example", 8)
    stop, statuses = threading.Event(), []

    def ask_always(conn):
        while not stop.is_set():
            statuses.append(conn.exchange(host=HOST).status)

    threads = [threading.Thread(target=ask_always, args=(conn,)) for conn in first]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(statuses) > 50, "the first worker has the connection")
        for _ in range(3):
            assert second[0].exchange(host=HOST).status == 200
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    target_of.stop()
    assert set(statuses) == {200}
    for conn in first + second:
        conn.close()


def test_aborted_requests_leave_no_count(pointsman, origin):
    server, target_of = pointsman(), origin(hang())
    put(server, [target_of], limits={"requests_per_target": 8, "queue": 50, "queue_timeout": "1s"})

    def client(number):
        for turn in range(100):
            conn = server.connect()
            conn.request("GET", "/", host=HOST)
            if (number + turn) % 3:
                time.sleep(0.001 * ((number + turn) % 5))
            (conn.reset if turn % 2 else conn.close)()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: server.api("GET", "/v1/pools/b/targets").json[0]["requests"] == 0,
               "0 left")
    wait_until(lambda: server.metrics()["pointsman_queue_length"] == 0, "nobody waits")
    target_of.handler = respond(200, body=b"ok")
    assert server.get(host=HOST).status == 200
