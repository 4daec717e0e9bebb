# SPDX-License-Identifier: MIT
"""The proxies that are measured: this one, nginx, HAProxy. Each on one core with one worker."""
import json
import os
import shutil
import subprocess
import urllib.request

import measure
from support.net import free_port, is_listening, wait_until
from support.process import Pointsman

BATCH = 10_000

NGINX = """\
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections {connections}; }}
http {{
    access_log {log};
    keepalive_requests 100000000;
    keepalive_timeout 300s;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {pools}
    server {{
        listen 127.0.0.1:{port} backlog=4096 default_server;
        server_name status.example;
        location = /status {{ stub_status; access_log off; }}
    }}
}}
"""

NGINX_POOL = """\
    upstream {name} {{
        {balance}
        {servers}
        keepalive {idle};
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        server_name {name}.example;
        location / {{
            proxy_pass http://{name};
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
"""


def nginx_program():
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Nginx:
    """nginx with a server block for each pool (name: targets), at first one, "bench"; access log as
    shipped (combined, unbuffered) or off."""

    name = "nginx"

    def __init__(self, folder, origin_port, log, pools=None, balance=""):
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        text = NGINX.format(
            folder=folder, port=self.port, files=20000, connections=20000,
            log=f"{folder}/access.log" if log else "off",
            user="user root;" if os.getuid() == 0 else "",
            pools="".join(
                NGINX_POOL.format(name=name, port=self.port, balance=balance,
                                  idle=max(128, 4 * len(targets)),
                                  servers=" ".join(f"server {target};" for target in targets))
                for name, targets in (pools or {"bench": [f"127.0.0.1:{origin_port}"]}).items()))
        (folder / "nginx.conf").write_text(text)
        self.process = subprocess.Popen(
            [nginx_program(), "-p", str(folder), "-c", str(folder / "nginx.conf"),
             "-e", str(folder / "error.log")])
        wait_until(lambda: is_listening(self.port), "nginx listens")
        measure.pin(self.pids(), measure.PROXY_CORE)

    def pids(self):
        return measure.process_tree(self.process.pid)

    def requests(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status") as reply:
            return int(reply.read().split()[9])

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Ours:
    """pointsman with one worker and `routes` routes; the load's is the last one loaded."""

    name = "pointsman"

    def __init__(self, folder, origin_port, log, routes=1, whole=True):
        folder.mkdir()
        self.server = Pointsman(folder, {
            "access_log": {"file": "access.log" if log else ""},
            "timeouts": {"idle": "300s"},
        }, release=True, workers=1).start()
        self.port, self.target = self.server.port, f"127.0.0.1:{origin_port}"
        load_routes(self.server, routes - 1)
        self.server.put_pool("bench", [self.target], keepalive={"idle": 128})
        self.server.put_route("bench.example", pool="bench")
        self.pin(whole)

    def pin(self, whole):
        """All threads on the proxy's core; or the worker there and the others beside the load."""
        measure.pin(self.pids(), measure.PROXY_CORE if whole else measure.LOAD_CORE)
        measure.pin(self.pids(), measure.PROXY_CORE, only="worker-")

    def pids(self):
        return [self.server.pid]

    def requests(self):
        return int(sum(worker["requests"] for worker in self.server.status()["workers"]))

    def stop(self):
        self.server.stop()


def load_routes(server, count, target="10.0.0.1:8080"):
    """Routes with one target each, by POST /v1/batch."""
    for start in range(0, count, BATCH):
        data = "".join(
            json.dumps({"op": "put", "kind": "route", "key": f"h{i}.example.com",
                        "value": {"targets": [target]}}) + "\n"
            for i in range(start, min(start + BATCH, count))).encode()
        reply = server.api("POST", "/v1/batch", data=data, timeout=120,
                           headers={"Content-Type": "application/x-ndjson"})
        if reply.status != 200:
            raise RuntimeError(f"the routes were refused: {reply}")
