# SPDX-License-Identifier: MIT
"""Real servers: nginx and Node as origins, Knot for DNS."""
import os
import pathlib
import shutil
import subprocess

from support.net import PATIENCE, free_port, is_listening, wait_until

NGINX_CONFIG = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
http {{
    access_log {folder}/nginx-access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/plain;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/html;
        location = /hello {{ return 200 "hello from nginx\\n"; }}
        location = /headers {{ return 200 "$http_host $http_x_forwarded_for $http_via\\n"; }}
        location = /redirect {{ return 302 http://127.0.0.1:{port}/hello; }}
        {locations}
    }}
}}
"""


class Program:
    """A server program; address and port as an origin has them."""

    def __init__(self, folder, port):
        self.folder, self.port, self.address = pathlib.Path(folder), port, f"127.0.0.1:{port}"
        self.process = None

    def run(self, command):
        with open(self.folder / "output.txt", "ab") as out:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out,
                                            stdin=subprocess.DEVNULL)

        def is_up():
            if self.process.poll() is not None:
                raise AssertionError(f"{command[0]} ended:\n{self.output()}")
            return is_listening(self.port)

        wait_until(is_up, f"{command[0]} listens")
        return self

    def output(self):
        return (self.folder / "output.txt").read_text(errors="replace")

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def start_nginx(folder, locations=""):
    """nginx with /hello, /headers, /redirect, the files in folder/html, and more locations. None
    when it is not installed."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        return None
    server = Program(folder, free_port())
    (server.folder / "html").mkdir(exist_ok=True)
    config = NGINX_CONFIG.format(folder=server.folder, port=server.port, locations=locations,
                                 user="user root;" if os.getuid() == 0 else "")
    (server.folder / "nginx.conf").write_text(config)
    return server.run([program, "-p", str(server.folder), "-c", str(server.folder / "nginx.conf"),
                       "-e", str(server.folder / "error.log")])


def start_node(folder):
    """Node's HTTP server (support/node_origin.js). None when it is not installed."""
    program = shutil.which("node")
    if program is None:
        return None
    server = Program(folder, free_port())
    source = pathlib.Path(__file__).parent / "node_origin.js"
    return server.run([program, str(source), str(server.port)])


KNOT_CONFIG = """\
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}/db"
log:
  - target: stderr
    any: info
control:
    listen: "{folder}/knot.sock"
zone:
  - domain: {zone}
    storage: "{folder}"
    file: "zone"
    journal-content: none
    zonefile-load: whole
"""


class Knot(Program):
    """An authoritative server for one zone. set(["app 1 A 127.0.0.2", ...]) replaces its records;
    they are served when it returns."""

    def __init__(self, folder, program, zone):
        super().__init__(folder, free_port())
        self.program, self.zone, self.serial = program, zone, 0
        self.write([])
        (self.folder / "knot.conf").write_text(
            KNOT_CONFIG.format(folder=self.folder, port=self.port, zone=zone))
        self.start()

    def start(self):
        self.run([self.program, "-c", str(self.folder / "knot.conf")])  # TCP tells that it is up

    def write(self, records):
        self.serial += 1
        lines = ["$TTL 1", f"@ SOA ns admin {self.serial} 3600 600 86400 1", "@ NS ns",
                 "ns A 127.0.0.1", *records]
        (self.folder / "zone").write_text("\n".join(lines) + "\n")

    def set(self, records):
        self.write(records)
        done = f"-> {self.serial}"
        command = [pathlib.Path(self.program).with_name("knotc"), "-s",
                   str(self.folder / "knot.sock"), "zone-reload", self.zone]
        wait_until(lambda: subprocess.run(command, capture_output=True, timeout=PATIENCE,
                                          check=False).returncode == 0, "knot is told")
        wait_until(lambda: f"{done}," in self.output(), "the zone is served")


def start_knot(folder, zone="test"):
    """None when it is not installed."""
    program = shutil.which("knotd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return None if program is None else Knot(folder, program, zone)
