// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "model/config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <unistd.h>

struct fixture {
    struct config config;
    struct problems problems;
};

static int setup(void **state)
{
    static struct fixture fixture;
    problems_init(&fixture.problems);
    *state = &fixture;
    return config_init(&fixture.config);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    config_fini(&f->config);
    problems_fini(&f->problems);
    return 0;
}

static int read_text(struct fixture *f, const char *text)
{
    return config_read_text(&f->config, "c.yaml", str_from_c(text), &f->problems);
}

static void assert_read(struct fixture *f, const char *text)
{
    if (read_text(f, text) != 0) {
        fail_msg("%s: %s: %s", text, f->problems.items[0].pointer, f->problems.items[0].detail);
    }
    assert_int_equal(f->problems.count, 0);
}

static void assert_problem(struct fixture *f, unsigned i, const char *pointer, const char *detail)
{
    if (i >= f->problems.count || strcmp(f->problems.items[i].pointer, pointer) != 0 ||
        strstr(f->problems.items[i].detail, detail) == NULL) {
        fail_msg("%s: %s, expected %s: %s",
                 i < f->problems.count ? f->problems.items[i].pointer : "none",
                 i < f->problems.count ? f->problems.items[i].detail : "", pointer, detail);
    }
}

static void assert_refused(struct fixture *f, const char *text, const char *pointer,
                           const char *detail)
{
    problems_fini(&f->problems);
    assert_true(read_text(f, text) < 0);
    assert_problem(f, 0, pointer, detail);
    assert_int_equal(f->problems.count, 1);
    problems_fini(&f->problems);
}

static void test_defaults(void **state)
{
    struct fixture *f = *state;
    const struct config *c = &f->config;
    assert_string_equal(c->node.name, "");
    assert_string_equal(c->node.zone, "");
    assert_int_equal(c->listen.http_count, 1);
    assert_string_equal(c->listen.http[0], ":8080");
    assert_int_equal(c->listen.https_count, 1);
    assert_string_equal(c->listen.https[0], ":8443");
    assert_false(c->listen.is_declared);
    assert_false(c->listen.proxy_protocol);
    assert_false(c->listen.half_close);
    assert_string_equal(c->store.encryption_key_file, "");
    assert_int_equal(c->tls.profile, TLS_PROFILE_INTERMEDIATE);
    assert_int_equal(c->tls.unknown_sni, UNKNOWN_SNI_DEFAULT);
    assert_string_equal(c->tls.default_certificate, "");
    assert_int_equal(c->limits.certificates_loaded, 20000);
    assert_int_equal(c->limits.certificate_waits, 1000);
    assert_int_equal(c->limits.handshakes, 16);
    assert_int_equal(c->limits.h2_streams, 100);
    assert_int_equal(c->https_port, 443);
    assert_int_equal(c->trusted_proxy_count, 0);
    assert_string_equal(c->admin.address, "127.0.0.1:8081");
    assert_string_equal(c->admin.token_file, "admin.token");
    assert_string_equal(c->admin.token, "");
    assert_false(c->admin.require_token);
    assert_string_equal(c->store.url, "sqlite:pointsman.db");
    assert_string_equal(c->store.local, "pointsman.db");
    assert_string_equal(c->store.prefix, "pointsman");
    assert_string_equal(c->store.password_file, "");
    assert_true(c->store.verify);
    assert_false(c->store.accept_empty);
    assert_int_equal(c->store.wait_replicas, 0);
    assert_int_equal(c->store.stream_entries, 100000);
    assert_int_equal(c->store.stream_bytes, 64 << 20);
    assert_false(c->ceryx.enabled);
    assert_string_equal(c->ceryx.prefix, "ceryx");
    assert_int_equal(c->ceryx.miss_timeout_ms, 50);
    assert_string_equal(c->ceryx.api_address, "");
    assert_int_equal(c->workers, 0);
    assert_int_equal(c->paths, PATHS_STRICT);
    assert_int_equal(c->limits.header_bytes, 32768);
    assert_int_equal(c->limits.headers, 100);
    assert_int_equal(c->limits.body, 0);
    assert_int_equal(c->limits.connections, 100000);
    assert_int_equal(c->timeouts.header_ms, 10000);
    assert_int_equal(c->timeouts.idle_ms, 60000);
    assert_int_equal(c->timeouts.connect_ms, 1000);
    assert_int_equal(c->timeouts.response_ms, 60000);
    assert_int_equal(c->timeouts.tunnel_idle_ms, 3600000);
    assert_int_equal(c->timeouts.request_ms, 0);
    assert_int_equal(c->timeouts.drain_ms, 30000);
    assert_int_equal(c->limits.health_checks, 1000);
    assert_int_equal(c->dns.server_count, 0);
    assert_int_equal(c->dns.timeout_ms, 2000);
    assert_int_equal(c->dns.min_ttl_ms, 1000);
    assert_int_equal(c->dns.max_ttl_ms, 300000);
    assert_string_equal(c->access_log.file, "access.log");
    assert_int_equal(c->access_log.format, ACCESS_LOG_JSON);
    assert_int_equal(config_check(c, &f->problems), 0);
}

