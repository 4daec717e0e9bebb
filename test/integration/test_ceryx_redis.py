# SPDX-License-Identifier: MIT
"""Ceryx' keys in Redis, written by others: followed by requests that see the change."""
import concurrent.futures
import pathlib
import re
import time

import pytest

from support.net import best_of, wait_until
from support.origin import respond

ROOT = pathlib.Path(__file__).resolve().parents[2]
CERYX = {"ceryx": {"enabled": True, "miss_timeout": "10s"}}


@pytest.fixture
def here(origin):
    return origin(respond(200, body=b"here"))


def ceryx_of(node):
    return node.status()["ceryx"]


def wait_passes(nodes, count=2):
    """The node that scans has begun and ended a whole pass from now on."""
    before = [ceryx_of(node)["scans"] for node in nodes]
    wait_until(lambda: any(ceryx_of(node)["scans"] >= scans + count
                           for node, scans in zip(nodes, before)), "scans", interval=0.05)


def wait_ready(nodes):
    nodes.wait_following()
    wait_until(lambda: all(ceryx_of(node)["connected"] for node in nodes), "connected")


def answer_of(node, host, path="/"):
    reply = node.get(target=path, host=host)
    return reply.text if reply.status == 200 else reply.status


# --- hosts that are not known yet ---


def test_new_hosts_are_served_at_once(redis, fleet, here):
    server = redis()
    nodes = fleet(server, 2, CERYX)
    wait_ready(nodes)
    client = server.client
    failures = []
    for i in range(500):
        client.set(f"ceryx:routes:new{i}.example", f"http://{here.address}/")
        reply = nodes[i % 2].get(host=f"new{i}.example")
        if reply.status != 200 or reply.text != "here":
            failures.append((i, reply.status))
    assert not failures
    # The other node sees them too, and the API shows what they are.
    assert answer_of(nodes[1], "new0.example") == "here"
    route = nodes[0].get_route("new7.example").json
    assert route["targets"] == [here.address]
    assert sum(ceryx_of(node)["refused"] for node in nodes) == 0


def test_all_at_once(redis, fleet, here):
    """Many requests for the same new hosts: one look-up each, and all are answered."""
    server = redis()
    nodes = fleet(server, 1, CERYX)
    wait_ready(nodes)
    for i in range(5):
        server.client.set(f"ceryx:routes:many{i}.example", here.address)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda i: answer_of(nodes[0], f"many{i % 5}.example"),
                                range(100)))
    assert set(answers) == {"here"}
    assert ceryx_of(nodes[0])["lookups"] <= 5


def test_wildcard_comes_after_the_look_up(redis, fleet, here, origin):
    server = redis()
    rest = origin(respond(200, body=b"rest"))
    server.client.set("ceryx:routes:$wildcard", rest.address)
    nodes = fleet(server, 1, CERYX)
    wait_ready(nodes)
    wait_until(lambda: answer_of(nodes[0], "any.example") == "rest", "the wildcard is live")
    server.client.set("ceryx:routes:own.example", here.address)
    assert answer_of(nodes[0], "own.example") == "here"
    assert answer_of(nodes[0], "other.example") == "rest"


def test_unknown_hosts(redis, fleet, here):
    server = redis()
    nodes = fleet(server, 1, CERYX)
    wait_ready(nodes)
    hosts = (f"nobody{i}.example" for i in range(100))

    def two_requests():
        host, before = next(hosts), ceryx_of(nodes[0])["lookups"]
        assert [answer_of(nodes[0], host) for _ in range(2)] == [503, 503]
        return ceryx_of(nodes[0])["lookups"] - before

    best_of(two_requests, 1, "look-ups of a host that was not there a moment ago", 10)

    def until_it_is_seen():
        host = next(hosts)
        assert answer_of(nodes[0], host) == 503
        began = time.monotonic()
        server.client.set(f"ceryx:routes:{host}", here.address)
        wait_until(lambda: answer_of(nodes[0], host) == "here", "it is seen", interval=0.02)
        return time.monotonic() - began

    best_of(until_it_is_seen, 1.5, "seconds until a host is seen that was not there")
    # Nobody is asked for what is no host name, nor without one.
    lookups = ceryx_of(nodes[0])["lookups"]
    assert b" 503 " in nodes[0].raw(b"GET / HTTP/1.0\r\n\r\n")
    assert ceryx_of(nodes[0])["lookups"] == lookups


