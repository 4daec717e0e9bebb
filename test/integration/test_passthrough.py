# SPDX-License-Identifier: MIT
"""Raw TLS by SNI to a pool, without terminating it."""
import socket
import ssl
import threading
import time

import pytest

from support.net import wait_until
from support.tls import TlsConnection, client_context


class TlsEcho:
    """A TLS server of its own: answers every line with its name and the line."""

    def __init__(self, certificate, name="echo"):
        self.name, self.connections, self.first_bytes = name, 0, []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(str(certificate.chain_file), str(certificate.key_file))
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            sock.settimeout(300)
            if self.first_bytes is not None and sock.recv(6, socket.MSG_PEEK) == b"PROXY ":
                line = b""
                while not line.endswith(b"\r\n"):
                    line += sock.recv(1)
                self.first_bytes.append(line)
            with self.context.wrap_socket(sock, server_side=True) as tls:
                while data := tls.recv(65536):
                    tls.sendall(self.name.encode() + b":" + data)
        except OSError:
            pass

    def stop(self):
        self.listener.close()


@pytest.fixture
def echo(certs):
    started = []

    def make(name="echo", host="raw.example"):
        started.append(TlsEcho(certs.issue(host), name))
        return started[-1]

    yield make
    for server in started:
        server.stop()


def open_raw(server, certs, sni="raw.example"):
    return TlsConnection(server.https_port, sni, client_context(certs.ca_file, alpn=()))


def talk(conn, text, name="echo"):
    conn.send(text)
    wanted = name.encode() + b":" + text
    assert conn.wire.exactly(len(wanted)) == wanted


def test_bytes_pass_as_they_are(pointsman, certs, echo):
    server, target = pointsman(https=True), echo()
    server.put_route("raw.example", targets=[target.address], passthrough=True)
    with open_raw(server, certs) as conn:
        for i in range(20):
            talk(conn, b"line %d" % i)
        assert server.status()["connections"] == 1
    wait_until(lambda: server.metrics()["pointsman_passthrough_total"] == 1, "counted")
    record = server.log_records(1)[0]
    assert record["url.domain"] == "raw.example"
    assert record["pointsman.target"] == target.address


def test_wildcard_pool_and_others_beside(pointsman, certs, echo):
    server, one, two = pointsman(https=True), echo("one", "*.raw.example"), echo("two", "*.raw.example")
    server.put_pool("raw", [one.address, two.address], balance="round_robin")
    server.put_route("*.raw.example", pool="raw", passthrough=True)
    certificate = certs.issue("here.example")
    server.put_certificate("here", certificate.chain, certificate.key)
    server.put_route("here.example", respond={"status": 204})
    for i in range(6):
        with open_raw(server, certs, f"h{i}.raw.example") as conn:
            conn.send(b"x")
            assert conn.wire.exactly(5) in (b"one:x", b"two:x")
    assert (one.connections, two.connections) == (3, 3)
    with TlsConnection(server.https_port, "here.example", client_context(certs.ca_file)) as conn:
        assert conn.exchange(host="here.example").status == 204


def test_route_change_is_live_and_cuts_nothing(pointsman, certs, echo):
    server, one, two = pointsman(https=True), echo("one"), echo("two")
    server.put_route("raw.example", targets=[one.address], passthrough=True)
    with open_raw(server, certs) as old:
        talk(old, b"a", "one")
        server.put_route("raw.example", targets=[two.address], passthrough=True)
        with open_raw(server, certs) as new:
            talk(new, b"b", "two")
        talk(old, b"c", "one")
        server.delete_route("raw.example")
        talk(old, b"d", "one")


def test_dead_target_is_passed_over(pointsman, certs, echo, dead_address):
    server, target = pointsman(https=True), echo()
    server.put_pool("raw", [dead_address, target.address], balance="round_robin")
    server.put_route("raw.example", pool="raw", passthrough=True)
    for _ in range(6):
        with open_raw(server, certs) as conn:
            talk(conn, b"x")
    server.put_pool("raw", [dead_address])
    with pytest.raises(OSError):
        open_raw(server, certs)


def test_large_data_both_ways(pointsman, certs, echo):
    server, target = pointsman(https=True), echo("")
    server.put_route("raw.example", targets=[target.address], passthrough=True)
    data = bytes(range(256)) * 8192
    with open_raw(server, certs) as conn:
        sender = threading.Thread(target=conn.send, args=(data,))
        sender.start()
        received = b""
        while len(received.replace(b":", b"")) < len(data) - data.count(b":"):
            received += conn.wire.some(65536)
        sender.join()


def test_hello_in_pieces(pointsman, certs, echo):
    server, target = pointsman(https=True), echo()
    server.put_route("raw.example", targets=[target.address], passthrough=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(certs.ca_file, alpn=()).wrap_bio(incoming, outgoing,
                                                             server_hostname="raw.example")
    with socket.create_connection(("127.0.0.1", server.https_port), 60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = outgoing.read()
                for i in range(0, len(data), 7):
                    sock.sendall(data[i:i + 7])
                    time.sleep(0.001)
                incoming.write(sock.recv(65536))


def test_drain_ends_raw_connections(pointsman, certs, echo):
    server, target = pointsman(https=True), echo()
    server.put_pool("raw", [target.address])
    server.put_route("raw.example", pool="raw", passthrough=True)
    conn = open_raw(server, certs)
    talk(conn, b"x")
    reply = server.api("DELETE", f"/v1/pools/raw/targets/{target.address}?drain=200ms")
    assert reply.status in (202, 204)
    assert conn.is_closed_by_peer()
    conn.close()


def test_what_needs_http_is_refused(pointsman):
    server = pointsman()
    for fields in ({"path": "/x"}, {"request_headers": {"set": {"X-A": "1"}}}, {"target_path": "/b"},
                   {"client_auth": {"ca": "x"}}):
        path = fields.pop("path", "/")
        reply = server.api("PUT", f"/v1/routes/raw.example{path}",
                           {"targets": ["127.0.0.1:1"], "passthrough": True, **fields})
        assert reply.status == 422, fields
    reply = server.api("PUT", "/v1/routes/raw.example",
                       {"respond": {"status": 200}, "passthrough": True})
    assert reply.status == 422


def test_proxy_header_for_the_target(pointsman, certs, echo):
    server, target = pointsman(https=True), echo()
    server.put_pool("raw", [target.address], send_proxy="v1")
    server.put_route("raw.example", pool="raw", passthrough=True)
    with open_raw(server, certs) as conn:
        port = conn.sock.getsockname()[1]
        talk(conn, b"x")
    assert target.first_bytes[0].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d " % port)
