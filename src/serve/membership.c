// SPDX-License-Identifier: MIT
#include "serve/membership.h"
#include "cli/store_url.h"
#include <stdlib.h>

struct membership {
    const struct config *config;
    struct store *store;
    struct redis_url url;
    struct redis_tls tls;
    struct fleet *fleet;
    struct ceryx_watch *ceryx; // NULL: Ceryx' keys are not looked at
};

// Declarations without a mark were made here and are nowhere else: following Redis would delete them.
static int refuse_own(const struct membership *membership, struct problems *problems)
{
    uint64_t count = 0;
    for (unsigned noun = 0; noun < NOUN_COUNT; noun++) {
        count += noun == NOUN_TICKETS ? 0 : store_count(membership->store, (enum noun)noun);
    }
    if (count == 0 || store_mark(membership->store)[0] != '\0') {
        return 0;
    }
    const char *local = membership->config->store.local;
    return problems_add(
        problems, ERR_INVALID, "store.local",
        "%s holds %llu declarations of a store of its own, which would be replaced by those of "
        "%s: copy them (pointsman store copy sqlite:%s %s) and move the file away, or name another "
        "file as store.local",
        local, (unsigned long long)count, membership->url.shown, local, membership->url.shown);
}

int membership_open(struct membership **out, const struct config *config, struct store **store,
                    struct problems *problems)
{
    *out = NULL;
    if (!config_store_is_redis(config)) {
        return 0;
    }
    struct membership *membership = calloc(1, sizeof *membership);
    if (membership == NULL) {
        return problems_add(problems, ERR_MEMORY, "store.url", "out of memory");
    }
    *out = membership;
    membership->config = config;
    membership->tls = store_url_tls(config);
    int err = store_url_read(&membership->url, config, problems);
    if (err == 0) {
        err = store_open_replica(store, config->store.local, problems);
    }
    if (err != 0) {
        return err;
    }
    membership->store = *store;
    return refuse_own(membership, problems);
}

// Ceryx' keys are in the same Redis.
static int watch_ceryx(struct membership *membership, const struct seal *seal,
                       struct problems *problems)
{
    const struct config *config = membership->config;
    const struct ceryx_watch_config watch = {
        .url = &membership->url,
        .tls = &membership->tls,
        .loop = fleet_loop(membership->fleet),
        .store = membership->store,
        .seal = seal,
        .prefix = config->ceryx.prefix,
        .store_prefix = config->store.prefix,
        .node_id = fleet_node_id(membership->fleet).p,
        .miss_timeout_ms = config->ceryx.miss_timeout_ms,
    };
    int err = ceryx_watch_new(&membership->ceryx, &watch, problems);
    if (err == 0) {
        ceryx_watch_start(membership->ceryx);
    }
    return err;
}

int membership_join(struct membership *membership, const struct membership_hooks *hooks,
                    struct problems *problems)
{
    if (membership == NULL) {
        return 0;
    }
    const struct config *config = membership->config;
    const struct fleet_config fleet = {
        .url = &membership->url,
        .tls = &membership->tls,
        .prefix = config->store.prefix,
        .node_name = hooks->node_name,
        .node_zone = config->node.zone,
        .address = config->admin.address,
        .version = POINTSMAN_VERSION,
        .accept_empty = config->store.accept_empty,
        .wait_replicas = config->store.wait_replicas,
        .stream_entries = config->store.stream_entries,
        .stream_bytes = config->store.stream_bytes,
        .store = membership->store,
        .seal = hooks->seal,
        .load = hooks->load,
        .on_state = hooks->on_state,
        .on_event = hooks->on_event,
        .context = hooks->context,
    };
    int err = fleet_new(&membership->fleet, &fleet, problems);
    return err != 0 || !config->ceryx.enabled ? err
                                              : watch_ceryx(membership, hooks->seal, problems);
}

struct fleet *membership_fleet(const struct membership *membership)
{
    return membership == NULL ? NULL : membership->fleet;
}

struct ceryx_watch *membership_ceryx(const struct membership *membership)
{
    return membership == NULL ? NULL : membership->ceryx;
}

const struct misses_source *membership_misses(const struct membership *membership)
{
    const struct ceryx_watch *ceryx = membership_ceryx(membership);
    return ceryx == NULL ? NULL : ceryx_watch_misses(ceryx);
}

void membership_leave(struct membership *membership)
{
    if (membership != NULL) {
        ceryx_watch_leave(membership->ceryx);
        fleet_stop(membership->fleet);
        ceryx_watch_stop(membership->ceryx);
    }
}

void membership_free(struct membership **place)
{
    struct membership *membership = *place;
    *place = NULL;
    if (membership == NULL) {
        return;
    }
    ceryx_watch_free(&membership->ceryx);
    fleet_free(&membership->fleet);
    redis_url_fini(&membership->url);
    free(membership);
}
