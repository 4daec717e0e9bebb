// SPDX-License-Identifier: MIT
// A pool: its table of members, and what holds between them.
#include "model/codec_int.h"
#include <arpa/inet.h>

static const struct range targets_range = {0, 1000, 0};
static const struct range idle_range = {0, 65535, 64};
static const struct range idle_timeout_range = {1, VALUE_DURATION_MAX_MS, 60000};
static const struct range requests_range = {0, 10000000, 0};
static const struct range queue_range = {0, 100000, 0};
static const struct range queue_timeout_range = {1, VALUE_DURATION_MAX_MS, 1000};
static const struct range panic_range = {0, 100, 50};
static const struct range retry_budget_range = {0, 100, 20};
static const struct range slow_start_range = {0, 24 * 3600 * 1000, 0};
static const struct words balance_words = {
    (const struct word[]){{{"least_requests", 14}, BALANCE_LEAST_REQUESTS},
                          {{"round_robin", 11}, BALANCE_ROUND_ROBIN},
                          {{"random_two", 10}, BALANCE_RANDOM_TWO},
                          {{"hash", 4}, BALANCE_HASH}},
    4, BALANCE_LEAST_REQUESTS};

// The offset of a member in a struct that has no name of its own.
#define PART_OFFSET(part, member) \
    (offsetof(struct pool_decl, part.member) - offsetof(struct pool_decl, part))
#define PART(name, part, member, type, rule)                                                \
    {                                                                                       \
        {name, sizeof name - 1}, read_##type, write_##type, PART_OFFSET(part, member), rule \
    }

// --- keepalive, limits

static const struct member keepalive_members[] = {
    PART("idle", keepalive, idle, unsigned, &idle_range),
    PART("timeout", keepalive, timeout_ms, duration, &idle_timeout_range),
};
static const struct member_table keepalive_table = {keepalive_members,
                                                    MEMBER_COUNT(keepalive_members), "keepalive"};

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

static const struct member limits_members[] = {
    PART("requests_per_target", limits, requests_per_target, unsigned, &requests_range),
    PART("queue", limits, queue, unsigned, &queue_range),
    PART("queue_timeout", limits, queue_timeout_ms, duration, &queue_timeout_range),
};
static const struct member_table limits_table = {limits_members, MEMBER_COUNT(limits_members),
                                                 "limits"};

static void read_limits(struct reader *r, const struct at *at, json_t *value, void *to,
                        const struct member *member)
{
    (void)member;
    reader_read_object(r, at, value, to, &limits_table);
}

static json_t *write_limits(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    return write_part(from, &limits_table, skip);
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
const struct member_table pool_tls_members = {tls_members, MEMBER_COUNT(tls_members), "tls"};

static void read_tls(struct reader *r, const struct at *at, json_t *value, void *to,
                     const struct member *member)
{
    (void)member;
    reader_read_object(r, at, value, to, &pool_tls_members);
}

static json_t *write_tls(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    return write_part(from, &pool_tls_members, skip);
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

#define PLAIN(name, member, type, rule)                                                         \
    {                                                                                           \
        {name, sizeof name - 1}, read_##type, write_##type, offsetof(struct pool_decl, member), \
            rule                                                                                \
    }

// In the order of the reference, which is the order of the canonical text.
static const struct member pool_members[] = {
    PLAIN("targets", targets, targets, &targets_range),
    PLAIN("balance", balance, word, &balance_words),
    PLAIN("hash", hash, hash, NULL),
    PLAIN("sticky", sticky, sticky, NULL),
    PLAIN("protocol", protocol, word, &protocol_words),
    PLAIN("send_proxy", send_proxy, word, &send_proxy_words),
    PLAIN("keepalive", keepalive, keepalive, NULL),
    PLAIN("health", health, health, NULL),
    PLAIN("passive", passive, passive, NULL),
    PLAIN("eject", eject, eject, NULL),
    PLAIN("panic_percent", panic_percent, unsigned, &panic_range),
    PLAIN("tls", tls, tls, NULL),
    PLAIN("limits", limits, limits, NULL),
    PLAIN("timeouts", timeouts, timeouts, NULL),
    PLAIN("retry_budget", retry_budget, unsigned, &retry_budget_range),
    PLAIN("slow_start", slow_start_ms, duration, &slow_start_range),
};

const struct member_table pool_table_members = {pool_members, MEMBER_COUNT(pool_members), "a pool"};

void declaration_default_pool(struct pool_decl *pool)
{
    *pool = (struct pool_decl){
        .keepalive = {.idle = (unsigned)idle_range.none,
                      .timeout_ms = (unsigned)idle_timeout_range.none},
        .passive = pool_passive_default,
        .panic_percent = (unsigned)panic_range.none,
        .tls = {.verify = true},
        .limits = {.queue_timeout_ms = (unsigned)queue_timeout_range.none},
        .retry_budget = (unsigned)retry_budget_range.none,
    };
    pool_default_eject(pool);
}

bool balance_is_known(json_t *value)
{
    struct str text = str_from_c(json_string_value(value));
    unsigned balance;
    return word_find(&balance_words, text, &balance);
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
    pool_check_hash(r, value, pool);
    pool_check_health(r, pool);
    if (json_is_object(value) && json_object_get(value, "targets") == NULL) {
        const struct at at = {NULL, "targets", 0};
        reader_problem(r, &at, "is missing; a pool without targets has an empty list");
    }
}
