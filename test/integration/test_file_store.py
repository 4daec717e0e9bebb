# SPDX-License-Identifier: MIT
"""store.url: file:FOLDER: the folder is what is served, live, and nothing broken takes anything away."""
import json
import os
import shutil
import subprocess
import time

import pytest

from support.net import PATIENCE, best_of, wait_until
from support.process import find_binary

FULL_LOOK = 5.0  # FILES_FULL_LOOK_MS
FILES_OPEN = 4.5  # FILES_OPEN_MS, and FILES_QUIET_MS, with a little to spare
FILES_QUIET = 0.09
LIVE = PATIENCE  # test_live_within_a_second measures


def respond(host, body):
    return f"kind: route\nhost: {host}\nrespond: {{body: '{body}'}}\n"


@pytest.fixture
def files(pointsman):
    """A server on a folder routes.d, not started yet. .write(name, text) renames into place."""
    server = pointsman({"store": {"url": "file:routes.d/", "local": None}}, start=False)
    server.routes = server.folder / "routes.d"
    server.routes.mkdir()

    def write(name, text):
        (server.routes / ".new").write_text(text)
        os.replace(server.routes / ".new", server.routes / name)

    server.write = write
    return server


def body_of(server, host, path="/"):
    response = server.exchange("GET", path, host)
    return response.body.decode() if response.status == 200 else response.status


def wait_body(server, host, expected, timeout=LIVE):
    wait_until(lambda: body_of(server, host) == expected, f"{host} answers {expected}", timeout)


def files_status(server):
    return server.status()["store"]["files"]


def wait_broken(server, count):
    wait_until(lambda: files_status(server)["broken"] == count, f"{count} broken files")


def metric(server, name):
    text = server.api("GET", "/metrics").body.decode()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))


def test_serves_changes_adds_deletes_renames(files):
    files.write("a.yaml", respond("a.example", "one") + "---\n" + respond("b.example", "two"))
    files.write("c.json", '{"routes": [{"host": "c.example", "respond": {"body": "three"}}]}')
    files.write("n.yml", "pools:\n- {name: p, targets: [{address: '127.0.0.1:1'}]}\n"
                         "routes:\n- {host: p.example, pool: p}\n")
    (files.routes / "sub.yaml").mkdir()
    for name in [".hidden.yaml", "a.yaml~", "#a.yaml#", "a.yaml.swp", "readme.txt"]:
        (files.routes / name).write_text("{broken")
    files.start()
    assert [body_of(files, f"{h}.example") for h in "abc"] == ["one", "two", "three"]
    assert body_of(files, "p.example") == 502 or body_of(files, "p.example") == 503
    assert files_status(files)["files"] == 3 and files_status(files)["broken"] == 0
    assert files_status(files)["declarations"] == 5
    files.write("a.yaml", respond("a.example", "uno") + "---\n" + respond("b.example", "two"))
    wait_body(files, "a.example", "uno")
    files.write("d.yaml", respond("d.example", "four"))
    wait_body(files, "d.example", "four")
    files.write("a.yaml", respond("a.example", "uno"))
    wait_body(files, "b.example", 404)
    revision = files.status()["revision"]
    os.rename(files.routes / "d.yaml", files.routes / "e.yaml")
    time.sleep(1)
    assert body_of(files, "d.example") == "four"
    assert files.status()["revision"] == revision  # the same declarations are no change
    (files.routes / "e.yaml").unlink()
    wait_body(files, "d.example", 404)
    assert files.get_route("p.example").json["pool"] == "p"


def test_live_within_a_second(files):
    files.write("a.yaml", respond("a.example", "0"))
    files.start()
    took = []
    for number in range(1, 6):
        began = time.monotonic()
        files.write("a.yaml", respond("a.example", str(number)))
        wait_body(files, "a.example", str(number))
        took.append(time.monotonic() - began)
    assert sorted(took)[2] < 1, took


def test_a_burst_is_one_round(files):
    files.write("a.yaml", respond("a.example", "0"))
    files.start()
    turns = iter(range(1, 10))

    def rounds():
        turn, before = next(turns), files_status(files)["rounds"]
        for number in range(50):
            files.write(f"f{number}.yaml", respond(f"h{number}.example", f"{turn}"))
        for number in range(50):
            wait_body(files, f"h{number}.example", f"{turn}")
        return files_status(files)["rounds"] - before

    # A machine that stands still between two writes makes more of them.
    best_of(rounds, 2, "rounds for a burst", 5)


