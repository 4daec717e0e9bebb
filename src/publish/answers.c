// SPDX-License-Identifier: MIT
// Targets that are names: their answers, and the members that follow from them.
//
//   resolver ─► watched_name ─► each pool that uses it (name_use) ─► a new set of members ─► a new view
//
// An answer is a set: members of addresses that stay stay, those of new ones are made, gone ones leave when
// no version and no view has them any more. Very many pools may use one name: they hear of a new answer in
// slices of the control loop.
#include "base/clock.h"
#include "base/invariant.h"
#include "publish/health.h"
#include <stdlib.h>

enum {
    SLICE_NS = 2000000, // after which the thread is given back
    SLICE_LOOK = 16,    // uses between two looks at the clock
};

// ---- sets ----

static const struct sockaddr *address_at(const struct watched_name *watched, unsigned i)
{
    return (const struct sockaddr *)(const void *)&watched->addresses[i];
}

static struct target_address address_of(const struct name_use *use)
{
    return (struct target_address){
        .text = use->text,
        .scheme = use->scheme,
        .host = use->watched->node.name,
        .port = use->port,
        .is_name = true,
    };
}

static struct pool_member *find_among(struct pool_member *const *members, unsigned count,
                                      const struct member_key *wanted)
{
    uint64_t id = member_key_id(wanted);
    for (unsigned i = 0; i < count; i++) {
        struct pool_member *member = members[i];
        struct member_key key;
        if (pool_target_of(member)->id != id ||
            atomic_load_explicit(&member->cut, memory_order_relaxed) != 0) {
            continue;
        }
        member_key_of(&key, member);
        if (member_key_eq(&key, wanted)) {
            return member;
        }
    }
    return NULL;
}

// A member of the pool with that key, also one that is leaving. NULL: none. `has_others`: it may have some that
// are in no newest set. Without, the whole pool (a thousand names with many addresses each) is not looked at.
static struct pool_member *find_member(const struct name_use *use, const struct member_key *wanted,
                                       bool has_others)
{
    const struct named_pool *pool = use->pool;
    struct pool_member *found =
        use->set == NULL ? NULL : find_among(use->set->members, use->set->count, wanted);
    return found != NULL || !has_others ? found
                                        : find_among(pool->members, pool->member_count, wanted);
}

// The members of the newest answer, each with a reference of the set. No answer: NULL. 0, or ERR_MEMORY.
static int make_set(struct publisher *publisher, struct name_use *use, struct name_set **out)
{
    const struct watched_name *watched = use->watched;
    *out = NULL;
    if (watched->address_count == 0) {
        return 0;
    }
    struct name_set *set = calloc(1, sizeof *set + watched->address_count * sizeof set->members[0]);
    if (set == NULL) {
        return ERR_MEMORY;
    }
    struct target_address address = address_of(use);
    bool has_others = use->pool->named_count != use->pool->newest_count;
    set->refs = 1;
    for (unsigned i = 0; i < watched->address_count; i++) {
        struct member_key key;
        member_key_of_address(&key, &address, address_at(watched, i));
        struct pool_member *member = find_member(use, &key, has_others);
        if (member == NULL) {
            member =
                pool_make_member(use->pool, &address, address_at(watched, i), use->max_connections);
        }
        if (member == NULL) {
            set_unref(publisher, use->pool, set, true);
            return ERR_MEMORY;
        }
        member->refs++;
        set->members[set->count++] = member;
    }
    *out = set;
    return 0;
}

void set_unref(struct publisher *publisher, struct named_pool *pool, struct name_set *set,
               bool is_unseen)
{
    if (set == NULL || --set->refs > 0) {
        return;
    }
    for (unsigned i = 0; i < set->count; i++) {
        member_unref(publisher, pool, set->members[i], is_unseen);
    }
    free(set);
}

// The set becomes that of the newest answer. Returns the one before, with its reference.
static struct name_set *swap_set(struct name_use *use, struct name_set *set)
{
    struct name_set *before = use->set;
    use->pool->newest_count -= before == NULL ? 0 : before->count;
    use->pool->newest_count += set == NULL ? 0 : set->count;
    use->set = set;
    return before;
}

// ---- uses ----

void name_unwatch(struct publisher *publisher, struct watched_name *watched)
{
    if (--watched->refs > 0) {
        return;
    }
    resolver_unwatch(&watched->question);
    list_remove(&watched->waiting);
    publisher->health.unresolved_count -= watched->address_count == 0;
    name_map_remove(&publisher->names, &watched->node);
    free(watched->addresses);
    free(watched);
}