// Every key of the reference.
static void test_whole_file(void **state)
{
    struct fixture *f = *state;
    assert_read(f, "node: {name: edge-1, zone: a}\n"
                   "listen:\n"
                   "  http:  [\"0.0.0.0:8080\", \"[::]:8080\", 'unix:/run/p.sock']\n"
                   "  https: [\":8443\", \"[::1]:8444\"]\n"
                   "  proxy_protocol: true\n"
                   "  half_close: true\n"
                   "https_port: 8443\n"
                   "trusted_proxies: [10.0.0.0/8, \"::1\"]\n"
                   "admin: {address: \"127.0.0.1:9000\", token_file: t, require_token: true}\n"
                   "store: {url: \"sqlite:x.db\",\n"
                   "        prefix: p2, encryption_key_file: /etc/k, accept_empty: false, "
                   "wait_replicas: 2,\n"
                   "        password_file: pw, ca_file: ca, certificate_file: ce, key_file: ke,\n"
                   "        verify: false, stream_entries: 1000, stream_bytes: 2m}\n"
                   "tls: {profile: modern, unknown_sni: reject, default_certificate: d.pem}\n"
                   "workers: 3\n"
                   "dns: {servers: [10.0.0.2, \"127.0.0.1:5353\"], timeout: 1s, min_ttl: 2s,\n"
                   "      max_ttl: 1m}\n"
                   "paths: loose\n"
                   "limits: {header_bytes: 64k, headers: 200, body: 1g, connections: 5,\n"
                   "         certificates_loaded: 1, certificate_waits: 2, handshakes: 3, "
                   "h2_streams: 4,\n"
                   "         health_checks: 5}\n"
                   "timeouts: {header: 1s, idle: 2s, connect: 3s, response: 4s, tunnel_idle: 5s, "
                   "request: 6s, drain: 0}\n"
                   "access_log: {file: \"-\", format: combined}\n"
                   "ceryx: {enabled: true, prefix: cx, miss_timeout: 60ms, "
                   "api_address: \"127.0.0.1:5555\"}\n");
    const struct config *c = &f->config;
    assert_string_equal(c->store.prefix, "p2");
    assert_string_equal(c->store.password_file, "pw");
    assert_string_equal(c->store.ca_file, "ca");
    assert_string_equal(c->store.certificate_file, "ce");
    assert_string_equal(c->store.key_file, "ke");
    assert_false(c->store.verify);
    assert_int_equal(c->store.wait_replicas, 2);
    assert_int_equal(c->store.stream_entries, 1000);
    assert_int_equal(c->store.stream_bytes, 2 << 20);
    assert_true(c->ceryx.enabled);
    assert_string_equal(c->ceryx.prefix, "cx");
    assert_int_equal(c->ceryx.miss_timeout_ms, 60);
    assert_string_equal(c->ceryx.api_address, "127.0.0.1:5555");
    assert_string_equal(c->node.name, "edge-1");
    assert_int_equal(c->listen.http_count, 3);
    assert_string_equal(c->listen.http[1], "[::]:8080");
    assert_int_equal(c->listen.https_count, 2);
    assert_string_equal(c->listen.https[1], "[::1]:8444");
    assert_true(c->listen.proxy_protocol);
    assert_string_equal(c->store.encryption_key_file, "/etc/k");
    assert_int_equal(c->tls.profile, TLS_PROFILE_MODERN);
    assert_int_equal(c->tls.unknown_sni, UNKNOWN_SNI_REJECT);
    assert_string_equal(c->tls.default_certificate, "d.pem");
    assert_int_equal(c->limits.certificates_loaded, 1);
    assert_int_equal(c->limits.certificate_waits, 2);
    assert_int_equal(c->limits.handshakes, 3);
    assert_int_equal(c->limits.h2_streams, 4);
    assert_true(c->listen.half_close);
    assert_int_equal(c->trusted_proxy_count, 2);
    assert_int_equal(c->trusted_proxies[0].bits, 104);
    assert_int_equal(c->trusted_proxies[1].bits, 128);
    assert_true(c->admin.require_token);
    assert_string_equal(c->store.local, "x.db");
    assert_int_equal(c->workers, 3);
    assert_int_equal(c->paths, PATHS_LOOSE);
    assert_int_equal(c->limits.body, 1 << 30);
    assert_int_equal(c->timeouts.tunnel_idle_ms, 5000);
    assert_int_equal(c->timeouts.request_ms, 6000);
    assert_int_equal(c->timeouts.drain_ms, 0);
    assert_int_equal(c->limits.health_checks, 5);
    assert_int_equal(c->dns.server_count, 2);
    assert_string_equal(c->dns.servers[0], "10.0.0.2");
    assert_string_equal(c->dns.servers[1], "127.0.0.1:5353");
    assert_int_equal(c->dns.timeout_ms, 1000);
    assert_int_equal(c->dns.min_ttl_ms, 2000);
    assert_int_equal(c->dns.max_ttl_ms, 60000);
    assert_string_equal(c->access_log.file, "-");
    assert_int_equal(c->access_log.format, ACCESS_LOG_COMBINED);
}

