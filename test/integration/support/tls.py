# SPDX-License-Identifier: MIT
"""TLS clients and a TLS origin for the tests."""
import json
import socket
import ssl
import threading

from support.http1 import Connection, Wire
from support.net import PATIENCE

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def client_context(ca_file=None, version=None, alpn=("http/1.1",), client=None, ciphers=None):
    """A context; without `ca_file` nothing is verified. client: a support.certs certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_verify_locations(str(ca_file))
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if client:
        context.load_cert_chain(str(client.chain_file), str(client.key_file))
    if ciphers:
        context.set_ciphers(ciphers)
    return context


class TlsConnection(Connection):
    """A support.http1.Connection over TLS. sni None: none is sent. preamble: bytes before TLS begins."""

    def __init__(self, port, sni="localhost", context=None, session=None, timeout=PATIENCE, preamble=b""):
        raw = socket.create_connection(("127.0.0.1", port), timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = context or client_context()
        try:
            if preamble:
                raw.sendall(preamble)
            self.sock = context.wrap_socket(raw, server_hostname=sni, session=session)
        except BaseException:
            raw.close()
            raise
        self.wire = Wire(self.sock)

    @property
    def session(self):
        """To resume with; of TLS 1.3 only after something was read."""
        return self.sock.session

    @property
    def was_resumed(self):
        return self.sock.session_reused

    def peer_fingerprint(self):
        import hashlib
        return hashlib.sha256(self.sock.getpeercert(True)).hexdigest()


class TlsOrigin:
    """HTTP/1 over TLS: answers with what it knows of the connection, as JSON."""

    def __init__(self, certificate, client_ca=None):
        self.connections, self.snis = 0, []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(certificate.chain_file), str(certificate.key_file))
        context.set_alpn_protocols(["http/1.1"])
        context.sni_callback = lambda sock, name, _: self.snis.append(name)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_ca)
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.plain_address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.address = "https://" + self.plain_address
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            sock.settimeout(PATIENCE)
            with self.context.wrap_socket(sock, server_side=True) as tls:
                self.connections += 1
                data = b""
                while piece := tls.recv(65536):
                    data += piece
                    while b"\r\n\r\n" in data:
                        head, data = data.split(b"\r\n\r\n", 1)
                        peer = tls.getpeercert()
                        body = json.dumps({
                            "version": tls.version(), "head": head.decode("latin-1"),
                            "client": dict(x[0] for x in peer["subject"]) if peer else None}).encode()
                        if b"GET /cut" in head:
                            tls.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
                            sock_fd = tls.detach()
                            socket.socket(fileno=sock_fd).close()
                            return
                        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except OSError:
            pass

    def stop(self):
        self.listener.close()
