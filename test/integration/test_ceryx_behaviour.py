# SPDX-License-Identifier: MIT
"""With ceryx.enabled the proxy answers as Ceryx does; its environment is understood."""
import socket

import pytest
from support.http1 import Connection
from support.net import PATIENCE, free_port
from support.origin import respond
from support.tls import TlsConnection

CERYX = {"ceryx": {"enabled": True}}


@pytest.fixture
def node(pointsman):
    return pointsman(CERYX)


def put(node, host, target, **settings):
    response = node.api("PUT", f"/api/routes/{host}", json={"target": target, "settings": settings})
    assert response.status == 200, response.text


def test_no_route_is_503(node):
    """A page, whatever was asked for."""
    for headers in [{}, {"Accept": "application/json"}, {"Accept": "text/html"}]:
        response = node.get(host="nobody.test", headers=headers)
        assert response.status == 503
        assert response.headers["Content-Type"].startswith("text/html")
        assert b"<!doctype html>" in response.body
    assert node.log_records(1)[0]["pointsman.end"] == "no_route"
    assert node.exchange("HEAD", host="nobody.test").status == 503


def test_proxies_with_host_kept(node, origin):
    target = origin(name="app")
    put(node, "a.test", target.address)
    response = node.get(target="/some/path/?a=1&b=%20x", host="a.test")
    assert response.status == 200
    assert target.last.headers["Host"] == "a.test"
    assert target.last.target == "/some/path/?a=1&b=%20x"


@pytest.mark.parametrize("base, sent", [
    ("", "/x/?q"), ("/", "/x/?q"), ("/base", "/base/x/?q"), ("/base/", "/base/x/?q"), ("/a/b", "/a/b/x/?q")])
def test_target_with_path(node, origin, base, sent):
    target = origin(name="app")
    put(node, "a.test", f"http://{target.address}{base}")
    assert node.get(target="/x/?q", host="a.test").status == 200
    assert target.last.target == sent
    assert node.get(target="/", host="a.test").status == 200
    assert target.last.target == (base.rstrip("/") + "/")


@pytest.mark.parametrize("target, location", [
    ("https://www.test", "https://www.test/some/path/?some=args&more=args"),
    ("https://www.test/", "https://www.test/some/path/?some=args&more=args"),
    ("www.test:8000/base", "http://www.test:8000/base/some/path/?some=args&more=args"),
    ("http://www.test/base/", "http://www.test/base/some/path/?some=args&more=args")])
def test_redirect(node, target, location):
    put(node, "a.test", target, mode="redirect")
    response = node.get(target="/some/path/?some=args&more=args", host="a.test")
    assert (response.status, response.headers["Location"]) == (301, location)


def test_enforce_https_comes_first(pointsman, origin):
    """Before the target is looked at, and before a redirect; not for who came by HTTPS."""
    node = pointsman(CERYX, https=True)
    target = origin(name="app")
    put(node, "a.test", target.address, enforce_https=True)
    put(node, "b.test", "https://www.test", enforce_https=True, mode="redirect")
    put(node, "dead.test", "127.0.0.1:1", enforce_https=True)
    for host in ["a.test", "b.test", "dead.test"]:
        response = node.get(target="/some/path/?x=y", host=host)
        assert (response.status, response.headers["Location"]) == (301, f"https://{host}/some/path/?x=y")
    assert len(target.requests) == 0
    with TlsConnection(node.https_port, "a.test") as connection:
        assert connection.exchange(host="a.test").status == 200
    with TlsConnection(node.https_port, "b.test") as connection:
        response = connection.exchange(host="b.test")
    assert (response.status, response.headers["Location"]) == (301, "https://www.test/")


def test_wildcard_is_last(node, origin):
    own, rest = (origin(respond(body=name.encode()), name=name) for name in ("own", "rest"))
    put(node, "$wildcard", rest.address)
    put(node, "a.test", own.address)
    assert node.get(host="a.test").body == b"own"
    assert node.get(host="b.test").body == b"rest"
    assert node.api("DELETE", "/api/routes/a.test").status == 204
    assert node.get(host="a.test").body == b"rest"
    assert node.api("DELETE", "/api/routes/$wildcard").status == 204
    assert node.get(host="a.test").status == 503


def test_others_are_not_concerned(pointsman):
    node = pointsman()
    response = node.get(host="nobody.test")
    assert response.status == 404


# ---- the environment ----

def test_environment(pointsman, certs):
    own = certs.issue(["default.test"])
    port = free_port()
    node = pointsman({"store": {"url": None}, "access_log": None}, https=True, env={
        "POINTSMAN_CERYX": "true", "CERYX_API_HOST": "127.0.0.1", "CERYX_API_PORT": str(port),
        "CERYX_MAX_REQUEST_BODY_SIZE": "1k", "CERYX_SSL_DEFAULT_CERTIFICATE": str(own.chain_file),
        "CERYX_SSL_DEFAULT_KEY": str(own.key_file), "CERYX_DEBUG": "true", "CERYX_DISABLE_LETS_ENCRYPT": "true"})
    with Connection(("127.0.0.1", port)) as connection:
        assert connection.exchange("GET", "/api/routes", host="api").json == []
    assert "CERYX_DISABLE_LETS_ENCRYPT" in node.stderr()
    put(node, "a.test", "127.0.0.1:1")
    assert node.exchange("POST", host="a.test", body=b"x" * 1025).status == 413
    with TlsConnection(node.https_port, "default.test") as connection:
        assert connection.peer_fingerprint() == own.fingerprint


def test_environment_counts_only_with_ceryx(pointsman):
    port = free_port()
    node = pointsman(env={"CERYX_API_PORT": str(port), "CERYX_REDIS_HOST": "nowhere.invalid", "CERYX_LOG_LEVEL": "x"})
    assert node.status()["store"]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 1)


@pytest.mark.parametrize("flag", [True, False])
def test_environment_with_flag(pointsman, flag):
    port = free_port()
    node = pointsman({"ceryx": {"enabled": not flag}}, env={"CERYX_API_PORT": str(port)},
                     args=["--set", f"ceryx.enabled={'true' if flag else 'false'}"])
    assert (node.api("GET", "/api/routes").status == 200) == flag
    if flag:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()


def test_wrong_environment_is_named(pointsman):
    node = pointsman(start=False, env={"POINTSMAN_CERYX": "true", "CERYX_REDIS_PORT": "many"})
    node.start(wait=False)
    assert node.process.wait(PATIENCE) == 1
    node.process = None
    assert "CERYX_REDIS_PORT: must be a port" in node.stderr()


def test_key_of_another_certificate(pointsman, certs):
    one, other = certs.issue(["one.test"]), certs.issue(["other.test"])
    node = pointsman({"tls": {"default_certificate": str(one.chain_file), "default_key": str(other.key_file)}},
                     https=True, start=False)
    node.start(wait=False)
    assert node.process.wait(PATIENCE) == 1
    node.process = None
    assert str(one.chain_file) in node.stderr()