static void test_small_files(void **state)
{
    struct fixture *f = *state;
    assert_read(f, "");
    assert_read(f, "---\n");
    assert_read(f, "tls:\nlimits:\n  body:\n");
    assert_read(f, "listen: {half_close: true}\n");
    assert_int_equal(f->config.listen.http_count, 1);
    assert_read(f, "listen: {http: ':81'}\n");
    assert_int_equal(f->config.listen.http_count, 1);
    assert_string_equal(f->config.listen.http[0], ":81");
    assert_read(f, "workers: auto\nstore: {local: l.db}\n");
    assert_read(f, "store: {url: 'sqlite:u.db'}\n");
    assert_string_equal(f->config.store.local, "l.db");
    assert_read(f, "store: {local: ''}\n");
    assert_string_equal(f->config.store.local, "u.db");
    assert_read(f, "access_log: {file: ''}\n");
    assert_string_equal(f->config.access_log.file, "");
}

static void test_places(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "node: {}\nlimts: {}\n", "c.yaml:2:1", "no setting \"limts\"");
    assert_refused(f, "limits:\n  header: 1k\n", "c.yaml:2:3", "did you mean \"limits.headers\"");
    assert_refused(f, "limits:\n  headers: many\n", "c.yaml:2:3", "must be a number, not \"many\"");
    assert_refused(f, "limits: {headers: 201}\n", "c.yaml:1:10", "1 to 200, not \"201\"");
    assert_refused(f, "limits: {header_bytes: 100}\n", "c.yaml:1:10", "1k to 1m");
    assert_refused(f, "limits: {header_bytes: 32kb}\n", "c.yaml:1:10", "such as \"64k\"");
    assert_refused(f, "timeouts:\n  idle: 60\n", "c.yaml:2:3", "must be a duration");
    assert_refused(f, "timeouts:\n  idle: 0\n", "c.yaml:2:3", "1ms to 24d");
    assert_refused(f, "timeouts: {drain: 25d}\n", "c.yaml:1:12", "0s to 24d");
    assert_refused(f, "tls: {profile: old}\n", "c.yaml:1:7", "one of intermediate, modern");
    assert_refused(f, "tls: {unknown_sni: refuse}\n", "c.yaml:1:7", "one of default, reject");
    assert_refused(f, "limits: {certificates_loaded: 0}\n", "c.yaml:1:10", "1 to 10000000");
    assert_refused(f, "limits: {certificate_waits: 0}\n", "c.yaml:1:10", "1 to 10000000");
    assert_refused(f, "limits: {handshakes: 0}\n", "c.yaml:1:10", "1 to 10000");
    assert_refused(f, "limits: {h2_streams: 10001}\n", "c.yaml:1:10", "1 to 10000");
    assert_refused(f, "limits: {health_checks: 0}\n", "c.yaml:1:10", "1 to 1000000");
    assert_refused(f, "timeouts: {request: x}\n", "c.yaml:1:12", "must be a duration");
    assert_refused(f, "dns: {timeout: 1ms}\n", "c.yaml:1:7", "10ms to 1m");
    assert_refused(f, "dns: {max_ttl: 2d}\n", "c.yaml:1:7", "100ms to 1d");
    assert_refused(f, "dns: {servers: [10.0.0.2, ns.example]}\n", "c.yaml:1:27", "an IP address");
    assert_refused(f, "listen: {https: nonsense}\n", "c.yaml:1:10", "an address");
    assert_refused(f, "paths: Strict\n", "c.yaml:1:1", "one of strict, loose");
    assert_refused(f, "access_log: {format: xml}\n", "c.yaml:1:14", "json, combined");
    assert_refused(f, "workers: 0\n", "c.yaml:1:1", "1 to 256");
    assert_refused(f, "workers: 1.5\n", "c.yaml:1:1", "number or auto");
    assert_refused(f, "https_port: 65536\n", "c.yaml:1:1", "1 to 65535");
    assert_refused(f, "listen:\n  http:\n    - :80\n    - nonsense\n", "c.yaml:4:7", "an address");
    assert_refused(f, "listen: {http: [{a: 1}]}\n", "c.yaml:1:17", "must be a list of addresses");
    assert_refused(f, "listen: {http: {a: 1}}\n", "c.yaml:1:10", "not a mapping");
    assert_refused(f, "listen: {half_close: yes}\n", "c.yaml:1:10", "true or false, not \"yes\"");
    assert_refused(f, "listen: [a]\n", "c.yaml:1:1", "must be a mapping");
    assert_refused(f, "node: {name: [a]}\n", "c.yaml:1:8", "not a list");
    assert_refused(f, "trusted_proxies: [10.0.0.0/33]\n", "c.yaml:1:19", "networks");
    assert_refused(f, "admin: {address: 8081}\n", "c.yaml:1:9", "an address");
    assert_refused(f, "admin: {token: x}\n", "c.yaml:1:9", "no setting");
    assert_refused(f, "admin: {token_file: ''}\n", "c.yaml:1:9", "1 to 4000 bytes");
    assert_refused(f, "[a]\n", "c.yaml:1:1", "a mapping of settings");
    assert_refused(f, "a: 1\n", "c.yaml:1:1", "no setting \"a\"");
    assert_refused(f, "paths: strict\n---\npaths: loose\n", "c.yaml", "one document");
    assert_refused(f, "paths: [\n", "c.yaml:2:1", "did not find");
    assert_refused(f, "paths: strict\npaths: loose\n", "c.yaml:2:1", "twice");
    assert_true(read_text(f, "paths: x\nworkers: y\nlimits: {body: z}\n") < 0);
    assert_int_equal(f->problems.count, 3);
    assert_problem(f, 2, "c.yaml:3:10", "limits.body");
}

