// SPDX-License-Identifier: MIT
// Certificates, ticket keys, client certificate policies and TLS of pools, from records to what workers see.
#include "base/clock.h"
#include "base/log.h"
#include "cert/check.h"
#include "cert/table.h"
#include "loop/loop.h"
#include "loop/rcu.h"
#include "publish/publish.h"
#include "publish/stored.h"
#include "publish/tickets.h"
#include "route/table.h"
#include "support/test_certs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "/tmp/test_publish_tls_XXXXXX";
static char default_file[128];
static struct test_cert *root;
static struct cert_table *certs;
static struct tls_ticket_ring tickets;
static struct loop loop;
static uint64_t revision;

static struct publisher *setup(void)
{
    struct publisher *publisher;
    struct problems problems;
    problems_init(&problems);
    const struct cert_table_config config = {
        .loaded_max = 100, .waits_max = 10, .default_file = default_file};
    assert_int_equal(cert_table_new(&certs, &config, &problems), 0);
    assert_int_equal(publisher_new(&publisher, certs, &tickets, NULL), 0);
    assert_int_equal(loop_init(&loop), 0);
    loop.is_rcu = true;
    loop_read_clock(&loop);
    revision = 0;
    return publisher;
}

static void teardown(struct publisher *publisher)
{
    publisher_stop(publisher);
    cert_table_stop(certs);
    loop_empty_mailbox(&loop);
    publisher_free(&publisher);
    assert_null(tickets.current);
    cert_table_free(&certs);
    loop_fini(&loop);
}

static void apply_secret(struct publisher *publisher, enum noun noun, const char *key,
                         const char *value, const char *secret)
{
    struct store_record record = {.noun = noun,
                                  .key = str_from_c(key),
                                  .value = str_from_c(value),
                                  .secret = str_from_c(secret),
                                  .revision = revision + 1};
    publisher_apply(publisher, ++revision, &record, 1);
    rcu_turn_done();
}

static void apply(struct publisher *publisher, enum noun noun, const char *key, const char *value)
{
    apply_secret(publisher, noun, key, value, "");
}

static void settle(struct publisher *publisher)
{
    for (unsigned i = 0; i < 4; i++) {
        rcu_turn_done();
        rcu_drain();
        publisher_apply(publisher, ++revision, NULL, 0);
    }
    uint64_t count;
    uint64_t oldest_ms;
    publisher_retired(publisher, &count, &oldest_ms);
    assert_int_equal(count, 0);
}

static const char *certificate(const char *names, int end_days, char *to, size_t size)
{
    char date[CLOCK_ISO_LEN];
    int64_t seconds = (int64_t)(clock_real_ns() / NS_PER_SEC) + end_days * 86400ll + 60;
    clock_iso(date, (uint64_t)seconds * NS_PER_SEC);
    snprintf(to, size, "{\"names\":[%s],\"not_after\":\"%.19sZ\",\"key_type\":\"ec-p256\"}", names,
             date);
    return to;
}

static const char *found(const char *name)
{
    static char text[64];
    struct cert_choice choice;
    cert_find(certs, str_from_c(name), &choice);
    str_copy(text, sizeof text, choice.is_default ? STR("-") : cert_slot_name(choice.slots[0]));
    return text;
}

static void test_certificates(void **state)
{
    (void)state;
    char text[256];
    struct publisher *publisher = setup();
    apply(publisher, NOUN_CERTIFICATE, "a", certificate("\"a.example\"", 90, text, sizeof text));
    assert_string_equal(found("a.example"), "a");
    assert_int_equal(publisher_certificate_count(publisher), 1);
    apply(publisher, NOUN_CERTIFICATE, "a", certificate("\"*.b.example\"", 80, text, sizeof text));
    assert_string_equal(found("a.example"), "-");
    assert_string_equal(found("x.b.example"), "a");
    assert_non_null(cert_slot_version(cert_table_slot(certs, STR("a"))));
    assert_null(cert_table_slot(certs, STR("none")));
    apply(publisher, NOUN_CERTIFICATE, "a", "{\"names\":3}"); // cannot be built: the old one stays
    assert_int_equal(publisher_skipped_count(publisher), 1);
    assert_string_equal(found("x.b.example"), "a");
    apply(publisher, NOUN_CERTIFICATE, "new", "[]"); // no empty slot is left
    assert_null(cert_table_slot(certs, STR("new")));
    apply(publisher, NOUN_CERTIFICATE, "a", "");
    apply(publisher, NOUN_CERTIFICATE, "a", "");
    assert_string_equal(found("x.b.example"), "-");
    assert_int_equal(publisher_certificate_count(publisher), 0);
    settle(publisher);
    assert_null(cert_table_slot(certs, STR("a")));
    teardown(publisher);
}