void name_use_put(struct publisher *publisher, struct name_use *use, bool is_unseen)
{
    INVARIANT(use->refs > 0);
    if (--use->refs > 0) {
        return;
    }
    set_unref(publisher, use->pool, swap_set(use, NULL), is_unseen);
    list_remove(&use->list);
    name_map_remove(&publisher->uses, &use->node);
    name_unwatch(publisher, use->watched);
    free(use);
}

// Is its set that of the newest answer?
static bool has_answer(const struct name_use *use)
{
    const struct watched_name *watched = use->watched;
    unsigned count = use->set == NULL ? 0 : use->set->count;
    if (count != watched->address_count) {
        return false;
    }
    struct target_address address = address_of(use);
    for (unsigned i = 0; i < count; i++) {
        struct member_key wanted;
        struct member_key key;
        member_key_of_address(&wanted, &address, address_at(watched, i));
        member_key_of(&key, use->set->members[i]);
        if (!member_key_eq(&key, &wanted)) {
            return false;
        }
    }
    return true;
}

// False: out of memory, and all is as before.
static bool renew_use(struct publisher *publisher, struct name_use *use)
{
    struct watched_name *watched = use->watched;
    struct name_set *before = use->set;
    if (!has_answer(use)) {
        struct name_set *set;
        if (make_set(publisher, use, &set) != 0) {
            return false;
        }
        (void)swap_set(use, set);
        use->pool->changes++; // a version that is being prepared is old
        health_mark(publisher, use->pool);
        set_unref(publisher, use->pool, before, false);
    } else if (use->pool->pending != NULL) {
        health_mark(publisher, use->pool); // nobody is to be waited for
    }
    if (use->is_told_failed != watched->is_failing || (before == NULL && use->set != NULL)) {
        use->is_told_failed = watched->is_failing;
        health_name(publisher, use->pool->slot.name, use->text,
                    watched->is_failing ? watched->error : NULL);
    }
    return true;
}

// Until all have heard, or the time is up (false). False with *is_short: memory is out.
static bool tell_users(struct publisher *publisher, struct watched_name *watched, uint64_t until_ns,
                       bool *is_short)
{
    for (unsigned i = 1; !list_is_empty(&watched->stale); i++) {
        struct name_use *use = LIST_FIRST(&watched->stale, struct name_use, list);
        if (!renew_use(publisher, use)) {
            *is_short = true;
            return false;
        }
        list_remove(&use->list);
        list_append(&watched->users, &use->list);
        if (i % SLICE_LOOK == 0 && clock_monotonic_ns() >= until_ns) {
            return list_is_empty(&watched->stale);
        }
    }
    return true;
}

void answers_soon(struct publisher *publisher)
{
    if (publisher->control != NULL && !list_is_empty(&publisher->answered)) {
        loop_task_add(publisher->control, &publisher->answers);
    }
}

void answers_on_task(struct loop *loop, struct loop_task *task)
{
    struct publisher *publisher = CONTAINER_OF(task, struct publisher, answers);
    uint64_t until_ns = clock_monotonic_ns() + SLICE_NS;
    bool is_short = false;
    (void)loop;
    while (!list_is_empty(&publisher->answered)) {
        struct watched_name *watched =
            LIST_FIRST(&publisher->answered, struct watched_name, waiting);
        if (!tell_users(publisher, watched, until_ns, &is_short)) {
            break;
        }
        list_remove(&watched->waiting);
        if (clock_monotonic_ns() >= until_ns) {
            break;
        }
    }
    if (is_short) {
        retry_later(publisher);
    } else {
        answers_soon(publisher);
    }
}

static bool is_same_answer(const struct watched_name *watched, const struct resolver_result *result)
{
    if (watched->address_count != result->count) {
        return false;
    }
    // Filled by one resolver: what is not of the address is zero.
    return memcmp(watched->addresses, result->addresses,
                  result->count * sizeof result->addresses[0]) == 0;
}

static void on_answer(void *context, const struct resolver_result *result)
{
    struct watched_name *watched = context;
    struct publisher *publisher = watched->publisher;
    bool is_failing = result->count == 0;
    if (is_failing ? watched->is_failing
                   : !watched->is_failing && is_same_answer(watched, result)) {
        return;
    }
    if (!is_failing && !is_same_answer(watched, result)) {
        struct sockaddr_storage *addresses = calloc(result->count, sizeof *addresses);
        if (addresses == NULL) {
            return; // the last answer stays until the next
        }
        memcpy(addresses, result->addresses, result->count * sizeof *addresses);
        free(watched->addresses);
        publisher->health.unresolved_count -= watched->address_count == 0;
        watched->addresses = addresses;
        watched->address_count = result->count;
    }
    watched->is_failing = is_failing;
    str_copy(watched->error, sizeof watched->error,
             str_from_c(result->error == NULL ? "" : result->error));
    watched->is_untold = list_is_empty(&watched->users) && list_is_empty(&watched->stale);
    list_splice(&watched->stale, &watched->users);
    if (list_is_empty(&watched->waiting)) {
        list_append(&publisher->answered, &watched->waiting);
    }
    answers_soon(publisher);
}

