// SPDX-License-Identifier: MIT
// What is known of targets and names, as numbers: sums, and series of single targets in slices.
#include "admin/admin_int.h"
#include "base/clock.h"
#include "upstream/queue.h"

enum { POOLS_A_TURN = 1 }; // between two looks at the clock: each may have a thousand targets

static const struct {
    const char *name;
    const char *help;
} families[] = {
    {"target_up", "1 while the target may be used, 0 while it is down or ejected"},
    {"target_requests", "Requests and tunnels under way to the target"},
};

enum { FAMILY_UP, FAMILY_REQUESTS, FAMILY_COUNT };

_Static_assert(FAMILY_COUNT == sizeof families / sizeof families[0], "one row a family");

void targets_put_metrics(const struct admin *admin, uint64_t queue_len, uint64_t left_out,
                         struct buf *out)
{
    struct publish_health_sum sum;
    publisher_health(admin->publisher, &sum);
    metric_put_gauge(out, "targets_down", "Targets that are down by health checks",
                     sum.targets_down);
    metric_put_gauge(out, "targets_ejected", "Targets ejected for failures of requests",
                     sum.targets_ejected);
    metric_put_gauge(out, "pools_in_panic", "Pools that use ejected targets since too few are left",
                     sum.pools_in_panic);
    metric_put_total(out, "health_checks_total", "Health checks made", sum.checks);
    metric_put_total(out, "health_check_failures_total", "Health checks that failed",
                     sum.check_failures);
    metric_put_total(out, "health_transitions_total", "Targets that health checks took down or up",
                     sum.transitions);
    metric_put_total(out, "ejections_total", "Targets ejected for failures of requests",
                     sum.ejections);
    metric_put_total(out, "ejections_refused_total",
                     "Targets not ejected since eject.max_percent of the pool were already",
                     sum.ejections_refused);
    metric_put_gauge(out, "dns_names", "Names of targets that are resolved", sum.names);
    metric_put_gauge(out, "dns_names_unresolved", "Names of targets without any answer yet",
                     sum.names_unresolved);
    metric_put_total(out, "dns_failures_total", "DNS questions about targets that failed",
                     sum.dns_failures);
    metric_put_total(out, "dns_addresses_left_out_total",
                     "Addresses in answers of DNS that are not used: a name has more than 64",
                     sum.dns_left_out);
    metric_put_gauge(out, "queue_length", "Requests that wait for a target at its limit",
                     queue_len);
    metric_put_gauge(out, "target_series_left_out",
                     "Targets without series of their own, since there are too many", left_out);
}

void targets_put_status(const struct admin *admin, json_t *status)
{
    struct publish_health_sum sum;
    publisher_health(admin->publisher, &sum);
    // Without memory the member is missing.
    json_object_set_new(
        status, "health",
        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "targets_down", (json_int_t)sum.targets_down,
                  "targets_ejected", (json_int_t)sum.targets_ejected, "pools_in_panic",
                  (json_int_t)sum.pools_in_panic, "names_unresolved",
                  (json_int_t)sum.names_unresolved, "checks", (json_int_t)sum.checks,
                  "check_failures", (json_int_t)sum.check_failures));
}

// A pool whose series are being written.
struct series_pool {
    const struct admin *admin;
    struct target_series *series;
    struct buf *out;
    struct str pool;
    bool is_watched; // it has a health check or an ejection
};

static void look_for_health(void *context, const struct publish_target *target)
{
    struct series_pool *pool = context;
    pool->is_watched |= !target->is_leaving && strcmp(target->health, "none") != 0;
}

// A label's value (Prometheus text format): backslash, quote and line feed are escaped.
static void put_label(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (c == '\n') {
            buf_put(out, STR("\\n"));
            continue;
        }
        if (c == '\\' || c == '"') {
            buf_put_char(out, '\\');
        }
        buf_put_char(out, c);
    }
}

static unsigned value_of(unsigned family, const struct publish_target *target)
{
    if (family == FAMILY_REQUESTS) {
        return target->requests;
    }
    return strcmp(target->health, "down") != 0 && strcmp(target->health, "ejected") != 0;
}

static void put_sample(void *context, const struct publish_target *target)
{
    const struct series_pool *pool = context;
    struct target_series *series = pool->series;
    if (target->is_leaving) {
        return;
    }
    if (series->count == ADMIN_SERIES_MAX) {
        series->left_out += series->family == FAMILY_UP;
        return;
    }
    series->count++;
    struct buf *out = pool->out;
    buf_printf(out, "pointsman_%s{pool=\"", families[series->family].name);
    put_label(out, pool->pool);
    buf_put(out, STR("\",target=\""));
    put_label(out, target->address);
    if (target->resolved.len > 0) {
        buf_put(out, STR(" ("));
        put_label(out, target->resolved);
        buf_put_char(out, ')');
    }
    buf_printf(out, "\"} %u\n", value_of(series->family, target));
}

static void put_pool(void *context, const struct pool_slot *slot)
{
    struct series_pool *pool = context;
    struct target_series *series = pool->series;
    struct publisher *publisher = pool->admin->publisher;
    const struct pool_queue *queue = atomic_load_explicit(&slot->queue, memory_order_acquire);
    if (series->family == FAMILY_UP && queue != NULL) {
        series->queue_len += pool_queue_len(queue);
    }
    pool->pool = slot->name;
    pool->is_watched = false;
    publisher_pool_targets(publisher, slot->name, look_for_health, pool);
    if (pool->is_watched) {
        publisher_pool_targets(publisher, slot->name, put_sample, pool);
    }
}

bool targets_put_series(const struct admin *admin, struct target_series *series, struct buf *out)
{
    uint64_t deadline_ns = clock_monotonic_ns() + ADMIN_SLICE_NS;
    struct series_pool pool = {.admin = admin, .series = series, .out = out};
    while (series->family < FAMILY_COUNT) {
        if (!series->is_open) {
            metric_put_family(out, families[series->family].name, families[series->family].help,
                              "gauge");
            series->is_open = true;
        }
        series->position =
            publisher_each_pool(admin->publisher, series->position, POOLS_A_TURN, put_pool, &pool);
        if (series->position == 0) {
            series->family++;
            series->count = 0;
            series->is_open = false;
        }
        if (out->len >= ADMIN_SLICE_LEN || clock_monotonic_ns() >= deadline_ns) {
            break;
        }
    }
    return series->family < FAMILY_COUNT;
}
