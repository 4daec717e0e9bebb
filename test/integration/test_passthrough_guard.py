# SPDX-License-Identifier: MIT
"""What does not get through a route with passthrough: HTTP, other names, the admin API."""
import ssl

import pytest

from support.tls import TlsConnection, client_context


def test_http_does_not_reach_the_target(pointsman, origin, certs):
    server, target = pointsman(https=True), origin()
    certificate = certs.issue("here.example")
    server.put_certificate("here", certificate.chain, certificate.key)
    server.put_route("here.example", respond={"status": 204})
    server.put_route("raw.example", targets=[target], passthrough=True)
    assert server.get(host="raw.example").status == 404
    for sni in ("here.example", None):
        with TlsConnection(server.https_port, sni, client_context()) as conn:
            assert conn.exchange("GET", "/", "raw.example").status == 421
            assert conn.exchange("GET", "/", "here.example").status == 204
    assert target.requests == []


def test_the_admin_api_is_no_target(pointsman):
    """It takes TLS too: who is passed through would seem to come from this machine."""
    server = pointsman(https=True)
    for number, target in enumerate([f"127.0.0.1:{server.admin_port}", f"0.0.0.0:{server.admin_port}"]):
        host = f"a{number}.example"
        server.put_route(host, targets=[target], passthrough=True)
        with pytest.raises((ssl.SSLError, OSError)):
            TlsConnection(server.https_port, host, client_context(alpn=()))
