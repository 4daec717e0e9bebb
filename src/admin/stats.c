// SPDX-License-Identifier: MIT
// /v1/stats (in slices: there may be a million routes) and /metrics (in slices: every target may have a series).
#include "admin/admin_int.h"
#include "loop/rcu.h"

enum { STATS_SLICE = 200, CODE_MIN = 100, CODE_MAX = 599 };

static const char *const kinds[] = {"routes", "pools", "tenants"};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

struct stats_call {
    unsigned kind;
    uint64_t position; // of publisher_stats
    bool is_open;      // codes and counters are written
    bool is_begun;     // the kind has an item
    struct buf *out;
};

static void sum_code(unsigned code, uint64_t *count, uint64_t *ns)
{
    *count = 0;
    *ns = 0;
    for (unsigned i = 0; i < stats_worker_count(); i++) {
        const struct worker_stats *stats = stats_of_worker(i);
        *count += atomic_load_explicit(&stats->codes[code].count, memory_order_relaxed);
        *ns += atomic_load_explicit(&stats->codes[code].ns, memory_order_relaxed);
    }
}

static void put_codes(struct buf *out)
{
    bool is_begun = false;
    buf_put(out, STR("{\"codes\":{"));
    for (unsigned code = CODE_MIN; code <= CODE_MAX; code++) {
        uint64_t count;
        uint64_t ns;
        sum_code(code, &count, &ns);
        if (count > 0) {
            buf_printf(out, "%s\"%u\":{\"count\":%llu,\"seconds\":%.9f}", is_begun ? "," : "", code,
                       (unsigned long long)count, (double)ns / 1e9);
            is_begun = true;
        }
    }
    buf_put(out, STR("},\"counters\":{"));
    for (unsigned i = 0; i < COUNTER_COUNT; i++) {
        buf_printf(out, "%s\"%s\":%llu", i == 0 ? "" : ",", stats_counter_name((enum counter)i),
                   (unsigned long long)stats_counter_sum((enum counter)i));
    }
    buf_printf(out, "},\"%s\":{", kinds[0]);
}

static void put_slot(void *context, struct str name, const struct stat_sum *sum)
{
    struct stats_call *state = context;
    buf_put(state->out, state->is_begun ? STR(",") : STR(""));
    buf_put_json(state->out, name);
    buf_printf(state->out,
               ":{\"count\":%llu,\"seconds\":%.9f,\"errors\":%llu,\"bytes_in\":%llu,"
               "\"bytes_out\":%llu}",
               (unsigned long long)sum->count, (double)sum->ns / 1e9,
               (unsigned long long)sum->errors, (unsigned long long)sum->bytes_in,
               (unsigned long long)sum->bytes_out);
    state->is_begun = true;
}

static enum flow step_stats(struct call *call, struct buf *out)
{
    struct stats_call *state = call->state;
    if (!state->is_open) {
        put_codes(out);
        state->is_open = true;
    }
    state->out = out;
    state->position = publisher_stats(call->admin->publisher, kinds[state->kind], state->position,
                                      STATS_SLICE, put_slot, state);
    if (state->position != 0) {
        return FLOW_MORE;
    }
    state->kind++;
    state->is_begun = false;
    if (state->kind == KIND_COUNT) {
        buf_put(out, STR("}}\n"));
        return FLOW_END;
    }
    buf_printf(out, "},\"%s\":{", kinds[state->kind]);
    return FLOW_MORE;
}

static void free_stats(struct call *call)
{
    free(call->state);
}

static const struct call_ops stats_ops = {.step = step_stats, .free_state = free_stats};

void call_stats(struct call *call)
{
    call->state = calloc(1, sizeof(struct stats_call));
    if (call->state == NULL) {
        answer_err(call, ERR_MEMORY);
        return;
    }
    call->ops = &stats_ops;
    answer_begin(call, 200, "application/json");
}

void metric_put_family(struct buf *out, const char *name, const char *help, const char *type)
{
    buf_printf(out, "# HELP pointsman_%s %s\n# TYPE pointsman_%s %s\n", name, help, name, type);
}

void metric_put_gauge(struct buf *out, const char *name, const char *help, uint64_t value)
{
    metric_put_family(out, name, help, "gauge");
    buf_printf(out, "pointsman_%s %llu\n", name, (unsigned long long)value);
}

static void put_code_metrics(struct buf *out)
{
    metric_put_family(out, "requests_total", "Requests answered, by status code", "counter");
    for (unsigned code = CODE_MIN; code <= CODE_MAX; code++) {
        uint64_t count;
        uint64_t ns;
        sum_code(code, &count, &ns);
        if (count > 0) {
            buf_printf(out, "pointsman_requests_total{code=\"%u\"} %llu\n", code,
                       (unsigned long long)count);
        }
    }
    metric_put_family(out, "request_seconds_sum", "Time spent on requests, by status code",
                      "counter");
    for (unsigned code = CODE_MIN; code <= CODE_MAX; code++) {
        uint64_t count;
        uint64_t ns;
        sum_code(code, &count, &ns);
        if (count > 0) {
            buf_printf(out, "pointsman_request_seconds_sum{code=\"%u\"} %.9f\n", code,
                       (double)ns / 1e9);
        }
    }
}

