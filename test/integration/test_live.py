# SPDX-License-Identifier: MIT
"""A change is live when its call returns, on every worker, and touches nothing else."""
import asyncio
import contextlib
import http.client
import threading

import pytest
import websockets

from support import origin as o
from support.net import PATIENCE, wait_until

ROUNDS = 2000


def worker_requests(server):
    return [worker["requests"] for worker in server.status()["workers"]]


def old_connections(server, host, per_worker=1):
    """Kept connections, `per_worker` for each worker: found by whose count of requests grows."""
    found = {}
    for _ in range(200):
        before, conn = worker_requests(server), server.connect()
        assert conn.exchange(host=host).status == 200

        def served_by():
            after = worker_requests(server)
            return [i for i, count in enumerate(after) if count > before[i]]

        worker = wait_until(served_by, "the request counted")[0]
        mine = found.setdefault(worker, [])
        if len(mine) < per_worker:
            mine.append(conn)
        else:
            conn.close()
        if len(found) == len(before) and all(len(m) == per_worker for m in found.values()):
            return [conn for mine in found.values() for conn in mine]
    raise AssertionError(f"the kernel gives some workers no connection: {worker_requests(server)}")


class Changes:
    """The changes of the 2,000 rounds: make(i) does one; returns (host, path, who answers it)."""

    def __init__(self, server, session, names):
        self.server, self.session, self.names = server, session, names

    def put(self, url, body):
        reply = self.session.api("PUT", url, json=body)
        assert reply.status in (200, 201), reply

    def make(self, i):
        name = list(self.names)[i // 6 % len(self.names)]
        address = self.names[name].address
        kind = i % 6
        if kind == 0:  # a new route
            self.put(f"/v1/routes/new{i}.example", {"targets": [address]})
            return f"new{i}.example", "/", name
        if kind == 1:  # another target of a route
            self.put("/v1/routes/same.example", {"targets": [address]})
            return "same.example", "/", name
        if kind == 2:  # a route below another one
            self.put(f"/v1/routes/paths.example/{i % 50}", {"targets": [address]})
            return "paths.example", f"/{i % 50}/x", name
        if kind == 3:  # a pool used by routes
            self.put("/v1/pools/shared", {"targets": [{"address": address}]})
            return f"s{i % 20}.example", "/", name
        if kind == 4:  # one target more, the others down
            for other, origin in self.names.items():
                if other != name:
                    self.put(f"/v1/pools/states/targets/{origin.address}", {"state": "down"})
            self.put(f"/v1/pools/states/targets/{address}", {"state": "up"})
            return "states.example", "/", name
        gone = f"new{i - 5}.example"  # the wildcard takes over from a route that goes
        reply = self.session.api("DELETE", f"/v1/routes/{gone}")
        assert reply.status == 204, reply
        return gone, "/", "rest"


@pytest.mark.deadline(900)
def test_next_request_is_served_by_the_change(pointsman, origin):
    server = pointsman()
    names = {name: origin(o.respond(body=name), name=name) for name in ("a", "b", "c")}
    rest = origin(o.respond(body="rest"), name="rest")
    server.put_route("*", targets=[rest])
    server.put_pool("shared", [names["a"]])
    server.put_pool("states", list(names.values()))
    for i in range(20):
        server.put_route(f"s{i}.example", pool="shared")
    server.put_route("states.example", pool="states")

    stale, old = [], old_connections(server, "x.example")
    start = worker_requests(server)

    def ask(conn, kind, i, host, path, want):
        reply = conn.exchange(host=host, target=path)
        if (reply.status, reply.text) != (200, want):
            stale.append((i, kind, host, path, want, reply))

    with server.admin() as session:
        changes = Changes(server, session, names)
        for i in range(ROUNDS):
            expected = changes.make(i)
            if i % 2:
                for conn in old:
                    ask(conn, "old", i, *expected)
            for _ in range(3):
                with server.connect() as conn:
                    ask(conn, "new", i, *expected)
            if i % 2 == 0:
                for conn in old:
                    ask(conn, "old", i, *expected)
    assert not stale, f"{len(stale)} stale answers: {stale[:5]}"
    wait_until(lambda: sum(worker_requests(server)) - sum(start) == ROUNDS * (3 + len(old)),
               "all requests counted")
    new = [after - before - ROUNDS for before, after in zip(start, worker_requests(server))]
    assert min(new) > ROUNDS // 4, f"new connections by worker: {new}"
    for conn in old:
        conn.close()


def test_pool_of_many_routes_is_one_change(pointsman, origin):
    server = pointsman()
    first, second = origin(o.respond(body="1")), origin(o.respond(body="2"))
    server.put_pool("p", [first])
    server.batch([{"op": "put", "kind": "route", "key": f"h{i}.example", "value": {"pool": "p"}}
                  for i in range(5000)])
    old = old_connections(server, "h0.example", 2)
    for turn in range(20):
        want = "21"[turn % 2]
        before = server.status()["revision"]
        server.put_pool("p", [(second, first)[turn % 2]])
        assert server.status()["revision"] == before + 1
        for n, conn in enumerate(old):
            assert conn.exchange(host=f"h{turn * 97 + n}.example").text == want
        assert server.get(host=f"h{4999 - turn}.example").text == want
    for conn in old:
        conn.close()
    assert server.delete_pool("p", check=False).status == 409


def test_batch_is_live_at_its_answer(pointsman, origin):
    server, target = pointsman(), origin(o.respond(body="x"))
    server.put_route("a.example", targets=[target])
    old = old_connections(server, "a.example")
    for turn in range(10):
        lines = [{"op": "put", "kind": "route", "key": f"t{turn}-{i}.example",
                  "value": {"targets": [target.address]}} for i in range(200)]
        assert server.batch(lines).status == 200
        for conn in old:
            for i in (0, 99, 199):
                assert conn.exchange(host=f"t{turn}-{i}.example").status == 200
    assert server.status()["routes"] == 2001
    for conn in old:
        conn.close()


class Steady(threading.Thread):
    """Requests without a pause, on kept and on new connections: each must be answered with 200."""

    def __init__(self, server, stopping):
        super().__init__(daemon=True)
        self.server, self.stopping, self.count, self.faults = server, stopping, 0, []

    def run(self):
        hosts = ("steady.example", "own.example", "x.wild.example")
        try:
            while not self.stopping.is_set():
                with self.server.connect() as conn:
                    for i in range(30):
                        method = "POST" if i % 3 == 2 else "GET"
                        reply = conn.exchange(method, host=hosts[i % 3],
                                              body=b"x" * 3000 if i % 3 == 2 else None)
                        self.count += 1
                        if (reply.status, reply.text) not in ((200, "a"), (200, "b")):
                            self.faults.append(reply)
        except Exception as fault:  # told by the test
            self.faults.append(fault)


@pytest.mark.deadline(900)
def test_constant_change_fails_no_request(pointsman, origin):
    """Pools, targets and routes come, change and go beside the traffic that uses them."""
    server = pointsman()
    first, second = origin(o.respond(body="a")), origin(o.respond(body="b"))
    both = [{"address": first.address}, {"address": second.address}]

    def change(session, i):
        pool = [both[:1], both, both[1:], [dict(both[0], weight=1 + i % 5), both[1]],
                [dict(both[0], state="drain"), both[1]]][i % 5]
        todo = [("PUT", f"/v1/pools/p{i % 2}", {"targets": pool}),
                ("PUT", "/v1/routes/steady.example", {"pool": f"p{i // 7 % 2}"}),
                ("PUT", "/v1/routes/own.example", {"targets": [both[i % 2]["address"]]}),
                ("PUT", "/v1/routes/*.wild.example", {"pool": f"p{i % 2}"}),
                ("PUT", "/v1/routes/x.wild.example", {"targets": [both[i % 2]["address"]]}),
                ("DELETE", "/v1/routes/x.wild.example", None)]
        for method, url, body in todo:
            reply = session.api(method, url, json=body)
            assert reply.status in (200, 201, 204), reply
        return len(todo)

    with server.admin() as session:
        change(session, 0), change(session, 1)
        stopping, changes = threading.Event(), 0
        threads = [Steady(server, stopping) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for i in range(500):
                changes += change(session, i)
        finally:
            stopping.set()
            for thread in threads:
                thread.join(PATIENCE)
    faults = [fault for thread in threads for fault in thread.faults]
    assert not faults, f"{len(faults)} of {sum(t.count for t in threads)}: {faults[:3]}"
    assert changes == 3000 and sum(thread.count for thread in threads) > 1000
    wait_until(lambda: server.status()["retired"]["versions"] == 0, "retired versions freed")


class Talkers:
    """WebSockets through the proxy, each sending and awaiting its echo again and again, in a thread
    of their own, with python3-websockets on both sides."""

    def __init__(self, count, port, host):
        self.count, self.port, self.host = count, port, host
        self.echoes, self.faults, self.open = [0] * count, [], 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()), daemon=True)

    async def talk(self, number):
        try:
            async with websockets.connect(f"ws://{self.host}/{number}", host="127.0.0.1",
                                          port=self.port, ping_interval=None,
                                          open_timeout=2 * PATIENCE) as ws:
                self.open += 1
                while not self.stopping.is_set():
                    text = f"{number} {self.echoes[number]}"
                    await ws.send(text)
                    reply = await asyncio.wait_for(ws.recv(), 2 * PATIENCE)
                    if reply != text:
                        self.faults.append(f"{number}: {reply!r} is not {text!r}")
                    self.echoes[number] += 1
                    await asyncio.sleep(0.25)
        except Exception as fault:  # whatever ends it early is what the test is about
            self.faults.append(f"{number}: {fault!r}")
        self.open -= 1

    async def run(self):
        await asyncio.gather(*(self.talk(n) for n in range(self.count)))

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.open == self.count or self.faults, "all WebSockets open", 2 * PATIENCE)
        assert not self.faults, self.faults[:3]
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(60)


