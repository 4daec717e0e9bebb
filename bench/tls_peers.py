# SPDX-License-Identifier: MIT
"""The same proxies with TLS and HTTP/2: nginx, HAProxy, H2O, this one. One worker each; certificate
ECDSA P-256 for "localhost"; the origin is plain HTTP/1 on kept connections."""
import os
import shutil
import subprocess

import measure
from support.net import free_port, is_listening, wait_until
from support.process import Pointsman

HOST = "localhost"  # a name that every client resolves by itself, so that SNI and Host are equal

NGINX = """\
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 300s;
    http2_max_concurrent_streams 128;
    http2_max_requests 100000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 1024;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} ssl http2 backlog=4096;
        server_name localhost;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets on;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header X-Forwarded-Port $server_port;
        }}
    }}
}}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 9000
    ssl-default-bind-options ssl-min-ver TLSv1.2
    tune.ssl.default-dh-param 2048
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    option forwardfor
    http-reuse always
frontend tls
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn h2,http/1.1
    http-request set-header X-Forwarded-Proto https
    default_backend origin
backend origin
    server one 127.0.0.1:{origin} pool-max-conn -1
"""

H2O = """\
{user}
num-threads: 1
max-connections: 9000
http1-request-timeout: 300
http2-idle-timeout: 300
listen:
  host: 127.0.0.1
  port: {port}
  ssl:
    certificate-file: {folder}/cert.pem
    key-file: {folder}/key.pem
    minimum-version: TLSv1.2
hosts:
  "localhost:{port}":
    paths:
      "/":
        proxy.reverse.url: "http://127.0.0.1:{origin}/"
        proxy.preserve-host: ON
        proxy.timeout.keepalive: 300000
"""


def make_certificate(folder, names=(HOST,), days=30):
    """Self-signed ECDSA P-256 with OpenSSL's program: cert.pem, key.pem, both.pem in `folder`."""
    sans = ",".join(f"DNS:{name}" for name in names)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", str(days),
         "-subj", f"/CN={names[0]}", "-addext", f"subjectAltName={sans}"],
        check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() +
                                     (folder / "key.pem").read_text())


class Peer:
    """A program with a configuration file, on one core."""

    program = template = None

    def __init__(self, folder, origin_port):
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        make_certificate(folder)
        file = folder / "peer.conf"
        file.write_text(self.template.format(
            folder=folder, port=self.port, origin=origin_port,
            user=self.user_line if os.getuid() == 0 else ""))
        self.process = subprocess.Popen(self.command(file), stdout=subprocess.DEVNULL,
                                        stderr=(folder / "stderr").open("wb"))
        wait_until(lambda: is_listening(self.port), f"{self.name} listens")
        measure.pin(self.pids(), measure.PROXY_CORE)

    user_line = ""

    @classmethod
    def path(cls):
        return shutil.which(cls.program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def command(self, file):
        raise NotImplementedError

    def pids(self):
        return measure.process_tree(self.process.pid)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Nginx(Peer):
    name = program = "nginx"
    template, user_line = NGINX, "user root;"

    def command(self, file):
        return [self.path(), "-p", str(self.folder), "-c", str(file), "-e",
                str(self.folder / "error.log")]


class Haproxy(Peer):
    name = program = "haproxy"
    template = HAPROXY

    def command(self, file):
        return [self.path(), "-db", "-f", str(file)]


class H2o(Peer):
    name = program = "h2o"
    template, user_line = H2O, "user: root"

    def command(self, file):
        return [self.path(), "-c", str(file)]


class Ours:
    """This one with a route for the host and `certificates` more that nobody asks for."""

    name = "pointsman"

    def __init__(self, folder, origin_port, workers=1):
        folder.mkdir()
        make_certificate(folder)
        self.server = Pointsman(folder / "node", {
            "access_log": {"file": ""}, "timeouts": {"idle": "300s"},
        }, release=True, workers=workers, https=True)
        (folder / "node").mkdir(exist_ok=True)
        self.server.start()
        self.port = self.server.https_port
        self.server.put_certificate("bench", (folder / "cert.pem").read_text(),
                                    (folder / "key.pem").read_text())
        self.server.put_pool("bench", [f"127.0.0.1:{origin_port}"], keepalive={"idle": 1024})
        self.server.put_route(HOST, pool="bench")
        measure.pin(self.pids(), measure.PROXY_CORE)

    @classmethod
    def path(cls):
        return "built"

    def pids(self):
        return [self.server.pid]

    def stop(self):
        self.server.stop()


ALL = (Ours, Nginx, Haproxy, H2o)


def there():
    return [kind for kind in ALL if kind.path()]
