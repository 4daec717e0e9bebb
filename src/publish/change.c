// SPDX-License-Identifier: MIT
// One record's way into the tables.
//
//   prepare: decode, find or make the slot (empty: invisible), build the version, and all that retiring
//   it needs ─► publish: swap ─► finish: checks follow, what is empty is removed
#include "base/invariant.h"
#include "publish/health.h"
#include "publish/tickets.h"
#include <jansson.h>

int change_decode(const struct store_record *record, struct declaration **out,
                  struct problems *problems)
{
    json_error_t error;
    json_t *value = json_loadb(record->value.p, record->value.len, 0, &error);
    if (value == NULL) {
        return problems_add(problems, ERR_SYNTAX, "", "%s", error.text);
    }
    unsigned unknown = 0;
    int err =
        declaration_decode(record->noun, record->key, value, DECODE_FEED, out, &unknown, problems);
    json_decref(value);
    return err;
}

static void split_key(struct str key, struct str *host, struct str *path)
{
    size_t slash = str_find_char(key, '/');
    *host = slash == SIZE_MAX ? key : str_sub(key, 0, slash);
    *path = slash == SIZE_MAX ? STR("/") : str_from(key, slash);
}

static int make_retirements(struct change *change, bool is_delete)
{
    if ((change->retired = retirement_new()) == NULL) {
        return ERR_MEMORY;
    }
    for (unsigned i = 0; is_delete && change->slot != NULL && i < 2; i++) {
        if ((change->unlinked[i] = retirement_new()) == NULL) {
            return ERR_MEMORY;
        }
    }
    return 0;
}

static int prepare_route(struct publisher *publisher, struct change *change,
                         struct problems *problems)
{
    struct str host;
    struct str path;
    split_key(change->record->key, &host, &path);
    if (change->record->value.len == 0) {
        change->slot = route_table_slot(publisher->routes, host, path);
        return change->slot == NULL ? 0 : make_retirements(change, true);
    }
    struct declaration *decl = NULL;
    int err = change_decode(change->record, &decl, problems);
    if (err != 0) {
        return err;
    }
    err = route_table_make(publisher->routes, host, path, &change->slot);
    // In a batch another change of the same route may come first.
    if (err == 0 && (change->slot->current != NULL || change->is_batch)) {
        err = make_retirements(change, false);
    }
    if (err != 0) {
        declaration_free(&decl);
        return err;
    }
    err = build_route(publisher, change->slot, &decl, &change->route_version, &change->list);
    if (err == 0 && change->list.pool != NULL &&
        (change->list.pool->slot.current != NULL || change->is_batch)) {
        change->list_retired = retirement_new();
        err = change->list_retired == NULL ? ERR_MEMORY : 0;
        change->list.pending = pending_new(publisher, change->list.version);
    }
    return err;
}

static int prepare_pool(struct publisher *publisher, struct change *change,
                        struct problems *problems)
{
    bool is_delete = change->record->value.len == 0;
    struct declaration *decl = NULL;
    int err = is_delete ? 0 : change_decode(change->record, &decl, problems);
    if (err != 0) {
        return err;
    }
    change->pool = pool_by_name(publisher, change->record->key, !is_delete);
    if (change->pool == NULL) {
        declaration_free(&decl);
        return is_delete ? 0 : ERR_MEMORY;
    }
    change->pool->holds++;
    err = make_retirements(change, is_delete);
    if (err == 0 && !is_delete) {
        err = build_pool(publisher, change->pool, &decl->pool, &change->pool_version);
    }
    if (err == 0 && !is_delete) {
        change->pending = pending_new(publisher, change->pool_version);
    }
    declaration_free(&decl);
    return err;
}

static int prepare_tickets(struct publisher *publisher, struct change *change,
                           struct problems *problems)
{
    if (publisher->tickets == NULL || change->record->value.len == 0) {
        return 0; // without the record the keys stay until there are others
    }
    int err = tickets_open(publisher->seal, change->record->secret, &change->tickets);
    if (err != 0) {
        return problems_add(problems, err, "", "the ticket keys cannot be opened: %s",
                            err == ERR_NOT_FOUND ? "sealed with a key that is not there"
                                                 : err_text(err));
    }
    change->tickets_retired = rcu_retired_new();
    return change->tickets_retired == NULL ? ERR_MEMORY : 0;
}

int change_prepare(struct publisher *publisher, struct change *change, struct problems *problems)
{
    switch (change->record->noun) {
    case NOUN_ROUTE:
        return prepare_route(publisher, change, problems);
    case NOUN_POOL:
        return prepare_pool(publisher, change, problems);
    case NOUN_CERTIFICATE:
        return prepare_certificate(publisher, change, problems);
    case NOUN_TICKETS:
        return prepare_tickets(publisher, change, problems);
    case NOUN_TENANT:
    case NOUN_KEY:
    case NOUN_COUNT:
        break;
    }
    return 0; // nothing of it is live here
}

static void apply_limit(void *context, struct pool_member *member, const struct pool_part *part)
{
    (void)context;
    atomic_store_explicit(&member->state, part->declared, memory_order_relaxed);
    set_limit(member, part->max_connections);
}

void version_swap(struct publisher *publisher, struct named_pool *pool,
                  struct pool_own_version *after, struct retirement **retired)
{
    struct pool_own_version *before = pool->slot.current == NULL ? NULL : live_version(pool);
    rcu_publish(pool->slot.current, after == NULL ? NULL : &after->pool);
    wake_waiters(pool);
    pool->is_ended = false;
    if (before != NULL) {
        INVARIANT(*retired != NULL);
        (*retired)->kind = RETIRED_POOL;
        (*retired)->object.pool = before;
        (*retired)->named = pool;
        pool->holds++;
        retire(publisher, retired);
    }
    if (after != NULL) {
        version_visit(after, apply_limit, NULL);
    }
}

