# SPDX-License-Identifier: MIT
"""Certificates through the admin API and the command line; the admin API over TLS."""
import base64
import datetime
import http.client
import json
import os
import socket
import ssl
import subprocess

import pytest
import yaml

from support.net import PATIENCE, free_port, wait_until

FACTS = {"names", "not_before", "not_after", "subject", "issuer", "serial", "fingerprint", "content",
         "key_type"}


def get(server, name, status=200):
    answer = server.api("GET", f"/v1/certificates/{name}")
    assert answer.status == status, answer
    return answer


def problems(answer):
    """{pointer: detail} of a problem."""
    assert answer.headers.get("Content-Type") == "application/problem+json", answer
    return {error["pointer"]: error["detail"] for error in answer.json["errors"]}


def refused(server, name, status=422, **body):
    answer = server.api("PUT", f"/v1/certificates/{name}", json=body)
    assert answer.status == status, answer.body
    return problems(answer)


def key_lines(certificate):
    """Lines of the key that stand nowhere else."""
    return [line for line in certificate.key.splitlines() if not line.startswith("-")][:-1]


def events_until(server, since, wanted, timeout=PATIENCE):
    """Events (type, data) after a revision, until `wanted` of one is true: that one."""
    client = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=timeout)
    client.request("GET", f"/v1/events?since={since}")
    answer = client.getresponse()
    kind = None
    try:
        for line in answer:
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                if wanted(kind, data):
                    return data
    finally:
        client.close()
    raise AssertionError("the event did not come")


# --- one certificate ---


def test_put_get_list_delete(pointsman, certs):
    server = pointsman()
    shop = certs.issue(["shop.example.com", "*.shop.example.com"], days=40)
    first = server.put_certificate("shop", shop.chain, shop.key)
    assert first.status == 201
    answer = get(server, "shop")
    value = answer.json
    assert answer.headers.get("ETag") == f'"{first.headers.get("Pointsman-Revision")}"'
    assert FACTS <= value.keys() <= FACTS | {"hosts"}
    assert sorted(value["names"]) == ["*.shop.example.com", "shop.example.com"]
    assert value["fingerprint"] == shop.fingerprint and value["key_type"] == "ec-p256"
    end = shop.certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)
    assert datetime.datetime.fromisoformat(value["not_after"].replace("Z", "+00:00")) == end
    assert "pointsman test intermediate" in value["issuer"]
    assert first.json == value
    listed = server.api("GET", "/v1/certificates").json
    assert listed == {"certificates": [{"name": "shop", **value}]}
    # The same again is no change.
    again = server.put_certificate("shop", shop.chain, shop.key)
    assert again.status == 200 and again.headers.get("ETag") == answer.headers.get("ETag")
    # Conditions, as everywhere.
    assert server.put_certificate("shop", shop.chain, shop.key, check=False,
                                  headers={"If-None-Match": "*"}).status == 412
    assert server.api("DELETE", "/v1/certificates/shop",
                      headers={"If-Match": '"999"'}).status == 412
    server.delete_certificate("shop")
    get(server, "shop", 404)
    assert server.api("DELETE", "/v1/certificates/shop").status == 404


