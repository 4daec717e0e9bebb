# SPDX-License-Identifier: MIT
"""pointsman import: what Hipache, lua-resty-auto-ssl and Traefik left in Redis is served."""
import json
import threading

import pytest

from support.origin import respond


def run_import(server, kind, redis, *args, status=0):
    """(result, the report's lines, its sums)"""
    result = server.cli("import", kind, *args, "--json", redis.url(), check=False, timeout=600)
    assert result.returncode == status, result.stdout + result.stderr
    report = result.stderr if "--dry-run" in args else result.stdout
    lines = [json.loads(line) for line in report.splitlines() if line.startswith("{")]
    return result, lines[:-1], lines[-1]


def told(lines, key):
    return [(line["result"], line["reason"]) for line in lines if line["key"] == key]


def write(redis, keys):
    pipe = redis.client.pipeline(transaction=False)
    for key, value in keys.items():
        if isinstance(value, list):
            pipe.rpush(key, *value)
        else:
            pipe.set(key, value)
    pipe.execute()


# --- Hipache ---


def test_frontends_of_hipache_are_served(pointsman, origin, redis):
    server, store = pointsman(), redis()
    one, two = origin(respond(body=b"one")), origin(respond(body=b"two"))
    write(store, {
        "frontend:www.example": ["mywebsite", f"http://{one.address}"],
        "frontend:*.example": ["others", f"http://{two.address}/"],
        "frontend:two.example": ["both", f"http://{one.address}", f"http://{two.address}/base",
                                 f"http://{one.address}"],
        "frontend:none.example": ["nobody"],
        "frontend:half.example": ["half", f"http://{two.address}", "ftp://nowhere"],
        "frontend:bad host": ["x", f"http://{one.address}"],
        "frontend:wrong.example": "no list",
        "hchecker_ping": "1", "something": "else",
    })
    store.client.sadd("dead:www.example", "0")
    _, lines, sums = run_import(server, "hipache", store)
    assert server.get(host="www.example").text == "one"
    assert server.get(host="any.sub.example").text == "two"
    assert server.get(host="half.example").text == "two"
    assert server.get(host="none.example").status == 502
    route = server.get_route("two.example").json
    assert route["targets"] == [{"address": one.address, "weight": 2}, two.address]
    assert route["tenant"] == "both"
    assert (sums["routes"], sums["created"], sums["refused"], sums["others"]) == (5, 5, 0, 1)
    assert told(lines, "dead:www.example")[0][0] == "ignored"
    assert told(lines, "hchecker_ping")[0][0] == "ignored"
    assert "paths of 1 backends" in told(lines, "frontend:two.example")[0][1]
    assert told(lines, "frontend:half.example") == [
        ("changed", 'backend "ftp://nowhere" is left out: no address')]
    assert told(lines, "frontend:none.example")[0][0] == "changed"
    assert told(lines, "frontend:bad host")[0][0] == "left_out"
    assert "WRONGTYPE" in told(lines, "frontend:wrong.example")[0][1]
    assert sums["left_out"] == 2

    # A second time nothing is new; what somebody changed here is replaced, what else there is stays.
    server.put_route("www.example", targets=[two.address])
    server.put_route("own.org", targets=[two.address])
    _, _, sums = run_import(server, "hipache", store)
    assert (sums["created"], sums["updated"], sums["unchanged"]) == (0, 1, 4)
    assert server.get(host="www.example").text == "one"
    assert server.get(host="own.org").text == "two"


def test_dry_run_prints_a_batch(pointsman, origin, redis):
    server, store = pointsman(), redis()
    one = origin(respond(body=b"one"))
    write(store, {"app:frontend:www.example": ["w", f"http://{one.address}"],
                  "frontend:other.example": ["w", f"http://{one.address}"]})
    result, _, sums = run_import(server, "hipache", store, "--dry-run", "--prefix", "app:")
    assert sums["routes"] == 1
    assert server.get(host="www.example").status == 404
    assert [json.loads(line)["key"] for line in result.stdout.splitlines()] == ["www.example"]
    batch = server.folder / "batch.ndjson"
    batch.write_text(result.stdout)
    assert server.cli("apply", str(batch)).returncode == 0
    assert server.get(host="www.example").text == "one"
    # Prefixes stand for themselves.
    assert run_import(server, "hipache", store, "--dry-run", "--prefix", "a*:")[2]["routes"] == 0


