# SPDX-License-Identifier: MIT
"""limits.buffers: what bodies may hold of the node's memory, over all connections."""
import tempfile

import pytest

from support.http1 import Connection
from support.net import wait_until

HOST = "a.example"
MIB = 1 << 20


@pytest.fixture
def small(pointsman, origin):
    """One worker: 2 MiB for what is queued, 2 MiB for kept bodies."""
    server = pointsman({"limits": {"buffers": "4m"}}, workers=1, start=False)
    with tempfile.TemporaryDirectory() as folder:  # a unix path is short
        server.http_path = f"{folder}/http.sock"
        server.config["listen"]["http"].append(f"unix:{server.http_path}")
        server.start()
        target = origin()
        server.put_route(HOST, targets=[target])
        yield server, target


def test_clients_that_do_not_read_share_a_bound(small):
    server, _ = small
    page = "x" * 65000
    server.put_route("big.example", respond={"status": 200, "body": page})
    conns = []
    for _ in range(200):
        conn = Connection(server.http_path)  # the kernel takes less of it than over TCP
        conn.send(b"GET / HTTP/1.1\r\nHost: big.example\r\n\r\n" * 40)
        conns.append(conn)
    wait_until(lambda: server.stats()["counters"]["no_memory_total"] > 0, "the bound is reached")
    wait_until(lambda: any(r["pointsman.end"] == "no_memory" for r in server.log_records(1)),
               "it is logged")
    with server.connect() as conn:  # who reads is served
        for _ in range(20):
            assert conn.exchange(host=HOST).status == 200
    for conn in conns:
        conn.close()
    wait_until(lambda: server.status()["connections"] == 0, "all ended")
    assert server.get(host="big.example").text == page


def test_kept_bodies_share_a_bound(small):
    """Beyond it a body is sent on before it is complete; nothing of it is lost."""
    server, target = small
    server.put_route(HOST, targets=[target], buffer_request="100m")
    reply = server.exchange("POST", host=HOST, body=b"x" * (30 * MIB))
    assert reply.status == 200 and reply.json["body_len"] == 30 * MIB
    assert server.stats()["counters"]["no_memory_total"] == 0
