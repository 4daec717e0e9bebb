# SPDX-License-Identifier: MIT
"""Real clients and real servers on both sides."""
import asyncio
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time

import httpx
import pytest

from support.net import free_port, is_listening, wait_until

HOST = "a.example"


def curl(*args, data=None):
    done = subprocess.run(["curl", "-sS", "-m", "100", *args], capture_output=True, input=data,
                          timeout=120, check=False)
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture
def large(tmp_path):
    """A file of 30 MB, and its hash."""
    path = tmp_path / "large"
    data = os.urandom(1 << 20) * 30
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


@pytest.fixture
def node(pointsman, node_origin):
    server, target = pointsman(), node_origin()
    server.put_route("*", targets=[target])
    return server, target


# --- nginx ---


def test_nginx(pointsman, nginx_origin):
    server, nginx = pointsman(), nginx_origin()
    server.put_route("*", targets=[nginx])
    assert curl(server.url("/hello")) == b"hello from nginx\n"
    told = curl("-H", "Host: a.example", server.url("/headers")).decode().split()
    assert told == ["a.example", "127.0.0.1", "1.1", "pointsman"]
    assert b"404 Not Found" in curl(server.url("/nothing"))
    with httpx.Client(timeout=60) as client:
        for _ in range(250):  # nginx closes its connections now and then: nobody sees it
            assert client.get(server.url("/hello")).text == "hello from nginx\n"
    assert server.metrics()["pointsman_upstream_reuses_total"] > 100


def test_nginx_that_closes_often(pointsman, nginx_origin):
    """keepalive_requests 3, keepalive_timeout 1s: connections end all the time."""
    server = pointsman()
    nginx = nginx_origin("keepalive_requests 3; location = /p { return 200 'p'; }")
    server.put_route("*", targets=[nginx])
    with httpx.Client(timeout=60) as client:
        for _ in range(100):
            assert client.post(server.url("/p"), content=b"x").text == "p"
            assert client.get(server.url("/p")).text == "p"


def test_nginx_files(pointsman, nginx_origin, large):
    server, nginx = pointsman(), nginx_origin()
    server.put_route("*", targets=[nginx])
    (nginx.folder / "html/large").write_bytes(large[0].read_bytes())
    assert hashlib.sha256(curl(server.url("/large"))).hexdigest() == large[1]
    part = curl("-r", "1000-1999", server.url("/large"))
    assert part == large[0].read_bytes()[1000:2000]
    etag = httpx.head(server.url("/large"), timeout=60).headers["etag"]
    reply = httpx.get(server.url("/large"), headers={"If-None-Match": etag}, timeout=60)
    assert reply.status_code == 304 and reply.content == b""
    reply = httpx.head(server.url("/large"), timeout=60)
    assert reply.headers["content-length"] == str(30 << 20)


def test_nginx_redirects_work_from_outside(pointsman, nginx_origin):
    server, nginx = pointsman(), nginx_origin()
    server.put_route("*", targets=[nginx])
    assert curl("-L", server.url("/redirect")) == b"hello from nginx\n"
    (nginx.folder / "html/folder").mkdir()
    (nginx.folder / "html/folder/index.html").write_text("index")
    assert curl("-L", server.url("/folder")) == b"index"


def test_nginx_restarts(pointsman, nginx_origin):
    server, nginx = pointsman(), nginx_origin()
    server.put_route("*", targets=[nginx])
    with httpx.Client(timeout=60) as client:
        assert client.get(server.url("/hello")).status_code == 200
        command = nginx.process.args
        nginx.stop()
        assert client.get(server.url("/hello")).status_code == 502
        nginx.run(command)
        assert client.get(server.url("/hello")).status_code == 200


def test_through_nginx_in_front(pointsman, nginx_origin, origin):
    """The other way round: nginx passes on to us, and is trusted."""
    server, target = pointsman({"trusted_proxies": ["127.0.0.1"]}), origin()
    server.put_route(HOST, targets=[target])
    nginx = nginx_origin(f"""location /front {{ proxy_pass http://127.0.0.1:{server.port}/;
        proxy_set_header Host a.example; proxy_set_header X-Forwarded-For 203.0.113.5; }}""")
    for _ in range(3):  # HTTP/1.0 with Connection: close, as nginx does by default
        told = httpx.get(f"http://127.0.0.1:{nginx.port}/front/x", timeout=60).json()
        assert told["target"] in ("/x", "//x")
    assert target.last.headers["x-real-ip"] == "203.0.113.5"


