# SPDX-License-Identifier: MIT
"""The commands against a real server, their help, and the pages made from it."""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import threading

import pytest
import yaml

from support.net import PATIENCE, free_port, wait_until
from support.origin import encode_response, respond, script
from support.process import ROOT, find_binary

COMMANDS = ["serve", "check", "route list", "route get", "route put", "route rm", "pool list",
            "pool get", "pool put", "pool rm", "pool drain", "pool up", "pool switch", "cert list",
            "cert get", "cert put", "cert rm", "apply", "export", "status", "nodes", "store copy",
            "import hipache", "import auto-ssl", "import traefik", "version", "help"]


def run(*args, env=None, cwd=None, input=None):
    """The program without a server of its own; a variable of env that is None is not set."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    # No server there: a forgotten address must not reach one that happens to run.
    clean["POINTSMAN_ADMIN"] = f"127.0.0.1:{free_port()}"
    for name, value in (env or {}).items():
        clean.pop(name, None)
        if value is not None:
            clean[name] = value
    return subprocess.run([str(find_binary()), *args], env=clean, cwd=cwd, input=input,
                          capture_output=True, text=True, timeout=PATIENCE, check=False)


def rows(text):
    """A printed table as lists of cells, the header first."""
    return [re.split(r"  +", line) for line in text.splitlines()]


@pytest.fixture
def server(pointsman):
    return pointsman()


# --- help and the pages ---

def test_help_lists_what_exists():
    done = run("help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE), command
    for later in ("tenant", "top", "explain", "collect", "orchestrate"):
        assert not re.search(rf"^  {later}\b", done.stdout, re.MULTILINE), later
    assert run("--help").stdout == done.stdout
    assert run().returncode == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command):
    by_flag = run(*command.split(), "--help")
    by_verb = run("help", *command.split())
    assert by_flag.returncode == by_verb.returncode == 0
    assert by_flag.stdout == by_verb.stdout
    assert f"usage: pointsman {command}" in by_flag.stdout
    assert re.search(rf"Example:\n  .*pointsman {command}", by_flag.stdout)
    assert by_flag.stderr == ""


@pytest.mark.parametrize("group", ["route", "pool"])
def test_a_group_lists_its_verbs(group):
    done = run(group, "--help")
    assert done.returncode == 0 and f"  {group} list" in done.stdout
    assert run("help", group).stdout == done.stdout
    assert run(group).returncode == 2


def test_manual_page_and_completion_are_complete():
    """They are made from the table of commands, and hold every command and every flag."""
    for page, flag in (("docs/man/pointsman.1", "--man"),
                       ("deploy/completion/pointsman.bash", "--bash")):
        text = (ROOT / page).read_text()
        assert text == run("help", flag).stdout, f"make it anew: pointsman help {flag} >{page}"
        plain = text.replace("\\-", "-")
        for command in COMMANDS:
            flags = re.findall(r"^  --([a-z-]+)", run("help", *command.split()).stdout,
                               re.MULTILINE)
            assert "help" in flags
            if flag == "--man":
                section = plain.split(f".SS pointsman {command}", 1)[1].split(".SS ", 1)[0]
            else:
                section = re.search(rf'"{command}"\) words="([^"]*)"', plain)[1]
            for name in flags:
                assert re.search(rf"--{name}\b", section), (page, command, name)


def complete(*words):
    script = f"""source {ROOT}/deploy/completion/pointsman.bash
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pointsman; echo "${{COMPREPLY[@]}}" """
    return subprocess.run(["bash", "-c", script, "bash", "pointsman", *words], text=True,
                          capture_output=True, timeout=PATIENCE, check=True).stdout.split()


def test_completion():
    assert complete("ro") == ["route"]
    assert set(complete("pool", "")) == {"list", "get", "put", "rm", "drain", "up", "switch"}
    assert complete("route", "put", "--strip") == ["--strip-path"]
    assert "--dry-run" in complete("apply", "--")


# --- wrong use ---

@pytest.mark.parametrize("args, message", [
    (["rote"], 'did you mean "route"?'),
    (["route", "putt"], 'did you mean "route put"?'),
    (["xyzzy"], '"pointsman help" lists them'),
    (["route", "get"], "route get needs HOST[/PATH]"),
    (["route", "get", "a", "b"], 'unexpected argument "b"'),
    (["route", "put", "a", "--poool", "x"], "did you mean --pool?"),
    (["route", "put", "a", "--pool"], "--pool needs a value"),
    (["route", "put", "a", "--retries", "many"], "must be a number"),
    (["route", "put", "a", "--set-json", "{"], "--set-json"),
    (["route", "put", "a", "--request-header", "X"], "Name: value"),
    (["route", "list", "--limit", "0"], "--limit"),
    (["pool", "drain", "a", "10.0.0.1:80", "--remove-after", "soon"], "--remove-after"),
    (["pool", "drain", "a", "10.0.0.1:80", "--wait", "soon"], "--wait"),
    (["pool", "drain", "a", "b:1", "--wait", "1s", "--remove-after", "1s"], "only one of"),
    (["pool", "drain", "a", "b c", "--wait", "1s"], "not a valid host"),
    (["pool", "switch", "a"], "--to TARGET[,TARGET]... is missing"),
    (["pool", "switch", "a", "--to", ","], "is missing"),
    (["pool", "switch", "a", "--to", "b:1", "--wait-healthy", "soon"], "--wait-healthy"),
    (["pool", "switch", "a", "b", "--to", "b:1"], 'unexpected argument "b"'),
    (["status", "--verbose"], "unknown flag --verbose"),
    (["help", "nonsense"], '"pointsman help" lists them'),
    (["help", "routes"], 'did you mean "route"?'),
    (["help", "serve", "now"], 'there is no command "serve now"; did you mean "serve"?'),
    (["route", "xyzzy"], '"pointsman help route" lists them'),
])
def test_wrong_use_is_status_2(args, message):
    done = run(*args)
    assert done.returncode == 2, done
    assert message in done.stderr
    assert done.stdout == ""


def test_version():
    assert re.fullmatch(r"pointsman \d+\.\d+\.\d+\n", run("version").stdout)
    assert run("--version").stdout == run("version").stdout


def test_no_server():
    port = free_port()
    done = run("status", "--admin", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"cannot reach the admin API at 127.0.0.1:{port}" in done.stderr
    assert "pointsman serve" in done.stderr and "--admin" in done.stderr


def test_output_that_cannot_be_written_fails():
    with open("/dev/full", "w") as full:
        done = subprocess.run([str(find_binary()), "help"], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1 and "cannot write" in done.stderr


# --- check ---

def test_check(tmp_path):
    good = tmp_path / "good.yaml"
    good.write_text('listen: {http: ["127.0.0.1:8080"]}\nworkers: 2\n')
    done = run("check", "--config", str(good))
    assert done.returncode == 0, done
    bad = tmp_path / "bad.yaml"
    bad.write_text("workers: 2\nlimits:\n  heders: 5\n  connections: many\n")
    done = run("check", "--config", str(bad))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert any(line.startswith(f"{bad}:3:3: ") and "headers" in line for line in lines), lines
    assert any(line.startswith(f"{bad}:4:") for line in lines), lines
    assert run("check", "--config", str(tmp_path / "none.yaml")).returncode == 1
    assert run("check", "--nonsense").returncode == 2


# --- routes ---

def test_put_route_serves_at_once(server, origin):
    target = origin()
    done = server.cli("route", "put", "shop.example.com", target.address)
    assert done.stdout == "route shop.example.com created\n"
    assert server.get(host="shop.example.com").status == 200
    done = server.cli("route", "put", "shop.example.com", target.address, "--retries", "2")
    assert done.stdout == "route shop.example.com updated\n"
    assert server.get_route("shop.example.com").json["retries"] == 2
    assert server.cli("route", "rm", "shop.example.com").stdout == "route shop.example.com deleted\n"
    assert server.get(host="shop.example.com").status == 404


def test_route_flags(server):
    server.cli("pool", "put", "web", "10.0.0.1:80")
    server.cli("pool", "put", "new", "10.0.0.2:80")
    done = server.cli(
        "route", "put", "a.example/api", "--pool", "web", "--strip-path", "--target-path", "/v2",
        "--host-header", "target", "--https", "require", "--tenant", "acme",
        "--request-header", "X-A: 1", "--request-header", "X-B:2", "--response-header", "X-C: a:b",
        "--allow", "10.0.0.0/8", "--allow", "192.0.2.1", "--deny", "10.1.0.0/16",
        "--body-limit", "10m", "--connect-timeout", "500ms", "--response-timeout", "5s",
        "--retries", "3", "--no-access-log", "--json")
    route = json.loads(done.stdout)
    assert route == server.get_route("a.example", "/api").json
    expected = {"host": "a.example", "path": "/api", "pool": "web", "strip_path": True,
                "target_path": "/v2", "host_header": "target", "https": "require",
                "tenant": "acme", "retries": 3, "access_log": False}
    assert {key: route[key] for key in expected} == expected
    assert route["request_headers"]["set"] == {"X-A": "1", "X-B": "2"}
    assert route["response_headers"]["set"] == {"X-C": "a:b"}
    assert route["timeouts"]["response"] == "5s" and route["timeouts"]["connect"] == "500ms"
    assert len(route["allow"]) == 2 and len(route["deny"]) == 1

    server.cli("route", "put", "split.example", "--split", "web=95", "--split", "new=5")
    assert server.get_route("split.example").json["split"] == [
        {"pool": "web", "weight": 95}, {"pool": "new", "weight": 5}]
    server.cli("route", "put", "old.example", "--redirect", "https://www.example.com",
               "--redirect-status", "301", "--keep-path")
    answer = server.get(target="/x?y=1", host="old.example")
    assert answer.status == 301 and answer.headers["Location"] == "https://www.example.com/x?y=1"
    server.cli("route", "put", "gone.example", "--respond", "410", "--body", "gone")
    answer = server.get(host="gone.example")
    assert answer.status == 410 and answer.text == "gone"


def test_route_from_json_and_files(server, tmp_path):
    server.cli("route", "put", "a.example", "--set-json",
               '{"targets": ["10.0.0.1:80"], "retries": 5}', "--retries", "4")
    route = server.get_route("a.example").json
    assert route["targets"] == ["10.0.0.1:80"] and route["retries"] == 4
    file = tmp_path / "route.yaml"
    file.write_text("targets: [10.0.0.9:80]\nretries: 2\n")
    server.cli("route", "put", "b.example", "--file", str(file))
    assert server.get_route("b.example").json["retries"] == 2
    server.cli("route", "put", "c.example", "--file", "-", input='{"targets":["10.0.0.7:80"]}')
    assert server.get_route("c.example").json["targets"] == ["10.0.0.7:80"]


def test_route_errors_name_the_field(server):
    done = server.cli("route", "put", "a.example", "--pool", "nope", check=False)
    assert done.returncode == 1
    assert '/pool: pool "nope" does not exist' in done.stderr
    done = server.cli("route", "put", "a.example", "10.0.0.1:80", "--set-json", '{"retres": 1}',
                      check=False)
    assert done.returncode == 1
    assert "/retres: " in done.stderr and "retries" in done.stderr
    done = server.cli("route", "get", "none.example", check=False)
    assert done.returncode == 1 and "none.example" in done.stderr and done.stdout == ""


def test_rm_goes_on_behind_a_missing_one(server):
    server.cli("route", "put", "a.example", "10.0.0.1:80")
    done = server.cli("route", "rm", "none.example", "a.example", check=False)
    assert done.returncode == 1 and done.stdout == "route a.example deleted\n"
    assert server.get_route("a.example").status == 404


def test_route_list_and_get(server):
    server.put_pool("web", ["10.0.0.1:80"])
    server.put_route("a.example", pool="web", tenant="acme")
    server.put_route("a.example", "/api", targets=[f"10.0.0.{i}:80" for i in range(1, 6)])
    server.put_route("b.example", redirect={"to": "https://www.example.com"})
    server.put_route("c.example", respond={"status": 410})
    assert rows(server.cli("route", "list").stdout) == [
        ["ROUTE", "TO", "TENANT"],
        ["a.example", "pool web", "acme"],
        ["a.example/api", "10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80 and 2 more", "-"],
        ["b.example", "redirect https://www.example.com", "-"],
        ["c.example", "respond 410", "-"],
    ]
    listed = json.loads(server.cli("route", "list", "--host", "a.example", "--json").stdout)
    assert [(route["host"], route["path"]) for route in listed] == [("a.example", "/"),
                                                                    ("a.example", "/api")]
    assert len(rows(server.cli("route", "list", "--limit", "2").stdout)) == 3
    stored = server.get_route("a.example", "/api").json
    assert json.loads(server.cli("route", "get", "a.example/api", "--json").stdout) == stored
    assert yaml.safe_load(server.cli("route", "get", "a.example/api").stdout) == stored
    assert json.loads(server.cli("route", "list", "--host", "z.example", "--json").stdout) == []


def test_route_list_pages_through(server):
    count = 2345
    server.batch([{"op": "put", "kind": "route", "key": f"h{i:05}.example",
                   "value": {"targets": ["10.0.0.1:80"]}} for i in range(count)])
    names = [row[0] for row in rows(server.cli("route", "list").stdout)]
    assert names == ["ROUTE"] + [f"h{i:05}.example" for i in range(count)]
    assert len(json.loads(server.cli("route", "list", "--json").stdout)) == count
    assert len(json.loads(server.cli("route", "list", "--json", "--limit", "1500").stdout)) == 1500


def test_keys_of_a_list_can_be_used(server):
    """What list prints names the same route again, whatever is in the path."""
    server.cli("route", "put", "a.example/a b/ä", "10.0.0.1:80")
    name = rows(server.cli("route", "list").stdout)[1][0]
    assert json.loads(server.cli("route", "get", name, "--json").stdout)["host"] == "a.example"
    server.cli("route", "put", "*.example", "10.0.0.1:80")
    server.cli("route", "rm", name, "*.example")
    assert rows(server.cli("route", "list").stdout) == [["ROUTE", "TO", "TENANT"]]


def test_control_bytes_do_not_reach_the_terminal(server):
    body = "a\x1b[2Jb\x7f\x9b2J\u2028"
    server.put_route("a.example", respond={"status": 200, "body": body})
    text = server.cli("route", "get", "a.example").stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert yaml.safe_load(text)["respond"]["body"] == body


# --- pools ---

def test_pools(server):
    assert server.cli("pool", "put", "web", "10.0.0.5:8080=3", "10.0.0.6",
                      "--balance", "round_robin").stdout == "pool web created\n"
    pool = server.api("GET", "/v1/pools/web").json
    assert [(t["address"], t.get("weight", 1)) for t in pool["targets"]] == [
        ("10.0.0.5:8080", 3), ("10.0.0.6:80", 1)]
    assert rows(server.cli("pool", "list").stdout) == [
        ["POOL", "TARGETS", "UP", "BALANCE"], ["web", "2", "2", "round_robin"]]
    assert json.loads(server.cli("pool", "get", "web", "--json").stdout) == pool
    text = server.cli("pool", "get", "web").stdout
    assert 'balance: "round_robin"' in text
    assert re.search(r"^10\.0\.0\.5:8080 +3 +up +0 +none ", text, re.MULTILINE)
    server.cli("route", "put", "a.example", "--pool", "web")
    done = server.cli("pool", "rm", "web", check=False)
    assert done.returncode == 1 and "a.example" in done.stderr
    server.cli("route", "rm", "a.example")
    assert server.cli("pool", "rm", "web").stdout == "pool web deleted\n"


def test_pool_file(server, tmp_path):
    file = tmp_path / "pool.yaml"
    file.write_text("kind: pool\nname: web\nbalance: round_robin\ntargets: [10.0.0.1:80]\n")
    server.cli("pool", "put", "web", "--file", str(file))
    assert server.api("GET", "/v1/pools/web").json["balance"] == "round_robin"


def state_of(server, address):
    targets = server.api("GET", "/v1/pools/web").json["targets"]
    found = [target for target in targets if target["address"] == address]
    return found[0].get("state", "up") if found else None


def test_drain_and_up(server):
    server.cli("pool", "put", "web", "10.0.0.5:80", "10.0.0.6:80")
    server.cli("pool", "drain", "web", "10.0.0.5")  # the port is 80
    assert state_of(server, "10.0.0.5:80") == "drain"
    server.cli("pool", "up", "web", "10.0.0.5:80")
    assert state_of(server, "10.0.0.5:80") == "up"
    done = server.cli("pool", "drain", "web", "10.0.0.5:80", "--remove-after", "5s")
    assert done.stdout == "pool web: 10.0.0.5:80 removed\n"
    assert state_of(server, "10.0.0.5:80") is None
    for verb in ("drain", "up"):  # neither makes a target
        done = server.cli("pool", verb, "web", "10.0.0.99:80", check=False)
        assert done.returncode == 1 and "has no target 10.0.0.99:80" in done.stderr
        assert state_of(server, "10.0.0.99:80") is None


def test_drain_waits_until_the_target_is_empty(server, origin):
    may_end = threading.Event()
    peer = origin(script(may_end, encode_response(body=b"late"), keep=True))
    server.cli("pool", "put", "web", peer.address)
    server.cli("route", "put", "a.example", "--pool", "web")
    done = server.cli("pool", "drain", "web", peer.address, "--wait", "60s")
    assert done.stdout == f"pool web: {peer.address} drained\n"
    server.cli("pool", "up", "web", peer.address)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reply = pool.submit(server.get, host="a.example")
        peer.wait_requests(1)
        done = server.cli("pool", "drain", "web", peer.address, "--wait", "300ms", check=False)
        assert done.returncode == 1 and "still under way: 1;" in done.stderr
        assert state_of(server, peer.address) == "drain"
        threading.Timer(0.5, may_end.set).start()
        done = server.cli("pool", "drain", "web", peer.address, "--wait", "60s")
        assert done.stdout == f"pool web: {peer.address} drained\n"
        assert reply.result(PATIENCE).text == "late"


def test_switch(server, origin):
    blue, green = origin(respond(200, body=b"blue")), origin(respond(200, body=b"green"))
    gone = f"127.0.0.1:{free_port()}"
    server.cli("pool", "put", "web", blue.address)
    done = server.cli("pool", "switch", "web", "--to", f"{green.address}=3,{blue.address}",
                      "--wait-healthy", "60s")
    assert done.stdout == f"pool web switched to {green.address}, {blue.address}\n"
    pool = server.api("GET", "/v1/pools/web").json
    assert [(t["address"], t.get("weight", 1)) for t in pool["targets"]] == [
        (green.address, 3), (blue.address, 1)]
    # One is bad: nothing changes, and why is said.
    done = server.cli("pool", "switch", "web", "--to", blue.address, "--to", gone,
                      "--wait-healthy", "300ms", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert re.search(rf"pool web: {re.escape(gone)}: .*refused", done.stderr)
    assert server.api("GET", "/v1/pools/web").json == pool
    done = server.cli("pool", "switch", "none", "--to", gone, check=False)
    assert done.returncode == 1 and "none" in done.stderr


def test_pool_get_shows_health(server, origin):
    peer = origin(respond(503))
    name = f"localhost:{peer.port}"
    server.cli("pool", "put", "web", f"{peer.address}=3", name, "--health", "/up",
               "--health-interval", "100ms", "--hash", "header:X-Tenant", "--balance", "hash",
               "--sticky", "pm", "--requests-per-target", "5", "--queue", "7")
    pool = server.api("GET", "/v1/pools/web").json
    assert pool["health"] == {"path": "/up", "interval": "100ms"}
    assert pool["hash"] == "header:x-tenant" and pool["sticky"] == {"cookie": "pm"}
    assert pool["limits"] == {"requests_per_target": 5, "queue": 7}

    def shown():
        table = rows(server.cli("pool", "get", "web").stdout.split("\n\n")[1])
        return {row[0]: dict(zip(table[0], row)) for row in table[1:]}

    wait_until(lambda: shown()[peer.address]["HEALTH"] == "down", "the check has failed")
    target = shown()[peer.address]
    assert (target["WEIGHT"], target["STATE"], target["REQUESTS"]) == ("3", "up", "0")
    assert target["REASON"] == "status 503" and re.match(r"20\d\d-", target["SINCE"])
    # A name, and below it its addresses.
    wait_until(lambda: shown()[name]["HEALTH"] == "down", "the name's address has failed")
    assert re.search(rf"^{name} .*\n  127\.0\.0\.1 +- +- +0 +down +- +status 503$",
                     server.cli("pool", "get", "web").stdout, re.MULTILINE)
    assert "targets down: " in server.cli("status").stdout


# --- apply and export ---

FIRST = """\
# two documents and a list
kind: pool
name: web
targets: [10.0.0.1:80, 10.0.0.2:80]
---
kind: route
host: a.example
path: /api
pool: web
---
routes:
  - {host: b.example, targets: ["10.0.0.3:80"]}
  - host: c.example
    respond: {status: 410}
