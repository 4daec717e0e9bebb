# SPDX-License-Identifier: MIT
"""A client that makes changes at a fixed rate over kept connections, with raw bytes."""
import json
import selectors
import socket
import threading
import time


def encode_put(host, target, number):
    body = json.dumps({"targets": [target], "request_headers": {"set": {"X-N": str(number)}}})
    return (f"PUT /v1/routes/{host} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            f"{body}").encode()


def is_whole(data):
    """Is this a response with Content-Length, complete?"""
    head, mark, body = data.partition(b"\r\n\r\n")
    if not mark:
        return False
    at = head.lower().find(b"content-length:")
    return len(body) >= int(head[at + 15:].split(b"\r\n", 1)[0])


def put_one(sock, text):
    """Seconds that it took."""
    start = time.monotonic()
    sock.sendall(text)
    data = b""
    while not is_whole(data):
        piece = sock.recv(65536)
        if not piece:
            raise RuntimeError(f"closed after {data!r}")
        data += piece
    if not data.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
        raise RuntimeError(f"refused: {data[:500]!r}")
    return time.monotonic() - start


def connect(server):
    sock = socket.create_connection(("127.0.0.1", server.admin_port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Changer(threading.Thread):
    """`rate` PUTs a second of 1,000 routes, one after another on each of `count` connections. What
    is late is made up for. .done, .latencies, .fault"""

    def __init__(self, server, rate, seconds, target, count=8):
        super().__init__(daemon=True)
        self.server, self.rate, self.seconds, self.target = server, rate, seconds, target
        self.count, self.done, self.latencies, self.fault = count, 0, [], None

    def run(self):
        try:
            self.change()
        except (OSError, RuntimeError) as fault:
            self.fault = fault

    def change(self):
        selector, free, busy = selectors.DefaultSelector(), [], {}
        for _ in range(self.count):
            sock = connect(self.server)
            selector.register(sock, selectors.EVENT_READ)
            free.append(sock)
        start, sent = time.monotonic(), 0
        while (elapsed := time.monotonic() - start) < self.seconds or busy:
            due = min(int(elapsed * self.rate), int(self.seconds * self.rate))
            while free and sent < due:
                sock = free.pop()
                sock.sendall(encode_put(f"c{sent % 1000}.example", self.target, sent))
                busy[sock], sent = [time.monotonic(), b""], sent + 1
            for key, _ in selector.select(0.0005):
                self.take(key.fileobj, free, busy)
        for sock in free:
            sock.close()

    def take(self, sock, free, busy):
        state = busy[sock]
        piece = sock.recv(65536)
        state[1] += piece
        if not piece or (len(state[1]) > 12 and not state[1].startswith(b"HTTP/1.1 20")):
            raise RuntimeError(f"a change failed: {state[1][:500]!r}")
        if is_whole(state[1]):
            self.latencies.append(time.monotonic() - state[0])
            self.done += 1
            del busy[sock]
            free.append(sock)
