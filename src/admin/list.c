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
    bool with_secrets; // an export: certificates with chain and key
    struct buf keys;   // the same: names of the slice, each terminated
    const struct call *call;
    struct buf *out; // of the step
    uint64_t deadline_ns;
};

enum {
    SLICE_RECORDS = 256,
    SLICE_SECRETS = 16, // each is read and opened by itself
};

static void free_listing(struct call *call)
{
    struct listing *listing = call->state;
    buf_fini(&listing->after);
    buf_fini(&listing->keys);
    free(listing);
}

static void put_line(struct buf *out, const struct store_record *record, struct str value)
{
    buf_put(out, STR("{\"op\":\"put\",\"kind\":\""));
    buf_put(out, noun_name(record->noun));
    buf_put(out, STR("\",\"key\":"));
    buf_put_json(out, record->key);
    buf_put(out, STR(",\"value\":"));
    buf_put(out, value);
    buf_put(out, STR("}\n"));
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
        put_line(out, record, record->value);
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

// Pools and certificates say their name in a list: their value does not hold it.
static bool put_named(void *context, const struct store_record *record)
{
    struct listing *listing = context;
    if (listing->left == 0) {
        return put_item(context, record);
    }
    char *live = record->noun == NOUN_CERTIFICATE
                     ? certificates_live_value(listing->call->admin, record->key, record->value)
                     : NULL;
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("{\"name\":"));
    buf_put_json(&text, record->key);
    struct str rest = str_from(live != NULL ? str_from_c(live) : record->value, 1);
    buf_put(&text, rest.len > 1 ? STR(",") : STR(""));
    buf_put(&text, rest);
    struct store_record named = *record;
    named.value = buf_str(&text);
    bool goes_on = put_item(context, &named);
    listing->out->failed = listing->out->failed || text.failed;
    buf_fini(&text);
    free(live);
    return goes_on;
}

// While a list is read, nothing else may be: the names first.
static bool note_key(void *context, const struct store_record *record)
{
    struct listing *listing = context;
    buf_put(&listing->keys, record->key);
    buf_put_char(&listing->keys, '\0');
    listing->in_slice++;
    buf_clear(&listing->after);
    buf_put(&listing->after, record->key);
    return true;
}

static int put_secret(struct call *call, struct str name, struct buf *out)
{
    struct store_record record;
    int err = store_get_secret(call->admin->store, NOUN_CERTIFICATE, name, &record);
    if (err != 0) {
        return err == ERR_NOT_FOUND ? 0 : err; // deleted meanwhile
    }
    json_t *value = json_loadb(record.value.p, record.value.len, 0, NULL);
    err = value == NULL ? ERR_MEMORY : secret_reveal(call->admin, &record, value);
    char *text = err == 0 ? json_dumps(value, JSON_COMPACT) : NULL;
    if (text != NULL) {
        put_line(out, &record, str_from_c(text));
        explicit_bzero(text, strlen(text));
    } else if (err == 0) {
        err = ERR_MEMORY;
    }
    free(text);
    secret_wipe_json(value);
    json_decref(value);
    return err;
}

// The certificates whose names were noted. 0, or a negative err: an export that leaves a key out without
// saying so would be no backup.
static int put_secrets(struct call *call, struct listing *listing, struct buf *out)
{
    int err = listing->keys.failed ? ERR_MEMORY : 0;
    struct str rest = buf_str(&listing->keys);
    while (err == 0 && rest.len > 0) {
        struct str name = str_from_c(rest.p);
        rest = str_from(rest, name.len + 1);
        err = put_secret(call, name, out);
    }
    buf_clear(&listing->keys);
    return err;
}

// How many a slice visits, and what it does with each.
static unsigned plan_slice(const struct listing *listing,
                           bool (**visit)(void *context, const struct store_record *record))
{
    if (listing->is_export) {
        bool is_secret = listing->with_secrets && listing->noun == NOUN_CERTIFICATE;
        *visit = is_secret ? note_key : put_item;
        return is_secret ? SLICE_SECRETS : SLICE_RECORDS;
    }
    *visit = listing->noun == NOUN_ROUTE ? put_item : put_named;
    // One more than the page has: it tells whether there is a next page.
    return listing->left < SLICE_RECORDS ? listing->left + 1 : SLICE_RECORDS;
}

// Visits the next slice. 0: this noun has no more; 1: it may; negative: err.
static int run_slice(struct call *call, struct listing *listing, struct buf *out)
{
    listing->out = out;
    listing->in_slice = 0;
    listing->deadline_ns = clock_monotonic_ns() + ADMIN_SLICE_NS;
    bool (*visit)(void *context, const struct store_record *record);
    unsigned limit = plan_slice(listing, &visit);
    struct buf after;
    buf_init(&after, 0);
    buf_put(&after, buf_str(&listing->after)); // the visitor changes it
    struct str host = listing->is_export ? STR_NULL : listing->host;
    int err = after.failed ? ERR_MEMORY
                           : store_list(call->admin->store, listing->noun, buf_str(&after), host,
                                        limit, visit, listing);
    buf_fini(&after);
    if (err == 0) {
        err = put_secrets(call, listing, out);
    }
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
    // What others refer to comes first, so that each block of a batch finds it.
    buf_clear(&listing->after);
    switch (listing->noun) {
    case NOUN_CERTIFICATE:
        listing->noun = NOUN_POOL;
        return FLOW_MORE;
    case NOUN_POOL:
        listing->noun = NOUN_ROUTE;
        return FLOW_MORE;
    case NOUN_ROUTE:
    case NOUN_TENANT:
    case NOUN_KEY:
    case NOUN_TICKETS:
    case NOUN_COUNT:
        break;
    }
    return FLOW_END;
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
    buf_init(&listing->keys, 0);
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
    listing->noun = NOUN_CERTIFICATE;
    listing->is_export = true;
    listing->with_secrets = call_switch(call, STR("secrets"));
    call->revision = publisher_revision(call->admin->publisher);
    answer_begin(call, 200, "application/x-ndjson");
}