# --- Node ---


def test_node(node):
    server, _ = node
    told = httpx.post(server.url("/x?y"), content=b"hello", timeout=60).json()
    assert (told["method"], told["target"], told["body"]) == ("POST", "/x?y", "hello")

    def pieces():
        for i in range(100):
            yield b"%d," % i

    told = httpx.post(server.url("/"), content=pieces(), timeout=60).json()
    assert told["body"] == "".join(f"{i}," for i in range(100))
    assert curl(server.url("/stream")).count(b"\n") == 100
    assert curl("-H", "Expect: 100-continue", "-d", "x" * 5000, server.url("/")).count(b"xx") > 0


def test_node_answers_early(node):
    server, _ = node
    with httpx.Client(timeout=60) as client:
        for _ in range(5):
            reply = client.post(server.url("/early"), content=b"x" * 500000)
            assert reply.text == "early"


# --- Python's own server ---


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left > 0:
            piece = self.rfile.read(min(left, 65536))
            digest.update(piece)
            left -= len(piece)
        self.reply(digest.hexdigest().encode())

    def do_GET(self):
        self.reply(b"hello")

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(params=["HTTP/1.0", "HTTP/1.1"])
def python_origin(request):
    handler = type("Own", (Handler,), {"protocol_version": request.param})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_python_server(pointsman, python_origin, large):
    server = pointsman()
    server.put_route("*", targets=[python_origin])
    with httpx.Client(timeout=60) as client:
        for _ in range(20):
            assert client.get(server.url("/")).text == "hello"
    assert curl("--data-binary", f"@{large[0]}", server.url("/")).decode() == large[1]


def test_python_module_as_a_server(pointsman, tmp_path, large):
    """python3 -m http.server: HTTP/1.0, closes after each response."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(port)],
                               cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(port), "it listens")
        server = pointsman()
        server.put_route("*", targets=[f"127.0.0.1:{port}"])
        assert hashlib.sha256(curl(server.url("/large"))).hexdigest() == large[1]
        assert b"large" in curl(server.url("/"))
    finally:
        process.terminate()
        process.wait(60)


# --- curl and httpx as clients ---


def test_curl_in_many_ways(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route("*", targets=[target])
    url = server.url("/")
    assert curl("-0", url)
    assert curl("-I", url).startswith(b"HTTP/1.1 200 ")
    assert curl("-X", "OPTIONS", "--request-target", "*", url)
    assert curl("-T", "-", url, data=b"from a pipe" * 1000)  # chunked
    assert target.last.body == b"from a pipe" * 1000
    assert curl("-F", "file=@/proc/self/status;filename=x", url)
    assert curl("-x", f"http://127.0.0.1:{server.port}", "http://shop.example/path")
    assert target.last.headers["host"] == "shop.example" and target.last.target == "/path"
    assert curl("--http2", url)  # offers h2c, which is not taken
    assert "upgrade" not in target.last.headers
    assert curl(*[url] * 20).count(b'"GET"') == 20


def test_httpx_many_at_once(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route("*", targets=[target])

    async def run():
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            replies = await asyncio.gather(*[
                client.post(server.url(f"/{i}"), content=b"x" * i * 10) for i in range(400)])
            assert all(r.json()["body_len"] == i * 10 for i, r in enumerate(replies))

    asyncio.run(run())


def test_httpx_streams(pointsman, origin):
    server, target = pointsman(), origin()
    server.put_route("*", targets=[target])

    def slow(_request, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for i in range(5):
            peer.send(b"data: %d\n\n" % i)
            peer.origin.released.wait(0.1)
        return False

    target.handler = slow
    times = []
    with httpx.stream("GET", server.url("/")) as reply:
        for line in reply.iter_lines():
            if line.strip():
                times.append(time.monotonic())
    assert len(times) == 5 and times[-1] - times[0] > 0.3  # each as it came
