# SPDX-License-Identifier: MIT
"""Cases with TLS and HTTP/2: requests, handshakes, certificates, idle connections."""
import re
import resource
import socket
import ssl
import subprocess
import time

import measure
import tls_peers
from measure import median, percentile

CORE = ["taskset", "-c", str(measure.LOAD_CORE)]


def run(command, timeout=120):
    done = subprocess.run([*CORE, *command], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr[-500:]}{done.stdout[-500:]}")
    return done.stdout


def wrk(side, seconds):
    text = run(["wrk", "-t", "1", "-c", "100", "-d", f"{seconds}s", "-H", f"Host: {tls_peers.HOST}",
                f"https://127.0.0.1:{side.port}/bench/page"])
    errors = re.findall(r"Socket errors:.*|Non-2xx.*", text)
    if errors:
        raise RuntimeError(f"{side.name}: {errors}")
    return int(re.search(r"(\d+) requests in", text)[1])


def h2load(side, seconds):
    text = run(["h2load", "-c", "20", "-m", "50", "-t", "1", "-D", str(seconds),
                f"--connect-to=127.0.0.1:{side.port}", f"https://{tls_peers.HOST}:{side.port}/bench/page"])
    found = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed,"
                      r" (\d+) errored", text)
    if int(found[4]) + int(found[5]) > 0 or "h2" not in text:
        raise RuntimeError(f"{side.name}: {text}")
    return int(found[3])


def handshakes(side, seconds, resumed):
    """Connections one after the other, without a request."""
    text = run(["openssl", "s_time", "-connect", f"127.0.0.1:{side.port}", "-reuse" if resumed else "-new",
                "-time", str(seconds), "-tls1_2" if resumed else "-tls1_3"], seconds * 4 + 30)
    return int(re.findall(r"(\d+) connections in \d+ real seconds", text)[-1])


def compare(bench, name, load, goal_share, best_of, note=""):
    """Rounds in turns; CPU of all of a proxy's processes and their softirqs, by what `load` counted."""
    sides = [kind(bench.new_folder(), bench.origin_port) for kind in tls_peers.there()]
    results = {side.name: [] for side in sides}
    try:
        noise = measure.idle_noise(measure.PROXY_CORE)
        for _ in range(bench.rounds):
            for side in sides:
                start, core = time.monotonic(), measure.core_seconds(measure.PROXY_CORE)
                own = measure.process_seconds(side.pids())
                count = load(side, bench.seconds)
                elapsed = time.monotonic() - start
                core = measure.core_seconds(measure.PROXY_CORE) - core
                own = measure.process_seconds(side.pids()) - own
                results[side.name].append({
                    "core_us": (core - (noise if noise < 0.03 else 0) * elapsed) / count * 1e6,
                    "process_us": own / count * 1e6, "per_second": count / elapsed})
    finally:
        for side in sides:
            side.stop()
    middle = {side: {key: median([run[key] for run in runs]) for key in runs[0]}
              for side, runs in results.items()}
    for side, row in middle.items():
        bench.row(f"{name}: {side}", row["core_us"], "us", f"{note}; processes "
                  f"{row['process_us']:.2f} us, {row['per_second']:,.0f}/s")
    peers = [middle[peer]["core_us"] for peer in best_of if peer in middle]
    if peers:
        share = middle["pointsman"]["core_us"] / min(peers)
        bench.row(f"{name}: pointsman / best of {', '.join(p for p in best_of if p in middle)}", share, "",
                  "", f"at most {goal_share}", share <= goal_share)


def https_get(bench):
    """HTTPS GET, 1 KiB, 100 keep-alive connections"""
    compare(bench, "HTTPS GET 1 KiB", wrk, 1.03, ("nginx", "haproxy", "h2o"), "a request")


def full_handshake(bench):
    """Full TLS 1.3 handshakes, ECDSA P-256, no resumption"""
    compare(bench, "full handshake", lambda side, seconds: handshakes(side, seconds, False), 1.03,
            ("nginx", "haproxy", "h2o"), "a connection")


def resumed_handshake(bench):
    """Resumed TLS 1.2 handshakes by ticket, against full ones"""
    compare(bench, "resumed handshake", lambda side, seconds: handshakes(side, seconds, True), 1.1,
            ("nginx", "haproxy", "h2o"), "a connection, by ticket")


def h2_front(bench):
    """HTTP/2 in front, 20 connections with 50 streams"""
    compare(bench, "h2, 20 x 50", h2load, 1.0, ("nginx", "h2o"), "a request")