// What is read of a store's URL here; the rest of a Redis URL is read by redis/.
static void test_store(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "store: {url: 'file:'}\n", "c.yaml:1:9", "\"file:FOLDER\"");
    assert_refused(f, "store: {url: x.db}\n", "c.yaml:1:9", "must be \"sqlite:FILE\"");
    assert_refused(f, "store: {url: 'sqlite:'}\n", "c.yaml:1:9", "\"redis://HOST\"");
    assert_refused(f, "store: {prefix: ''}\n", "c.yaml:1:9", "1 to 100 bytes");
    assert_refused(f, "store: {wait_replicas: 101}\n", "c.yaml:1:9", "0 to 100");
    assert_refused(f, "store: {stream_entries: 99}\n", "c.yaml:1:9", "100 to 100000000");
    assert_refused(f, "store: {stream_bytes: 1k}\n", "c.yaml:1:9", "1m to");
    assert_refused(f, "ceryx: {miss_timeout: 11s}\n", "c.yaml:1:9", "1ms to 10s");
    assert_read(f, "store: {url: 'sqlite:u.db'}\n");
    assert_false(config_store_is_redis(&f->config));
    static const char *const urls[] = {"redis://u:secret@h/0",     "rediss://h/0",
                                       "redis+sentinel://h,i/m/0", "rediss+sentinel://h/m",
                                       "redis+unix:///run/r.sock", "unix:///run/r.sock"};
    for (unsigned i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char text[100];
        snprintf(text, sizeof text, "store: {url: '%s'}\n", urls[i]);
        assert_read(f, text);
        assert_true(config_store_is_redis(&f->config));
        assert_string_equal(f->config.store.url, urls[i]);
        assert_string_equal(f->config.store.local, "pointsman.db");
        assert_null(config_store_folder(&f->config));
    }
}

