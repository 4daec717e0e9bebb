# SPDX-License-Identifier: MIT
"""HTTP/2 for the tests: a client on python3-h2, a client that sends any frames, and an origin."""
import select
import socket
import struct
import threading
import time
import traceback

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack

from support.net import PATIENCE, free_port
from support.tls import client_context

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL, ENHANCE_YOUR_CALM = 0, 1, 2, 3, 11


def open_socket(port, tls, sni="localhost", timeout=PATIENCE, context=None, preamble=b""):
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(preamble)
    if tls:
        sock = (context or client_context(alpn=("h2",))).wrap_socket(sock, server_hostname=sni)
        assert sock.selected_alpn_protocol() == "h2"
    return sock


class Reply:
    def __init__(self):
        self.status, self.headers, self.body, self.trailers = None, [], b"", []
        self.ended, self.error, self.interim = False, None, []

    def get(self, name):
        return next((value for key, value in self.headers if key == name), None)

    def __repr__(self):
        return f"<{self.status} {self.headers} {len(self.body)} bytes, error {self.error}>"


class H2Client:
    """One connection; requests by stream, read() until the asked streams are over."""

    def __init__(self, port, tls=True, sni="localhost", **more):
        self.sock = open_socket(port, tls, sni, **more)
        self.scheme = "https" if tls else "http"
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False))
        self.replies, self.goaway, self.closed = {}, None, False
        self.conn.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def flush(self):
        data = self.conn.data_to_send()
        if data:
            self.sock.sendall(data)

    def request(self, method="GET", path="/", host="localhost", headers=(), end=True, extra=()):
        stream = self.conn.get_next_available_stream_id()
        self.replies[stream] = Reply()
        self.conn.send_headers(stream, [(":method", method), (":scheme", self.scheme),
                                        (":authority", host), (":path", path), *extra, *headers],
                               end_stream=end)
        self.flush()
        return stream

    def send(self, stream, data, end=False):
        """Waits for window as it must."""
        while data or end:
            room = min(self.conn.local_flow_control_window(stream), self.conn.max_outbound_frame_size)
            if data and room == 0:
                self.step()
                continue
            piece, data = data[:room], data[room:]
            self.conn.send_data(stream, piece, end_stream=end and not data)
            self.flush()
            if not data:
                return

    def trailers(self, stream, headers):
        self.conn.send_headers(stream, headers, end_stream=True)
        self.flush()

    def step(self):
        data = self.sock.recv(65536)
        if not data:
            self.closed = True
            raise EOFError(f"closed; {self.goaway}")
        for event in self.conn.receive_data(data):
            self.take(event)
        self.flush()

    def take(self, event):
        reply = self.replies.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
        if reply is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            reply.headers = list(event.headers)
            reply.status = int(reply.get(":status"))
        elif isinstance(event, h2.events.InformationalResponseReceived):
            reply.interim.append(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            reply.body += event.data
            if event.flow_controlled_length:
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            reply.trailers = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            reply.ended = True
        elif isinstance(event, h2.events.StreamReset):
            reply.ended, reply.error = True, event.error_code

    def read(self, *streams):
        while not all(self.replies[stream].ended for stream in streams):
            self.step()
        return [self.replies[stream] for stream in streams]

    def get(self, path="/", host="localhost", headers=(), method="GET", body=None, extra=()):
        stream = self.request(method, path, host, headers, end=body is None, extra=extra)
        if body is not None:
            self.send(stream, body, end=True)
        return self.read(stream)[0]


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class RawH2:
    """Any frames, in any order. frames: what came, as (kind, flags, stream, payload)."""

    def __init__(self, port, tls=True, sni="localhost", settings=b"", timeout=PATIENCE):
        self.sock = open_socket(port, tls, sni, timeout)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.frames, self.rest, self.ended, self.statuses = [], b"", False, {}
        self.sock.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def block(self, fields):
        return self.encoder.encode(fields, huffman=False)

    def head(self, path="/", host="localhost", method="GET", more=(), scheme="https"):
        return self.block([(":method", method), (":scheme", scheme), (":authority", host), (":path", path),
                           *more])

    def send(self, data):
        """False: the peer has closed."""
        try:
            self.sock.sendall(data)
            return True
        except (ConnectionError, OSError):
            self.ended = True
            return False

    def is_readable(self, seconds):
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def poll(self, seconds=0.0):
        """Takes what is there, for at most `seconds`."""
        while True:
            pending = getattr(self.sock, "pending", lambda: 0)()
            if not pending and not self.is_readable(seconds):
                return
            try:
                data = self.sock.recv(65536)
            except (ConnectionError, OSError):
                data = b""
            if not data:
                self.ended = True
                return
            self.rest += data
            while len(self.rest) >= 9:
                length = int.from_bytes(self.rest[:3], "big")
                if len(self.rest) < 9 + length:
                    break
                kind, stream = self.rest[3], int.from_bytes(self.rest[5:9], "big") & 0x7FFFFFFF
                payload = self.rest[9:9 + length]
                self.frames.append((kind, self.rest[4], stream, payload))
                if kind == HEADERS:  # in the order that they come, or the table would be another
                    fields = dict(self.decoder.decode(payload))
                    self.statuses.setdefault(stream, int(fields.get(":status", 0)))
                self.rest = self.rest[9 + length:]

    def read_to_end(self, seconds=PATIENCE):
        """True when the peer closed in time."""
        end = time.monotonic() + seconds
        while not self.ended and time.monotonic() < end:
            self.poll(0.2)
        return self.ended

    def wait(self, kind, stream=None, seconds=PATIENCE):
        """The payload of the first such frame, or None."""
        def is_it(k, s):
            return k == kind and stream in (None, s)

        self.wait_any(is_it, seconds)
        for number, (k, _, s, payload) in enumerate(self.frames):
            if is_it(k, s):
                del self.frames[number]
                return payload
        return None

    def wait_any(self, is_wanted, seconds=PATIENCE):
        """Until a frame has come of which is_wanted(kind, stream) is true, or the peer has closed."""
        end = time.monotonic() + seconds
        while not (self.ended or any(is_wanted(kind, stream) for kind, _, stream, _ in self.frames)):
            if time.monotonic() > end:
                return
            self.poll(0.1)

    def status(self, stream=1):
        return None if self.wait(HEADERS, stream) is None else self.statuses[stream]

    @property
    def goaway(self):
        """The error code of the last GOAWAY, or None."""
        codes = [int.from_bytes(payload[4:8], "big") for kind, _, _, payload in self.frames
                 if kind == GOAWAY]
        return codes[-1] if codes else None


class H2Origin:
    """An h2 origin (TLS with a context, else prior knowledge). handler(origin, conn, stream, headers, body,
    trailers) is called when a request has ended, in the connection's thread; on_headers(...) earlier.
    stop() fails when something malformed came, or a handler raised."""

    def __init__(self, handler, context=None, on_headers=None, settings=None):
        self.handler, self.context, self.on_headers = handler, context, on_headers
        self.settings = settings or {}
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = free_port()
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(128)
        self.plain_address = f"127.0.0.1:{self.port}"
        self.address = ("https://" if context else "h2c://") + self.plain_address
        self.connections, self.requests, self.faults, self.stopping = 0, [], [], False
        self.socks = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            sock.settimeout(5 * PATIENCE)
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
                if sock.selected_alpn_protocol() != "h2":
                    return
            self.connections += 1
            self.socks.append(sock)
            OriginConnection(self, sock).run()
        except OSError:
            pass
        except Exception:  # a test must see it
            self.faults.append(traceback.format_exc())
        finally:
            sock.close()

    def stop(self):
        self.stopping = True
        self.listener.close()
        for sock in self.socks:
            sock.close()
        assert not self.faults, "\n".join(self.faults)


class OriginConnection:
    def __init__(self, origin, sock):
        self.origin, self.sock = origin, sock
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8"))
        if origin.settings:
            self.conn.local_settings = h2.settings.Settings(client=False, initial_values={
                **dict(self.conn.local_settings), **origin.settings})
        self.streams, self.other_left = {}, False
        self.conn.initiate_connection()

    def flush(self):
        data = self.conn.data_to_send()
        if data:
            self.sock.sendall(data)

    def run(self):
        self.flush()
        while data := self.sock.recv(65536):
            for event in self.receive(data):
                self.take(event)
            self.flush()

    def receive(self, data):
        """The events of it. After a GOAWAY of this side, what the other side sent before it saw that is dropped
        (RFC 9113, 6.8): python3-h2 takes it for an error."""
        closed = self.conn.state_machine.state == h2.connection.ConnectionState.CLOSED
        try:
            return self.conn.receive_data(data)
        except h2.exceptions.ProtocolError:
            if not closed or self.other_left:
                raise
            self.conn.clear_outbound_data_buffer()
            return []

    def take(self, event):
        if isinstance(event, h2.events.ConnectionTerminated):
            self.other_left = True
        elif isinstance(event, h2.events.RequestReceived):
            self.streams[event.stream_id] = [list(event.headers), b"", []]
            if self.origin.on_headers:
                self.origin.on_headers(self.origin, self, event.stream_id, list(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            if event.flow_controlled_length:
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self.streams:
                self.streams[event.stream_id][1] += event.data
        elif isinstance(event, h2.events.TrailersReceived):
            self.streams[event.stream_id][2] = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            headers, body, trailers = self.streams.pop(event.stream_id)
            self.origin.requests.append((headers, body, trailers))
            try:
                self.origin.handler(self.origin, self, event.stream_id, headers, body, trailers)
            except h2.exceptions.StreamClosedError:
                pass  # the other side has given this one up

    def respond(self, stream, headers, body=b"", trailers=None):
        """Small bodies: within the window."""
        self.conn.send_headers(stream, headers, end_stream=not body and trailers is None)
        if body:
            self.conn.send_data(stream, body, end_stream=trailers is None)
        if trailers is not None:
            self.conn.send_headers(stream, trailers, end_stream=True)
        self.flush()