def test_a_body_waits_with_its_request(redis, fleet, origin):
    server = redis()
    target = origin()
    nodes = fleet(server, 1, CERYX)
    wait_ready(nodes)
    server.client.set("ceryx:routes:post.example", target.address)
    reply = nodes[0].exchange("POST", "/", host="post.example", body=b"x" * 300000)
    assert reply.status == 200
    assert len(target.last.body) == 300000


# --- hosts that are known ---


def test_changes_of_known_hosts(redis, fleet, here, origin):
    check_changes(redis(), fleet, here, origin)


def test_changes_with_notifications(redis, fleet, here, origin):
    server = redis(options=["--notify-keyspace-events", "K$hg"])
    nodes = check_changes(server, fleet, here, origin)
    wait_until(lambda: any(ceryx_of(node)["notified"] for node in nodes), "notified")
    server.client.set("ceryx:routes:a.example", here.address)
    nodes.wait_body("a.example", "here")
    paths = iter(range(10))

    def scans():
        path = f"/{next(paths)}"
        before = sum(ceryx_of(node)["scans"] for node in nodes)
        server.client.set("ceryx:routes:a.example", here.address + path)
        wait_until(lambda: all(node.get_route("a.example").json.get("target_path") == path
                               for node in nodes), "it is live")
        return sum(ceryx_of(node)["scans"] for node in nodes) - before

    best_of(scans, 0, "scans until a notified change was live", 5)