static void test_folder(void **state)
{
    struct fixture *f = *state;
    assert_read(f, "store: {url: 'sqlite:u.db'}\n");
    assert_null(config_store_folder(&f->config));
    assert_read(f, "store: {url: 'file:routes.d/', accept_empty: true}\n");
    assert_string_equal(config_store_folder(&f->config), "routes.d/");
    assert_string_equal(f->config.store.local, "pointsman.db");
    assert_true(f->config.store.accept_empty);
    assert_read(f, "store: {local: r.db}\n");
    assert_string_equal(f->config.store.local, "r.db");
}

static int set(struct fixture *f, const char *path, const char *value, bool append)
{
    return config_set(&f->config, str_from_c(path), str_from_c(value), append, "--set",
                      &f->problems);
}

static void test_dns(void **state)
{
    struct fixture *f = *state;
    static const char *const good[] = {"10.0.0.2",      "10.0.0.2:1",  "::1",
                                       "2001:db8::2:1", "[::1]:65535", "[2001:db8::1]"};
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(set(f, "dns.servers", good[i], false), 0);
        assert_int_equal(f->config.dns.server_count, 1);
        assert_string_equal(f->config.dns.servers[0], good[i]);
    }
    assert_string_equal(f->config.listen.http[0], ":8080"); // another list than those
    assert_int_equal(set(f, "dns.servers", "::1, 10.0.0.2:53", true), 0);
    assert_int_equal(f->config.dns.server_count, 3);
    assert_int_equal(set(f, "dns.servers", "", false), 0);
    assert_int_equal(f->config.dns.server_count, 0);
    static const char *const bad[] = {
        "ns",      "10.0.0",     "10.0.0.2:0", "10.0.0.2:65536", "10.0.0.2:",  ":53",    "[::1",
        "[::1]53", "[10.0.0.2]", "[]:53",      "fe80::1%eth0",   "10.0.0.2:x", "[::1]:", "[::1]]"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        problems_fini(&f->problems);
        assert_int_equal(set(f, "dns.servers", bad[i], false), ERR_INVALID);
        assert_problem(f, 0, "--set", "an IP address");
    }
    problems_fini(&f->problems);
    assert_int_equal(set(f, "dns.min_ttl", "5m", false), 0);
    assert_int_equal(config_check(&f->config, &f->problems), 0);
    assert_int_equal(set(f, "dns.max_ttl", "299s", false), 0);
    assert_int_equal(config_check(&f->config, &f->problems), ERR_INVALID);
    assert_problem(f, 0, "dns.min_ttl", "dns.max_ttl");
}

static int read_environment(struct fixture *f, char *a, char *b)
{
    char path[] = "PATH=/bin";
    char *environment[] = {path, a, b, NULL};
    return config_read_environment(&f->config, environment, &f->problems);
}

