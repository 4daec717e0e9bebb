# SPDX-License-Identifier: MIT
"""TLS and HTTP/2 to targets: verification, client certificates, protocols, gRPC."""
import json
import shutil
import ssl
import struct
import subprocess
import threading

import pytest

from support.certs import Authority, pem
from support.h2 import H2Client, H2Origin
from support.net import free_port, is_listening, wait_until
from support.tls import VERSIONS, TlsConnection

HOST = "o.example"


@pytest.fixture
def h2_origin(certs):
    started = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = certs.issue(HOST)
    context.load_cert_chain(str(certificate.chain_file), str(certificate.key_file))
    context.set_alpn_protocols(["h2"])

    def make(handler, tls=False, **more):
        started.append(H2Origin(handler, context if tls else None, **more))
        return started[-1]

    yield make
    for server in started:
        server.stop()


def put(server, address, certs=None, **fields):
    if certs is not None:
        fields.setdefault("tls", {}).setdefault("ca", certs.ca_pem)
    server.put_pool("o", [address], **fields)
    server.put_route(HOST, pool="o")


def test_verified(pointsman, certs, tls_origin):
    server, target = pointsman(), tls_origin(certs.issue(HOST))
    put(server, target.address, certs)
    for _ in range(5):
        reply = server.get(host=HOST)
        assert reply.status == 200
        assert reply.json["version"] == "TLSv1.3"
    assert target.connections == 1 or server.workers > 1  # kept
    assert set(target.snis) == {HOST}


@pytest.mark.parametrize("case", ["unknown CA", "wrong name", "expired"])
def test_bad_certificates(pointsman, certs, tls_origin, tmp_path, case):
    """502 with its reason, in the log and in Proxy-Status; with verify off it is served."""
    server = pointsman()
    if case == "unknown CA":
        (tmp_path / "other").mkdir()
        certificate = Authority(tmp_path / "other", "other").issue(HOST)
    elif case == "wrong name":
        certificate = certs.issue("another.example")
    else:
        certificate = certs.issue(HOST, days=-2)
    target = tls_origin(certificate)
    put(server, target.address, certs)
    reply = server.get(host=HOST)
    assert reply.status == 502
    assert "tls_certificate_error" in reply.headers["proxy-status"]
    assert server.log_records(1)[0]["pointsman.end"] == "tls_certificate"
    put(server, target.address, tls={"verify": False})
    assert server.get(host=HOST).status == 200


def test_system_authorities_are_the_default(pointsman, certs, tls_origin):
    server, target = pointsman(), tls_origin(certs.issue(HOST))
    server.put_route(HOST, targets=[target.address])
    assert server.get(host=HOST).status == 502


def test_an_intermediate_is_enough(pointsman, certs, tls_origin):
    server, target = pointsman(), tls_origin(certs.issue(HOST))
    put(server, target.address, tls={"ca": pem(certs.intermediate)})
    assert server.get(host=HOST).status == 200
    other = tls_origin(certs.issue(HOST, with_intermediate=False))
    put(server, other.address, tls={"ca": pem(certs.intermediate)})
    assert server.get(host=HOST).status == 502


def test_server_name(pointsman, certs, tls_origin):
    server, target = pointsman(), tls_origin(certs.issue("inside.example"))
    put(server, target.address, certs, tls={"server_name": "inside.example"})
    assert server.get(host=HOST).status == 200
    assert target.snis[-1] == "inside.example"


def test_client_certificate(pointsman, certs, tls_origin, tmp_path):
    (tmp_path / "c").mkdir()
    clients = Authority(tmp_path / "c", "clients")
    server, target = pointsman(), tls_origin(certs.issue(HOST), clients.ca_pem)
    put(server, target.address, certs)
    reply = server.get(host=HOST)
    assert reply.status == 502
    assert server.log_records(1)[0]["pointsman.end"] in ("tls_failed", "origin_closed")
    first = clients.issue("router.example", client=True, common="router one")
    server.put_certificate("router", first.chain, first.key, hosts=["router.example"])
    put(server, target.address, certs, tls={"client_certificate": "router"})
    assert server.get(host=HOST).json["client"]["commonName"] == "router one"
    assert server.api("DELETE", "/v1/certificates/router").status == 409
    reply = server.api("PUT", "/v1/pools/o", {"targets": [{"address": target.address}],
                                             "tls": {"client_certificate": "nobody"}})
    assert reply.status == 422
    assert reply.json["errors"][0]["pointer"] == "/tls/client_certificate"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_certificate_is_replaced(pointsman, certs, tls_origin, tmp_path, version):
    """From the next connection on the target sees the new one: a resumed session would show it the old one."""
    clients = Authority(tmp_path, "clients")
    server, target = pointsman(workers=1), tls_origin(certs.issue(HOST), clients.ca_pem)
    target.context.minimum_version = target.context.maximum_version = VERSIONS[version]
    for name in ("router one", "router two", "router three"):
        shown = clients.issue("router.example", client=True, common=name)
        server.put_certificate("router", shown.chain, shown.key)
        put(server, target.address, certs, tls={"client_certificate": "router"}, keepalive={"idle": 0})
        for _ in range(3):
            before = target.connections
            assert server.get(host=HOST).json["client"]["commonName"] == name
            assert target.connections == before + 1


