# SPDX-License-Identifier: MIT
"""What the API says of a fleet: nodes, writes that wait for all of them, readiness, status, metrics, events."""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from support.net import PATIENCE, wait_until

HERE = {"respond": {"status": 200, "body": "here"}}


def names(nodes):
    return [node["name"] for node in nodes]


def nodes_of(server):
    return server.api("GET", "/v1/nodes").json


def live_names(server):
    return [node["name"] for node in nodes_of(server) if node["live"]]


class Events(threading.Thread):
    """Reads a node's events; .seen are those so far."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=5 * PATIENCE)
        self.connection.request("GET", "/v1/events")
        self.response = self.connection.getresponse()
        self.seen = []
        self.start()

    def run(self):
        name = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for line in self.response:
                text = line.decode().rstrip("\n")
                if text.startswith("event: "):
                    name = text[7:]
                elif text.startswith("data: "):
                    self.seen.append((name, json.loads(text[6:])))

    def wait(self, kind, timeout=PATIENCE, **members):
        def find():
            return [data for name, data in list(self.seen) if name == kind
                    and all(data.get(key) == value for key, value in members.items())]

        wait_until(find, f"an event {kind} {members}; there are {self.seen}", timeout, 0.05)
        return find()[0]


def ready_fleet(redis, fleet, count=3, **more):
    nodes = fleet(redis, count, **more)
    nodes.wait_following()
    wait_until(lambda: all(len(live_names(node)) == count for node in nodes),
               "all nodes know each other")
    return nodes


def test_nodes(redis, fleet):
    nodes = ready_fleet(redis(), fleet, config={"node": {"zone": "a"}})
    reply = nodes[0].api("PUT", "/v1/routes/a.test?wait=fleet&timeout=1m", json=HERE)
    assert reply.status == 201
    # What a node says of others is of their last heartbeats.
    wait_until(lambda: all(node["lag"] == 0 for node in nodes_of(nodes[1])), "no node lags")
    listed = nodes_of(nodes[1])
    assert names(listed) == ["node0", "node1", "node2"]
    for i, node in enumerate(listed):
        assert node["live"] and not node["draining"] and node["zone"] == "a", node
        assert node["self"] == (i == 1) and node["lag"] == 0 and node["revision"] == 1, node
        assert node["address"].endswith(f":{nodes[i].admin_port}")
        assert node["load"]["workers"] == 1 and node["seen"].endswith("Z")
        assert len(node["id"]) == 16
    table = nodes[0].cli("nodes").stdout.splitlines()
    assert table[0].split() == ["NODE", "ZONE", "ADDRESS", "VERSION", "REVISION", "LAG", "RPS",
                                "SEEN", "STATE"]
    assert [row.split()[-1] for row in table[1:]] == ["live"] * 3
    assert names(json.loads(nodes[0].cli("nodes", "--json").stdout)) == names(listed)
    row = [line for line in nodes[0].cli("status").stdout.splitlines() if line.startswith("fleet")]
    assert len(row) == 1 and "following redis://" in row[0] and "3 of 3 nodes live" in row[0]


def test_one_node_alone(pointsman):
    server = pointsman()
    listed = nodes_of(server)
    assert len(listed) == 1 and listed[0]["live"] and listed[0]["self"] and listed[0]["lag"] == 0
    assert server.api("PUT", "/v1/routes/a.test?wait=fleet&timeout=1s", json=HERE).status == 201
    text = server.api("GET", "/readyz?verbose").text
    assert text == "[+]tables ok: 1 routes, revision 1\n[+]store ok\n[+]listeners ok\nready\n"
    assert server.api("GET", "/readyz").text == "ready\n"
    assert "fleet" not in server.status()["store"]


@pytest.mark.deadline(180)
def test_writes_wait_for_the_fleet(redis, fleet):
    nodes = ready_fleet(redis(), fleet)
    for i in range(20):
        assert nodes[i % 3].api("PUT", f"/v1/routes/r{i}.test?wait=fleet&timeout=1m", json=HERE).status == 201
        assert [reply.text for reply in nodes.bodies(f"r{i}.test")] == ["here"] * 3
    pool = {"targets": ["127.0.0.1:1"]}
    for method, path, body, status in (
            ("PUT", "/v1/pools/p", pool, 201),
            ("PUT", "/v1/pools/p/targets/127.0.0.1:2", {"weight": 2}, 201),
            ("PATCH", "/v1/pools/p", {"balance": "round_robin"}, 200),
            ("DELETE", "/v1/pools/p/targets/127.0.0.1:2", None, 204),
            ("POST", "/v1/pools/p/switch", {"targets": ["127.0.0.1:3"], "wait_healthy": "0"}, 200),
            ("POST", "/admin/set_backends/", ["127.0.0.1:4"], 200),
            ("DELETE", "/v1/routes/r0.test", None, 204)):
        reply = nodes[0].api(method, f"{path}?wait=fleet&timeout=1m", json=body)
        assert reply.status == status, (method, path, reply.text)
        revision = int(reply.headers["Pointsman-Revision"])
        assert all(node.status()["revision"] >= revision for node in nodes)
    lines = "".join(json.dumps({"op": "put", "kind": "route", "key": f"b{i}.test", "value": HERE})
                    + "\n" for i in range(100))
    reply = nodes[1].api("POST", "/v1/batch?wait=fleet&timeout=1m", data=lines.encode(),
                         headers={"Content-Type": "application/x-ndjson"})
    assert reply.status == 200
    assert [answer.text for answer in nodes.bodies("b99.test")] == ["here"] * 3
    assert nodes[0].api("PUT", "/v1/routes/x.test?wait=all", json=HERE).status == 400
    assert nodes[0].api("POST", "/v1/batch?wait=all", data=b"").status == 400
    assert nodes[0].api("PUT", "/v1/routes/x.test?wait=fleet&timeout=2h", json=HERE).status == 400
    done = nodes[0].cli("route", "put", "cli.test", "127.0.0.1:9", "--wait", "fleet",
                        "--wait-timeout", "1m")
    assert "created" in done.stdout
    assert nodes[2].api("GET", "/v1/routes/cli.test").status == 200


class ClockProxy(threading.Thread):
    """In front of Redis, for one node: from .begin() on Redis' clock is an hour ahead, as after somebody has set it."""

    AHEAD = 3600_000

    def __init__(self, port):
        super().__init__(daemon=True)
        self.server_port, self.since = port, None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def begin(self, now_ms):
        self.since = now_ms

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server_port))
                threading.Thread(target=self.copy, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self.copy, args=(server, client, True), daemon=True).start()

    def ahead(self, found):
        at = int(found.group(2))
        is_new = self.since is not None and at >= self.since
        return found.group(1) + str(at + (self.AHEAD if is_new else 0)).encode()

    def copy(self, source, to, is_reply):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                if is_reply:  # what beat.lua says of the time, and what nodes have said since
                    data = re.sub(rb'(\*5\r\n\$13\r\n|"seen":)(\d{13})', self.ahead, data)
                to.sendall(data)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)


