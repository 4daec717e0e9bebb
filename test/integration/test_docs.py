# SPDX-License-Identifier: MIT
"""The documentation and the program agree: links, names, defaults, examples."""
import os
import pathlib
import re
import subprocess

import pytest

from support.net import PATIENCE, wait_until
from support.process import find_binary

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")


def read(path):
    return (ROOT / path).read_text()


def pages():
    found = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *SOURCE.rglob("*.md"), *ROOT.glob("bench/*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?)\s*$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# --- links ---


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page):
    text = FENCE.sub("", read(page))
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path.read_text()), link


@pytest.mark.parametrize("page", pages())
def test_files_that_are_named_exist(page):
    folders = "src|test|docs|tools|script|bench|deploy|fuzz"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*\w)`", FENCE.sub("", read(page))):
        assert (ROOT / name).exists(), name


def test_threats_name_tests_that_exist():
    text = read("docs/threat-model.md")
    for name in re.findall(r"`(test_\w+\.py)`", text):
        assert (ROOT / "test" / "integration" / name).is_file(), name
    tests = "".join(path.read_text() for path in (ROOT / "test" / "integration").glob("*.py"))
    names = [name.strip() for group in re.findall(r"\((test_[\w, ]+)\)", text)
             for name in group.split(",")]
    assert len(names) > 20
    for name in names:
        assert f"def {name}(" in tests, name
    for name in re.findall(r"`(test/corpus/\w+\.yaml)` \(([\w-]+)\)", text):
        assert re.search(rf"name: {name[1]}$", read(name[0]), re.MULTILINE), name


# --- names in the code are in the documentation ---


def table_of(path, name):
    """The text of the X-macro table `name` in a header."""
    text = read(path)
    begin = text.index(f"#define {name}")
    return re.match(r"(?:.*\\\n)*.*\n", text[begin:])[0].replace("\\\n", "\n")


def test_every_setting_is_in_the_reference():
    rows = re.findall(r'\b([XL])\("([\w.]+)",\s*(\w+),([^"]*)"([^"]*)"',
                      table_of("src/model/config_table.h", "CONFIG_TABLE"))
    assert len(rows) > 30
    page = read("docs/configuration.md")
    for _, path, _, _, default in rows:
        row = re.search(rf"^\| `{re.escape(path)}` \|(.*)$", page, re.MULTILINE)
        assert row, path
        variable = "POINTSMAN_" + path.upper().replace(".", "_")
        assert f"`{variable}`" in row[1], path
        assert (f"`{default}`" if default else "(empty)") in row[1], (path, default)


def test_no_setting_is_invented():
    known = set(re.findall(r'\b[XL]\("([\w.]+)"', read("src/model/config_table.h")))
    for path in re.findall(r"^\| `([a-z_.]+)` \|", read("docs/configuration.md"), re.MULTILINE):
        assert path in known, path


def test_every_counter_is_explained():
    names = re.findall(r"X\((\w+),", table_of("src/observe/stats.h", "COUNTER_TABLE"))
    for path in (SOURCE / "admin").glob("*.c"):
        names += re.findall(r'put_(?:gauge|family|total|seconds)\(\s*out,\s*"(\w+)"', path.read_text())
    series = re.search(r"\} families\[\] = \{(.*?)\};", read("src/admin/targets_metrics.c"), re.DOTALL)
    names += re.findall(r'\{"(\w+)"', series[1])
    assert len(names) > 80
    page = read("docs/operating.md")
    for name in names:
        assert re.search(rf"^\| `pointsman_{name}[`{{]", page, re.MULTILINE), name


def test_every_end_is_explained():
    ends = re.findall(r'X\(END_\w+,\s*"(\w+)"', table_of("src/proxy/end.h", "END_TABLE"))
    assert len(ends) > 20
    page = read("docs/operating.md")
    for token in ends:
        assert re.search(rf"^\| `{token}` \|", page, re.MULTILINE), token
    # What a request may be refused with before it is one.
    errors = re.findall(r"X\(ERR_(\w+), (\d+), \w+, FAULT_CLIENT",
                        table_of("src/base/err.h", "ERR_TABLE"))
    for name, status in errors:
        if status in ("409", "412", "422") or name == "NOT_FOUND":
            continue  # the admin API's
        assert f"`{name.lower()}`" in page, name


@pytest.mark.parametrize("code, table, page", [
    ("codec_pool.c", "limits_members", "docs/pools.md"),
    ("codec_pool_hash.c", "sticky_members", "docs/pools.md"),
    ("codec_pool_health.c", "health_members", "docs/health.md"),
    ("codec_pool_passive.c", "passive_members", "docs/health.md"),
    ("codec_pool_passive.c", "eject_members", "docs/health.md"),
    ("codec_target.c", "target_members", "docs/pools.md"),
])
def test_every_member_of_a_field_is_explained(code, table, page):
    text = read(f"src/model/{code}")
    begin = text.index(f"{table}[] = {{")
    rows = text[begin:text.index("\n};", begin)]
    names = re.findall(r'\{\{"(\w+)", \d+\},', rows) + re.findall(r'(?:CHECK|PART)\("(\w+)"', rows)
    assert len(names) > 2
    for name in names:
        assert re.search(rf'[`."]{name}[`"]', read(page)), name