def check_changes(server, fleet, here, origin):
    other = origin(respond(200, body=b"other"))
    client = server.client
    client.set("ceryx:routes:a.example", f"http://{here.address}")
    nodes = fleet(server, 3, CERYX)
    wait_ready(nodes)
    nodes.wait_body("a.example", "here")
    wait_until(lambda: any(ceryx_of(node)["scans"] > 1 for node in nodes), "scans")
    taken, began = [], time.monotonic()

    def is_live(expected):
        nonlocal began
        nodes.wait_body("a.example", expected)
        taken.append(time.monotonic() - began)
        began = time.monotonic()

    client.set("ceryx:routes:a.example", f"http://{other.address}")
    is_live("other")
    client.hset("ceryx:settings:a.example", mapping={"enforce_https": "1"})
    is_live(301)
    client.hset("ceryx:settings:a.example", mapping={"enforce_https": "0", "mode": "redirect"})
    wait_until(lambda: all(node.get(target="/x?y=1", host="a.example").headers.get("Location") ==
                           f"http://{other.address}/x?y=1" for node in nodes), "redirect")
    is_live(301)
    client.delete("ceryx:settings:a.example")
    is_live("other")
    client.set("ceryx:routes:a.example", f"http://{here.address}/base/")
    is_live("here")
    nodes[0].get(target="/x", host="a.example")
    assert here.last.target == "/base/x"
    began = time.monotonic()
    client.delete("ceryx:routes:a.example")
    is_live(503)
    # Within a second, but for a change during which the machine stood still.
    assert sorted(taken)[len(taken) // 2] < 1.2, taken
    nodes.wait_equal()
    return nodes


def test_what_was_there_before(redis, fleet, here):
    """The first start: everything is taken over."""
    server = redis()
    with server.client.pipeline() as pipe:
        for i in range(3000):
            pipe.set(f"ceryx:routes:old{i}.example", here.address)
        pipe.set("ceryx:routes:broken.example", "ftp://x")
        pipe.set("other", "1")
        pipe.execute()
    nodes = fleet(server, 2, CERYX)
    wait_until(lambda: all(node.status()["routes"] == 3000 for node in nodes), "all")
    assert answer_of(nodes[1], "old2999.example") == "here"
    wait_passes(nodes)
    # One scans; if it stands still for as long as its lease, the other one goes on.
    wait_until(lambda: [ceryx_of(node)["scanning"] for node in nodes].count(True) == 1, "one scans")
    said = [ceryx_of(node) for node in nodes]
    adopted = sum(each["adopted"] for each in said)
    if not any(status["unknown"] for status in nodes.fleet_status()):
        assert adopted == 3000
    assert 0 < adopted <= 3000  # but for a write whose answer was late
    assert max(each["refused"] for each in said) == 1
    assert "broken.example" in [each["last_refused"]["host"] for each in said if each["refused"]]
    metrics = [node.metrics()["pointsman_ceryx_adopted_total"] for node in nodes]
    assert sum(metrics) == adopted


def test_keys_of_other_types(redis, fleet, here):
    """What cannot be read is refused alone: the others are adopted, and the nodes write on."""
    server = redis()
    client = server.client
    client.set("ceryx:routes:was.example", here.address)
    nodes = fleet(server, 2, CERYX)
    wait_ready(nodes)
    wait_until(lambda: nodes[0].get_route("was.example").status == 200, "it is adopted")
    client.delete("ceryx:routes:was.example")
    client.rpush("ceryx:routes:was.example", "x")
    client.set("ceryx:routes:text.example", here.address)
    client.set("ceryx:settings:text.example", "no hash")
    client.set("ceryx:routes:huge.example", "x" * (1 << 20))
    client.set("ceryx:routes:other.example", here.address)
    for node in nodes:
        wait_until(lambda: node.get_route("other.example").status == 200, "the scan goes on")
        wait_until(lambda: node.get_route("text.example").status == 200, "without settings")
        wait_until(lambda: node.get_route("was.example").status == 404, "its route goes")
    wait_passes(nodes)
    assert max(ceryx_of(node)["refused"] for node in nodes) == 2  # by who scans
    nodes[0].put_route("mine.example", targets=[here.address])


def test_certificates_of_settings(redis, fleet, here, certs):
    server = redis()
    certificate = certs.issue(["tls.example"])
    client = server.client
    client.hset("ceryx:settings:tls.example", mapping={
        "certificate_path": str(certificate.chain_file), "key_path": str(certificate.key_file)})
    client.set("ceryx:routes:tls.example", here.address)
    client.hset("ceryx:settings:none.example", mapping={
        "certificate_path": "/nowhere/chain.pem", "key_path": "/nowhere/key.pem"})
    client.set("ceryx:routes:none.example", here.address)
    nodes = fleet(server, 1, CERYX, https=True)
    nodes.wait_body("tls.example", "here")
    nodes.wait_body("none.example", "here")
    assert nodes[0].api("GET", "/v1/certificates/ceryx-tls.example").status == 200
    assert ceryx_of(nodes[0])["certificates_refused"] == 1
    client.hdel("ceryx:settings:tls.example", "certificate_path", "key_path")
    wait_until(lambda: nodes[0].api("GET", "/v1/certificates/ceryx-tls.example").status == 404,
               "it is gone")


def test_own_route_stays(redis, fleet, here, origin):
    """What was declared over it stays until the key changes."""
    server = redis()
    mine = origin(respond(200, body=b"mine"))
    server.client.set("ceryx:routes:a.example", here.address)
    nodes = fleet(server, 1, CERYX)
    nodes.wait_body("a.example", "here")
    nodes[0].put_route("a.example", targets=[mine])
    wait_passes(nodes)
    assert answer_of(nodes[0], "a.example") == "mine"
    server.client.delete("ceryx:routes:a.example")
    wait_passes(nodes)
    assert answer_of(nodes[0], "a.example") == "mine"


# --- attacks and faults ---


def test_a_storm_of_names(redis, fleet, here):
    """Names that nobody has: bounded, and others are served meanwhile."""
    server = redis()
    server.client.set("ceryx:routes:a.example", here.address)
    nodes = fleet(server, 1, CERYX)
    wait_ready(nodes)
    nodes.wait_body("a.example", "here")
    memory = nodes[0].memory()

    def storm(worker):
        with nodes[0].connect() as conn:
            for i in range(500):
                reply = conn.exchange("GET", "/", host=f"x{worker}-{i}.example")
                assert reply.status == 503

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        storms = [pool.submit(storm, i) for i in range(8)]
        taken = []
        while not all(each.done() for each in storms):
            start = time.monotonic()
            assert answer_of(nodes[0], "a.example") == "here"
            taken.append(time.monotonic() - start)
        for each in storms:
            each.result()
    assert sorted(taken)[len(taken) // 2] < 1.0, taken
    assert nodes[0].memory() - memory < 64 << 20
    assert ceryx_of(nodes[0])["lookups_under_way"] == 0


def test_redis_away(redis, fleet, here):
    """Unknown within ceryx.miss_timeout, known ones unharmed."""
    server = redis()
    server.client.set("ceryx:routes:a.example", here.address)
    nodes = fleet(server, 1, {"ceryx": {"enabled": True, "miss_timeout": "50ms"}})
    wait_ready(nodes)
    nodes.wait_body("a.example", "here")

    def check_unknown(hosts):
        taken = []
        for host in hosts:
            start = time.monotonic()
            assert answer_of(nodes[0], host) == 503
            taken.append(time.monotonic() - start)
            assert answer_of(nodes[0], "a.example") == "here"
        assert sorted(taken)[len(taken) * 3 // 4] < 0.5, taken  # not while the machine stands still

    server.pause()
    check_unknown([f"x{i}.example" for i in range(150)])  # more than look-ups may be under way
    server.resume()
    server.client.set("ceryx:routes:x.example", here.address)
    wait_until(lambda: answer_of(nodes[0], "x.example") == "here", "it is seen")
    server.kill9()
    check_unknown([f"y{i}.example" for i in range(8)])


def test_the_next_node_scans(redis, fleet, here):
    server = redis()
    nodes = fleet(server, 2, CERYX)
    wait_ready(nodes)
    wait_until(lambda: any(ceryx_of(node)["scanning"] for node in nodes), "one scans")
    first = 0 if ceryx_of(nodes[0])["scanning"] else 1
    second = nodes[1 - first]
    nodes[first].stop()
    wait_until(lambda: ceryx_of(second)["scanning"], "the other one scans")
    server.client.set("ceryx:routes:a.example", here.address)
    wait_until(lambda: second.status()["routes"] == 1, "it is adopted")


def test_rights(redis, fleet, here):
    """What docs/fleet.md grants is enough, and with fewer channels it only scans."""
    text = (ROOT / "docs" / "fleet.md").read_text()
    rights = re.search(r"```text acl\nuser pointsman (.*?)```", text, re.S)[1].split()
    more = re.search(r"besides: `(~ceryx.*?)`", text, re.S)[1].split()
    rights = [">word" if each == ">PASSWORD" else each for each in rights]
    server = redis(options=["--notify-keyspace-events", "K$hg"])
    server.client.execute_command("ACL", "SETUSER", "pointsman", *rights, *more)
    nodes = fleet(server.url("pointsman", "word"), 1, CERYX)
    wait_ready(nodes)
    wait_until(lambda: ceryx_of(nodes[0])["notified"], "notified")
    server.client.set("ceryx:routes:a.example", here.address)
    assert answer_of(nodes[0], "a.example") == "here"
    server.client.set("ceryx:routes:a.example", here.address + "/b")
    wait_until(lambda: nodes[0].get_route("a.example").json.get("target_path") == "/b", "b")
    nodes[0].stop()
    server.client.execute_command("ACL", "SETUSER", "pointsman", "resetchannels")
    nodes[0].start()
    wait_until(lambda: ceryx_of(nodes[0])["scans"] > 1, "scans")
    assert not ceryx_of(nodes[0])["notified"]
    server.client.set("ceryx:routes:a.example", here.address + "/c")
    wait_until(lambda: nodes[0].get_route("a.example").json.get("target_path") == "/c", "c")
