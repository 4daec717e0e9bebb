# SPDX-License-Identifier: MIT
"""One pointsman process in a folder of its own, with its admin API."""
import http.client
import json as json_module
import os
import pathlib
import re
import signal
import subprocess
from urllib.parse import quote

import yaml

from support.http1 import Connection, Headers, Response
from support.net import PATIENCE, free_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
FAULTS = re.compile(r"Sanitizer|runtime error:|invariant failed", re.IGNORECASE)
START_TIMEOUT = STOP_TIMEOUT = PATIENCE


def find_binary(release=False):
    """The program under test: POINTSMAN_BINARY, or the sanitized build. For measurements:
    POINTSMAN_RELEASE_BINARY, or an optimized build."""
    if release:
        names = ["build/gcc/src/pointsman", "build/release/src/pointsman"]
        given = os.environ.get("POINTSMAN_RELEASE_BINARY")
    else:
        names = ["build/asan/src/pointsman"]
        given = os.environ.get("POINTSMAN_BINARY")
    candidates = [pathlib.Path(given).resolve()] if given else [ROOT / name for name in names]
    for path in candidates:
        if path.is_file():
            return path
    raise AssertionError(f"no program to test at {' or '.join(map(str, candidates))}: build it, "
                         "or run script/test")


def merge(base, more):
    """A new dict: more over base, dicts merged; None takes a key away."""
    result = dict(base)
    for key, value in more.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def as_address(target):
    """Targets are addresses or have one (an origin)."""
    return getattr(target, "address", target)


