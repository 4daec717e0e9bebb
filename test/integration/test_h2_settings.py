# SPDX-License-Identifier: MIT
"""What an HTTP/2 connection says of itself at its beginning, and that it keeps to it."""
import struct
import threading

import pytest

from support import h2 as h
from support import origin as o
from support.h2 import H2Origin, RawH2, frame
from support.net import PATIENCE

HOST = "localhost"
ENABLE_PUSH, MAX_STREAMS, WINDOW, HEADER_LIST, CONNECT, NO_PRIORITIES = 2, 3, 4, 6, 8, 9
REFUSED_STREAM = 7


@pytest.fixture
def site(pointsman, origin):
    server, target = pointsman({"limits": {"h2_streams": 3}}), origin()
    server.put_route(HOST, targets=[target])
    return server, target


def settings_of(payload):
    return dict(struct.iter_unpack(">HI", payload))


def test_settings(site):
    server, _ = site
    with RawH2(server.port, tls=False) as client:
        said = settings_of(client.wait(h.SETTINGS))
    assert said[MAX_STREAMS] == 3
    assert said[WINDOW] == 256 << 10
    assert said[HEADER_LIST] == 32 << 10
    assert said[CONNECT] == 1 and said[NO_PRIORITIES] == 1


class NewClient(RawH2):
    """One that has not acknowledged our settings: it cannot know of the limit."""

    def __init__(self, port):
        super().__init__(port, tls=False)
        self.sock.close()
        self.sock = h.open_socket(port, False)
        self.frames, self.rest, self.ended = [], b"", False
        self.sock.sendall(h.PREFACE + frame(h.SETTINGS))


def test_streams_over_the_limit_are_refused(site):
    """The ones under way go on, and when they have ended there is room again."""
    server, target = site
    gate = threading.Event()
    target.on("/slow", lambda request, peer: (gate.wait(PATIENCE), o.respond(body=b"done")(request, peer))[1])
    with NewClient(server.port) as client:
        for stream in (1, 3, 5, 7):
            client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, stream,
                              client.head("/slow", scheme="http")))
        assert client.wait(h.RST_STREAM, 7) == struct.pack(">I", REFUSED_STREAM)
        gate.set()
        for stream in (1, 3, 5):
            assert client.status(stream) == 200
        client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, 9, client.head("/", scheme="http")))
        assert client.status(9) == 200
    assert len([r for r in target.requests if r.target == "/slow"]) == 3


def test_who_knows_the_limit_must_keep_to_it(site):
    server, target = site
    gate = threading.Event()
    target.on("/slow", lambda request, peer: (gate.wait(PATIENCE), o.respond(body=b"done")(request, peer))[1])
    with RawH2(server.port, tls=False) as client:
        for stream in (1, 3, 5, 7):
            client.send(frame(h.HEADERS, h.END_STREAM | h.END_HEADERS, stream,
                              client.head("/slow", scheme="http")))
        assert client.read_to_end()
        assert client.goaway == h.PROTOCOL_ERROR
    gate.set()
    assert server.metrics()["pointsman_h2_protocol_errors_total"] == 1


def test_pings_are_answered(site):
    server, _ = site
    with RawH2(server.port, tls=False) as client:
        client.send(frame(h.PING, 0, 0, b"01234567"))
        assert client.wait(h.PING) == b"01234567"


def test_targets_may_not_push(pointsman):
    seen = []

    def answer(origin, conn, stream, headers, body, trailers):
        seen.append(conn.conn.remote_settings.enable_push)
        conn.respond(stream, [(":status", "204")])

    target = H2Origin(answer)
    try:
        server = pointsman()
        server.put_route(HOST, targets=[target.address])
        assert server.get(host=HOST).status == 204
    finally:
        target.stop()
    assert seen == [0]
