# SPDX-License-Identifier: MIT
"""What a request, a connection and a change may cost. With the optimized build."""
import pathlib
import resource
import socket
import struct
import sys
import time

import pytest

from support.net import PATIENCE, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "soak"))

import soak as soak_module  # noqa: E402

WARM = 10_000
IDLE = 2000
IDLE_BYTES_MAX = 512
SLOT = struct.Struct("<6Q")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """test/support/malloc_count.c as a library to preload."""
    path = tmp_path_factory.mktemp("shim") / "malloc_count.so"
    return soak_module.compile_c("test/support/malloc_count.c", path, "-shared", "-fPIC")


@pytest.fixture(scope="module")
def fast_origin(tmp_path_factory):
    with soak_module.fast_origin(tmp_path_factory.mktemp("origin")) as port:
        yield f"127.0.0.1:{port}"


class Counted:
    """A server under the shim: what its threads have taken so far."""

    FIELDS = ("allocations", "frees", "locks", "taken", "given")

    def __init__(self, pointsman, shim, folder, config=None, workers=2):
        self.path = folder / "counts"
        self.server = pointsman(config, release=True, workers=workers,
                                env={"LD_PRELOAD": str(shim), "MALLOC_COUNT": str(self.path)})

    def threads(self):
        """(name, numbers) of each thread that ever was."""
        names = {}
        for task in pathlib.Path(f"/proc/{self.server.pid}/task").iterdir():
            names[int(task.name)] = (task / "comm").read_text().strip()
        return [(names.get(thread, "ended"), dict(zip(self.FIELDS, values)))
                for thread, *values in SLOT.iter_unpack(self.path.read_bytes()) if thread]

    def workers(self):
        """The sum over the workers."""
        rows = [row for name, row in self.threads() if name.startswith("worker")]
        assert rows
        return {field: sum(row[field] for row in rows) for field in self.FIELDS}

    def bytes_in_use(self):
        return sum(row["taken"] - row["given"] for _, row in self.threads())


def run_requests(server, host, count, connections):
    """`count` exchanges over kept connections, taking turns: GET, and POST with a body."""
    body = "x" * 1536
    texts = [f"GET /a/b?c=d HTTP/1.1\r\nHost: {host}\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n",
             f"POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n{body}"]
    ends = [b"x" * 1024, b"\r\n\r\n"]
    texts = [text.encode() for text in texts]
    for i in range(count):
        sock, kind = connections[i % len(connections)], i // len(connections) % 2
        sock.sendall(texts[kind])
        data = sock.recv(65536)
        while not data.endswith(ends[kind]):
            piece = sock.recv(65536)
            assert piece, data
            data += piece
        assert data.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")[kind]), data[:200]


@pytest.mark.parametrize("access_log", [True, False])
@pytest.mark.parametrize("kind", ["targets", "pool"])
def test_warm_requests_take_no_memory_and_no_lock(pointsman, shim, fast_origin, tmp_path, kind,
                                                  access_log):
    config = None if access_log else {"access_log": {"file": ""}}
    counted = Counted(pointsman, shim, tmp_path, config)
    server = counted.server
    server.put_pool("p", [fast_origin])
    where = {"targets": [fast_origin]} if kind == "targets" else {"pool": "p"}
    server.put_route("a.example", request_headers={"set": {"X-A": "1"}}, **where)
    connections = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(8)]
    for sock in connections:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    run_requests(server, "a.example", WARM, connections)
    before = counted.workers()
    run_requests(server, "a.example", WARM, connections)
    after = counted.workers()
    for sock in connections:
        sock.close()
    assert before["allocations"] > 0  # the shim counts
    taken = {name: after[name] - before[name] for name in ("allocations", "frees", "locks")}
    assert taken == {"allocations": 0, "frees": 0, "locks": 0}


