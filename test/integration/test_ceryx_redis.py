# SPDX-License-Identifier: MIT
"""Ceryx' keys in Redis, written by others: followed by requests that see the change."""
import concurrent.futures
import pathlib
import re
import time

import pytest

from support.net import wait_until
from support.origin import respond

ROOT = pathlib.Path(__file__).resolve().parents[2]
CERYX = {"ceryx": {"enabled": True, "miss_timeout": "2s"}}


@pytest.fixture
def here(origin):
    return origin(respond(200, body=b"here"))


def ceryx_of(node):
    return node.status()["ceryx"]


def wait_passes(nodes, count=2):
    """The node that scans has begun and ended a whole pass from now on."""
    before = [ceryx_of(node)["scans"] for node in nodes]
    wait_until(lambda: any(ceryx_of(node)["scans"] >= scans + count
                           for node, scans in zip(nodes, before)), "scans", 10, 0.05)


def wait_ready(nodes):
    nodes.wait_following(5)
    wait_until(lambda: all(ceryx_of(node)["connected"] for node in nodes), "connected", 5)


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
    wait_until(lambda: answer_of(nodes[0], "any.example") == "rest", "the wildcard is live", 5)
    server.client.set("ceryx:routes:own.example", here.address)
    assert answer_of(nodes[0], "own.example") == "here"
    assert answer_of(nodes[0], "other.example") == "rest"


def test_unknown_hosts(redis, fleet, here):
    server = redis()
    nodes = fleet(server, 1, CERYX)
    wait_ready(nodes)
    assert answer_of(nodes[0], "nobody.example") == 503
    lookups = ceryx_of(nodes[0])["lookups"]
    assert answer_of(nodes[0], "nobody.example") == 503
    assert ceryx_of(nodes[0])["lookups"] == lookups  # it was not there a moment ago
    server.client.set("ceryx:routes:nobody.example", here.address)
    wait_until(lambda: answer_of(nodes[0], "nobody.example") == "here", "it is seen", 1.5, 0.02)
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
    wait_until(lambda: any(ceryx_of(node)["notified"] for node in nodes), "notified", 8)
    scans = sum(ceryx_of(node)["scans"] for node in nodes)
    server.client.set("ceryx:routes:a.example", here.address)
    nodes.wait_body("a.example", "here", 1.0)
    assert sum(ceryx_of(node)["scans"] for node in nodes) <= scans + 1


def check_changes(server, fleet, here, origin):
    other = origin(respond(200, body=b"other"))
    client = server.client
    client.set("ceryx:routes:a.example", f"http://{here.address}")
    nodes = fleet(server, 3, CERYX)
    wait_ready(nodes)
    nodes.wait_body("a.example", "here", 5)
    wait_until(lambda: any(ceryx_of(node)["scans"] > 1 for node in nodes), "scans", 5)
    client.set("ceryx:routes:a.example", f"http://{other.address}")
    nodes.wait_body("a.example", "other", 1.2)
    client.hset("ceryx:settings:a.example", mapping={"enforce_https": "1"})
    nodes.wait_body("a.example", 301, 1.2)
    client.hset("ceryx:settings:a.example", mapping={"enforce_https": "0", "mode": "redirect"})
    wait_until(lambda: all(node.get(target="/x?y=1", host="a.example").headers.get("Location") ==
                           f"http://{other.address}/x?y=1" for node in nodes), "redirect", 1.2)
    client.delete("ceryx:settings:a.example")
    nodes.wait_body("a.example", "other", 1.2)
    client.set("ceryx:routes:a.example", f"http://{here.address}/base/")
    nodes.wait_body("a.example", "here", 1.2)
    nodes[0].get(target="/x", host="a.example")
    assert here.last.target == "/base/x"
    client.delete("ceryx:routes:a.example")
    nodes.wait_body("a.example", 503, 2.5)
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
    wait_until(lambda: all(node.status()["routes"] == 3000 for node in nodes), "all", 30)
    assert answer_of(nodes[1], "old2999.example") == "here"
    wait_passes(nodes)
    scanning = [ceryx_of(node) for node in nodes if ceryx_of(node)["scanning"]]
    assert len(scanning) == 1
    assert scanning[0]["adopted"] == 3000
    assert scanning[0]["refused"] == 1
    assert scanning[0]["last_refused"]["host"] == "broken.example"
    metrics = [node.metrics()["pointsman_ceryx_adopted_total"] for node in nodes]
    assert sorted(metrics) == [0, 3000]


