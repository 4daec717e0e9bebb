# SPDX-License-Identifier: MIT
"""What was acknowledged is there after a crash; a store that cannot be used is a clear error."""
import http.client
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading

import pytest

from support import origin as o
from support.net import PATIENCE, wait_until

WRITES = 1000


def exported(server):
    """Keys and values of all routes as the store has them."""
    reply = server.api("GET", "/v1/export")
    lines = [json.loads(line) for line in reply.body.splitlines() if line]
    return {line["key"]: line["value"] for line in lines if line["kind"] == "route"}


class Writer(threading.Thread):
    """PUTs and DELETEs routes of its own until the server dies. `state` has what was acknowledged
    (None: deleted); `open` the change that was not answered."""

    def __init__(self, server, number, first):
        super().__init__(daemon=True)
        self.server, self.number, self.at = server, number, first
        self.state, self.open, self.count, self.refused = {}, None, 0, []

    def run(self):
        try:
            with self.server.admin() as session:
                while True:
                    self.write(session)
        except (OSError, http.client.HTTPException):
            pass

    def write(self, session):
        self.at += 1
        delete = self.at % 10 == 9
        key = f"w{self.number}-{self.at - 1 if delete else self.at % 400}.example"
        value = None if delete else {"respond": {"status": 200, "body": str(self.at)}}
        self.open = (key, value)
        reply = session.api("DELETE" if delete else "PUT", f"/v1/routes/{key}", json=value)
        if reply.status in (200, 201, 204):
            self.state[key] = value
            self.count += 1
        elif reply.status != 404:
            self.refused.append(reply)
        self.open = None


def check_state(server, writers, known):
    """Everything acknowledged is stored and served; an open change is there whole or not at all."""
    stored = exported(server)
    for writer in writers:
        known.update(writer.state)
        if writer.open:  # may have been done or not; what it is now holds from here on
            key, value = writer.open
            body = stored.get(key, {}).get("respond", {}).get("body")
            before = known.get(key)
            assert body in (value and value["respond"]["body"],
                            before and before["respond"]["body"]), (key, body, value, before)
            known[key] = body and {"respond": {"status": 200, "body": body}}
    lost = [key for key, value in known.items()
            if stored.get(key, {}).get("respond", {}).get("body") !=
            (value and value["respond"]["body"])]
    assert not lost, f"{len(lost)} of {len(known)} acknowledged writes are lost: {lost[:5]}"
    with server.connect() as conn:
        for key, value in list(known.items())[::7]:
            reply = conn.exchange(host=key)
            assert (reply.status, reply.text) == (200, value["respond"]["body"]) if value else (
                reply.status == 404), (key, value, reply)


def test_kill_9_loses_nothing_acknowledged(pointsman):
    server, known, revision = pointsman(), {}, 0
    for turn in range(5):
        writers = [Writer(server, number, turn * WRITES) for number in range(4)]
        for writer in writers:
            writer.start()
        wait_until(lambda: sum(w.count for w in writers) >= WRITES * (turn + 2) // 8,
                   "writes under way")
        server.kill9()
        for writer in writers:
            writer.join(2 * PATIENCE)
            assert not writer.refused, writer.refused[:3]
        server.start()
        assert server.status()["revision"] > revision
        check_state(server, writers, known)
        revision = server.status()["revision"]
    assert len(known) > WRITES // 2


SYNC = re.compile(r"(?:fdatasync|fsync)\(.*= 0$|(?:fdatasync|fsync) resumed>.*= 0$")


def traced_answers(lines):
    """For each answer 201 in a trace: was there a sync since the request that it answers?"""
    synced, answers, asked = False, [], False
    for line in lines:
        if '"PUT /v1/routes/' in line:
            synced, asked = False, True
        elif SYNC.search(line):
            synced = True
        elif '"HTTP/1.1 201' in line and asked:
            answers.append(synced)
            asked = False
    return answers


def test_sync_between_commit_and_answer(pointsman, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    server, trace = pointsman(release=True), tmp_path / "trace.txt"
    calls = "fdatasync,fsync,read,recvfrom,recvmsg,readv,write,sendto,sendmsg,writev"
    tracer = subprocess.Popen(["strace", "-f", "-tt", "-s", "40", "-e", f"trace={calls}", "-o",
                               str(trace), "-p", str(server.pid)],
                              stderr=subprocess.PIPE, text=True)
    try:
        if "attached" not in (told := tracer.stderr.readline()):
            pytest.skip(f"strace cannot attach: {told}")
        with server.admin() as session:
            for i in range(100):
                reply = session.api("PUT", f"/v1/routes/h{i}.example",
                                    json={"respond": {"status": 200}})
                assert reply.status == 201
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=PATIENCE)
    answers = traced_answers(trace.read_text(errors="replace").splitlines())
    assert len(answers) >= 99 and all(answers), f"{answers.count(False)} of {len(answers)}"


def start_fails(server, *words):
    """It does not start, and says why."""
    server.start(wait=False)
    process, server.process = server.process, None
    status = process.wait(PATIENCE)
    server.check_stderr()
    text = server.stderr()
    assert status == 1 and all(word in text for word in words), (status, text)


