// SPDX-License-Identifier: MIT
// Ceryx' API: what is shown. Routes that its model has no words for are not there.
#include "admin/ceryx_api.h"
#include "base/clock.h"
#include "http/uri.h"

enum { SLICE_RECORDS = 256 };

bool ceryx_read_key(struct call *call, struct problems *problems)
{
    struct str raw = call->rest[0];
    char *text = malloc(raw.len + 1);
    size_t len = 0;
    free(call->key);
    call->key = NULL;
    call->noun = NOUN_ROUTE;
    if (text == NULL) {
        problems_add(problems, ERR_MEMORY, "/source", "out of memory");
    } else if (uri_decode(raw, text, &len) != 0) {
        problems_add(problems, ERR_INVALID, "/source", "source: has a broken percent-encoding");
    } else if (ceryx_key(str_make(text, len), &call->key, problems) != 0) {
        call->key = NULL;
    }
    free(text);
    return call->key != NULL;
}

// "No route found for HOST.", with the host as in the URL.
static void answer_missing(struct call *call)
{
    struct str raw = call->rest[0];
    char text[300];
    size_t len = 0;
    struct str host = raw;
    if (raw.len <= sizeof text && uri_decode(raw, text, &len) == 0) {
        host = str_make(text, len);
    }
    answer_status(call, 404, "No route found for %.*s.", host.len < 300 ? (int)host.len : 300,
                  host.p);
}

static void put_member(struct buf *out, const char *name, struct str value)
{
    buf_printf(out, ",\"%s\":", name);
    if (value.p == NULL) {
        buf_put(out, STR("null"));
    } else {
        buf_put_json(out, value);
    }
}

void ceryx_put_source(struct buf *out, const struct ceryx_source *source)
{
    buf_put(out, STR("{\"source\":"));
    buf_put_json(out, source->host);
    put_member(out, "target", source->target);
    buf_printf(out, ",\"settings\":{\"enforce_https\":%s",
               str_eq(source->enforce_https, STR("1")) ? "true" : "false");
    put_member(out, "mode", source->mode);
    put_member(out, "certificate_path", source->certificate_path);
    put_member(out, "key_path", source->key_path);
    buf_put(out, STR("}}"));
}

char *ceryx_load(struct admin *admin, enum noun noun, struct str name)
{
    struct store_record record;
    if (store_count(admin->store, noun) == 0 || store_get(admin->store, noun, name, &record) != 0) {
        return NULL;
    }
    return str_dup(record.value);
}

// A stored route as ceryx_put_source() does it; what else belongs to it is read from the store. 0;
// ERR_NOT_FOUND: it cannot be shown; ERR_MEMORY.
static int put_route(struct admin *admin, struct buf *out, struct str key, struct str route)
{
    if (ceryx_host(key).p == NULL) {
        return ERR_NOT_FOUND;
    }
    char name[CERYX_NAME_MAX + 1];
    ceryx_name(key, name);
    struct str needle = STR("\"pool\":\"ceryx");
    char *pool =
        str_find(route, needle) == SIZE_MAX ? NULL : ceryx_load(admin, NOUN_POOL, str_from_c(name));
    char *certificate = ceryx_load(admin, NOUN_CERTIFICATE, str_from_c(name));
    struct ceryx_source source;
    char *memory = NULL;
    int err = ceryx_show(key, route, str_from_c(pool), str_from_c(certificate), &source, &memory);
    if (err == 0) {
        ceryx_put_source(out, &source);
    }
    free(memory);
    free(pool);
    free(certificate);
    return err;
}

void call_ceryx_get(struct call *call)
{
    struct problems problems;
    problems_init(&problems);
    bool is_host = ceryx_read_key(call, &problems);
    bool is_memory = problems.err == ERR_MEMORY;
    problems_fini(&problems);
    struct buf out;
    buf_init(&out, 0);
    char *route = is_host ? ceryx_load(call->admin, NOUN_ROUTE, str_from_c(call->key)) : NULL;
    int err = is_memory ? ERR_MEMORY
              : route == NULL
                  ? ERR_NOT_FOUND
                  : put_route(call->admin, &out, str_from_c(call->key), str_from_c(route));
    if (err == 0 && out.failed) {
        err = ERR_MEMORY;
    }
    if (err == ERR_NOT_FOUND) {
        answer_missing(call);
    } else if (err != 0) {
        answer_err(call, err);
    } else {
        answer_json(call, 200, buf_str(&out));
    }
    free(route);
    buf_fini(&out);
}

// ---- the list, in slices ----

struct ceryx_list {
    struct admin *admin;
    struct buf *out;  // of the step
    struct buf after; // the last key that was looked at
    bool is_begun;
    bool has_shown;
    unsigned in_slice;
    uint64_t deadline_ns;
};

static void free_list(struct call *call)
{
    struct ceryx_list *list = call->state;
    buf_fini(&list->after);
    free(list);
}

static bool on_route(void *context, const struct store_record *record)
{
    struct ceryx_list *list = context;
    struct buf *out = list->out;
    list->in_slice++;
    buf_clear(&list->after);
    buf_put(&list->after, record->key);
    size_t before = out->len;
    buf_put(out, list->has_shown ? STR(",") : STR(""));
    if (put_route(list->admin, out, record->key, record->value) == 0) {
        list->has_shown = true;
    } else {
        out->len = before;
    }
    return out->len < ADMIN_SLICE_LEN && clock_monotonic_ns() < list->deadline_ns;
}

static enum flow step_list(struct call *call, struct buf *out)
{
    struct ceryx_list *list = call->state;
    list->out = out;
    list->in_slice = 0;
    list->deadline_ns = clock_monotonic_ns() + ADMIN_SLICE_NS;
    buf_put(out, list->is_begun ? STR("") : STR("["));
    list->is_begun = true;
    struct buf after;
    buf_init(&after, 0);
    buf_put(&after, buf_str(&list->after)); // the visitor changes it
    int err = after.failed ? ERR_MEMORY
                           : store_list(list->admin->store, NOUN_ROUTE, buf_str(&after), STR_NULL,
                                        SLICE_RECORDS, on_route, list);
    buf_fini(&after);
    if (err != 0 || list->after.failed) {
        return FLOW_CUT;
    }
    bool was_cut = out->len >= ADMIN_SLICE_LEN || clock_monotonic_ns() >= list->deadline_ns;
    if (list->in_slice == SLICE_RECORDS || (was_cut && list->in_slice > 0)) {
        return FLOW_MORE;
    }
    buf_put(out, STR("]\n"));
    return FLOW_END;
}

static const struct call_ops list_ops = {.step = step_list, .free_state = free_list};

void call_ceryx_list(struct call *call)
{
    struct ceryx_list *list = calloc(1, sizeof *list);
    if (list == NULL) {
        answer_err(call, ERR_MEMORY);
        return;
    }
    list->admin = call->admin;
    buf_init(&list->after, 0);
    call->state = list;
    call->ops = &list_ops;
    answer_begin(call, 200, "application/json");
}