def test_what_is_wrong_is_named(pointsman, certs):
    server = pointsman()
    shop, other = certs.issue("shop.example.com"), certs.issue("other.example.com")
    assert "/key" in refused(server, "a", chain=shop.chain)
    assert "/chain" in refused(server, "a", key=shop.key)
    assert refused(server, "a", hosts=["shop.example.com"])
    assert "/key" in refused(server, "a", chain=shop.chain, key=other.key)
    assert "/chain" in refused(server, "a", chain="no PEM", key=shop.key)
    assert "/key" in refused(server, "a", chain=shop.chain, key="no PEM")
    gone = certs.issue("gone.example.com", days=-1)
    assert "/chain" in refused(server, "a", chain=gone.chain, key=gone.key)
    turned = "".join(reversed(shop.chain.split("-----END CERTIFICATE-----\n", 1)))
    turned = shop.chain[len(shop.leaf):] + shop.leaf
    assert refused(server, "a", chain=turned, key=shop.key).keys() & {"/chain", "/key"}
    small = certs.issue("small.example.com", key="rsa1024")
    assert refused(server, "a", chain=small.chain, key=small.key).keys() & {"/key", "/chain"}
    assert "/hosts/1" in refused(server, "a", chain=shop.chain, key=shop.key,
                                 hosts=["shop.example.com", "elsewhere.example.com"])
    assert "/chian" in refused(server, "a", chian=shop.chain, key=shop.key)
    assert "/chain_file" in refused(server, "a", chain_file="relative.pem", key_file="/k.pem")
    answer = refused(server, "a", chain_file="/nowhere/chain.pem", key_file="/nowhere/key.pem")
    assert "/nowhere/" in " ".join(answer.values())
    assert server.api("PUT", "/v1/certificates/a%20b", json={}).status == 422
    get(server, "a", 404)
    assert server.status()["certificates"]["count"] == 0


def test_patch_keeps_chain_and_key(pointsman, certs):
    server = pointsman()
    shop = certs.issue(["shop.example.com", "www.example.com"])
    server.put_certificate("shop", shop.chain, shop.key)
    answer = server.api("PATCH", "/v1/certificates/shop", json={"hosts": ["www.example.com"]})
    assert answer.status == 200, answer.body
    assert answer.json["names"] == ["www.example.com"] == answer.json["hosts"]
    assert answer.json["fingerprint"] == shop.fingerprint
    # It is still whole: the next patch builds on it, also after a start.
    server.restart()
    answer = server.api("PATCH", "/v1/certificates/shop", json={"hosts": None})
    assert answer.status == 200 and sorted(answer.json["names"]) == ["shop.example.com",
                                                                     "www.example.com"]
    # A renewed chain with the same key needs no key; one with another key does.
    renewed = certs.issue(["shop.example.com"], private_key=shop.private_key)
    answer = server.api("PATCH", "/v1/certificates/shop", json={"chain": renewed.chain})
    assert answer.status == 200 and answer.json["fingerprint"] == renewed.fingerprint
    other = certs.issue(["shop.example.com"])
    answer = server.api("PATCH", "/v1/certificates/shop", json={"chain": other.chain})
    assert answer.status == 422 and "/key" in problems(answer)
    # What GET shows is not enough for PUT.
    answer = server.api("PUT", "/v1/certificates/shop", json=get(server, "shop").json)
    assert answer.status == 422
    assert "chain" in answer.text and "key" in answer.text
    assert server.api("PATCH", "/v1/certificates/none", json={"hosts": []}).status == 404


def test_files_and_texts_replace_each_other(pointsman, certs):
    server = pointsman()
    shop = certs.issue("shop.example.com")
    files = {"chain_file": str(shop.chain_file), "key_file": str(shop.key_file)}
    answer = server.api("PUT", "/v1/certificates/shop", json=files)
    assert answer.status == 201, answer.body
    assert answer.json["fingerprint"] == shop.fingerprint
    assert {k: answer.json[k] for k in files} == files
    other = certs.issue("shop.example.com")
    answer = server.api("PATCH", "/v1/certificates/shop",
                        json={"chain": other.chain, "key": other.key})
    assert answer.status == 200 and "chain_file" not in answer.json
    assert answer.json["fingerprint"] == other.fingerprint
    answer = server.api("PATCH", "/v1/certificates/shop", json=files)
    assert answer.status == 200 and answer.json["fingerprint"] == shop.fingerprint
    assert server.api("PATCH", "/v1/certificates/shop",
                      json={"chain": other.chain}).status == 422


# --- secrets ---