def test_every_event_of_health_is_explained():
    code = "".join(path.read_text() for path in (SOURCE / "publish").glob("health*.c"))
    states = set(re.findall(r'health_changed\([^;]*?"(\w+)"', code)) | {
        name for pair in re.findall(r'\? "(\w+)" : "(\w+)"', code) for name in pair}
    states -= {"target", "targets"}
    assert len(states) > 7
    for state in states:
        assert f"`{state}`" in read("docs/health.md"), state


@pytest.mark.parametrize("noun, page", [("route", "docs/routes.md"), ("pool", "docs/pools.md"),
                                        ("certificate", "docs/tls.md")])
def test_every_field_is_explained(noun, page):
    text, code = read(page), read(f"src/model/codec_{noun}.c")
    begin = code.index(f"{noun}_members[] = {{")
    table = code[begin:code.index("};", begin)]
    names = re.findall(r"\b(?:PLAIN|AS|LATER|READ_ONLY_TEXT)\(\"?(\w+)", table)
    names += re.findall(r'\{\{"(\w+)", \d+\},', table)
    assert len(names) > 10
    for name in names:
        assert f"`{name}`" in text, name


def test_every_call_is_in_the_guide():
    text = read("docs/api.md")
    for pattern in re.findall(r'ROW\(METHOD_[A-Z]+, "([^"]+)"', read("src/admin/calls.c")):
        assert pattern.split("/{")[0] in text, pattern


def test_every_folder_is_on_the_map():
    text = read("src/README.md")
    for folder in SOURCE.iterdir():
        if folder.is_dir():
            assert f"{folder.name}/" in text, folder.name
    for name in set(re.findall(r"\b([\w/]+\.[ch])\b", text)) - {"x_int.h"}:
        assert list(SOURCE.rglob(name.split("/")[-1])), name


# --- examples ---


