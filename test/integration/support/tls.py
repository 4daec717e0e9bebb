# SPDX-License-Identifier: MIT
"""TLS clients for the tests."""
import socket
import ssl

from support.http1 import Connection, Wire

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

    def __init__(self, port, sni="localhost", context=None, session=None, timeout=10.0, preamble=b""):
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