void version_follow(struct publisher *publisher, struct named_pool *pool)
{
    health_follow(publisher, pool);
    if (pool->slot.current == NULL || pool->is_ended) {
        return;
    }
    const struct pool_own_version *version = live_version(pool);
    if (version->changes != pool->changes) {
        pool_refresh(publisher, pool); // health or names have changed since it was prepared
    } else {
        health_seen(publisher, pool, &version->facts);
    }
}

// False: it waits for its names.
static bool publish_version(struct publisher *publisher, struct named_pool *pool,
                            struct pool_own_version *after, struct retirement **retired,
                            struct pending_version **pending)
{
    if (after != NULL && pending_begin(publisher, pending, pool, after, retired)) {
        return false;
    }
    if (after != NULL && *pending != NULL) {
        version_renew(publisher, pool, after); // an answer may have come since it was prepared
    }
    pending_drop(pool);
    version_swap(publisher, pool, after, retired);
    return true;
}

static void publish_route(struct publisher *publisher, struct change *change)
{
    struct route_version *after = change->route_version;
    if (change->list.version != NULL) {
        change->is_swapped = publish_version(publisher, change->list.pool, change->list.version,
                                             &change->list_retired, &change->list.pending);
        change->list.version = NULL;
    }
    struct route_version *before = route_table_publish(publisher->routes, change->slot, after);
    change->route_version = NULL;
    if (after != NULL && after->action == ROUTE_TARGETS) {
        const struct pool_entry *entry = &after->to.targets.entries[0];
        atomic_store_explicit(&entry->member->state, entry->state, memory_order_relaxed);
    }
    if (before == NULL) {
        return;
    }
    struct named_pool *list = hidden_pool_of(before);
    if (list != NULL && (after == NULL || hidden_pool_of(after) != list)) {
        list->is_ended = true; // it goes with the last version of the route
        list->holds++;
        pending_drop(list);
        change->ended = list;
    }
    INVARIANT(change->retired != NULL);
    change->retired->kind = RETIRED_ROUTE;
    change->retired->object.route = before;
    retire(publisher, &change->retired);
}

static void publish_pool(struct publisher *publisher, struct change *change)
{
    struct pool_own_version *after = change->pool_version;
    change->pool_version = NULL;
    publisher->pool_count += (uint64_t)(after != NULL) - (change->pool->slot.current != NULL);
    change->is_swapped =
        publish_version(publisher, change->pool, after, &change->retired, &change->pending);
}

static void publish_tickets(struct publisher *publisher, struct change *change)
{
    struct tls_ticket_keys *before = publisher->tickets->current;
    rcu_publish(publisher->tickets->current, change->tickets);
    change->tickets = NULL;
    if (before != NULL) {
        rcu_retire(&change->tickets_retired, tickets_free, before);
    }
}

void change_publish(struct publisher *publisher, struct change *change)
{
    if (change->slot != NULL) {
        publish_route(publisher, change);
    } else if (change->pool != NULL) {
        publish_pool(publisher, change);
    } else if (change->cert != NULL) {
        publish_certificate(publisher, change);
    } else if (change->tickets != NULL) {
        publish_tickets(publisher, change);
    }
}

// An empty slot leaves the table. Without memory (only where making a route has failed) it stays: no
// look-up sees it, and the next declaration of the route finds it.
static void unlink_slot(struct publisher *publisher, struct change *change)
{
    for (unsigned i = 0; i < 2; i++) {
        if (change->unlinked[i] == NULL && (change->unlinked[i] = retirement_new()) == NULL) {
            return;
        }
    }
    struct route_slot *unlinked[2];
    unsigned count = route_table_unlink(publisher->routes, change->slot, unlinked);
    for (unsigned i = 0; i < count; i++) {
        change->unlinked[i]->kind = RETIRED_SLOT;
        change->unlinked[i]->object.slot = unlinked[i];
        retire(publisher, &change->unlinked[i]);
    }
}

void change_finish(struct publisher *publisher, struct change *change)
{
    if (change->is_swapped) {
        version_follow(publisher, change->pool != NULL ? change->pool : change->list.pool);
    }
    if (change->ended != NULL) {
        health_follow(publisher, change->ended); // nothing of it is checked any more
        pool_unhold(publisher, change->ended);
    }
    if (change->slot != NULL && change->slot->current == NULL) {
        unlink_slot(publisher, change);
    }
    if (change->route_version != NULL) { // never published
        INVARIANT(drop_route(publisher, change->route_version, true) == 0);
    }
    if (change->list.version != NULL) {
        // Unseen, but members that it found again may have left meanwhile, with requests.
        drop_pool(publisher, change->list.pool, change->list.version, false);
    }
    if (change->list.pool != NULL) {
        pool_unhold(publisher, change->list.pool);
    }
    if (change->pool != NULL) {
        pool_unhold(publisher, change->pool);
    }
    if (change->cert != NULL) {
        cert_slot_unref(publisher->certs, change->cert);
    }
    tickets_free(change->tickets);
    rcu_retired_free(&change->tickets_retired);
    retirement_free(&change->retired);
    retirement_free(&change->list_retired);
    pending_free(&change->pending);
    pending_free(&change->list.pending);
    retirement_free(&change->unlinked[0]);
    retirement_free(&change->unlinked[1]);
}
