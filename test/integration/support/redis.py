# SPDX-License-Identifier: MIT
"""Real Redis servers and Sentinels, and fleets of nodes on them."""
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import redis as client_library

from support.net import PATIENCE, free_port, is_listening, wait_until


def find_program(name):
    program = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert program is not None, f"{name} is not installed: script/bootstrap installs it"
    return program


class Server:
    """A redis program in a folder of its own; stopped by its PID."""

    program = "redis-server"

    def __init__(self, folder, port=None, host="127.0.0.1"):
        self.folder, self.host = pathlib.Path(folder), host
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.address = f"{host}:{self.port}"
        self.process, self.is_paused = None, False

    def command(self):
        raise NotImplementedError

    def start(self, wait=True):
        assert self.process is None, "it runs already"
        with open(self.folder / "output.txt", "ab") as out:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=out,
                                            stderr=out, stdin=subprocess.DEVNULL)
        if wait:
            wait_until(self.is_up, f"{self.program} on {self.port} listens")
        return self

    def is_up(self):
        assert self.process.poll() is None, f"{self.program} ended:\n{self.output()}"
        return is_listening(self.port)

    def output(self):
        return (self.folder / "output.txt").read_text(errors="replace")

    def kill9(self):
        self.process.kill()
        self.process.wait()
        self.process, self.is_paused = None, False

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # until then it answers
        self.is_paused = True

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.is_paused = False

    def stop(self):
        if self.process is None:
            return
        if self.is_paused:
            self.resume()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class RedisServer(Server):
    """redis-server: .client is a connection of python3-redis; options as on its command line."""

    def __init__(self, folder, port=None, host="127.0.0.1", password=None, options=()):
        super().__init__(folder, port, host)
        self.password, self.options = password, list(options)

    def command(self):
        secret = ["--requirepass", self.password, "--masterauth", self.password] \
            if self.password else []
        return [find_program("redis-server"), "--port", str(self.port), "--bind", self.host,
                "--save", "", "--appendonly", "no", "--dir", str(self.folder),
                "--repl-diskless-sync-delay", "0", *secret, *self.options]

    @property
    def client(self):
        return client_library.Redis(host=self.host, port=self.port, password=self.password,
                                    decode_responses=True, socket_timeout=PATIENCE)

    def url(self, user="", password=None):
        secret = password if password is not None else self.password
        login = f"{user}:{secret}@" if secret or user else ""
        return f"redis://{login}{self.address}/0"


class Sentinel(Server):
    """redis-sentinel that watches one primary, named "main"."""

    program = "redis-sentinel"

    def __init__(self, folder, primary, quorum=1, port=None):
        super().__init__(folder, port)
        self.config = self.folder / "sentinel.conf"
        secret = f"sentinel auth-pass main {primary.password}\n" if primary.password else ""
        self.config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor main {primary.host} {primary.port} {quorum}\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\nsentinel parallel-syncs main 1\n" + secret)

    def command(self):
        return [find_program("redis-sentinel"), str(self.config)]

    @property
    def client(self):
        return client_library.Redis(host=self.host, port=self.port, decode_responses=True,
                                    socket_timeout=PATIENCE)


class Fleet:
    """Nodes on one Redis: indexable. Starts them together."""

    def __init__(self, nodes):
        self.nodes = nodes

    def __getitem__(self, at):
        return self.nodes[at]

    def __len__(self):
        return len(self.nodes)

    def __iter__(self):
        return iter(self.nodes)

    def bodies(self, host, path="/"):
        return [node.get(target=path, host=host) for node in self.nodes]

    def wait_body(self, host, expected, timeout=PATIENCE):
        """All nodes answer so (a text: 200 with that body; a number: that status)."""
        def seen():
            return [reply.text if reply.status == 200 else reply.status
                    for reply in self.bodies(host)]

        try:
            wait_until(lambda: set(seen()) == {expected}, f"{host} is {expected}", timeout, 0.02)
        except AssertionError as fault:
            raise AssertionError(f"{fault}; it is {seen()}") from None

    def fleet_status(self):
        return [node.status()["store"]["fleet"] for node in self.nodes]

    def wait_following(self, timeout=PATIENCE):
        wait_until(lambda: all(s["state"] == "following" for s in self.fleet_status()),
                   "all nodes follow", timeout, 0.02)

    def wait_equal(self, timeout=PATIENCE):
        """All nodes export the same, with the same revision."""
        def is_equal():
            exports = [node.api("GET", "/v1/export").text for node in self.nodes]
            revisions = [node.status()["revision"] for node in self.nodes]
            return len(set(exports)) == 1 and len(set(revisions)) == 1

        wait_until(is_equal, "all nodes have the same", timeout, 0.05)


class Prober:
    """Requests for known routes, all the time, of every node: .failures must stay empty."""

    def __init__(self, nodes, host, expected="here", interval=0.01):
        self.nodes, self.host, self.expected, self.interval = nodes, host, expected, interval
        self.failures, self.count, self.slowest = [], 0, 0.0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(node,), daemon=True)
                        for node in nodes]

    def run(self, node):
        while not self.ending.is_set():
            start = time.monotonic()
            try:
                reply = node.get(host=self.host, timeout=PATIENCE)
                if reply.status != 200 or reply.text != self.expected:
                    self.failures.append((reply.status, reply.text[:80]))
            except Exception as fault:  # pylint: disable=broad-except
                self.failures.append(repr(fault))
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.count += 1
            self.ending.wait(self.interval)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join(PATIENCE)

    def check(self):
        assert self.count > 0
        assert not self.failures, f"{len(self.failures)} of {self.count}: {self.failures[:5]}"
