// SPDX-License-Identifier: MIT
// What is known of the fleet: nodes, and this node's place among them, for status and metrics.
#include "admin/admin_int.h"
#include "base/clock.h"

static json_t *text_of(const char *text)
{
    json_t *value = json_string(text);
    return value == NULL ? json_string("") : value;
}

bool admin_store_state(const struct admin *admin, struct store_status *store)
{
    *store = (struct store_status){.is_writable = false};
    store_get_status(admin->store, store);
    if (admin->deps.fleet == NULL || !store->is_writable) {
        return store->is_writable;
    }
    struct fleet_status fleet;
    fleet_get_status(admin->deps.fleet, &fleet);
    store->is_writable = fleet.is_writable;
    str_copy(store->detail, sizeof store->detail,
             str_from_c(fleet.is_writable ? "" : fleet.detail));
    return store->is_writable;
}

static uint64_t lag_of(const struct fleet_status *status)
{
    return status->redis_revision > status->revision ? status->redis_revision - status->revision
                                                     : 0;
}

static void put_number(json_t *to, const char *name, uint64_t number)
{
    json_object_set_new(to, name, json_integer((json_int_t)number));
}

uint64_t fleet_live_revision(const struct admin *admin)
{
    if (admin->deps.fleet == NULL) {
        return publisher_revision(admin->publisher);
    }
    struct fleet_status status;
    fleet_get_status(admin->deps.fleet, &status);
    return status.revision;
}

void fleet_put_status(const struct admin *admin, json_t *store)
{
    if (admin->deps.fleet == NULL) {
        return;
    }
    struct fleet_status status;
    fleet_get_status(admin->deps.fleet, &status);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"revision", status.revision},     {"redis_revision", status.redis_revision},
        {"lag", lag_of(&status)},          {"pending", status.pending},
        {"writes", status.writes},         {"refused", status.refused},
        {"unknown", status.unknown},       {"orphans", status.orphans},
        {"applied", status.applied},       {"skipped", status.skipped},
        {"resyncs", status.resyncs},       {"epochs", status.epochs},
        {"nodes", status.nodes},           {"nodes_live", status.nodes_live},
        {"reconnects", status.reconnects},
    };
    json_t *fleet =
        json_pack("{s:s,s:o,s:o,s:o,s:o,s:b,s:f,s:f,s:{s:I,s:I,s:f}}", "state",
                  fleet_follow_name(status.state), "detail", text_of(status.detail), "url",
                  text_of(status.url), "peer", text_of(status.peer), "epoch", text_of(status.epoch),
                  "writable", (int)status.is_writable, "away_seconds", (double)status.away_ms / 1e3,
                  "beat_age_seconds", (double)status.beat_age_ms / 1e3, "resync", "changed",
                  (json_int_t)status.resync_changed, "deleted", (json_int_t)status.resync_deleted,
                  "seconds", (double)status.resync_ms / 1e3);
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        put_number(fleet, numbers[i].name, numbers[i].value);
    }
    json_object_set_new(store, "fleet", fleet);
}

static void put_seconds(struct buf *out, const char *name, const char *help, uint64_t ms)
{
    metric_put_family(out, name, help, "gauge");
    buf_printf(out, "pointsman_%s %.3f\n", name, (double)ms / 1e3);
}