// ---- names ----

// "localhost" is this machine, and nobody is asked (RFC 6761 6.3).
static bool answer_localhost(struct watched_name *watched)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    watched->addresses = calloc(1, sizeof *watched->addresses);
    if (watched->addresses == NULL) {
        return false;
    }
    memcpy(watched->addresses, &in4, sizeof in4);
    watched->address_count = 1;
    return true;
}

struct watched_name *name_watch(struct publisher *publisher, struct str host)
{
    struct name_node *found = name_map_find(&publisher->names, host);
    if (found != NULL) {
        struct watched_name *known = CONTAINER_OF(found, struct watched_name, node);
        known->refs++;
        return known;
    }
    struct watched_name *watched = calloc(1, sizeof *watched + host.len + 1);
    if (watched == NULL) {
        return NULL;
    }
    str_copy(watched->host, host.len + 1, host);
    watched->node.name = str_make(watched->host, host.len);
    watched->publisher = publisher;
    watched->since_ms = health_now_ms(publisher);
    watched->refs = 1;
    list_init(&watched->users);
    list_init(&watched->stale);
    list_init(&watched->waiting);
    bool is_done = str_eq(host, STR("localhost"))
                       ? answer_localhost(watched)
                       : resolver_watch(publisher->resolver, host, on_answer, watched,
                                        &watched->question) == 0;
    if (is_done && name_map_add(&publisher->names, &watched->node) == 0) {
        publisher->health.unresolved_count += watched->address_count == 0;
        return watched;
    }
    resolver_unwatch(&watched->question);
    free(watched->addresses);
    free(watched);
    return NULL;
}

static struct name_use *make_use(struct publisher *publisher, struct named_pool *pool,
                                 const struct target_address *address, struct str key)
{
    struct name_use *use = calloc(1, sizeof *use + key.len + 1);
    if (use == NULL) {
        return NULL;
    }
    memcpy(use->key, key.p, key.len);
    use->node.name = str_make(use->key, key.len);
    use->text = str_from(use->node.name, sizeof pool);
    use->scheme = address->scheme;
    use->port = address->port;
    use->pool = pool;
    list_init(&use->list);
    if ((use->watched = name_watch(publisher, address->host)) == NULL) {
        free(use);
        return NULL;
    }
    use->refs = 1;
    if (name_map_add(&publisher->uses, &use->node) == 0) {
        list_append(&use->watched->users, &use->list);
        return use;
    }
    name_unwatch(publisher, use->watched);
    free(use);
    return NULL;
}

static bool is_cut(const struct name_set *set)
{
    for (unsigned i = 0; set != NULL && i < set->count; i++) {
        if (atomic_load_explicit(&set->members[i]->cut, memory_order_relaxed) != 0) {
            return true;
        }
    }
    return false;
}

// Declared again while requests to its members are being ended: it gets others.
static bool remake_set(struct publisher *publisher, struct name_use *use)
{
    struct name_set *set;
    if (make_set(publisher, use, &set) != 0) {
        return false;
    }
    set_unref(publisher, use->pool, swap_set(use, set), false);
    return true;
}

struct name_use *name_use_get(struct publisher *publisher, struct named_pool *pool,
                              const struct target_decl *target)
{
    char key[sizeof pool + POOL_MEMBER_TEXT_MAX];
    struct str text = target->address.text;
    INVARIANT(text.len < POOL_MEMBER_TEXT_MAX);
    memcpy(key, &pool, sizeof pool);
    memcpy(key + sizeof pool, text.p, text.len);
    struct str name = str_make(key, sizeof pool + text.len);
    struct name_node *found = name_map_find(&publisher->uses, name);
    struct name_use *use;
    if (found != NULL) {
        use = CONTAINER_OF(found, struct name_use, node);
        use->refs++;
        use->max_connections = target->max_connections;
        if (is_cut(use->set) && !remake_set(publisher, use)) {
            name_use_put(publisher, use, false);
            return NULL;
        }
        return use;
    }
    use = make_use(publisher, pool, &target->address, name);
    if (use == NULL) {
        return NULL;
    }
    use->max_connections = target->max_connections;
    use->is_told_failed = use->watched->is_failing;
    struct name_set *set;
    if (make_set(publisher, use, &set) != 0) {
        name_use_put(publisher, use, true);
        return NULL;
    }
    (void)swap_set(use, set);
    if (use->watched->is_untold) {
        use->watched->is_untold = false;
        health_name(publisher, pool->slot.name, use->text,
                    use->is_told_failed ? use->watched->error : NULL);
    }
    return use;
}
