# SPDX-License-Identifier: MIT
"""The access log of a running server."""
import json
import re
import signal

from support.net import wait_until


def lines_of(path, count):
    """The file's lines, when there are at least `count`."""
    def read():
        lines = path.read_text().splitlines() if path.exists() else []
        return lines if len(lines) >= count else None

    return wait_until(read, f"{count} lines in {path}")


def test_json(pointsman, origin):
    server = pointsman()
    target = origin()
    server.put_pool("web", [target])
    server.put_route("shop.example.com", "/a", pool="web", tenant="acme")
    server.exchange("POST", "/a/b?x=1&y=2", host="Shop.example.com", body=b"12345", headers=[
        ("User-Agent", 'te"st\xe9'), ("Referer", "https://example.com/"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")])
    record, = server.log_records(1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["@timestamp"])
    expected = {
        "client.ip": "127.0.0.1", "http.request.method": "POST", "url.domain": "shop.example.com",
        "url.path": "/a/b", "url.query": "x=1&y=2", "http.version": "1.1",
        "http.response.status_code": 200,
        "http.request.referrer": "https://example.com/",
        "pointsman.route": "shop.example.com/a", "pointsman.pool": "web",
        "pointsman.target": target.address, "pointsman.tenant": "acme",
    }
    assert {key: record.get(key) for key in expected} == expected
    assert record["user_agent.original"].startswith('te"st')
    assert record["event.duration"] > 0 and record["http.response.bytes"] > 0
    assert record["http.request.bytes"] >= 5
    assert record["pointsman.origin_ns"] <= record["event.duration"]
    assert record["pointsman.request_id"] and record["pointsman.end"]
    assert record["trace.id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert "pointsman.retries" not in record  # none: left out

    server.get(host="none.example")
    record = server.log_records(2)[1]
    assert record["http.response.status_code"] == 404
    assert not {"pointsman.route", "pointsman.pool", "pointsman.target"} & set(record)


def test_combined(pointsman, origin):
    server = pointsman(config={"access_log": {"format": "combined"}})
    server.put_route("a.example", targets=[origin()])
    server.exchange("GET", "/p?q", host="a.example", headers=[("User-Agent", 'x"y')])
    line, = lines_of(server.folder / "access.log", 1)
    assert re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] '
                        r'"GET /p\?q HTTP/1\.1" 200 \d+ "-" "x\\"y"', line), line


def test_reopen_on_sighup(pointsman, origin):
    server = pointsman()
    server.put_route("a.example", targets=[origin()])
    path = server.folder / "access.log"
    server.get(host="a.example")
    lines_of(path, 1)
    moved = path.rename(server.folder / "access.log.1")
    server.signal(signal.SIGHUP)
    wait_until(path.exists, "the new file")
    server.get(target="/new", host="a.example")
    assert [json.loads(line)["url.path"] for line in lines_of(path, 1)] == ["/new"]
    assert len(lines_of(moved, 1)) == 1
    assert path.stat().st_mode & 0o777 == 0o640


def test_standard_output(pointsman, origin):
    server = pointsman(args=["--log", "-"])
    server.put_route("a.example", targets=[origin()])
    server.get(target="/x", host="a.example")
    line, = lines_of(server.folder / "stdout.txt", 1)
    assert json.loads(line)["url.path"] == "/x"
    assert not (server.folder / "access.log").exists()


def test_off_and_by_route(pointsman, origin):
    target = origin()
    server = pointsman(args=["--log", ""])
    server.put_route("a.example", targets=[target])
    assert server.get(host="a.example").status == 200
    server.stop()
    assert not (server.folder / "access.log").exists()

    server = pointsman()
    server.put_route("a.example", targets=[target], access_log=False)
    server.put_route("b.example", targets=[target])
    server.get(host="a.example")
    server.get(host="b.example")
    assert [record["url.domain"] for record in server.log_records(1)] == ["b.example"]


def test_nothing_is_lost_at_the_end(pointsman, origin):
    server = pointsman()
    server.put_route("a.example", targets=[origin()])
    with server.connect() as conn:
        for i in range(300):
            conn.exchange("GET", f"/{i}", "a.example")
    server.stop()
    records = server.log_records(0)
    assert sorted(int(record["url.path"][1:]) for record in records) == list(range(300))


def test_a_full_disk_stops_nobody(pointsman, origin):
    server = pointsman(args=["--log", "/dev/full"])
    server.put_route("a.example", targets=[origin()])
    for _ in range(20):
        assert server.get(host="a.example").status == 200
    wait_until(lambda: "cannot write" in server.stderr(), "the message")
    assert server.stderr().count("cannot write") == 1
