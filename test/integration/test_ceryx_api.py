# SPDX-License-Identifier: MIT
"""The API of Ceryx: as its users and their scripts call it, on the admin address and on one of its own."""
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.http1 import Connection
from support.net import free_port, wait_until
from support.origin import respond

CERYX = {"ceryx": {"enabled": True}}
DEFAULTS = {"enforce_https": False, "mode": "proxy", "certificate_path": None, "key_path": None}


def shown(source, target, **settings):
    return {"source": source, "target": target, "settings": DEFAULTS | settings}


@pytest.fixture
def node(pointsman):
    return pointsman(CERYX)


def ask(node, method, path, body=None, **more):
    response = node.api(method, path, json=body, **more)
    assert response.headers.get("Location") is None
    return response


@pytest.mark.parametrize("end", ["", "/"])
def test_create_read_update_delete(node, origin, end):
    """With and without the final slash, and never a redirect from one to the other."""
    first, second = (origin(respond(body=name.encode()), name=name) for name in ("first", "second"))
    routes = f"/api/routes{end}"
    one = f"/api/routes/a.test{end}"
    assert ask(node, "GET", routes).json == []

    response = ask(node, "POST", routes, {"source": "a.test", "target": f"http://{first.address}"})
    assert (response.status, response.json) == (201, shown("a.test", f"http://{first.address}"))
    assert response.headers.get("Content-Type") == "application/json"
    assert node.get(host="a.test").body == b"first"
    assert ask(node, "GET", one).json == shown("a.test", f"http://{first.address}")
    assert ask(node, "GET", routes).json == [shown("a.test", f"http://{first.address}")]

    response = ask(node, "PUT", one, {"target": second.address})
    assert (response.status, response.json) == (200, shown("a.test", f"http://{second.address}"))
    assert node.get(host="a.test").body == b"second"

    for _ in range(2):
        response = ask(node, "DELETE", one)
        assert (response.status, response.body) == (204, b"")
    response = ask(node, "GET", one)
    assert (response.status, response.json) == (404, {"detail": "No route found for a.test."})
    assert ask(node, "GET", routes).json == []
    assert node.get(host="a.test").status == 503


def test_post_and_put_make_and_replace(node):
    """POST replaces what is there (201), PUT makes what is not (200); the host of the URL counts."""
    for status, method, path, body in [
            (201, "POST", "/api/routes", {"source": "a.test", "target": "x:1"}),
            (201, "POST", "/api/routes/", {"source": "a.test", "target": "x:2"}),
            (200, "PUT", "/api/routes/b.test", {"target": "x:3"}),
            (200, "PUT", "/api/routes/b.test", {"source": "other.test", "target": "x:4"})]:
        assert ask(node, method, path, body).status == status
    assert ask(node, "GET", "/api/routes").json == [shown("a.test", "http://x:2"),
                                                    shown("b.test", "http://x:4")]


def test_settings(node):
    put = lambda **settings: ask(node, "PUT", "/api/routes/a.test", {"target": "http://x:1/", "settings": settings})
    for given, expected in [({"enforce_https": True}, {"enforce_https": True}),
                            ({"enforce_https": "1"}, {"enforce_https": True}),
                            ({"enforce_https": 0, "mode": "proxy"}, {}),
                            ({"mode": "redirect"}, {"mode": "redirect"}),
                            ({"certificate_path": None, "key_path": None, "unknown": [1]}, {})]:
        response = put(**given)
        assert response.status == 200, response.text
        assert response.json == shown("a.test", "http://x:1/", **expected)
        assert ask(node, "GET", "/api/routes/a.test").json == response.json


def test_hosts_are_canonical(node):
    response = ask(node, "POST", "/api/routes", {"source": "Bücher.Test.", "target": "x:1"})
    assert response.json["source"] == "xn--bcher-kva.test"
    assert ask(node, "GET", "/api/routes/B%C3%BCcher.test/").status == 200
    assert ask(node, "PUT", "/api/routes/$wildcard", {"target": "x:2"}).json["source"] == "$wildcard"
    assert ask(node, "GET", "/api/routes/%24wildcard").json["target"] == "http://x:2"
    assert node.get_route("*").json["targets"] == ["x:2"]
    assert ask(node, "DELETE", "/api/routes/$wildcard/").status == 204
    assert ask(node, "GET", "/api/routes/$wildcard").json == {"detail": "No route found for $wildcard."}


