# SPDX-License-Identifier: MIT
"""What tests of fleets ask of their nodes."""
import http.client
import json
import time

from support.net import PATIENCE, wait_until

BACK = 2.0  # seconds in which all nodes converge after Redis is back
CONVERGED = "seconds until all nodes have converged"
EVERYWHERE = "?wait=fleet&timeout=1m"


def put(node, host, body, headers=None, check=True, query=""):
    """With check it is done, also if it takes several calls: Redis may be silent for a second on a busy machine."""
    def ask():
        answer = node.api("PUT", f"/v1/routes/{host}{query}", {"respond": {"body": body}}, headers)
        return answer if not check or answer.status != 503 else None

    answer = wait_until(ask, f"{host} is written")
    assert not check or answer.status in (200, 201), answer
    return answer


def wait_writable(node, timeout=PATIENCE):
    wait_until(lambda: node.status()["store"]["writable"], "it can be written", timeout, 0.02)


def wait_refused(node, timeout=PATIENCE):
    """Until writes are refused; the last answer."""
    def is_refused():
        answer = put(node, "refused.example", "x", check=False)
        return answer if answer.status == 503 else None

    return wait_until(is_refused, "writes are refused", timeout, 0.05)


def converged(nodes, began):
    """Seconds since then, when all nodes follow and take writes."""
    nodes.wait_following()
    for node in nodes:
        wait_writable(node)
    return time.monotonic() - began


def events(node, since=0, last=None):
    """The events that are kept, as (type, data): reads until revision `last` has come, else until nothing comes
    for a moment."""
    client = http.client.HTTPConnection("127.0.0.1", node.admin_port, timeout=PATIENCE)
    client.request("GET", f"/v1/events?since={since}")
    sock, answer = client.sock, client.getresponse()
    if last is None:
        sock.settimeout(0.7)
    found, kind = [], None
    try:
        while True:
            line = answer.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                found.append((kind, json.loads(line[6:])))
                if last and found[-1][1].get("revision", 0) >= last:
                    break
    except TimeoutError:
        pass
    finally:
        client.close()
    return found


def store_events(node, state, since=0):
    return [data for kind, data in events(node, since)
            if kind == "store" and data.get("state") == state]
