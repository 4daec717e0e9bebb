# SPDX-License-Identifier: MIT
"""Three nodes on one Redis: how soon a write is live on all of them, how many a second, how long a node
takes that missed some; and what requests notice of a Redis that is away."""
import os
import pathlib
import select
import signal
import socket
import threading
import time

import redis as client_library

import changes
import measure
from measure import median, percentile

from support.deploys import Load, build_load
from support.net import free_port, wait_until
from support.process import Pointsman
from support.redis import RedisServer

CASES = {}
BATCH = 10_000
AWAY_RATE = 1000  # requests a second


def case(function):
    CASES[function.__name__] = function
    return function


def pin(server, core):
    for task in os.listdir(f"/proc/{server.pid}/task"):
        os.sched_setaffinity(int(task), {core})


def stand_back(task):
    """Lets a task (0: this thread) run only when nobody else wants its core: load and origin come first."""
    os.sched_setscheduler(task, os.SCHED_IDLE, os.sched_param(0))


def is_ready(node):
    try:
        return node.api("GET", "/readyz", timeout=2).status == 200
    except OSError:
        return False


def start_nodes(bench, url, count=3):
    nodes = []
    for number in range(count):
        folder = bench.new_folder()
        folder.mkdir(parents=True)
        nodes.append(Pointsman(folder, {"node": {"name": f"node{number}"}, "store": {"url": url},
                                        "access_log": {"file": ""}},
                               release=True, workers=1).start(wait=False))
    wait_until(lambda: all(is_ready(node) for node in nodes), "all nodes are ready", 300, 0.05)
    return nodes


def wait_same(nodes, revision, timeout):
    """Seconds until all nodes serve that revision (one that reads everything has it only at the end)."""
    def is_there(node):
        status = node.status()
        return (status["revision"] >= revision
                and status["store"]["fleet"]["state"] == "following")

    start = time.monotonic()
    wait_until(lambda: all(is_there(node) for node in nodes), f"all nodes are at {revision}",
               timeout, 0.01)
    return time.monotonic() - start


def load(node, count, target):
    start = time.monotonic()
    for first in range(0, count, BATCH):
        answer = node.batch([
            {"op": "put", "kind": "route", "key": f"h{i:07}.example",
             "value": {"targets": [target]}} for i in range(first, min(first + BATCH, count))],
            timeout=120)
        if answer.status != 200:
            raise RuntimeError(f"batch: {answer}")
    return time.monotonic() - start


def write_to_live(bench, nodes, target, count):
    sock = changes.connect(nodes[0])
    times = sorted(changes.put_one(
        sock, changes.encode_put(f"c{i % 1000}.example?wait=fleet", target, i)) * 1000
        for i in range(count))
    sock.close()
    p99 = percentile(times, 0.99)
    bench.row("write to live on 3 nodes, p99", p99, "ms",
              f"median {median(times):.2f} ms, most {times[-1]:.1f} ms, {count:,} writes",
              "at most 20", p99 <= 20)


def sustained(bench, nodes, target, rate, seconds):
    changers = [changes.Changer(node, rate / 3, seconds, target) for node in nodes]
    start = time.monotonic()
    for changer in changers:
        changer.start()
    for changer in changers:
        changer.join(seconds * 4 + 60)
        if changer.fault is not None:
            raise RuntimeError(changer.fault)
    taken = time.monotonic() - start
    done = sum(changer.done for changer in changers)
    lag = wait_same(nodes, max(node.status()["revision"] for node in nodes), 60)
    latencies = sorted(t * 1000 for changer in changers for t in changer.latencies)
    bench.row("writes a second, from 3 nodes", done / taken, "writes/s",
              f"{done:,} of them, p99 {percentile(latencies, 0.99):.1f} ms, all nodes follow "
              f"{lag:.2f} s after the last", "2,000", done / taken >= 0.98 * rate)


def scan_seconds(server):
    """What it takes to transfer all routes, with nothing done with them."""
    client = client_library.Redis(host=server.host, port=server.port)
    start, cursor = time.monotonic(), "0"
    while True:
        cursor, _ = client.execute_command("HSCAN", "pointsman:routes", cursor, "COUNT", 1000)
        if int(cursor) == 0:
            return time.monotonic() - start


def missed(bench, server, nodes, target):
    node = nodes[2]
    before = node.status()["store"]["fleet"]["resyncs"]
    node.signal(signal.SIGSTOP)
    for i in range(100):
        nodes[0].put_route(f"missed{i}.example", targets=[target])
    revision = nodes[0].status()["revision"]
    server.client.xtrim("pointsman:stream", maxlen=0, approximate=False)
    transfer = scan_seconds(server)
    node.signal(signal.SIGCONT)
    taken = wait_same([node], revision, 120)
    status = node.status()["store"]["fleet"]
    if status["resyncs"] <= before:
        raise RuntimeError("it did not read everything anew")
    bench.row("resync after a gap", taken, "s",
              f"{status['resync']['changed']} changed; transfer alone {transfer:.2f} s",
              "2 s and the transfer", taken <= 2 + transfer)


