// SPDX-License-Identifier: MIT
// What a TLS connection may ask for, and what is said of it: 421, client certificates, HSTS, gRPC's errors.
#include "sim/sim_check.h"

#define GRPC \
    "POST /s/m HTTP/1.1\r\nHost: shop.example.com\r\nContent-Type: application/grpc+proto\r\n\r\n"

static struct route_client_auth policy(uint64_t id, bool is_required)
{
    return (struct route_client_auth){.id = {id, id == 0 ? 0 : 1}, .is_required = is_required};
}

static struct sim *new_sim(void)
{
    struct sim *sim = sim_new(1);
    sim_rules(sim)->action = ROUTE_RESPOND;
    sim_rules(sim)->respond.status = 204;
    sim_route(sim)->action = ROUTE_RESPOND;
    return sim;
}

static void add_host(struct sim *sim, const char *name, uint64_t first, uint64_t second,
                     struct route_client_auth auth)
{
    sim->tls.hosts[sim->tls.host_count++] =
        (struct sim_host){.name = name, .ids = {first, second}, .auth = auth};
}

static unsigned ask(struct sim *sim, struct tls *tls, const char *host)
{
    char text[200];
    snprintf(text, sizeof text, "GET /a HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    sim->tls.client = tls;
    return sim_request(sim, text)->status;
}

// Every name with every host, without and with policies.
static void test_matrix(void **state)
{
    (void)state;
    static const char *const names[] = {"a",    "b",     "both",    "same",     "member",
                                        "club", "maybe", "nowhere", "elsewhere"};
    enum { COUNT = sizeof names / sizeof names[0] };
    struct sim *sim = new_sim();
    add_host(sim, "a", 1, 0, policy(0, false));
    add_host(sim, "b", 2, 0, policy(0, false));
    add_host(sim, "both", 1, 3, policy(0, false));
    add_host(sim, "same", 0, 3, policy(0, false));
    add_host(sim, "member", 1, 0, policy(7, true));
    add_host(sim, "club", 1, 0, policy(8, true));
    add_host(sim, "maybe", 1, 0, policy(9, false));
    unsigned refused = 0;
    for (unsigned i = 0; i <= COUNT; i++) {
        struct tls tls = sim_handshake(sim, i == COUNT ? "" : names[i]);
        const struct sim_host *made = sim_find_host(sim, str_from_c(tls.sni));
        for (unsigned k = 0; k < COUNT; k++) {
            const struct sim_host *host = sim_find_host(sim, str_from_c(names[k]));
            uint64_t had = made == NULL ? 0 : made->auth.id[0];
            uint64_t needs = host == NULL ? 0 : host->auth.id[0];
            bool is_default = host == NULL && made == NULL;
            bool shares = host != NULL && made != NULL &&
                          ((made->ids[0] && made->ids[0] == host->ids[0]) ||
                           (made->ids[1] && made->ids[1] == host->ids[1]));
            bool may = had == needs && (i == COUNT || i == k || is_default || shares);
            assert_int_equal(ask(sim, &tls, names[k]), may ? 204 : 421);
            assert_string_equal(sim->last.end, may ? "respond" : "misdirected");
            refused += !may;
        }
    }
    assert_int_equal(sim_counter(sim, COUNTER_misdirected_total), refused);
    sim_free(&sim);
}

static void test_policy_that_came_later(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    struct tls tls = sim_handshake(sim, "shop.example.com");
    struct tls nameless = sim_handshake(sim, "");
    assert_int_equal(ask(sim, &tls, "shop.example.com"), 204);
    assert_int_equal(ask(sim, &nameless, "shop.example.com"), 204);
    add_host(sim, "shop.example.com", 0, 0, policy(5, false));
    assert_int_equal(ask(sim, &tls, "shop.example.com"), 421);
    assert_int_equal(ask(sim, &nameless, "shop.example.com"), 421);
    tls = sim_handshake(sim, "shop.example.com");
    assert_int_equal(ask(sim, &tls, "SHOP.example.com:8443"), 204);
    sim->tls.host_count = 0; // and one that went
    assert_int_equal(ask(sim, &tls, "shop.example.com"), 421);
    sim_free(&sim);
}

// A host that needs a certificate is not to be had without TLS, whatever is said of the way before.
static void test_no_way_around_the_policy(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    struct cidr all = {.bits = 0};
    add_host(sim, "member", 1, 0, policy(7, true));
    add_host(sim, "maybe", 1, 0, policy(9, false));
    assert_int_equal(ask(sim, NULL, "member"), 421);
    assert_int_equal(ask(sim, NULL, "maybe"), 204);
    sim_rules(sim)->https_required = true;
    sim_rules(sim)->redirect_status = 308;
    assert_int_equal(ask(sim, NULL, "member"), 308);
    sim->config.trusted_proxies = &all;
    sim->config.trusted_proxy_count = 1;
    assert_int_equal(
        sim_request(sim, "GET / HTTP/1.1\r\nHost: member\r\nX-Forwarded-Proto: https\r\n\r\n")
            ->status,
        421);
    sim->config.trusted_proxies = NULL;
    sim->config.trusted_proxy_count = 0;
    sim_free(&sim);
}

#define FORGED                                                                               \
    "GET /a HTTP/1.1\r\nHost: member\r\nX-Client-Verify: success\r\nX-Client-Cert-Subject: " \
    "CN=root\r\nX-Client-Cert-SHA256: 00\r\nClient-Cert: :AAAA:\r\n\r\n"

static void test_client_certificate_fields(void **state)
{
    (void)state;
    char fingerprint[100] = "X-Client-Cert-SHA256: ";
    memset(fingerprint + 22, 'a', 64);
    struct sim *sim = sim_new(1);
    add_host(sim, "member", 1, 0, policy(9, false));
    struct tls tls = sim_handshake(sim, "member");
    for (int i = 0; i < 3; i++) {
        tls.has_certificate = i == 0;
        sim->tls.client = i == 2 ? NULL : &tls;
        struct sim_stream *client = sim_request_connected(sim, FORGED);
        struct sim_stream *origin = sim->origin;
        assert_true(
            sim_has_field(origin, i == 0 ? "X-Client-Verify: success" : "X-Client-Verify: none"));
        assert_int_equal(sim_has_field(origin, "X-Client-Cert-Subject: CN=alice"), i == 0);
        assert_int_equal(sim_has_field(origin, fingerprint), i == 0);
        assert_false(sim_has_field(origin, "X-Client-Cert-Subject: CN=root"));
        assert_false(sim_has_field(origin, "Client-Cert: :AAAA:"));
        assert_true(
            sim_has_field(origin, i == 2 ? "X-Forwarded-Proto: http" : "X-Forwarded-Proto: https"));
        sim_leave(client, ERR_CLOSED);
        if (i == 2) {
            assert_null(sim->last.tls_version);
        } else {
            assert_string_equal(sim->last.tls_version, "1.3");
        }
    }
    sim->tls.host_count = 0; // no policy: nothing is said, by nobody
    tls = sim_handshake(sim, "member");
    tls.has_certificate = true;
    sim->tls.client = &tls;
    struct sim_stream *client = sim_request_connected(sim, FORGED);
    assert_false(sim_has_field(sim->origin, "X-Client-Verify: success"));
    assert_false(sim_has_field(sim->origin, "X-Client-Verify: none"));
    sim_leave(client, ERR_CLOSED);
    sim_free(&sim);
}

static void test_hsts(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct tls tls = sim_handshake(sim, "shop.example.com");
    sim_rules(sim)->hsts_sec = 3600;
    for (int secure = 0; secure < 2; secure++) {
        sim->tls.client = secure ? &tls : NULL;
        struct sim_stream *client = sim_request_connected(sim, GET);
        sim_respond(sim->origin, "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\n"
                                 "Content-Length: 0\r\n\r\n");
        check_answer(client, 200);
        const char *ours = "Strict-Transport-Security: max-age=3600";
        assert_int_equal(sim_has_field(client, ours), secure);
        assert_int_equal(sim_has_field(client, "Strict-Transport-Security: max-age=1"), !secure);
        client = sim_request(sim, GET);
        sim_leave(sim->origin, ERR_CLOSED);
        check_answer(client, 502);
        assert_int_equal(sim_has_field(client, ours), secure);
    }
    sim_free(&sim);
}

static void test_https_redirect(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    struct tls tls = sim_handshake(sim, "shop.example.com");
    sim_rules(sim)->https_required = true;
    sim_rules(sim)->redirect_status = 308;
    sim_rules(sim)->hsts_sec = 60;
    sim->config.https_port = 8443;
    struct sim_stream *client = sim_request(sim, GET);
    check_answer(client, 308);
    assert_true(sim_has_field(client, "Location: https://shop.example.com:8443/a"));
    assert_false(sim_has_field(client, "Strict-Transport-Security: max-age=60"));
    assert_int_equal(ask(sim, &tls, "shop.example.com"), 204);
    sim_free(&sim);
}

static void test_grpc_errors(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct tls tls = sim_handshake(sim, "shop.example.com");
    sim->tls.client = &tls;
    struct sim_stream *client = sim_request(sim, GRPC);
    sim_advance(sim, 1001);
    check_answer(client, 504); // by HTTP/1.1 as ever
    tls.is_h2 = true;
    client = sim_request(sim, GRPC);
    sim_leave(sim->origin, ERR_CLOSED);
    check_answer(client, 200);
    assert_true(sim_has_field(client, "grpc-status: 14"));
    assert_true(
        sim_has_field(client, "grpc-message: The service behind this address cannot be reached."));
    assert_int_equal(client->out_body, BODY_NONE);
    assert_string_equal(sim->last.end, "connect_failed");
    client = sim_request(sim, GRPC);
    sim_advance(sim, 1001);
    assert_true(sim_has_field(client, "grpc-status: 4"));
    client = sim_request(sim, GET);
    sim_advance(sim, 1001);
    check_answer(client, 504);
    sim_free(&sim);
}

static void test_via(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct tls tls = sim_handshake(sim, "shop.example.com");
    sim->tls.client = &tls;
    tls.is_h2 = true;
    struct sim_stream *client = sim_request_connected(sim, GET);
    assert_true(sim_has_field(sim->origin, "Via: 2.0 pointsman"));
    sim_leave(client, ERR_CLOSED);
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_policy_that_came_later),
        cmocka_unit_test(test_no_way_around_the_policy),
        cmocka_unit_test(test_client_certificate_fields),
        cmocka_unit_test(test_hsts),
        cmocka_unit_test(test_https_redirect),
        cmocka_unit_test(test_grpc_errors),
        cmocka_unit_test(test_via),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
