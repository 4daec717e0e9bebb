# SPDX-License-Identifier: MIT
"""Origins that are restarted under load: what clients see of it."""
import json
import pathlib
import subprocess
import time

from support.net import PATIENCE, wait_until
from support.peers import start_nginx

LOCATIONS = """
        location = /work { return 200 "done\\n"; }
        keepalive_requests 100000;
"""


class Fleet:
    """nginx three times, as the pool "deploy" of a pointsman."""

    def __init__(self, server, folder, count=3, host="deploy.example", **fields):
        self.server, self.host, self.origins = server, host, []
        for number in range(count):
            one = folder / f"nginx{number}"
            one.mkdir()
            self.origins.append(start_nginx(one, LOCATIONS))
        server.put_pool("deploy", [o.address for o in self.origins], **fields)
        server.put_route(host, pool="deploy", retry_on=["connect", "reset"])

    def start(self, origin):
        config = str(origin.folder / "nginx.conf")
        origin.run(["nginx", "-p", str(origin.folder), "-c", config, "-e",
                    str(origin.folder / "error.log")])

    def requests(self, origin):
        for target in self.server.api("GET", "/v1/pools/deploy/targets").json:
            if target["address"] == origin.address:
                return target["requests"]
        raise AssertionError("the target is gone")

    def restart_drained(self, origin):
        """Drain, stop, start, up: as a deploy does it."""
        self.server.put_target("deploy", origin.address, state="drain")
        wait_until(lambda: self.requests(origin) == 0, "the last request has ended")
        origin.stop()
        self.start(origin)
        self.server.put_target("deploy", origin.address, state="up")

    def kill(self, origin, pause=0.2):
        """kill -9 of the program and its worker, and a start after a while."""
        children = subprocess.run(["pgrep", "-P", str(origin.process.pid)], capture_output=True,
                                  text=True, check=False).stdout.split()
        subprocess.run(["kill", "-9", str(origin.process.pid), *children], check=True)
        origin.process.wait(PATIENCE)
        time.sleep(pause)
        self.start(origin)

    def stop(self):
        for origin in self.origins:
            origin.stop()


def build_program(folder, name):
    """bench/NAME.c as a program."""
    source = pathlib.Path(__file__).resolve().parents[3] / "bench" / f"{name}.c"
    program = folder / name
    subprocess.run(["gcc", "-O2", "-std=gnu17", "-D_GNU_SOURCE", "-o", str(program), str(source)],
                   check=True)
    return program


def build_load(folder):
    """The program of Load."""
    return build_program(folder, "steady")


class Load:
    """Requests at a fixed rate (bench/steady.c) for a time."""

    def __init__(self, program, server, host, rate, seconds, clients=50, body_len=None):
        command = [str(program), "127.0.0.1", str(server.port), host, "/work", str(rate),
                   str(seconds), str(clients)]
        command += [] if body_len is None else [str(body_len)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.seconds = seconds

    def is_running(self):
        return self.process.poll() is None

    def result(self):
        """What became of the requests: see bench/steady.c."""
        output, _ = self.process.communicate(timeout=self.seconds + 2 * PATIENCE)
        assert self.process.returncode == 0
        return json.loads(output)
