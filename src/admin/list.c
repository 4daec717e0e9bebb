// SPDX-License-Identifier: MIT
// Pages of objects, and everything: long answers, written in slices as the client takes them. Each
// slice goes on behind the last key, so a change meanwhile is in the answer or not, never half.
#include "admin/admin_int.h"
#include "base/clock.h"

struct listing {
    enum noun noun; // of the slice
    bool is_export;
    bool is_open;      // a page: its beginning is written
    bool is_begun;     // a page: it has an object
    bool has_more;     // a page: there is something behind its end
    unsigned left;     // objects left of the page
    unsigned in_slice; // objects that this slice has given
    struct str host;   // filter, in call->key; or empty
    struct buf after;  // the last key that was written
    const struct call *call;
    struct buf *out; // of the step
    uint64_t deadline_ns;
};

enum { SLICE_RECORDS = 256 };

static void free_listing(struct call *call)
{
    struct listing *listing = call->state;
    buf_fini(&listing->after);
    free(listing);
}

// One record of a page. Returns whether the slice goes on.
static bool put_item(void *context, const struct store_record *record)
{
    struct listing *listing = context;
    struct buf *out = listing->out;
    if (listing->left == 0 && !listing->is_export) {
        listing->has_more = true;
        return false;
    }
    if (listing->is_export) {
        buf_put(out, STR("{\"op\":\"put\",\"kind\":\""));
        buf_put(out, noun_name(record->noun));
        buf_put(out, STR("\",\"key\":"));
        buf_put_json(out, record->key);
        buf_put(out, STR(",\"value\":"));
        buf_put(out, record->value);
        buf_put(out, STR("}\n"));
    } else {
        buf_put(out, listing->is_begun ? STR(",") : STR(""));
        answer_put_value(listing->call, out, record->value);
        listing->left--;
    }
    listing->is_begun = true;
    listing->in_slice++;
    buf_clear(&listing->after);
    buf_put(&listing->after, record->key);
    return out->len < ADMIN_SLICE_LEN && listing->in_slice < SLICE_RECORDS &&
           clock_monotonic_ns() < listing->deadline_ns;
}

// Pools say their name in a list: their value does not hold it.
static bool put_pool(void *context, const struct store_record *record)
{
    struct listing *listing = context;
    if (listing->left == 0) {
        return put_item(context, record);
    }
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("{\"name\":"));
    buf_put_json(&text, record->key);
    struct str rest = str_from(record->value, 1);
    buf_put(&text, rest.len > 1 ? STR(",") : STR(""));
    buf_put(&text, rest);
    struct store_record named = *record;
    named.value = buf_str(&text);
    bool goes_on = put_item(context, &named);
    listing->out->failed = listing->out->failed || text.failed;
    buf_fini(&text);
    return goes_on;
}

// Visits the next slice. 0: this noun has no more; 1: it may; negative: err.
static int run_slice(struct call *call, struct listing *listing, struct buf *out)
{
    bool is_page = !listing->is_export;
    listing->out = out;
    listing->in_slice = 0;
    listing->deadline_ns = clock_monotonic_ns() + ADMIN_SLICE_NS;
    // One more than the page has: it tells whether there is a next page.
    unsigned limit = is_page && listing->left < SLICE_RECORDS ? listing->left + 1 : SLICE_RECORDS;
    struct buf after;
    buf_init(&after, 0);
    buf_put(&after, buf_str(&listing->after)); // the visitor changes it
    struct str host = is_page ? listing->host : STR_NULL;
    bool is_pool = is_page && listing->noun == NOUN_POOL;
    int err = after.failed ? ERR_MEMORY
                           : store_list(call->admin->store, listing->noun, buf_str(&after), host,
                                        limit, is_pool ? put_pool : put_item, listing);
    buf_fini(&after);
    if (err != 0) {
        return err;
    }
    bool was_cut = out->len >= ADMIN_SLICE_LEN || clock_monotonic_ns() >= listing->deadline_ns;
    return listing->in_slice == limit || (was_cut && listing->in_slice > 0) ? 1 : 0;
}

