# SPDX-License-Identifier: MIT
"""Signals: SIGTERM drains without a failed request, SIGHUP reopens logs, SIGUSR2 is ignored."""
import http.client
import signal
import threading
import time

import pytest

from support import origin as o
from support.http1 import Truncated
from support.net import PATIENCE, is_listening, wait_until


class Caller(threading.Thread):
    """Requests one after the other on a kept connection until it is told to close, or the
    connection closes between two requests (an idle one may). Counts what went wrong otherwise."""

    def __init__(self, server, pause=0.0):
        super().__init__(daemon=True)
        self.server, self.pause = server, pause
        self.answered, self.told, self.between, self.faults = 0, False, False, []

    def run(self):
        try:
            with self.server.connect() as conn:
                while not self.told:
                    time.sleep(self.pause)
                    if not self.ask(conn):
                        return
                if not conn.is_closed_by_peer():
                    self.faults.append("told to close, not closed")
        except OSError as fault:
            self.faults.append(repr(fault))

    def ask(self, conn):
        try:
            conn.request("POST" if self.answered % 2 else "GET", host="a.example",
                         body=b"x" * 100 if self.answered % 2 else None)
            reply = conn.read_response()
        except ConnectionError:
            self.between = True
            return False
        except Truncated as fault:
            if fault.response is None:
                self.between = True  # not a byte of an answer: it went to an idle connection's end
            else:
                self.faults.append(f"cut: {fault}")
            return False
        if reply.status != 200 or reply.text != "served":
            self.faults.append(repr(reply))
        self.answered += 1
        self.told = (reply.headers.get("connection") or "").lower() == "close"
        return True


def slow(seconds):
    def handle(_request, peer):
        peer.origin.released.wait(seconds)
        peer.send(o.encode_response(body="served"))
        return True

    return handle


def test_drain_under_load(pointsman, origin):
    server, target = pointsman({"timeouts": {"drain": "5m"}}), origin(slow(0.05))
    server.put_route("a.example", targets=[target])
    callers = [Caller(server) for _ in range(40)]
    for caller in callers:
        caller.start()
    target.wait_requests(200)
    server.signal(signal.SIGTERM)
    for caller in callers:
        caller.join(2 * PATIENCE)
    server.wait_exit()
    assert not [fault for caller in callers for fault in caller.faults]
    assert sum(caller.told or caller.between for caller in callers) == 40
    # Whatever went to the origin was answered: only what was not begun ended with its connection.
    assert sum(caller.answered for caller in callers) == len(target.requests)


def test_all_under_way_are_answered_and_told(pointsman, origin):
    """The same with a request under way on each connection."""
    server, gate = pointsman({"timeouts": {"drain": "5m"}}), threading.Event()
    gate.set()
    at_origin, lock = [0], threading.Lock()

    def answer(_request, peer):
        with lock:
            at_origin[0] += 1
        gate.wait(4 * PATIENCE)
        with lock:
            at_origin[0] -= 1
        peer.send(o.encode_response(body="served"))
        return True

    target = origin(answer)
    server.put_route("a.example", targets=[target])
    callers = [Caller(server) for _ in range(40)]
    for caller in callers:
        caller.start()
    target.wait_requests(200)
    gate.clear()
    wait_until(lambda: at_origin[0] == 40, "all wait for the origin")
    before = len(target.requests)
    server.signal(signal.SIGTERM)
    wait_until(lambda: not is_listening(server.port), "the listeners close")
    gate.set()
    for caller in callers:
        caller.join(2 * PATIENCE)
    server.wait_exit()
    assert not [fault for caller in callers for fault in caller.faults]
    assert sum(caller.told for caller in callers) == 40
    assert len(target.requests) == before == sum(caller.answered for caller in callers)