def test_a_key_is_shown_nowhere(pointsman, certs):
    server = pointsman()
    shop, other = certs.issue("shop.example.com", key="rsa"), certs.issue("other.example.com")
    start = server.status()["revision"]
    seen = [server.put_certificate("shop", shop.chain, shop.key).body,
            server.api("PATCH", "/v1/certificates/shop", json={"hosts": ["shop.example.com"]}).body,
            server.put_certificate("shop", other.chain, shop.key, check=False).body,
            server.put_certificate("shop", "x", shop.key, check=False).body,
            server.put_certificate("shop", shop.chain, shop.key + "x", check=False, hosts=1).body,
            server.batch([{"op": "put", "kind": "certificate", "key": "b",
                           "value": {"chain": other.chain, "key": shop.key}}]).body]
    for path in ["/v1/certificates/shop", "/v1/certificates/shop?secrets=true", "/v1/certificates",
                 "/v1/export", "/v1/export?secrets=false", "/v1/status", "/v1/stats", "/metrics"]:
        seen.append(server.api("GET", path).body)
    client = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=PATIENCE)
    client.request("GET", f"/v1/events?since={start}")
    seen.append(client.getresponse().fp.read1(65536))
    client.close()
    seen.append(server.stderr().encode())
    assert any(b"shop" in text for text in seen)
    for line in key_lines(shop):
        assert not any(line.encode() in text for text in seen)
    exported = server.api("GET", "/v1/export?secrets=true").text
    assert json.loads(exported.splitlines()[0])["value"]["key"] == shop.key


@pytest.mark.parametrize("is_sealed", [False, True])
def test_keys_rest_sealed(pointsman, certs, tmp_path, is_sealed):
    keys = tmp_path / "keys"
    keys.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    keys.chmod(0o600)
    server = pointsman(config={"store": {"encryption_key_file": str(keys)}} if is_sealed else None)
    shop = certs.issue("shop.example.com")
    server.put_certificate("shop", shop.chain, shop.key)
    files = [p for p in server.folder.iterdir() if p.name.startswith("pointsman.db")]
    line = key_lines(shop)[0].encode()
    assert any(line in path.read_bytes() for path in files) != is_sealed
    answer = server.api("PATCH", "/v1/certificates/shop", json={"hosts": ["shop.example.com"]})
    assert answer.status == 200
    if not is_sealed:
        return
    # Another key in front: the old one still opens.
    keys.write_text(os.urandom(32).hex() + "\n" + keys.read_text())
    server.restart()
    assert server.api("PATCH", "/v1/certificates/shop", json={"hosts": None}).status == 200


def test_export_and_batch_carry_everything(pointsman, certs):
    first, second = pointsman(), pointsman()
    shop, edge = certs.issue("shop.example.com"), certs.issue("edge.example.com", key="ed25519")
    first.put_certificate("shop", shop.chain, shop.key, hosts=["shop.example.com"])
    first.api("PUT", "/v1/certificates/edge",
              json={"chain_file": str(edge.chain_file), "key_file": str(edge.key_file)})
    first.put_pool("web", ["https://127.0.0.1:9"], tls={"client_certificate": "shop"})
    first.put_route("shop.example.com", pool="web")
    export = first.api("GET", "/v1/export?secrets=true")
    kinds = [json.loads(line)["kind"] for line in export.text.splitlines()]
    assert kinds == ["certificate", "certificate", "pool", "route"]
    done = second.api("POST", "/v1/batch", data=export.body,
                      headers={"Content-Type": "application/x-ndjson"})
    assert done.status == 200, done.body
    assert get(second, "shop").json == get(first, "shop").json
    assert second.api("GET", "/v1/export?secrets=true").body == export.body
    # Without secrets the lines of certificates say what is missing.
    plain = [json.loads(line) for line in first.api("GET", "/v1/export").text.splitlines()]
    answer = second.batch([line for line in plain if line["key"] == "shop"])
    assert answer.status == 422 and "key" in answer.text
    assert second.batch([line for line in plain if line["key"] == "edge"]).status == 200


