# SPDX-License-Identifier: MIT
"""CPU times, memory, load and numbers for the benchmarks."""
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
for folder in ("test/integration", "test/soak"):
    sys.path.insert(0, str(ROOT / folder))

TICK = os.sysconf("SC_CLK_TCK")
PROXY_CORE, LOAD_CORE = 0, 1


def median(values):
    return statistics.median(values) if values else None


def percentile(values, share):
    """The value that `share` (0 to 1) of all are at most."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


# --- CPU ---


def core_seconds(core):
    """user + nice + system + irq + softirq of a core since the start of the machine."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq = map(int, line.split()[1:8])
            return (user + nice + system + irq + softirq) / TICK
    raise RuntimeError(f"there is no core {core}")


def idle_noise(core, seconds=1.0):
    """What a core is busy with when nothing is asked of it: seconds per second."""
    before = core_seconds(core)
    time.sleep(seconds)
    return (core_seconds(core) - before) / seconds


def process_tree(pid):
    """The process and its children."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(p for child in children for p in process_tree(int(child)))]


def stat_seconds(path):
    fields = pathlib.Path(path).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def process_seconds(pids):
    """user + system of processes, from their stat."""
    return sum(stat_seconds(f"/proc/{pid}/stat") for pid in pids)


def thread_seconds(pid):
    """{name: user + system seconds} of a process's threads; those of one name together. In
    nanoseconds' precision where the kernel tells."""
    result = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            schedstat = task / "schedstat"
            seconds = (int(schedstat.read_text().split()[0]) / 1e9 if schedstat.exists()
                       else stat_seconds(task / "stat"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        result[name] = result.get(name, 0.0) + seconds
    return result


def pin(pids, core, only=None):
    """All threads (with `only`: those whose name begins so) of processes to one core."""
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            if only is None or (task / "comm").read_text().startswith(only):
                os.sched_setaffinity(int(task.name), {core})


def resident(pids):
    """Bytes."""
    total = 0
    for pid in pids:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        total += int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024
    return total


# --- load ---


class Load:
    """wrk, pinned to the load's core; start(), then finish() for its numbers."""

    def __init__(self, port, seconds, connections=100, post=False, host="bench.example"):
        command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t", "1", "-c", str(connections), "-d",
                   f"{seconds}s", "--latency", "-H", f"Host: {host}"]
        if post:
            command += ["-s", str(ROOT / "bench" / "post.lua")]
        self.process = subprocess.Popen([*command, f"http://127.0.0.1:{port}/bench/page?a=b"],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self):
        text = self.process.communicate(timeout=120)[0]
        found = re.search(r"(\d+) requests in ([0-9.]+)(s|m)", text)
        if self.process.returncode != 0 or found is None:
            raise RuntimeError(f"wrk failed:\n{text}")
        errors = re.findall(r"Socket errors:.*|Non-2xx.*", text)
        p99 = re.search(r"99%\s+([0-9.]+)(us|ms|s)", text)
        return {"requests": int(found[1]), "errors": errors,
                "p99_ms": float(p99[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[p99[2]]}


def run_load(peer, seconds, noise=0.0, **more):
    """One run against a peer: CPU microseconds per request, by the core and by the processes."""
    load = Load(peer.port, seconds, **more)
    time.sleep(0.3)  # connections are made; the counted part is the steady one
    start, core, own = time.monotonic(), core_seconds(PROXY_CORE), process_seconds(peer.pids())
    asked = peer.requests()
    time.sleep(max(seconds - 0.8, 0.5))
    elapsed = time.monotonic() - start
    core, own = core_seconds(PROXY_CORE) - core, process_seconds(peer.pids()) - own
    asked = peer.requests() - asked
    result = load.finish()
    if result["errors"]:
        raise RuntimeError(f"{peer.name}: {result['errors']}")
    return {"core_us": (core - noise * elapsed) / asked * 1e6, "process_us": own / asked * 1e6,
            "per_second": asked / elapsed, "p99_ms": result["p99_ms"]}


# --- disk ---


def sync_times(folder, count=300, size=4096):
    """Seconds of each write + fdatasync that appends to a file in the folder."""
    path, times = pathlib.Path(folder) / "sync.tmp", []
    with open(path, "wb", buffering=0) as file:
        for _ in range(count):
            start = time.monotonic()
            file.write(b"x" * size)
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - start)
    path.unlink()
    return times
