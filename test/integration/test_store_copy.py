# SPDX-License-Identifier: MIT
"""`pointsman store copy` from and into Redis: alone, beside nodes that follow, and as the way back for a
store that came back empty."""
import json
import os
import subprocess
import time

import pytest

from support.net import wait_until
from support.process import find_binary
from support.redis import Prober


def command(folder, *words):
    env = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    return {"args": [str(find_binary()), "store", "copy", *map(str, words)], "cwd": folder,
            "env": env}


def copy(folder, *words):
    return subprocess.run(**command(folder, *words), capture_output=True, text=True, timeout=250)


def copy_well(folder, *words):
    result = copy(folder, "--json", *words)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def write_routes(folder, **bodies):
    folder.mkdir(exist_ok=True)
    (folder / "r.json").write_text(json.dumps({
        "pools": [{"name": "p", "targets": ["127.0.0.1:1"]}],
        "routes": [{"host": "pool.example", "pool": "p"},
                   *({"host": f"{name}.example", "respond": {"body": body}}
                     for name, body in bodies.items())]}))


def records(client, prefix="pointsman"):
    """What is declared, without revisions."""
    return {noun: {key: value.split("\n", 1)[1]
                   for key, value in client.hgetall(f"{prefix}:{noun}").items()}
            for noun in ("routes", "pools", "certificates")}


def key_file(folder, name="keys", byte="ab"):
    (folder / name).write_text(byte * 32 + "\n")
    (folder / name).chmod(0o600)
    return folder / name


def test_all_ways_give_the_same(redis, tmp_path):
    server = redis()
    write_routes(tmp_path / "in.d", a="a", b="<\u4e2d>")
    assert copy_well(tmp_path, "file:in.d", server.url())["created"] == 4
    client = server.client
    first = records(client)
    assert set(first["routes"]) == {"pool.example", "a.example", "b.example"}
    assert client.hget("pointsman:refs", "pool:p") == "1"
    meta = client.hgetall("pointsman:meta")
    assert len(meta["epoch"]) == 16 and int(meta["revision"]) >= 1 and meta["schema"] == "1"
    assert all(client.ttl(key) == -1 for key in client.keys("*"))
    assert not [key for key in client.keys("*") if "~" in key]
    assert copy_well(tmp_path, server.url(), "sqlite:s.db")["created"] == 4
    assert copy_well(tmp_path, "sqlite:s.db", server.url(), "--to-prefix", "two")["created"] == 4
    assert records(client, "two") == first
    # From Redis into Redis, and over what is the same.
    assert copy_well(tmp_path, server.url(), server.url(), "--from-prefix", "two", "--merge")[
        "same"] == 4
    assert copy_well(tmp_path, server.url(), "file:out.d", "--from-prefix", "two")["files"] == 2
    assert copy_well(tmp_path, "file:out.d", server.url(), "--merge")["same"] == 4
    assert client.hget("pointsman:meta", "revision") == meta["revision"]


def test_merge_replace_and_what_is_refused(redis, tmp_path):
    server = redis()
    url, client = server.url(), server.client
    write_routes(tmp_path / "in.d", a="a", b="b")
    copy_well(tmp_path, "file:in.d", url)
    write_routes(tmp_path / "in.d", b="new", c="c")
    result = copy(tmp_path, "file:in.d", url)
    assert result.returncode == 1
    assert "holds 3 routes, 1 pools and 0 certificates: --merge keeps them" in result.stderr
    length = client.xlen("pointsman:stream")
    told = copy_well(tmp_path, "file:in.d", url, "--merge")
    assert (told["created"], told["updated"], told["same"], told["deleted"]) == (1, 1, 2, 0)
    assert client.xlen("pointsman:stream") > length  # nodes follow it
    (tmp_path / "in.d" / "r.json").write_text('{"routes": [{"host": "c.example", "respond": {"body": "c"}}]}')
    told = copy_well(tmp_path, "file:in.d", url, "--replace")
    assert (told["same"], told["deleted"]) == (1, 4)
    assert set(records(client)["routes"]) == {"c.example"} and not client.exists("pointsman:refs")
    for words, text in ((("--merge", "--replace", url, "file:x"), "exclude each other"),
                        ((url, url), "are the same"),
                        (("mysql://h", url), "FROM and TO are"),
                        ((url, "file:x", "--from-prefix", ""), "a prefix has"),
                        ((url, "file:x", "--from-prefix", "p" * 101), "a prefix has")):
        result = copy(tmp_path, *words)
        assert result.returncode == 2 and text in result.stderr
    result = copy(tmp_path, url, "file:x", "--from-prefix", "none")
    assert result.returncode == 1 and "holds no declarations: there is no none:meta" in result.stderr
    client.delete("pointsman:meta")
    result = copy(tmp_path, "file:in.d", url, "--merge")
    assert result.returncode == 1 and "holds declarations, but no pointsman:meta" in result.stderr


