# SPDX-License-Identifier: MIT
"""Many changes at once, and everything taken out again."""
import json
import socket
import threading

import pytest

from support.net import PATIENCE, wait_until


def put(number, **value):
    return {"op": "put", "kind": "route", "key": f"h{number}.example",
            "value": value or {"respond": {"status": 204}}}


def revision(server):
    return server.status()["revision"]


def test_a_batch_is_one_revision(pointsman):
    server = pointsman()
    lines = [put(1, pool="web"), put(2),
             {"op": "put", "kind": "pool", "key": "web", "value": {"targets": []}}]
    answer = server.batch(lines)
    first = revision(server)
    assert answer.status == 200 and answer.headers["Pointsman-Revision"] == str(first)
    assert [(line["line"], line["status"]) for line in answer.lines] == [
        (1, 201), (2, 201), (3, 201)]
    answer = server.batch(lines)
    assert [line["result"] for line in answer.lines] == ["unchanged"] * 3
    assert revision(server) == first
    answer = server.batch([{"op": "delete", "kind": "route", "key": "h1.example"},
                           {"op": "delete", "kind": "pool", "key": "web"}])
    assert [line["result"] for line in answer.lines] == ["deleted"] * 2
    assert revision(server) == first + 1


def test_one_wrong_line_and_nothing_is_done(pointsman):
    server = pointsman()
    before = int(server.put_pool("before").headers["Pointsman-Revision"])
    answer = server.batch([put(1), put(2, pool="none"), put(3)])
    assert answer.status == 422 and revision(server) == before
    assert [line["status"] for line in answer.lines] == [424, 422, 424]
    assert answer.lines[1]["errors"][0]["pointer"] == "/value/pool"
    answer = server.batch([put(1), {"op": "put", "kind": "route", "key": "a b", "value": {}}])
    assert answer.status == 422 and answer.lines[1]["errors"][0]["pointer"] == "/key"
    answer = server.api("POST", "/v1/batch", data=json.dumps(put(1)).encode() + b"\n{nonsense\n")
    assert answer.status == 422 and revision(server) == before


@pytest.mark.deadline(600)
def test_blocks_stand_alone(pointsman):
    server = pointsman()
    before = int(server.put_pool("before").headers["Pointsman-Revision"])
    lines = [put(i) for i in range(25000)]
    lines[15000] = put(15000, pool="none")
    answer = server.batch(lines, timeout=280)
    assert answer.status == 200 and len(answer.lines) == 25001
    assert answer.lines[-1] == {"done": 15000, "failed": 10000}
    assert answer.lines[15000]["status"] == 422 and answer.lines[15001]["status"] == 424
    assert answer.lines[9999]["status"] == answer.lines[20000]["status"] == 201
    assert revision(server) == before + 2 and server.status()["routes"] == 15000


@pytest.mark.deadline(600)
def test_export_comes_back_as_it_was(pointsman):
    server = pointsman()
    lines = [{"op": "put", "kind": "pool", "key": "web", "value": {"targets": ["10.0.0.1"]}}]
    lines += [put(i, pool="web") for i in range(5000)]
    assert server.batch(lines, timeout=280).status == 200
    export = server.api("GET", "/v1/export", timeout=280)
    assert export.headers["Content-Type"] == "application/x-ndjson"
    records = [json.loads(line) for line in export.body.splitlines()]
    assert len(records) == 5001 and records[0]["kind"] == "pool"
    other = pointsman()
    assert other.batch(records, timeout=280).status == 200
    assert other.api("GET", "/v1/export", timeout=280).body == export.body


@pytest.mark.deadline(600)
def test_a_client_that_does_not_read_is_waited_for(pointsman):
    """Answers of 25,000 lines do not pile up, and others are served meanwhile."""
    server = pointsman()
    body = b"".join(json.dumps(put(i % 50)).encode() + b"\n" for i in range(25000))
    before = server.memory()
    with socket.create_connection(("127.0.0.1", server.admin_port), 280) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        head = (f"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode()
        sender = threading.Thread(target=client.sendall, args=(head + body,))
        sender.start()
        wait_until(lambda: server.status()["routes"] > 0, "the first block", 280)
        for _ in range(20):
            assert server.api("GET", "/v1/status").status == 200
        assert server.memory() - before < 300 << 20
        received = b""
        while chunk := client.recv(1 << 20):
            received += chunk
        sender.join()
    assert b'{"done":25000,"failed":0}' in received and received.endswith(b"0\r\n\r\n")


def test_long_lines_are_refused_alone(pointsman):
    server = pointsman()
    data = json.dumps(put(1)).encode() + b"\n" + b"x" * (3 << 20) + b"\n"
    answer = server.api("POST", "/v1/batch", data=data)
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert answer.status == 422 and [line["status"] for line in lines] == [424, 413]


def test_batches_that_break_off_do_nothing(pointsman):
    server = pointsman()
    line = json.dumps(put(1)).encode() + b"\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.admin_port), PATIENCE) as client:
            client.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Length: 100000\r\n\r\n" + line * 3)
    # Had they kept their places, the bound on batches would show.
    wait_until(lambda: server.batch([put(2)]).status == 200, "room for a batch")
    for _ in range(10):
        assert server.batch([put(2)]).status == 200
    assert server.status()["routes"] == 1
