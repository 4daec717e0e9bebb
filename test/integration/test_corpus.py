# SPDX-License-Identifier: MIT
"""test/corpus/requests.yaml over sockets: what is refused, how, and that nothing of it is sent on."""
import re

import pytest
import yaml

from support.http1 import Connection, Malformed, Truncated
from support.net import wait_until
from support.process import ROOT

SHORT = 120  # bytes of an entry that is also sent in two pieces, split everywhere


def load():
    def expand(match):
        return match[1] * int(match[2])

    entries = yaml.safe_load((ROOT / "test/corpus/requests.yaml").read_text())
    for entry in entries:
        if entry.get("expand"):
            entry["bytes"] = re.sub(r"@\{(.+?)\*(\d+)\}", expand, entry["bytes"], flags=re.S)
        entry["bytes"] = entry["bytes"].encode("latin-1")
    return entries


ENTRIES = load()


def groups(count):
    return [ENTRIES[i::count] for i in range(count)]


@pytest.fixture
def pair(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route("*", targets=[target])
    return server, target


def send_pieces(conn, pieces):
    try:
        for piece in pieces:
            conn.send(piece)
    except ConnectionError:
        pass  # refused before all was sent


def check(server, target, entry, pieces):
    """Sends one entry and judges the answer; for good ones what the origin got."""
    with server.connect() as conn:
        send_pieces(conn, pieces)
        reply = conn.read_response("HEAD" if entry["bytes"].startswith(b"HEAD ") else "GET")
        assert reply.status == entry["status"], f"{reply.status}, not {entry['status']}"
        if entry["status"] != 200:
            assert reply.headers.get("connection") == "close", "it does not say that it closes"
            assert conn.is_closed_by_peer(), "the connection stays open"
    if entry["status"] == 200:
        check_sent(target.last, entry["sent"])


def check_sent(request, sent):
    got = {"method": request.method, "target": request.target,
           "host": request.headers["host"], "body": request.body.decode("latin-1")}
    assert got == {**got, **sent}
    assert len(request.headers.getall("host")) == 1
    framing = request.headers.getall("content-length") + request.headers.getall("transfer-encoding")
    assert len(framing) <= 1


def run_all(server, target, cases):
    faults = []
    for entry, pieces in cases:
        try:
            check(server, target, entry, pieces)
        except (AssertionError, Truncated, Malformed, OSError) as fault:
            faults.append(f"{entry['name']} in {len(pieces)} pieces "
                          f"({len(pieces[0])} first): {str(fault)[:300]}")
    assert not faults, "\n".join(faults[:20])


def run(server, target, cases):
    """Good ones, then what must not reach the origin at all, then those whose head may reach it."""
    run_all(server, target, [case for case in cases if case[0]["status"] == 200])
    refused = [case for case in cases if case[0]["status"] != 200]
    good = len(target.requests)
    run_all(server, target, [case for case in refused if not case[0].get("body_fault")])
    assert server.get(host="h", target="/last").status == 200
    assert [r.target for r in target.requests[good:]] == ["/last"]

    run_all(server, target, [case for case in refused if case[0].get("body_fault")])
    server.stop()
    wait_until(lambda: target.open_count == 0, "the origin saw all ends")
    whole = [r for r in target.requests[good + 1:] if r.complete]
    assert not whole, f"taken for whole: {whole}"


def test_the_corpus_is_there():
    assert len([e for e in ENTRIES if e["status"] != 200]) >= 150
    assert len({e["name"] for e in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("entries", groups(2), ids=["even", "odd"])
def test_whole(pair, entries):
    run(*pair, [(e, [e["bytes"]]) for e in entries])


@pytest.mark.parametrize("entries", groups(3), ids=["0", "1", "2"])
def test_byte_by_byte(pair, entries):
    run(*pair, [(e, [e["bytes"][i:i + 1] for i in range(len(e["bytes"]))])
                for e in entries if len(e["bytes"]) <= 600])


@pytest.mark.parametrize("entries", groups(4), ids=["0", "1", "2", "3"])
def test_split_in_two(pair, entries):
    """The long ones are split by the parser's unit tests."""
    run(*pair, [(e, [e["bytes"][:at], e["bytes"][at:]])
                for e in entries if len(e["bytes"]) <= SHORT
                for at in range(1, len(e["bytes"]))])


def test_behind_a_good_request(pair):
    """Refused as the second request of a pipeline: the first is answered."""
    server, target = pair
    faults = []
    for entry in ENTRIES:
        if entry["status"] == 200 or entry.get("body_fault") or len(entry["bytes"]) > 4000:
            continue
        before = len(target.requests)
        with server.connect() as conn:
            send_pieces(conn, [b"GET /first HTTP/1.1\r\nHost: h\r\n\r\n" + entry["bytes"]])
            try:
                first, second = conn.read_response(), conn.read_response()
            except (Truncated, Malformed, OSError) as fault:
                faults.append(f"{entry['name']}: {fault!r}")
                continue
        if (first.status, second.status) != (200, entry["status"]):
            faults.append(f"{entry['name']}: {first.status}, {second.status}")
        if [r.target for r in target.requests[before:]] != ["/first"]:
            faults.append(f"{entry['name']}: sent on: {target.requests[before:]}")
    assert not faults, "\n".join(faults)


def test_refused_requests_are_logged_and_counted(pair):
    server, target = pair
    assert server.raw(b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    record = server.log_records(1)[0]
    assert record["http.response.status_code"] == 400 and record["pointsman.end"]
    assert record["client.ip"] == "127.0.0.1"
    assert server.metrics()["pointsman_requests_refused_total"] == 1
    assert target.requests == []


def test_admin_refuses_them_too(pointsman):
    """The admin address is served by the same parser."""
    server = pointsman()
    for entry in ENTRIES:
        if entry["bytes"].startswith(b"\x16"):
            continue  # TLS begins so, which this address speaks as well
        if entry["status"] == 400 and not entry.get("body_fault") and len(entry["bytes"]) < 2000:
            with Connection(("127.0.0.1", server.admin_port)) as conn:
                send_pieces(conn, [entry["bytes"]])
                assert conn.read_response().status in (400, 403, 421), entry["name"]
