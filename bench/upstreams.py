# SPDX-License-Identifier: MIT
"""What many targets cost, and what clients see of targets that are restarted."""
import pathlib
import socket
import subprocess
import time

import measure
from measure import median

import peers
from support.deploys import Fleet, Load, build_load, build_program
from support.net import wait_until
from support.process import Pointsman

CASES = {}
COUNTS = (1, 10, 100, 1000)


def case(function):
    CASES[function.__name__] = function
    return function


def targets_of(count, origin_port):
    """All are one origin, under other addresses of 127.0.0.0/8."""
    return [f"127.1.{i // 250}.{i % 250 + 1}:{origin_port}" for i in range(count)]


class Pools(peers.Ours):
    """A pool of each size."""

    def __init__(self, folder, origin_port, balance):
        super().__init__(folder, origin_port, log=False)
        for count in COUNTS:
            fields = {"hash": "query:a"} if balance == "hash" else {}
            self.server.put_pool(f"p{count}", targets_of(count, origin_port), balance=balance,
                                 keepalive={"idle": 128}, **fields)
            self.server.put_route(f"p{count}.example", pool=f"p{count}")


def targets_case(bench, balance, of_nginx):
    sides = [Pools(bench.new_folder(), bench.origin_port, balance)]
    if peers.nginx_program():
        sides.append(peers.Nginx(
            bench.new_folder(), bench.origin_port, False,
            {f"p{count}": targets_of(count, bench.origin_port) for count in COUNTS}, of_nginx))
    runs = {(side, count): [] for side in sides for count in COUNTS}
    try:
        for side, count in runs:  # connections to all of them
            measure.run_load(side, 2, host=f"p{count}.example")
        for _ in range(bench.rounds):
            for side, count in runs:
                runs[side, count].append(
                    measure.run_load(side, bench.seconds, host=f"p{count}.example")["core_us"])
    finally:
        for side in sides:
            side.stop()
    for (side, count), figures in runs.items():
        more = (median(figures) / median(runs[side, 1]) - 1) * 100
        has_goal = count > 1 and side is sides[0]
        bench.row(f"{balance}, {count:,} targets: {side.name}", median(figures), "us/request",
                  f"{more:+.1f} % against 1", "within 5 %" if has_goal else None,
                  more <= 5 if has_goal else None)


@case
def targets_least_requests(bench):
    """CPU of a GET with 1 to 1,000 targets in the pool, least_requests"""
    targets_case(bench, "least_requests", "least_conn;")


@case
def targets_round_robin(bench):
    """The same, round_robin"""
    targets_case(bench, "round_robin", "")


def restart_case(bench, name, change, rounds, rate, pause=0.0, body_len=None):
    folder = bench.new_folder()
    folder.mkdir()
    program = build_load(pathlib.Path(folder))
    server = Pointsman(folder, {"access_log": {"file": ""}}, release=True, workers=2).start()
    fleet = Fleet(server, folder)
    done = 0
    load = Load(program, server, fleet.host, rate, seconds=15 if bench.quick else 40,
                body_len=body_len)
    try:
        time.sleep(0.5)
        while done < rounds and load.is_running():
            change(fleet, fleet.origins[done % 3])
            done += 1
            time.sleep(pause)
        result = load.result()
        metrics = server.metrics()
    finally:
        fleet.stop()
        server.stop()
    failed = result["bad"] + result["unanswered"]
    note = (f"{done} restarts, {result['ok']:,} answered, {result['begun']} broken off, "
            f"{int(metrics['pointsman_upstream_retries_total'])} sent again, "
            f"p99 {result['p99_us'] / 1000:.1f} ms, {result['statuses']}")
    bench.row(name, failed, "errors", note, "0" if body_len is None else None,
              failed == 0 if body_len is None else None)


@case
def restarts_drained(bench):
    """3 origins restarted in turns under load: drain, stop, start, up"""
    restart_case(bench, "restart with drain", lambda fleet, one: fleet.restart_drained(one),
                 5 if bench.quick else 20, 5000)


@case
def restarts_killed(bench):
    """The same by kill -9, without a drain; POSTs that were fully sent apart"""
    rounds = 5 if bench.quick else 20
    restart_case(bench, "kill -9, GET", lambda fleet, one: fleet.kill(one), rounds, 5000, 0.5)
    restart_case(bench, "kill -9, POST", lambda fleet, one: fleet.kill(one), rounds, 5000, 0.5,
                 body_len=500)


@case
def aborted_requests(bench):
    """1,000,000 requests whose clients leave: what stays in the counts"""
    count, clients = (20_000 if bench.quick else 1_000_000), 4
    folder = bench.new_folder()
    folder.mkdir()
    program = build_program(folder, "aborts")
    # Two targets that answer, and one that takes connections and never does.
    silent = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server = Pointsman(folder, {"access_log": {"file": ""}}, release=True, workers=2).start()
    try:
        server.put_pool("a", [f"127.0.0.1:{bench.origin_port}", f"127.0.0.2:{bench.origin_port}",
                              f"127.0.0.1:{silent.getsockname()[1]}"],
                        limits={"requests_per_target": 2, "queue": 100, "queue_timeout": "1s"},
                        passive={"max_fails": 0})
        server.put_route("aborts.example", pool="a")
        began = time.monotonic()
        running = [subprocess.Popen([str(program), str(server.port), "aborts.example",
                                     str(count // clients)]) for _ in range(clients)]
        codes = [process.wait(1200) for process in running]
        taken = time.monotonic() - began
        if any(codes):
            raise RuntimeError(f"aborts ended with {codes}")
        wait_until(lambda: server.status()["connections"] == 0, "all clients are gone", 30)
        targets = server.api("GET", "/v1/pools/a/targets").json
        drift = sum(target["requests"] for target in targets)
        metrics = server.metrics()
        left = int(metrics["pointsman_queue_length"])
        bench.row("aborted requests: counts left", drift + left, "requests",
                  f"{count:,} aborted in {taken:.0f} s, "
                  f"{int(metrics['pointsman_client_gone_total']):,} before their answer, "
                  f"{int(metrics['pointsman_queued_total']):,} had waited", "0", drift + left == 0)
    finally:
        server.stop()
        silent.close()