def test_a_broken_file_is_refused_alone(files):
    files.write("a.yaml", respond("a.example", "one"))
    files.write("b.yaml", respond("b.example", "two"))
    files.start()
    broken = [("kind: route\nhost: a.example\nrespond: {body: [\n", "a.yaml:4:1"),
              (respond("a.example", "x") + "respnd: 1\n", "did you mean"),
              ("kind: route\nhost: a.example\nrespond: {status: 99}\n", "a.yaml:3:"),
              ("kind: rout\nhost: a.example\n", "a.yaml:1:1"),
              ("", "is empty")]
    for text, place in broken:
        files.write("a.yaml", text)
        files.write("b.yaml", respond("b.example", f"n{len(text)}"))
        wait_body(files, "b.example", f"n{len(text)}")
        wait_until(lambda: place in files_status(files)["detail"], place, LIVE)
        assert files_status(files)["broken"] == 1
        assert metric(files, "pointsman_store_files_broken") == 1
        assert body_of(files, "a.example") == "one"
        wait_until(lambda: place in files.stderr(), f"{place} is logged")
        assert "routes.d/: 2 files, 1 broken, 0 declarations refused: " in files.cli("status").stdout
    files.write("a.yaml", respond("a.example", "good"))
    wait_body(files, "a.example", "good")
    wait_broken(files, 0)
    os.chmod(files.routes / "a.yaml", 0)
    if os.geteuid() != 0:
        wait_broken(files, 1)
        assert body_of(files, "a.example") == "good"
    os.chmod(files.routes / "a.yaml", 0o644)
    wait_broken(files, 0)


def test_broken_at_the_start_deletes_nothing(files):
    files.write("a.yaml", respond("a.example", "one"))
    files.write("b.yaml", respond("b.example", "two"))
    files.start()
    files.stop()
    files.write("a.yaml", "{")
    (files.routes / "b.yaml").unlink()
    files.start()
    wait_broken(files, 1)
    assert [body_of(files, "a.example"), body_of(files, "b.example")] == ["one", "two"]
    files.write("a.yaml", respond("a.example", "one"))
    wait_body(files, "b.example", 404)
    assert body_of(files, "a.example") == "one"


def test_empty_at_the_start_deletes_nothing(files):
    """What a crash leaves of a file is no file without declarations."""
    files.write("a.yaml", respond("a.example", "one"))
    files.write("b.yaml", respond("b.example", "two"))
    files.start()
    files.stop()
    files.write("a.yaml", "")
    files.start()
    wait_broken(files, 1)
    time.sleep(FULL_LOOK + 1)  # it is tried again
    assert files_status(files)["broken"] == 1
    assert "is empty" in files_status(files)["detail"]
    assert [body_of(files, "a.example"), body_of(files, "b.example")] == ["one", "two"]
    (files.routes / "a.yaml").unlink()
    wait_body(files, "a.example", 404)
    assert body_of(files, "b.example") == "two"


def test_duplicate_keys_and_missing_pools(files):
    files.write("a.yaml", respond("a.example", "first"))
    files.write("b.yaml", respond("A.example", "second") + "---\n" + respond("b.example", "b"))
    files.write("p.yaml", "pools: [{name: p, targets: []}]\n")
    files.write("r.yaml", "routes:\n- {host: p.example, pool: p}\n- {host: q.example, pool: q}\n")
    files.start()
    assert [body_of(files, "a.example"), body_of(files, "b.example")] == ["first", "b"]
    wait_until(lambda: files_status(files)["refused"] == 2, "refused", LIVE)
    assert 'b.yaml:1:1: route a.example: is declared already at' in files.stderr()
    assert 'r.yaml:3:3: route q.example: /pool: pool "q" is declared by no file' in files.stderr()
    assert files_status(files)["broken"] == 0
    assert body_of(files, "q.example") == 404 and body_of(files, "p.example") == 503
    # Whom a live route needs stays with it.
    (files.routes / "p.yaml").unlink()
    wait_until(lambda: "what was live stays" in files.stderr(), "refused", LIVE)
    assert body_of(files, "p.example") == 503
    assert files.api("GET", "/v1/pools/p").status == 200
    files.write("r.yaml", respond("r.example", "r"))
    wait_until(lambda: files.api("GET", "/v1/pools/p").status == 404, "p is gone", LIVE)
    assert body_of(files, "p.example") == 404