def test_answer_that_is_cut_is_not_complete(pointsman, certs, tls_origin):
    """Without close_notify nobody knows that a body until the close has ended."""
    server, target = pointsman(), tls_origin(certs.issue(HOST))
    put(server, target.address, certs)
    reply = server.get("GET", "/cut", HOST, allow_truncated=True)
    assert not reply.complete


def test_no_tls_there(pointsman, certs, origin):
    server, target = pointsman(), origin()
    put(server, f"https://{target.address}", certs)
    target.faults.clear()
    reply = server.get(host=HOST)  # it may also just wait for more than a ClientHello
    assert (reply.status, server.log_records(1)[0]["pointsman.end"]) in (
        (502, "tls_failed"), (502, "origin_closed"), (504, "connect_timeout"))
    target.faults.clear()


def test_connections_are_shared_only_where_all_is_the_same(pointsman, certs, tls_origin):
    server, target = pointsman(workers=1), tls_origin(certs.issue([HOST, "p.example"]))
    put(server, target.address, certs)
    server.put_pool("p", [target.address], tls={"ca": certs.ca_pem, "server_name": "p.example"})
    server.put_route("p.example", pool="p")
    server.put_pool("q", [target.address], tls={"verify": False})
    server.put_route("q.example", pool="q")
    for host in (HOST, "p.example", "q.example") * 3:
        assert server.get(host=host).status == 200
    assert target.connections == 3
    put(server, target.address, certs, timeouts={"response": "30s"})  # the same TLS settings
    assert server.get(host=HOST).status == 200
    assert target.connections == 3


# ---- HTTP/2 to targets ----


def hello(origin, conn, stream, headers, body, trailers):
    seen = json.dumps({"headers": headers, "body": len(body), "trailers": trailers}).encode()
    conn.respond(stream, [(":status", "200"), ("content-type", "application/json")], seen)


@pytest.mark.parametrize("kind", ["h2c", "alpn", "h2"])
def test_http1_client_to_h2_target(pointsman, certs, h2_origin, kind):
    server, target = pointsman(workers=1), h2_origin(hello, tls=kind != "h2c")
    if kind == "h2c":
        put(server, target.address)
    else:
        put(server, target.address, certs, **({"protocol": "h2"} if kind == "h2" else {}))
    for _ in range(5):
        reply = server.get("POST", "/x?y=z", HOST, {"X-A": "1"}, body=b"hello")
        assert reply.status == 200
    headers = dict(map(tuple, reply.json["headers"]))
    assert headers[":path"] == "/x?y=z" and headers[":authority"] == HOST
    assert headers[":scheme"] in ("http", "https") and headers["x-a"] == "1"
    assert "connection" not in headers and "host" not in headers
    assert reply.json["body"] == 5
    assert target.connections == 1


def test_streams_share_a_connection(pointsman, h2_origin):
    gate = threading.Event()

    def slow(origin, conn, stream, headers, body, trailers):
        threading.Thread(target=lambda: (gate.wait(60), conn.respond(stream, [(":status", "204")]))).start()

    server, target = pointsman(workers=1), h2_origin(slow)
    put(server, target.address)
    results = []

    def ask():
        results.append(server.get(host=HOST).status)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(target.requests) == 40, "all are there")
    gate.set()
    for thread in threads:
        thread.join()
    assert results == [204] * 40
    assert target.connections <= 2


def test_h2_to_http1_and_back(pointsman, certs, origin):
    server, target = pointsman(https=True), origin()
    certificate = certs.issue(HOST)
    server.put_certificate("o", certificate.chain, certificate.key)
    put(server, target.address)
    with H2Client(server.https_port, sni=HOST) as client:
        stream = client.request("POST", host=HOST, headers=[("te", "trailers")], end=False)
        client.send(stream, b"part one,")
        client.send(stream, b"part two")
        client.trailers(stream, [("x-sum", "17")])
        assert client.read(stream)[0].status == 200
    assert target.last.body == b"part one,part two"