// What is read the short way is what is decoded.
static void test_stored_certificates(void **state)
{
    (void)state;
    struct test_cert *leaf = test_leaf(root, "a.example,*.a.example", TEST_KEY_EC, -1, 90);
    struct problems problems;
    struct buf text;
    struct declaration *declaration = NULL;
    problems_init(&problems);
    buf_init(&text, 0);
    buf_put(&text, STR("{\"chain\":"));
    buf_put_json(&text, str_from_c(leaf->chain_pem));
    buf_put(&text, STR(",\"key\":"));
    buf_put_json(&text, str_from_c(leaf->key_pem));
    buf_put(&text, STR(",\"hosts\":[\"x.a.example\"]}"));
    json_t *value = model_json_parse(buf_str(&text), &problems);
    assert_int_equal(declaration_decode(NOUN_CERTIFICATE, STR("a"), value, DECODE_STRICT,
                                        &declaration, NULL, &problems),
                     0);
    assert_int_equal(cert_check(declaration, &problems), 0);
    json_decref(value);
    value = declaration_encode(declaration);
    char *dump = json_dumps(value, JSON_COMPACT);
    struct stored_certificate stored;
    assert_true(stored_certificate_read(str_from_c(dump), &stored));
    const struct certificate_decl *a = &stored.decl;
    const struct certificate_decl *b = &declaration->certificate;
    assert_int_equal(a->name_count, b->name_count);
    assert_int_equal(a->host_count, b->host_count);
    assert_true(str_eq(a->names[0], b->names[0]) && str_eq(a->hosts[0], b->hosts[0]));
    assert_int_equal(a->facts.not_before, b->facts.not_before);
    assert_int_equal(a->facts.not_after, b->facts.not_after);
    const struct str *facts_a = &a->facts.subject;
    const struct str *facts_b = &b->facts.subject;
    for (unsigned i = 0; i < 6; i++) {
        assert_true(facts_a[i].len > 0 && str_eq(facts_a[i], facts_b[i]));
    }
    size_t len = strlen(dump);
    for (size_t i = 0; i < len; i++) { // cut or changed: never beyond its end
        char *cut = test_text(dump, i);
        assert_false(stored_certificate_read(str_make(cut, i), &stored));
        free(cut);
    }
    static const char *const others[] = {
        "{}",
        "[]",
        "{\"names\":[]}",
        "{\"names\":[\"A.example\"],\"not_after\":\"x\"}",
        "{\"not_after\":\"2026-04-31T00:00:00Z\"}",
        "{\"not_after\":\"2026-04-30T00:00:00Z\"} ",
        "{\"not_after\":\"2026-04-30T00:00:00Z\",\"more\":1}",
        "{\"names\":[\"a..b\"],\"not_after\":\"2026-04-30T00:00:00Z\"}",
        "{\"subject\":\"CN=\\\\\",\"not_after\":\"2026-04-30T00:00:00Z\"}"};
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(stored_certificate_read(str_from_c(others[i]), &stored));
    }
    free(dump);
    json_decref(value);
    declaration_free(&declaration);
    buf_fini(&text);
    test_cert_free(&leaf);
}

static void test_a_batch_of_certificates(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    char text[3][256];
    struct store_record records[3];
    for (unsigned i = 0; i < 3; i++) { // all of one name: the longest valid one is taken
        static const char *const names[] = {"x", "y", "z"};
        const char *value = certificate("\"a.example\"", 10 + (int)i, text[i], sizeof text[i]);
        records[i] = (struct store_record){.noun = NOUN_CERTIFICATE,
                                           .key = str_from_c(names[i]),
                                           .value = str_from_c(value),
                                           .revision = 1};
    }
    publisher_apply(publisher, ++revision, records, 3);
    assert_string_equal(found("a.example"), "z");
    records[2].value = STR_NULL;
    publisher_apply(publisher, ++revision, records, 3);
    assert_string_equal(found("a.example"), "y");
    settle(publisher);
    teardown(publisher);
}

