// SPDX-License-Identifier: MIT
#include "upstream/pool.h"
#include "base/invariant.h"
#include "loop/rcu.h"
#include "net/address.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static bool was_tried(const struct pool_member *member, struct pool_member *const *tried,
                      unsigned tried_count)
{
    for (unsigned i = 0; i < tried_count; i++) {
        if (tried[i] == member) {
            return true;
        }
    }
    return false;
}

static bool may_pick(const struct pool_entry *entry, struct pool_member *const *tried,
                     unsigned tried_count)
{
    return entry->state == TARGET_UP && entry->weight > 0 &&
           !was_tried(entry->member, tried, tried_count);
}

// The smallest (inflight + 1) / weight from `start` on; of equal ones the first.
static struct pool_member *find_least(const struct pool_version *pool, unsigned start,
                                      struct pool_member *const *tried, unsigned tried_count)
{
    struct pool_member *best = NULL;
    uint64_t best_load = 0;
    uint64_t best_weight = 1;
    unsigned at = start;
    for (unsigned i = 0; i < pool->entry_count; i++) {
        const struct pool_entry *entry = &pool->entries[at];
        at = at + 1 < pool->entry_count ? at + 1 : 0;
        if (!may_pick(entry, tried, tried_count)) {
            continue;
        }
        // Relaxed: a count, nothing else is read through it.
        uint64_t load =
            (uint64_t)atomic_load_explicit(&entry->member->inflight, memory_order_relaxed) + 1;
        // load / weight < best_load / best_weight; 33 + 16 bits do not overflow.
        if (best == NULL || load * best_weight < best_load * entry->weight) {
            best = entry->member;
            best_load = load;
            best_weight = entry->weight;
        }
    }
    return best;
}

// The entry whose shares hold `share`.
static const struct pool_entry *find_share(const struct pool_version *pool, uint32_t share)
{
    unsigned low = 0;
    unsigned high = pool->entry_count - 1u;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (pool->entries[middle].until <= share) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return &pool->entries[low];
}

// Smooth weighted round robin without a table: step k takes share (k * stride) mod total. The stride is
// coprime to the total, so each round visits every share once; it is near the golden section of it, so
// the shares of one entry come evenly spread.
static struct pool_member *find_next(const struct pool_version *pool, atomic_uint *cursor,
                                     struct pool_member *const *tried, unsigned tried_count)
{
    uint32_t total = pool->entries[pool->entry_count - 1].until;
    if (total == 0) {
        return NULL;
    }
    for (unsigned attempt = 0; attempt <= tried_count; attempt++) {
        // Relaxed: only that each worker gets another number.
        uint32_t step = atomic_fetch_add_explicit(cursor, 1, memory_order_relaxed);
        uint32_t share = (uint32_t)((uint64_t)(step % total) * pool->stride % total);
        const struct pool_entry *entry = find_share(pool, share);
        if (!was_tried(entry->member, tried, tried_count)) {
            return entry->member;
        }
    }
    return find_least(pool, 0, tried, tried_count); // a heavy one that was tried keeps coming
}

enum pool_result pool_pick(const struct pool_version *pool, struct pool_slot *slot,
                           const struct pool_choice *choice, struct pool_member **picked)
{
    struct pool_member *member = NULL;
    if (pool->entry_count > 0 && pool->balance == BALANCE_ROUND_ROBIN && slot != NULL) {
        member = find_next(pool, &slot->cursor, choice->tried, choice->tried_count);
    } else if (pool->entry_count > 0) {
        unsigned start = (unsigned)((choice->random >> 32) * pool->entry_count >> 32);
        member = find_least(pool, start, choice->tried, choice->tried_count);
    }
    *picked = member;
    if (member == NULL) {
        return POOL_NONE;
    }
    // Relaxed: the version that was read keeps the member until the next quiescent state, and
    // the control thread looks at the count only after that.
    atomic_fetch_add_explicit(&member->inflight, 1, memory_order_relaxed);
    return POOL_PICKED;
}