def test_passwords(redis, tmp_path, dead_address):
    server = redis(password="secret word")
    write_routes(tmp_path / "in.d", a="a")
    result = copy(tmp_path, "file:in.d", f"redis://{server.address}")
    assert result.returncode == 1 and "NOAUTH" in result.stderr
    result = copy(tmp_path, "file:in.d", f"redis://:wrongone@{server.address}")
    assert result.returncode == 1 and "WRONGPASS" in result.stderr and "wrongone" not in result.stderr
    (tmp_path / "password").write_text("secret word\n")
    copy_well(tmp_path, "file:in.d", f"redis://{server.address}", "--password-file", "password")
    url = f"redis://:secret%20word@{server.address}"
    told = copy(tmp_path, "file:in.d", url)
    assert "holds 2 routes" in told.stderr and "word" not in told.stderr
    result = copy(tmp_path, url, "sqlite:x.db", "--password-file", "none")
    assert result.returncode == 0, result.stderr  # the URL has one
    result = copy(tmp_path, "file:in.d", f"redis://{dead_address}")
    assert result.returncode == 1 and "refused" in result.stderr


def test_secrets_are_sealed(redis, tmp_path, certs):
    server = redis()
    one = certs.issue(["one.example"])
    folder = tmp_path / "in.d"
    folder.mkdir()
    (folder / "c.json").write_text(json.dumps({"certificates": [
        {"name": "one", "chain": one.chain, "key": one.key},
        {"name": "two", "chain_file": str(one.chain_file), "key_file": str(one.key_file)}]}))
    told = copy_well(tmp_path, "file:in.d", server.url())
    assert (told["certificates"], told["left_out"]) == (1, 1)
    result = copy(tmp_path, "file:in.d", server.url(), "--merge", "--secrets")
    assert result.returncode == 1 and "--encryption-key-file is needed" in result.stderr
    key_file(tmp_path)
    key_file(tmp_path, "other", "cd")
    words = (server.url(), "--secrets", "--encryption-key-file")
    copy_well(tmp_path, "file:in.d", "--merge", *words, "keys")
    sealed = server.client.hgetall("pointsman:secrets")
    assert list(sealed) == ["certificate:one"] and sealed["certificate:one"].startswith("pm1:")
    result = copy(tmp_path, *words, "other", "file:x.d")
    assert result.returncode == 1 and "key cannot be opened" in result.stderr
    assert copy_well(tmp_path, *words, "keys", "file:out.d")["certificates"] == 2
    assert next(line for line in one.key.splitlines() if len(line) > 40) in (
        tmp_path / "out.d/certificates.yaml").read_text()
    # What is left out is not deleted.
    told = copy_well(tmp_path, server.url(), "--replace", server.url(), "--to-prefix", "two")
    assert told["left_out"] == 1
    told = copy_well(tmp_path, "file:in.d", server.url(), "--replace")
    assert (told["left_out"], told["deleted"]) == (1, 0)
    assert server.client.hexists("pointsman:certificates", "one")