static void put_counters(struct buf *out)
{
    for (unsigned i = 0; i < COUNTER_COUNT; i++) {
        enum counter counter = (enum counter)i;
        if (counter == COUNTER_requests_total) {
            continue; // by code above
        }
        metric_put_family(out, stats_counter_name(counter), stats_counter_help(counter), "counter");
        buf_printf(out, "pointsman_%s %llu\n", stats_counter_name(counter),
                   (unsigned long long)stats_counter_sum(counter));
    }
}

void metric_put_total(struct buf *out, const char *name, const char *help, uint64_t value)
{
    metric_put_family(out, name, help, "counter");
    buf_printf(out, "pointsman_%s %llu\n", name, (unsigned long long)value);
}

static void put_files_metrics(const struct admin *admin, struct buf *out)
{
    if (admin->deps.files == NULL) {
        return;
    }
    struct files_status files;
    files_get_status(admin->deps.files, &files);
    metric_put_gauge(out, "store_files", "Files of declarations", files.files);
    metric_put_gauge(out, "store_files_broken",
                     "Files that are refused: their last good version counts", files.broken);
    metric_put_gauge(out, "store_files_refused", "Declarations of good files that are refused",
                     files.refused);
    metric_put_gauge(out, "store_files_folder", "1 while the folder can be read",
                     files.is_folder_there);
    metric_put_gauge(out, "store_files_read_timestamp_seconds",
                     "When the folder was read last (Unix time)", files.read_sec);
    metric_put_total(out, "store_files_rounds_total", "Readings that changed declarations",
                     files.rounds);
}

static void put_store_metrics(struct admin *admin, struct buf *out)
{
    struct store_status store;
    (void)admin_store_state(admin, &store);
    metric_put_gauge(out, "store_writable", "1 while the store takes writes", store.is_writable);
    metric_put_gauge(out, "store_pending", "Writes that wait for the store", store.pending);
    metric_put_total(out, "store_commits_total", "Commits of the store", store.commits);
    metric_put_family(out, "store_last_commit_seconds", "Time that the last commit took", "gauge");
    buf_printf(out, "pointsman_store_last_commit_seconds %.9f\n",
               (double)store.last_commit_ns / 1e9);
    put_files_metrics(admin, out);
    fleet_put_metrics(admin, out);
    ceryx_put_metrics(admin, out);
}

static void put_node_metrics(struct call *call, struct buf *out)
{
    struct admin *admin = call->admin;
    uint64_t connections = 0;
    uint64_t tunnels = 0;
    for (unsigned i = 0; i < stats_worker_count(); i++) {
        const struct worker_stats *stats = stats_of_worker(i);
        connections += atomic_load_explicit(&stats->connections, memory_order_relaxed);
        tunnels += atomic_load_explicit(&stats->tunnels, memory_order_relaxed);
    }
    uint64_t retired = 0;
    uint64_t oldest_ms = 0;
    publisher_retired(admin->publisher, &retired, &oldest_ms);
    metric_put_gauge(out, "connections", "Client connections open now", connections);
    metric_put_gauge(out, "tunnels", "Tunnels open now", tunnels);
    metric_put_gauge(out, "routes", "Routes that are live",
                     publisher_route_count(admin->publisher));
    metric_put_gauge(out, "pools", "Pools that are live", publisher_pool_count(admin->publisher));
    metric_put_gauge(out, "revision", "Revision that is live",
                     publisher_revision(admin->publisher));
    metric_put_gauge(out, "skipped_records", "Stored records that could not be built",
                     publisher_skipped_count(admin->publisher));
    metric_put_gauge(out, "retired_versions", "Replaced versions that are still used", retired);
    metric_put_family(out, "retired_oldest_seconds", "Age of the oldest of them", "gauge");
    buf_printf(out, "pointsman_retired_oldest_seconds %.3f\n", (double)oldest_ms / 1e3);
    metric_put_gauge(out, "reclaim_waiting", "Replaced objects that a worker may still be reading",
                     rcu_retired_count());
    certificates_put_metrics(admin, out);
    put_store_metrics(admin, out);
    metric_put_total(out, "access_log_write_errors_total", "Writes of the access log that failed",
                     access_log_write_errors(admin->deps.access_log));
    metric_put_total(
        out, "access_log_lost_total",
        "Access log records lost because the file was changed or closed before it took them",
        access_log_lost(admin->deps.access_log));
    metric_put_family(out, "build_info", "The version that runs", "gauge");
    buf_put(out, STR("pointsman_build_info{version=\"" POINTSMAN_VERSION "\"} 1\n"));
}

static enum flow step_metrics(struct call *call, struct buf *out)
{
    struct target_series *series = call->state;
    if (targets_put_series(call->admin, series, out)) {
        return FLOW_MORE;
    }
    targets_put_metrics(call->admin, series->queue_len, series->left_out, out);
    put_code_metrics(out);
    put_counters(out);
    put_node_metrics(call, out);
    return FLOW_END;
}

static const struct call_ops metrics_ops = {.step = step_metrics, .free_state = free_stats};

void call_metrics(struct call *call)
{
    call->state = calloc(1, sizeof(struct target_series));
    if (call->state == NULL) {
        answer_err(call, ERR_MEMORY);
        return;
    }
    call->ops = &metrics_ops;
    answer_begin(call, 200, "text/plain; version=0.0.4; charset=utf-8");
}