static char *route_with_ca(const char *mode)
{
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("{\"targets\":[\"10.0.0.1:80\"],\"client_auth\":{\"ca\":"));
    buf_put_json(&text, str_from_c(root->leaf_pem));
    buf_printf(&text, ",\"mode\":\"%s\"}}%c", mode, 0);
    return text.p;
}

static const struct route_version *route(struct publisher *publisher, const char *host)
{
    return route_find(publisher_routes(publisher), str_from_c(host), STR("/"));
}

static void test_client_auth(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    const struct route_table *routes = publisher_routes(publisher);
    char *require = route_with_ca("require");
    char *optional = route_with_ca("optional");
    assert_false(route_table_has_client_auth(routes));
    apply(publisher, NOUN_ROUTE, "a.example", require);
    apply(publisher, NOUN_ROUTE, "b.example", require);
    apply(publisher, NOUN_ROUTE, "c.example", optional);
    assert_true(route_table_has_client_auth(routes));
    const struct route_client_auth *auth = route(publisher, "a.example")->client_auth;
    assert_ptr_equal(auth, route(publisher, "b.example")->client_auth);
    assert_true(auth->is_required && auth->store != NULL);
    assert_true(auth->id[0] != 0);
    assert_null(route(publisher, "a.example")->rules); // the version says it all
    const struct route_client_auth *other = route(publisher, "c.example")->client_auth;
    assert_true(!other->is_required && other->id[0] != auth->id[0]);
    apply(publisher, NOUN_ROUTE, "d.example",
          "{\"targets\":[\"10.0.0.1:80\"],\"client_auth\":{\"ca\":"
          "\"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\"}}");
    assert_null(route(publisher, "d.example")); // skipped, alone
    assert_int_equal(publisher_skipped_count(publisher), 1);
    apply(publisher, NOUN_ROUTE, "a.example", "{\"targets\":[\"10.0.0.1:80\"]}");
    assert_null(route(publisher, "a.example")->client_auth);
    apply(publisher, NOUN_ROUTE, "b.example", "");
    assert_true(route_table_has_client_auth(routes));
    apply(publisher, NOUN_ROUTE, "c.example", "");
    assert_false(route_table_has_client_auth(routes));
    apply(publisher, NOUN_ROUTE, "e.example",
          "{\"targets\":[\"10.0.0.1:80\"],\"passthrough\":true}");
    assert_true(route(publisher, "e.example")->is_passthrough);
    apply(publisher, NOUN_ROUTE, "f.example", "{\"targets\":[\"10.0.0.1:80\"],\"hsts\":\"1d\"}");
    assert_int_equal(route(publisher, "f.example")->rules->hsts_sec, 86400);
    settle(publisher);
    free(require);
    free(optional);
    teardown(publisher);
}

static const struct pool_version *pool_of(struct publisher *publisher, const char *host)
{
    struct pool_slot *named;
    return route_pool(route(publisher, host), 0, &named);
}

struct seen {
    unsigned count;
    char texts[4][64];
    const struct pool_member *members[4];
};

static void see_target(void *context, const struct publish_target *target)
{
    struct seen *seen = context;
    assert_true(seen->count < 4);
    str_copy(seen->texts[seen->count], 64, target->address);
    seen->members[seen->count++] = target->member;
}

static struct seen targets_of(struct publisher *publisher, const char *pool)
{
    struct seen seen = {0};
    assert_true(publisher_pool_targets(publisher, str_from_c(pool), see_target, &seen));
    return seen;
}