@pytest.mark.parametrize("body, detail", [
    (b"", "empty"),
    (b"{", "line 1"),
    (b"[]", "object"),
    (b"{}", "source: is missing"),
    (b'{"source": "a.test"}', "target: is missing"),
    (b'{"source": 1, "target": "x"}', "source: must be text"),
    (b'{"source": "a.test", "target": null}', "target: must be text"),
    (b'{"source": "a b", "target": "x"}', "source: "),
    (b'{"source": "", "target": "x"}', "source: "),
    (b'{"source": "a.test/x", "target": "x"}', "source: "),
    (b'{"source": "*.test", "target": "x"}', "source: "),
    (b'{"source": "a.test", "target": ""}', "target: "),
    (b'{"source": "a.test", "target": "ftp://x"}', "target: "),
    (b'{"source": "a.test", "target": "x:99999"}', "target: "),
    (b'{"source": "a.test", "target": "x/?y"}', "target: "),
    (b'{"source": "a.test", "target": "x", "settings": 1}', "settings: "),
    (b'{"source": "a.test", "target": "x", "settings": {"enforce_https": "maybe"}}', "enforce_https: "),
    (b'{"source": "a.test", "target": "x", "settings": {"mode": "tunnel"}}', "mode: "),
    (b'{"source": "a.test", "target": "x", "settings": {"key_path": 5}}', "key_path: "),
    (b'{"source": "a.test", "target": "x", "settings": {"certificate_path": "/nonexistent", "key_path": "/none"}}',
     "certificate_path"),
])
def test_invalid_input(node, body, detail):
    response = node.api("POST", "/api/routes/", data=body, headers={"Content-Type": "application/json"})
    assert response.status == 400
    assert set(response.json) == {"detail"}
    assert detail in response.json["detail"]
    assert ask(node, "GET", "/api/routes").json == []


def test_wrong_calls(node):
    for method, path, status in [("GET", "/api/", 404), ("GET", "/api/other", 404), ("PATCH", "/api/routes/a.test", 405),
                                 ("DELETE", "/api/routes", 405), ("PUT", "/api/routes/", 405),
                                 ("GET", "/api/routes/a b".replace(" ", "%20"), 404),
                                 ("DELETE", "/api/routes/a%20b", 204), ("GET", "/api/routes/a.test/x", 404)]:
        response = ask(node, method, path)
        assert response.status == status, (method, path)
        if status != 204:
            assert set(response.json) == {"detail"}
    assert ask(node, "PUT", "/api/routes/a%20b", {"target": "x"}).status == 400
    assert ask(node, "HEAD", "/api/routes").status == 200


def test_not_without_ceryx(pointsman):
    node = pointsman()
    for method, path in [("GET", "/api/routes"), ("POST", "/api/routes/"), ("OPTIONS", "/api/routes"),
                         ("DELETE", "/api/routes/a.test")]:
        response = node.api(method, path)
        assert response.status == 404
        assert response.headers.get("Content-Type") == "application/problem+json"
    assert node.get(host="a.test").status == 404


def test_beside_other_declarations(node):
    """What Ceryx' model has no words for is not shown; the rest is, whoever declared it."""
    node.put_pool("web", ["10.0.0.1:80", "10.0.0.2:80"])
    node.put_route("pool.test", pool="web")
    node.put_route("two.test", targets=["10.0.0.1:80", "10.0.0.2:80"])
    node.put_route("deep.test", "/x", targets=["10.0.0.1:80"])
    node.put_route("*.wild.test", targets=["10.0.0.1:80"])
    node.put_route("one.test", targets=["10.0.0.1:81"], target_path="/base", https="require")
    node.put_route("*", redirect={"to": "https://www.test/"})
    assert ask(node, "GET", "/api/routes").json == [
        shown("$wildcard", "https://www.test/", mode="redirect"),
        shown("one.test", "http://10.0.0.1:81/base", enforce_https=True)]
    assert ask(node, "GET", "/api/routes/pool.test").status == 404
    # Its routes are ordinary ones.
    ask(node, "PUT", "/api/routes/pool.test", {"target": "10.0.0.9/x", "settings": {"enforce_https": True}})
    assert node.get_route("pool.test").json == {
        "host": "pool.test", "path": "/", "targets": ["10.0.0.9:80"], "https": "require", "redirect_status": 301,
        "target_path": "/x"}
    exported = [json.loads(line) for line in node.api("GET", "/v1/export").text.splitlines()]
    assert node.batch(exported).status == 200
    ask(node, "DELETE", "/api/routes/deep.test")
    assert node.get_route("deep.test", "/x").status == 200