def test_two_keys_of_one_route(pointsman, redis):
    server, store = pointsman(), redis()
    write(store, {"frontend:www.example": ["w", "http://127.0.0.1:9"],
                  "frontend:WWW.example.": ["w", "http://127.0.0.1:10"]})
    _, lines, sums = run_import(server, "hipache", store)
    assert (sums["routes"], sums["left_out"]) == (1, 1)
    assert lines[0]["reason"] == "another key gives the same route www.example"


@pytest.mark.deadline(900)
def test_many_frontends(pointsman, redis):
    server, store = pointsman(release=True), redis()
    pipe = store.client.pipeline(transaction=False)
    for i in range(100_000):
        pipe.rpush(f"frontend:h{i}.example", f"app{i % 100}", f"http://127.0.0.1:{1024 + i % 1000}")
        if i % 10_000 == 9999:
            pipe.execute()
    _, lines, sums = run_import(server, "hipache", store)
    assert not lines
    assert (sums["routes"], sums["created"]) == (100_000, 100_000)
    assert server.status()["routes"] == 100_000


def test_what_the_node_refuses_is_told(pointsman, origin, redis):
    """The rest of the batch is written."""
    server, store = pointsman(), redis()
    one = origin(respond(body=b"one"))
    write(store, traefik({
        **service("app", f"http://{one.address}"), **router("a", "Host(`a.example`)"),
        "tls/certificates/0/certFile": "/nowhere/chain.pem",  # the node alone can look
        "tls/certificates/0/keyFile": "/nowhere/key.pem",
        **router("c", "Host(`c.example`)")}))
    _, lines, sums = run_import(server, "traefik", store, status=1)
    assert (sums["refused"], sums["created"]) == (1, 3)
    assert told(lines, "traefik/tls/certificates/0")[0][1].startswith("refused: /value/")
    assert server.get(host="a.example").text == server.get(host="c.example").text == "one"


def test_a_node_that_cannot_write_for_a_moment(pointsman, redis):
    """What it could not write is sent again."""
    store = redis()
    server = pointsman({"store": {"url": store.url()}})
    write(store, {f"frontend:h{i}.example": ["w", "http://127.0.0.1:9"] for i in range(2500)})
    store.client.config_set("maxmemory", "1")  # writes are refused: out of memory
    timer = threading.Timer(2, store.client.config_set, ("maxmemory", "0"))
    timer.start()
    _, lines, sums = run_import(server, "hipache", store)
    timer.join()
    assert not lines and sums["routes"] == 2500
    assert server.status()["routes"] == 2500


def test_a_node_that_cannot_be_reached(pointsman, redis):
    server, store = pointsman(), redis()
    write(store, {"frontend:a.example": ["w", "http://127.0.0.1:9"]})
    server.stop()
    result = server.cli("import", "hipache", store.url(), check=False)
    assert result.returncode == 1
    assert "cannot reach the admin API" in result.stderr


def test_redis_that_cannot_be_read(pointsman, redis, dead_address):
    server, store = pointsman(), redis(password="secret")
    for url, text in [(f"redis://{dead_address}", dead_address),
                      (f"redis://:wrong@{store.address}", "WRONGPASS"),
                      (f"redis://{store.address}", "NOAUTH")]:
        result = server.cli("import", "hipache", url, check=False)
        assert result.returncode == 1, result.stdout
        assert text in result.stderr
        assert "wrong@" not in result.stderr
    store.client.execute_command("ACL", "SETUSER", "blind", "on", ">hidden", "~*", "+ping")
    result = server.cli("import", "hipache", f"redis://blind:hidden@{store.address}", check=False)
    assert result.returncode == 1
    assert "NOPERM" in result.stderr
    assert "hidden" not in result.stderr
    assert server.cli("import", "hipache", "http://x", check=False).returncode == 2
    assert server.cli("import", "nginx", "redis://x", check=False).returncode == 2


# --- lua-resty-auto-ssl ---


def latest(certificate, **more):
    return json.dumps({"fullchain_pem": certificate.chain, "privkey_pem": certificate.key,
                       "cert_pem": certificate.chain, **more})