def test_reset_of_the_target(pointsman, h2_origin):
    def reset(origin, conn, stream, headers, body, trailers):
        conn.conn.reset_stream(stream, 2)
        conn.flush()

    server, target = pointsman(), h2_origin(reset)
    put(server, target.address)
    assert server.get("POST", "/", HOST, body=b"x").status == 502


def test_refused_streams_are_sent_again(pointsman, h2_origin):
    """REFUSED_STREAM: nobody has seen it (RFC 9113 8.7), so that even a POST is sent once more."""
    def refuse(origin, conn, stream, headers, body, trailers):
        if len(origin.requests) == 1:
            conn.conn.reset_stream(stream, 7)
            conn.flush()
        else:
            conn.respond(stream, [(":status", "200")], b"ok")

    server, target = pointsman(workers=1), h2_origin(refuse)
    put(server, target.address)
    assert server.get("POST", "/", HOST, body=b"x").status == 200


def test_goaway_of_the_target(pointsman, h2_origin):
    """Streams under way end; what comes later goes over another connection."""
    def leave(origin, conn, stream, headers, body, trailers):
        conn.conn.close_connection(0)
        conn.flush()

    calls = []

    def answer_then_leave(origin, conn, stream, headers, body, trailers):
        conn.respond(stream, [(":status", "200")], b"ok")
        calls.append(1)
        if len(calls) % 3 == 0:
            leave(origin, conn, stream, headers, body, trailers)

    server, target = pointsman(workers=1), h2_origin(answer_then_leave)
    put(server, target.address)
    assert [server.get(host=HOST).status for _ in range(12)] == [200] * 12
    assert target.connections >= 4


def test_goaway_meets_a_request(pointsman, h2_origin):
    """What was sent while the target's GOAWAY was under way, and is above its last stream, was not processed:
    it is sent again, whatever it is."""
    def leave(origin, conn, stream, headers):
        if stream > 1:
            conn.conn.close_connection(0, last_stream_id=1)
            conn.flush()

    def answer(origin, conn, stream, headers, body, trailers):
        if stream == 1:
            conn.respond(stream, [(":status", "200")], b"ok")

    server, target = pointsman(workers=1), h2_origin(answer, on_headers=leave)
    put(server, target.address)
    assert [server.exchange("POST", host=HOST, body=b"once").status for _ in range(6)] == [200] * 6
    assert target.connections == 6