def test_editors_never_delete(files):
    text = "---\n".join(respond(f"h{n}.example", str(n)) for n in range(20))
    path = files.routes / "a.yaml"
    path.write_text(text)
    files.start()

    def wrong():
        return [n for n in (0, 19) if body_of(files, f"h{n}.example") != str(n)]

    def in_place():
        """Slowly. What is wrong; None when it took longer than the node waits for who has the file open."""
        found, began = [], time.monotonic()
        with open(path, "w") as file:
            for number, part in enumerate(text.split("---\n")):
                file.write(part + "---\n")
                file.flush()
                if number % 5 == 0:
                    found += wrong()
                time.sleep(0.04)
        return found + wrong() if time.monotonic() - began < FILES_OPEN else None

    def renamed():
        """As vim does. None when the file was away for longer than the folder must be quiet."""
        began = time.monotonic()
        os.rename(path, files.routes / "a.yaml~")
        path.write_text(text)
        taken = time.monotonic() - began
        os.unlink(files.routes / "a.yaml~")
        found = wrong()
        time.sleep(0.3)
        return found + wrong() if taken < FILES_QUIET else None

    for edit in (in_place, renamed) * 2:
        for _ in range(5):
            found = edit()
            if found is not None:
                break
            wait_until(lambda: not wrong(), "all are back")
        assert found == [], edit
    path.write_text("")  # a full disk
    wait_broken(files, 1)
    assert wrong() == []


def test_ten_thousand_routes(files):
    for part in range(10):
        items = [f"- {{host: h{part}-{n}.example, respond: {{body: b{n}}}}}" for n in range(1000)]
        files.write(f"part{part}.yaml", "routes:\n" + "\n".join(items) + "\n")
    files.start()
    assert files.status()["routes"] == 10000
    assert body_of(files, "h9-999.example") == "b999"
    files.write("part9.yaml", "routes:\n- {host: h9-999.example, respond: {body: new}}\n")
    wait_until(lambda: files.status()["routes"] == 9001, "999 are gone")
    assert body_of(files, "h9-999.example") == "new"


def test_restart_with_the_folder_gone(files):
    files.write("a.yaml", respond("a.example", "one"))
    files.start()
    files.stop()
    os.rename(files.routes, files.folder / "away")
    files.start()
    assert body_of(files, "a.example") == "one"
    wait_until(lambda: "cannot be read" in files_status(files)["detail"], "told", LIVE)
    assert not files_status(files)["readable"]
    assert metric(files, "pointsman_store_files_folder") == 0
    assert "serves what it holds" in files.stderr()
    os.rename(files.folder / "away", files.routes)
    wait_until(lambda: files_status(files)["readable"], "it is back", LIVE)
    files.write("a.yaml", respond("a.example", "two"))
    wait_body(files, "a.example", "two")
    shutil.rmtree(files.routes)
    files.routes.mkdir()
    files.write("a.yaml", respond("a.example", "three"))
    wait_body(files, "a.example", "three")
    files.write("a.yaml", respond("a.example", "four"))
    wait_body(files, "a.example", "four")
    shutil.rmtree(files.routes)
    wait_until(lambda: not files_status(files)["readable"], "gone while it runs", LIVE)
    assert body_of(files, "a.example") == "four"


def test_an_empty_folder_deletes_only_when_told(files):
    files.write("a.yaml", respond("a.example", "one"))
    files.start()
    (files.routes / "a.yaml").unlink()
    wait_until(lambda: "accept_empty" in files_status(files)["detail"], "told", LIVE)
    assert body_of(files, "a.example") == "one"
    files.stop()
    files.config["store"]["accept_empty"] = True
    files.start()
    wait_body(files, "a.example", 404)


def test_swapped_links(files):
    """As kubernetes does with volumes: the files lead through a link that is replaced."""
    for version, body in (("v1", "one"), ("v2", "two")):
        (files.routes / f"..{version}").mkdir()
        (files.routes / f"..{version}" / "a.yaml").write_text(respond("a.example", body))
    os.symlink("..v1", files.routes / "..data")
    os.symlink("..data/a.yaml", files.routes / "a.yaml")
    files.start()
    assert body_of(files, "a.example") == "one"
    os.symlink("..v2", files.routes / "..new")
    os.rename(files.routes / "..new", files.routes / "..data")
    wait_body(files, "a.example", "two")


