# SPDX-License-Identifier: MIT
"""The configuration: what is wrong is named with file, line and column; flag over environment over
file."""
import os
import re
import socket
import subprocess

import pytest

from support import origin as o
from support.http1 import Connection
from support.net import PATIENCE, free_port, wait_until
from support.process import find_binary

FAULTS = [
    ("listen:\n  htp: ['127.0.0.1:1']\n", "2:3", ["htp", "http"]),
    ("limitz: {}\n", "1:1", ["limitz"]),
    ("timeouts: {header: soon}\n", "1:12", ["timeouts.header", "duration", "soon"]),
    ("timeouts:\n  header: 10s\n  idle: -1s\n", "3:3", ["timeouts.idle"]),
    ("limits:\n  headers: 1000\n", "2:3", ["limits.headers", "1 to 200", "1000"]),
    ("limits:\n  headers: [1]\n", "2:3", ["limits.headers", "number", "list"]),
    ("limits:\n  header_bytes: 32 kilobytes\n", "2:3", ["limits.header_bytes", "size"]),
    ("limits: 5\n", "1:1", ["limits"]),
    ("workers: none\n", "1:1", ["workers"]),
    ("paths: lose\n", "1:1", ["paths", "strict", "loose"]),
    ("listen: {http: ['127.0.0.1:99999']}\n", "1:17", ["listen.http", "99999"]),
    ("trusted_proxies: ['10.0.0.0/33']\n", "1:19", ["trusted_proxies", "10.0.0.0/33"]),
    ("admin: {address: nowhere}\n", "1:9", ["admin.address", "nowhere"]),
    ("store: {url: 'mysql://x'}\n", "1:9", ["sqlite:FILE", "redis://HOST"]),
    ("access_log: {format: xml}\n", "1:14", ["access_log.format", "json", "combined"]),
    ("listen: {half_close: perhaps}\n", "1:10", ["listen.half_close", "true"]),
    ("node: {name: a, name: b}\n", "1:17", ["name"]),
    ("node: {name: a\n", "2:1", []),
    ("\tnode: {}\n", "1:", []),
    ("- a\n", "1:1", []),
]