// A writable text, as an environment has.
#define TEXT(literal) ((char[]){literal})

static void test_environment(void **state)
{
    struct fixture *f = *state;
    struct config *c = &f->config;
    assert_int_equal(read_environment(f, TEXT("POINTSMAN_HTTPS_PORT=1"),
                                      TEXT("POINTSMAN_LIMITS_HEADER_BYTES=64k")),
                     0);
    assert_int_equal(c->https_port, 1);
    assert_int_equal(c->limits.header_bytes, 65536);
    assert_int_equal(read_environment(f, TEXT("POINTSMAN_HTTP=:81, 127.0.0.1:0"),
                                      TEXT("POINTSMAN_ADMIN=unix:/run/a.sock")),
                     0);
    assert_int_equal(c->listen.http_count, 2);
    assert_string_equal(c->listen.http[1], "127.0.0.1:0");
    assert_string_equal(c->admin.address, "unix:/run/a.sock");
    assert_int_equal(
        read_environment(f, TEXT("POINTSMAN_STORE=sqlite:/v/p.db"), TEXT("POINTSMAN_WORKERS=2")),
        0);
    assert_string_equal(c->store.local, "/v/p.db");
    assert_int_equal(c->workers, 2);
    assert_int_equal(read_environment(f, TEXT("POINTSMAN_LOG=-"), TEXT("POINTSMAN_TOKEN=s3")), 0);
    assert_string_equal(c->access_log.file, "-");
    assert_string_equal(c->admin.token, "s3");
    assert_int_equal(read_environment(f, TEXT("POINTSMAN_LISTEN_HTTP=:82"),
                                      TEXT("POINTSMAN_TIMEOUTS_TUNNEL_IDLE=2h")),
                     0);
    assert_string_equal(c->listen.http[0], ":82");
    assert_int_equal(c->timeouts.tunnel_idle_ms, 7200000);
    assert_int_equal(read_environment(f, TEXT("POINTSMAN_DNS_SERVERS=10.0.0.2,::1"),
                                      TEXT("POINTSMAN_TIMEOUTS_REQUEST=5m")),
                     0);
    assert_int_equal(c->dns.server_count, 2);
    assert_int_equal(c->timeouts.request_ms, 300000);
    assert_int_equal(read_environment(f, TEXT("POINTSMAN_CONFIG=x"), TEXT("POINTSMAN_CERYX=false")),
                     0);
    // What an orchestrator sets for a service named pointsman.
    assert_int_equal(read_environment(f, TEXT("POINTSMAN_PORT=tcp://10.0.0.1:80"),
                                      TEXT("POINTSMAN_SERVICE_HOST=10.0.0.1")),
                     0);
    assert_int_equal(f->problems.count, 0);
    assert_int_equal(read_environment(f, TEXT("POINTSMAN_WORKER=1"), TEXT("POINTSMAN_HTTP=x")),
                     ERR_INVALID);
    assert_problem(f, 0, "POINTSMAN_WORKER", "did you mean POINTSMAN_WORKERS?");
    assert_problem(f, 1, "POINTSMAN_HTTP", "an address");
    problems_fini(&f->problems);
    assert_int_equal(
        read_environment(f, TEXT("POINTSMAN_QQQQQQQQ=1"), TEXT("POINTSMAN_CERYX=maybe")),
        ERR_INVALID);
    assert_problem(f, 0, "POINTSMAN_QQQQQQQQ", "no setting");
    assert_problem(f, 1, "POINTSMAN_CERYX", "true or false");
    problems_fini(&f->problems);
    assert_int_equal(
        read_environment(f, TEXT("POINTSMAN_CERYX=true"), TEXT("POINTSMAN_STORE_PREFIX=p")), 0);
    assert_true(c->ceryx.enabled);
    assert_string_equal(c->store.prefix, "p");
}