def test_example_configuration_is_good():
    env = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    done = subprocess.run([find_binary(), "check", "--config", ROOT / "pointsman.example.yaml"],
                          env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


def test_example_configuration_shows_defaults():
    """All it sets but names and addresses is the default: reading it tells what a node does."""
    import yaml
    given = yaml.safe_load(read("pointsman.example.yaml"))
    defaults = dict(re.findall(r'\bX\("([\w.]+)",\s*\w+,[^"]*"([^"]*)"',
                               read("src/model/config_table.h")))
    own = {"node.name", "node.zone", "listen.http", "listen.https", "trusted_proxies"}
    for section, value in given.items():
        for name, item in value.items() if isinstance(value, dict) else [("", value)]:
            path = f"{section}.{name}".rstrip(".")
            if path not in own:
                text = str(item).lower() if isinstance(item, bool) else str(item)
                assert text == defaults[path], path


def test_unit_file_names_what_exists():
    text = read("deploy/systemd/pointsman.service")
    assert "pointsman.example.yaml" in text and (ROOT / "pointsman.example.yaml").is_file()
    used = re.findall(r"^Exec\w+=\S*/pointsman (\w+) (--\w+)", text, re.MULTILINE)
    assert ("serve", "--config") in used
    for command, flag in used:
        done = subprocess.run([find_binary(), "help", command], capture_output=True, text=True,
                              timeout=PATIENCE, check=True)
        assert flag in done.stdout


def blocks(page):
    """(script, expected output or None) of the blocks of a page that are to be run, in order."""
    found = FENCE.findall(read(page))
    result = []
    for i, (info, body) in enumerate(found):
        if info == "sh run":
            follows = i + 1 < len(found) and found[i + 1][0] == "text output"
            result.append((body, found[i + 1][1] if follows else None))
    return result


def check_output(output, expected, script):
    """Each expected line is found, in order; … stands for anything within a line."""
    at = 0
    for line in expected.splitlines():
        if line.strip():
            pattern = r"\s*".join(".*?".join(re.escape(part) for part in word.split("…"))
                                  for word in line.split())
            match = re.search(pattern, output[at:])
            assert match, f"{line!r} is not in the output of\n{script}\n{output}"
            at += match.end()


@pytest.mark.parametrize("page", ["docs/getting-started.md", "docs/routes.md", "docs/pools.md",
                                  "docs/health.md", "docs/deploys.md", "docs/api.md",
                                  "docs/tls.md", "docs/http2.md"])
def test_examples_run(pointsman, tmp_path, page):
    server = pointsman(args=["--demo"], https=True)
    wait_until(lambda: server.status()["routes"] == 3, "the demo's routes")
    run_blocks(server, tmp_path, page)


@pytest.mark.parametrize("page, config", [
    ("docs/import.md", {}),
    ("docs/fleet.md", {"store": {}}),
    ("docs/ceryx.md", {"store": {}, "ceryx": {"enabled": True, "miss_timeout": "1s"}}),
])
def test_examples_with_redis_run(pointsman, redis, tmp_path, page, config):
    store = redis()
    if "store" in config:
        config = dict(config, store={"url": store.url()})
    server = pointsman(config, https=True)
    run_blocks(server, tmp_path, page, {"127.0.0.1:6379": store.address})


@pytest.mark.parametrize("page", ["docs/fleet.md", "docs/ceryx.md", "docs/files.md"])
def test_example_configurations_are_good(page, tmp_path):
    """Blocks of YAML that are a configuration; their files are made."""
    import yaml
    (tmp_path / "keys").write_text("ab" * 32)
    (tmp_path / "keys").chmod(0o600)
    (tmp_path / "routes.d").mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    given = [body for info, body in FENCE.findall(read(page)) if info == "yaml" and "store:" in body]
    assert given
    for body in given:
        assert "url" in yaml.safe_load(body)["store"]
        (tmp_path / "c.yaml").write_text(body.replace("/etc/pointsman/keys", str(tmp_path / "keys")))
        done = subprocess.run([find_binary(), "check", "--config", "c.yaml"], cwd=tmp_path, env=env,
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr


def run_blocks(server, tmp_path, page, addresses=None):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pointsman").symlink_to(server.binary)
    env = dict(os.environ, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
               POINTSMAN_ADMIN=f"127.0.0.1:{server.admin_port}")
    addresses = dict(addresses or {}, **{
        "127.0.0.1:8080": f"127.0.0.1:{server.port}",
        "127.0.0.1:8081": f"127.0.0.1:{server.admin_port}",
        "127.0.0.1:8443": f"127.0.0.1:{server.https_port}"})
    found = blocks(page)
    assert found
    for script, expected in found:
        for shown, real in addresses.items():
            script = script.replace(shown, real)
        done = subprocess.run(["bash", "-eu", "-c", script], cwd=server.folder, env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=2 * PATIENCE, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        if expected is not None:
            check_output(done.stdout, expected, script)


# --- the limits table ---


def constant(path, name):
    """The value of `NAME = EXPRESSION` in an enum."""
    text = re.search(rf"\b{name} = ([\d <()*+]+)[,/\s]", read(path))[1]
    assert re.fullmatch(r"[\d <()*+]+", text)
    return eval(text)  # digits and operators only


def with_unit(value):
    """A default of the settings table as the documentation writes it."""
    number, unit = re.fullmatch(r"(\d+)([a-z]*)", value).groups()
    words = {"k": "KiB", "m": "MiB", "g": "GiB", "s": "s", "h": "h"}
    if not unit:
        return f"{int(number):,}"
    return f"{number} {words[unit]}"


@pytest.mark.parametrize("path, name, row, text", [
    ("src/http/h1/h1_parse.h", "H1_METHOD_MAX", "method", "{} bytes"),
    ("src/http/h1/h1_parse.h", "H1_CHUNK_EXTENSION_MAX", "chunk extensions", "{} bytes"),
    ("src/http/h1/h1_parse.h", "H1_TRAILER_MAX", "trailer section", "{k} KiB"),
    ("src/http/h1/h1_parse.h", "H1_FIELD_MAX", "`limits.headers`", "1 to {}"),
    ("src/http/stream.h", "HTTP_AHEAD_LEN", "taken ahead", "{k} KiB"),
    ("src/proxy/transaction.h", "TXN_KEEP_MAX", "body kept", "{k} KiB"),
    ("src/proxy/transaction.h", "TXN_ARENA_MAX", "memory of one request", "{m} MiB"),
    ("src/model/codec_route.c", "RETRIES_MAX", "attempts of one request", "0 to {}"),
    ("src/model/codec_target.c", "TARGETS_MAX", "targets of a pool", "{}"),
    ("src/model/config.h", "CONFIG_LISTEN_MAX", "listeners", "{}"),
    ("src/net/proxy_protocol.h", "PROXY_HEADER_MAX", "PROXY header", "{} bytes"),
    ("src/cert/pem.h", "PEM_TEXT_MAX", "chain, key,", "{k} KiB"),
    ("src/cert/pem.h", "PEM_CHAIN_MAX", "certificates of a chain", "| {} |"),
    ("src/cert/pem.h", "PEM_BUNDLE_MAX", "CA bundle", "{} certificates"),
    ("src/cert/pem.h", "PEM_BUNDLE_LEN", "CA bundle", "{k} KiB"),
    ("src/model/codec_certificate.c", "HOSTS_MAX", "hosts of a certificate", "{}"),
    ("src/cert/seal.c", "KEY_MAX", "keys of `store.encryption_key_file`", "{}"),
    ("src/net/tls.h", "TLS_TICKET_KEY_MAX", "session ticket keys", "| {}, "),
    ("src/cert/watch.c", "LOOK_MAX", "certificate files looked at", "{} a second"),
    ("src/http/h2/h2_server_int.h", "H2_STREAM_WINDOW", "HTTP/2: window", "{k} KiB"),
    ("src/http/h2/h2_server_int.h", "H2_CONN_WINDOW", "HTTP/2: window", "{m} MiB"),
    ("src/http/h2/h2_server_int.h", "H2_HELD_MAX", "HTTP/2: held", "{m} MiB"),
    ("src/http/h2/h2_fields.h", "H2_BOMB_FACTOR", "HTTP/2: header section |", "{} times"),
    ("src/http/h2/h2_fields.h", "H2_TRAILER_MAX", "HTTP/2: trailer fields", "{}"),
    ("src/http/h2/h2_guard.h", "H2_CONTINUATION_MIN", "HTTP/2: CONTINUATION", "| {}, "),
    ("src/http/h2/h2_client_int.h", "H2_CLIENT_STREAM_MAX", "HTTP/2: streams of a connection to",
     "{}"),
    ("src/observe/access_log.h", "ACCESS_LOG_RING_BYTES", "access log ring", "{m} MiB"),
    ("src/observe/access_log.h", "ACCESS_LOG_TEXT_MAX", "text in an access log", "{k} KiB"),
    ("src/admin/admin_int.h", "ADMIN_BODY_MAX", "object in the admin API", "{m} MiB"),
    ("src/admin/batch_int.h", "BATCH_BLOCK_LINES", "batch:", "{}, 1 MiB"),
    ("src/admin/batch_int.h", "BATCH_BLOCK_BYTES", "batch:", "{m} MiB"),
    ("src/admin/admin_int.h", "ADMIN_CONN_MAX", "admin connections", "{}, 8"),
    ("src/admin/admin_int.h", "ADMIN_BATCH_MAX", "admin connections", ", {}, "),
    ("src/admin/admin_int.h", "ADMIN_READER_MAX", "admin connections", ", {}, "),
    ("src/admin/admin_int.h", "ADMIN_DRAIN_MAX", "admin connections", ", {} |"),
    ("src/admin/admin_int.h", "ADMIN_SWITCH_MAX", "switches that wait", "| {}, "),
    ("src/admin/admin_int.h", "ADMIN_SERIES_MAX", "targets with metrics", "| {} |"),
    ("src/publish/trial.c", "TRIAL_PROBE_MAX", "checks of switches", "| {} |"),
    ("src/publish/health_tell.c", "LOG_MAX", "lines of health changes", "| {} a second"),
    ("src/upstream/prober_check.c", "HEAD_MAX", "answer to a health check", "{k} KiB"),
    ("src/upstream/prober_check.c", "FIELD_MAX", "answer to a health check", "{} fields"),
    ("src/upstream/prober.h", "PROBE_BODY_MAX", "answer to a health check", "{k} KiB of body"),
    ("src/upstream/waiting.c", "JOIN_MAX", "requests that wait for one HTTP/2", "| {} |"),
    ("src/net/resolver.h", "RESOLVER_ADDRESS_MAX", "addresses of a name", "| {} |"),
    ("src/net/resolver.c", "UNDER_WAY_MAX", "DNS questions", "| {} |"),
    ("src/admin/events.c", "EVENTS_KEPT", "events kept", "{}"),
    ("src/files/files.h", "FILES_MAX", "files of a `file:` store", "| {} |"),
    ("src/files/files.h", "FILES_BYTES_MAX", "bytes of all its files", "| {m} MiB |"),
    ("src/files/files.h", "FILES_FILE_MAX", "bytes of one of its files", "| {m} MiB |"),
    ("src/files/files.h", "FILES_FAULTS_SHOWN", "faults of the files", "| {} |"),
    ("src/cli/copy_int.h", "COPY_ROUTES_PER_FILE", "routes of a file that", "| {}, or"),
    ("src/cli/copy_int.h", "COPY_FILE_BYTES", "routes of a file that", "{m} MiB"),
    ("src/redis/redis.h", "REDIS_REPLY_MAX", "Redis: one reply", "{m} MiB"),
    ("src/redis/redis.h", "REDIS_OUTPUT_MAX", "Redis: one reply", "{m} MiB"),
    ("src/redis/redis.h", "REDIS_CONNECT_MS", "Redis: connect", "{} ms"),
    ("src/redis/redis.h", "REDIS_SENTINEL_MS", "Redis: connect", "{} ms"),
    ("src/redis/redis.h", "REDIS_RETRY_MIN_MS", "Redis: pause", "{} to"),
    ("src/redis/redis.h", "REDIS_RETRY_MAX_MS", "Redis: pause", "to {} ms"),
    ("src/fleet/fleet.h", "FLEET_SILENCE_MS", "silence of Redis", "{} ms"),
    ("src/fleet/fleet.h", "FLEET_UNKNOWN_MS", "wait for the answer of a write", "{} ms"),
    ("src/fleet/write_int.h", "WRITE_SENT_MAX", "writes that Redis has not", "| {}, "),
    ("src/fleet/write_int.h", "WRITE_SENT_BYTES", "writes that Redis has not", "{m} MiB"),
    ("src/fleet/script.h", "FLEET_CALL_CHANGES_MAX", "changes of one write into", "| {} |"),
    ("src/fleet/write_int.h", "WRITE_ORPHAN_MAX", "writes without an outcome", "| {} |"),
    ("src/fleet/write_int.h", "WRITE_LOG_MAX", "outcomes, skipped", "| {} a second"),
    ("src/fleet/follow_int.h", "FOLLOW_TOLD_MAX", "outcomes, skipped", "| {} a second"),
    ("src/fleet/fleet.h", "FLEET_WAIT_REPLICAS_MS", "wait for replicas", "{} ms"),
    ("src/fleet/fleet.h", "FLEET_WAIT_MAX", "calls that wait for the fleet", "| {} |"),
    ("src/fleet/fleet.h", "FLEET_NODE_MAX", "nodes that are listed", "| {} |"),
    ("src/fleet/fleet.h", "FLEET_LIVE_MS", "silence of a node", "{} ms"),
    ("src/fleet/fleet.h", "FLEET_FORGET_MS", "silence of a node", "{} ms"),
    ("src/fleet/fleet.h", "FLEET_REVISION_STEP", "changes that a new epoch", "| {} "),
    ("src/ceryx/watch.h", "CERYX_LOOKUP_MAX", "Ceryx: look-ups", "| {}, "),
    ("src/ceryx/watch.h", "CERYX_REMEMBERED", "Ceryx: hosts that are remembered", "| {}, "),
    ("src/ceryx/watch.h", "CERYX_LEASE_MS", "Ceryx: silence", "{} ms"),
    ("src/ceryx/watch.h", "CERYX_PAGE", "Ceryx: hosts of one read", "| {}, "),
    ("src/ceryx/watch.h", "CERYX_NOTED_MAX", "Ceryx: hosts of one read", ", {} |"),
    ("src/cli/import_int.h", "IMPORT_BATCH_LINES", "import: lines", "| {}, "),
    ("src/cli/import_int.h", "IMPORT_VALUE_MAX", "import: lines", "{m} MiB"),
    ("src/cli/import_rule.h", "RULE_TEXT_MAX", "import: a rule", "{} bytes"),
    ("src/cli/import_rule.h", "RULE_TERM_MAX", "import: a rule", ", {}, "),
    ("src/cli/import_rule.h", "RULE_DEPTH_MAX", "import: a rule", ", {} |"),
    ("src/cli/import_int.h", "IMPORT_TREE_BYTES", "import: all keys", "{m} MiB"),
    ("src/store/store.h", "STORE_PENDING_MAX", "writes that wait", "{}, or"),
    ("src/store/store.h", "STORE_PENDING_CHANGES_MAX", "writes that wait", "or {}"),
])
def test_fixed_limits_are_those_of_the_code(path, name, row, text):
    value = constant(path, name)
    want = text.replace("{k}", f"{value >> 10:,}").replace("{m}", f"{value >> 20:,}")
    want = want.replace("{}", f"{value:,}")
    line = re.search(rf"^\| {re.escape(row)}.*$", read("docs/operating.md"), re.MULTILINE)
    assert line and want in line[0], (name, value)


def test_budgets_are_those_of_the_code():
    rows = re.findall(r'X\(ABUSE_\w+, "(\w+)", (\d+), (\d+)\)',
                      table_of("src/http/h2/h2_guard.h", "H2_ABUSE_TABLE"))
    budgets = [row for row in rows if row[1] != "0"]
    assert len(budgets) == 4
    for name, budget, refill in budgets:
        for page in ("docs/operating.md", "docs/http2.md"):
            lines = [line for line in read(page).splitlines()
                     if f"`h2_{name}_total` |" in line and f" {int(budget):,}" in line]
            assert any(re.search(rf"\b{refill}\b", line) for line in lines), (page, name)


def test_limits_that_can_be_set_show_their_defaults():
    rows = re.findall(r'X\("((?:limits|timeouts)\.\w+)", \w+, [\w.]+, "(\w+)"',
                      read("src/model/config_table.h"))
    assert len(rows) == 17
    for path, default in rows:
        row = re.search(rf"^\| `{path}`.*?\|(.*?)\|", read("docs/operating.md"), re.MULTILINE)
        want = "none" if default == "0" else with_unit(default)
        assert row and row[1].strip() == want, path