pools:
  - {name: other, targets: []}
"""


def test_the_demo_is_stored_as_it_would_be_declared(pointsman):
    server = pointsman(args=["--demo"])
    wait_until(lambda: server.status()["routes"] == 3, "the demo's routes")
    done = server.cli("apply", "-", input=server.cli("export").stdout)
    assert done.stdout.splitlines() == [f"{name} unchanged" for name in (
        "pool demo", "route *", "route demo.localhost", "route demo.localhost/hello")]


def test_apply_yaml(server, tmp_path):
    file = tmp_path / "all.yaml"
    file.write_text(FIRST)
    expected = ["pool web", "route a.example/api", "route b.example", "route c.example",
                "pool other"]
    done = server.cli("apply", str(file), "--dry-run")
    assert done.stdout.splitlines() == [f"{name} created" for name in expected]
    assert server.status()["routes"] == 0
    done = server.cli("apply", str(file))
    assert done.stdout.splitlines() == [f"{name} created" for name in expected]
    revision = server.status()["revision"]
    done = server.cli("apply", str(file))
    assert done.stdout.splitlines() == [f"{name} unchanged" for name in expected]
    assert server.status()["revision"] == revision
    file.write_text(FIRST.replace("status: 410", "status: 404"))
    for args in (["--dry-run"], []):
        lines = server.cli("apply", str(file), *args).stdout.splitlines()
        assert lines[3] == "route c.example updated"
        assert sum(line.endswith("unchanged") for line in lines) == 4


def test_apply_standard_input_and_json(server):
    one = '{"kind":"route","host":"a.example","targets":["10.0.0.1:80"]}'
    two = '{"kind":"route","host":"b.example","targets":["10.0.0.1:80"]}'
    for text, result in ((one + "\n" + two + "\n", "created"), (f"[{one},\n {two}]", "unchanged"),
                         (f"  {one} {two}", "unchanged")):
        done = server.cli("apply", "-", input=text)
        assert done.stdout.splitlines() == [f"route {h}.example {result}" for h in "ab"]
    done = server.cli("apply", "-", "--json", input=one)
    assert json.loads(done.stdout) == {"kind": "route", "key": "a.example", "result": "unchanged",
                                       "file": "-", "line": 1, "column": 1}
    deletion = '{"op":"delete","kind":"route","key":"a.example"}'
    assert server.cli("apply", "-", input=deletion).stdout == "route a.example deleted\n"
    assert server.get_route("a.example").status == 404


def test_apply_names_file_line_and_column(server, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("kind: route\nhost: a.example\ntargets: [10.0.0.1:80]\n"
                    "---\n"
                    "kind: route\nhost: b.example\npool: nope\n"
                    "---\n"
                    "routes:\n  - host: c.example\n    targets: [10.0.0.1:80]\n    retres: 1\n")
    done = server.cli("apply", str(file), "--dry-run", check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert any(line.startswith(f"{file}:5:1: route b.example: ") and '"nope"' in line
               for line in lines), lines
    assert any(line.startswith(f"{file}:12:5: route c.example: /retres: ") for line in lines), lines
    done = server.cli("apply", str(file), check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert any(line.startswith(f"{file}:12:5: route c.example: /retres: ") for line in lines), lines
    assert "route a.example skipped" in done.stdout
    assert "route c.example failed" in done.stdout
    assert server.status()["routes"] == 0  # all or nothing
    file.write_text("kind: route\nhost: b.example\npool: nope\n")
    done = server.cli("apply", str(file), check=False)
    assert f'{file}:3:1: route b.example: /pool: pool "nope" does not exist' in done.stderr


@pytest.mark.parametrize("text, message", [
    ("kind: rout\nhost: a\n", ":1:1: /kind: "),
    ("kind: route\n", ':1:1: a route needs a "host"'),
    ("host: a.example\n", ":1:1: /host: "),
    ("routes: 5\n", ":1:1: /routes: "),
    ("routes:\n  - 5\n", ":2:5: /routes/0: must be an object"),
    ("just text\n", ":1:1: must be an object"),
    ("kind: [\n", ":2:"),
    ('{"kind": "route",\n "host": }', ":2:"),
    ('{"a": 1, "a": 2}', ":1:"),
])
def test_apply_refuses_what_is_no_declaration(tmp_path, text, message):
    file = tmp_path / "x"
    file.write_text(text)
    done = run("apply", str(file))
    assert done.returncode == 1
    assert f"{file}{message}" in done.stderr, done.stderr
    assert "cannot reach" not in done.stderr


def test_apply_of_many_blocks(server):
    count = 10500
    text = "".join(f'{{"kind":"route","host":"h{i}.example","targets":["10.0.0.1:80"]}}\n'
                   for i in range(count))
    done = server.cli("apply", "-", input=text, timeout=2 * PATIENCE)
    assert done.stdout.count(" created\n") == count
    assert server.status()["routes"] == count


def test_export_comes_back(server, pointsman):
    server.cli("apply", "-", input=FIRST)
    server.cli("route", "put", "odd.example/a b", "--respond", "200", "--body",
               "line\n\t\"quoted\" \\ ä € 🚂 \x7f # : - {x}")
    other = pointsman()
    for flags in ([], ["--yaml"]):
        exported = server.cli("export", *flags).stdout
        if flags:
            documents = list(yaml.safe_load_all(exported))
            assert {document["kind"] for document in documents} == {"pool", "route"}
        done = other.cli("apply", "-", input=exported)
        result = "unchanged" if flags else "created"
        assert all(line.endswith(f" {result}") for line in done.stdout.splitlines()), done.stdout
        assert other.cli("export").stdout == server.cli("export").stdout


# --- status, address and token ---

def test_status(server):
    server.put_route("a.example", targets=["10.0.0.1:80"])
    status = json.loads(server.cli("status", "--json").stdout)
    assert status["routes"] == 1 and len(status["workers"]) == 2
    text = server.cli("status").stdout
    assert re.search(r"^routes +1$", text, re.MULTILINE)
    assert re.search(r"^state +ready$", text, re.MULTILINE)
    assert re.search(r"^store +writable$", text, re.MULTILINE)
    assert re.search(r"^WORKER +CONNECTIONS +REQUESTS\n0 ", text, re.MULTILINE)


def test_address_by_flag_environment_and_file(server):
    address = f"127.0.0.1:{server.admin_port}"
    wrong = {"POINTSMAN_ADMIN": f"127.0.0.1:{free_port()}"}
    assert run("status", "--admin", address, env=wrong).returncode == 0
    assert run("status", env={"POINTSMAN_ADMIN": address}).returncode == 0
    file = str(server.folder / "pointsman.yaml")
    assert run("status", "--config", file, env={"POINTSMAN_ADMIN": None}).returncode == 0
    assert run("status", "--config", file, env=wrong).returncode == 1
    assert run("status", "--config", file, "--admin", address, env=wrong).returncode == 0
    assert run("status", "--admin", address, env={"http_proxy": "http://127.0.0.1:9",
                                                  "ALL_PROXY": "http://127.0.0.1:9"}).returncode == 0


def test_unix_socket(pointsman):
    # The harness itself talks to the TCP address; the socket is a second server's.
    server = pointsman(start=False)
    path = server.folder / "admin.sock"
    server.config["admin"]["address"] = f"unix:{path}"
    server.start(wait=False)
    for _ in range(200):
        done = run("status", "--admin", f"unix:{path}", cwd=server.folder)
        if done.returncode == 0:
            break
    assert re.search(r"^state +(ready|loading)$", done.stdout, re.MULTILINE), done


def test_token(pointsman, tmp_path):
    server = pointsman(config={"admin": {"require_token": True}})
    token = (server.folder / "admin.token").read_text().strip()
    address = ["--admin", f"127.0.0.1:{server.admin_port}"]
    done = run("status", *address, cwd=tmp_path)
    assert done.returncode == 1 and "POINTSMAN_TOKEN" in done.stderr
    assert run("status", *address, cwd=server.folder).returncode == 0  # admin.token is there
    assert run("status", *address, cwd=tmp_path, env={"POINTSMAN_TOKEN": token}).returncode == 0
    done = run("status", *address, cwd=tmp_path, env={"POINTSMAN_TOKEN": "wrong"})
    assert done.returncode == 1 and "wrong" in done.stderr
    elsewhere = pathlib.Path(tmp_path / "pm.yaml")
    elsewhere.write_text(yaml.safe_dump({"admin": {
        "address": f"127.0.0.1:{server.admin_port}",
        "token_file": str(server.folder / "admin.token")}}))
    assert run("status", "--config", str(elsewhere), *address, cwd=tmp_path).returncode == 0
