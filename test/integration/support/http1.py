# SPDX-License-Identifier: MIT
"""A small strict HTTP/1 client of our own: what is on the wire is what the test sees."""
import json as json_module
import socket
import struct
import time

from support.net import PATIENCE


class Malformed(Exception):
    """The peer sent what is not HTTP/1."""


class Truncated(Exception):
    """The peer closed or was silent before the message was complete; .response has what came, or
    None when not even the head did."""

    def __init__(self, message, response=None):
        super().__init__(message)
        self.response = response


class Headers(list):
    """Fields as (name, value) in their order and case; looked up without case."""

    def getall(self, name):
        return [value for key, value in self if key.lower() == name.lower()]

    def get(self, name, default=None):
        """The value, joined by ", " when there are several."""
        values = self.getall(name)
        return ", ".join(values) if values else default

    def __contains__(self, name):
        return bool(self.getall(name)) if isinstance(name, str) else super().__contains__(name)

    def __getitem__(self, name):
        if isinstance(name, str):
            values = self.getall(name)
            if not values:
                raise KeyError(name)
            return ", ".join(values)
        return super().__getitem__(name)


class Response:
    """status, reason, version, headers, body, trailers; interim: the 1xx before it; raw_head: the
    bytes of its head; complete: False when its body was cut (only with allow_truncated)."""

    def __init__(self, version, status, reason, headers, raw_head):
        self.version, self.status, self.reason = version, status, reason
        self.headers, self.raw_head = headers, raw_head
        self.body, self.trailers, self.interim, self.complete = b"", Headers(), [], True

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json_module.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {list(self.headers)} {self.body[:200]!r}>"


def parse_headers(lines):
    """Field lines (bytes, without CRLF) as Headers; Malformed on what a recipient must refuse."""
    headers = Headers()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.strip() != name or b" " in name or b"\t" in name:
            raise Malformed(f"field line {line!r}")
        if any(c < 0x20 and c != 9 or c == 0x7F for c in line):
            raise Malformed(f"control byte in {line!r}")
        headers.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
    return headers


def split_head(head):
    """The lines of a head that ends with an empty line; Malformed on a bare CR or LF."""
    lines = head[:-4].split(b"\r\n")
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise Malformed(f"bare CR or LF in {head!r}")
    return lines


class Wire:
    """Reads a socket: exactly n bytes, up to a mark, to the end. Each read has the time given.
    `seen` gets every byte that was read, up to its bound."""

    SEEN_MAX = 1 << 20

    def __init__(self, sock):
        self.sock, self.buffer, self.seen, self.ended = sock, bytearray(), bytearray(), False

    def fill(self):
        """More bytes into the buffer; False at the end. TimeoutError, ConnectionError pass."""
        data = self.sock.recv(65536)
        if not data:
            self.ended = True
            return False
        self.buffer += data
        if len(self.seen) < self.SEEN_MAX:
            self.seen += data[:self.SEEN_MAX - len(self.seen)]
        return True

    def take(self, count):
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def some(self, most):
        """1 to `most` bytes; b"" at the end."""
        if not self.buffer and not self.fill():
            return b""
        return self.take(most)

    def exactly(self, count):
        """That many bytes; fewer only at the end."""
        data = b""
        while len(data) < count:
            piece = self.some(count - len(data))
            if not piece:
                break
            data += piece
        return data

    def until(self, mark, most=1 << 20):
        """Up to and with the mark; b"" when the end comes before the first byte."""
        start = 0
        while (at := self.buffer.find(mark, start)) < 0:
            start = max(len(self.buffer) - len(mark) + 1, 0)
            if len(self.buffer) > most:
                raise Malformed(f"{mark!r} is not within {most} bytes")
            if not self.fill():
                if not self.buffer:
                    return b""
                raise Truncated(f"the end came in {bytes(self.buffer[:200])!r}")
        return self.take(at + len(mark))


def iter_chunked(wire, trailers):
    """The data of a chunked body; fills trailers."""
    while True:
        line = wire.until(b"\r\n", 4096)
        size, _, _ = line[:-2].partition(b";")
        if not size or any(c not in b"0123456789abcdefABCDEF" for c in size):
            raise Malformed(f"chunk size {line!r}") if line else Truncated("in a chunked body")
        left = int(size, 16)
        if left == 0:
            break
        while left > 0:
            data = wire.some(left)
            if not data:
                raise Truncated("in a chunk")
            left -= len(data)
            yield data
        while len(wire.buffer) < 2:
            if not wire.fill():
                raise Truncated("after a chunk")
        if wire.take(2) != b"\r\n":
            raise Malformed("chunk data does not end with CRLF")
    lines = []
    while (line := wire.until(b"\r\n", 65536)) != b"\r\n":
        if not line:
            raise Truncated("in the trailer section")
        lines.append(line[:-2])
    trailers.extend(parse_headers(lines))


