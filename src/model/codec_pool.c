// SPDX-License-Identifier: MIT
#include "model/codec_int.h"
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

static void read_keepalive(struct reader *r, const struct at *at, json_t *value, void *to,
                           const struct member *member)
{
    (void)member;
    reader_read_object(r, at, value, to, &keepalive_table);
}

static json_t *write_keepalive(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    json_t *object = write_object(from, &keepalive_table);
    if (object != NULL && json_object_size(object) == 0) {
        json_decref(object);
        *skip = true;
        return NULL;
    }
    return object;
}

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
    LATER(protocol, MEMBER_VITAL),
    LATER(send_proxy, MEMBER_VITAL),
    {{"keepalive", 9},
     read_keepalive,
     write_keepalive,
     offsetof(struct pool_decl, keepalive),
     NULL},
    LATER(health, 0),
    LATER(passive, 0),
    LATER(eject, 0),
    LATER(panic_percent, 0),
    LATER(tls, MEMBER_VITAL),
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
}

void pool_finish(struct reader *r, json_t *value, struct pool_decl *pool)
{
    (void)pool;
    if (json_is_object(value) && json_object_get(value, "targets") == NULL) {
        const struct at at = {NULL, "targets", 0};
        reader_problem(r, &at, "is missing; a pool without targets has an empty list");
    }
}
