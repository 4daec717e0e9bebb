# SPDX-License-Identifier: MIT
"""The integration tests' harness: a real process, real sockets, real peers.

Fixtures (each stops what it started and fails the test when that did not end clean):

pointsman(config=None, args=(), env=None, workers=2, release=False, start=True,
          https=False) -> Pointsman
    Starts `pointsman serve` in a folder of its own (POINTSMAN_BINARY, else build/asan) and waits for
    /readyz. config is merged over the harness's (None takes a key away). release=True: the
    optimized build, for what a sanitizer would distort. At the end of the test: SIGTERM, exit
    status 0, no sanitizer finding and no failed invariant in stderr.
    .port .https_port (with https=True) .admin_port .pid .folder .process .config
    .api(method, path, json=, headers=, data=) .admin() (kept connection with .api)
    .put_route(host, path="/", targets=[...], **fields) .get_route .delete_route
    .put_certificate(name, chain, key, **fields) .delete_certificate
    .put_pool(name, targets, **fields) .delete_pool .put_target .delete_target(.., drain=) .batch(ops)
    .status() .stats() .metrics() .log_records(count) .memory() .cpu_seconds() .stderr() .cli(*args)
    .exchange(method, target, host=, headers=, body=) = .get   one request on a new connection
    .connect() -> support.http1.Connection    request, send, read_response, read_head, iter_body, ...
    .raw(data, timeout) -> bytes .url(path)
    .start() .stop() .restart() .kill9() .signal(n) .wait_exit() .is_running()

origin(handler=echo(), name=..., unix=False, host="127.0.0.1", port=None) -> Origin (support/origin.py)
    A scriptable server in this process; can be given as a target. Handlers: echo, respond, script
    (with CLOSE, RESET), one_by_one, hang, sequence, stream, switch_protocols, websocket_echo, or any
    function of (request, peer). At the end of the test nothing malformed may have come to it
    (origin.faults) and no handler may have raised.
    .address .port .handler .on(path, handler) .requests .last .wait_requests(n) .clear()
    .connection_count .open_count .stop() .start() .stop_accepting() .close_connections(reset=)

tls_origin(certificate, client_ca=None) -> support.tls.TlsOrigin: HTTP/1 over TLS, tells what it knows
nginx_origin(locations="") -> server with .address .port .folder (html/ is served)
node_origin() -> the same with Node; the test is skipped where it is not installed.
knot -> an authoritative DNS server for the zone "test": .address .set(records) .stop() .start()
dead_address: an address on which nobody listens.
redis(password=None, options=(), port=None, start=True) -> support.redis.RedisServer
    .client (python3-redis) .url() .pause() .resume() .kill9() .start() .stop() .address .port
sentinel(primary, quorum=1) -> support.redis.Sentinel; its name for the primary is "main"
fleet(redis, count=3, config=None, **more) -> support.redis.Fleet of started nodes; config is merged
    over theirs. [i], .wait_body .wait_following .wait_equal .fleet_status

Responses (support.http1.Response): .status .reason .headers (pairs; get, getall, in: without case)
.body .text .json .trailers .interim .complete .raw_head

certs -> support.certs.Authority: .issue(names, key="ec"|"rsa", days=30, ...) -> certificate with
    .chain .key (PEM texts) .chain_file .key_file .fingerprint; .ca_pem .ca_file; one for the session.

support.net: free_port(), wait_until(predicate, what, timeout), best_of(attempt, limit, what).
Times that are not what a test is about have room for a slow machine and for one that stands still for
seconds (support.net.PATIENCE); figures are measured with best_of().
A test may take 300 s; @pytest.mark.deadline(600) gives it more.
"""
import signal

import pytest

from support.certs import Authority
from support.net import free_port
from support.origin import Origin
from support.peers import start_knot, start_nginx, start_node
from support.process import Pointsman, merge
from support.redis import Fleet, RedisServer, Sentinel
from support.tls import TlsOrigin

DEADLINE = 300


def pytest_configure(config):
    config.addinivalue_line("markers", "deadline(seconds): the time that the test may take")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    marker = item.get_closest_marker("deadline")
    seconds = max(marker.args[0] if marker else 0, DEADLINE)

    def on_alarm(*_):
        pytest.fail(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def stop_all(things):
    """Stops everything, then raises the first fault."""
    faults = []
    for stop in things:
        try:
            stop()
        except AssertionError as fault:
            faults.append(fault)
    if faults:
        raise faults[0]


@pytest.fixture
def pointsman(tmp_path):
    started = []

    def make(config=None, args=(), env=None, workers=2, release=False, start=True, https=False):
        folder = tmp_path / f"pointsman{len(started)}"
        folder.mkdir()
        server = Pointsman(folder, config, args, env, workers, release, https)
        started.append(server)
        return server.start() if start else server

    yield make
    stop_all([server.stop for server in started])


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def origin(tmp_path):
    started = []

    def make(handler=None, name=None, unix=False, host="127.0.0.1", port=None):
        number = len(started)
        path = tmp_path / f"origin{number}.sock" if unix else None
        started.append(Origin(handler, name or f"origin{number}", path, host, port))
        return started[-1]

    yield make
    stop_all([server.stop for server in started] + [server.check for server in started])


@pytest.fixture
def tls_origin():
    started = []

    def make(certificate, client_ca=None):
        started.append(TlsOrigin(certificate, client_ca))
        return started[-1]

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def nginx_origin(tmp_path):
    started = []

    def make(locations=""):
        folder = tmp_path / f"nginx{len(started)}"
        folder.mkdir()
        server = start_nginx(folder, locations)
        if server is None:
            pytest.skip("nginx is not installed")
        started.append(server)
        return server

    yield make
    stop_all([server.stop for server in started])


@pytest.fixture
def node_origin(tmp_path):
    started = []

    def make():
        folder = tmp_path / f"node{len(started)}"
        folder.mkdir()
        server = start_node(folder)
        if server is None:
            pytest.skip("node is not installed")
        started.append(server)
        return server

    yield make
    stop_all([server.stop for server in started])


@pytest.fixture
def knot(tmp_path):
    folder = tmp_path / "knot"
    folder.mkdir()
    server = start_knot(folder)
    if server is None:
        pytest.skip("knot is not installed")
    yield server
    server.stop()


@pytest.fixture
def redis(tmp_path):
    started = []

    def make(password=None, options=(), port=None, start=True):
        server = RedisServer(tmp_path / f"redis{len(started)}", port, password=password,
                             options=options)
        started.append(server)
        return server.start() if start else server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def sentinel(tmp_path):
    started = []

    def make(primary, quorum=1):
        server = Sentinel(tmp_path / f"sentinel{len(started)}", primary, quorum)
        started.append(server)
        return server.start()

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def fleet(redis, pointsman):
    # After redis in the list of fixtures: the nodes are stopped before it is.
    def make(server, count=3, config=None, **more):
        url = server if isinstance(server, str) else server.url()
        return Fleet([pointsman(merge({"node": {"name": f"node{i}"}, "store": {"url": url}},
                                      config or {}), workers=1, **more) for i in range(count)])

    return make


@pytest.fixture
def dead_address():
    return f"127.0.0.1:{free_port()}"
