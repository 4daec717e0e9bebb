# SPDX-License-Identifier: MIT
"""TLS to clients: certificates by SNI, tickets, client certificates, what belongs to which connection."""
import itertools
import os
import shutil
import ssl
import subprocess
import threading
import time

import pytest

from support import origin as o
from support.certs import Authority, pem
from support.net import PATIENCE, wait_until
from support.tls import TlsConnection, client_context


def put(server, name, certificate, **fields):
    return server.put_certificate(name, certificate.chain, certificate.key, **fields)


@pytest.fixture
def site(pointsman, origin, certs):
    """shop.example with its certificate and a route to an origin that echoes."""
    server, target = pointsman(https=True), origin()
    certificate = certs.issue(["shop.example", "*.shop.example"])
    put(server, "shop", certificate)
    server.put_route("shop.example", targets=[target])
    server.put_route("*.shop.example", targets=[target])
    return server, target, certificate


def get(server, sni, host=None, target="/", context=None, session=None, headers=()):
    """(response, connection's facts) of one request on a new connection."""
    with TlsConnection(server.https_port, sni, context, session) as conn:
        reply = conn.exchange("GET", target, host or sni or "localhost", headers)
        return reply, {"resumed": conn.was_resumed, "session": conn.session,
                       "fingerprint": conn.peer_fingerprint(), "version": conn.sock.version(),
                       "alpn": conn.sock.selected_alpn_protocol(), "cipher": conn.sock.cipher()}


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_request(site, certs, version):
    server, target, certificate = site
    context = client_context(certs.ca_file, version)
    reply, facts = get(server, "shop.example", context=context)
    assert reply.status == 200
    assert facts["version"] == f"TLSv{version}"
    assert facts["fingerprint"] == certificate.fingerprint
    assert facts["alpn"] == "http/1.1"
    assert target.last.headers["x-forwarded-proto"] == "https"
    assert target.last.headers["x-forwarded-port"] == str(server.https_port)
    assert "proto=https" in target.last.headers["forwarded"]
    record = server.log_records(1)[0]
    assert record["tls.version"] == version
    assert record["http.version"] == "1.1"


def test_exact_before_wildcard_before_default(site, certs):
    server, _, wild = site
    exact = certs.issue("a.shop.example")
    put(server, "a", exact)
    server.put_route("other.example", respond={"status": 204})
    assert get(server, "a.shop.example")[1]["fingerprint"] == exact.fingerprint
    assert get(server, "b.shop.example")[1]["fingerprint"] == wild.fingerprint
    _, facts = get(server, "other.example")
    assert facts["fingerprint"] not in (exact.fingerprint, wild.fingerprint)
    assert get(server, None, "other.example")[1]["fingerprint"] == facts["fingerprint"]
    for unknown in ("x.a.shop.example", "shop.example:443", "127.0.0.1"):
        assert get(server, unknown, "other.example")[1]["fingerprint"] == facts["fingerprint"]
    server.delete_certificate("a")
    assert get(server, "a.shop.example")[1]["fingerprint"] == wild.fingerprint
    default = certs.issue("fallback.example")
    put(server, "default", default, hosts=["*"])
    assert get(server, "other.example")[1]["fingerprint"] == default.fingerprint
    assert get(server, None, "other.example")[1]["fingerprint"] == default.fingerprint


def test_default_certificate_is_kept(pointsman):
    server = pointsman(https=True)
    server.put_route("*", respond={"status": 204})
    first = get(server, None)[1]["fingerprint"]
    server.restart()
    assert get(server, None)[1]["fingerprint"] == first


def test_unknown_name_can_be_refused(pointsman, certs):
    server = pointsman({"tls": {"unknown_sni": "reject"}}, https=True)
    put(server, "shop", certs.issue("shop.example"))
    server.put_route("*", respond={"status": 204})
    assert get(server, "shop.example")[0].status == 204
    assert get(server, None)[0].status == 204
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        get(server, "unknown.example")
    wait_until(lambda: server.metrics()["pointsman_tls_failed_total"] >= 1, "counted")