def iter_length(wire, length):
    while length > 0:
        data = wire.some(length)
        if not data:
            raise Truncated(f"{length} bytes of the body are missing")
        length -= len(data)
        yield data


def iter_to_end(wire):
    while data := wire.some(65536):
        yield data


def body_length(headers):
    """The one Content-Length, or None; Malformed when there are several or it is no number."""
    lengths = headers.getall("content-length")
    if len(lengths) > 1 or (lengths and not lengths[0].isascii()) or (
            lengths and not lengths[0].isdigit()):
        raise Malformed(f"Content-Length {lengths}")
    if lengths and "transfer-encoding" in headers:
        raise Malformed("Content-Length with Transfer-Encoding")
    return int(lengths[0]) if lengths else None


class Connection:
    """A client connection. Close it, or use `with`."""

    def __init__(self, address, timeout=PATIENCE):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire = Wire(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def finish_sending(self):
        """Sends a FIN; reading goes on."""
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method="GET", target="/", host="localhost", headers=(), body=None,
                version="HTTP/1.1"):
        """Sends one request, written as given: Host in front (None: none), then the fields (pairs
        or a dict), Content-Length when there is a body and no framing among them."""
        fields = list(headers.items() if isinstance(headers, dict) else headers)
        names = {name.lower() for name, _ in fields}
        if host is not None and "host" not in names:
            fields.insert(0, ("Host", host))
        if body is not None and not names & {"content-length", "transfer-encoding"}:
            fields.append(("Content-Length", str(len(body))))
        head = f"{method} {target} {version}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n"
        self.send(head.encode("latin-1") + (body or b""))

    def read_head(self):
        """The next head, interim or not, without its body. Truncated when there is none."""
        try:
            raw = self.wire.until(b"\r\n\r\n")
        except ConnectionError as fault:
            raise Truncated(f"{fault} before a response") from fault
        if not raw:
            raise Truncated("the end came before a response")
        first, *lines = split_head(raw)
        parts = first.split(b" ", 2)
        if len(parts) < 3 or parts[0] not in (b"HTTP/1.1", b"HTTP/1.0") or not (
                len(parts[1]) == 3 and parts[1].isdigit()):
            raise Malformed(f"status line {first!r}")
        return Response(parts[0].decode(), int(parts[1]), parts[2].decode("latin-1"),
                        parse_headers(lines), raw)

    def iter_body(self, response, method="GET"):
        """The body's pieces as they come; fills response.trailers."""
        length = body_length(response.headers)
        if method == "HEAD" or response.status < 200 or response.status in (204, 304):
            return
        if "transfer-encoding" in response.headers:
            if response.headers.get("transfer-encoding").lower() != "chunked":
                raise Malformed(f"coding {response.headers.get('transfer-encoding')}")
            yield from iter_chunked(self.wire, response.trailers)
        elif length is not None:
            yield from iter_length(self.wire, length)
        else:
            yield from iter_to_end(self.wire)

    def read_response(self, method="GET", allow_truncated=False):
        """The next final response with its body and what was interim before it (101 is final).
        Truncated when it is cut, unless allowed: then .complete is False."""
        interim = []
        while True:
            response = self.read_head()
            if response.status >= 200 or response.status == 101:
                break
            interim.append(response)
        response.interim = interim
        pieces = []
        try:
            for piece in self.iter_body(response, method):
                pieces.append(piece)
            response.body = b"".join(pieces)
        except (Truncated, ConnectionError) as fault:
            response.body, response.complete = b"".join(pieces), False
            if not allow_truncated:
                raise Truncated(str(fault), response) from fault
        return response

    def exchange(self, method="GET", target="/", host="localhost", headers=(), body=None,
                 version="HTTP/1.1", allow_truncated=False):
        """request() and read_response()."""
        self.request(method, target, host, headers, body, version)
        return self.read_response(method, allow_truncated)

    def read_to_end(self, timeout=10.0):
        """What comes until the peer closes, resets, or the time is up."""
        data, deadline = self.wire.take(len(self.wire.buffer)), time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                piece = self.sock.recv(65536)
            except (TimeoutError, ConnectionError):
                break
            if not piece:
                self.wire.ended = True
                break
            data += piece
        return data

    def is_closed_by_peer(self, timeout=PATIENCE):
        """True when the peer closes or resets within the time, having sent nothing more."""
        self.sock.settimeout(timeout)
        try:
            return not self.wire.buffer and self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True