def test_certificates_of_auto_ssl_are_served(pointsman, redis, certs):
    server, store = pointsman(https=True), redis()
    good, other = certs.issue(["a.example"]), certs.issue(["b.example", "c.example"], key="rsa")
    gone = certs.issue(["old.example"], days=-1)
    write(store, {
        "a.example:latest": latest(good, expiry=2000000000), "b.example:latest": latest(other),
        "old.example:latest": latest(gone),
        "x.example:latest": latest(good),
        "y.example:latest": json.dumps({"fullchain_pem": good.chain, "privkey_pem": other.key}),
        "z.example:latest": "{",
        "a.example:1700000000000": latest(good),
        "a.example:challenge:abc": "text", "a.example:issue_cert_lock": "1", "unrelated": "1",
    })
    _, lines, sums = run_import(server, "auto-ssl", store)
    assert (sums["certificates"], sums["created"], sums["left_out"]) == (2, 2, 4)
    assert (sums["ignored"], sums["others"]) == (3, 1)
    assert "expired" in told(lines, "old.example:latest")[0][1]
    assert 'not for "x.example"' in told(lines, "x.example:latest")[0][1]
    assert "does not fit" in told(lines, "y.example:latest")[0][1]
    assert told(lines, "z.example:latest") == [("left_out", "it is not JSON")]
    shown = server.api("GET", "/v1/certificates/a.example").json
    assert shown["fingerprint"] == good.fingerprint
    assert server.api("GET", "/v1/certificates/b.example").json["hosts"] == ["b.example"]
    assert "PRIVATE KEY" not in json.dumps(lines)


def test_prefix_of_auto_ssl(pointsman, redis, certs):
    server, store = pointsman(https=True), redis()
    good = certs.issue(["a.example"])
    write(store, {"ssl:a.example:latest": latest(good), "a.example:latest": latest(good)})
    _, _, sums = run_import(server, "auto-ssl", store, "--prefix", "ssl")
    assert (sums["certificates"], sums["others"]) == (1, 0)
    assert server.api("GET", "/v1/certificates/a.example").status == 200


# --- Traefik ---


def traefik(values, root="traefik"):
    return {f"{root}/{key}": value for key, value in values.items()}


def router(name, rule, service="app", **more):
    found = {f"http/routers/{name}/rule": rule, f"http/routers/{name}/service": service}
    return {**found, **{f"http/routers/{name}/{key.replace('__', '/')}": value
                        for key, value in more.items()}}


def service(name, *urls):
    return {f"http/services/{name}/loadBalancer/servers/{i}/url": url for i, url in enumerate(urls)}


def test_routers_of_traefik_are_served(pointsman, origin, redis, certs):
    server, store = pointsman(https=True), redis()
    one, two = origin(respond(body=b"one")), origin(respond(body=b"two"))
    good = certs.issue(["shop.example"])
    write(store, traefik({
        **router("shop", "Host(`shop.example`) || Host(`www.shop.example`)", entryPoints__0="web"),
        **router("api", "Host(`shop.example`) && PathPrefix(`/api`)", "api@redis",
                 middlewares__0="strip", middlewares__1="head", priority="100"),
        **router("mixed", "Host(`mixed.example`)", "mixed"),
        **service("app", f"http://{one.address}"),
        **service("api", f"http://{two.address}", "http://127.0.0.1:9"),
        "http/services/api/loadBalancer/servers/1/weight": "0",
        "http/services/api/loadBalancer/healthCheck/path": "/healthz",
        "http/services/api/loadBalancer/healthCheck/interval": "10s",
        "http/services/api/loadBalancer/sticky/cookie/name": "lb",
        "http/services/api/loadBalancer/passHostHeader": "false",
        "http/services/mixed/weighted/services/0/name": "app",
        "http/services/mixed/weighted/services/0/weight": "3",
        "http/services/mixed/weighted/services/1/name": "only",
        **service("only", f"http://{two.address}"),
        **service("idle", "http://127.0.0.1:9"),
        "http/middlewares/strip/stripPrefix/prefixes/0": "/api",
        "http/middlewares/head/headers/customRequestHeaders/X-From": "traefik",
        "http/middlewares/head/headers/customResponseHeaders/Server": "",
        "http/middlewares/head/headers/frameDeny": "true",
        "tls/certificates/0/certFile": good.chain, "tls/certificates/0/keyFile": good.key,
    }))
    _, lines, sums = run_import(server, "traefik", store)
    assert (sums["routes"], sums["pools"], sums["certificates"]) == (4, 3, 1), lines
    assert (sums["left_out"], sums["changed"]) == (0, 0), lines
    assert server.get(host="shop.example").text == "one"
    assert server.get(host="www.shop.example").text == "one"
    reply = server.get(target="/api/x?y", host="shop.example")
    assert (reply.text, reply.headers.get("X-Frame-Options")) == ("two", "DENY")
    assert (two.last.target, two.last.headers.get("X-From")) == ("/x?y", "traefik")
    assert two.last.headers.get("Host") == two.address
    pool = server.api("GET", "/v1/pools/api").json
    assert pool["health"]["path"] == "/healthz" and pool["health"]["interval"] == "10s"
    assert pool["sticky"]["cookie"] == "lb" and pool["balance"] == "round_robin"
    assert server.get_route("mixed.example").json["split"] == [
        {"pool": "app", "weight": 3}, {"pool": "only", "weight": 1}]
    assert server.api("GET", "/v1/certificates/traefik-0").json["fingerprint"] == good.fingerprint
    assert told(lines, "traefik/http/services/idle") == [
        ("ignored", "no router that is taken uses it")]