def test_https_target_and_certificate(pointsman, tls_origin, certs):
    """A target with TLS is not verified; the paths of a certificate are files of this machine."""
    node = pointsman(CERYX, https=True)
    target = tls_origin(certs.issue(["another.test"]))
    own = certs.issue(["a.test"])
    body = {"source": "a.test", "target": target.address,
            "settings": {"certificate_path": str(own.chain_file), "key_path": str(own.key_file)}}
    response = ask(node, "POST", "/api/routes", body)
    assert response.status == 201, response.text
    expected = shown("a.test", body["target"], **body["settings"])
    assert response.json == expected
    assert ask(node, "GET", "/api/routes").json == [expected]
    assert node.get(host="a.test").status == 200
    names = lambda noun: [one["name"] for one in node.api("GET", f"/v1/{noun}").json[noun]]
    assert names("pools") == ["ceryx-a.test"] and names("certificates") == ["ceryx-a.test"]

    # Who says nothing of the paths leaves them alone, and who says null takes them away.
    assert ask(node, "PUT", "/api/routes/a.test", {"target": body["target"]}).json == expected
    response = ask(node, "PUT", "/api/routes/a.test", {
        "target": "http://x:1", "settings": {"certificate_path": None, "key_path": None}})
    assert response.json == shown("a.test", "http://x:1")
    assert names("pools") == [] and names("certificates") == []
    ask(node, "PUT", "/api/routes/a.test", body)
    assert ask(node, "DELETE", "/api/routes/a.test").status == 204
    assert names("pools") == [] and names("certificates") == [] and ask(node, "GET", "/api/routes").json == []


def test_list_of_many(node):
    operations = [{"op": "put", "kind": "route", "key": f"h{i}.test", "value": {"targets": [f"10.0.0.1:{i + 1}"]}}
                  for i in range(3000)]
    assert node.batch(operations).status == 200
    listed = ask(node, "GET", "/api/routes/").json
    assert {one["source"]: one["target"] for one in listed} == {
        f"h{i}.test": f"http://10.0.0.1:{i + 1}" for i in range(3000)} | {"h79.test": "http://10.0.0.1"}


def test_address_of_its_own(pointsman):
    """Without a token, for any Host, but nothing else than /api/ and nobody's browser."""
    port = free_port()
    node = pointsman({"ceryx": {"enabled": True, "api_address": f"127.0.0.1:{port}"}, "admin": {"require_token": True}})

    def call(method, path, body=None, host="api.internal:5555", **headers):
        data = b"" if body is None else json.dumps(body).encode()
        with Connection(("127.0.0.1", port)) as connection:
            return connection.exchange(method, path, host=host, headers=headers, body=data)

    assert call("POST", "/api/routes", {"source": "a.test", "target": "x:1"}).status == 201
    assert call("GET", "/api/routes/a.test", host="anything").json["target"] == "http://x:1"
    for path in ["/", "/v1/routes", "/healthz", "/metrics", "/admin/set_backends", "/api"]:
        response = call("GET", path)
        assert response.status == 404 and set(response.json) == {"detail"}, path
    response = call("POST", "/api/routes", {"source": "b.test", "target": "x:1"}, Origin="http://evil.test")
    assert response.status == 403 and set(response.json) == {"detail"}
    # A name that was rebound to this address.
    for method in ["POST", "GET"]:
        response = call(method, "/api/routes", host=f"evil.test:{port}", Origin=f"http://evil.test:{port}")
        assert response.status == 403
    assert call("GET", "/api/routes", host=f"localhost:{port}", Origin=f"http://localhost:{port}").status == 200
    assert call("DELETE", "/api/routes/a.test").status == 204
    assert node.api("GET", "/api/routes", headers={"Authorization": ""}).status == 401


def test_refused_store(pointsman, tmp_path):
    """Declarations in files: what is refused has a reason in Ceryx' form."""
    folder = tmp_path / "routes.d"
    folder.mkdir()
    (folder / "a.yaml").write_text("kind: route\nhost: a.test\ntargets: ['10.0.0.1:80']\n")
    node = pointsman({**CERYX, "store": {"url": f"file:{folder}", "local": None}})
    wait_until(lambda: node.get_route("a.test").status == 200, "its route")
    assert ask(node, "GET", "/api/routes").json == [shown("a.test", "http://10.0.0.1")]
    response = ask(node, "DELETE", "/api/routes/a.test")
    assert response.status == 409 and str(folder) in response.json["detail"]


# ---- with Redis ----

@pytest.fixture
def nodes(redis, fleet):
    server = redis()
    found = fleet(server, 2, CERYX)
    found.redis = server
    return found


def keys_of(client, host):
    return client.get(f"ceryx:routes:{host}"), client.hgetall(f"ceryx:settings:{host}")