def test_thousands_of_routes_come_back(pointsman, origin):
    server, target = pointsman(), origin()
    lines = [{"op": "put", "kind": "pool", "key": "p", "value": {"targets": [target.address]}}]
    lines += [{"op": "put", "kind": "route", "key": f"h{i}.example", "value": {"pool": "p"}}
              for i in range(3000)]  # no power of 2: the table is made for as many at the start
    assert server.batch(lines).status == 200
    server.restart()
    status = server.status()
    assert (status["routes"], status["pools"], status["skipped"]) == (3000, 1, 0)
    for i in (0, 1023, 1024, 2047, 2048, 2999):
        assert server.get(host=f"h{i}.example").status == 200
    assert server.get(host="h3000.example").status == 404


def test_two_processes_on_one_store(pointsman, origin):
    first, target = pointsman(), origin()
    first.put_route("a.example", targets=[target])
    url = f"sqlite:{first.folder / 'pointsman.db'}"
    second = pointsman({"store": {"url": url, "local": None}}, start=False)
    start_fails(second, "pointsman.db", str(first.pid))
    assert first.put_route("b.example", targets=[target]).status == 201
    assert first.get(host="b.example").status == 200
    first.kill9()  # the lock goes with its process
    second.start()
    assert second.get(host="a.example").status == 200
    start_fails(first, "pointsman.db", str(second.pid))


def test_files_that_are_no_store(pointsman, tmp_path):
    garbage, other, folder = tmp_path / "garbage.db", tmp_path / "other.db", tmp_path / "folder.db"
    garbage.write_bytes(os.urandom(8192))
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT)")
        db.execute("INSERT INTO accounts (name) VALUES ('x')")
    folder.mkdir()
    for path in (garbage, other, folder, tmp_path / "no" / "such" / "folder" / "x.db"):
        before = path.read_bytes() if path.is_file() else None
        server = pointsman({"store": {"url": f"sqlite:{path}", "local": None}}, start=False)
        start_fails(server, str(path))
        assert before is None or path.read_bytes() == before  # nothing was done to it
    server = pointsman({"store": {"url": "mysql://x", "local": None}}, start=False)
    start_fails(server, "store.url", "sqlite:FILE")


def test_a_damaged_store_is_found(pointsman, origin):
    server, target = pointsman(), origin()
    for i in range(50):
        server.put_route(f"h{i}.example", targets=[target])
    server.stop()
    path = server.folder / "pointsman.db"
    data = bytearray(path.read_bytes())
    data[100:4096] = os.urandom(3996)  # the schema's page
    path.write_bytes(data)
    start_fails(server, "pointsman.db")


def refused_and_serving(server, session, acknowledged):
    """Writes until one is refused with 503; traffic goes on all the while."""
    for i in range(20000):
        key = f"f{i}.example"
        body = {"respond": {"status": 200, "body": f"{i} " + "x" * 4000}}
        reply = session.api("PUT", f"/v1/routes/{key}", json=body)
        if reply.status not in (200, 201):
            assert reply.status == 503, reply
            assert reply.headers["Content-Type"] == "application/problem+json"
            assert server.get(host="traffic.example").text == "served"
            return key
        acknowledged[key] = body
    raise AssertionError("the store never got full")


def check_recovery(server, session, acknowledged, refused):
    """After room came back: writes work, nothing that was acknowledged is lost."""

    def works():
        reply = session.api("PUT", "/v1/routes/after.example", json={"respond": {"status": 200}})
        return reply.status in (200, 201)

    wait_until(works, "writes work again")
    assert server.status()["store"]["writable"] is True
    assert server.get(host="after.example").status == 200
    server.kill9()
    server.start()
    stored = exported(server)
    lost = [key for key, value in acknowledged.items()
            if stored.get(key, {}).get("respond", {}).get("body") != value["respond"]["body"]]
    assert not lost, lost[:5]
    assert (refused in stored) == (server.get(host=refused).status == 200)
    assert server.get(host="after.example").status == 200


def test_disk_full(pointsman, origin, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)],
                             capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("only root can make a small disk")
    try:
        (disk / "ballast").write_bytes(b"x" * 1_000_000)
        server = pointsman({"store": {"url": f"sqlite:{disk}/pointsman.db", "local": None}})
        server.put_route("traffic.example", targets=[origin(o.respond(body="served"))])
        acknowledged = {}
        with server.admin() as session:
            refused = refused_and_serving(server, session, acknowledged)
            assert server.status()["store"]["writable"] is False
            (disk / "ballast").unlink()
            check_recovery(server, session, acknowledged, refused)
        server.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_file_size_limit(pointsman, origin):
    """The same with `ulimit -f`: SIGXFSZ must not end the process."""
    server, acknowledged = pointsman(), {}
    server.put_route("traffic.example", targets=[origin(o.respond(body="served"))])
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1 << 20, unlimited[1]))
    with server.admin() as session:
        refused = refused_and_serving(server, session, acknowledged)
        assert server.is_running()
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
        check_recovery(server, session, acknowledged, refused)


@pytest.mark.parametrize("how", ["moved", "replaced"])
def test_file_that_left_its_place(pointsman, origin, how):
    """Nothing is acknowledged that a restart would not find; what is moved back is written again."""
    server, acknowledged = pointsman(), {}
    server.put_route("traffic.example", targets=[origin(o.respond(body="served"))])
    path, aside = server.folder / "pointsman.db", server.folder / "aside.db"
    path.rename(aside)
    if how == "replaced":
        path.write_bytes(aside.read_bytes())
    with server.admin() as session:
        refused = refused_and_serving(server, session, acknowledged)
        assert not acknowledged
        status = server.status()["store"]
        assert status["writable"] is False and "file" in status["detail"]
        path.unlink(missing_ok=True)
        aside.rename(path)
        check_recovery(server, session, acknowledged, refused)