def test_redirects_to_https_of_traefik(pointsman, redis):
    server, store = pointsman(https=True), redis()
    scheme = "http/middlewares/tls/redirectScheme/"
    write(store, traefik({
        **service("app", "http://127.0.0.1:9"), scheme + "scheme": "https",
        scheme + "permanent": "true",
        **router("a-http", "Host(`a.example`)", middlewares="tls", entryPoints="web"),
        **router("a", "Host(`a.example`)", entryPoints="websecure", tls="true"),
        **router("b", "Host(`b.example`)", tls__certResolver="le"),
        **router("c", "Host(`c.example`)", tls="true"), **router("c-http", "Host(`c.example`)"),
        **router("d", "Host(`d.example`)"),
        **router("lonely", "Host(`e.example`)", middlewares="tls"),
    }))
    _, lines, _ = run_import(server, "traefik", store)
    https = {name: server.get_route(f"{name}.example").json.get("https") for name in "abcd"}
    assert https == {"a": "require", "b": "require", "c": None, "d": None}
    assert server.get_route("a.example").json["redirect_status"] == 301
    assert server.api("GET", "/v1/routes/e.example").status == 404
    assert told(lines, "traefik/http/routers/lonely")[0][0] == "left_out"
    assert "certResolver le" in told(lines, "traefik/http/routers/b/tls")[0][1]


def test_what_decides_who_is_served_is_not_dropped(pointsman, redis):
    server, store = pointsman(), redis()
    rules = {
        "path": "Path(`/x`)", "method": "Host(`a`) && Method(`GET`)", "not": "!Host(`a`)",
        "header": "Headers(`X`, `y`)", "regexp": "HostRegexp(`^a.+$`)", "broken": "Host(`a`",
        "ip": "Host(`a`) && ClientIP(`10.0.0.0/8`)",
    }
    keys = {**service("app", "http://127.0.0.1:9")}
    for name, rule in rules.items():
        keys.update(router(name, rule))
    more = {
        "basic": {"basicAuth/users/0": "a:b"}, "forward": {"forwardAuth/address": "http://x"},
        "plug": {"plugin/p/x": "1"}, "regex": {"redirectRegex/regex": "x"}, "new": {"newKind/x": "1"},
        "nets": {"ipAllowList/sourceRange/0": "10.0.0.0/8",
                 "ipAllowList/ipStrategy/depth": "1"},
        "loop": {"chain/middlewares/0": "loop"}, "wrap": {"chain/middlewares": "basic"},
        "strip": {"stripPrefix/prefixes/0": "/else"},
    }
    for name, values in more.items():
        keys.update({f"http/middlewares/{name}/{key}": value for key, value in values.items()})
        keys.update(router(f"with-{name}", f"Host(`{name}.example`)", middlewares__0=name))
    keys.update(router("file", "Host(`f.example`)", middlewares="auth@file"))
    keys.update(router("internal", "Host(`i.example`)", entryPoints="admin"))
    keys.update(router("noservice", "Host(`n.example`)", "nothing"))
    keys.update(router("api", "Host(`api.example`)", "api@internal"))
    keys.update(router("mtls", "Host(`m.example`)", tls__options="strict"))
    keys["tls/options/strict/clientAuth/clientAuthType"] = "RequireAndVerifyClientCert"
    keys["tcp/routers/db/rule"] = "HostSNI(`*`)"
    keys["http/routers/good/rule"] = "Host(`good.example`)"
    keys.update(router("good", "Host(`good.example`)", middlewares="allow", surprise="1"))
    keys["http/middlewares/allow/ipAllowList/sourceRange"] = "10.0.0.0/8,127.0.0.1/32"
    write(store, traefik(keys))
    _, lines, sums = run_import(server, "traefik", store)
    assert sums["routes"] == 1, lines
    assert server.get_route("good.example").json["allow"] == ["10.0.0.0/8", "127.0.0.1"]
    left = {line["key"].split("/")[-1] for line in lines if line["result"] == "left_out"}
    names = [*rules, *(f"with-{name}" for name in more), "file", "internal", "noservice", "api",
             "mtls", "db"]
    assert left == set(names)
    assert told(lines, "traefik/http/routers/good/surprise") == [
        ("changed", "not understood, and left out")]
    # The entry point is known to be for everybody, if somebody says so.
    run_import(server, "traefik", store, "--entry-point", "admin")
    assert server.get_route("i.example").json["pool"] == "app"