unsigned pool_member_requests(const struct pool_member *member)
{
    return atomic_load_explicit(&member->inflight, memory_order_relaxed);
}

void pool_member_put(struct pool_member *member)
{
    // Release: what was done with the member comes before its free (acquire in publish/reap.c).
    unsigned before = atomic_fetch_sub_explicit(&member->inflight, 1, memory_order_release);
    INVARIANT(before > 0);
}

static const struct member_named *named_of(const struct pool_member *member)
{
    return (const struct member_named *)(const void *)member;
}

static const struct member_in6 *in6_of(const struct pool_member *member)
{
    return (const struct member_in6 *)(const void *)member;
}

static void put_in4(const struct pool_member *member, struct sockaddr_storage *to, socklen_t *len)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = member->port};
    memcpy(&in4.sin_addr, member->in4, 4);
    memcpy(to, &in4, sizeof in4);
    *len = sizeof in4;
}

static void put_in6(const struct pool_member *member, struct sockaddr_storage *to, socklen_t *len)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = member->port};
    memcpy(&in6.sin6_addr, in6_of(member)->address, 16);
    memcpy(to, &in6, sizeof in6);
    *len = sizeof in6;
}

static bool put_unix(const struct pool_member *member, struct sockaddr_storage *to, socklen_t *len)
{
    struct str path =
        str_from(str_make(named_of(member)->text, named_of(member)->text_len), STR("unix:").len);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (path.len == 0 || path.len >= sizeof un.sun_path) {
        return false;
    }
    memcpy(un.sun_path, path.p, path.len);
    memcpy(to, &un, sizeof un);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    return true;
}

static bool put_answer(const struct pool_member *member, struct sockaddr_storage *to,
                       socklen_t *len)
{
    const struct pool_answer *answer = rcu_load(named_of(member)->name->answer);
    if (answer == NULL) {
        return false;
    }
    memcpy(to, &answer->address, answer->len);
    *len = answer->len;
    // The port stands at the same place in both.
    _Static_assert(offsetof(struct sockaddr_in, sin_port) ==
                       offsetof(struct sockaddr_in6, sin6_port),
                   "one place for the port");
    memcpy((char *)to + offsetof(struct sockaddr_in, sin_port), &member->port, 2);
    return true;
}

bool pool_member_address(const struct pool_member *member, struct sockaddr_storage *address,
                         socklen_t *len)
{
    memset(address, 0, sizeof *address);
    switch (member->family) {
    case AF_INET:
        put_in4(member, address, len);
        return true;
    case AF_INET6:
        put_in6(member, address, len);
        return true;
    case AF_UNIX:
        return put_unix(member, address, len);
    default:
        return put_answer(member, address, len);
    }
}

static size_t cut_len(int len, size_t size)
{
    return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}

size_t pool_member_text(const struct pool_member *member, char *to, size_t size)
{
    const uint8_t *in4 = member->in4;
    char text[INET6_ADDRSTRLEN];
    switch (member->family) {
    case AF_INET:
        return cut_len(snprintf(to, size, "%u.%u.%u.%u:%u", in4[0], in4[1], in4[2], in4[3],
                                ntohs(member->port)),
                       size);
    case AF_INET6:
        inet_ntop(AF_INET6, in6_of(member)->address, text, sizeof text);
        return cut_len(snprintf(to, size, "[%s]:%u", text, ntohs(member->port)), size);
    default:
        return str_copy(to, size, str_make(named_of(member)->text, named_of(member)->text_len));
    }
}

size_t pool_member_show(const struct pool_member *member, char *to, size_t size)
{
    struct str scheme = member->scheme == TARGET_HTTPS ? STR("https://")
                        : member->scheme == TARGET_H2C ? STR("h2c://")
                                                       : STR("");
    size_t len = str_copy(to, size, scheme);
    return len + pool_member_text(member, to + len, size - len);
}