def test_certificates(files, certs):
    one, two = certs.issue(["one.example"]), certs.issue(["two.example"])
    (files.folder / "keys").write_text("ab" * 32 + "\n")
    (files.folder / "keys").chmod(0o600)
    files.config["store"]["encryption_key_file"] = "keys"
    files.write("c.json", json.dumps({"certificates": [
        {"name": "one", "chain": one.chain, "key": one.key},
        {"name": "two", "chain_file": str(two.chain_file), "key_file": str(two.key_file)}]}))
    files.start()
    assert files.api("GET", "/v1/certificates/one").json["fingerprint"] == one.fingerprint
    assert files.api("GET", "/v1/certificates/two").json["names"] == ["two.example"]
    line = next(line for line in one.key.splitlines() if len(line) > 40)
    assert line.encode() not in (files.folder / "pointsman.db-wal").read_bytes()
    revision = files.status()["revision"]
    files.restart()
    time.sleep(0.5)
    assert files.status()["revision"] == revision


def test_writes_are_refused(files):
    files.write("a.yaml", respond("a.example", "one"))
    files.start()
    for method, path, body in (("PUT", "/v1/routes/x.example", {"respond": {"body": "x"}}),
                               ("PATCH", "/v1/routes/a.example", {"respond": {"body": "x"}}),
                               ("DELETE", "/v1/routes/a.example", None),
                               ("PUT", "/v1/pools/p", {"targets": []}),
                               ("POST", "/v1/pools/p/switch", {"targets": []}),
                               ("PUT", "/v1/pools/p/targets/10.0.0.1:80", {})):
        response = files.api(method, path, json=body)
        assert response.status == 409
        assert "declarations come from the files in routes.d/" in response.json["detail"]
    assert files.batch([{"op": "delete", "kind": "route", "key": "a.example"}]).status == 409
    assert files.api("GET", "/v1/export").body.count(b"\n") == 1
    result = files.cli("route", "put", "x.example", "10.0.0.1:80", check=False)
    assert result.returncode == 1 and "come from the files" in result.stderr
    assert files.cli("route", "list").returncode == 0


def test_events(files):
    files.write("a.yaml", respond("a.example", "one"))
    files.start()
    files.write("a.yaml", "{")
    wait_broken(files, 1)

    def frames():
        text = subprocess.run(["curl", "-sN", "-m", "2",
                               f"http://127.0.0.1:{files.admin_port}/v1/events?since=0"],
                              capture_output=True, text=True).stdout
        return [f for f in text.split("\n\n") if "event: store" in f and '"broken":1' in f]

    assert "a.yaml:" in wait_until(frames, "the event")[0]


def run(folder, *words):
    env = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    return subprocess.run([str(find_binary()), *words], cwd=folder, env=env, capture_output=True,
                          text=True, timeout=2 * PATIENCE)


def test_check_and_start_without_a_folder(files):
    config = files.folder / "c.yaml"
    config.write_text("store: {url: 'file:none.d'}\n")
    result = run(files.folder, "check", "--config", "c.yaml")
    assert result.returncode == 1 and "none.d" in result.stderr
    assert "No such file or directory" in result.stderr
    result = run(files.folder, "serve", "--config", "c.yaml", "--admin", "127.0.0.1:0")
    assert result.returncode == 1 and "none.d" in result.stderr
    config.write_text("store: {url: 'file:routes.d/'}\n")
    files.write("a.yaml", respond("a.example", "one"))
    assert run(files.folder, "check", "--config", "c.yaml").returncode == 0
    files.write("b.yaml", "routes:\n- {host: b.example, pool: none}\n- {host: b.example, pol: x}\n")
    result = run(files.folder, "check", "--config", "c.yaml")
    assert result.returncode == 1 and "routes.d/b.yaml:3:" in result.stderr


