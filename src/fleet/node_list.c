// SPDX-License-Identifier: MIT
// The list of nodes: read, compared with the one before, told.
#include "base/clock.h"
#include "base/log.h"
#include "fleet/nodes_int.h"
#include <jansson.h>
#include <stdlib.h>

// ---- one entry ----

static void take_text(char *to, size_t size, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    str_copy(to, size, str_make(json_string_value(value), json_string_length(value)));
}

static uint64_t take_number(const json_t *object, const char *name)
{
    json_int_t number = json_integer_value(json_object_get(object, name));
    return number > 0 ? (uint64_t)number : 0;
}

static json_t *load(struct str text)
{
    json_t *object = text.len > NODES_JSON_MAX ? NULL : json_loadb(text.p, text.len, 0, NULL);
    if (object != NULL && !json_is_object(object)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static bool read_entry(struct node_entry *entry, struct str id, struct str text, uint64_t now_ms)
{
    json_t *object = load(text);
    if (object == NULL || id.len == 0 || id.len >= sizeof entry->node.id) {
        json_decref(object);
        return false;
    }
    *entry = (struct node_entry){.node.is_live = false};
    struct fleet_node *node = &entry->node;
    str_copy(node->id, sizeof node->id, id);
    take_text(node->name, sizeof node->name, object, "name");
    take_text(node->zone, sizeof node->zone, object, "zone");
    take_text(node->address, sizeof node->address, object, "address");
    take_text(node->version, sizeof node->version, object, "version");
    take_text(node->epoch, sizeof node->epoch, object, "epoch");
    take_text(entry->boot, sizeof entry->boot, object, "boot");
    node->revision = take_number(object, "revision");
    node->seen_ms = take_number(object, "seen");
    node->age_ms = now_ms > node->seen_ms ? now_ms - node->seen_ms : 0;
    node->connections = take_number(object, "connections");
    node->requests = take_number(object, "requests");
    node->requests_per_second = take_number(object, "rps");
    uint64_t workers = take_number(object, "workers");
    node->workers = workers > UINT16_MAX ? UINT16_MAX : (unsigned)workers;
    node->is_draining = json_is_true(json_object_get(object, "draining"));
    json_decref(object);
    if (node->name[0] == '\0') {
        str_copy(node->name, sizeof node->name, id);
    }
    return node->seen_ms > 0 && node->revision <= FLEET_REVISION_MAX;
}

bool node_read_boot(struct str json, char boot[FLEET_EPOCH_LEN + 1])
{
    json_t *object = load(json);
    boot[0] = '\0';
    if (object != NULL) {
        take_text(boot, FLEET_EPOCH_LEN + 1, object, "boot");
        json_decref(object);
    }
    return boot[0] != '\0';
}

static void put_text(struct buf *to, const char *name, const char *value)
{
    buf_printf(to, ",\"%s\":", name);
    buf_put_json(to, str_from_c(value));
}

static void take_rate(struct nodes *nodes, uint64_t requests)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t passed = now - nodes->rate_ns;
    if (nodes->rate_ns == 0) {
        nodes->rate = 0;
    } else if (passed < FLEET_BEAT_MS * NS_PER_MS) {
        return; // too short for a number that says something
    } else {
        uint64_t more = requests > nodes->rate_requests ? requests - nodes->rate_requests : 0;
        nodes->rate = (uint64_t)((double)more * (double)NS_PER_SEC / (double)passed + 0.5);
    }
    nodes->rate_ns = now;
    nodes->rate_requests = requests;
}

void node_put_own(struct nodes *nodes, struct buf *to)
{
    const struct fleet *fleet = nodes->fleet;
    const struct fleet_config *config = &fleet->config;
    struct fleet_load own = {0};
    config->load(config->context, &own);
    take_rate(nodes, own.requests);
    put_text(to, "name", config->node_name);
    put_text(to, "zone", config->node_zone);
    put_text(to, "address", config->address);
    put_text(to, "version", config->version);
    put_text(to, "boot", nodes->boot);
    put_text(to, "epoch", fleet->place.epoch);
    buf_printf(to,
               ",\"revision\":%llu,\"draining\":%s,\"workers\":%u,\"connections\":%llu,"
               "\"requests\":%llu,\"rps\":%llu}",
               (unsigned long long)fleet->place.revision, own.is_draining ? "true" : "false",
               own.workers, (unsigned long long)own.connections, (unsigned long long)own.requests,
               (unsigned long long)nodes->rate);
}

// ---- the list ----

static int by_id(const void *a, const void *b)
{
    const struct node_entry *left = a;
    const struct node_entry *right = b;
    return strcmp(left->node.id, right->node.id);
}

int node_list_read(struct node_list *list, const struct redis_reply *reply, uint64_t now_ms,
                   struct str own_id)
{
    unsigned count = reply->type == REDIS_ARRAY ? reply->count / 2 : 0;
    count = count > FLEET_NODE_MAX ? FLEET_NODE_MAX : count;
    *list = (struct node_list){.items = calloc(count + 1, sizeof *list->items)};
    if (list->items == NULL) {
        return ERR_MEMORY;
    }
    for (unsigned i = 0; i < count; i++) {
        struct node_entry *entry = &list->items[list->count];
        struct str id = redis_reply_item(reply, i * 2)->text;
        if (read_entry(entry, id, redis_reply_item(reply, i * 2 + 1)->text, now_ms)) {
            entry->node.is_self = str_eq(id, own_id);
            list->count++;
        }
    }
    qsort(list->items, list->count, sizeof *list->items, by_id);
    return 0;
}

void node_list_fini(struct node_list *list)
{
    free(list->items);
    *list = (struct node_list){.items = NULL};
}

static void tell(struct nodes *nodes, const struct node_entry *entry, const char *state)
{
    char detail[3 * FLEET_TEXT_MAX];
    snprintf(detail, sizeof detail, "id %s, address %s, version %s", entry->node.id,
             entry->node.address, entry->node.version);
    log_info("node %s %s: %s", entry->node.name, state, detail);
    const struct fleet_event event = {.type = "node",
                                      .state = state,
                                      .detail = detail,
                                      .id = "",
                                      .outcome = "",
                                      .node = entry->node.name,
                                      .revision = entry->node.revision};
    fleet_tell(nodes->fleet, &event);
}

// One that is in the new list, and what it was before (NULL: it was not there).
static void judge(struct nodes *nodes, struct node_entry *entry, const struct node_entry *before)
{
    bool was_live = before != NULL && before->node.is_live;
    bool in_grace = nodes->fleet->loop.now_ms < nodes->grace_ms;
    entry->node.is_live =
        entry->node.is_self || entry->node.age_ms <= FLEET_LIVE_MS || (was_live && in_grace);
    if (!nodes->has_list || entry->node.is_self) {
        return;
    }
    if (entry->node.is_live != was_live) {
        tell(nodes, entry, was_live ? "left" : "joined");
    } else if (was_live && strcmp(entry->node.version, before->node.version) != 0) {
        tell(nodes, entry, "changed");
    }
}

// One that is not in the new list any more. True: it is kept, for the list may have been lost.
static bool is_kept(struct nodes *nodes, const struct node_entry *before)
{
    if (before->node.is_self || !before->node.is_live) {
        return false;
    }
    if (nodes->fleet->loop.now_ms < nodes->grace_ms) {
        return true;
    }
    tell(nodes, before, "left");
    return false;
}

static uint64_t highest_of(const struct node_list *list)
{
    uint64_t highest = 0;
    for (unsigned i = 0; i < list->count; i++) {
        uint64_t revision = list->items[i].node.revision;
        bool is_higher = revision > highest && revision <= FLEET_REVISION_CREDIBLE;
        highest = is_higher ? revision : highest;
    }
    return highest;
}

static void publish(struct nodes *nodes, struct node_list *list)
{
    unsigned live = 0;
    for (unsigned i = 0; i < list->count; i++) {
        live += list->items[i].node.is_live;
    }
    uint64_t highest = highest_of(list);
    struct fleet_status *status = fleet_status_lock(nodes->fleet);
    status->nodes = list->count;
    status->nodes_live = live;
    struct node_list old = nodes->list;
    nodes->list = *list;
    nodes->list_ns = clock_monotonic_ns();
    nodes->highest = highest > nodes->highest ? highest : nodes->highest;
    fleet_status_unlock(nodes->fleet);
    *list = (struct node_list){.items = NULL};
    node_list_fini(&old);
}

int node_list_take(struct nodes *nodes, struct node_list *list)
{
    const struct node_list *old = &nodes->list; // this thread alone writes it
    struct node_list merged = {
        .items = calloc((size_t)list->count + old->count + 1, sizeof *merged.items)};
    if (merged.items == NULL) {
        node_list_fini(list);
        return ERR_MEMORY;
    }
    unsigned i = 0;
    unsigned j = 0;
    while (i < list->count || j < old->count) {
        int order = i == list->count  ? 1
                    : j == old->count ? -1
                                      : by_id(&list->items[i], &old->items[j]);
        if (order <= 0) {
            judge(nodes, &list->items[i], order == 0 ? &old->items[j] : NULL);
            merged.items[merged.count++] = list->items[i++];
            j += order == 0;
        } else {
            if (is_kept(nodes, &old->items[j])) {
                struct node_entry *kept = &merged.items[merged.count++];
                *kept = old->items[j];
                kept->node.age_ms += (clock_monotonic_ns() - nodes->list_ns) / NS_PER_MS;
            }
            j++;
        }
    }
    merged.count = merged.count > FLEET_NODE_MAX ? FLEET_NODE_MAX : merged.count;
    node_list_fini(list);
    publish(nodes, &merged);
    nodes->has_list = true;
    return 0;
}
