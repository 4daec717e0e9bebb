# SPDX-License-Identifier: MIT
"""A scriptable origin: a thread per connection, an HTTP/1 parser of its own that keeps every byte.

A handler is a function of (request, peer): peer.send(bytes), peer.close(), peer.reset(), and
peer.wire to read from. It returns True to keep the connection, else it is closed. The functions at
the end of this file make the usual ones.
"""
import base64
import hashlib
import json
import socket
import struct
import threading
import traceback

from support.http1 import (Headers, Malformed, Truncated, Wire, body_length, iter_chunked,
                           iter_length, parse_headers, split_head)
from support.net import PATIENCE, free_port, wait_until

BODY_MAX = 16 << 20  # bytes of a body that are kept; more is counted and hashed only


class Request:
    """method, target, version, headers, raw_head (bytes as received), body, body_len, trailers,
    connection (0, 1, ... in the order of accepts)."""

    def __init__(self, raw_head, connection):
        first, *lines = split_head(raw_head)
        parts = first.split(b" ")
        if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise Malformed(f"request line {first!r}")
        self.method, self.target, self.version = (part.decode("latin-1") for part in parts)
        self.headers = parse_headers(lines)
        self.raw_head, self.connection = raw_head, connection
        self.body, self.body_len, self.trailers = b"", 0, Headers()
        self.body_sha256 = None
        self.complete = False  # its body was read to the end

    @property
    def path(self):
        return self.target.partition("?")[0]

    def iter_body(self, wire):
        length = body_length(self.headers)
        if "transfer-encoding" in self.headers:
            if self.headers.getall("transfer-encoding") != ["chunked"]:
                raise Malformed(f"coding {self.headers.getall('transfer-encoding')}")
            yield from iter_chunked(wire, self.trailers)
        elif length:
            yield from iter_length(wire, length)

    def __repr__(self):
        return f"<{self.method} {self.target} {list(self.headers)} +{self.body_len}>"


