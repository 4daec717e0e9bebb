# SPDX-License-Identifier: MIT
"""Ports, and waiting without sleeping for luck."""
import fcntl
import os
import socket
import time

# Reservations, held until this process ends: an abstract unix socket per port, so that test
# processes beside this one never choose the same.
_reserved = []


def keep(lock):
    """The lock as a descriptor far up: select() of the tests' clients knows those below 1024 only."""
    try:
        high = fcntl.fcntl(lock.fileno(), fcntl.F_DUPFD_CLOEXEC, 4096)
    except OSError:
        return lock  # the limit of open files is lower
    lock.close()
    return high


def free_port():
    """A TCP port that nobody uses, reserved for this process.

    Below the range of ephemeral ports: an outgoing connection must not take it while the server
    that it is meant for restarts.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        top = min(int(file.read().split()[0]), 32768)
    low = 10240 if top > 12288 else 2048
    count = top - low
    for i in range(count):
        port = low + (os.getpid() * 97 + len(_reserved) + i) % count
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0pointsman-test-port-{port}")
        except OSError:
            lock.close()
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                lock.close()
                continue
        _reserved.append(keep(lock))
        return port
    raise RuntimeError("no free port")


# For what is bound to come and is not measured: a machine may be slow, or stand still for seconds.
PATIENCE = 60.0


def wait_until(predicate, what, timeout=PATIENCE, interval=0.01):
    """Calls predicate until it returns something true, and returns that; AssertionError after
    `timeout` seconds. `what` names the thing that was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        is_last = time.monotonic() > deadline  # before the call: it counts if it comes too late
        value = predicate()
        if value:
            return value
        if is_last:
            raise AssertionError(f"{what}: not within {timeout:g} s")
        time.sleep(interval)


def best_of(attempt, limit, what, count=3):
    """A figure that the program keeps although its machine stalls now and then: attempt() returns
    what was measured, and one of `count` attempts must stay within `limit`. Returns that."""
    measured = []
    for _ in range(count):
        measured.append(attempt())
        if measured[-1] <= limit:
            return measured[-1]
    shown = ", ".join(f"{value:.3g}" for value in measured)
    raise AssertionError(f"{what}: {shown}, never at most {limit:g}")


def is_listening(port):
    """Does somebody accept on 127.0.0.1:port?"""
    with socket.socket() as probe:
        probe.settimeout(10)
        return probe.connect_ex(("127.0.0.1", port)) == 0