def run(tmp_path, *args, env=None, config=None):
    if config is not None:
        (tmp_path / "p.yaml").write_text(config)
        args = [args[0], "--config", "p.yaml", *args[1:]]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    return subprocess.run([str(find_binary()), *args], cwd=tmp_path, env={**clean, **(env or {})},
                          capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("text, where, words", FAULTS)
def test_faults_name_their_place(tmp_path, text, where, words):
    for command in ("check", "serve"):
        done = run(tmp_path, command, config=text)
        assert done.returncode == 1, done
        lines = [line for line in done.stderr.splitlines() if f"p.yaml:{where}" in line]
        assert len(lines) == 1 and all(word in lines[0] for word in words), done.stderr
        assert command == "serve" or done.stderr.startswith("p.yaml:"), done.stderr
    assert not list(tmp_path.glob("pointsman.db*"))


def test_all_faults_at_once(tmp_path):
    done = run(tmp_path, "check", config="workers: x\nlimits: {headers: 0, body: y}\nfoo: 1\n")
    assert done.returncode == 1
    for where in ("1:1", "2:10", "2:22", "4:1", "3:1"):
        assert (f"p.yaml:{where}: " in done.stderr) == (where != "4:1"), done.stderr


def test_check_accepts(tmp_path):
    done = run(tmp_path, "check", config="workers: 2\nlimits: {body: 10m}\nnode: {}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert run(tmp_path, "check", config="").returncode == 0


@pytest.mark.parametrize("args, env, status, words", [
    (["--set", "limits.heders=5"], {}, 1, ["--set limits.heders", "limits.headers"]),
    (["--set", "limits.headers=many"], {}, 1, ["--set limits.headers", "many"]),
    (["--set", "limits.headers"], {}, 1, ["--set", "PATH=VALUE"]),
    (["--workers", "0"], {}, 1, ["workers"]),
    (["--nonsense"], {}, 2, ["--nonsense"]),
    ([], {"POINTSMAN_LIMITS_HEADERZ": "5"}, 1,
     ["POINTSMAN_LIMITS_HEADERZ", "POINTSMAN_LIMITS_HEADERS"]),
    ([], {"POINTSMAN_LIMITS_HEADERS": "x"}, 1, ["POINTSMAN_LIMITS_HEADERS"]),
    (["--config", "missing.yaml"], {}, 1, ["missing.yaml"]),
])
def test_faults_of_flags_and_environment(tmp_path, args, env, status, words):
    for command in ("check", "serve"):
        done = run(tmp_path, command, *args, env=env)
        assert done.returncode == status, done
        assert all(word in done.stderr for word in words), done.stderr


def header_limit(server):
    """The value of limits.headers that is in force, found by trying 40, 60 and 80 fields."""
    for count, limit in ((40, 30), (60, 50), (80, 70)):
        headers = [(f"X-{i}", "1") for i in range(count)]
        if server.exchange(host="a.example", headers=headers).status == 431:
            return limit
    return None


def test_precedence(pointsman):
    in_file = {"limits": {"headers": 30}}
    in_environment = {"POINTSMAN_LIMITS_HEADERS": "50"}
    as_flag = ["--set", "limits.headers=70"]
    assert header_limit(pointsman(in_file)) == 30
    assert header_limit(pointsman(in_file, env=in_environment)) == 50
    assert header_limit(pointsman(in_file, env=in_environment, args=as_flag)) == 70
    assert header_limit(pointsman(in_file, args=as_flag)) == 70


def test_listeners_of_flags_replace_all(pointsman):
    ports = [free_port(), free_port()]
    args = [word for port in ports for word in ("--http", f"127.0.0.1:{port}")]
    server = pointsman(args=args)
    server.put_route("a.example", respond={"status": 200, "body": "x"})
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    for port in ports:
        with Connection(("127.0.0.1", port)) as conn:
            assert conn.exchange(host="a.example").text == "x"


def test_admin_address_for_server_and_client(pointsman):
    port = free_port()
    server = pointsman(env={"POINTSMAN_ADMIN": f"127.0.0.1:{port}"}, start=False)
    server.admin_port = port
    server.start()
    server.put_route("a.example", respond={"status": 200, "body": "x"})
    assert "a.example" in server.cli("route", "list").stdout


def test_port_in_use(pointsman):
    first = pointsman()
    for key, section in (("http", {"listen": {"http": [f"127.0.0.1:{first.port}"]}}),
                         ("admin", {"admin": {"address": f"127.0.0.1:{first.admin_port}"}})):
        second = pointsman(section, start=False)
        second.start(wait=False)
        process, second.process = second.process, None
        assert process.wait(20) == 1
        second.check_stderr()
        number = first.port if key == "http" else first.admin_port
        assert f"127.0.0.1:{number}" in second.stderr(), second.stderr()
        assert "another process listens on this address" in second.stderr()
    first.put_route("a.example", respond={"status": 200, "body": "x"})
    for _ in range(40):  # nobody took a share of its connections
        assert first.get(host="a.example").text == "x"


def test_port_in_use_by_another_program(pointsman):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = pointsman({"listen": {"http": [f"127.0.0.1:{other.getsockname()[1]}"]}},
                           start=False)
        server.start(wait=False)
        process, server.process = server.process, None
        assert process.wait(20) == 1 and "another process" in server.stderr()


def test_unix_socket_listeners(pointsman, origin):
    server = pointsman({"listen": {"http": ["unix:http.sock"]}}, start=False)
    server.config["listen"]["http"].append(f"127.0.0.1:{server.port}")
    path = server.folder / "http.sock"
    server.config["listen"]["http"][0] = f"unix:{path}"
    server.start()
    server.put_route("a.example", targets=[origin(o.echo())])
    for _ in range(8):
        with Connection(str(path)) as conn:
            for _ in range(3):
                assert conn.exchange(host="a.example").status == 200
    assert server.get(host="a.example").status == 200
    server.kill9()  # the socket file is left behind
    server.start()
    with Connection(str(path)) as conn:
        assert conn.exchange(host="a.example").status == 200


def test_admin_on_a_unix_socket(pointsman):
    server = pointsman(start=False)
    path = server.folder / "admin.sock"
    server.config["admin"]["address"] = f"unix:{path}"
    server.start(wait=False)

    def is_ready():
        try:
            with Connection(str(path)) as conn:
                return conn.exchange(target="/readyz").status == 200
        except OSError:
            return False

    wait_until(is_ready, "ready")
    with Connection(str(path)) as conn:
        reply = conn.exchange("PUT", "/v1/routes/a.example", body=b'{"respond": {"status": 204}}')
        assert reply.status == 201
    assert server.get(host="a.example").status == 204


def test_open_file_limit_lowers_connections(pointsman):
    server = pointsman({"limits": {"connections": 5000}}, start=False)
    script = server.folder / "limited"
    # Without the right to raise the limit again, which root may have.
    script.write_text("#!/bin/sh\nulimit -n 600\nless='setpriv --bounding-set=-sys_resource'\n"
                      f"$less true 2>/dev/null || less=\nexec $less '{server.binary}' \"$@\"\n")
    script.chmod(0o755)
    server.binary = script
    server.start()
    assert "limits.connections" in server.stderr() and "ulimit -n" in server.stderr()
    told = re.search(r"the limit of open files allows for (\d+) ", server.stderr())
    limit = int(told[1])
    assert 150 <= limit <= 500
    server.put_route("a.example", respond={"status": 200, "body": "x"})
    conns = [server.connect() for _ in range(limit + 50)]
    wait_until(lambda: server.metrics()["pointsman_connections_refused_total"] > 0,
               "connections over the limit refused")
    # The others may still be on their way to a worker.
    wait_until(lambda: server.status()["connections"] == limit, "all that are allowed")
    for conn in conns:
        conn.close()
    wait_until(lambda: server.status()["connections"] == 0, "all gone")
    assert server.get(host="a.example").text == "x"


def test_address_beyond_loopback_takes_the_token(pointsman):
    server = pointsman({"admin": {"address": None}}, start=False)
    server.config["admin"]["address"] = f"0.0.0.0:{server.admin_port}"
    server.start(wait=False)

    def is_ready():
        assert server.is_running(), server.stderr()
        try:
            return server.api("GET", "/readyz").status == 200
        except OSError:
            return False

    wait_until(is_ready, "ready")
    token = (server.folder / "admin.token").read_text().strip()
    assert len(token) >= 32
    assert os.stat(server.folder / "admin.token").st_mode & 0o777 == 0o600
    assert server.api("GET", "/v1/status",
                      headers={"Authorization": f"Bearer {token}"}).status == 200