static enum flow step_page(struct call *call, struct buf *out)
{
    struct listing *listing = call->state;
    if (!listing->is_open) {
        buf_printf(out, "{\"%.*s\":[", STR_ARG(noun_plural(listing->noun)));
        listing->is_open = true;
    }
    int more = run_slice(call, listing, out);
    if (more < 0) {
        return FLOW_CUT;
    }
    if (more > 0 && !listing->has_more) {
        return FLOW_MORE;
    }
    buf_put_char(out, ']');
    if (listing->has_more) {
        buf_put(out, STR(",\"next\":"));
        buf_put_json(out, buf_str(&listing->after));
    }
    buf_put(out, STR("}\n"));
    return FLOW_END;
}

static enum flow step_export(struct call *call, struct buf *out)
{
    struct listing *listing = call->state;
    int more = run_slice(call, listing, out);
    if (more < 0) {
        return FLOW_CUT;
    }
    if (more > 0) {
        return FLOW_MORE;
    }
    // Pools come first, so that each block of a batch finds what its routes refer to.
    if (listing->noun == NOUN_ROUTE) {
        return FLOW_END;
    }
    listing->noun = NOUN_ROUTE;
    buf_clear(&listing->after);
    return FLOW_MORE;
}

static const struct call_ops page_ops = {.step = step_page, .free_state = free_listing};
static const struct call_ops export_ops = {.step = step_export, .free_state = free_listing};

static struct listing *make_listing(struct call *call, const struct call_ops *ops)
{
    struct listing *listing = calloc(1, sizeof *listing);
    if (listing == NULL) {
        answer_err(call, ERR_MEMORY);
        return NULL;
    }
    listing->call = call;
    buf_init(&listing->after, 0);
    call->state = listing;
    call->ops = ops;
    return listing;
}

// The host of the filter as keys have it, in call->key. False: answered.
static bool read_filter(struct call *call, struct listing *listing)
{
    struct str value;
    if (listing->noun != NOUN_ROUTE || !call_param(call, STR("host"), &value)) {
        return true;
    }
    struct problems problems;
    problems_init(&problems);
    int err = declaration_key(NOUN_ROUTE, value, &call->key, &problems);
    if (err == 0 && strchr(call->key, '/') != NULL) {
        err = problems_add(&problems, ERR_INVALID, "", "host: a host without a path is needed");
    }
    if (err != 0) {
        answer_problems(call, &problems);
    } else {
        listing->host = str_from_c(call->key);
    }
    problems_fini(&problems);
    return err == 0;
}

void call_list(struct call *call)
{
    struct listing *listing = make_listing(call, &page_ops);
    if (listing == NULL) {
        return;
    }
    listing->noun = (enum noun)call->row->noun;
    struct str value;
    uint64_t limit = ADMIN_LIST_DEFAULT;
    if (call_param(call, STR("limit"), &value) &&
        (str_to_u64(value, &limit) != 0 || limit == 0 || limit > ADMIN_LIST_MAX)) {
        answer_status(call, 400, "limit is 1 to %u", ADMIN_LIST_MAX);
        return;
    }
    if (!read_filter(call, listing)) {
        return;
    }
    if (call_param(call, STR("after"), &value)) {
        buf_put(&listing->after, value);
    }
    listing->left = (unsigned)limit;
    call->revision = publisher_revision(call->admin->publisher);
    answer_begin(call, 200, "application/json");
}

void call_export(struct call *call)
{
    struct listing *listing = make_listing(call, &export_ops);
    if (listing == NULL) {
        return;
    }
    listing->noun = NOUN_POOL;
    listing->is_export = true;
    call->revision = publisher_revision(call->admin->publisher);
    answer_begin(call, 200, "application/x-ndjson");
}