static void test_flags(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, "limits.body", "100m", false), 0);
    assert_int_equal(f->config.limits.body, 100 << 20);
    assert_int_equal(set(f, "listen.http", ":1", false), 0);
    assert_int_equal(set(f, "listen.http", ":2", true), 0);
    assert_int_equal(f->config.listen.http_count, 2);
    assert_int_equal(set(f, "listen.http", ":3,:4", false), 0);
    assert_int_equal(f->config.listen.http_count, 2);
    assert_string_equal(f->config.listen.http[0], ":3");
    assert_int_equal(set(f, "trusted_proxies", "10.0.0.0/8", false), 0);
    assert_int_equal(set(f, "trusted_proxies", "", false), 0);
    assert_int_equal(f->config.trusted_proxy_count, 0);
    assert_int_equal(set(f, "listen.https", "", false), 0);
    assert_int_equal(set(f, "limits.bdy", "1", false), ERR_INVALID);
    assert_problem(f, 0, "--set", "did you mean \"limits.body\"");
    problems_fini(&f->problems);
    for (int i = 0; i < CONFIG_LISTEN_MAX; i++) {
        char address[16];
        snprintf(address, sizeof address, ":%d", i + 1);
        assert_int_equal(set(f, "listen.http", address, i > 0), 0);
    }
    assert_int_equal(set(f, "listen.http", ":99", true), ERR_INVALID);
    assert_problem(f, 0, "--set", "more than 16");
}

static void test_order(void **state)
{
    struct fixture *f = *state;
    assert_read(f, "workers: 1\nhttps_port: 1\npaths: loose\nlisten: {http: [':1', ':11']}\n");
    assert_int_equal(
        read_environment(f, TEXT("POINTSMAN_WORKERS=2"), TEXT("POINTSMAN_HTTPS_PORT=2")), 0);
    assert_int_equal(set(f, "workers", "3", false), 0);
    assert_int_equal(set(f, "listen.http", ":3", false), 0);
    assert_int_equal(f->config.workers, 3);
    assert_int_equal(f->config.https_port, 2);
    assert_int_equal(f->config.paths, PATHS_LOOSE);
    assert_int_equal(f->config.listen.http_count, 1);
}

static void test_check(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, "listen.http", "", false), 0);
    assert_int_equal(config_check(&f->config, &f->problems), 0); // https is left
    assert_int_equal(set(f, "listen.https", "", false), 0);
    assert_int_equal(config_check(&f->config, &f->problems), ERR_INVALID);
    assert_problem(f, 0, "listen", "no address");
    problems_fini(&f->problems);
    assert_int_equal(set(f, "listen.http", ":1,:2,:1,127.0.0.1:0,127.0.0.1:0", false), 0);
    assert_int_equal(config_check(&f->config, &f->problems), ERR_INVALID);
    assert_problem(f, 0, "listen.http", ":1 is there twice");
    assert_int_equal(f->problems.count, 1);
    problems_fini(&f->problems);
    assert_int_equal(set(f, "listen.http", ":1,:2", false), 0);
    assert_int_equal(set(f, "listen.https", ":3,127.0.0.1:0,:2", false), 0);
    assert_int_equal(config_check(&f->config, &f->problems), ERR_INVALID);
    assert_problem(f, 0, "listen.https", ":2 is there twice");
    assert_int_equal(f->problems.count, 1);
    problems_fini(&f->problems);
    assert_int_equal(set(f, "listen.https", "127.0.0.1:8081", false), 0);
    assert_int_equal(config_check(&f->config, &f->problems), ERR_INVALID);
    assert_problem(f, 0, "admin.address", "traffic");
}

static void assert_listens(struct fixture *f, const char *http, const char *https)
{
    const struct config *c = &f->config;
    assert_int_equal(c->listen.http_count, http[0] != '\0');
    assert_int_equal(c->listen.https_count, https[0] != '\0');
    assert_string_equal(c->listen.http_count > 0 ? c->listen.http[0] : "", http);
    assert_string_equal(c->listen.https_count > 0 ? c->listen.https[0] : "", https);
    config_fini(&f->config);
    assert_int_equal(config_init(&f->config), 0);
}