static void test_tls_of_pools(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    static const char *const hosts[] = {"a.example", "b.example", "c.example", "d.example"};
    static const char *const pools[] = {"a", "b", "c", "d"};
    static const char *const values[] = {
        "{\"targets\":[\"https://10.0.0.1\"]}",
        ("{\"targets\":[\"https://app.example:8443\",\"10.0.0.1:443\"],\"protocol\":\"http1\","
         "\"send_proxy\":\"v2\",\"tls\":{\"server_name\":\"in.example\"}}"),
        "{\"targets\":[\"https://10.0.0.1\"],\"tls\":{\"client_certificate\":\"me\"}}",
        "{\"targets\":[\"10.0.0.1:443\"]}",
    };
    for (unsigned i = 0; i < 4; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"pool\":\"%s\"}", pools[i]);
        apply(publisher, NOUN_ROUTE, hosts[i], text);
        apply(publisher, NOUN_POOL, pools[i], values[i]);
    }
    assert_int_equal(publisher_skipped_count(publisher), 0);
    const struct pool_version *a = pool_of(publisher, "a.example");
    const struct pool_version *b = pool_of(publisher, "b.example");
    struct tls_context *context = pool_settings(a)->tls;
    assert_non_null(context);
    assert_ptr_equal(pool_settings(b)->tls, context); // the name is no matter of the context
    assert_true(str_eq(pool_settings(b)->server_name, STR("in.example")));
    assert_int_equal(pool_settings(b)->protocol, POOL_HTTP1);
    assert_int_equal(pool_settings(b)->send_proxy, SEND_PROXY_V2);
    struct seen seen = targets_of(publisher, "b"); // the name has no address yet
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.members[0]->scheme, TARGET_HTTP);
    assert_ptr_not_equal(pool_settings(pool_of(publisher, "c.example"))->tls, context);
    assert_non_null(cert_table_slot(certs, STR("me"))); // empty, until it is declared
    assert_null(pool_settings(pool_of(publisher, "d.example"))->tls);
    seen = targets_of(publisher, "a");
    assert_string_equal(seen.texts[0], "https://10.0.0.1:443");
    assert_int_equal(seen.members[0]->scheme, TARGET_HTTPS);
    // The scheme is part of what a target is; the context outlives a change of the pool.
    const struct pool_member *member = seen.members[0];
    apply(publisher, NOUN_POOL, "a",
          "{\"targets\":[\"10.0.0.1:443\",\"https://10.0.0.1\"],\"keepalive\":{\"idle\":3}}");
    a = pool_of(publisher, "a.example");
    seen = targets_of(publisher, "a");
    assert_int_equal(seen.count, 2);
    assert_ptr_equal(seen.members[1], member);
    assert_ptr_not_equal(seen.members[0], member);
    assert_ptr_equal(pool_settings(a)->tls, context);
    for (unsigned i = 0; i < 4; i++) {
        apply(publisher, NOUN_POOL, pools[i], "");
        apply(publisher, NOUN_ROUTE, hosts[i], "");
    }
    settle(publisher);
    teardown(publisher);
}

// ---- ticket keys ----

static char *key_text(unsigned first)
{
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("{\"keys\":["));
    for (unsigned i = first; i > 0; i--) {
        buf_printf(&text, "%s{\"name\":\"%032x\",\"key\":\"%0128x\",\"created\":%u}",
                   i == first ? "" : ",", i, i, i);
    }
    buf_printf(&text, "]}%c", 0);
    return text.p;
}

static void test_ticket_keys(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    char *one = key_text(1);
    char *two = key_text(2);
    char *many = key_text(5);
    apply_secret(publisher, NOUN_TICKETS, "current", "{}", one);
    assert_non_null(tickets.current);
    assert_int_equal(tickets.current->count, 1);
    assert_int_equal(tickets.current->keys[0].hmac[31], 1);
    apply_secret(publisher, NOUN_TICKETS, "current", "{}", two);
    assert_int_equal(tickets.current->count, 2);
    assert_int_equal(tickets.current->keys[0].name[15], 2);
    static const char *const bad[] = {
        "", "{}", "{\"keys\":[]}", "pm1:00000000:AAAA",
        "{\"keys\":[{\"name\":\"zz\",\"key\":\"00\",\"created\":1}]}"};
    for (unsigned i = 0; i < 5; i++) {
        apply_secret(publisher, NOUN_TICKETS, "current", "{}", bad[i]);
    }
    apply_secret(publisher, NOUN_TICKETS, "current", "{}", many);
    assert_int_equal(publisher_skipped_count(publisher), 6);
    apply_secret(publisher, NOUN_TICKETS, "current", "", "");
    assert_int_equal(tickets.current->count, 2); // they stay
    settle(publisher);
    free(one);
    free(two);
    free(many);
    teardown(publisher);
}

struct answer {
    int err;
    bool is_done;
};

static void on_done(struct store_request *request)
{
    struct answer *answer = request->context;
    answer->err = request->err;
    answer->is_done = true;
    store_request_free(&request);
}

static bool on_change(void *context, uint64_t at, const struct store_record *records,
                      unsigned count)
{
    publisher_apply(context, at, records, count);
    return true;
}

