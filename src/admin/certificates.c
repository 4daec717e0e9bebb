// SPDX-License-Identifier: MIT
// What is known of certificates and TLS: for /v1/status and /metrics, and what their files say now.
#include "admin/admin_int.h"
#include "cert/table.h"
#include "model/value.h"

enum { DAY_SEC = 86400 };

static void read_counts(const struct admin *admin, struct cert_counts *counts)
{
    *counts = (struct cert_counts){0};
    if (admin->deps.certs != NULL) {
        cert_get_counts(admin->deps.certs, counts);
    }
}

static void put_expiring(const struct admin *admin, struct buf *out)
{
    static const unsigned days[] = {1, 7, 30};
    metric_put_family(out, "certificates_expiring",
                      "Certificates that end within this time, or have ended", "gauge");
    for (unsigned i = 0; i < sizeof days / sizeof days[0]; i++) {
        buf_printf(
            out, "pointsman_certificates_expiring{within=\"%ud\"} %llu\n", days[i],
            (unsigned long long)publisher_expiring(admin->publisher, (uint64_t)days[i] * DAY_SEC));
    }
    char name[VALUE_NAME_MAX + 1];
    uint64_t not_after = publisher_next_expiry(admin->publisher, name, sizeof name);
    if (not_after != 0) {
        metric_put_gauge(out, "certificate_next_expiry_timestamp_seconds",
                         "When the first certificate ends (Unix time)", not_after);
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
    put_expiring(admin, out);
}

static json_t *encode_soonest(const struct admin *admin)
{
    char name[VALUE_NAME_MAX + 1];
    char text[TEXT_TIME_LEN];
    uint64_t not_after = publisher_next_expiry(admin->publisher, name, sizeof name);
    if (not_after == 0) {
        return json_null();
    }
    text_time(text, not_after);
    return json_pack("{s:s,s:s}", "name", name, "not_after", text);
}

static json_t *encode_certificates(const struct admin *admin)
{
    struct cert_counts counts;
    read_counts(admin, &counts);
    const struct publisher *publisher = admin->publisher;
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:o}", "count", (json_int_t)counts.certificates, "names",
                     (json_int_t)counts.names, "loaded", (json_int_t)counts.loaded, "expiring_7d",
                     (json_int_t)publisher_expiring(publisher, UINT64_C(7) * DAY_SEC),
                     "expiring_30d",
                     (json_int_t)publisher_expiring(publisher, UINT64_C(30) * DAY_SEC), "soonest",
                     encode_soonest(admin));
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

static void set_text(json_t *value, const char *name, struct str text)
{
    json_object_set_new(value, name, json_stringn(text.p == NULL ? "" : text.p, text.len));
}

static void set_time(json_t *value, const char *name, uint64_t seconds)
{
    char text[TEXT_TIME_LEN];
    set_text(value, name, text_time(text, seconds));
}

static void set_facts(json_t *value, const struct cert_version *version)
{
    const struct certificate_facts *facts = &version->facts;
    json_t *names = json_array();
    for (unsigned i = 0; i < version->name_count; i++) {
        json_array_append_new(names, json_stringn(version->names[i].p, version->names[i].len));
    }
    json_object_set_new(value, "names", names);
    set_time(value, "not_before", facts->not_before);
    set_time(value, "not_after", facts->not_after);
    set_text(value, "subject", facts->subject);
    set_text(value, "issuer", facts->issuer);
    set_text(value, "serial", facts->serial);
    set_text(value, "fingerprint", facts->fingerprint);
    set_text(value, "key_type", facts->key_type);
    set_text(value, "content", facts->content);
}

char *certificates_live_value(const struct admin *admin, struct str name, struct str stored)
{
    if (admin->deps.certs == NULL || str_find(stored, STR("\"chain_file\"")) == SIZE_MAX) {
        return NULL;
    }
    const struct cert_slot *slot = cert_table_slot(admin->deps.certs, name);
    const struct cert_version *version = slot == NULL ? NULL : cert_slot_version(slot);
    json_t *value = version == NULL ? NULL : json_loadb(stored.p, stored.len, 0, NULL);
    const char *content = json_string_value(json_object_get(value, "content"));
    char *text = NULL;
    if (value != NULL && !str_eq(str_from_c(content), version->facts.content)) {
        set_facts(value, version);
        text = json_dumps(value, JSON_COMPACT);
    }
    json_decref(value);
    return text;
}
