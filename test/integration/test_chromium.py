# SPDX-License-Identifier: MIT
"""A real browser: a page over HTTP/2, many requests at once, a WebSocket, a redirect from HTTP."""
import json
import shutil
import subprocess

import pytest

from support import origin as o
from support.net import PATIENCE, wait_until

PAGE = """<!doctype html><title>test</title><script>
async function run() {
  const result = {};
  const answers = await Promise.all([...Array(30).keys()].map(
    i => fetch('/api/' + i, {method: 'POST', body: 'x'.repeat(i * 1000)}).then(r => r.json())));
  result.targets = answers.map(a => a.target);
  result.protocols = [...new Set(performance.getEntriesByType('resource').map(e => e.nextHopProtocol))];
  result.page = performance.getEntriesByType('navigation')[0].nextHopProtocol;
  result.echo = await new Promise((done, fail) => {
    const socket = new WebSocket('wss://' + location.host + '/ws');
    socket.onopen = () => socket.send('hello');
    socket.onmessage = event => { done(event.data); socket.close(); };
    socket.onerror = () => fail('the socket failed');
  });
  return result;
}
run().catch(e => ({error: String(e)})).then(r => {
  fetch('/result', {method: 'POST', body: JSON.stringify(r)});
});
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_page_over_http2(pointsman, origin, certs, tmp_path):
    server, target = pointsman(https=True), origin()
    server.config["https_port"] = server.https_port
    server.restart()
    certificate = certs.issue("localhost")
    server.put_certificate("localhost", certificate.chain, certificate.key)
    server.put_route("localhost", targets=[target], https="require", hsts="1h")
    target.on("/", o.respond(body=PAGE.encode(), headers={"Content-Type": "text/html"}))
    target.on("/ws", o.websocket_echo())
    for i in range(30):
        target.on(f"/api/{i}", o.echo())
    target.on("/result", o.respond(status=204, body=b""))
    with open(tmp_path / "stderr", "wb") as stderr:
        browser = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--ignore-certificate-errors", f"--user-data-dir={tmp_path / 'profile'}",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--no-proxy-server", f"http://localhost:{server.port}/"],
            stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_until(lambda: any(r.target == "/result" and len(r.body) > 20 for r in target.requests),
                   "the page has told its result", 200)
    finally:
        browser.terminate()
        browser.wait(PATIENCE)
    result = json.loads(next(r.body for r in target.requests if r.target == "/result"))
    assert "error" not in result, result
    assert result["targets"] == [f"/api/{i}" for i in range(30)]
    assert result["page"] == "h2" and result["protocols"] == ["h2"]
    assert result["echo"] == "hello"
    versions = {record["url.path"]: record["http.version"] for record in server.log_records(32)}
    assert versions["/api/7"] == "2"
