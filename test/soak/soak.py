#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Memory stays flat over changes and requests.

    test/soak/soak.py [--changes N] [--requests N] [--rounds N] [--connections N] [--silent N]

Runs the release build with changes (single and in batches: put, change, delete) and requests
beside each other in rounds. Resident memory after each round is printed; from half of the rounds on
it must not grow by more than the bound. Exit status 0 or 1. The tests run a hundredth.
"""
import argparse
import contextlib
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "integration"))

from support.net import free_port, is_listening, wait_until  # noqa: E402
from support.process import Pointsman  # noqa: E402

HOSTS = 2000  # that come and go
GROWTH_MAX = 0.03  # of resident memory over the second half of the rounds
GROWTH_FREE = 2 << 20  # bytes that never count as growth


def compile_c(source, to, *flags):
    """A C file of this tree as a program or library; the path."""
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-std=gnu17", *flags, "-o", str(to),
                    str(ROOT / source)], check=True)
    return to


@contextlib.contextmanager
def fast_origin(folder, body_len=1024):
    """bench/origin.c, compiled and running; gives its port."""
    program = compile_c("bench/origin.c", pathlib.Path(folder) / "origin")
    port = free_port()
    process = subprocess.Popen([str(program), str(port), str(body_len)])
    try:
        wait_until(lambda: is_listening(port), "the origin listens")
        yield port
    finally:
        process.terminate()
        process.wait()


class Requests(threading.Thread):
    """Sends `count` requests over kept connections, pipelined in small groups; every 1,000 the
    connection is a new one. Half of them have a body. Reads whole answers, checks their number."""

    GROUP = 20
    PER_CONNECTION = 1000

    def __init__(self, port, count, host="soak.example"):
        super().__init__(daemon=True)
        self.port, self.count, self.host, self.fault = port, count, host, None
        post = f"POST /p HTTP/1.1\r\nHost: {host}\r\nContent-Length: 200\r\n\r\n" + "x" * 200
        get = f"GET /g?a=b HTTP/1.1\r\nHost: {host}\r\nUser-Agent: soak\r\n\r\n"
        self.group = ((get + post) * (self.GROUP // 2)).encode()

    def run(self):
        try:
            left = self.count
            while left > 0:
                take = min(left, self.PER_CONNECTION)
                self.run_connection(take)
                left -= take
        except (OSError, AssertionError) as fault:
            self.fault = fault

    def run_connection(self, count):
        with socket.create_connection(("127.0.0.1", self.port), 30) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(max(count // self.GROUP, 1)):
                sock.sendall(self.group)
                self.read_group(sock)

    def read_group(self, sock):
        data = b""
        while data.count(b"HTTP/1.1 ") < self.GROUP or not data.endswith(b"\r\n\r\n"):
            piece = sock.recv(262144)
            assert piece, f"closed after {data[-300:]!r}"
            data += piece  # a group ends with the answer to a POST: 204, no body
        assert data.count(b"HTTP/1.1 200") == data.count(b"HTTP/1.1 204") == self.GROUP // 2, data


class Changes(threading.Thread):
    """`count` changes, a sixth single, the rest in batches: HOSTS routes are put, changed and
    deleted, the pool that the requests use and others are changed."""

    BATCH = 500

    def __init__(self, server, count, origin_port):
        super().__init__(daemon=True)
        self.server, self.count, self.fault = server, count, None
        self.target, self.turn = f"127.0.0.1:{origin_port}", 0

    def line(self, i):
        host = f"h{i * 7919 % HOSTS}.example"
        if i % 5 == 4:
            return {"op": "put", "kind": "pool", "key": f"p{i % 50}",
                    "value": {"targets": [{"address": self.target, "weight": 1 + i % 7},
                                          {"address": f"10.0.{i % 200}.1:80", "state": "down"}]}}
        if i % 5 == 3 and self.turn > 0:
            return {"op": "put", "kind": "route", "key": host,
                    "value": {"pool": f"p{i % 10 * 5 + 4}"}}
        return {"op": "put", "kind": "route", "key": host,
                "value": {"targets": [self.target], "request_headers": {"set": {"X-I": str(i)}}}}

    def run(self):
        try:
            with self.server.admin(60) as session:
                done = 0
                while done < self.count:
                    done += self.run_batch(session, done)
                    done += self.run_single(session, done)
        except Exception as fault:  # told by the main thread
            self.fault = fault

    def run_batch(self, session, start):
        lines = [self.line(start + i) for i in range(self.BATCH)]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        reply = session.api("POST", "/v1/batch", data=data,
                            headers={"Content-Type": "application/x-ndjson"})
        assert reply.status == 200, reply
        self.turn += 1
        return self.BATCH

    def run_single(self, session, start):
        for i in range(50):
            reply = session.api("PUT", "/v1/pools/soak", json={"targets": [
                {"address": self.target, "weight": 1 + (start + i) % 9}]})
            assert reply.status in (200, 201), reply
            host = f"h{(start + i) % HOSTS}.example"
            reply = session.api("DELETE", f"/v1/routes/{host}")
            assert reply.status in (204, 404), reply
        return 100


def wait_freed(server):
    """Retired versions are gone: what is left is in use."""
    wait_until(lambda: server.status()["retired"]["versions"] == 0, "retired versions freed", 10)


def run_round(server, origin_port, changes, requests, connections):
    senders = [Requests(server.port, requests // connections) for _ in range(connections)]
    threads = [*senders, Changes(server, changes, origin_port)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        if thread.fault:
            raise AssertionError(f"{type(thread).__name__}: {thread.fault!r}")
    wait_freed(server)


def soak(server, origin_port, changes, requests, rounds=10, connections=4, say=print):
    """Runs; the resident bytes after each round."""
    server.put_pool("soak", [f"127.0.0.1:{origin_port}"])
    server.put_route("soak.example", pool="soak")
    memory, start = [], time.monotonic()
    for turn in range(rounds):
        run_round(server, origin_port, changes // rounds, requests // rounds, connections)
        memory.append(server.memory())
        say(f"round {turn + 1}/{rounds}: {memory[-1] / 1048576:.2f} MiB resident, "
            f"revision {server.status()['revision']}, {time.monotonic() - start:.0f} s")
    return memory


def check(memory):
    """The bytes by which the second half of the rounds grew; AssertionError over the bound."""
    half = memory[len(memory) // 2 - 1]
    grown, allowed = memory[-1] - half, max(GROWTH_FREE, int(half * GROWTH_MAX))
    assert grown <= allowed, f"memory grew by {grown} bytes in the second half: {memory}"
    return grown


def check_silent(server, count):
    """`count` connections that send nothing: each costs little, and others are served."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count, before, socks = min(count, (hard - 500) // 2), server.memory(), []
    try:
        for _ in range(count):
            socks.append(socket.create_connection(("127.0.0.1", server.port), 10))
        wait_until(lambda: server.status()["connections"] >= count, "all accepted", 30)
        each = (server.memory() - before) / count
        assert each < 1024, f"{each:.0f} bytes for each of {count} silent connections"
        sender = Requests(server.port, 10_000)
        sender.run()
        assert sender.fault is None, f"beside {count} silent connections: {sender.fault!r}"
    finally:
        for sock in socks:
            sock.close()
    wait_until(lambda: server.status()["connections"] == 0, "all closed", 30)
    return f"{count} silent connections: {each:.0f} bytes each, the others served"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--silent", type=int, default=10_000,
                        help="connections that send nothing, at the end")
    args = parser.parse_args()
    # What script/soak has built, even where another optimized build lies about.
    os.environ.setdefault("POINTSMAN_RELEASE_BINARY", str(ROOT / "build/release/src/pointsman"))
    with tempfile.TemporaryDirectory() as folder, fast_origin(folder) as port:
        server = Pointsman(folder, {"access_log": {"file": ""}, "timeouts": {"header": "60s"}},
                           release=True).start()
        try:
            memory = soak(server, port, args.changes, args.requests, args.rounds, args.connections)
            grown = check(memory)
            print(check_silent(server, args.silent))
        except AssertionError as fault:
            print(f"FAILED: {fault}")
            return 1
        finally:
            server.stop()
    print(f"flat: {grown / 1024:+.0f} KiB over the second half of {args.changes} changes and "
          f"{args.requests} requests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