def test_limits(files):
    files.write("a.yaml", respond("a.example", "one"))
    files.start()
    files.write("big.yaml", "# " + "x" * (16 << 20) + "\n" + respond("big.example", "x"))
    wait_broken(files, 1)
    assert "is larger than 16777216 bytes" in files_status(files)["detail"]
    (files.routes / "big.yaml").unlink()
    wait_broken(files, 0)
    for n in range(5):
        files.write(f"big{n}.yaml", "# " + "x" * (14 << 20) + "\n")
    wait_until(lambda: "more than 67108864" in files_status(files)["detail"], "bytes")
    assert body_of(files, "a.example") == "one"
    for n in range(5):
        (files.routes / f"big{n}.yaml").unlink()
    for n in range(10000):
        (files.routes / f"n{n}.yaml").touch()
    wait_until(lambda: "more than 10000 files" in files_status(files)["detail"], "files")
    assert body_of(files, "a.example") == "one"


# ---- store copy ----

def export(server):
    return sorted(server.api("GET", "/v1/export?secrets=true").body.decode().split("\n")[:-1])


def declare(server, certs):
    one, two = certs.issue(["one.example"]), certs.issue(["two.example"])
    server.put_certificate("one", one.chain, one.key)
    server.api("PUT", "/v1/certificates/two",
               json={"chain_file": str(two.chain_file), "key_file": str(two.key_file)})
    server.put_pool("p", ["127.0.0.1:1"], tls={"client_certificate": "one"},
                    health={"path": "/h%C3%A9"})
    server.put_pool("q", [])
    server.put_route("a.example", pool="p", request_headers={"set": {"X-A": "a: 'b' \"c\" # d"}})
    server.put_route("b.example", path="/api", respond={"body": "<p>\n  \u4e2d \u0085 yes\n"})
    server.put_route("*.c.example", targets=["127.0.0.1:2"])


def test_copy_both_ways_gives_the_same(pointsman, certs):
    first = pointsman()
    declare(first, certs)
    before = export(first)
    assert len(before) == 7
    first.stop()
    result = run(first.folder, "store", "copy", "sqlite:pointsman.db", "file:out.d")
    assert result.returncode == 1 and "uses certificate one" in result.stderr
    assert not (first.folder / "out.d").exists()
    result = run(first.folder, "store", "copy", "--secrets", "--json", "sqlite:pointsman.db",
                 "file:out.d")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"routes": 3, "pools": 2, "certificates": 2, "left_out": 0,
                                         "created": 0, "updated": 0, "same": 0, "deleted": 0,
                                         "files": 3}
    out = first.folder / "out.d"
    assert sorted(p.name for p in out.iterdir()) == ["certificates.yaml", "pools.yaml",
                                                     "routes.yaml"]
    assert (out / "certificates.yaml").stat().st_mode & 0o777 == 0o600
    result = run(first.folder, "store", "copy", "--secrets", "file:out.d", "sqlite:back.db")
    assert result.returncode == 0, result.stderr
    assert "7 created, 0 updated" in result.stdout
    for url in ("sqlite:back.db", "file:out.d"):
        second = pointsman({"store": {"url": url, "local": None if "sq" in url else "r.db"}},
                           start=False)
        for name in ("back.db", "out.d"):
            copy = shutil.copytree if (first.folder / name).is_dir() else shutil.copy
            copy(first.folder / name, second.folder / name)
        second.start()
        wait_until(lambda: export(second) == before, f"the same from {url}", LIVE)
        second.stop()


def test_copy_merge_replace_and_locks(pointsman):
    server = pointsman()
    server.put_route("a.example", respond={"body": "a"})
    running = run(server.folder, "store", "copy", "sqlite:pointsman.db", "file:x.d")
    assert running.returncode == 1
    assert f"is in use by process {server.pid}" in running.stderr
    running = run(server.folder, "store", "copy", "file:x.d", "sqlite:pointsman.db")
    assert running.returncode == 1
    server.stop()
    folder = server.folder / "in.d"
    folder.mkdir()
    (folder / "b.yaml").write_text(respond("b.example", "b"))
    words = ("store", "copy", "file:in.d", "sqlite:pointsman.db")
    result = run(server.folder, *words)
    assert result.returncode == 1 and "holds 1 routes, 0 pools" in result.stderr
    assert run(server.folder, *words, "--merge", "--replace").returncode == 2
    result = run(server.folder, *words, "--merge")
    assert result.returncode == 0 and "1 created" in result.stdout
    result = run(server.folder, *words, "--replace")
    assert "0 created, 0 updated, 1 were the same, 1 deleted" in result.stdout
    result = run(server.folder, "store", "copy", "sqlite:pointsman.db", "file:in.d")
    assert result.returncode == 1 and "is not empty" in result.stderr
    result = run(server.folder, "store", "copy", "sqlite:none.db", "file:y.d")
    assert result.returncode == 1 and "No such file" in result.stderr
    assert not (server.folder / "none.db").exists()
    assert run(server.folder, "store", "copy", "mysql://h", "file:y.d").returncode == 2
    (folder / "c.yaml").write_text("kind: route\nhost: c.example\npool: none\n")
    result = run(server.folder, *words, "--replace")
    assert result.returncode == 1 and "in.d/c.yaml:1:1" in result.stderr
    server.start()
    assert body_of(server, "b.example") == "b" and body_of(server, "a.example") == 404