def test_cut_off_it_leaves_nothing(redis, tmp_path):
    server = redis()
    (tmp_path / "in.d").mkdir()
    for part in range(4):
        (tmp_path / "in.d" / f"{part}.json").write_text(json.dumps({"routes": [
            {"host": f"h{part}-{n}.example", "respond": {"body": "x"}} for n in range(1500)]}))
    client = server.client
    with subprocess.Popen(**command(tmp_path, "file:in.d", server.url()),
                          stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: any(client.type(key) == "hash" and client.hlen(key) >= 1
                               for key in client.keys("*")), "a part is written", 60, 0.001)
        process.kill()
    rest = client.keys("*")
    assert not [key for key in rest if "~" not in key], "no part of it is the store's"
    wait_until(lambda: all(client.ttl(key) <= 3600 and client.ttl(key) != -1 for key in rest),
               "and all of it goes away")
    assert copy_well(tmp_path, "file:in.d", server.url())["created"] == 6000
    # One that fails takes its own away.
    before = set(client.keys("*"))
    client.config_set("maxmemory", "1mb")
    result = copy(tmp_path, "file:in.d", server.url(), "--to-prefix", "full")
    assert result.returncode == 1 and "OOM" in result.stderr
    assert "0 of 6000 changes were made" in result.stderr or "command not allowed" in result.stderr
    assert not [key for key in set(client.keys("*")) - before if "full" in key]


def test_nodes_follow_it(redis, fleet, tmp_path):
    server = redis()
    nodes = fleet(server, 2)
    nodes.wait_following(10)
    write_routes(tmp_path / "in.d", a="one", b="b")
    copy_well(tmp_path, "file:in.d", server.url())
    nodes.wait_body("a.example", "one")
    write_routes(tmp_path / "in.d", a="two", c="c")
    copy_well(tmp_path, "file:in.d", server.url(), "--replace")
    nodes.wait_body("a.example", "two")
    nodes.wait_body("b.example", 404)
    nodes.wait_body("c.example", "c")
    nodes.wait_equal()
    assert all(status["resyncs"] <= 1 for status in nodes.fleet_status())
    # A node's replica is one to copy from, also while the node runs.
    assert copy_well(nodes[0].folder, "sqlite:pointsman.db", "file:out.d")["routes"] == 3


@pytest.mark.deadline(600)
def test_replica_fills_a_store_that_came_back_empty(redis, fleet):
    server = redis()
    nodes = fleet(server, 3)
    nodes.wait_following(10)
    nodes[0].put_pool("p", ["127.0.0.1:1"])
    nodes[0].put_route("known.example", respond={"body": "here"})
    for n in range(300):
        nodes[0].put_route(f"h{n}.example", respond={"body": "x"})
    nodes.wait_body("h299.example", "x")
    revision = nodes[0].status()["revision"]
    with Prober(nodes, "known.example") as prober:
        server.client.flushall()
        wait_until(lambda: all(s["state"] == "empty" for s in nodes.fleet_status()), "empty")
        assert nodes[1].api("PUT", "/v1/routes/new.example",
                            json={"respond": {"body": "new"}}).status == 503
        told = copy_well(nodes[2].folder, "sqlite:pointsman.db", server.url())
        assert told["created"] == 302
        began = time.monotonic()
        nodes.wait_following()
        assert time.monotonic() - began < 30
        nodes[1].put_route("new.example", respond={"body": "new"})
        nodes.wait_body("new.example", "new")
        time.sleep(0.5)
    prober.check()
    nodes.wait_equal()
    assert nodes[0].status()["revision"] > revision
    assert nodes[0].api("GET", "/v1/routes/known.example").status == 200


def test_rights_that_it_needs(redis, tmp_path):
    """What docs/files.md says, and no more."""
    server = redis()
    nodes = ("+select +role +client|setname +ping +eval +evalsha +hget +hmget +hset +hdel +hlen "
             "+hexists +hscan +type +exists +xadd +xlen +xtrim")
    server.client.execute_command("ACL", "SETUSER", "copy", "on", ">word", "~pointsman:*", "-@all",
                                  *nodes.split(), "+expire", "+persist", "+rename", "+del")
    write_routes(tmp_path / "in.d", a="a")
    url = server.url("copy", "word")
    assert copy_well(tmp_path, "file:in.d", url)["created"] == 3
    write_routes(tmp_path / "in.d", b="b")
    assert copy_well(tmp_path, "file:in.d", url, "--replace")["deleted"] == 1
    assert copy_well(tmp_path, url, "sqlite:x.db")["routes"] == 2
    server.client.execute_command("ACL", "SETUSER", "copy", "-rename")
    server.client.flushall()
    result = copy(tmp_path, "file:in.d", url)
    assert result.returncode == 1 and "0 of 3 changes were made" in result.stderr
    assert "can't run this command" in result.stderr
    assert not server.client.keys("*")
