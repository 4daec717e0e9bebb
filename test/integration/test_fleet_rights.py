# SPDX-License-Identifier: MIT
"""The rights that docs/fleet.md names are enough for a node, and no more than it uses."""
import pathlib
import re

from support.net import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]


def documented():
    """The rules of the ACL user, as words."""
    text = (ROOT / "docs" / "fleet.md").read_text()
    block = re.search(r"^```text acl\nuser pointsman (.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return block[1].replace("PASSWORD", "secret").split()


def documented_for_ceryx():
    text = (ROOT / "docs" / "fleet.md").read_text()
    return re.search(r"\[Ceryx' keys\]\(ceryx.md\) besides: `([^`]*)`", text)[1].split()


def commands_used(client):
    return {name.removeprefix("cmdstat_") for name, stat in client.info("commandstats").items()
            if stat["calls"] - stat.get("rejected_calls", 0) > 0}


def denied(client):
    return [(entry["reason"], entry["object"]) for entry in client.acl_log()]


def test_a_node_needs_the_documented_rights(pointsman, redis, certs, tmp_path):
    store = redis()
    admin = store.client
    admin.execute_command("ACL", "SETUSER", "pointsman", *documented())
    admin.config_resetstat()
    key_file = tmp_path / "keys"
    key_file.write_text("ab" * 32 + "\n")
    key_file.chmod(0o600)
    config = {"store": {"url": store.url("pointsman", "secret"), "wait_replicas": 0,
                        "encryption_key_file": str(key_file)}}
    server = pointsman(config, https=True)
    wait_until(lambda: server.status()["store"]["fleet"]["state"] == "following", "it follows")
    certificate = certs.issue(["a.example"])
    for _ in range(2):
        server.put_certificate("a", certificate.chain, certificate.key)
    server.put_pool("p", ["127.0.0.1:9"])
    server.put_route("a.example", pool="p")
    assert server.api("DELETE", "/v1/pools/p").status == 409
    assert server.delete_route("a.example").status == 204
    assert server.api("PUT", "/v1/routes/w.example?wait=fleet",
                      json={"targets": ["127.0.0.1:9"]}).status == 201

    def following(revision):
        status = server.status()
        return status["store"]["fleet"]["state"] == "following" and status["revision"] >= revision

    # A stream that is gone, then a history that is older: a resync, a new epoch.
    server.stop()
    admin.delete("pointsman:stream")
    admin.hset("pointsman:meta", mapping={"tag": "0" * 32})
    server.start()
    wait_until(lambda: following(1000000), "a new epoch")
    server.put_route("b.example", targets=["127.0.0.1:9"])
    server.stop()
    assert denied(admin) == []

    granted = {rule[1:] for rule in documented() if rule.startswith("+")}
    used = commands_used(admin)
    # WAIT is for wait_replicas, ROLE for Sentinel, SELECT for other databases, XLEN and XTRIM for a full stream.
    assert granted - used <= {"wait", "role", "select", "xlen", "xtrim"}, granted - used


def test_a_right_that_is_missing_is_told(pointsman, redis):
    store = redis()
    store.client.execute_command("ACL", "SETUSER", "pointsman", *documented())
    server = pointsman({"store": {"url": store.url("pointsman", "secret")}})
    server.put_route("a.example", targets=["127.0.0.1:9"])
    for right in ("xadd", "evalsha", "hset"):
        store.client.execute_command("ACL", "SETUSER", "pointsman", "-" + right)
        reply = server.api("PUT", "/v1/routes/b.example", json={"targets": ["127.0.0.1:9"]})
        assert reply.status == 503, right
        assert "NOPERM" in reply.text or "can't run this command" in reply.text, reply.text
        assert server.api("GET", "/readyz").status == 200
        store.client.execute_command("ACL", "SETUSER", "pointsman", "+" + right)
        wait_until(lambda: server.api("PUT", "/v1/routes/b.example", json={
            "targets": ["127.0.0.1:9"]}).status < 300, "writes go on")


def test_rights_for_the_keys_of_ceryx(pointsman, redis, origin):
    store, target = redis(options=["--notify-keyspace-events", "K$hg"]), origin()
    rules = documented() + documented_for_ceryx()
    store.client.execute_command("ACL", "SETUSER", "pointsman", *rules)
    server = pointsman({"store": {"url": store.url("pointsman", "secret")},
                        "ceryx": {"enabled": True, "miss_timeout": "10s"}})
    store.client.set("ceryx:routes:a.example", f"http://{target.address}")
    assert server.get(host="a.example").status == 200
    store.client.hset("ceryx:settings:a.example", "mode", "redirect")
    wait_until(lambda: server.get(host="a.example").status == 301, "the settings count")
    assert server.api("POST", "/api/routes/", json={
        "source": "b.example", "target": target.address}).status == 201
    assert server.api("DELETE", "/api/routes/b.example/").status == 204
    store.client.delete("ceryx:routes:a.example")
    wait_until(lambda: server.get(host="a.example").status == 503, "it is gone")
    server.stop()
    assert denied(store.client) == []
    used = commands_used(store.client)
    granted = {rule[1:] for rule in documented_for_ceryx() if rule.startswith("+")}
    assert granted - used == set()
