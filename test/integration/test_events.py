# SPDX-License-Identifier: MIT
"""Server-sent events: what changes, from where a reader left, and slow readers."""
import contextlib
import http.client
import json
import socket

import pytest

from support.net import PATIENCE, wait_until

POOL = {"targets": []}


class Reader:
    """An event stream; next() gives {event, id, data}."""

    def __init__(self, server, query="", headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=PATIENCE)
        self.connection.request("GET", "/v1/events" + query, headers=headers or {})
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        assert self.response.getheader("Content-Type") == "text/event-stream"

    def next(self):
        event = {}
        while True:
            line = self.response.readline()
            assert line, "the stream ended"
            line = line.decode().rstrip("\n")
            if line == "" and "event" in event:
                event["data"] = json.loads(event["data"])
                return event
            if line == "":
                event = {}
            elif not line.startswith(":"):
                name, value = line.split(": ", 1)
                event[name] = value

    def close(self):
        self.response.close()
        self.connection.close()


def revision_of(answer):
    return int(answer.headers["Pointsman-Revision"])


@contextlib.contextmanager
def reading(server, query="", headers=None):
    reader = Reader(server, query, headers)
    try:
        yield reader
    finally:
        reader.close()


def test_changes_as_they_become_live(pointsman):
    server = pointsman()
    before = revision_of(server.put_pool("before"))
    with reading(server) as reader:
        server.put_pool("web")
        server.put_route("a.example", pool="web")
        server.delete_route("a.example")
        seen = [reader.next() for _ in range(3)]
    assert [event["event"] for event in seen] == ["change"] * 3
    assert [int(event["id"]) - before for event in seen] == [1, 2, 3]
    assert [(e["data"]["op"], e["data"]["kind"], e["data"]["key"]) for e in seen] == [
        ("put", "pool", "web"), ("put", "route", "a.example"), ("delete", "route", "a.example")]


def test_readers_go_on_where_they_left(pointsman):
    server = pointsman()
    _, b, c, d = [revision_of(server.put_pool(name)) for name in "abcd"]
    with reading(server, f"?since={b}") as reader:
        assert [int(reader.next()["id"]) for _ in range(2)] == [c, d]
    with reading(server, "?since=0", {"Last-Event-ID": str(c)}) as reader:
        assert int(reader.next()["id"]) == d
    server.restart()
    # What was before the start is not in memory any more.
    with reading(server, f"?since={b}") as reader:
        event = reader.next()
        assert event["event"] == "reset" and int(event["id"]) == d
    with reading(server, f"?since={d}") as reader:
        server.put_pool("e")
        assert int(reader.next()["id"]) == d + 1
    with reading(server, "?since=1000") as reader:
        assert reader.next()["event"] == "reset"
    assert server.api("GET", "/v1/events?since=x").status == 400


def test_only_the_last_event_of_a_revision_has_its_id(pointsman):
    server = pointsman()
    with reading(server) as reader:
        done = server.batch([{"op": "put", "kind": "pool", "key": name, "value": POOL}
                             for name in "abc"])
        seen = [reader.next() for _ in range(3)]
    assert [event.get("id") for event in seen] == [None, None, str(revision_of(done))]


@pytest.mark.deadline(600)
def test_old_revisions_are_reset(pointsman):
    server = pointsman()
    a, b = revision_of(server.put_pool("a")), revision_of(server.put_pool("b"))
    lines = [{"op": "put", "kind": "route", "key": f"h{i}.example",
              "value": {"respond": {"status": 204}}} for i in range(10000)]
    assert server.batch(lines, timeout=280).status == 200
    with reading(server, f"?since={a}") as reader:
        assert reader.next()["event"] == "reset"
    with reading(server, f"?since={b}") as reader:
        seen = [reader.next() for _ in range(10000)]
    assert int(seen[-1]["id"]) == b + 1 and seen[0]["data"]["key"] == "h0.example"


@pytest.mark.deadline(600)
def test_slow_readers_are_cut_and_quick_ones_are_not(pointsman):
    server = pointsman()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", server.admin_port))
    slow.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert slow.recv(100).startswith(b"HTTP/1.1 200")
    for turn in range(8):
        lines = [{"op": "put", "kind": "route", "key": f"h{i}.example",
                  "value": {"respond": {"status": 200 + turn}}} for i in range(10000)]
        assert server.batch(lines, timeout=280).status == 200
    # What waits in the kernel can still be read; then the end shows.
    slow.settimeout(PATIENCE)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := slow.recv(65536):
            received += chunk
    slow.close()
    assert not received.endswith(b"0\r\n\r\n")
    with reading(server) as reader:
        server.put_pool("web")
        assert reader.next()["data"]["key"] == "web"


def test_readers_that_leave_make_room(pointsman):
    server = pointsman()
    readers = [Reader(server) for _ in range(100)]
    assert server.api("GET", "/v1/events").status == 503
    for reader in readers:
        reader.close()

    def has_room():
        try:
            with reading(server):
                return True
        except AssertionError:
            return False

    wait_until(has_room, "room for a reader")
