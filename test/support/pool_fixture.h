// SPDX-License-Identifier: MIT
// A pool with targets and a view of them, without a publisher.
#pragma once
#include "base/hash.h"
#include "upstream/pool_counts.h"
#include "upstream/pool_member.h"
#include "upstream/pool_view.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { FIXTURE_MAX = 1000 };

struct pool_fixture {
    struct pool_slot slot;
    struct pool_own own;
    struct pool_version *pool;
    struct pool_view *views[64]; // all until now
    unsigned view_count;
    struct pool_candidate candidates[FIXTURE_MAX];
    unsigned count;
    struct pool_view_facts facts;
};

static inline uint64_t fixture_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline struct pool_fixture *fixture_new(enum balance balance)
{
    struct pool_fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->pool = calloc(1, sizeof *f->pool);
    assert_non_null(f->pool);
    f->pool->own = &f->own;
    f->own.settings.balance = (uint8_t)balance;
    f->own.settings.panic_percent = 50;
    return f;
}

static inline void fixture_free(struct pool_fixture **place)
{
    struct pool_fixture *f = *place;
    *place = NULL;
    for (unsigned i = 0; i < f->view_count; i++) {
        pool_view_free(f->views[i]);
    }
    for (unsigned i = 0; i < f->count; i++) {
        pool_member_free(f->candidates[i].member);
    }
    pool_counts_free(&f->slot.counts);
    free(f->pool);
    free(f);
}

static inline struct pool_candidate *fixture_add_member(struct pool_fixture *f,
                                                        struct pool_member *member, unsigned weight)
{
    assert_non_null(member);
    assert_true(f->count < FIXTURE_MAX);
    f->candidates[f->count] = (struct pool_candidate){
        .member = member, .weight = weight, .warm = 1000, .health = HEALTH_UP};
    return &f->candidates[f->count++];
}

// 10.x.y.z:80, another one each time.
static inline struct pool_candidate *fixture_add(struct pool_fixture *f, unsigned weight)
{
    struct target_address address = {.port = 80, .sockaddr_len = sizeof(struct sockaddr_in)};
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(80)};
    in4.sin_addr.s_addr = htonl(0x0a000001 + f->count);
    memcpy(&address.sockaddr, &in4, sizeof in4);
    return fixture_add_member(f, pool_member_new(&f->slot, &address, NULL), weight);
}

// An address of a name.
static inline struct pool_candidate *fixture_add_name(struct pool_fixture *f, const char *text,
                                                      const char *resolved)
{
    struct target_address address = {.text = str_from_c(text), .is_name = true};
    size_t colon = str_find_char(address.text, ':');
    address.host = str_sub(address.text, 0, colon);
    address.port = (uint16_t)strtoul(text + colon + 1, NULL, 10);
    struct sockaddr_storage storage = {0};
    struct sockaddr_in in4 = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, resolved, &in4.sin_addr) == 1) {
        memcpy(&storage, &in4, sizeof in4);
    } else {
        assert_int_equal(inet_pton(AF_INET6, resolved, &in6.sin6_addr), 1);
        memcpy(&storage, &in6, sizeof in6);
    }
    return fixture_add_member(
        f, pool_member_new(&f->slot, &address, (const struct sockaddr *)(const void *)&storage), 1);
}

// The view of the candidates as they are now.
static inline void fixture_look(struct pool_fixture *f)
{
    assert_true(f->view_count < 64);
    f->own.view = pool_view_new(&f->own.settings, f->candidates, f->count, &f->facts);
    assert_non_null(f->own.view);
    f->views[f->view_count++] = f->own.view;
}

static inline unsigned fixture_index(const struct pool_fixture *f, const struct pool_member *member)
{
    for (unsigned i = 0; i < f->count; i++) {
        if (f->candidates[i].member == member) {
            return i;
        }
    }
    fail();
    return 0;
}

enum { FIXTURE_NONE = -1, FIXTURE_FULL = -2 };

// The index of the candidate that was picked, and counted; or FIXTURE_NONE, FIXTURE_FULL.
static inline int fixture_pick(struct pool_fixture *f, const struct pool_choice *choice)
{
    struct pool_member *member = NULL;
    switch (pool_pick(f->pool, &f->slot, choice, &member)) {
    case POOL_PICKED:
        return (int)fixture_index(f, member);
    case POOL_FULL:
        assert_null(member);
        return FIXTURE_FULL;
    case POOL_NONE:
        break;
    }
    assert_null(member);
    return FIXTURE_NONE;
}

static inline void fixture_put(struct pool_fixture *f, int index)
{
    pool_member_put(f->candidates[index].member);
}