@pytest.mark.parametrize("seen", [True, False])
def test_idle_connections_are_small(pointsman, shim, fast_origin, tmp_path, seen):
    """After a request (seen), or silent since they were accepted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * IDLE:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
    counted = Counted(pointsman, shim, tmp_path)
    server, socks = counted.server, []
    server.put_route("a.example", targets=[fast_origin])

    def add(count):
        new = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(count)]
        if seen:
            run_requests(server, "a.example", count, new)
        socks.extend(new)
        wait_until(lambda: server.status()["connections"] >= len(socks), "all accepted")

    try:
        add(100)  # what is made once
        heap, resident = counted.bytes_in_use(), server.memory()
        add(IDLE)
        heap, resident = counted.bytes_in_use() - heap, server.memory() - resident
    finally:
        for sock in socks:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(f"{heap / IDLE:.0f} bytes of heap, {resident / IDLE:.0f} resident for each of {IDLE}")
    assert heap / IDLE <= IDLE_BYTES_MAX, f"{heap / IDLE:.0f} bytes of heap each"
    # Pages, and what malloc keeps beside it.
    assert resident / IDLE <= 2 * IDLE_BYTES_MAX, f"{resident / IDLE:.0f} resident bytes each"


def test_retired_memory_comes_back(pointsman, shim, fast_origin, tmp_path):
    """10,000 changes while the workers sleep: nothing retired is left a second later, and the heap
    is what it was."""
    counted = Counted(pointsman, shim, tmp_path)
    server, in_use, freed = counted.server, [], []
    for turn in range(4):
        for part in range(10):
            lines = [{"op": "put", "kind": "route", "key": f"h{i}.example",
                      "value": {"targets": [fast_origin],
                                "request_headers": {"set": {"X-Turn": f"{turn}-{part}"}}}}
                     for i in range(1000)]
            assert server.batch(lines).status == 200
        end = time.monotonic()
        wait_until(lambda: server.status()["retired"]["versions"] == 0, "retired versions freed")
        freed.append(time.monotonic() - end)
        in_use.append(counted.bytes_in_use())
    print(f"in use after each 10,000 changes: {in_use}, freed after {freed}")
    assert sorted(freed)[1] < 1.0, freed  # but for a turn in which the machine stood still
    # The log of events holds the last 10,000 changes from the first turn on.
    assert in_use[-1] - in_use[1] < 64 * 1024, in_use


def test_idle_workers_do_not_slow_changes(pointsman):
    """A change waits for its durable write, never for a worker to wake."""
    server, slow, calls = pointsman(release=True), [], []
    with server.admin() as session:
        for i in range(300):
            start = time.monotonic()
            reply = session.api("PUT", f"/v1/routes/h{i % 50}.example",
                                json={"respond": {"status": 200, "body": str(i)}})
            taken = time.monotonic() - start
            assert reply.status in (200, 201)
            commit = server.status()["store"]["last_commit_seconds"]
            slow.append(taken - commit)
            start = time.monotonic()
            session.api("GET", f"/v1/routes/h{i % 50}.example")
            calls.append(time.monotonic() - start)
    slow.sort()
    call = sorted(calls)[len(calls) // 2]  # what any call takes here
    print(f"over the commit: p50 {slow[150] * 1e3:.2f} ms, p99 {slow[297] * 1e3:.2f} ms; a call {call * 1e3:.2f} ms")
    assert slow[len(slow) // 2] < 0.005 + 2 * call, f"{slow[len(slow) // 2] * 1000:.2f} ms over its commit"


def test_memory_is_flat(pointsman, fast_origin):
    """A hundredth of script/soak."""
    server = pointsman({"access_log": {"file": ""}}, release=True)
    lines = []
    memory = soak_module.soak(server, int(fast_origin.rsplit(":", 1)[1]), 10_000, 100_000, rounds=5,
                              connections=2, say=lines.append)
    soak_module.check(memory)
    codes = server.stats()["codes"]
    assert codes["200"]["count"] == codes["204"]["count"] == 50_000, codes