static void on_state(void *context, bool is_writable, struct str detail)
{
    (void)context;
    (void)is_writable;
    (void)detail;
}

static int submit(struct store *store, struct store_request *request)
{
    struct answer answer = {0};
    request->loop = &loop;
    request->on_done = on_done;
    request->context = &answer;
    store_submit(store, &request);
    for (unsigned i = 0; !answer.is_done && i < 5000; i++) {
        loop_turn(&loop, 1);
    }
    assert_true(answer.is_done);
    return answer.err;
}

static void test_ticket_keys_rotate(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    struct store *store = NULL;
    struct store_request *request = NULL;
    struct store_request *late = NULL;
    struct problems problems;
    char url[160];
    int len = snprintf(url, sizeof url, "sqlite:%s/store.db", folder);
    problems_init(&problems);
    assert_int_equal(store_open(&store, str_make(url, (size_t)len), &problems), 0);
    struct store_feed feed = {on_change, on_state, publisher, NULL};
    assert_int_equal(store_start(store, &loop, &feed), 0);
    uint64_t now = 1000000;
    assert_int_equal(tickets_rotate(store, NULL, now, &request), 0);
    assert_int_equal(tickets_rotate(store, NULL, now, &late), 0); // two at the same moment
    assert_int_equal(submit(store, request), 0);
    assert_int_equal(submit(store, late), ERR_PRECONDITION);
    assert_int_equal(tickets.current->count, 1);
    struct tls_ticket_key first = tickets.current->keys[0];
    assert_int_equal(tickets_rotate(store, NULL, now + TICKETS_ROTATE_SEC - 1, &request), 0);
    assert_null(request);
    for (unsigned i = 1; i <= 6; i++) {
        now += TICKETS_ROTATE_SEC;
        assert_int_equal(tickets_rotate(store, NULL, now, &request), 0);
        assert_non_null(request);
        assert_int_equal(submit(store, request), 0);
        assert_int_equal(tickets.current->count, i < 3 ? i + 1 : 4);
        if (i < 4) {
            assert_memory_equal(&tickets.current->keys[i], &first, sizeof first);
        }
    }
    now += TICKETS_KEEP_SEC; // the node slept: nothing old opens any more
    assert_int_equal(tickets_rotate(store, NULL, now, &request), 0);
    assert_int_equal(submit(store, request), 0);
    assert_int_equal(tickets.current->count, 1);
    assert_int_equal(tickets_rotate(store, NULL, now - 10 * TICKETS_KEEP_SEC, &request), 0);
    assert_non_null(request); // made by a clock that was wrong
    store_request_free(&request);
    store_stop(store);
    loop_turn(&loop, 0);
    publisher_stop(publisher);
    publisher_free(&publisher);
    // After a start they are the same.
    struct tls_ticket_ring again = {0};
    assert_int_equal(publisher_new(&publisher, certs, &again, NULL), 0);
    assert_int_equal(publisher_load(publisher, store), 0);
    assert_non_null(again.current);
    publisher_free(&publisher);
    assert_null(again.current);
    store_close(&store);
    cert_table_free(&certs);
    loop_fini(&loop);
    static const char *const files[] = {"store.db", "store.db-wal", "store.db-shm",
                                        "store.db.lock"};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(url, sizeof url, "%s/%s", folder, files[i]);
        (void)unlink(url);
    }
}

// ---- events ----

static struct {
    unsigned expiring, expired, changed, broken;
    uint64_t days_left;
} events;

static void on_event(struct publish_certificate_listener *listener,
                     const struct publish_certificate_event *event)
{
    (void)listener;
    struct str state = str_from_c(event->state);
    events.expiring += str_eq(state, STR("expiring"));
    events.expired += str_eq(state, STR("expired"));
    events.changed += str_eq(state, STR("file_changed"));
    events.broken += str_eq(state, STR("file_broken"));
    events.days_left = event->days_left;
}

static void wait_for(const unsigned *number, unsigned wanted)
{
    for (unsigned i = 0; *number < wanted && i < 1000; i++) {
        loop_turn(&loop, 10);
    }
    assert_int_equal(*number, wanted);
}

