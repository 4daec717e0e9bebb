# SPDX-License-Identifier: MIT
"""docs/openapi.yaml and the API agree: every documented call exists, every call is documented."""
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = {"host": "shop.example.com", "source": "app.example.com", "path": "api", "name": "web", "address": "10.0.0.5%3A8080"}
BODIES = {
    "/v1/routes/{host}": {"pool": "web"},
    "/v1/routes/{host}/{path}": {"respond": {"status": 204}},
    "/v1/pools/{name}": {"targets": []},
    "/v1/pools/{name}/targets/{address}": {"weight": 2},
    "/api/routes/{source}/": {"target": "10.0.0.5:8080"},
}
POSTS = {
    "/v1/pools/{name}/switch": {"targets": ["10.0.0.5:8080"], "wait_healthy": "0"},
    "/admin/set_backends/": ["10.0.0.6:8080"],
    "/api/routes/": {"source": "app.example.com", "target": "10.0.0.5:8080"},
}
PATCHES = {
    "/v1/routes/{host}": {"retries": 2},
    "/v1/routes/{host}/{path}": {"access_log": False},
    "/v1/pools/{name}": {"balance": "round_robin"},
    "/v1/certificates/{name}": {"hosts": ["web.example.com"]},
}
ORDER = ["put", "post", "get", "patch", "delete"]


def load():
    return yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())


def resolve(document, node):
    while "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def calls(document):
    """(method, path, operation), makers first and removers last; what is inside goes last in and
    first out."""
    found = [(method, path, operation)
             for path, item in document["paths"].items()
             for method, operation in item.items() if method in ORDER]
    pools_first = lambda path: "pools" not in path
    made = [c for c in found if c[0] != "delete"]
    made.sort(key=lambda c: (ORDER.index(c[0]), pools_first(c[1]), len(c[1])))
    removed = [c for c in found if c[0] == "delete"]
    removed.sort(key=lambda c: ("pools" in c[1], -len(c[1])))
    return made + removed


def url_of(path):
    return re.sub(r"\{(\w+)\}", lambda match: EXAMPLES[match[1]], path)


def check_references(document, node):
    if isinstance(node, dict):
        if "$ref" in node:
            resolve(document, node)
        for value in node.values():
            check_references(document, value)
    elif isinstance(node, list):
        for value in node:
            check_references(document, value)


def test_document_is_whole():
    document = load()
    assert document["openapi"].startswith("3.1")
    check_references(document, document)
    names = [operation["operationId"] for _, _, operation in calls(document)]
    assert len(names) == len(set(names))
    for method, path, operation in calls(document):
        declared = document["paths"][path].get("parameters", []) + operation.get("parameters", [])
        declared = {resolve(document, p)["name"] for p in declared
                    if resolve(document, p)["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path)), (method, path)


def test_every_documented_call_answers(pointsman, certs):
    server = pointsman({"ceryx": {"enabled": True}})
    document = load()
    web = certs.issue("web.example.com")
    bodies = {**BODIES, "/v1/certificates/{name}": {"chain": web.chain, "key": web.key}}
    for method, path, operation in calls(document):
        if path == "/v1/events":
            method = "head"
        body = {"put": bodies.get(path), "patch": PATCHES.get(path), "post": POSTS.get(path)}.get(method)
        data = b'{"op":"put","kind":"pool","key":"b","value":{"targets":[]}}' \
            if path == "/v1/batch" else None
        answer = server.api(method.upper(), url_of(path), json=body, data=data)
        expected = [int(code) for code in operation["responses"] if code != "default"]
        assert answer.status in expected, (method, path, answer.status, answer.body)
        content = resolve(document, operation["responses"][str(answer.status)]).get("content")
        kind = (answer.headers.get("Content-Type") or "").split(";")[0]
        assert not content or kind in content, (method, path, kind)


def test_every_call_is_documented():
    source = (ROOT / "src" / "admin" / "calls.c").read_text()
    rows = re.findall(r'ROW\(METHOD_(\w+), "([^"]+)"', source)
    assert len(rows) > 20
    documented = {(method.upper(), re.sub(r"\{\w+\}", "{}", path).rstrip("/"))
                  for method, path, _ in calls(load())}
    for method, pattern in rows:
        if method == "OTHER":
            continue  # names kept for later versions
        assert (method, pattern.replace("{*}", "{}")) in documented, (method, pattern)