class Pointsman:
    """See conftest.py for how tests get one."""

    def __init__(self, folder, config=None, args=(), env=None, workers=2, release=False,
                 https=False):
        self.folder = pathlib.Path(folder)
        self.binary = find_binary(release)
        self.port, self.admin_port, self.https_port = free_port(), free_port(), free_port()
        self.args, self.env, self.workers = list(args), dict(env or {}), workers
        self.process = None
        self.config = merge({
            "node": {"name": "test"},
            "listen": {"http": [f"127.0.0.1:{self.port}"],
                       **({"https": [f"127.0.0.1:{self.https_port}"]} if https else {})},
            "admin": {"address": f"127.0.0.1:{self.admin_port}", "token_file": "admin.token"},
            "store": {"url": "sqlite:pointsman.db", "local": "pointsman.db"},
            # Targets in the tests' own process may be slow to shake hands.
            "timeouts": {"drain": "2s", "connect": "10s"},
            "access_log": {"file": "access.log", "format": "json"},
        }, config or {})

    # --- its life ---

    def start(self, wait=True):
        """Starts it and waits until it is ready."""
        assert self.process is None, "it runs already"
        (self.folder / "pointsman.yaml").write_text(yaml.safe_dump(self.config))
        command = [str(self.binary), "serve", "--config", "pointsman.yaml",
                   "--workers", str(self.workers), *self.args]
        env = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
        env.update(self.env)
        with open(self.folder / "stdout.txt", "ab") as out, \
                open(self.folder / "stderr.txt", "ab") as err:
            self.process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=out,
                                            stderr=err, stdin=subprocess.DEVNULL)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def is_ready():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with status {self.process.returncode} before it "
                                     f"was ready:\n{self.stderr()}")
            try:
                return self.api("GET", "/readyz", timeout=10).status == 200
            except (OSError, http.client.HTTPException):
                return False

        try:
            wait_until(is_ready, "ready", START_TIMEOUT, 0.02)
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n{self.stderr()[-4000:]}") from None

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait_exit(self, timeout=STOP_TIMEOUT):
        """Waits for its end, checks that it was a clean one: status 0, no finding in stderr."""
        process, self.process = self.process, None
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # a core or a stack says where it hangs
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise AssertionError(f"it did not end within {timeout:g} s:\n{self.stderr()}") from None
        self.check_stderr()
        assert status == 0, f"it ended with status {status}:\n{self.stderr()[-8000:]}"

    def stop(self):
        """SIGTERM, and wait_exit()."""
        if self.process is not None:
            if self.process.poll() is None:
                self.signal(signal.SIGTERM)
            self.wait_exit()

    def kill9(self):
        """SIGKILL; start() begins again on the same store."""
        self.process.kill()
        self.process.wait()
        self.process = None
        self.check_stderr()

    def restart(self):
        self.stop()
        return self.start()

    def stderr(self):
        return (self.folder / "stderr.txt").read_text(errors="replace")

    def check_stderr(self):
        text = self.stderr()
        found = FAULTS.search(text)
        assert found is None, f"{text[max(found.start() - 500, 0):][:8000]}"

    # --- admin API ---

    def api(self, method, path, json=None, headers=None, data=None, timeout=PATIENCE):
        """One call on a connection of its own; json is encoded, data (bytes) sent as it is."""
        with self.admin(timeout) as session:
            return session.api(method, path, json, headers, data)

    def admin(self, timeout=PATIENCE):
        """A kept connection to the admin API, with the method api(): for many calls."""
        return AdminSession(self.admin_port, timeout)

    def get_route(self, host, path="/"):
        return self.api("GET", route_url(host, path))

    def put_route(self, host, path="/", check=True, session=None, headers=None, **body):
        """PUTs a route: put_route("a.example", targets=[origin]). With check it must be 200/201."""
        if "targets" in body:
            body["targets"] = [as_address(target) for target in body["targets"]]
        return self._put(route_url(host, path), body, check, session, headers)

    def delete_route(self, host, path="/", check=True):
        return self._delete(route_url(host, path), check)

    def put_pool(self, name, targets=(), check=True, session=None, headers=None, **body):
        """PUTs a pool; a target is an address, an origin, or a dict whose address is one."""
        body["targets"] = [
            merge(t, {"address": as_address(t["address"])}) if isinstance(t, dict)
            else {"address": as_address(t)} for t in targets]
        return self._put(f"/v1/pools/{quote(name, safe='')}", body, check, session, headers)

    def delete_pool(self, name, check=True):
        return self._delete(f"/v1/pools/{quote(name, safe='')}", check)

    def put_certificate(self, name, chain, key, check=True, session=None, headers=None, **body):
        """PUTs a certificate: PEM texts."""
        body.update(chain=chain, key=key)
        return self._put(f"/v1/certificates/{quote(name, safe='')}", body, check, session, headers)

    def delete_certificate(self, name, check=True):
        return self._delete(f"/v1/certificates/{quote(name, safe='')}", check)

    def put_target(self, pool, target, check=True, session=None, **body):
        return self._put(target_url(pool, target), body, check, session)

    def delete_target(self, pool, target, drain=None, check=True):
        query = f"?drain={drain}" if drain else ""
        return self._delete(target_url(pool, target) + query, check)

    def batch(self, lines, timeout=120.0):
        """POSTs operations (dicts) as NDJSON; the response's lines are in .json as a list."""
        data = b"".join(json_module.dumps(line).encode() + b"\n" for line in lines)
        response = self.api("POST", "/v1/batch", data=data, timeout=timeout,
                            headers={"Content-Type": "application/x-ndjson"})
        response.lines = [json_module.loads(line) for line in response.body.splitlines() if line]
        return response

    def _put(self, url, body, check, session, headers=None):
        response = (session or self).api("PUT", url, json=body, headers=headers)
        assert not check or response.status in (200, 201), response
        return response

    def _delete(self, url, check):
        response = self.api("DELETE", url)
        assert not check or response.status == 204, response
        return response

    # --- what it says about itself ---

    def status(self):
        return self._get("/v1/status").json

    def stats(self):
        return self._get("/v1/stats").json

    def metrics(self):
        """The Prometheus text as {'name{labels}': value}."""
        values = {}
        for line in self._get("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def _get(self, path):
        response = self.api("GET", path)
        assert response.status == 200, response
        return response

    def log_records(self, count=1, timeout=PATIENCE):
        """All records of the JSON access log, when there are at least `count`."""
        path = self.folder / "access.log"

        def read():
            text = path.read_text(errors="replace") if path.exists() else ""
            lines = text[:text.rfind("\n") + 1].splitlines()
            return lines if len(lines) >= count else None

        lines = wait_until(read, f"{count} records in the access log", timeout) if count else (
            read() or [])
        return [json_module.loads(line) for line in lines]

    def memory(self):
        """Resident bytes."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cli(self, *args, input=None, check=True, timeout=PATIENCE):
        """Runs the program with these arguments against this server; a CompletedProcess."""
        env = dict(os.environ, POINTSMAN_ADMIN=f"127.0.0.1:{self.admin_port}")
        done = subprocess.run([str(self.binary), *args], cwd=self.folder, env=env, input=input,
                              capture_output=True, text=True, timeout=timeout, check=False)
        assert not check or done.returncode == 0, f"{args}: {done}"
        return done

    # --- as a client ---

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def connect(self, timeout=PATIENCE):
        """A new client connection (support.http1.Connection)."""
        return Connection(("127.0.0.1", self.port), timeout)

    def exchange(self, method="GET", target="/", host="localhost", headers=(), body=None,
                 version="HTTP/1.1", timeout=PATIENCE, allow_truncated=False):
        """One request on a new connection; the Response."""
        with self.connect(timeout) as conn:
            return conn.exchange(method, target, host, headers, body, version, allow_truncated)

    get = exchange

    def raw(self, data, timeout=10.0):
        """Sends bytes as they are; what comes until the close, or the time is up."""
        with self.connect(timeout) as conn:
            try:
                conn.send(data)
            except ConnectionError:
                pass  # it may close before it has read all: its answer counts
            return conn.read_to_end(timeout)


class AdminSession:
    """api() on one kept connection."""

    def __init__(self, port, timeout=PATIENCE):
        self.client = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def api(self, method, path, json=None, headers=None, data=None):
        headers = dict(headers or {})
        if json is not None:
            data = json_module.dumps(json).encode()
            headers.setdefault("Content-Type", "application/json")
        self.client.request(method, path, body=data, headers=headers)
        answer = self.client.getresponse()
        response = Response("HTTP/1.1", answer.status, answer.reason,
                            Headers(answer.getheaders()), b"")
        response.body = answer.read()
        return response


def route_url(host, path="/"):
    """A path is taken as it stands in a URL, a host is encoded."""
    return "/v1/routes/" + quote(host, safe=":[]") + (path if path != "/" else "")


def target_url(pool, target):
    return f"/v1/pools/{quote(pool, safe='')}/targets/{quote(as_address(target), safe=':[]')}"