// The first address that is given replaces the default ones, for HTTP and for HTTPS; what is declared in
// one place is replaced by another list by list.
static void test_default_listeners(void **state)
{
    struct fixture *f = *state;
    assert_listens(f, ":8080", ":8443");
    assert_read(f, "listen: {http: ':1'}\n");
    assert_listens(f, ":1", "");
    assert_read(f, "listen: {https: [':2']}\n");
    assert_listens(f, "", ":2");
    assert_read(f, "listen: {https: ':2', http: ':1'}\n");
    assert_listens(f, ":1", ":2");
    assert_read(f, "listen: {http: [], https: ':2'}\n");
    assert_listens(f, "", ":2");
    assert_read(f, "listen: {https: []}\n"); // only this one is not wanted
    assert_listens(f, ":8080", "");
    assert_read(f, "listen: {https: null, half_close: true}\n");
    assert_listens(f, ":8080", ":8443");
    assert_int_equal(set(f, "listen.http", ":1", false), 0);
    assert_listens(f, ":1", "");
    assert_int_equal(set(f, "listen.https", ":2", false), 0);
    assert_int_equal(set(f, "listen.http", ":1", false), 0);
    assert_listens(f, ":1", ":2");
    assert_int_equal(
        read_environment(f, TEXT("POINTSMAN_HTTPS=:2"), TEXT("POINTSMAN_LISTEN_HALF_CLOSE=true")),
        0);
    assert_listens(f, "", ":2");
    assert_read(f, "listen: {http: ':1', https: ':2'}\n");
    assert_int_equal(set(f, "listen.https", ":3", false), 0);
    assert_listens(f, ":1", ":3");
    assert_read(f, "listen: {http: ':1'}\n");
    assert_int_equal(
        read_environment(f, TEXT("POINTSMAN_LISTEN_HTTPS=:2"), TEXT("POINTSMAN_WORKERS=1")), 0);
    assert_listens(f, ":1", ":2");
}

static void test_files(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/pointsman-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "workers: 7\n", 11), 11);
    assert_int_equal(config_read_file(&f->config, path, &f->problems), 0);
    assert_int_equal(f->config.workers, 7);
    assert_int_equal(ftruncate(fd, (1 << 20) + 8192), 0);
    assert_true(config_read_file(&f->config, path, &f->problems) < 0);
    assert_problem(f, 0, path, "larger than 1 MiB");
    problems_fini(&f->problems);
    close(fd);
    unlink(path);
    assert_int_equal(config_read_file(&f->config, path, &f->problems), ERR_SYSTEM);
    assert_problem(f, 0, path, "cannot be read");
    problems_fini(&f->problems);
    assert_true(config_read_file(&f->config, "/tmp", &f->problems) < 0);
    assert_problem(f, 0, "/tmp", "cannot be read");
}

static void test_table(void **state)
{
    (void)state;
    struct config_setting setting;
    unsigned count = 0;
    bool seen = false;
    while (config_table_next(count, &setting)) {
        assert_true(setting.path.len > 0 && setting.type[0] != '\0' && setting.help[0] != '\0');
        assert_true(str_starts(str_from_c(setting.variable), STR("POINTSMAN_")));
        if (str_eq(setting.path, STR("limits.header_bytes"))) {
            assert_string_equal(setting.variable, "POINTSMAN_LIMITS_HEADER_BYTES");
            assert_string_equal(setting.range, "1k to 1m");
            assert_string_equal(setting.initial, "32k");
            assert_string_equal(setting.type, "size");
            seen = true;
        }
        count++;
    }
    assert_true(seen && count > 30);
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);
    config_print_help(file);
    fclose(file);
    assert_non_null(strstr(text, "limits.header_bytes  (size, default 32k; 1k to 1m)\n"));
    assert_non_null(strstr(text, "  ceryx.prefix  (text, default ceryx"));
    free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),    TEST(test_whole_file),
        TEST(test_small_files), TEST(test_places),
        TEST(test_store),       TEST(test_folder),
        TEST(test_environment), TEST(test_places),
        TEST(test_folder),      TEST(test_environment),
        TEST(test_flags),       TEST(test_order),
        TEST(test_check),       TEST(test_files),
        TEST(test_table),       TEST(test_default_listeners),
        TEST(test_dns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