def test_many_are_exported_in_order(pointsman, certs):
    server = pointsman()
    shop = certs.issue("shop.example.com")
    names = [f"c{n:03}" for n in range(70)]
    done = server.batch([{"op": "put", "kind": "certificate", "key": name,
                          "value": {"chain": shop.chain, "key": shop.key}} for name in names])
    assert done.status == 200 and len(done.lines) == 70
    for query in ("", "?secrets=true"):
        lines = [json.loads(line)
                 for line in server.api("GET", f"/v1/export{query}").text.splitlines()]
        assert [line["key"] for line in lines] == names
        assert all(("key" in line["value"]) == bool(query) for line in lines)
    page = server.api("GET", "/v1/certificates?limit=30").json
    assert [c["name"] for c in page["certificates"]] == names[:30] and page["next"] == names[29]


# --- what refers to certificates and CAs ---


def test_a_used_certificate_stays(pointsman, certs):
    server = pointsman()
    shop = certs.issue("shop.example.com")
    answer = server.put_pool("web", ["https://127.0.0.1:9"], tls={"client_certificate": "shop"},
                             check=False)
    assert answer.status == 422 and "/tls/client_certificate" in problems(answer)
    server.put_certificate("shop", shop.chain, shop.key)
    server.put_pool("web", ["https://127.0.0.1:9"], tls={"client_certificate": "shop"})
    answer = server.delete_certificate("shop", check=False)
    assert answer.status == 409 and "web" in answer.text
    server.delete_pool("web")
    server.delete_certificate("shop")


