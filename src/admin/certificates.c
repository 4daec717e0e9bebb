// SPDX-License-Identifier: MIT
// What is known of certificates and TLS: for /v1/status and /metrics.
#include "admin/admin_int.h"

static void read_counts(const struct admin *admin, struct cert_counts *counts)
{
    *counts = (struct cert_counts){0};
    if (admin->deps.certs != NULL) {
        cert_get_counts(admin->deps.certs, counts);
    }
}

void certificates_put_metrics(const struct admin *admin, struct buf *out)
{
    struct cert_counts counts;
    read_counts(admin, &counts);
    metric_put_gauge(out, "certificates", "Certificates that are live", counts.certificates);
    metric_put_gauge(out, "certificate_names", "Names that have a certificate", counts.names);
    metric_put_gauge(out, "certificates_loaded", "Certificates that are parsed and kept",
                     counts.loaded);
    metric_put_total(out, "certificate_loads_total", "Certificates loaded for a handshake",
                     counts.loads);
    metric_put_total(out, "certificate_load_failures_total",
                     "Certificates that could not be loaded", counts.load_failures);
    metric_put_total(out, "certificate_evictions_total",
                     "Loaded certificates dropped at limits.certificates_loaded", counts.evictions);
    metric_put_gauge(out, "certificate_waits", "Handshakes that wait for a certificate",
                     counts.waits);
}

static json_t *encode_certificates(const struct admin *admin)
{
    struct cert_counts counts;
    read_counts(admin, &counts);
    return json_pack("{s:I,s:I,s:I}", "count", (json_int_t)counts.certificates, "names",
                     (json_int_t)counts.names, "loaded", (json_int_t)counts.loaded);
}

void certificates_put_status(const struct admin *admin, json_t *status)
{
    // Without memory a member is missing, and with the first one all of the answer.
    json_object_set_new(status, "certificates", encode_certificates(admin));
    json_object_set_new(
        status, "tls",
        json_pack("{s:I,s:I,s:I}", "handshakes",
                  (json_int_t)stats_counter_sum(COUNTER_tls_handshakes_total), "resumed",
                  (json_int_t)stats_counter_sum(COUNTER_tls_resumed_total), "failed",
                  (json_int_t)stats_counter_sum(COUNTER_tls_failed_total)));
}
