# SPDX-License-Identifier: MIT
"""The PROXY protocol, from trusted senders and to targets."""
import socket
import struct

import pytest

from support.certs import Authority
from support.net import wait_until
from support.tls import TlsConnection, client_context

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GET = b"GET / HTTP/1.1\r\nHost: p.example\r\nConnection: close\r\n\r\n"


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def v2(source="192.0.2.7", port=1234, command=1, family=0x11, tlvs=b"", checksum=False):
    if family == 0x11:
        addresses = socket.inet_aton(source) + socket.inet_aton("198.51.100.1") + struct.pack(">HH", port, 443)
    elif family == 0x21:
        addresses = (socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "::2") +
                     struct.pack(">HH", port, 443))
    else:
        addresses = b""
    if checksum:
        empty = tlvs + tlv(3, b"\0\0\0\0")
        head = SIGNATURE + struct.pack(">BBH", 0x20 | command, family, len(addresses) + len(empty))
        tlvs += tlv(3, struct.pack(">I", crc32c(head + addresses + empty)))
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family, len(addresses) + len(tlvs)) + addresses + tlvs


@pytest.fixture
def site(pointsman, origin, certs):
    server = pointsman({"listen": {"proxy_protocol": True}, "trusted_proxies": ["127.0.0.1/32"],
                        "timeouts": {"header": "5s"}}, https=True)
    target = origin()
    server.put_route("p.example", targets=[target])
    certificate = certs.issue("p.example")
    server.put_certificate("p", certificate.chain, certificate.key)
    return server, target