def test_priorities_of_traefik(pointsman, redis):
    server, store = pointsman(), redis()
    write(store, traefik({
        **service("app", "http://127.0.0.1:9"), **service("other", "http://127.0.0.1:10"),
        **router("all", "Host(`a.example`)", priority="1000"),
        **router("api", "Host(`a.example`) && PathPrefix(`/api`)", "other"),
        **router("same", "Host(`b.example`)", "other", priority="5"),
        **router("first", "Host(`b.example`)", priority="6"),
        **router("everything", "PathPrefix(`/`)", "other", priority="1"),
        # Without priorities the longer text goes first, whatever it says.
        **router("long", "Host(`c.example`) || Host(`www.c.example`) || Host(`d.example`)"),
        **router("short", "Host(`c.example`) && PathPrefix(`/x`)", "other"),
    }))
    _, lines, sums = run_import(server, "traefik", store)
    assert sums["routes"] == 6, lines
    assert "router long goes first" in told(lines, "traefik/http/routers/short")[0][1]
    assert "router all goes first" in told(lines, "traefik/http/routers/api")[0][1]
    assert "router first has the same place" in told(lines, "traefik/http/routers/same")[0][1]
    assert server.get_route("b.example").json["pool"] == "app"
    assert server.get_route("*").json["pool"] == "other"


def test_transports_and_mirrors_of_traefik(pointsman, redis):
    server, store = pointsman(), redis()
    transport = "http/serversTransports/t/"
    write(store, traefik({
        **service("app", "https://127.0.0.1:9/base"),
        "http/services/app/loadBalancer/servers/0/preservePath": "true",
        "http/services/app/loadBalancer/serversTransport": "t",
        transport + "insecureSkipVerify": "true", transport + "serverName": "app.internal",
        transport + "forwardingTimeouts/dialTimeout": "2s",
        transport + "maxIdleConnsPerHost": "7",
        "http/services/mirror/mirroring/service": "app",
        "http/services/mirror/mirroring/mirrors/0/name": "app",
        **router("a", "Host(`a.example`)"), **router("b", "Host(`b.example`)", "mirror"),
        "http/middlewares/slow/rateLimit/average": "10",
        **router("c", "Host(`c.example`)", middlewares="slow"),
    }, root="edge/v1"))
    _, lines, sums = run_import(server, "traefik", store, "--prefix", "edge/v1")
    assert (sums["routes"], sums["pools"], sums["left_out"]) == (3, 1, 0), lines
    pool = server.api("GET", "/v1/pools/app").json
    assert pool["tls"] == {"verify": False, "server_name": "app.internal"}
    assert pool["timeouts"] == {"connect": "2s"}
    assert server.get_route("b.example").json["target_path"] == "/base"
    assert {line["key"] for line in lines} == {
        "edge/v1/http/serversTransports/t/maxIdleConnsPerHost",
        "edge/v1/http/services/mirror/mirroring", "edge/v1/http/middlewares/slow"}
