# SPDX-License-Identifier: MIT
"""The admin API over real connections: who may call, objects, conditions, errors."""
import json
import os
import socket
import subprocess
import threading

import pytest

from support.net import PATIENCE, wait_until
from support.origin import hang

POOL = {"targets": []}


def problem(answer, status):
    """The problem+json of an answer that must have this status."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json
    assert body["status"] == status and body["title"] and isinstance(body["errors"], list)
    return body


def test_token_is_made_once_and_private(pointsman):
    server = pointsman()
    path = server.folder / "admin.token"
    token = path.read_text().strip()
    assert len(token) == 64 and path.stat().st_mode & 0o777 == 0o600
    server.restart()
    assert path.read_text().strip() == token
    answer = server.api("GET", "/v1/status", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200
    problem(server.api("GET", "/v1/status", headers={"Authorization": "Bearer no"}), 401)


def test_token_may_be_required(pointsman):
    server = pointsman(config={"admin": {"require_token": True}})
    answer = server.api("GET", "/v1/status")
    problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    token = (server.folder / "admin.token").read_text().strip()
    answer = server.api("GET", "/v1/status", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200
    assert server.api("GET", "/healthz").status == 200


def test_foreign_pages_are_refused(pointsman):
    server = pointsman()
    problem(server.api("GET", "/v1/routes", headers={"Host": "rebound.example"}), 403)
    problem(server.api("PUT", "/v1/pools/p", json=POOL,
                       headers={"Origin": "http://evil.example"}), 403)
    problem(server.api("PUT", "/v1/pools/p", json=POOL, headers={"Origin": "null"}), 403)
    own = f"http://localhost:{server.admin_port}"
    answer = server.api("PUT", "/v1/pools/p", json=POOL, headers={
        "Origin": own, "Host": own.removeprefix("http://")})
    assert answer.status == 201
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_api_is_no_target(pointsman):
    """A route to it would make callers from this machine, who need no token, of everybody."""
    server = pointsman()
    port = server.admin_port
    hidden = {"remove": ["Via", "Forwarded", "X-Forwarded-For"]}
    for number, target in enumerate([f"127.0.0.1:{port}", f"0.0.0.0:{port}", f"localhost:{port}",
                                     f"[::ffff:127.0.0.1]:{port}"]):
        host = f"a{number}.example"
        server.put_route(host, targets=[target], host_header="localhost", request_headers=hidden)
        assert server.get(host=host, target="/v1/export").status in (502, 503), target
    server = pointsman(config={"admin": {"require_token": True}})
    token = (server.folder / "admin.token").read_text().strip()
    server.api("PUT", "/v1/routes/a.example", headers={"Authorization": f"Bearer {token}"}, json={
        "targets": [f"127.0.0.1:{server.admin_port}"], "host_header": "localhost"})
    assert server.get(host="a.example", target="/v1/status").status == 401


def test_life_of_a_route(pointsman):
    server = pointsman()
    url = "/v1/routes/Shop.Example.com/api/"
    made = server.api("PUT", url, json={"targets": ["10.0.0.1"]})
    assert made.status == 201 and made.json["targets"] and made.json["path"] == "/api"
    again = server.api("PUT", url, json={"targets": ["10.0.0.1:80"], "path": "/api"})
    assert again.status == 200
    assert again.headers["ETag"] == made.headers["ETag"]
    assert again.headers["Pointsman-Revision"] == made.headers["Pointsman-Revision"]
    changed = server.api("PATCH", url, json={"retries": 3},
                         headers={"If-Match": made.headers["ETag"],
                                  "Content-Type": "application/merge-patch+json"})
    assert changed.status == 200 and changed.json["retries"] == 3
    assert int(changed.headers["Pointsman-Revision"]) > int(made.headers["Pointsman-Revision"])
    assert changed.headers["ETag"] == f'"{changed.headers["Pointsman-Revision"]}"'
    problem(server.api("DELETE", url, headers={"If-Match": made.headers["ETag"]}), 412)
    read = server.api("GET", "/v1/routes/shop.example.com/api")
    assert read.json == changed.json and read.headers["ETag"] == changed.headers["ETag"]
    assert server.api("GET", url, headers={"If-None-Match": read.headers["ETag"]}).status == 304
    head = server.api("HEAD", url)
    assert head.status == 200 and head.body == b"" and head.headers["ETag"] == read.headers["ETag"]
    server.restart()
    assert server.api("GET", url).json == changed.json
    assert server.api("DELETE", url).status == 204
    problem(server.api("GET", url), 404)


def test_keys_in_urls(pointsman):
    server = pointsman()
    body = {"respond": {"status": 204}}
    assert server.api("PUT", "/v1/routes/*", json=body).status == 201
    assert server.api("PUT", "/v1/routes/%2A", json=body).status == 200
    assert server.api("PUT", "/v1/routes/a.example/", json=body).status == 201
    assert server.api("PUT", "/v1/routes/a.example", json=body).status == 200
    assert server.api("PUT", "/v1/routes/a.example/b", json=body).status == 201
    assert server.api("PUT", "/v1/routes/a.example/%62/", json=body).status == 200
    for path in ("a.example/../b", "a.example/.", "a.example//b", "a.example/%3Fb",
                 "a.example/%23b", "a.example/b%2Fc", "a.example%2Fb"):
        problem(server.api("PUT", f"/v1/routes/{path}", json=body), 422)
    assert server.api("PUT", "/v1/routes/a.example/%zz", json=body).status == 400


def test_errors_point_at_the_field(pointsman):
    server = pointsman()
    cases = [
        ({"pool": "none"}, 422, "/pool"),
        ({"split": [{"pool": "none", "weight": 1}]}, 422, "/split/0/pool"),
        ({"respond": {"status": 204}, "retires": 1}, 422, "/retires"),
        ({"respond": {"status": 204}, "host": "other.example"}, 422, "/host"),
        ({"targets": ["10.0.0.1:99999"]}, 422, "/targets/0"),
    ]
    for body, status, pointer in cases:
        found = problem(server.api("PUT", "/v1/routes/a.example", json=body), status)["errors"]
        assert any(e["pointer"].startswith(pointer) and e["detail"] for e in found), (body, found)
    hint = problem(server.api("PUT", "/v1/routes/a.example",
                              json={"respond": {"status": 204}, "retires": 1}), 422)
    assert "retries" in json.dumps(hint["errors"])
    problem(server.api("PUT", "/v1/routes/a.example", data=b"{"), 400)
    problem(server.api("PUT", "/v1/routes/a.example", data=b'{"pool":"a","pool":"b"}'), 400)
    problem(server.api("PUT", "/v1/pools/p", data=b" " * (1 << 20) + b"{}"), 413)
    problem(server.api("PUT", "/v1/pools/p", data=b"{}", headers={"Content-Type": "text/plain"}),
            415)
    refused = server.api("POST", "/v1/pools/p", json={})
    problem(refused, 405)
    assert "PATCH" in refused.headers["Allow"]
    answer = server.api("OPTIONS", "/v1/pools/p")
    assert answer.status == 204 and "PUT" in answer.headers["Allow"]
    problem(server.api("GET", "/v1/tenants"), 404)
    problem(server.api("POST", "/v1/pools/p/switch", json={"targets": ["10.0.0.1"]}), 404)


def test_used_pools_stay(pointsman):
    server = pointsman()
    server.put_pool("web")
    for i in range(12):
        server.put_route(f"h{i}.example", pool="web")
    body = problem(server.api("DELETE", "/v1/pools/web"), 409)
    assert "h0.example" in json.dumps(body)
    for i in range(12):
        server.delete_route(f"h{i}.example")
    server.delete_pool("web")


def test_pages(pointsman):
    server = pointsman()
    lines = [{"op": "put", "kind": "route", "key": f"h{i:04}.example",
              "value": {"respond": {"status": 204}}} for i in range(1234)]
    assert server.batch(lines).status == 200
    seen, after = [], None
    while True:
        query = "?limit=500" + (f"&after={after}" if after else "")
        page = server.api("GET", f"/v1/routes{query}").json
        seen += [route["host"] for route in page["routes"]]
        after = page.get("next")
        if after is None:
            break
    assert seen == [line["key"] for line in lines]
    assert len(server.api("GET", "/v1/routes").json["routes"]) == 100
    assert len(server.api("GET", "/v1/routes?host=h0007.example").json["routes"]) == 1
    for query in ("limit=0", "limit=1001", "limit=x"):
        problem(server.api("GET", f"/v1/routes?{query}"), 400)
    text = server.api("GET", "/v1/routes?limit=1&pretty").text
    assert "\n" in text.strip() and json.loads(text)["next"] == "h0000.example"


def test_concurrent_patches_all_count(pointsman):
    server = pointsman()
    server.put_pool("web")
    failed = []

    def add(number):
        with server.admin() as session:
            for i in range(10):
                answer = session.api("PUT", f"/v1/pools/web/targets/10.0.{number}.{i}%3A80",
                                     json={"weight": i})
                if answer.status != 201:
                    failed.append(answer)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Too many at once may be told to try again, but what was acknowledged is there.
    assert all(answer.status == 409 for answer in failed)
    targets = server.api("GET", "/v1/pools/web/targets").json
    assert len(targets) == 40 - len(failed)


def test_targets(pointsman):
    server = pointsman()
    server.put_pool("web", ["10.0.0.1:80"])
    assert server.put_target("web", "10.0.0.2:80", weight=3).json["weight"] == 3
    changed = server.put_target("web", "10.0.0.2:80", state="drain")
    assert changed.status == 200
    assert (changed.json["weight"], changed.json["state"]) == (3, "drain")
    server.put_target("web", "unix:/run/x.sock")
    listed = server.api("GET", "/v1/pools/web/targets").json
    assert [t["address"] for t in listed] == ["10.0.0.1:80", "10.0.0.2:80", "unix:/run/x.sock"]
    assert [t["state"] for t in listed] == ["up", "drain", "up"]
    assert all(t["requests"] == 0 for t in listed)
    server.delete_target("web", "unix:/run/x.sock", drain="30s")  # empty: at once
    server.delete_target("web", "10.0.0.1:80")
    problem(server.delete_target("web", "10.0.0.1:80", check=False), 404)
    problem(server.put_target("none", "10.0.0.1:80", check=False), 404)
    body = problem(server.put_target("web", "10.0.0.2:80", check=False, weight=-1), 422)
    assert body["errors"][0]["pointer"] == "/weight"


def test_drain_waits_for_requests_and_then_cuts(pointsman, origin):
    server = pointsman()
    hanging = origin(hang())
    server.put_pool("web", [hanging])
    server.put_route("a.example", pool="web")

    def busy():
        return server.api("GET", "/v1/pools/web/targets").json[0]["requests"]

    with server.connect() as client:
        client.request("GET", "/", host="a.example")
        wait_until(lambda: busy() == 1, "a request under way")
        answers = []
        drain = threading.Thread(target=lambda: answers.append(
            server.delete_target("web", hanging, drain="5s", check=False)))
        drain.start()
        wait_until(lambda: server.api("GET", "/v1/pools/web/targets").json[0]["state"] == "drain",
                   "draining")
        assert busy() == 1 and not answers
        drain.join(PATIENCE)
        assert answers[0].status == 204
        assert server.api("GET", "/v1/pools/web").json["targets"] == []
        # The request that was still there ends now, with an error.
        assert client.read_response().status in (502, 503, 504)


def test_a_drain_is_called_off_by_up(pointsman, origin):
    server = pointsman()
    hanging = origin(hang())
    server.put_pool("web", [hanging])
    server.put_route("a.example", pool="web")
    with server.connect() as client:
        client.request("GET", "/", host="a.example")
        wait_until(lambda: server.api("GET", "/v1/pools/web/targets").json[0]["requests"] == 1,
                   "a request under way")
        answers = []
        drain = threading.Thread(target=lambda: answers.append(
            server.delete_target("web", hanging, drain="10m", check=False)))
        drain.start()
        wait_until(lambda: server.api("GET", "/v1/pools/web/targets").json[0]["state"] == "drain",
                   "draining")
        server.put_target("web", hanging, state="up")
        client.close()
        drain.join(PATIENCE)
        problem(answers[0], 409)
        assert server.api("GET", "/v1/pools/web").json["targets"]


def test_wait(pointsman):
    server = pointsman()
    assert server.api("PUT", "/v1/pools/a?wait=fleet&timeout=5s", json=POOL).status == 201
    assert server.api("PUT", "/v1/pools/b?wait=none", json=POOL).status == 202
    problem(server.api("PUT", "/v1/pools/b?wait=long", json=POOL), 400)
    assert server.api("DELETE", "/v1/pools/b?wait=none").status == 202


def test_curl_as_people_use_it(pointsman):
    server = pointsman()

    def curl(*args):
        return subprocess.run(["curl", "-sS", "--max-time", "100", *args], check=True,
                              capture_output=True, text=True).stdout

    base = f"http://127.0.0.1:{server.admin_port}/v1/pools/web"
    out = curl("-X", "PUT", base, "-d", '{"targets": ["10.0.0.1"]}', "-w", "%{http_code}")
    assert out.endswith("201")
    # More than a small body: curl asks with Expect first.
    large = json.dumps({"targets": [f"10.0.{i // 250}.{i % 250}:80" for i in range(900)]},
                       indent=40)
    out = curl("-X", "PUT", base, "-H", "Expect: 100-continue", "--expect100-timeout", "60",
               "--data-binary", large, "-w", "%{http_code} %{time_total}", "-o", os.devnull)
    status, seconds = out.split()
    assert status == "200" and float(seconds) < 50
    assert "10.0.0.9:80" in curl(base + "?pretty")


def test_many_connections_are_bounded(pointsman):
    server = pointsman()
    sockets = [socket.create_connection(("127.0.0.1", server.admin_port), PATIENCE) for _ in range(1100)]
    try:
        for one in sockets:
            one.close()
    finally:
        sockets.clear()

    def is_serving():
        try:
            return server.api("GET", "/healthz").status == 200
        except OSError:
            return False

    wait_until(is_serving, "served again")


def test_status_and_metrics(pointsman):
    server = pointsman()
    server.put_pool("web")
    revision = int(server.put_route("a.example", pool="web").headers["Pointsman-Revision"])
    status = server.status()
    assert status["node"] == "test" and status["routes"] == 1 and status["pools"] == 1
    assert not status["draining"] and status["ready"] and status["store"]["writable"]
    assert status["revision"] == status["store"]["revision"] == revision
    nodes = server.api("GET", "/v1/nodes").json
    assert [node["name"] for node in nodes] == ["test"] and nodes[0]["revision"] == revision
    stats = server.stats()
    assert {"codes", "routes", "pools", "tenants"} <= set(stats)
    metrics = server.metrics()
    assert metrics["pointsman_routes"] == 1 and metrics["pointsman_revision"] == revision
    text = server.api("GET", "/metrics").text
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines()
             if line and not line.startswith("#")}
    for name in names:
        assert text.count(f"# HELP {name} ") == 1 and text.count(f"# TYPE {name} ") == 1, name


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_readable_token_is_refused(pointsman, mode):
    server = pointsman(start=False)
    path = server.folder / "admin.token"
    path.write_text("0" * 64 + "\n")
    path.chmod(mode)
    server.start(wait=False)
    assert server.process.wait(PATIENCE) != 0
    server.process = None
    assert "chmod 600" in server.stderr()
