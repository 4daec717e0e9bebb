#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What requests, connections, routes and changes cost, here and in nginx; with TLS and
HTTP/2 also in HAProxy and H2O.

    bench/bench.py [--quick] [--rounds N] [--seconds N] [--only CASE]... [--json FILE] [--list]

The proxy has one worker and core 0; load (wrk) and origin (bench/origin.c) have core 1. Peers take
turns in rounds; the figures are medians. Run it on a machine with nothing else to do.
"""
import argparse
import json
import os
import pathlib
import platform
import resource
import socket
import sys
import tempfile
import time

import measure
from measure import median, percentile

import changes
import fleet
import peers
import soak
import tls
import upstreams
from support.net import wait_until
from support.process import Pointsman

CASES = {}
NOISE_MAX = 0.03  # seconds per second that a quiet machine is busy; subtracted


def case(function):
    CASES[function.__name__] = function
    return function


class Bench:
    """What the cases share: sizes, a folder, the origin, the results."""

    def __init__(self, quick, folder, origin_port):
        self.quick, self.folder, self.origin_port = quick, pathlib.Path(folder), origin_port
        self.rounds, self.seconds = (2, 2) if quick else (7, 6)
        self.rows, self.count = [], 0

    def new_folder(self):
        self.count += 1
        return self.folder / str(self.count)

    def row(self, name, value, unit, note="", goal=None, passed=None):
        """One line of the table. goal: in words; passed: whether it was reached."""
        self.rows.append({"case": name, "value": value, "unit": unit, "note": note, "goal": goal,
                          "passed": passed})
        mark = {None: "", True: "  ok", False: "  MISSED"}[passed]
        value = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        goal = f"  [goal {goal}{mark}]" if goal else ""
        print(f"{name:<46} {value:>14} {unit:<12} {note}{goal}", flush=True)


def compare(bench, name, log, post):
    """Rounds in turns against both peers, CPU per request of each."""
    routes = 10_000 if bench.quick else 100_000
    ours = peers.Ours(bench.new_folder(), bench.origin_port, log, routes)
    sides = [ours]
    if peers.nginx_program():
        sides.append(peers.Nginx(bench.new_folder(), bench.origin_port, log))
    results = {side.name: [] for side in sides}
    try:
        noise = measure.idle_noise(measure.PROXY_CORE)
        if noise > NOISE_MAX:
            print(f"bench: core {measure.PROXY_CORE} is {noise:.0%} busy with something else; the "
                  "processes' own times say more", file=sys.stderr)
            noise = 0.0
        for _ in range(bench.rounds):
            for side in sides:
                results[side.name].append(
                    measure.run_load(side, bench.seconds, noise, post=post))
    finally:
        for side in sides:
            side.stop()
    middle = {}
    for side, runs in results.items():
        middle[side] = {key: median([run[key] for run in runs]) for key in runs[0]}
        row = middle[side]
        bench.row(f"{name}: {side}", row["core_us"], "us/request",
                  f"processes {row['process_us']:.2f} us, {row['per_second']:,.0f}/s, "
                  f"p99 {row['p99_ms']:.2f} ms")
    if len(middle) == 2:
        share = middle["pointsman"]["core_us"] / middle["nginx"]["core_us"]
        bench.row(f"{name}: pointsman / nginx", share, "", f"{routes:,} routes against 1",
                  "at most 0.95", share <= 0.95)


@case
def get_log_off(bench):
    """GET, 1 KiB, 100 keep-alive connections, access log off"""
    compare(bench, "GET 1 KiB, log off", log=False, post=False)


@case
def get_log_on(bench):
    """The same, access log on"""
    compare(bench, "GET 1 KiB, log on", log=True, post=False)


@case
def post_log_off(bench):
    """POST of 1.5 KiB answered 204, access log off"""
    compare(bench, "POST 1.5 KiB, log off", log=False, post=True)


@case
def post_log_on(bench):
    """The same, access log on"""
    compare(bench, "POST 1.5 KiB, log on", log=True, post=True)


def open_idle(port, count):
    """Connections that have had one request each."""
    text = b"GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n"
    socks = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 10)
        sock.sendall(text)
        data = b""
        while not data.endswith(b"x" * 1024):
            piece = sock.recv(65536)
            if not piece:
                raise RuntimeError("refused: is the limit of open files high enough?")
            data += piece
        socks.append(sock)
    return socks


@case
def idle_connections(bench):
    """Memory of idle keep-alive connections"""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(1000 if bench.quick else 10_000, (hard - 500) // 2)
    kinds = [peers.Ours] + ([peers.Nginx] if peers.nginx_program() else [])
    for kind in kinds:
        side = kind(bench.new_folder(), bench.origin_port, False)
        socks = []
        try:
            socks += open_idle(side.port, 200)
            before = measure.resident(side.pids())
            socks += open_idle(side.port, count)
            each = (measure.resident(side.pids()) - before) / count
        finally:
            for sock in socks:
                sock.close()
            side.stop()
        ours = kind is peers.Ours
        bench.row(f"idle connection: {side.name}", each, "bytes", f"resident, {count:,} of them",
                  "at most 512" if ours else None, each <= 512 if ours else None)


@case
def million_routes(bench):
    """Memory and load time of 1,000,000 routes with one target each"""
    count = 50_000 if bench.quick else 1_000_000
    folder = bench.new_folder()
    folder.mkdir()
    server = Pointsman(folder, {"access_log": {"file": ""}}, release=True, workers=1).start()
    start = time.monotonic()
    peers.load_routes(server, count)
    bench.row("routes: batch", count / (time.monotonic() - start), "routes/s", f"{count:,} routes")
    server.stop()
    start = time.monotonic()
    server.start(wait=False)
    wait_until(lambda: "is ready" in server.stderr().rsplit("stopped", 1)[-1], "ready", 120)
    taken, memory = time.monotonic() - start, server.memory() / (1 << 20)
    full = count == 1_000_000
    bench.row("routes: loaded at start", taken, "s", f"{count:,} routes",
              "at most 10" if full else None, taken <= 10 if full else None)
    bench.row("routes: resident", memory, "MiB", f"{count:,} routes",
              "at most 300 MB" if full else None, memory * 1.048576 <= 300 if full else None)
    server.wait_ready()
    latencies = put_latencies(server, 300)
    bench.row("routes: PUT p99", percentile(latencies, 0.99) * 1e3, "ms", f"with {count:,} routes")
    server.stop()


def put_latencies(server, count, after=None, first=0):
    """Seconds of each of `count` PUTs, all of them changes; `first` numbers them."""
    with changes.connect(server) as sock:
        times = []
        for i in range(first, first + count):
            text = changes.encode_put(f"l{i % 100}.example", "10.0.0.1:80", i)
            times.append(changes.put_one(sock, text))
            if after:
                after(i)
        return times


@case
def put_latency(bench):
    """Latency of a PUT against fdatasync on the same file system"""
    folder = bench.new_folder()
    folder.mkdir()
    count = 300 if bench.quick else 3000
    server = Pointsman(folder, {"access_log": {"file": ""}}, release=True, workers=1).start()
    syncs, times = [], []
    for turn in range(5):  # in turns: disks have their moods
        syncs += measure.sync_times(folder, count // 5)
        times += put_latencies(server, count // 5, first=turn * count)
    server.stop()
    for share in (0.5, 0.99):
        name = f"p{share * 100:.0f}"
        sync, put = percentile(syncs, share) * 1e3, percentile(times, share) * 1e3
        bench.row(f"PUT {name}", put, "ms", f"fdatasync {name} {sync:.3f} ms",
                  "fdatasync + 1 ms" if share > 0.5 else None,
                  put <= sync + 1 if share > 0.5 else None)


def changed_load(bench, side, rate, seconds):
    """CPU of each thread while the load runs, with changes (rate > 0) or without."""
    load = measure.Load(side.port, seconds + 1)
    changer = changes.Changer(side.server, rate, seconds, side.target) if rate else None
    time.sleep(0.4)
    if changer:
        changer.start()
    before, asked = measure.thread_seconds(side.server.pid), side.requests()
    if changer:
        changer.join()
    else:
        time.sleep(seconds)
    after, asked = measure.thread_seconds(side.server.pid), side.requests() - asked
    result = load.finish()
    if result["errors"] or (changer and changer.fault):
        raise RuntimeError(f"{result['errors']} {changer and changer.fault}")
    used = {name: after[name] - before.get(name, 0) for name in after}
    worker = sum(value for name, value in used.items() if name.startswith("worker-"))
    return {"worker_us": worker / asked * 1e6, "control_s": sum(used.values()) - worker,
            "done": changer.done if changer else 0,
            "p99": percentile(changer.latencies, 0.99) if changer else None, "used": used}


@case
def changes_under_load(bench):
    """1,000 changes a second under load: what they cost the workers and the control side"""
    seconds, rounds = (5, 1) if bench.quick else (20, 3)  # 60 s of changes
    side = peers.Ours(bench.new_folder(), bench.origin_port, False, 1000, whole=False)
    plain, changed = [], []
    try:
        for _ in range(rounds):
            plain.append(changed_load(bench, side, 0, seconds))
            changed.append(changed_load(bench, side, 1000, seconds))
    finally:
        side.stop()
    without, with_them = (median([run["worker_us"] for run in runs]) for runs in (plain, changed))
    more = (with_them / without - 1) * 100
    done = sum(run["done"] for run in changed)
    base = sum(run["control_s"] for run in plain)
    each = (sum(run["control_s"] for run in changed) - base) / done * 1e6
    used = changed[-1]["used"]
    bench.row("1,000 changes/s: worker", with_them, "us/request", f"without changes {without:.2f}")
    bench.row("1,000 changes/s: worker, more", more, "%", "", "at most +5", more <= 5)
    bench.row("1,000 changes/s: control side", each, "us/change",
              f"{done:,} changes; by thread: " + ", ".join(
                  f"{name} {value:.2f} s" for name, value in sorted(used.items())),
              "at most 150", each <= 150)
    bench.row("1,000 changes/s: PUT p99", changed[-1]["p99"] * 1e3, "ms", "under load")


@case
def changes_when_idle(bench):
    """10,000 changes while all workers sleep; then the retired memory"""
    folder = bench.new_folder()
    folder.mkdir()
    count = 1000 if bench.quick else 10_000
    server = Pointsman(folder, {"access_log": {"file": ""}}, release=True, workers=2).start()
    over = []

    def compare_commit(i):
        if i % 10 == 0:
            over.append(server.status()["store"]["last_commit_seconds"])

    times = put_latencies(server, count, compare_commit)
    end = time.monotonic()
    wait_until(lambda: server.status()["retired"]["versions"] == 0, "retired versions freed", 10)
    freed = time.monotonic() - end
    slower = [put - commit for put, commit in zip(times[::10], over)]
    server.stop()
    bench.row("idle workers: PUT max", max(times) * 1e3, "ms",
              f"p99 {percentile(times, 0.99) * 1e3:.2f}, {count:,} changes")
    bench.row("idle workers: PUT over its commit, p99", percentile(slower, 0.99) * 1e3, "ms",
              f"max {max(slower) * 1e3:.2f}")
    bench.row("idle workers: retired memory back", freed, "s", "", "at most 1", freed <= 1)


CASES.update(fleet.CASES)
CASES.update(tls.CASES)
CASES.update(upstreams.CASES)


def machine():
    return {"machine": platform.node(), "kernel": platform.release(), "cores": os.cpu_count(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"), "load_before": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and short; to see that it runs")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds in turns, for load on peers")
    parser.add_argument("--seconds", type=int, metavar="N", help="of each round")
    parser.add_argument("--only", action="append", metavar="CASE", choices=sorted(CASES))
    parser.add_argument("--json", metavar="FILE", help="the figures as JSON")
    parser.add_argument("--list", action="store_true", help="the cases")
    args = parser.parse_args()
    if args.list:
        for name, function in CASES.items():
            print(f"{name:<20} {function.__doc__}")
        return 0
    # What script/bench has built, even where another optimized build lies about.
    os.environ.setdefault("POINTSMAN_RELEASE_BINARY",
                          str(measure.ROOT / "build/release/src/pointsman"))
    if os.cpu_count() < 2:
        print("bench: needs two cores", file=sys.stderr)
        return 1
    about = machine()
    if about["load_before"] > 0.5:
        print(f"bench: the machine is not idle (load {about['load_before']:.1f}): the figures will "
              "not mean much", file=sys.stderr)
    os.sched_setaffinity(0, {measure.LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("TMPDIR")) as folder, \
            soak.fast_origin(folder) as origin_port:
        bench = Bench(args.quick, folder, origin_port)
        bench.rounds = args.rounds or bench.rounds
        bench.seconds = args.seconds or bench.seconds
        for name in args.only or CASES:
            CASES[name](bench)
    if args.json:
        pathlib.Path(args.json).write_text(
            json.dumps({**about, "quick": args.quick, "rows": bench.rows}, indent=1) + "\n")
    return 0 if all(row["passed"] is not False for row in bench.rows) or args.quick else 1


if __name__ == "__main__":
    sys.exit(main())