def test_the_clock_of_redis_is_set(redis, fleet, pointsman):
    """Nobody is taken for dead because of it: a write waits for them all, and no event says that they have left."""
    server = redis()
    nodes = ready_fleet(server, fleet, 2)
    proxy = ClockProxy(server.port)
    node = pointsman({"node": {"name": "behind"},
                      "store": {"url": f"redis://127.0.0.1:{proxy.port}/0"}}, workers=1)
    wait_until(lambda: len(live_names(node)) == 3, "it knows all")
    events = Events(node)
    seconds, micros = server.client.time()
    proxy.begin(seconds * 1000 + micros // 1000)
    wait_until(lambda: "went ahead by" in node.stderr(), "it has seen the new clock")
    for i in range(5):
        reply = node.api("PUT", f"/v1/routes/c{i}.test?wait=fleet&timeout=1m", json=HERE)
        assert reply.status == 201, reply
        assert [answer.text for answer in nodes.bodies(f"c{i}.test")] == ["here"] * 2
        assert len(live_names(node)) == 3
    assert not [data for name, data in events.seen if name == "node" and data["state"] == "left"]


class Stopped:
    """A node that stands still in the eyes of another one, which takes it for a live one for 5 s."""

    def __init__(self, node, other):
        self.node, self.other = node, other

    def __enter__(self):
        self.node.signal(signal.SIGSTOP)

    def __exit__(self, *_):
        self.node.signal(signal.SIGCONT)
        name = self.node.config["node"]["name"]
        wait_until(lambda: name in live_names(self.other), f"{name} is live again")


def lags(nodes, write):
    """What a write says that waits for node2, which has stopped. Made anew when it took so long that node2 was not
    waited for any more."""
    for _ in range(5):
        with Stopped(nodes[2], nodes[0]):
            begin = time.monotonic()
            reply = write()
            if time.monotonic() - begin < 4.5:
                return reply
    raise AssertionError("a write with a timeout of a second or less takes longer than 4.5 s each time")


@pytest.mark.deadline(600)
def test_a_node_that_lags_is_named(redis, fleet):
    nodes = ready_fleet(redis(), fleet)
    events, numbers = Events(nodes[0]), iter(range(100))

    def put():
        begin = time.monotonic()
        reply = nodes[0].api("PUT", f"/v1/routes/a{next(numbers)}.test?wait=fleet&timeout=1s", json=HERE)
        assert reply.status == 201 or time.monotonic() - begin >= 0.9
        return reply

    reply = lags(nodes, put)
    assert reply.status == 504, reply
    problem = reply.json
    assert problem["lagging"] == "node2" and "node2" in problem["detail"]
    revision = int(reply.headers["Pointsman-Revision"])
    assert nodes[1].api("GET", f"/v1/routes/a{next(numbers) - 1}.test").status == 200  # written all the same

    def batch():
        line = {"op": "put", "kind": "route", "key": f"b{next(numbers)}.test", "value": HERE}
        return nodes[0].api("POST", "/v1/batch?wait=fleet&timeout=500ms", data=json.dumps(line).encode(),
                            headers={"Content-Type": "application/x-ndjson"})

    reply = lags(nodes, batch)
    answers = [json.loads(line) for line in reply.text.splitlines()]
    assert reply.status == 504 and answers[0]["status"] == 201
    assert answers[-1] == {"done": 1, "failed": 0, "lagging": "node2"}

    def remove():
        nodes[1].api("PUT", "/v1/routes/c.test", json=HERE)
        return nodes[0].cli("route", "rm", "c.test", "--wait", "fleet", "--wait-timeout", "500ms", check=False)

    done = lags(nodes, remove)
    assert done.returncode == 1 and "node2" in done.stderr
    # Dead by its heartbeat: it is not waited for any more.
    with Stopped(nodes[2], nodes[0]):
        reply = nodes[0].api("PUT", "/v1/routes/d.test?wait=fleet&timeout=1m", json=HERE)
        assert reply.status == 201
        assert live_names(nodes[0]) == ["node0", "node1"]
        events.wait("node", state="left", node="node2")
    events.wait("node", state="joined", node="node2")
    wait_until(lambda: nodes[2].status()["revision"] > revision, "it has caught up")
    reply = nodes[0].api("PUT", "/v1/routes/e.test?wait=fleet&timeout=1m", json=HERE)
    assert reply.status == 201 and nodes.bodies("e.test")[2].text == "here"


def test_a_node_leaves_and_comes(redis, fleet):
    nodes = ready_fleet(redis(), fleet, 2)
    events = Events(nodes[0])
    time.sleep(5.5)  # longer than a list that was lost would be believed
    nodes[1].stop()
    events.wait("node", state="left", node="node1")
    assert live_names(nodes[0]) == ["node0"]
    nodes[1].start()
    event = events.wait("node", state="joined", node="node1")
    assert str(nodes[1].admin_port) in event["detail"]


def verbose(server):
    reply = server.api("GET", "/readyz?verbose")
    return reply.status, reply.text.splitlines()


@pytest.mark.deadline(180)
def test_redis_away_is_told_everywhere(redis, fleet):
    server = redis()
    nodes = ready_fleet(server, fleet, 2)
    nodes[0].api("PUT", "/v1/routes/a.test?wait=fleet&timeout=1m", json=HERE)
    status, lines = verbose(nodes[0])
    assert status == 200 and lines[-1] == "ready"
    assert [line for line in lines if line.startswith("[+]store ok: following redis://")]
    events = Events(nodes[0])
    server.kill9()
    wait_until(lambda: not nodes[0].status()["store"]["writable"], "it is known")
    status, lines = verbose(nodes[0])
    assert status == 200 and lines[-1] == "ready"  # it serves
    line = [line for line in lines if line.startswith("[-]store ")][0]
    assert "serving revision 1" in line, line
    wait_until(lambda: nodes[0].status()["store"]["fleet"]["away_seconds"] > 0.5, "time passes")
    store = nodes[0].status()["store"]
    assert store["fleet"]["state"] == "away" and store["detail"], store
    metrics = nodes[0].metrics()
    assert metrics["pointsman_fleet_following"] == 0
    assert metrics['pointsman_fleet_state{state="away"}'] == 1
    assert metrics["pointsman_fleet_away_seconds"] > 0.5
    assert metrics["pointsman_store_writable"] == 0
    events.wait("store", writable=False)
    events.wait("store", state="away")
    assert "away" in nodes[0].cli("status").stdout
    refused = nodes[0].status()["store"]["fleet"]["refused"]
    reply = nodes[0].api("PUT", "/v1/routes/b.test", json=HERE)
    assert reply.status == 503 and reply.headers["Retry-After"] == "1"
    assert "outcome" not in reply.json and reply.json["detail"]
    assert nodes[0].status()["store"]["fleet"]["refused"] == refused + 1
    # A node that starts now serves what it had.
    nodes[1].stop()
    nodes[1].start()
    assert nodes[1].get(host="a.test").text == "here"
    assert verbose(nodes[1])[0] == 200
    server.start()  # empty
    nodes[0].check_stderr()


@pytest.mark.deadline(120)
def test_unknown_outcomes_have_an_id(redis, fleet):
    server = redis()
    nodes = ready_fleet(server, fleet, 2)
    events = Events(nodes[0])
    for _ in range(10):
        server.pause()
        reply = nodes[0].api("PUT", "/v1/routes/a.test", json=HERE)
        assert reply.status == 503
        problem = reply.json
        lines = json.dumps({"op": "put", "kind": "route", "key": "b.test", "value": HERE})
        refused = nodes[0].api("POST", "/v1/batch", data=lines.encode(),
                               headers={"Content-Type": "application/x-ndjson"})
        assert refused.status == 503 and "outcome" not in json.loads(refused.text.splitlines()[0])
        server.resume()
        if "outcome" in problem:
            break
        # It was silent for a second before this was sent.
        wait_until(lambda: nodes[0].status()["store"]["writable"], "it can be written")
    assert problem["outcome"] == "unknown" and len(problem["id"]) == 32, problem
    event = events.wait("store", state="outcome", id=problem["id"])
    assert event["outcome"] in ("applied", "not_applied"), event
    nodes.wait_following()
    wait_until(lambda: nodes[0].status()["store"]["writable"], "it can be written")
    status = nodes[1].api("GET", "/v1/routes/a.test").status
    assert status == (200 if event["outcome"] == "applied" else 404)
    fleet_status = nodes[0].status()["store"]["fleet"]
    assert fleet_status["unknown"] == 1 and fleet_status["orphans"] == 0
    nodes[0].check_stderr()


def test_written_but_not_replicated(redis, fleet):
    nodes = ready_fleet(redis(), fleet, 1, config={"store": {"wait_replicas": 1}})
    reply = nodes[0].api("PUT", "/v1/routes/a.test", json=HERE)
    assert reply.status == 503
    problem = reply.json
    assert problem["outcome"] == "written" and len(problem["id"]) == 32, problem
    assert reply.headers["Pointsman-Revision"] == "1"
    assert nodes[0].get(host="a.test").text == "here"


def test_a_store_of_its_own_is_not_overwritten(redis, pointsman):
    server = pointsman()
    server.put_route("mine.test", **HERE)
    server.stop()
    server.config["store"]["url"] = redis(password="secret").url()
    server.start(wait=False)
    assert server.process.wait(PATIENCE) == 1
    server.process = None
    assert "store copy" in server.stderr() and "secret" not in server.stderr()
    server.config["store"]["local"] = "replica.db"
    server.start()
    assert server.api("GET", "/v1/routes/mine.test").status == 404


def test_the_replica_of_a_node_that_died_young_is_one(redis, pointsman):
    server = pointsman({"store": {"url": redis().url()}})
    server.put_route("a.test", **HERE)
    server.kill9()
    server.start()
    assert server.get(host="a.test").text == "here"


@pytest.mark.parametrize("store, word", [
    ({"url": "redis://h:x/0"}, "store.url"),
    ({"url": "redis://h/0", "password_file": "missing"}, "store.password_file"),
    ({"url": "redis://h/0", "ca_file": "ca.pem"}, "rediss:"),
    ({"url": "rediss://h/0", "ca_file": "missing"}, "store.ca_file"),
    ({"url": "rediss://h/0", "key_file": "missing"}, "store.certificate_file")])
def test_settings_are_checked(pointsman, store, word):
    server = pointsman({"store": store}, start=False)
    (server.folder / "c.yaml").write_text(json.dumps(server.config))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    done = subprocess.run([str(server.binary), "check", "--config", "c.yaml"], env=clean,
                          cwd=server.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and word in done.stderr, done


def test_the_password_comes_from_a_file(redis, pointsman):
    server = redis(password="p:w@/rd")
    node = pointsman({"store": {"url": f"redis://{server.address}/0", "password_file": "pw"}},
                     start=False)
    (node.folder / "pw").write_text("p:w@/rd\n")
    node.start()
    assert node.put_route("a.test", **HERE).status == 201


def test_demo_is_refused(redis, pointsman):
    server = pointsman({"store": {"url": redis().url()}}, args=["--demo"], start=False)
    server.start(wait=False)
    assert server.process.wait(PATIENCE) == 1
    server.process = None
    assert "--demo" in server.stderr()


def test_ticket_of_one_node_resumes_on_another(redis, fleet, certs, tmp_path):
    key_file = tmp_path / "keys"
    key_file.write_text("ab" * 32 + "\n")
    key_file.chmod(0o600)
    nodes = ready_fleet(redis(), fleet, 2, https=True,
                        config={"store": {"encryption_key_file": str(key_file)}})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect(node, session=None):
        with socket.create_connection(("127.0.0.1", node.https_port), PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname="a.test", session=session) as secure:
                return secure.session, secure.session_reused

    def is_resumed():
        session, _ = connect(nodes[0])
        return connect(nodes[1], session)[1]

    wait_until(is_resumed, "a ticket of node0 resumes on node1")