def test_ca_bundles_are_checked(pointsman, certs):
    server = pointsman()
    body = {"targets": ["127.0.0.1:9"]}
    for ca in ("no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        answer = server.put_route("a.example", check=False, client_auth={"ca": ca}, **body)
        assert answer.status == 422 and "/client_auth/ca" in problems(answer)
        answer = server.put_pool("web", ["https://127.0.0.1:9"], check=False, tls={"ca": ca})
        assert answer.status == 422 and "/tls/ca" in problems(answer)
    server.put_route("a.example", client_auth={"ca": certs.ca_pem}, **body)
    server.put_pool("web", ["https://127.0.0.1:9"], tls={"ca": certs.ca_pem})
    answer = server.batch([{"op": "put", "kind": "route", "key": "b.example",
                            "value": {**body, "client_auth": {"ca": "x"}}}])
    assert answer.status == 422 and "/value/client_auth/ca" in answer.text


# --- what the node says ---


@pytest.mark.deadline(180)
def test_status_metrics_and_events(pointsman, certs):
    server = pointsman()
    start = server.status()["revision"]
    assert server.status()["certificates"]["soonest"] is None
    soon = certs.issue(["soon.example.com", "sooner.example.com"], days=5)
    late = certs.issue("late.example.com", days=300)
    server.put_certificate("soon", soon.chain, soon.key)
    server.put_certificate("late", late.chain, late.key)
    status = server.status()
    assert status["certificates"]["count"] == 2
    assert set(status["tls"]) == {"handshakes", "resumed", "failed"}
    event = events_until(server, start, lambda kind, data: kind == "certificate", timeout=2 * PATIENCE)
    assert event["name"] == "soon" and event["state"] == "expiring"
    assert event["days_left"] in (4, 5) and event["not_after"] == get(server, "soon").json["not_after"]
    status = server.status()["certificates"]
    assert (status["expiring_7d"], status["expiring_30d"]) == (1, 1)
    assert status["soonest"] == {"name": "soon", "not_after": event["not_after"]}
    assert status["names"] >= 3
    metrics = server.metrics()
    assert metrics["pointsman_certificates"] == 2
    assert metrics['pointsman_certificates_expiring{within="1d"}'] == 0
    assert metrics['pointsman_certificates_expiring{within="7d"}'] == 1
    assert metrics['pointsman_certificates_expiring{within="30d"}'] == 1
    end = soon.certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()
    assert metrics["pointsman_certificate_next_expiry_timestamp_seconds"] == int(end)
    assert "pointsman_certificates_loaded" in metrics


def test_a_changed_file_is_told(pointsman, certs):
    server = pointsman()
    shop, renewed = certs.issue("shop.example.com"), certs.issue("shop.example.com", days=90)
    chain, key = server.folder / "chain.pem", server.folder / "key.pem"

    def write(certificate_chain, certificate_key):
        for path, text in ((chain, certificate_chain), (key, certificate_key)):
            new = path.with_suffix(".new")
            new.write_text(text)
            new.rename(path)

    write(shop.chain, shop.key)
    answer = server.api("PUT", "/v1/certificates/shop",
                        json={"chain_file": str(chain), "key_file": str(key)})
    assert answer.status == 201, answer.body
    revision = server.status()["revision"]
    write(renewed.chain, renewed.key)
    event = events_until(server, revision, lambda kind, data: kind == "certificate" and
                         data["state"] == "file_changed", timeout=2 * PATIENCE)
    assert event["name"] == "shop"
    write("broken", renewed.key)
    event = events_until(server, revision, lambda kind, data: kind == "certificate" and
                         data["state"] == "file_broken", timeout=2 * PATIENCE)
    assert event["name"] == "shop"


# --- the command line ---


def test_cli_verbs(pointsman, certs):
    server = pointsman()
    shop = certs.issue(["shop.example.com", "www.example.com", "b.example.com"], days=40)
    put = ["cert", "put", "shop", "--chain", str(shop.chain_file), "--key", str(shop.key_file)]
    assert server.cli(*put).stdout == "certificate shop created\n"
    assert server.cli(*put).stdout == "certificate shop updated\n"
    rows = server.cli("cert", "list").stdout.splitlines()
    assert rows[0].split() == ["NAME", "HOSTS", "EXPIRES", "KEY", "ISSUER"]
    assert "shop.example.com" in rows[1] and "1 more" in rows[1] and "ec-p256" in rows[1]
    assert rows[1].startswith("shop ") and "pointsman test intermediate" in rows[1]
    assert "39 days" in rows[1] or "40 days" in rows[1]
    shown = yaml.safe_load(server.cli("cert", "get", "shop").stdout)
    assert shown["fingerprint"] == shop.fingerprint and "key" not in shown
    assert json.loads(server.cli("cert", "list", "--json").stdout)[0]["name"] == "shop"
    answer = server.cli(*put, "--host", "www.example.com", "--json")
    assert json.loads(answer.stdout)["names"] == ["www.example.com"]
    wrong = server.cli(*put, "--host", "elsewhere.example.com", check=False)
    assert wrong.returncode == 1 and "/hosts/0" in wrong.stderr
    assert server.cli("cert", "put", "shop", "--chain", "x", check=False).returncode == 2
    nameless = certs.issue([], client=True)
    files = ["--chain", str(nameless.chain_file), "--key", str(nameless.key_file)]
    assert "no DNS names" in server.cli("cert", "put", "client", *files).stderr
    assert server.cli("cert", "put", "client", *files, "--host", "a.example.com").stderr == ""
    assert server.cli("cert", "rm", "shop").stdout == "certificate shop deleted\n"
    assert server.cli("cert", "get", "shop", check=False).returncode == 1


def test_cli_watch_names_files(pointsman, certs):
    server = pointsman()
    shop = certs.issue("shop.example.com")
    (server.folder / "live").symlink_to(shop.chain_file.parent)
    server.cli("cert", "put", "shop", "--watch", "--chain", f"live/{shop.chain_file.name}",
               "--key", str(shop.key_file))
    value = get(server, "shop").json
    assert value["chain_file"] == f"{server.folder}/live/{shop.chain_file.name}"
    assert value["key_file"] == str(shop.key_file)


def test_cli_apply_and_export(pointsman, certs):
    first, second = pointsman(), pointsman()
    shop, edge = certs.issue("shop.example.com"), certs.issue("edge.example.com")
    (first.folder / "all.yaml").write_text(yaml.safe_dump({
        "certificates": [{"name": "shop", "chain": shop.chain, "key": shop.key},
                         {"name": "edge", "chain_file": str(edge.chain_file),
                          "key_file": str(edge.key_file)}],
        "pools": [{"name": "web", "targets": ["https://127.0.0.1:9"],
                   "tls": {"client_certificate": "shop", "ca": certs.ca_pem}}],
        "routes": [{"host": "shop.example.com", "pool": "web"}]}))
    dry = first.cli("apply", "--dry-run", "all.yaml").stdout.splitlines()
    assert dry == ["certificate shop created", "certificate edge created", "pool web created",
                   "route shop.example.com created"]
    assert first.status()["certificates"]["count"] == 0
    assert first.cli("apply", "all.yaml").stdout.splitlines() == dry
    dry = first.cli("apply", "--dry-run", "all.yaml").stdout
    assert "created" not in dry and "updated" not in dry
    exported = first.cli("export", "--secrets").stdout
    assert second.cli("apply", "-", input=exported).returncode == 0
    assert get(second, "shop").json == get(first, "shop").json
    as_yaml = first.cli("export", "--secrets", "--yaml").stdout
    assert second.cli("apply", "--dry-run", "-", input=as_yaml).stdout.count("unchanged") == 4
    plain = first.cli("export").stdout
    assert key_lines(shop)[0] not in plain
    assert second.cli("apply", "-", input=plain, check=False).returncode == 1
    # Faults are found without writing.
    (first.folder / "bad.yaml").write_text(yaml.safe_dump({
        "certificates": [{"name": "bad", "chain": shop.chain, "key": edge.key}],
        "pools": [{"name": "p", "targets": ["https://127.0.0.1:9"],
                   "tls": {"client_certificate": "none"}}],
        "routes": [{"host": "a.example", "pool": "p", "client_auth": {"ca": "x"}}]}))
    bad = first.cli("apply", "--dry-run", "bad.yaml", check=False)
    assert bad.returncode == 1
    assert "/key" in bad.stderr and "/client_auth/ca" in bad.stderr and '"none"' in bad.stderr
    assert key_lines(edge)[0] not in bad.stderr


def test_cli_flags_of_routes_and_pools(pointsman, certs):
    server = pointsman()
    shop = certs.issue("shop.example.com")
    server.put_certificate("shop", shop.chain, shop.key)
    server.cli("pool", "put", "web", "https://127.0.0.1:9", "--protocol", "h2", "--send-proxy", "v2",
               "--tls-ca", str(certs.ca_file), "--tls-server-name", "web.internal",
               "--tls-client-certificate", "shop", "--no-verify")
    pool = server.api("GET", "/v1/pools/web").json
    assert pool["protocol"] == "h2" and pool["send_proxy"] == "v2"
    assert pool["tls"] == {"verify": False, "server_name": "web.internal", "ca": certs.ca_pem,
                           "client_certificate": "shop"}
    server.cli("route", "put", "shop.example.com", "--pool", "web", "--https", "require", "--hsts",
               "365d", "--client-ca", str(certs.ca_file), "--client-auth", "optional")
    route = server.get_route("shop.example.com").json
    assert route["client_auth"] == {"ca": certs.ca_pem, "mode": "optional"}
    assert route["https"] == "require" and route["hsts"] == "365d"
    server.cli("route", "put", "raw.example.com", "127.0.0.1:9", "--passthrough")
    assert server.get_route("raw.example.com").json["passthrough"] is True


# --- the admin API over TLS ---


def own_address():
    """An address of this machine beyond loopback, or None. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


@pytest.fixture
def open_admin(pointsman):
    """A server whose admin API is on all addresses."""
    port = free_port()
    server = pointsman(config={"admin": {"address": f"0.0.0.0:{port}"}}, start=False)
    server.admin_port = port
    server.start()
    server.token = (server.folder / "admin.token").read_text().strip()
    return server


def https_get(address, port, path, context, token=None):
    client = http.client.HTTPSConnection(address, port, timeout=PATIENCE, context=context)
    try:
        client.request("GET", path,
                       headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def any_certificate():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_loopback_takes_both(pointsman):
    server = pointsman()
    status, body = https_get("127.0.0.1", server.admin_port, "/v1/status", any_certificate())
    assert status == 200 and json.loads(body)["node"] == "test"
    assert server.api("GET", "/v1/status").status == 200


def test_beyond_loopback_tls_is_needed(open_admin):
    server, address = open_admin, own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    port = server.admin_port
    client = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    client.request("GET", "/v1/status", headers={"Authorization": f"Bearer {server.token}"})
    answer = client.getresponse()
    assert answer.status == 400 and b"https" in answer.read().lower()
    client.close()
    assert https_get(address, port, "/v1/status", any_certificate(), server.token)[0] == 200
    assert https_get(address, port, "/v1/status", any_certificate())[0] == 401
    assert https_get(address, port, "/healthz", any_certificate())[0] == 200
    assert server.api("GET", "/v1/status").status == 200  # from loopback


def test_a_declared_certificate_serves_the_admin_name(pointsman, certs):
    port = free_port()
    server = pointsman(config={"admin": {"address": f"localhost:{port}"}}, start=False)
    server.admin_port = port
    try:
        server.start()
    except AssertionError:
        pytest.skip("admin.address takes no name here")
    own = certs.issue("localhost")
    server.put_certificate("admin", own.chain, own.key)
    context = ssl.create_default_context(cafile=str(certs.ca_file))
    assert https_get("localhost", port, "/v1/status", context)[0] == 200


def test_cli_over_tls(pointsman, certs):
    server = pointsman()
    own = certs.issue("localhost")

    def cli(*args, **env):
        env = {**os.environ, "POINTSMAN_TOKEN": (server.folder / "admin.token").read_text().strip(),
               **env}
        return subprocess.run([str(server.binary), *args], cwd=server.folder, env=env, timeout=PATIENCE,
                              capture_output=True, text=True, check=False)

    url = f"https://localhost:{server.admin_port}"
    untrusted = cli("status", "--admin", url)
    assert untrusted.returncode == 1 and "--insecure" in untrusted.stderr
    assert cli("status", "--admin", url, "--insecure").returncode == 0
    assert cli("status", "--insecure", POINTSMAN_ADMIN=url).returncode == 0
    server.put_certificate("admin", own.chain, own.key)
    trusted = cli("cert", "list", "--admin", url, "--ca", str(certs.ca_file))
    assert trusted.returncode == 0 and "admin" in trusted.stdout
    assert cli("status", "--admin", f"127.0.0.1:{server.admin_port}",
               "--insecure").returncode == 2


def test_http2_on_the_admin_address(pointsman):
    server = pointsman()
    done = subprocess.run(["curl", "-sk", "--http2", "-w", "\n%{http_version} %{http_code}",
                           f"https://127.0.0.1:{server.admin_port}/v1/status"],
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1] == "2 200"
    # Many calls on one connection, a long answer among them.
    pools = [{"op": "put", "kind": "pool", "key": f"p{n}", "value": {"targets": ["127.0.0.1:9"]}}
             for n in range(2000)]
    assert server.batch(pools).status == 200
    urls = [f"https://127.0.0.1:{server.admin_port}{path}"
            for path in ["/v1/export", "/v1/pools?limit=1000", "/metrics", "/v1/status"] * 3]
    done = subprocess.run(["curl", "-skZ", "--http2", "-o", os.devnull, "-w", "%{http_code}\n",
                           *[part for url in urls for part in ("-o", os.devnull, url)][2:]],
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.split() == ["200"] * len(urls), done