def test_ecdsa_and_rsa_side_by_side(site, certs):
    server, _, _ = site
    ecdsa, rsa = certs.issue("both.example"), certs.issue("both.example", key="rsa")
    put(server, "both-ec", ecdsa)
    put(server, "both-rsa", rsa)
    server.put_route("both.example", respond={"status": 204})
    for version, ciphers, expected in (
            ("1.2", "ECDHE-RSA-AES128-GCM-SHA256", rsa), ("1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", ecdsa),
            ("1.2", None, ecdsa), ("1.3", None, ecdsa)):
        context = client_context(version=version, ciphers=ciphers)
        assert get(server, "both.example", context=context)[1]["fingerprint"] == expected.fingerprint
    server.delete_certificate("both-ec")
    assert get(server, "both.example")[1]["fingerprint"] == rsa.fingerprint


def test_modern_profile(pointsman):
    server = pointsman({"tls": {"profile": "modern"}}, https=True)
    server.put_route("*", respond={"status": 204})
    assert get(server, None, context=client_context(version="1.3"))[0].status == 204
    with pytest.raises(ssl.SSLError):
        get(server, None, context=client_context(version="1.2"))


@pytest.mark.deadline(900)
def test_replacement_is_seen_by_the_next_handshake(site, certs):
    """Every worker serves the new one when the call has returned; a connection from before goes on."""
    server, target, _ = site
    target.handler = o.websocket_echo()
    before = TlsConnection(server.https_port, "shop.example")
    before.request(host="shop.example", headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert before.read_head().status == 101
    target.on("/", o.echo())
    versions = [certs.issue(["shop.example", "*.shop.example"]) for _ in range(10)]
    failed, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                reply, _ = get(server, "shop.example")
                if reply.status != 200:
                    failed.append(reply.status)
            except OSError as fault:
                failed.append(repr(fault))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(500):
            certificate = versions[i % 10]
            put(server, "shop", certificate)
            assert get(server, "shop.example")[1]["fingerprint"] == certificate.fingerprint
            if i % 20 == 0:  # the origin hangs up on those who say nothing
                before.send(b"\x81\x82\0\0\0\0ok")
                assert before.wire.exactly(4) == b"\x81\x02ok"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    before.send(b"\x81\x82\0\0\0\0ok")
    assert before.wire.exactly(4) == b"\x81\x02ok"
    before.close()


def test_resumption_over_workers_and_restarts(pointsman, certs, origin):
    server = pointsman(https=True, workers=2)
    put(server, "shop", certs.issue("shop.example"))
    server.put_route("shop.example", respond={"status": 204})
    for version in ("1.2", "1.3"):
        context = client_context(version=version)
        _, facts = get(server, "shop.example", context=context)
        assert not facts["resumed"]
        session = facts["session"]
        resumed = 0
        for _ in range(12):  # some of them reach the other worker
            _, facts = get(server, "shop.example", context=context, session=session)
            resumed += facts["resumed"]
        assert resumed == 12
    put(server, "shop", certs.issue("shop.example"))  # renewed: its tickets stay
    assert get(server, "shop.example", context=context, session=session)[1]["resumed"]
    server.restart()
    assert get(server, "shop.example", context=context, session=session)[1]["resumed"]
    assert server.metrics()["pointsman_tls_resumed_total"] >= 1


# ---- what belongs to which connection ----

# name -> (certificate, policy)
NAMES = {
    "a.example": ("a", None), "b.example": ("b", None),
    "one.shared.example": ("shared", None), "two.shared.example": ("shared", None),
    "members.example": ("members", "m"), "club.shared.example": ("shared", "c"),
    "maybe.example": ("maybe", "o"), "nowhere.example": ("default", None),
    "elsewhere.example": ("default", None),
}


@pytest.fixture
def matrix(pointsman, certs, tmp_path):
    server = pointsman(https=True)
    clients = Authority(tmp_path_factory_folder(tmp_path, "clients"), "clients")
    put(server, "a", certs.issue("a.example"))
    put(server, "b", certs.issue("b.example"))
    put(server, "shared", certs.issue(["*.shared.example"]))
    put(server, "members", certs.issue("members.example"))
    put(server, "maybe", certs.issue("maybe.example"))
    for name, (_, policy) in NAMES.items():
        fields = {}
        if policy:
            fields["client_auth"] = {"ca": clients.ca_pem,
                                     "mode": "optional" if policy == "o" else "require"}
        if policy == "c":  # another CA: another policy
            other = Authority(tmp_path_factory_folder(tmp_path, "others"), "others")
            fields["client_auth"]["ca"] = clients.ca_pem + other.ca_pem
        server.put_route(name, respond={"status": 204}, **fields)
    return server, clients.issue("alice", client=True)


def tmp_path_factory_folder(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return folder


def expected_status(sni, host):
    certificate, policy = NAMES[host]
    made_with, made_policy = NAMES[sni] if sni else (None, None)
    if policy != made_policy:
        return 421
    if sni is not None and sni != host and certificate != made_with:
        return 421
    return 204


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_421_for_every_pair(matrix, version):
    server, alice = matrix
    context = client_context(version=version, client=alice)
    wrong = []
    for sni in [*NAMES, None]:
        with TlsConnection(server.https_port, sni, context) as conn:
            for host in NAMES:
                reply = conn.exchange("GET", "/x", host)
                if reply.status != expected_status(sni, host):
                    wrong.append((sni, host, reply.status))
    assert wrong == []
    assert server.metrics()["pointsman_misdirected_total"] > 0


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tickets_are_good_where_they_were_made(matrix, version):
    """Every ticket with every name: resumed where certificate and policy are the same, a full handshake
    elsewhere, and what a connection may be used for is the same as without a ticket."""
    server, alice = matrix
    context = client_context(version=version, client=alice)
    wrong = []
    sessions = {sni: get(server, sni, context=context)[1]["session"] for sni in NAMES}
    for made, used in itertools.product(NAMES, NAMES):
        with TlsConnection(server.https_port, used, context, sessions[made]) as conn:
            first = conn.exchange("GET", "/x", used)
            other = conn.exchange("GET", "/x", made)
            may = NAMES[made] == NAMES[used]
            if (conn.was_resumed != may or first.status != 204
                    or other.status != expected_status(used, made)):
                wrong.append((made, used, conn.was_resumed, first.status, other.status))
    assert wrong == []


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_certificates(matrix, certs, version):
    server, alice = matrix
    nobody = client_context(version=version)
    with pytest.raises(OSError):
        get(server, "members.example", context=nobody)
    stranger = client_context(version=version, client=certs.issue("mallory", client=True))
    with pytest.raises(OSError):
        get(server, "members.example", context=stranger)
    with pytest.raises(OSError):
        get(server, "maybe.example", context=stranger)
    assert get(server, "maybe.example", context=nobody)[0].status == 204
    assert get(server, "members.example",
               context=client_context(version=version, client=alice))[0].status == 204


def test_clients_of_an_intermediate(pointsman, certs, tmp_path):
    """An intermediate without its root is an authority by itself, and the only one."""
    server, clients = pointsman(https=True), Authority(tmp_path, "clients")
    put(server, "m", certs.issue("m.example"))
    server.put_route("m.example", respond={"status": 204}, client_auth={"ca": pem(clients.intermediate)})
    for version in ("1.2", "1.3"):
        alice = clients.issue("alice", client=True)
        assert get(server, "m.example",
                   context=client_context(version=version, client=alice))[0].status == 204
        stranger = clients.issue("mallory", client=True, with_intermediate=False)
        with pytest.raises(OSError):
            get(server, "m.example", context=client_context(version=version, client=stranger))


FORGED = {"X-Client-Verify": "success", "X-Client-Cert-Subject": "CN=root",
          "X-Client-Cert-SHA256": "00", "Client-Cert": ":AAAA:", "X_Client_Verify": "success",
          "x-client-cert-subject": "CN=root"}


def test_client_certificate_fields(pointsman, origin, certs, tmp_path):
    server, target = pointsman(https=True), origin()
    clients = Authority(tmp_path_factory_folder(tmp_path, "clients"), "clients")
    alice = clients.issue("alice", client=True, common="alice, of accounts")
    put(server, "m", certs.issue("m.example"))
    server.put_route("m.example", targets=[target],
                     client_auth={"ca": clients.ca_pem, "mode": "optional"})
    server.put_route("plain.example", targets=[target])
    context = client_context(client=alice)
    session = None
    for resumed in (False, True):
        _, facts = get(server, "m.example", context=context, headers=FORGED, session=session)
        session = facts["session"]
        assert facts["resumed"] == resumed
        seen = target.last.headers
        assert seen.getall("x-client-verify") == ["success"]
        assert seen.getall("x-client-cert-sha256") == [alice.fingerprint]
        assert len(seen.getall("x-client-cert-subject")) == 1
        assert "alice" in seen["x-client-cert-subject"]
        assert seen.getall("client-cert") != [":AAAA:"]
        assert "x_client_verify" not in seen
    get(server, "m.example", headers=FORGED)
    assert target.last.headers.getall("x-client-verify") == ["none"]
    assert "x-client-cert-subject" not in target.last.headers
    server.exchange("GET", "/", "plain.example", FORGED)
    for name in FORGED:
        assert name not in target.last.headers
    # The policy is for the connection: what was made without it serves the host no more.
    with TlsConnection(server.https_port, "late.example") as conn:
        server.put_route("late.example", targets=[target])
        assert conn.exchange("GET", "/", "late.example").status == 200
        server.put_route("late.example", targets=[target], client_auth={"ca": clients.ca_pem})
        assert conn.exchange("GET", "/", "late.example").status == 421


def test_client_auth_is_for_the_whole_host(matrix, certs):
    server, _ = matrix
    ca = certs.ca_pem
    reply = server.api("PUT", "/v1/routes/x.example/path", {
        "respond": {"status": 204}, "client_auth": {"ca": ca}})
    assert reply.status == 422
    assert reply.json["errors"][0]["pointer"] == "/client_auth"
    reply = server.api("PUT", "/v1/routes/x.example", {
        "respond": {"status": 204}, "client_auth": {"ca": "no PEM"}})
    assert reply.status == 422
    assert reply.json["errors"][0]["pointer"].startswith("/client_auth/ca")
    server.put_route("members.example", "/deep", respond={"status": 200})
    with TlsConnection(server.https_port, "a.example") as conn:
        assert conn.exchange("GET", "/deep", "members.example").status == 421


# ---- redirects, HSTS ----


def test_https_redirect_and_hsts(pointsman, certs):
    server = pointsman({"https_port": 9443}, https=True)
    put(server, "s", certs.issue("s.example"))
    server.put_route("s.example", respond={"status": 204}, https="require", hsts="365d",
                     redirect_status=301)
    reply = server.exchange("GET", "/a/b?c=d", "s.example")
    assert reply.status == 301
    assert reply.headers["location"] == "https://s.example:9443/a/b?c=d"
    assert "strict-transport-security" not in reply.headers
    reply, _ = get(server, "s.example")
    assert reply.status == 204
    assert reply.headers.getall("strict-transport-security") == ["max-age=31536000"]


def test_hsts_replaces_the_origins(site):
    server, target, _ = site
    target.handler = o.respond(headers={"Strict-Transport-Security": "max-age=1"})
    server.put_route("shop.example", targets=[target], hsts="1h")
    reply, _ = get(server, "shop.example")
    assert reply.headers.getall("strict-transport-security") == ["max-age=3600"]


# ---- odd clients ----


def test_plain_http_on_the_tls_port(site):
    import socket
    server, _, _ = site
    with socket.create_connection(("127.0.0.1", server.https_port), PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        data = b""
        while piece := sock.recv(4096):
            data += piece
    assert data.startswith(b"HTTP/1.1 400 ")


def test_garbage_and_silence(pointsman):
    import socket
    server = pointsman({"timeouts": {"header": "500ms"}}, https=True)
    for data in (b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\0" * 50, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
                 b"\x15\x03\x03\x00\x02\x02\x28", b"\x16"):
        with socket.create_connection(("127.0.0.1", server.https_port), PATIENCE) as sock:
            start = time.monotonic()
            try:
                sock.sendall(data)
                while sock.recv(4096):
                    pass
            except ConnectionError:
                pass  # it was faster
            assert time.monotonic() - start < 30  # timeouts.idle is 60 s
    wait_until(lambda: server.status()["connections"] == 0, "all are closed")


def test_hello_byte_by_byte(site):
    """A ClientHello in pieces, with the handshake and the request behind it."""
    server, _, certificate = site
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    import socket
    client = client_context().wrap_bio(incoming, outgoing, server_hostname="shop.example")
    with socket.create_connection(("127.0.0.1", server.https_port), PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    sock.sendall(bytes([byte]))
                incoming.write(sock.recv(65536))
        client.write(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        for byte in outgoing.read():
            sock.sendall(bytes([byte]))
        reply = b""
        while b"\r\n\r\n" not in reply:
            incoming.write(sock.recv(65536))
            try:
                reply += client.read()
            except ssl.SSLWantReadError:
                pass
    assert reply.startswith(b"HTTP/1.1 200 ")


def test_large_bodies_both_ways(site):
    server, target, _ = site
    body = os.urandom(3 << 20)
    with TlsConnection(server.https_port, "shop.example") as conn:
        for _ in range(3):
            reply = conn.exchange("POST", "/", "shop.example", body=body)
            assert reply.status == 200
    assert target.last.body == body
    target.handler = o.respond(body=body)
    reply, _ = get(server, "shop.example")
    assert reply.body == body


# ---- real clients ----


def curl(*args):
    return subprocess.run(["curl", "-sS", "--max-time", "60", *args], capture_output=True, text=True)


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_curl(site, certs, protocol):
    server, _, _ = site
    done = curl(protocol, "--cacert", str(certs.ca_file), "--resolve",
                f"shop.example:{server.https_port}:127.0.0.1", "-w", "%{http_version} %{http_code}",
                "-o", "/dev/null", f"https://shop.example:{server.https_port}/")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("2 200" if protocol == "--http2" else "1.1 200")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client(site, certs, tmp_path, version):
    """Verifies the chain and the name; the second connection resumes."""
    server, _, _ = site
    session = tmp_path / "session.pem"
    request = "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"
    for extra, word in ((["-sess_out", str(session)], "New, "), (["-sess_in", str(session)], "Reused, ")):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{server.https_port}", version,
             "-servername", "shop.example", "-CAfile", str(certs.ca_file), "-verify_return_error",
             "-verify_hostname", "shop.example", "-ign_eof", *extra],
            input=request, capture_output=True, text=True, timeout=PATIENCE)
        assert "HTTP/1.1 200" in done.stdout, done.stdout + done.stderr
        assert "Verify return code: 0 (ok)" in done.stdout
        assert word in done.stdout


@pytest.mark.skipif(shutil.which("testssl") is None, reason="testssl.sh is not installed")
@pytest.mark.deadline(1200)
def test_testssl_finds_nothing(pointsman, certs, tmp_path):
    """No finding above LOW but those of the test's own authority (trust chain, revocation)."""
    import json
    server = pointsman(https=True, release=True)
    put(server, "l", certs.issue(["localhost"], days=80))
    server.put_route("localhost", respond={"status": 200, "body": "ok\n"}, hsts="365d")
    report = tmp_path / "report.json"
    subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "-p", "-s", "-f",
         "-S", "-U", "-P", "--jsonfile", str(report), f"localhost:{server.https_port}"],
        capture_output=True, text=True, timeout=1100, stdin=subprocess.DEVNULL)
    found = json.loads(report.read_text())
    own = ("cert_chain_of_trust", "cert_trust", "cert_revocation", "cert_ocspURL", "cert_crlDistribution",
           "cert_caIssuers", "cert_extlifeSpan", "DNS_CAArecord", "OCSP_stapling", "cert_mustStapleExtension",
           "certificate_transparency", "engine_problem", "scanTime")
    above = [f"{f['id']}: {f['severity']}: {f['finding']}" for f in found
             if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
             and not f["id"].startswith(own)]
    assert any(f["id"] == "TLS1_3" for f in found), "the report is not one"
    assert above == [], "\n".join(above)