void fleet_put_metrics(const struct admin *admin, struct buf *out)
{
    if (admin->deps.fleet == NULL) {
        return;
    }
    struct fleet_status status;
    fleet_get_status(admin->deps.fleet, &status);
    metric_put_gauge(out, "fleet_following", "1 while every change in Redis is followed",
                     status.state == FLEET_FOLLOWING);
    metric_put_family(out, "fleet_state", "1 for the state that this node is in", "gauge");
    for (unsigned i = FLEET_AWAY; i <= FLEET_FOLLOWING; i++) {
        buf_printf(out, "pointsman_fleet_state{state=\"%s\"} %d\n",
                   fleet_follow_name((enum fleet_follow_state)i), status.state == i);
    }
    put_seconds(out, "fleet_away_seconds", "Since when changes are not followed; 0: they are",
                status.away_ms);
    put_seconds(out, "fleet_beat_age_seconds", "Since Redis answered a heartbeat",
                status.beat_age_ms);
    metric_put_gauge(out, "fleet_revision", "Revision in Redis, as of the last heartbeat",
                     status.redis_revision);
    metric_put_gauge(out, "fleet_lag", "Revisions by which this node is behind Redis",
                     lag_of(&status));
    metric_put_gauge(out, "fleet_nodes", "Nodes that are known", status.nodes);
    metric_put_gauge(out, "fleet_nodes_live", "Nodes with a heartbeat in the last 5 s",
                     status.nodes_live);
    metric_put_gauge(out, "fleet_pending", "Writes under way to Redis", status.pending);
    metric_put_gauge(out, "fleet_orphans", "Writes whose outcome is not known yet", status.orphans);
    metric_put_total(out, "fleet_writes_total", "Writes that were answered", status.writes);
    metric_put_total(out, "fleet_refused_total",
                     "Writes refused before they were sent, as Redis was away", status.refused);
    metric_put_total(out, "fleet_unknown_total", "Writes answered with an unknown outcome",
                     status.unknown);
    metric_put_total(out, "fleet_applied_total", "Changes taken from the stream", status.applied);
    metric_put_total(out, "fleet_skipped_total",
                     "Changes in Redis that this version cannot read, passed over", status.skipped);
    metric_put_total(out, "fleet_resyncs_total", "Readings of everything in Redis", status.resyncs);
    put_seconds(out, "fleet_resync_seconds", "How long the last one took", status.resync_ms);
    metric_put_total(out, "fleet_epochs_total", "Changes of the epoch: writes were lost in Redis",
                     status.epochs);
    metric_put_total(out, "fleet_reconnects_total", "Connections to Redis made anew",
                     status.reconnects);
}

// ---- the nodes ----

static json_t *encode_node(const struct fleet_node *node, uint64_t newest)
{
    char seen[TEXT_TIME_LEN];
    uint64_t lag = newest > node->revision ? newest - node->revision : 0;
    return json_pack(
        "{s:o,s:o,s:o,s:o,s:I,s:s,s:{s:I,s:I,s:I,s:I},s:o,s:b,s:b,s:b,s:I,s:f}", //
        "name", text_of(node->name), "zone", text_of(node->zone), "address", text_of(node->address),
        "version", text_of(node->version), "revision", (json_int_t)node->revision, "seen",
        text_time_ms(seen, node->seen_ms).p, "load", "connections", (json_int_t)node->connections,
        "requests", (json_int_t)node->requests, "requests_per_second",
        (json_int_t)node->requests_per_second, "workers", (json_int_t)node->workers, "id",
        text_of(node->id), "live", (int)node->is_live, "draining", (int)node->is_draining, "self",
        (int)node->is_self, "lag", (json_int_t)lag, "age_seconds", (double)node->age_ms / 1e3);
}

static void answer_fleet(struct call *call)
{
    struct fleet_node *nodes = NULL;
    struct fleet_status status;
    unsigned count = fleet_list_nodes(call->admin->deps.fleet, &nodes);
    fleet_get_status(call->admin->deps.fleet, &status);
    if (nodes == NULL) {
        answer_err(call, ERR_MEMORY);
        return;
    }
    uint64_t newest = status.redis_revision;
    for (unsigned i = 0; i < count; i++) {
        newest = nodes[i].is_live && nodes[i].revision > newest ? nodes[i].revision : newest;
    }
    json_t *list = json_array();
    for (unsigned i = 0; i < count; i++) {
        json_array_append_new(list, encode_node(&nodes[i], newest));
    }
    free(nodes);
    answer_json_tree(call, 200, list);
}

void call_nodes(struct call *call)
{
    struct admin *admin = call->admin;
    if (admin->deps.fleet != NULL) {
        answer_fleet(call);
        return;
    }
    struct admin_status status = {.uptime_ms = 0};
    admin->deps.hooks->status(admin->deps.context, &status);
    struct fleet_node node = {
        .revision = publisher_revision(admin->publisher),
        .seen_ms = admin->loop->real_ns / NS_PER_MS,
        .workers = status.worker_count,
        .is_live = true,
        .is_draining = status.is_draining,
        .is_self = true,
    };
    for (unsigned i = 0; i < status.worker_count && i < STATS_WORKER_MAX; i++) {
        node.connections += status.workers[i].connections;
        node.requests += status.workers[i].requests;
    }
    str_copy(node.id, sizeof node.id, store_node_id(admin->store));
    str_copy(node.name, sizeof node.name, status.node_name);
    str_copy(node.zone, sizeof node.zone, status.node_zone);
    str_copy(node.address, sizeof node.address, str_from_c(admin->deps.config->admin.address));
    str_copy(node.version, sizeof node.version, STR(POINTSMAN_VERSION));
    answer_json_tree(call, 200, json_pack("[o]", encode_node(&node, node.revision)));
}
