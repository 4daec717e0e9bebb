// SPDX-License-Identifier: MIT
#include "net/tls.h"
#include "upstream/prober_int.h"
#include <stdlib.h>

// How much of the beginning of `text` ends at each of its bytes (Knuth, Morris, Pratt).
static void fill_fallback(struct str text, uint16_t *fallback)
{
    size_t matched = 0;
    for (size_t i = 0; i < text.len; i++) {
        while (i > 0 && matched > 0 && text.p[i] != text.p[matched]) {
            matched = fallback[matched - 1];
        }
        if (i > 0 && text.p[i] == text.p[matched]) {
            matched++;
        }
        fallback[i] = (uint16_t)matched;
    }
}

static struct str put(char **at, struct str text)
{
    struct str copy = {*at, text.len};
    if (text.len > 0) {
        memcpy(*at, text.p, text.len);
    }
    *at += text.len;
    return copy;
}

struct spec *spec_new(const struct probe_spec *from)
{
    size_t ranges_len = from->status_count * sizeof *from->statuses;
    size_t fallback_len = from->body.len * sizeof(uint16_t);
    size_t text_len = from->server_name.len + from->host.len + from->path.len + from->body.len;
    if (from->body.len > PROBE_BODY_MAX - 1) {
        return NULL; // it could never be found; declarations do not allow it
    }
    struct spec *spec = malloc(sizeof *spec + ranges_len + fallback_len + text_len);
    if (spec == NULL) {
        return NULL;
    }
    spec->is = *from;
    struct status_range *ranges = (struct status_range *)(spec + 1);
    if (ranges_len > 0) {
        memcpy(ranges, from->statuses, ranges_len);
    }
    spec->is.statuses = ranges;
    uint16_t *fallback = (uint16_t *)(ranges + from->status_count);
    fill_fallback(from->body, fallback);
    spec->fallback = fallback;
    char *at = (char *)(fallback + from->body.len);
    spec->is.server_name = put(&at, from->server_name);
    spec->is.host = put(&at, from->host);
    spec->is.path = put(&at, from->path);
    spec->is.body = put(&at, from->body);
    spec->is.tls = from->tls == NULL ? NULL : tls_context_ref(from->tls);
    return spec;
}

void spec_free(struct spec **place)
{
    struct spec *spec = *place;
    *place = NULL;
    if (spec != NULL) {
        tls_context_unref(&spec->is.tls);
        free(spec);
    }
}
