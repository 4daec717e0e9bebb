// SPDX-License-Identifier: MIT
#include "model/codec_int.h"
#include <arpa/inet.h>
#include <limits.h>

static const struct range targets_range = {0, 1000, 0};
static const struct range idle_range = {0, 65535, 64};
static const struct range idle_timeout_range = {1, VALUE_DURATION_MAX_MS, 60000};
static const struct words balance_words = {
    (const struct word[]){{{"least_requests", 14}, BALANCE_LEAST_REQUESTS},
                          {{"round_robin", 11}, BALANCE_ROUND_ROBIN},
                          {{"random_two", 10}, UINT_MAX},
                          {{"hash", 4}, UINT_MAX}},
    4, BALANCE_LEAST_REQUESTS};

static const struct member keepalive_members[] = {
    {{"idle", 4},
     read_unsigned,
     write_unsigned,
     offsetof(struct pool_decl, keepalive.idle) - offsetof(struct pool_decl, keepalive),
     &idle_range},
    {{"timeout", 7},
     read_duration,
     write_duration,
     offsetof(struct pool_decl, keepalive.timeout_ms) - offsetof(struct pool_decl, keepalive),
     &idle_timeout_range},
};
static const struct member_table keepalive_table = {keepalive_members,
                                                    MEMBER_COUNT(keepalive_members), "keepalive"};

// An object of defaults is not written.
static json_t *write_part(const void *from, const struct member_table *table, bool *skip)
{
    json_t *object = write_object(from, table);
    if (object != NULL && json_object_size(object) == 0) {
        json_decref(object);
        *skip = true;
        return NULL;
    }
    return object;
}

static void read_keepalive(struct reader *r, const struct at *at, json_t *value, void *to,
                           const struct member *member)
{
    (void)member;
    reader_read_object(r, at, value, to, &keepalive_table);
}

static json_t *write_keepalive(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    return write_part(from, &keepalive_table, skip);
}

// --- tls

static void read_server_name(struct reader *r, const struct at *at, json_t *value, void *to,
                             const struct member *member)
{
    (void)member;
    struct str text;
    char host[VALUE_HOST_MAX + 1];
    size_t len;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    const char *wrong = host_canonicalise(text, false, host, &len);
    if (wrong != NULL) {
        reader_problem(r, at, "%s", wrong);
        return;
    }
    struct in_addr v4;
    if (host[0] == '[' || inet_pton(AF_INET, host, &v4) == 1) {
        reader_problem(r, at, "must be a host name, not an IP address (RFC 6066)");
        return;
    }
    *(struct str *)to = reader_copy(r, str_make(host, len));
}

static const struct member tls_members[] = {
    {{"verify", 6}, read_bool, write_bool, offsetof(struct pool_tls_decl, verify), "true"},
    {{"server_name", 11},
     read_server_name,
     write_text,
     offsetof(struct pool_tls_decl, server_name),
     NULL},
    {{"ca", 2}, read_text, write_text, offsetof(struct pool_tls_decl, ca), &rule_ca},
    {{"client_certificate", 18},
     read_text,
     write_text,
     offsetof(struct pool_tls_decl, client_certificate),
     &rule_name},
};
static const struct member_table tls_table = {tls_members, MEMBER_COUNT(tls_members), "tls"};

static void read_tls(struct reader *r, const struct at *at, json_t *value, void *to,
                     const struct member *member)
{
    (void)member;
    reader_read_object(r, at, value, to, &tls_table);
}

static json_t *write_tls(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    return write_part(from, &tls_table, skip);
}

// --- the pool

static const struct words protocol_words = {(const struct word[]){{{"auto", 4}, POOL_AUTO},
                                                                  {{"http1", 5}, POOL_HTTP1},
                                                                  {{"h2", 2}, POOL_H2},
                                                                  {{"h2c", 3}, POOL_H2C}},
                                            4, POOL_AUTO};
static const struct words send_proxy_words = {(const struct word[]){{{"off", 3}, SEND_PROXY_OFF},
                                                                    {{"v1", 2}, SEND_PROXY_V1},
                                                                    {{"v2", 2}, SEND_PROXY_V2}},
                                              3, SEND_PROXY_OFF};

#define LATER(name, vital)                                                                        \
    {                                                                                             \
        {#name, sizeof #name - 1}, NULL, NULL, vital, "\"" #name "\" is not part of this version" \
    }

static const struct member pool_members[] = {
    {{"targets", 7},
     read_targets,
     write_targets,
     offsetof(struct pool_decl, targets),
     &targets_range},
    {{"balance", 7}, read_word, write_word, offsetof(struct pool_decl, balance), &balance_words},
    LATER(hash, 0),
    LATER(sticky, 0),
    {{"protocol", 8}, read_word, write_word, offsetof(struct pool_decl, protocol), &protocol_words},
    {{"send_proxy", 10},
     read_word,
     write_word,
     offsetof(struct pool_decl, send_proxy),
     &send_proxy_words},
    {{"keepalive", 9},
     read_keepalive,
     write_keepalive,
     offsetof(struct pool_decl, keepalive),
     NULL},
    LATER(health, 0),
    LATER(passive, 0),
    LATER(eject, 0),
    LATER(panic_percent, 0),
    {{"tls", 3}, read_tls, write_tls, offsetof(struct pool_decl, tls), NULL},
    LATER(limits, 0),
    {{"timeouts", 8}, read_timeouts, write_timeouts, offsetof(struct pool_decl, timeouts), NULL},
    LATER(retry_budget, 0),
    LATER(slow_start, 0),
};

const struct member_table pool_table_members = {pool_members, MEMBER_COUNT(pool_members), "a pool"};

void pool_defaults(struct pool_decl *pool)
{
    pool->keepalive.idle = (unsigned)idle_range.none;
    pool->keepalive.timeout_ms = (unsigned)idle_timeout_range.none;
    pool->tls.verify = true;
}

// What the pool says of all targets against what their addresses say.
static const char *find_contradiction(enum pool_protocol protocol, enum target_scheme scheme)
{
    switch (protocol) {
    case POOL_AUTO:
        return NULL;
    case POOL_HTTP1:
        return scheme == TARGET_H2C ? "a target with h2c:// speaks HTTP/2" : NULL;
    case POOL_H2:
        return scheme != TARGET_HTTPS ? "h2 is HTTP/2 over TLS and needs https:// targets; h2c is "
                                        "HTTP/2 without TLS"
                                      : NULL;
    case POOL_H2C:
        return scheme == TARGET_HTTPS ? "h2c is HTTP/2 without TLS and cannot have https:// "
                                        "targets; h2 is HTTP/2 over TLS"
                                      : NULL;
    }
    return NULL;
}

static void check_protocol(struct reader *r, const struct pool_decl *pool)
{
    for (unsigned i = 0; i < pool->target_count; i++) {
        const struct target_address *address = &pool->targets[i].address;
        const char *wrong = find_contradiction(pool->protocol, address->scheme);
        if (wrong != NULL && address->text.len > 0) {
            const struct at at = {NULL, "protocol", 0};
            reader_problem(r, &at, "%s", wrong);
            return;
        }
    }
}

void pool_finish(struct reader *r, json_t *value, struct pool_decl *pool)
{
    check_protocol(r, pool);
    if (json_is_object(value) && json_object_get(value, "targets") == NULL) {
        const struct at at = {NULL, "targets", 0};
        reader_problem(r, &at, "is missing; a pool without targets has an empty list");
    }
}