def test_keys_of_other_types(redis, fleet, here):
    """What cannot be read is refused alone: the others are adopted, and the nodes write on."""
    server = redis()
    client = server.client
    client.set("ceryx:routes:was.example", here.address)
    nodes = fleet(server, 2, CERYX)
    wait_ready(nodes)
    wait_until(lambda: nodes[0].get_route("was.example").status == 200, "it is adopted", 5)
    client.delete("ceryx:routes:was.example")
    client.rpush("ceryx:routes:was.example", "x")
    client.set("ceryx:routes:text.example", here.address)
    client.set("ceryx:settings:text.example", "no hash")
    client.set("ceryx:routes:huge.example", "x" * (1 << 20))
    client.set("ceryx:routes:other.example", here.address)
    for node in nodes:
        wait_until(lambda: node.get_route("other.example").status == 200, "the scan goes on", 5)
        wait_until(lambda: node.get_route("text.example").status == 200, "without settings", 5)
        wait_until(lambda: node.get_route("was.example").status == 404, "its route goes", 5)
    wait_passes(nodes)
    assert sum(ceryx_of(node)["refused"] for node in nodes) == 2
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
    nodes.wait_body("tls.example", "here", 5)
    nodes.wait_body("none.example", "here", 5)
    assert nodes[0].api("GET", "/v1/certificates/ceryx-tls.example").status == 200
    assert ceryx_of(nodes[0])["certificates_refused"] == 1
    client.hdel("ceryx:settings:tls.example", "certificate_path", "key_path")
    wait_until(lambda: nodes[0].api("GET", "/v1/certificates/ceryx-tls.example").status == 404,
               "it is gone", 2)


def test_own_route_stays(redis, fleet, here, origin):
    """What was declared over it stays until the key changes."""
    server = redis()
    mine = origin(respond(200, body=b"mine"))
    server.client.set("ceryx:routes:a.example", here.address)
    nodes = fleet(server, 1, CERYX)
    nodes.wait_body("a.example", "here", 5)
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
    nodes.wait_body("a.example", "here", 5)
    memory = nodes[0].memory()

    def storm(worker):
        with nodes[0].connect() as conn:
            for i in range(500):
                reply = conn.exchange("GET", "/", host=f"x{worker}-{i}.example")
                assert reply.status == 503

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        storms = [pool.submit(storm, i) for i in range(8)]
        slowest = 0.0
        while not all(each.done() for each in storms):
            start = time.monotonic()
            assert answer_of(nodes[0], "a.example") == "here"
            slowest = max(slowest, time.monotonic() - start)
        for each in storms:
            each.result()
    assert slowest < 1.0
    assert nodes[0].memory() - memory < 64 << 20
    assert ceryx_of(nodes[0])["lookups_under_way"] == 0


def test_redis_away(redis, fleet, here):
    """Unknown within ceryx.miss_timeout, known ones unharmed."""
    server = redis()
    server.client.set("ceryx:routes:a.example", here.address)
    nodes = fleet(server, 1, {"ceryx": {"enabled": True, "miss_timeout": "50ms"}})
    wait_ready(nodes)
    nodes.wait_body("a.example", "here", 5)
    server.pause()
    start = time.monotonic()
    assert answer_of(nodes[0], "x.example") == 503
    assert time.monotonic() - start < 0.5
    for i in range(150):  # more than look-ups may be under way
        start = time.monotonic()
        assert answer_of(nodes[0], f"x{i}.example") == 503
        assert time.monotonic() - start < 0.5
        assert answer_of(nodes[0], "a.example") == "here"
    server.resume()
    server.client.set("ceryx:routes:x.example", here.address)
    wait_until(lambda: answer_of(nodes[0], "x.example") == "here", "it is seen", 5)
    server.kill9()
    start = time.monotonic()
    assert answer_of(nodes[0], "y.example") == 503
    assert answer_of(nodes[0], "a.example") == "here"
    assert time.monotonic() - start < 0.5


def test_the_next_node_scans(redis, fleet, here):
    server = redis()
    nodes = fleet(server, 2, CERYX)
    wait_ready(nodes)
    wait_until(lambda: any(ceryx_of(node)["scanning"] for node in nodes), "one scans", 5)
    first = 0 if ceryx_of(nodes[0])["scanning"] else 1
    second = nodes[1 - first]
    nodes[first].stop()
    wait_until(lambda: ceryx_of(second)["scanning"], "the other one scans", 2.5)
    server.client.set("ceryx:routes:a.example", here.address)
    wait_until(lambda: second.status()["routes"] == 1, "it is adopted", 2)


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
    wait_until(lambda: ceryx_of(nodes[0])["notified"], "notified", 8)
    server.client.set("ceryx:routes:a.example", here.address)
    assert answer_of(nodes[0], "a.example") == "here"
    server.client.set("ceryx:routes:a.example", here.address + "/b")
    wait_until(lambda: nodes[0].get_route("a.example").json.get("target_path") == "/b", "b", 1.2)
    nodes[0].stop()
    server.client.execute_command("ACL", "SETUSER", "pointsman", "resetchannels")
    nodes[0].start()
    wait_until(lambda: ceryx_of(nodes[0])["scans"] > 1, "scans", 8)
    assert not ceryx_of(nodes[0])["notified"]
    server.client.set("ceryx:routes:a.example", here.address + "/c")
    wait_until(lambda: nodes[0].get_route("a.example").json.get("target_path") == "/c", "c", 1.2)
