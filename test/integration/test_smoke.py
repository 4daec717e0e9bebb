# SPDX-License-Identifier: MIT
"""From nothing to a served route and back, as a newcomer does it."""
import json
import subprocess

import httpx

from support import origin as o


def curl(*args):
    done = subprocess.run(["curl", "-sS", "-m", "10", *args], capture_output=True, text=True,
                          timeout=60, check=True)
    return done.stdout


def test_route_comes_and_goes(pointsman, origin):
    server, target = pointsman(), origin()
    assert server.get(host="shop.example.com").status == 404

    reply = server.put_route("shop.example.com", targets=[target])
    assert reply.status == 201 and reply.json["host"] == "shop.example.com"
    assert int(reply.headers["Pointsman-Revision"]) > 0
    reply = server.get(host="shop.example.com", target="/a?b=c")
    assert reply.status == 200 and reply.json["target"] == "/a?b=c"

    assert server.put_route("shop.example.com", targets=[target]).status == 200
    assert server.get_route("shop.example.com").json["targets"] == [target.address]
    server.delete_route("shop.example.com")
    assert server.get(host="shop.example.com").status == 404
    assert server.get_route("shop.example.com").status == 404


def test_curl_and_httpx(pointsman, origin):
    server, target = pointsman(), origin()
    admin = f"http://127.0.0.1:{server.admin_port}"
    body = json.dumps({"targets": [target.address]})
    assert curl("-X", "PUT", "-d", body, "-o", "/dev/null", "-w", "%{http_code}",
                f"{admin}/v1/routes/a.example") == "201"
    told = json.loads(curl("-H", "Host: a.example", "-d", "hello", server.url("/x")))
    assert (told["method"], told["target"], told["body"]) == ("POST", "/x", "hello")

    with httpx.Client() as client:
        for i in range(20):
            reply = client.post(server.url(f"/{i}"), headers={"Host": "a.example"},
                                content=b"x" * i * 1000)
            assert reply.status_code == 200 and reply.json()["body_len"] == i * 1000
    assert curl("-X", "DELETE", "-o", "/dev/null", "-w", "%{http_code}",
                f"{admin}/v1/routes/a.example") == "204"
    assert curl("-H", "Host: a.example", "-o", "/dev/null", "-w", "%{http_code}",
                server.url()) == "404"


def test_pool_and_paths(pointsman, origin):
    server, first, second = pointsman(), origin(name="first"), origin(name="second")
    server.put_pool("one", [first])
    server.put_pool("two", [{"address": second, "weight": 2}])
    server.put_route("a.example", pool="one")
    server.put_route("a.example", "/api", pool="two")
    assert server.get(host="a.example", target="/").json["origin"] == "first"
    assert server.get(host="a.example", target="/api/x").json["origin"] == "second"
    assert server.get(host="a.example", target="/apix").json["origin"] == "first"
    assert server.delete_pool("two", check=False).status == 409


def test_survives_restarts(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route("a.example", targets=[target])
    server.restart()
    assert server.get(host="a.example").status == 200
    server.put_route("b.example", targets=[target])
    server.kill9()
    server.start()
    assert server.get(host="b.example").status == 200


def test_log_status_and_metrics(pointsman, origin):
    server, target = pointsman(), origin(o.respond(418, body="teapot"))
    server.put_route("a.example", targets=[target])
    assert server.get(host="a.example", target="/tea?x=1").status == 418
    record = server.log_records(1)[0]
    assert record["http.response.status_code"] == 418 and record["url.path"] == "/tea"
    assert record["url.query"] == "x=1" and record["url.domain"] == "a.example"
    assert server.stats()["codes"]["418"]["count"] == 1
    assert server.status()["routes"] == 1
    assert server.metrics()['pointsman_requests_total{code="418"}'] == 1


def test_dead_target(pointsman, dead_address):
    server = pointsman()
    server.put_route("a.example", targets=[dead_address])
    reply = server.get(host="a.example")
    assert reply.status == 502 and "Proxy-Status" in reply.headers
