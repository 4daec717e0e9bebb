// SPDX-License-Identifier: MIT
// What became of Ceryx' keys in Redis, for status and metrics.
#include "admin/admin_int.h"

// A key in Redis may be no text.
static json_t *text_of(const char *text)
{
    json_t *value = json_string(text);
    return value == NULL ? json_string("it is no text") : value;
}

void ceryx_put_status(const struct admin *admin, json_t *to)
{
    if (admin->deps.ceryx == NULL) {
        return;
    }
    struct ceryx_watch_status status;
    ceryx_watch_get_status(admin->deps.ceryx, &status);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"adopted", status.adopted},
        {"deleted", status.deleted},
        {"refused", status.refused},
        {"certificates_refused", status.certificate_refused},
        {"lookups", status.lookups},
        {"lookups_under_way", status.under_way},
        {"lookups_joined", status.joined},
        {"lookups_found", status.found},
        {"lookups_missing", status.missing},
        {"lookups_negative", status.negative},
        {"lookups_over", status.over},
        {"lookups_failed", status.failed},
        {"scans", status.scans},
        {"scanned", status.scanned},
        {"notifications", status.notifications},
    };
    json_t *ceryx =
        json_pack("{s:b,s:b,s:b,s:f,s:{s:o,s:o}}", "connected", (int)status.is_connected,
                  "scanning", (int)status.is_scanning, "notified", (int)status.is_notified,
                  "scan_seconds", (double)status.scan_ms / 1e3, "last_refused", "host",
                  text_of(status.refused_host), "detail", text_of(status.refused_detail));
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        json_object_set_new(ceryx, numbers[i].name, json_integer((json_int_t)numbers[i].value));
    }
    json_object_set_new(to, "ceryx", ceryx);
}

void ceryx_put_metrics(const struct admin *admin, struct buf *out)
{
    if (admin->deps.ceryx == NULL) {
        return;
    }
    struct ceryx_watch_status status;
    ceryx_watch_get_status(admin->deps.ceryx, &status);
    metric_put_gauge(out, "ceryx_connected", "1 while Ceryx' keys can be read",
                     status.is_connected);
    metric_put_gauge(out, "ceryx_scanning", "1 on the node that scans Ceryx' keys",
                     status.is_scanning);
    metric_put_gauge(out, "ceryx_notified", "1 while Redis tells of changes to Ceryx' keys",
                     status.is_notified);
    metric_put_gauge(out, "ceryx_hosts", "Hosts that the last scan saw", status.scanned);
    metric_put_gauge(out, "ceryx_lookups_under_way", "Look-ups of hosts in Redis under way",
                     status.under_way);
    metric_put_total(out, "ceryx_adopted_total", "Hosts written from Ceryx' keys", status.adopted);
    metric_put_total(out, "ceryx_deleted_total", "Hosts whose keys of Ceryx are gone",
                     status.deleted);
    metric_put_total(out, "ceryx_refused_total", "Hosts of Ceryx that cannot be served",
                     status.refused);
    metric_put_total(out, "ceryx_certificates_refused_total",
                     "Hosts of Ceryx served without their certificate", status.certificate_refused);
    metric_put_total(out, "ceryx_lookups_total", "Hosts that were not known, asked of Redis",
                     status.lookups);
    metric_put_total(out, "ceryx_lookups_joined_total", "The same, while another one was under way",
                     status.joined);
    metric_put_total(out, "ceryx_lookups_found_total", "Look-ups that made a route", status.found);
    metric_put_total(out, "ceryx_lookups_missing_total", "Look-ups of hosts that are not there",
                     status.missing);
    metric_put_total(out, "ceryx_lookups_negative_total",
                     "Hosts that were not there a moment ago, not asked again", status.negative);
    metric_put_total(out, "ceryx_lookups_over_total",
                     "Hosts unknown at once: too many look-ups under way", status.over);
    metric_put_total(out, "ceryx_lookups_failed_total",
                     "Look-ups without an answer in ceryx.miss_timeout", status.failed);
    metric_put_total(out, "ceryx_scans_total", "Scans of Ceryx' keys", status.scans);
    metric_put_family(out, "ceryx_scan_seconds", "How long the last one took", "gauge");
    buf_printf(out, "pointsman_ceryx_scan_seconds %.3f\n", (double)status.scan_ms / 1e3);
    metric_put_total(out, "ceryx_notifications_total", "Notifications of Ceryx' keys",
                     status.notifications);
}