@case
def fleet_changes(bench):
    """3 nodes, 1,000,000 routes: write to live, writes a second, resync"""
    count = 50_000 if bench.quick else 1_000_000
    folder = pathlib.Path(bench.new_folder())
    server = RedisServer(folder).start()
    nodes = []
    target = f"127.0.0.1:{bench.origin_port}"
    try:
        nodes = start_nodes(bench, server.url())
        taken = load(nodes[0], count, target)
        lag = wait_same(nodes, nodes[0].status()["revision"], 600)
        bench.row("routes loaded through one node", count / taken, "routes/s",
                  f"{count:,}; the others have them {lag:.1f} s later; resident "
                  f"{max(node.memory() for node in nodes) >> 20} MiB a node, Redis "
                  f"{server.client.info('memory')['used_memory'] >> 20} MiB")
        write_to_live(bench, nodes, target, 300 if bench.quick else 2000)
        sustained(bench, nodes, target, 2000, 5 if bench.quick else 30)
        missed(bench, server, nodes, target)
        late = start_nodes(bench, server.url(), 1)[0]
        nodes.append(late)
        status = late.status()["store"]["fleet"]
        bench.row("first sync of a new node", status["resync"]["seconds"], "s",
                  f"resident {late.memory() >> 20} MiB")
    finally:
        for node in nodes:
            node.stop()
        server.stop()


class Relay(threading.Thread):
    """Between a node and Redis: what Redis says can be held back for .delay seconds."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.target, self.delay, self.pairs, self.held = port, 0.0, {}, []
        self.listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = self.listener.getsockname()[1]
        self.ending = False

    def accept(self):
        client = self.listener.accept()[0]
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 1)
        except OSError:
            client.close()
            return
        self.pairs[client], self.pairs[server] = (server, False), (client, True)

    def close(self, sock):
        other = self.pairs.pop(sock, (None, None))[0]
        sock.close()
        if other is not None and other in self.pairs:
            self.close(other)

    def move(self, sock):
        other, is_reply = self.pairs[sock]
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.close(sock)
        elif is_reply and self.delay:
            self.held.append((time.monotonic() + self.delay, other, data))
        else:
            self.send(other, data)

    def send(self, sock, data):
        try:
            sock.sendall(data)
        except OSError:
            self.close(sock)

    def run(self):
        stand_back(0)
        while not self.ending:
            for sock in select.select([self.listener, *self.pairs], [], [], 0.02)[0]:
                if sock is self.listener:
                    self.accept()
                elif sock in self.pairs:
                    self.move(sock)
            while self.held and self.held[0][0] <= time.monotonic():
                _, sock, data = self.held.pop(0)
                if sock in self.pairs:
                    self.send(sock, data)


def condition(name, server, relay):
    """Puts Redis into a state; returns what undoes it."""
    if name == "paused":
        server.pause()
        return server.resume
    if name == "killed":
        server.kill9()
        return server.start
    if name == "answers in 5 s":
        relay.delay = 5.0
        return lambda: setattr(relay, "delay", 0.0)
    return lambda: None


def measure_away(bench, name, program, node, server, relay):
    undo = condition(name, server, relay)
    time.sleep(1.5)
    run = Load(program, node, "steady.example", AWAY_RATE, bench.seconds).result()
    undo()
    stand_back(server.process.pid)
    wait_until(lambda: node.status()["store"]["fleet"]["state"] == "following", "it follows again", 30)
    return run


def show_away(bench, name, pairs):
    """pairs: a run and the mean p99 of the healthy ones right before and after it."""
    runs = [run for run, _, _ in pairs]
    change = median([run["p99_us"] / healthy for run, healthy, _ in pairs]) - 1
    more = median([run["max_us"] - most for run, _, most in pairs]) / 1000
    failed = sum(run["bad"] + run["unanswered"] for run in runs)
    bench.row(f"Redis {name}: p99", median([run["p99_us"] for run in runs]) / 1000, "ms",
              f"{change * 100:+.1f} % of the healthy ones around it (median of {len(pairs)}), most "
              f"{max(run['max_us'] for run in runs) / 1000:.1f} ms ({more:+.1f}), {failed} failed",
              "+10 %, most +50 ms", change <= 0.1 and more <= 50 and failed == 0)


@case
def fleet_redis_away(bench):
    """Latency of requests with Redis healthy, paused, killed, and answering in 5 s"""
    names = ["paused", "killed", "answers in 5 s"]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {measure.LOAD_CORE})  # load, Redis and relay; the node is moved
    folder = pathlib.Path(bench.new_folder())
    folder.mkdir(parents=True)
    program = build_load(folder)
    server = RedisServer(folder / "redis", options=["--appendonly", "yes"]).start()
    relay = Relay(server.port)
    relay.start()
    node = start_nodes(bench, f"redis://127.0.0.1:{relay.port}/0", 1)[0]
    results = {name: [] for name in names}
    healthy = []
    try:
        stand_back(server.process.pid)
        node.put_route("steady.example", targets=[f"127.0.0.1:{bench.origin_port}"])
        pin(node, measure.PROXY_CORE)
        healthy.append(measure_away(bench, "healthy", program, node, server, relay))
        for _ in range(bench.rounds):
            for name in names:
                run = measure_away(bench, name, program, node, server, relay)
                healthy.append(measure_away(bench, "healthy", program, node, server, relay))
                around = healthy[-2:]
                results[name].append((run, sum(one["p99_us"] for one in around) / 2,
                                      max(one["max_us"] for one in around)))
    finally:
        node.stop()
        relay.ending = True
        server.stop()
        os.sched_setaffinity(0, before)
    bench.row("Redis healthy: p99", median([run["p99_us"] for run in healthy]) / 1000, "ms",
              f"{len(healthy)} runs, {min(run['p99_us'] for run in healthy) / 1000:.2f} to "
              f"{max(run['p99_us'] for run in healthy) / 1000:.2f} ms, most "
              f"{max(run['max_us'] for run in healthy) / 1000:.1f} ms")
    for name in names:
        show_away(bench, name, results[name])