GOOD = {
    "v1": (b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n", "192.0.2.7"),
    "v1 v6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 443\r\n", "2001:db8::7"),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "v2": (v2(), "192.0.2.7"),
    "v2 v6": (v2("2001:db8::7", family=0x21), "2001:db8::7"),
    "v2 local": (v2(command=0), "127.0.0.1"),
    "v2 unix": (v2(family=0), "127.0.0.1"),
    "v2 TLVs": (v2(tlvs=tlv(2, b"p.example") + tlv(5, b"id-1") + tlv(0xE0, b"x" * 500)), "192.0.2.7"),
    "v2 checksum": (v2(checksum=True), "192.0.2.7"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("pieces", [False, True])
def test_accepted(site, name, pieces):
    server, target = site
    header, address = GOOD[name]
    with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in [bytes([b]) for b in header] if pieces else [header]:
            sock.sendall(byte)
        sock.sendall(GET)
        reply = b""
        while piece := sock.recv(65536):
            reply += piece
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert target.last.headers["x-real-ip"] == address
    assert server.log_records(1)[0]["client.ip"] == address


def test_accepted_before_tls(site):
    server, target = site
    with TlsConnection(server.https_port, "p.example", preamble=v2()) as conn:
        assert conn.exchange(host="p.example").status == 200
    assert target.last.headers["x-real-ip"] == "192.0.2.7"
    assert target.last.headers["x-forwarded-proto"] == "https"


def test_tls_told_by_the_sender(site):
    server, target = site
    ssl_tlv = tlv(0x20, b"\x01" + struct.pack(">I", 0) + tlv(0x21, b"TLSv1.3"))
    assert server.raw(v2(tlvs=ssl_tlv) + GET).startswith(b"HTTP/1.1 200 ")
    assert target.last.headers["x-forwarded-proto"] == "https"


BAD = {
    "none": GET,
    "v1 lower case": b"proxy TCP4 192.0.2.7 198.51.100.1 1234 443\r\n" + GET,
    "v1 address": b"PROXY TCP4 192.0.2.777 198.51.100.1 1234 443\r\n" + GET,
    "v1 family": b"PROXY TCP4 2001:db8::7 2001:db8::1 1234 443\r\n" + GET,
    "v1 port": b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 65536\r\n" + GET,
    "v1 leading zero": b"PROXY TCP4 192.0.2.7 198.51.100.1 01234 443\r\n" + GET,
    "v1 LF": b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\n" + GET,
    "v1 too long": b"PROXY TCP4 " + b"1" * 200 + b"\r\n" + GET,
    "v2 version": SIGNATURE + b"\x11\x11\0\x0c" + b"\0" * 12 + GET,
    "v2 command": SIGNATURE + b"\x25\x11\0\x0c" + b"\0" * 12 + GET,
    "v2 short": SIGNATURE + b"\x21\x11\0\x04" + b"\0" * 4 + GET,
    "v2 TLV cut": v2(tlvs=b"\x02\xff\xff") + GET,
    "v2 checksum": v2(tlvs=tlv(3, b"abcd")) + GET,
    "v2 too long": SIGNATURE + b"\x21\x11\xff\xff" + b"\0" * 65535,
    "nothing": b"",
    "part": SIGNATURE[:6],
}


@pytest.mark.parametrize("name", BAD)
def test_refused(site, name):
    server, target = site
    reply = server.raw(BAD[name])
    assert b" 200 " not in reply
    assert target.requests == []
    wait_until(lambda: server.status()["connections"] == 0, "closed")
    if name not in ("nothing", "part"):
        assert server.metrics()["pointsman_proxy_header_errors_total"] == 1


def test_not_taken_from_others(pointsman, origin):
    """A sender that is not trusted cannot say who it is."""
    server = pointsman({"listen": {"proxy_protocol": True}, "trusted_proxies": ["192.0.2.0/24"]})
    target = origin()
    server.put_route("p.example", targets=[target])
    assert server.raw(b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n" + GET).startswith(b"HTTP/1.1 400 ")
    assert server.raw(GET).startswith(b"HTTP/1.1 200 ")
    assert target.last.headers["x-real-ip"] == "127.0.0.1"


class Taker:
    """A target that takes what comes first and answers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.heads = []
        import threading
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.settimeout(60)
            data = b""
            while b"\r\n\r\n" not in data.replace(SIGNATURE, b""):
                piece = sock.recv(65536)
                if not piece:
                    break
                data += piece
            self.heads.append(data)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            sock.close()


def test_sent_to_targets(pointsman, certs):
    server, taker = pointsman(https=True), Taker()
    certificate = certs.issue("p.example")
    server.put_certificate("p", certificate.chain, certificate.key)
    server.put_pool("p", [taker.address], send_proxy="v1")
    server.put_route("p.example", pool="p")
    with server.connect() as conn:
        port = conn.sock.getsockname()[1]
        assert conn.exchange(host="p.example").status == 200
    assert taker.heads[-1].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\nGET / HTTP/1.1\r\n"
                                      % (port, server.port))
    server.put_pool("p", [taker.address], send_proxy="v2")
    with TlsConnection(server.https_port, "p.example") as conn:
        port = conn.sock.getsockname()[1]
        assert conn.exchange(host="p.example").status == 200
    head = taker.heads[-1]
    assert head.startswith(SIGNATURE + b"\x21\x11")
    length = struct.unpack(">H", head[14:16])[0]
    assert head[16:20] == socket.inet_aton("127.0.0.1")
    assert struct.unpack(">H", head[24:26])[0] == port
    tlvs, _ = tlvs_of(head)
    assert tlvs[2] == b"p.example"
    assert tlvs[0x20][0] & 1 == 1
    assert b"TLSv1.3" in tlvs[0x20]
    if 3 in tlvs:
        zeroed = head[:16 + length].replace(tlvs[3], b"\0\0\0\0")
        assert struct.unpack(">I", tlvs[3])[0] == crc32c(zeroed)
    assert head[16 + length:].startswith(b"GET / HTTP/1.1\r\n")


def tlvs_of(head):
    """({type: value}, what follows the header) of one of version 2 over IPv4."""
    length = struct.unpack(">H", head[14:16])[0]
    tlvs, rest = {}, head[28:16 + length]
    while rest:
        kind, size = struct.unpack(">BH", rest[:3])
        tlvs[kind], rest = rest[3:3 + size], rest[3 + size:]
    return tlvs, head[16 + length:]


def test_passed_on(site):
    """What a trusted sender says of the client is said to the target: addresses, ports, TLS that it ended."""
    server, _ = site
    taker = Taker()
    server.put_pool("t", [taker.address], send_proxy="v2")
    server.put_route("p.example", pool="t")
    told = tlv(2, b"p.example") + tlv(0x20, b"\x01" + struct.pack(">I", 0) + tlv(0x21, b"TLSv1.2"))
    assert server.raw(v2(tlvs=told) + GET).startswith(b"HTTP/1.1 200 ")
    head = taker.heads[-1]
    assert head.startswith(SIGNATURE + b"\x21\x11")
    assert head[16:24] == socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1")
    assert struct.unpack(">HH", head[24:28]) == (1234, 443)
    tlvs, rest = tlvs_of(head)
    assert tlvs[2] == b"p.example"
    assert tlvs[0x20][0] & 1 == 1 and tlvs[0x20].endswith(b"TLSv1.2")
    assert rest.startswith(b"GET / HTTP/1.1\r\n")
    assert server.raw(v2() + GET).startswith(b"HTTP/1.1 200 ")
    tlvs, _ = tlvs_of(taker.heads[-1])
    assert 2 not in tlvs and 0x20 not in tlvs
    # A client of IPv6 that another proxy names, over IPv4.
    assert server.raw(v2(command=0) + GET.replace(b"Connection", b"X-Forwarded-For: 2001:db8::9\r\nConnection")
                      ).startswith(b"HTTP/1.1 200 ")
    head = taker.heads[-1]
    assert head.startswith(SIGNATURE + b"\x21\x21")
    assert head[16:32] == socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    assert head[32:48] == socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1")


def test_client_certificates_are_told(pointsman, certs, tmp_path):
    server, taker, clients = pointsman(https=True), Taker(), Authority(tmp_path, "clients")
    server.put_pool("t", [taker.address], send_proxy="v2")
    server.put_route("p.example", pool="t", client_auth={"ca": clients.ca_pem, "mode": "optional"})
    for client, flags, verify in ((clients.issue("alice", client=True), 3, 0), (None, 1, 1)):
        with TlsConnection(server.https_port, "p.example", client_context(client=client)) as conn:
            assert conn.exchange(host="p.example").status == 200
        tlvs, _ = tlvs_of(taker.heads[-1])
        assert struct.unpack(">BI", tlvs[0x20][:5]) == (flags, verify)


def test_each_client_has_connections_of_its_own(pointsman, origin):
    """A kept connection would tell the target of another client."""
    server, taker = pointsman(), Taker()
    server.put_pool("p", [taker.address], send_proxy="v1")
    server.put_route("p.example", pool="p")
    for _ in range(5):
        with server.connect() as conn:
            assert conn.exchange(host="p.example").status == 200
    assert len({head.split(b"\r\n")[0] for head in taker.heads}) == 5