static void test_expiry(void **state)
{
    (void)state;
    char text[256];
    char name[64];
    struct publisher *publisher = setup();
    struct publish_certificate_listener listener = {.on_event = on_event};
    memset(&events, 0, sizeof events);
    publisher_listen_certificates(publisher, &listener);
    assert_int_equal(publisher_start(publisher, &loop), 0);
    assert_int_equal(publisher_next_expiry(publisher, name, sizeof name), 0);
    apply(publisher, NOUN_CERTIFICATE, "far", certificate("\"f.example\"", 90, text, sizeof text));
    apply(publisher, NOUN_CERTIFICATE, "month",
          certificate("\"m.example\"", 20, text, sizeof text));
    wait_for(&events.expiring, 1);
    assert_int_equal(events.days_left, 20);
    apply(publisher, NOUN_CERTIFICATE, "day", certificate("\"d.example\"", 0, text, sizeof text));
    wait_for(&events.expiring, 2); // and the other one not again
    apply(publisher, NOUN_CERTIFICATE, "gone", certificate("\"g.example\"", -3, text, sizeof text));
    wait_for(&events.expired, 1);
    assert_int_equal(events.expiring, 2);
    assert_int_equal(publisher_expiring(publisher, 86400), 2);
    assert_int_equal(publisher_expiring(publisher, 30 * 86400), 3);
    assert_int_not_equal(publisher_next_expiry(publisher, name, sizeof name), 0);
    assert_string_equal(name, "gone");
    apply(publisher, NOUN_CERTIFICATE, "gone", "");
    for (unsigned i = 0; i < 500 && strcmp(name, "day") != 0; i++) {
        loop_turn(&loop, 10);
        (void)publisher_next_expiry(publisher, name, sizeof name);
    }
    assert_string_equal(name, "day");
    settle(publisher);
    teardown(publisher);
}

static void write_file(const char *name, const char *text, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_files_are_published(void **state)
{
    (void)state;
    char chain[128];
    char key[128];
    char value[512];
    struct publisher *publisher = setup();
    struct publish_certificate_listener listener = {.on_event = on_event};
    struct test_cert *one = test_leaf(root, "f.example", TEST_KEY_EC, -1, 90);
    struct test_cert *two = test_leaf(root, "f.example,g.example", TEST_KEY_EC, -1, 90);
    memset(&events, 0, sizeof events);
    publisher_listen_certificates(publisher, &listener);
    assert_int_equal(publisher_start(publisher, &loop), 0);
    assert_int_equal(cert_table_start(certs), 0);
    write_file("chain.pem", one->chain_pem, chain);
    write_file("key.pem", one->key_pem, key);
    snprintf(value, sizeof value,
             "{\"chain_file\":\"%s\",\"key_file\":\"%s\",\"names\":[\"f.example\"],"
             "\"not_after\":\"2090-01-01T00:00:00Z\",\"key_type\":\"ec-p256\"}",
             chain, key);
    apply(publisher, NOUN_CERTIFICATE, "f", value);
    wait_for(&events.changed,
             1); // the facts are not those of the files: changed while we were away
    write_file("chain.pem", two->chain_pem, chain);
    wait_for(&events.broken, 1);
    assert_string_equal(found("g.example"), "-");
    write_file("key.pem", two->key_pem, key);
    wait_for(&events.changed, 2);
    assert_string_equal(found("g.example"), "f");
    assert_int_equal(cert_slot_version(cert_table_slot(certs, STR("f")))->facts.fingerprint.len,
                     64);
    apply(publisher, NOUN_CERTIFICATE, "f", "");
    settle(publisher);
    (void)unlink(chain);
    (void)unlink(key);
    test_cert_free(&one);
    test_cert_free(&two);
    teardown(publisher);
}

static int begin(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    root = test_ca("root");
    if (mkdtemp(folder) == NULL || rcu_start() != 0) {
        return 1;
    }
    snprintf(default_file, sizeof default_file, "%s/default.pem", folder);
    rcu_thread_begin();
    return 0;
}

static int end(void **state)
{
    (void)state;
    rcu_thread_end();
    test_cert_free(&root);
    (void)unlink(default_file);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_stored_certificates),
        cmocka_unit_test(test_a_batch_of_certificates),
        cmocka_unit_test(test_client_auth),
        cmocka_unit_test(test_tls_of_pools),
        cmocka_unit_test(test_ticket_keys),
        cmocka_unit_test(test_ticket_keys_rotate),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_files_are_published),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