class Peer:
    """The other end of one connection."""

    def __init__(self, sock, number, origin):
        self.sock, self.number, self.origin, self.wire = sock, number, origin, Wire(sock)
        self.is_open = True

    def send(self, data):
        self.sock.sendall(data)

    def read_body(self, request, send_continue=True):
        """Reads the request's body to its end (handlers with reads_body = False)."""
        expects = (request.headers.get("expect") or "").lower() == "100-continue"
        if send_continue and expects:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        digest, pieces, kept = hashlib.sha256(), [], 0
        for piece in request.iter_body(self.wire):
            request.body_len += len(piece)
            digest.update(piece)
            if kept < BODY_MAX:
                pieces.append(piece)
                kept += len(piece)
        request.body, request.body_sha256 = b"".join(pieces), digest.hexdigest()
        request.complete = True

    def reset(self):
        """Closes with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        if self.is_open:
            self.is_open = False
            try:
                self.sock.shutdown(socket.SHUT_RD)  # wakes a thread that reads
            except OSError:
                pass
            self.sock.close()

    def wait_closed(self, timeout=PATIENCE):
        """True when the other side closes within the time; what it sends until then is dropped."""
        self.sock.settimeout(timeout)
        try:
            while self.sock.recv(65536):
                pass
            return True
        except TimeoutError:
            return False
        except OSError:
            return True


class Origin:
    """See conftest.py for how tests get one.

    handler may be set at any time; on(path, handler) answers one path. requests: all heads so far
    (their bodies as they complete); faults: what was not HTTP; errors: handlers that raised.
    """

    def __init__(self, handler=None, name="origin", unix_path=None, host="127.0.0.1", port=None):
        self.handler, self.name, self.host = handler or echo(), name, host
        self.paths = {}
        self.unix_path, self.port = unix_path, None if unix_path else port or free_port()
        bracketed = f"[{host}]" if ":" in host else host
        self.address = f"unix:{unix_path}" if unix_path else f"{bracketed}:{self.port}"
        self.requests, self.faults, self.errors = [], [], []
        self.connection_count = 0
        self.peers = set()
        self.lock = threading.Lock()
        self.listener = None
        self.released = threading.Event()  # ends hang() and pauses when the origin stops
        self.start()

    # --- its life ---

    def start(self):
        """Accepts (again), on the same address."""
        self.released.clear()
        if self.unix_path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(self.unix_path))
        else:
            self.listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((self.host, self.port))
        self.listener.listen(4096)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop_accepting(self):
        """New connections are refused; those open stay."""
        if self.listener is not None:
            listener, self.listener = self.listener, None
            try:
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
            except OSError:
                pass
            listener.close()
            if self.unix_path:
                self.unix_path.unlink(missing_ok=True)

    def close_connections(self, reset=False):
        with self.lock:
            peers = list(self.peers)
        for peer in peers:
            if reset:
                peer.reset()
            else:
                try:
                    peer.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stop(self):
        """Dies: no more accepts, all connections closed."""
        self.released.set()
        self.stop_accepting()
        self.close_connections()

    def check(self):
        """Nothing that came was malformed and no handler failed."""
        assert not self.faults, f"{self.name} received what is not HTTP: {self.faults}"
        assert not self.errors, f"a handler of {self.name} failed:\n" + "\n".join(self.errors)

    # --- what it saw ---

    @property
    def open_count(self):
        with self.lock:
            return len(self.peers)

    @property
    def last(self):
        return self.requests[-1]

    def wait_requests(self, count, timeout=PATIENCE):
        """The requests, when at least `count` heads came."""
        wait_until(lambda: len(self.requests) >= count, f"{count} requests at {self.name}", timeout)
        return self.requests

    def clear(self):
        self.requests = []

    def on(self, path, handler):
        """Answers requests whose path (without query) is this."""
        self.paths[path] = handler
        return self

    # --- threads ---

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                peer = Peer(sock, self.connection_count, self)
                self.connection_count += 1
                self.peers.add(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        try:
            if peer.sock.family != socket.AF_UNIX:
                peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._serve_one(peer):
                pass
        except Malformed as fault:
            self.faults.append(f"{fault} in {bytes(peer.wire.seen[-2000:])!r}")
        except (OSError, Truncated):
            pass  # the other side left, or the test closed this one
        except Exception:  # a test must see what its handler did
            self.errors.append(traceback.format_exc())
        finally:
            peer.close()  # first: who counts those that are open relies on it
            with self.lock:
                self.peers.discard(peer)

    def _serve_one(self, peer):
        raw_head = peer.wire.until(b"\r\n\r\n")
        if not raw_head:
            return False
        request = Request(raw_head, peer.number)
        self.requests.append(request)
        handler = self.paths.get(request.path, self.handler)
        if getattr(handler, "reads_body", True):
            peer.read_body(request)
        keep = handler(request, peer)
        return bool(keep) and (request.headers.get("connection") or "").lower() != "close"


# --- handlers ---


def encode_response(status=200, headers=(), body=b"", reason="Reason", version="HTTP/1.1",
                    chunked=False, length=True, trailers=(), chunk_len=4096):
    """A response as bytes. Content-Length is added unless chunked, told not to (length=False),
    given, or the status has none."""
    body = body.encode() if isinstance(body, str) else body
    fields = list(headers.items() if isinstance(headers, dict) else headers)
    names = {name.lower() for name, _ in fields}
    if chunked:
        fields.append(("Transfer-Encoding", "chunked"))
    elif length and "content-length" not in names and status >= 200 and status != 204:
        fields.append(("Content-Length", str(len(body))))
    head = f"{version} {status} {reason}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n"
    if chunked:
        body = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + chunk_len]), body[i:i + chunk_len])
                        for i in range(0, len(body), chunk_len))
        body += b"0\r\n" + "".join(f"{n}: {v}\r\n" for n, v in trailers).encode() + b"\r\n"
    return head.encode("latin-1") + body


def respond(status=200, headers=(), body=b"", close=False, interim=(), **more):
    """A fixed response; see encode_response for the rest. interim: raw 1xx heads sent before.
    close: closes after it (with length=False: close-delimited)."""
    full = encode_response(status, headers, body, **more)
    head = full[:full.index(b"\r\n\r\n") + 4]

    def handle(request, peer):
        peer.send(b"".join(interim) + (head if request.method == "HEAD" else full))
        return not close and more.get("length", True)

    return handle


def echo(status=200, headers=()):
    """Answers what it received, as JSON: origin, method, target, version, headers (pairs, in
    order), body (latin-1), body_len, trailers, connection."""

    def handle(request, peer):
        body = json.dumps({
            "origin": peer.origin.name, "method": request.method, "target": request.target,
            "version": request.version, "headers": list(request.headers),
            "body": request.body.decode("latin-1"), "body_len": request.body_len,
            "trailers": list(request.trailers), "connection": request.connection}).encode()
        return respond(status, [("Content-Type", "application/json"), *headers], body)(
            request, peer)

    return handle


CLOSE, RESET = object(), object()


def script(*steps, read_body=True, keep=False):
    """Plays steps: bytes are sent as they are, a number pauses for so many seconds, CLOSE and RESET
    end the connection, an Event is waited for, a function is called with (request, peer)."""

    def handle(request, peer):
        for step in steps:
            if step is CLOSE:
                return False
            if step is RESET:
                peer.reset()
                return False
            if isinstance(step, (bytes, bytearray)):
                peer.send(step)
            elif isinstance(step, (int, float)):
                peer.origin.released.wait(step)
            elif isinstance(step, threading.Event):
                step.wait(60)
            else:
                step(request, peer)
        return keep

    handle.reads_body = read_body
    return handle


def one_by_one(data, pause=0.0):
    """Sends bytes each in a packet of its own (and then keeps the connection)."""

    def handle(_request, peer):
        for i in range(len(data)):
            peer.send(data[i:i + 1])
            if pause:
                peer.origin.released.wait(pause)
        return True

    return handle


def hang(read_body=True):
    """Never answers; ends when the other side closes or the origin stops."""

    def handle(_request, peer):
        while not peer.origin.released.is_set():
            peer.sock.settimeout(0.2)
            try:
                if not peer.sock.recv(65536):
                    return False
            except TimeoutError:
                pass
        return False

    handle.reads_body = read_body
    return handle


def sequence(*handlers):
    """The first request gets the first handler, and so on; the last one is kept."""
    turn, lock = iter(handlers), threading.Lock()
    last = handlers[-1]

    def handle(request, peer):
        with lock:
            handler = next(turn, last)
        return handler(request, peer)

    return handle


class stream:
    """A body of `total` bytes, made as it is sent: byte i is i % 251. .sent counts (all requests)."""

    PATTERN = bytes(i % 251 for i in range(251 * 256))

    def __init__(self, total, chunked=False, block_len=64 * 251):
        self.total, self.chunked, self.block_len, self.sent = total, chunked, block_len, 0

    def __call__(self, request, peer):
        framing = ("Transfer-Encoding", "chunked") if self.chunked else (
            "Content-Length", str(self.total))
        peer.send(encode_response(200, [framing], length=False))
        if request.method == "HEAD":
            return True
        at = 0
        while at < self.total:
            block = self.PATTERN[at % 251:at % 251 + min(self.block_len, self.total - at)]
            peer.send(b"%x\r\n%s\r\n" % (len(block), block) if self.chunked else block)
            at += len(block)
            self.sent += len(block)
        if self.chunked:
            peer.send(b"0\r\n\r\n")
        return True


def switch_protocols(protocol="echo", headers=()):
    """101, then every byte comes back until the other side sends a FIN; then a FIN."""

    def handle(_request, peer):
        fields = [("Connection", "Upgrade"), ("Upgrade", protocol), *headers]
        peer.send(encode_response(101, fields, length=False))
        while data := peer.wire.some(65536):
            peer.send(data)
        return False

    handle.reads_body = False
    return handle


def websocket_echo():
    """RFC 6455: accepts the upgrade and sends each message back; answers ping and close."""

    def handle(request, peer):
        key = request.headers.get("sec-websocket-key", "")
        accept = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"),
                  ("Sec-WebSocket-Accept", base64.b64encode(accept).decode())]
        peer.send(encode_response(101, fields, length=False))
        while True:
            first, payload = read_frame(peer.wire)
            opcode = first & 0x0F
            if opcode == 9:
                first = first & 0xF0 | 10
            if opcode != 10:
                peer.send(encode_frame(first, payload))
            if opcode == 8:
                return False

    handle.reads_body = False
    return handle


def read_exactly(wire, count):
    data = b""
    while len(data) < count:
        piece = wire.some(count - len(data))
        if not piece:
            raise Truncated("in a frame")
        data += piece
    return data


def read_frame(wire):
    """(first byte, unmasked payload)"""
    first, second = read_exactly(wire, 2)
    length = second & 0x7F
    if length == 126:
        length = struct.unpack("!H", read_exactly(wire, 2))[0]
    elif length == 127:
        length = struct.unpack("!Q", read_exactly(wire, 8))[0]
    mask = read_exactly(wire, 4) if second & 0x80 else b"\0\0\0\0"
    payload = read_exactly(wire, length)
    repeated = (mask * (length // 4 + 1))[:length]
    value = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return first, value.to_bytes(length, "big")


def encode_frame(first, payload):
    """An unmasked frame, as servers send them."""
    length = len(payload)
    if length < 126:
        return bytes([first, length]) + payload
    if length < 65536:
        return bytes([first, 126]) + struct.pack("!H", length) + payload
    return bytes([first, 127]) + struct.pack("!Q", length) + payload