def test_writes_the_keys_of_ceryx(nodes, origin):
    """What another Ceryx on the same Redis would read."""
    client, target = nodes.redis.client, origin(respond(body=b"here"))
    client.hset("ceryx:settings:a.test", "old", "1")
    for body, settings in [({"target": target.address, "settings": {"enforce_https": False}}, {"enforce_https": "0", "mode": "proxy"}),
                           ({"target": f"http://{target.address}/"}, {"enforce_https": "0", "mode": "proxy"}),
                           ({"target": f"http://{target.address}/", "settings": {"enforce_https": True, "mode": "redirect"}},
                            {"enforce_https": "1", "mode": "redirect"})]:
        assert ask(nodes[0], "PUT", "/api/routes/a.test", body).status == 200
        url = body["target"] if "://" in body["target"] else f"http://{body['target']}"
        assert keys_of(client, "a.test") == (url, settings)
        assert re.fullmatch("[0-9a-f]{16}:[0-9a-f]{16}", client.hget("pointsman:ceryx", "a.test"))
    ask(nodes[0], "PUT", "/api/routes/$wildcard", {"target": target.address})
    assert keys_of(client, "$wildcard")[0] == f"http://{target.address}"
    nodes.wait_body("b.test", "here")
    expected = [shown("$wildcard", f"http://{target.address}"),
                shown("a.test", f"http://{target.address}/", enforce_https=True, mode="redirect")]
    wait_until(lambda: ask(nodes[1], "GET", "/api/routes").json == expected, "the same on the other node")

    for host in ["a.test", "$wildcard"]:
        assert ask(nodes[1], "DELETE", f"/api/routes/{host}").status == 204
        assert keys_of(client, host) == (None, {})
    assert client.hgetall("pointsman:ceryx") == {}
    nodes.wait_body("b.test", 503)


def test_same_again_makes_no_revision(nodes):
    body = {"target": "10.0.0.1:80", "settings": {"enforce_https": True}}
    ask(nodes[0], "PUT", "/api/routes/a.test", body)
    revision = nodes[0].status()["revision"]
    nodes.redis.client.delete("ceryx:settings:a.test")  # but the keys are as they should be
    ask(nodes[0], "PUT", "/api/routes/a.test", body)
    assert nodes[0].status()["revision"] == revision
    assert keys_of(nodes.redis.client, "a.test")[1] == {"enforce_https": "1", "mode": "proxy"}


def test_delete_takes_keys_that_nobody_can_read(nodes):
    client = nodes.redis.client
    client.set("ceryx:routes:bad.test", "ftp://nowhere")
    client.hset("ceryx:settings:bad.test", "mode", "proxy")
    assert ask(nodes[0], "GET", "/api/routes/bad.test").status == 404
    assert ask(nodes[0], "DELETE", "/api/routes/bad.test").status == 204
    assert keys_of(client, "bad.test") == (None, {})
    assert ask(nodes[0], "DELETE", "/api/routes/bad.test").status == 204


def test_two_nodes_write_the_same_host(nodes):
    """Pools that come and go under the feet of another node's call: each is made anew until it fits."""
    def write(node, scheme):
        statuses = []
        for i in range(30):
            statuses.append(ask(node, "PUT", "/api/routes/a.test", {"target": f"{scheme}://10.0.0.1:{i + 1}"}).status)
            statuses.append(ask(node, "DELETE", "/api/routes/a.test").status)
        return statuses

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(write, nodes, ["http", "https"]))
    assert set(answers[0]) == set(answers[1]) == {200, 204}
    nodes.wait_equal()
    for node in nodes:
        assert ask(node, "GET", "/api/routes").json == []
        assert node.api("GET", "/v1/pools").json["pools"] == []


def test_redis_away(nodes):
    ask(nodes[0], "PUT", "/api/routes/a.test", {"target": "10.0.0.1:80"})
    nodes.redis.pause()
    time.sleep(1.6)  # the time that Redis may be silent, and a ping
    response = ask(nodes[0], "PUT", "/api/routes/b.test", {"target": "10.0.0.1:80"})
    assert response.status == 503 and set(response.json) == {"detail"}
    assert response.headers["Content-Type"] == "application/json"
    assert ask(nodes[0], "GET", "/api/routes").json == [shown("a.test", "http://10.0.0.1")]
    nodes.redis.resume()
    wait_until(lambda: ask(nodes[0], "PUT", "/api/routes/b.test", {"target": "10.0.0.1:80"}).status == 200, "written")


def test_environment_of_redis(redis, pointsman):
    """As in Ceryx' compose file: nothing but its variables."""
    server = redis(password="p@ss/word")
    node = pointsman({"store": {"url": None}}, env={
        "POINTSMAN_CERYX": "true", "CERYX_REDIS_HOST": server.host, "CERYX_REDIS_PORT": str(server.port),
        "CERYX_REDIS_PASSWORD": "p@ss/word", "CERYX_REDIS_PREFIX": "other", "CERYX_REDIS_TIMEOUT": "200"})
    assert ask(node, "POST", "/api/routes", {"source": "a.test", "target": "10.0.0.1:80"}).status == 201
    assert server.client.get("other:routes:a.test") == "http://10.0.0.1:80"
