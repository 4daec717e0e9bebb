// SPDX-License-Identifier: MIT
// What this node is and does now.
#include "admin/admin_int.h"

static void read_status(const struct admin *admin, struct admin_status *status)
{
    memset(status, 0, sizeof *status);
    admin->deps.hooks->status(admin->deps.context, status);
}

static json_t *json_text(struct str text)
{
    json_t *value = json_stringn(text.p == NULL ? "" : text.p, text.len);
    return value == NULL ? json_string("") : value;
}

static json_t *encode_workers(const struct admin_status *status, uint64_t *connections)
{
    json_t *workers = json_array();
    for (unsigned i = 0; i < status->worker_count && i < STATS_WORKER_MAX; i++) {
        const struct admin_worker_status *worker = &status->workers[i];
        *connections += worker->connections;
        json_array_append_new(workers, json_pack("{s:I,s:I,s:I}", "id", (json_int_t)worker->id,
                                                 "connections", (json_int_t)worker->connections,
                                                 "requests", (json_int_t)worker->requests));
    }
    return workers;
}

// Where declarations come from, when they come from files.
static void put_files(const struct admin *admin, json_t *store)
{
    if (admin->deps.files == NULL) {
        return;
    }
    struct files_status files;
    files_get_status(admin->deps.files, &files);
    char read[TEXT_TIME_LEN];
    json_object_set_new(
        store, "files",
        json_pack("{s:o,s:b,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", //
                  "folder", json_text(str_from_c(files.folder)), "readable",
                  (int)files.is_folder_there, "files", (json_int_t)files.files, "broken",
                  (json_int_t)files.broken, "refused", (json_int_t)files.refused, "declarations",
                  (json_int_t)files.declarations, "rounds", (json_int_t)files.rounds, "read",
                  files.read_sec == 0 ? json_null() : json_text(text_time(read, files.read_sec)),
                  "detail", json_text(str_from_c(files.detail))));
}

static json_t *encode_store(struct admin *admin)
{
    struct store_status store;
    (void)admin_store_state(admin, &store);
    json_t *value = json_pack("{s:b,s:o,s:I,s:I,s:I,s:f}", "writable", (int)store.is_writable,
                              "detail", json_text(str_from_c(store.detail)), "revision",
                              (json_int_t)store_revision(admin->store), "pending",
                              (json_int_t)store.pending, "commits", (json_int_t)store.commits,
                              "last_commit_seconds", (double)store.last_commit_ns / 1e9);
    put_files(admin, value);
    fleet_put_status(admin, value);
    return value;
}

static json_t *encode_retired(struct admin *admin)
{
    uint64_t count = 0;
    uint64_t oldest_ms = 0;
    publisher_retired(admin->publisher, &count, &oldest_ms);
    return json_pack("{s:I,s:f}", "versions", (json_int_t)count, "oldest_seconds",
                     (double)oldest_ms / 1e3);
}

void call_status(struct call *call)
{
    struct admin *admin = call->admin;
    struct publisher *publisher = admin->publisher;
    struct admin_status status;
    read_status(admin, &status);
    uint64_t connections = 0;
    json_t *workers = encode_workers(&status, &connections);
    json_t *answer =
        json_pack("{s:s,s:o,s:o,s:I,s:f,s:b,s:b,s:I,s:I,s:I,s:I,s:o,s:o,s:o}", //
                  "version", POINTSMAN_VERSION, "node", json_text(status.node_name), "zone",
                  json_text(status.node_zone), "revision", (json_int_t)fleet_live_revision(admin),
                  "uptime", (double)status.uptime_ms / 1e3, "draining", (int)status.is_draining,
                  "ready", (int)status.is_ready, "connections", (json_int_t)connections, "routes",
                  (json_int_t)publisher_route_count(publisher), "pools",
                  (json_int_t)publisher_pool_count(publisher), "skipped",
                  (json_int_t)publisher_skipped_count(publisher), "workers", workers, "retired",
                  encode_retired(admin), "store", encode_store(admin));
    ceryx_put_status(admin, answer);
    certificates_put_status(admin, answer);
    targets_put_status(admin, answer);
    answer_json_tree(call, 200, answer);
}