def test_requests_under_way_finish(pointsman, origin):
    release = threading.Event()
    server, target = pointsman({"timeouts": {"drain": "10m"}}), origin()
    body = o.script(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", release, b"def", keep=True)
    head = o.script(release, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz", keep=True)
    target.on("/body", body).on("/head", head).on("/upload", o.respond(body="taken"))
    server.put_route("a.example", targets=[target])
    conns = {path: server.connect() for path in ("/body", "/head", "/upload")}
    idle = server.connect()
    assert idle.exchange(host="a.example").status == 200
    for path in ("/body", "/head"):
        conns[path].request(target=path, host="a.example")
    conns["/upload"].request("POST", "/upload", "a.example", {"Content-Length": "10"})
    conns["/upload"].send(b"01234")
    target.wait_requests(4)
    assert conns["/body"].read_head().status == 200

    server.signal(signal.SIGTERM)
    wait_until(lambda: not is_listening(server.port), "the listeners close")
    assert server.api("GET", "/readyz").status == 503
    assert server.api("GET", "/healthz").status == 200
    assert server.status()["draining"] is True
    assert idle.is_closed_by_peer()
    assert server.is_running()
    with pytest.raises(ConnectionRefusedError):
        server.connect()

    release.set()
    assert conns["/body"].wire.some(3) + conns["/body"].wire.some(3) == b"abcdef"
    reply = conns["/head"].read_response()
    assert reply.text == "xyz" and reply.headers["Connection"].lower() == "close"
    conns["/upload"].send(b"56789")
    reply = conns["/upload"].read_response()
    assert reply.text == "taken" and reply.headers["Connection"].lower() == "close"
    assert all(conn.is_closed_by_peer() for conn in conns.values())
    server.wait_exit()  # it does not wait for the end of timeouts.drain


def open_tunnel(server):
    conn = server.connect()
    conn.request(host="a.example", headers={"Connection": "Upgrade", "Upgrade": "echo"})
    assert conn.read_head().status == 101
    assert echoes(conn)
    return conn


def echoes(conn):
    conn.send(b"p")
    return conn.wire.some(1) == b"p"


def test_tunnels_get_their_time(pointsman, origin):
    server = pointsman({"timeouts": {"drain": "3s"}})
    server.put_route("a.example", targets=[origin(o.switch_protocols())])
    tunnels = [open_tunnel(server) for _ in range(5)]

    def live(conn):
        try:
            return echoes(conn)
        except ConnectionError:
            return False

    started = time.monotonic()
    server.signal(signal.SIGTERM)
    wait_until(lambda: not all(live(conn) for conn in tunnels), "their time is over")
    assert time.monotonic() - started > 2.9
    assert all(conn.is_closed_by_peer() for conn in tunnels)
    server.wait_exit()


def test_drain_ends_with_its_last_tunnel(pointsman, origin):
    server = pointsman({"timeouts": {"drain": "10m"}})
    server.put_route("a.example", targets=[origin(o.switch_protocols())])
    tunnel = open_tunnel(server)
    server.signal(signal.SIGINT)
    wait_until(lambda: not is_listening(server.port), "the listeners close")
    assert echoes(tunnel) and server.is_running()
    tunnel.close()
    server.wait_exit()


def test_second_sigterm_stops(pointsman, origin):
    server = pointsman({"timeouts": {"drain": "10m"}})
    server.put_route("a.example", targets=[origin(o.switch_protocols())])
    tunnel = open_tunnel(server)
    server.signal(signal.SIGTERM)
    wait_until(lambda: not is_listening(server.port), "the listeners close")
    assert echoes(tunnel)
    server.signal(signal.SIGTERM)
    assert tunnel.is_closed_by_peer()
    server.wait_exit()


def test_slow_ones_end_with_the_drain(pointsman, origin):
    """Nobody holds the end up: half a head, an origin that never answers, a client that never
    reads, nothing at all."""
    server = pointsman({"timeouts": {"drain": "1s", "header": "10m", "idle": "10m", "request": "10m",
                                     "response": "10m"}})
    target = origin(o.hang()).on("/big", o.stream(50_000_000))
    server.put_route("a.example", targets=[target])
    conns = [server.connect() for _ in range(4)]
    conns[1].send(b"GET / HTTP/1.1\r\nHo")
    conns[2].request(host="a.example")
    conns[3].request(host="a.example", target="/big")
    target.wait_requests(2)
    server.signal(signal.SIGTERM)
    server.wait_exit()
    for conn in conns:
        conn.close()


def test_accepted_writes_are_answered_while_draining(pointsman, origin):
    release = threading.Event()
    server, target = pointsman({"timeouts": {"drain": "10m"}}), origin(
        o.script(release, o.encode_response(body="x"), keep=True))
    server.put_route("a.example", targets=[target])
    with server.connect() as conn, server.admin() as session:
        conn.request(host="a.example")
        target.wait_requests(1)
        server.signal(signal.SIGTERM)
        wait_until(lambda: not is_listening(server.port), "the listeners close")
        for i in range(20):
            reply = session.api("PUT", f"/v1/routes/d{i}.example",
                                json={"respond": {"status": 200}})
            assert reply.status == 201
        release.set()
        assert conn.read_response().text == "x"
    server.wait_exit()
    server.start()
    assert server.status()["routes"] == 21


def test_stop_between_writes(pointsman):
    """Writers go on until the end: each write is answered or its connection closed, and the process
    ends in good order."""
    server, faults = pointsman(), []

    def write(number):
        for i in range(100000):
            try:
                with server.admin() as session:
                    for k in range(50):
                        session.api("PUT", f"/v1/routes/w{number}-{i}-{k}.example",
                                    json={"respond": {"status": 200}})
            except ConnectionError:
                return
            except (OSError, http.client.HTTPException) as fault:  # no answer, or half of one
                faults.append(repr(fault))
                return

    threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.status()["revision"] > 50, "writes")
    server.signal(signal.SIGTERM)
    server.wait_exit()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert not faults


def test_sighup_reopens_the_log(pointsman):
    server = pointsman()
    server.put_route("a.example", respond={"status": 200})
    server.get(host="a.example", target="/before")
    server.log_records(1)
    log, old = server.folder / "access.log", server.folder / "access.log.1"
    log.rename(old)
    server.signal(signal.SIGHUP)
    wait_until(log.exists, "the log is opened anew")
    server.get(host="a.example", target="/after")
    records = server.log_records(1)
    assert [record["url.path"] for record in records] == ["/after"]
    assert "/before" in old.read_text() and "/after" not in old.read_text()
    server.signal(signal.SIGHUP)  # without a rename: it is appended to
    server.get(host="a.example", target="/again")
    assert [r["url.path"] for r in server.log_records(2)] == ["/after", "/again"]


def test_no_record_is_lost_over_reopens_and_the_end(pointsman):
    server = pointsman()
    server.put_route("a.example", respond={"status": 200})
    names, count = [], 0
    with server.connect() as conn:
        for turn in range(10):
            for _ in range(100):
                assert conn.exchange(host="a.example", target=f"/{count}").status == 200
                count += 1
            names.append(server.folder / f"access.log.{turn}")
            (server.folder / "access.log").rename(names[-1])
            server.signal(signal.SIGHUP)
            wait_until((server.folder / "access.log").exists, "the log is opened anew")
    server.stop()
    names.append(server.folder / "access.log")
    text = "".join(name.read_text() for name in names)
    for i in range(count):
        assert f'"url.path":"/{i}"' in text or f'"url.path": "/{i}"' in text, i


def test_sigusr2_is_ignored(pointsman, origin):
    server = pointsman()
    server.put_route("a.example", targets=[origin(o.switch_protocols())])
    tunnel = open_tunnel(server)
    server.signal(signal.SIGUSR2)
    wait_until(lambda: "SIGUSR2" in server.stderr(), "it is logged")
    assert echoes(tunnel) and server.api("GET", "/readyz").status == 200
    tunnel.close()


def test_sigpipe_is_no_end(pointsman, origin):
    """Clients that reset while they are answered."""
    server = pointsman()
    server.put_route("a.example", targets=[origin(o.stream(3_000_000))])
    for _ in range(20):
        conn = server.connect()
        conn.request(host="a.example")
        conn.wire.some(1000)
        conn.reset()
    wait_until(lambda: server.status()["connections"] == 0, "all ended")
    assert len(server.get(host="a.example").body) == 3_000_000