def test_copy_of_sealed_secrets(pointsman, certs):
    server = pointsman({"store": {"encryption_key_file": "keys"}}, start=False)
    for name, byte in (("keys", "ab"), ("other", "cd")):
        (server.folder / name).write_text(byte * 32 + "\n")
        (server.folder / name).chmod(0o600)
    server.start()
    one = certs.issue(["one.example"])
    server.put_certificate("one", one.chain, one.key)
    server.stop()
    words = ("store", "copy", "sqlite:pointsman.db")
    result = run(server.folder, *words, "sqlite:a.db")
    assert result.returncode == 0 and "1 uploaded certificates left out" in result.stdout
    for key in ((), ("--encryption-key-file", "other")):
        result = run(server.folder, *words, "sqlite:b.db", "--secrets", *key)
        assert result.returncode == 1 and "key cannot be opened" in result.stderr
    result = run(server.folder, *words, "sqlite:c.db", "--secrets", "--encryption-key-file", "keys")
    assert result.returncode == 0, result.stderr
    line = next(line for line in one.key.splitlines() if len(line) > 40)
    assert line.encode() not in (server.folder / "c.db").read_bytes()
    result = run(server.folder, *words, "file:d", "--secrets", "--encryption-key-file", "keys")
    assert result.returncode == 0 and line in (server.folder / "d/certificates.yaml").read_text()


def test_copy_splits_routes(files):
    files.write("a.json", json.dumps({"routes": [
        {"host": f"h{n}.example", "respond": {"body": "x"}} for n in range(10001)]}))
    result = run(files.folder, "store", "copy", "file:routes.d/", "file:out.d")
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (files.folder / "out.d").iterdir()) == ["routes-0001.yaml",
                                                                          "routes-0002.yaml"]
    assert "10001 routes, 0 pools and 0 certificates copied" in result.stdout


def test_copy_splits_by_size_and_loses_nothing(files):
    # Each is longer in YAML than as it is stored.
    for part in range(3):
        files.write(f"{part}.json", json.dumps({"routes": [
            {"host": f"h{part}-{n}.example", "respond": {"body": "\u0085" * 300}}
            for n in range(3000)]}))
    result = run(files.folder, "store", "copy", "file:routes.d/", "file:out.d")
    assert result.returncode == 0, result.stderr
    names = sorted(p.name for p in (files.folder / "out.d").iterdir())
    assert names == [f"routes-{n:04}.yaml" for n in range(1, len(names) + 1)] and len(names) > 1
    result = run(files.folder, "store", "copy", "file:out.d", "sqlite:out.db")
    assert result.returncode == 0 and "9000 created" in result.stdout


def test_copy_replaces_no_certificate_that_is_left_out(pointsman, certs):
    server = pointsman()
    for name in ("one", "two"):
        cert = certs.issue([f"{name}.example"])
        server.put_certificate(name, cert.chain, cert.key)
    server.put_route("a.example", respond={"body": "a"})
    server.stop()
    words = ("store", "copy", "sqlite:pointsman.db")
    assert run(server.folder, *words, "sqlite:b.db", "--secrets").returncode == 0
    server.start()
    server.api("DELETE", "/v1/certificates/two")
    server.stop()
    result = run(server.folder, *words, "sqlite:b.db", "--replace")
    assert result.returncode == 0, result.stderr
    assert "1 were the same, 1 deleted" in result.stdout  # "two" is not in FROM