def test_websocket_to_h2_target(pointsman, h2_origin):
    """RFC 8441 on the way to the target."""
    def open_tunnel(origin, conn, stream, headers):
        fields = dict(headers)
        if fields[":method"] == "CONNECT" and fields.get(":protocol") == "websocket":
            conn.conn.send_headers(stream, [(":status", "200")])
            conn.flush()

    import h2.settings
    target = h2_origin(lambda *a: None, on_headers=open_tunnel,
                       settings={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    server = pointsman(workers=1)
    put(server, target.address)
    with server.connect() as conn:
        conn.request(host=HOST, headers={
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        reply = conn.read_head()
        assert reply.status == 101
        assert reply.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# ---- gRPC ----


def grpc_frame(data):
    return b"\0" + struct.pack(">I", len(data)) + data


def test_grpc_unary_and_streaming(pointsman, certs, h2_origin):
    """A client on python3-h2, an h2 target: messages both ways before the request has ended, trailers."""
    def on_headers(origin, conn, stream, headers):
        if dict(headers)[":path"] == "/Echo/Stream":
            conn.conn.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            conn.conn.send_data(stream, grpc_frame(b"first"))
            conn.flush()

    def handler(origin, conn, stream, headers, body, trailers):
        fields = dict(headers)
        assert fields["te"] == "trailers" and fields["content-type"] == "application/grpc"
        if fields[":path"] == "/Echo/Fail":
            conn.respond(stream, [(":status", "200"), ("content-type", "application/grpc"),
                                  ("grpc-status", "5"), ("grpc-message", "not here")])
        elif fields[":path"] == "/Echo/Stream":
            conn.conn.send_data(stream, grpc_frame(b"last"))
            conn.conn.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            conn.flush()
        else:
            conn.respond(stream, [(":status", "200"), ("content-type", "application/grpc")], body,
                         [("grpc-status", "0"), ("grpc-message", "fine")])

    server, target = pointsman(https=True), h2_origin(handler, tls=True, on_headers=on_headers)
    certificate = certs.issue(HOST)
    server.put_certificate("o", certificate.chain, certificate.key)
    put(server, target.address, certs)
    fields = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S")]
    with H2Client(server.https_port, sni=HOST) as client:
        reply = client.get("/Echo/Unary", HOST, fields, "POST", grpc_frame(b"hello"))
        assert reply.status == 200 and reply.body == grpc_frame(b"hello")
        assert dict(reply.trailers) == {"grpc-status": "0", "grpc-message": "fine"}
        stream = client.request("POST", "/Echo/Stream", HOST, fields, end=False)
        while client.replies[stream].body != grpc_frame(b"first"):
            client.step()  # before the request has ended
        client.send(stream, grpc_frame(b"a"))
        client.send(stream, grpc_frame(b"b"), end=True)
        reply = client.read(stream)[0]
        assert reply.body == grpc_frame(b"first") + grpc_frame(b"last")
        assert dict(reply.trailers)["grpc-status"] == "0"
        reply = client.get("/Echo/Fail", HOST, fields, "POST", grpc_frame(b"x"))
        assert reply.get("grpc-status") == "5" or dict(reply.trailers).get("grpc-status") == "5"


def test_grpc_clients_get_our_errors_as_theirs(pointsman, certs, dead_address):
    server = pointsman(https=True)
    certificate = certs.issue(HOST)
    server.put_certificate("o", certificate.chain, certificate.key)
    put(server, dead_address)
    fields = [("content-type", "application/grpc"), ("te", "trailers")]
    with H2Client(server.https_port, sni=HOST) as client:
        reply = client.get("/Echo/Unary", HOST, fields, "POST", grpc_frame(b"x"))
        assert reply.status == 200
        assert reply.get("content-type").startswith("application/grpc")
        assert (reply.get("grpc-status") or dict(reply.trailers).get("grpc-status")) == "14"
    with H2Client(server.https_port, sni=HOST) as client:
        assert client.get("/x", HOST).status == 502


# ---- real servers ----


@pytest.mark.skipif(shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None,
                    reason="haproxy is not installed")
def test_haproxy_as_target_with_client_certificates(pointsman, certs, tmp_path):
    (tmp_path / "c").mkdir()
    clients = Authority(tmp_path / "c", "clients")
    certificate = certs.issue(HOST)
    both = tmp_path / "both.pem"
    both.write_text(certificate.chain + certificate.key)
    port = free_port()
    file = tmp_path / "haproxy.cfg"
    file.write_text(f"""
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend f
    bind 127.0.0.1:{port} ssl crt {both} ca-file {clients.ca_file} verify required alpn h2,http/1.1
    http-request return status 200 content-type text/plain lf-string "%[ssl_c_s_dn(cn)] %[req.ver]"
""")
    process = subprocess.Popen([shutil.which("haproxy", path="/usr/sbin:/usr/bin"), "-db", "-f", str(file)],
                               stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(port), "haproxy listens")
        server = pointsman()
        put(server, f"https://127.0.0.1:{port}", certs, passive={"max_fails": 0})
        assert server.get(host=HOST).status == 502
        # Under TLS 1.3 its refusal comes after the handshake, and its close may overtake it.
        assert server.log_records(1)[0]["pointsman.end"] in ("tls_failed", "origin_closed")
        metrics = server.metrics()
        assert metrics["pointsman_upstream_errors_total"] + metrics[
            "pointsman_upstream_connect_errors_total"] > 0
        mine = clients.issue("router.example", client=True, common="router")
        server.put_certificate("router", mine.chain, mine.key, hosts=["router.example"])
        for protocol, version in (("auto", "2.0"), ("http1", "1.1"), ("h2", "2.0")):
            put(server, f"https://127.0.0.1:{port}", certs, protocol=protocol,
                tls={"client_certificate": "router"})
            reply = server.get(host=HOST)
            assert reply.status == 200
            assert reply.text == f"router {version}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.skipif(shutil.which("nghttpd") is None, reason="nghttpd is not installed")
def test_nghttpd_as_target(pointsman, certs, tmp_path):
    (tmp_path / "page.txt").write_text("x" * 200_000)
    certificate, port = certs.issue(HOST), free_port()
    process = subprocess.Popen(
        ["nghttpd", "-a", "127.0.0.1", "-d", str(tmp_path), str(port), str(certificate.key_file),
         str(certificate.chain_file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(port), "nghttpd listens")
        server = pointsman(https=True)
        put(server, f"https://127.0.0.1:{port}", certs)
        for _ in range(10):
            assert len(server.get("GET", "/page.txt", HOST).body) == 200_000
        with TlsConnection(server.https_port, HOST) as conn:
            assert conn.exchange("GET", "/nothing", HOST).status in (404, 421)
    finally:
        process.terminate()
        process.wait(60)