@pytest.fixture
def websocket_server():
    """python3-websockets as the target: echoes. Gives its address."""
    ready, state = threading.Event(), {}

    async def echo(ws):
        try:
            async for message in ws:
                await ws.send(message)
        except websockets.ConnectionClosed:
            pass  # the other side left between its message and the echo

    async def run():
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()
        async with websockets.serve(echo, "127.0.0.1", 0, ping_interval=None,
                                    backlog=1024) as server:
            state["port"] = server.sockets[0].getsockname()[1]
            ready.set()
            await state["stop"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    yield f"127.0.0.1:{state['port']}"
    state["loop"].call_soon_threadsafe(state["stop"].set)
    thread.join(PATIENCE)


def change_others(server, session, turn, targets):
    """1,000 changes of other routes: 800 in a batch, 200 single ones."""
    lines = [{"op": "put", "kind": "route", "key": f"b{i}.example",
              "value": {"targets": [targets[(turn + i) % 2]], "strip_path": turn % 2 == 0}}
             for i in range(800)]
    reply = server.batch(lines)
    assert reply.status == 200, reply
    for i in range(200):
        reply = session.api("PUT", f"/v1/routes/s{i}.example",
                            json={"targets": [targets[(turn + i) % 2]]})
        assert reply.status in (200, 201), reply


def change_own(session, turn, address, spare):
    """Changes of the pool that the tunnels go through, down to their target's leaving it."""
    pools = [
        [{"address": address, "weight": 1 + turn % 9}],
        [{"address": address}, {"address": spare}],
        [{"address": address, "state": "drain"}, {"address": spare}],
        [{"address": spare}],
    ]
    for targets in pools:
        reply = session.api("PUT", "/v1/pools/ws", json={"targets": targets})
        assert reply.status == 200, reply
    reply = session.api("PUT", "/v1/routes/ws.example",
                        json={"pool": "ws", "request_headers": {"set": {"X-Turn": str(turn)}}})
    assert reply.status == 200, reply


@pytest.mark.deadline(900)
def test_websockets_outlive_changes(pointsman, websocket_server, dead_address):
    server = pointsman(release=True)
    server.put_pool("ws", [websocket_server])
    server.put_route("ws.example", pool="ws")
    server.put_route("*", pool="ws")
    targets, changes = ["127.0.0.1:1", "127.0.0.1:2"], 0
    with Talkers(200, server.port, "ws.example") as talkers:
        with server.admin() as session:
            for turn in range(20):
                change_others(server, session, turn, targets)
                change_own(session, turn, websocket_server, dead_address)
                changes += 1005
                assert not talkers.faults, talkers.faults[:3]
        assert changes >= 20000
        seen = list(talkers.echoes)
        wait_until(lambda: talkers.faults or
                   all(now > then for now, then in zip(talkers.echoes, seen)),
                   "every WebSocket echoes after the last change", 2 * PATIENCE)
        assert not talkers.faults and talkers.open == 200, talkers.faults[:3]
        assert server.status()["connections"] >= 200
    assert not talkers.faults, talkers.faults[:3]
    assert server.metrics()["pointsman_tunnels_cut_total"] == 0


def open_tunnel(server, host):
    conn = server.connect()
    conn.request(host=host, headers={"Connection": "Upgrade", "Upgrade": "echo"})
    assert conn.read_head().status == 101
    assert echoes(conn)
    return conn


def echoes(conn, text=b"ping"):
    conn.send(text)
    got = b""
    while len(got) < len(text):
        piece = conn.wire.some(len(text) - len(got))
        if not piece:
            return False
        got += piece
    return got == text


def test_tunnels_to_removed_targets_stay(pointsman, origin):
    server, gone, other = pointsman(), origin(o.switch_protocols()), origin(o.respond(body="other"))
    server.put_pool("p", [gone])
    server.put_route("a.example", pool="p")
    server.put_route("b.example", targets=[gone])
    tunnels = [open_tunnel(server, host) for host in ("a.example", "b.example") for _ in range(4)]
    server.put_pool("p", [other])
    server.delete_route("b.example")
    server.delete_route("a.example")
    server.delete_pool("p")
    assert all(echoes(conn) for conn in tunnels)
    assert server.get(host="a.example").status == 404
    assert server.metrics()["pointsman_tunnels_cut_total"] == 0
    for conn in tunnels:
        conn.close()


def states(server, pool):
    targets = server.api("GET", f"/v1/pools/{pool}").json["targets"]
    return {target["address"]: target.get("state", "up") for target in targets}


def state_of(server, pool, target):
    return states(server, pool).get(target.address)


def test_delete_with_drain_cuts_and_counts(pointsman, origin):
    server, first, second = pointsman(), origin(o.switch_protocols()), origin(o.switch_protocols())
    server.put_pool("p", [first])
    server.put_pool("q", [second])
    server.put_route("a.example", pool="p")
    server.put_route("b.example", pool="q")
    server.put_route("c.example", targets=[first])
    cut = [open_tunnel(server, "a.example") for _ in range(6)]
    kept = [open_tunnel(server, host) for host in ("b.example", "c.example") for _ in range(3)]
    server.put_target("p", second)

    replies = []
    deletion = threading.Thread(target=lambda: replies.append(
        server.delete_target("p", first, drain="6s", check=False)))
    deletion.start()  # it answers when the target is gone
    wait_until(lambda: state_of(server, "p", first) == "drain", "the target drains")
    assert all(echoes(conn) for conn in cut)  # they have their time
    new = open_tunnel(server, "a.example")
    assert second.wait_requests(4)
    for conn in cut:
        assert conn.is_closed_by_peer()
    deletion.join(PATIENCE)
    assert [reply.status for reply in replies] == [204]
    assert echoes(new) and all(echoes(conn) for conn in kept)
    wait_until(lambda: server.metrics()["pointsman_tunnels_cut_total"] == 6, "6 tunnels counted")
    assert list(states(server, "p")) == [second.address]
    for conn in [*kept, new]:
        conn.close()


def test_a_drain_ends_with_the_program(pointsman, origin):
    server, first, second = pointsman(), origin(o.switch_protocols()), origin(o.switch_protocols())
    server.put_pool("p", [first, second])
    server.put_route("a.example", pool="p")
    tunnels = [open_tunnel(server, "a.example") for _ in range(2)]  # one to each

    def delete():
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.delete_target("p", first, drain="1h", check=False)

    deletion = threading.Thread(target=delete)
    deletion.start()
    wait_until(lambda: state_of(server, "p", first) == "drain", "the target drains")
    server.kill9()
    deletion.join(PATIENCE)
    server.start()
    assert state_of(server, "p", first) == "drain"  # still there, and without new requests
    second.clear()
    new = [open_tunnel(server, "a.example") for _ in range(3)]
    assert second.wait_requests(3)
    server.delete_target("p", first, drain="1h")  # sent again it is done: nothing is left there
    assert list(states(server, "p")) == [second.address]
    for conn in [*tunnels, *new]:
        conn.close()


def test_delete_with_drain_of_an_empty_target(pointsman, origin):
    server, first, second = pointsman(), origin(), origin()
    server.put_pool("p", [first, second])
    server.put_route("a.example", pool="p")
    assert server.get(host="a.example").status == 200
    server.delete_target("p", first, drain="30s")
    assert list(states(server, "p")) == [second.address]  # gone long before 30 s
    assert server.metrics()["pointsman_tunnels_cut_total"] == 0


def test_drained_target_gets_nothing_new(pointsman, origin):
    server, first, second = pointsman(), origin(o.respond(body="1")), origin(o.respond(body="2"))
    server.put_pool("p", [first, second], balance="round_robin")
    server.put_route("a.example", pool="p")
    with server.connect() as conn:
        assert {conn.exchange(host="a.example").text for _ in range(10)} == {"1", "2"}
        server.put_target("p", first, state="drain")
        assert {conn.exchange(host="a.example").text for _ in range(20)} == {"2"}
        server.put_target("p", first, state="up")
        assert {conn.exchange(host="a.example").text for _ in range(20)} == {"1", "2"}
        server.put_target("p", second, state="down")
        assert {conn.exchange(host="a.example").text for _ in range(20)} == {"1"}


def test_one_bad_declaration_in_a_batch_stops_it_whole(pointsman, origin):
    server, target = pointsman(), origin(o.respond(body="x"))
    lines = [{"op": "put", "kind": "route", "key": "good.example",
              "value": {"targets": [target.address]}},
             {"op": "put", "kind": "route", "key": "bad.example", "value": {"pool": "none"}}]
    assert server.batch(lines).status == 422
    assert server.get(host="good.example").status == 404
    assert server.batch(lines[:1]).status == 200
    assert server.get(host="good.example").status == 200