def client_context(protocol):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


CONTEXTS = {protocol: client_context(protocol) for protocol in ("http/1.1", "h2")}


def open_tls(port, protocol):
    context = CONTEXTS[protocol]
    plain = socket.create_connection(("127.0.0.1", port), 10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock = context.wrap_socket(plain, server_hostname=tls_peers.HOST)
    if protocol == "h2":
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        sock.recv(65536)
        sock.sendall(b"\0\0\0\4\1\0\0\0\0")
    else:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        while not data.endswith(b"x" * 1024):
            data += sock.recv(65536)
    return sock


def idle_tls(bench):
    """Memory of idle TLS connections, HTTP/1 and h2"""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = 500 if bench.quick else 5000
    for protocol, goal in (("http/1.1", 14), ("h2", 30)):
        for kind in tls_peers.there():
            side, socks = kind(bench.new_folder(), bench.origin_port), []
            try:
                socks += [open_tls(side.port, protocol) for _ in range(200)]
                time.sleep(0.5)
                before = measure.resident(side.pids())
                socks += [open_tls(side.port, protocol) for _ in range(count)]
                time.sleep(1.5)
                each = (measure.resident(side.pids()) - before) / count / 1024
            finally:
                for sock in socks:
                    sock.close()
                side.stop()
            ours = kind is tls_peers.Ours
            bench.row(f"idle TLS connection, {protocol}: {side.name}", each, "KiB",
                      f"resident, {count:,} of them", f"at most {goal}" if ours else None,
                      each <= goal if ours else None)


def put_certificates(server, count, folder):
    """`count` certificates of their own names, in batches. One key for all: what is measured is not its
    making."""
    import datetime
    import json
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    key = ec.generate_private_key(ec.SECP256R1())
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Bench CA")])
    now = datetime.datetime.utcnow() - datetime.timedelta(days=1)
    end = now + datetime.timedelta(days=90)

    def issue(subject, issuer, public, signer, extension):
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
                .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(end)
                .add_extension(extension, False).sign(signer, hashes.SHA256()))

    def pem(certificate):
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    ca = pem(issue(ca_name, ca_name, ca_key.public_key(), ca_key,
                   x509.BasicConstraints(ca=True, path_length=None)))
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption()).decode()
    for start in range(0, count, 1000):
        lines = []
        for i in range(start, min(start + 1000, count)):
            name = f"c{i}.example"
            subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
            leaf = pem(issue(subject, ca_name, key.public_key(), ca_key,
                             x509.SubjectAlternativeName([x509.DNSName(name)])))
            lines.append(json.dumps({"op": "put", "kind": "certificate", "key": f"c{i}",
                                     "value": {"chain": leaf + ca, "key": key_pem}}))
        reply = server.api("POST", "/v1/batch", data=("\n".join(lines) + "\n").encode(), timeout=120,
                           headers={"Content-Type": "application/x-ndjson"})
        if reply.status != 200:
            raise RuntimeError(f"refused: {reply}")


def shake(port, name):
    """Seconds of one full handshake, connect included."""
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        with CONTEXTS["http/1.1"].wrap_socket(plain, server_hostname=name):
            return time.monotonic() - start


def many_certificates(bench):
    """100,000 certificates: ready, first handshakes, memory of those in use"""
    count, used = (5000, 500) if bench.quick else (100_000, 5000)
    side = tls_peers.Ours(bench.new_folder(), bench.origin_port)
    server = side.server
    put_certificates(server, count, side.server.folder)
    server.stop()
    start = time.monotonic()
    server.start()
    ready = time.monotonic() - start
    measure.pin(side.pids(), measure.PROXY_CORE)
    for i in range(50):
        shake(server.https_port, f"c{i}.example")
    before = measure.resident(side.pids())
    times = [shake(server.https_port, f"c{100 + i * (count - 100) // used}.example")
             for i in range(used)]
    each = (measure.resident(side.pids()) - before) / used / 1024
    side.stop()
    bench.row("certificates: ready", ready, "s", f"{count:,}; with the program's start", "under 2",
              ready < 2)
    bench.row("certificates: first handshake, p99", percentile(times, 0.99) * 1e3, "ms",
              f"max {max(times) * 1e3:.1f}, with the client's part", "under 20", max(times) < 0.02)
    bench.row("certificates: in use, each", each, "KiB", f"resident, {used:,} in use", "at most 25",
              each <= 25)


CASES = {function.__name__: function for function in (
    https_get, full_handshake, resumed_handshake, h2_front, many_certificates, idle_tls)}
