// SPDX-License-Identifier: MIT
// One object: GET, PUT, PATCH, DELETE.
#include "admin/admin_int.h"
#include "http/uri.h"

static bool has_escaped_slash(struct str text)
{
    for (size_t i = 0; i + 2 < text.len; i++) {
        if (text.p[i] == '%' && text.p[i + 1] == '2' && ascii_lower(text.p[i + 2]) == 'f') {
            return true;
        }
    }
    return false;
}

bool object_key(struct call *call)
{
    struct str raw = call->rest[0];
    struct problems problems;
    problems_init(&problems);
    int err = 0;
    char *text = malloc(raw.len + 1);
    size_t len = 0;
    call->noun = (enum noun)call->row->noun;
    if (text == NULL) {
        err = problems_add(&problems, ERR_MEMORY, "", "out of memory");
    } else if (has_escaped_slash(raw)) {
        err = problems_add(&problems, ERR_INVALID, "", "an encoded '/' cannot be in a key");
    } else if (uri_decode(raw, text, &len) != 0) {
        err = problems_add(&problems, ERR_SYNTAX, "", "the key has a broken percent-encoding");
    } else {
        free(call->key);
        call->key = NULL;
        err = declaration_key(call->noun, str_make(text, len), &call->key, &problems);
    }
    if (err != 0) {
        answer_problems(call, &problems);
    }
    free(text);
    problems_fini(&problems);
    return err == 0;
}

bool object_wait(struct call *call)
{
    struct str value;
    if (call_param(call, STR("wait"), &value)) {
        if (str_eq(value, STR("none"))) {
            call->wait = WAIT_NONE;
        } else if (str_eq(value, STR("fleet"))) {
            call->wait = WAIT_FLEET;
        } else if (!str_eq(value, STR("node"))) {
            answer_status(call, 400, "wait is node, fleet or none");
            return false;
        }
    }
    uint64_t ms = ADMIN_WAIT_DEFAULT_MS;
    if (call_param(call, STR("timeout"), &value) &&
        (text_duration_ms(value, &ms) != 0 || ms > ADMIN_WAIT_MAX_MS)) {
        answer_status(call, 400, "timeout is a duration of at most 1h, like 5s");
        return false;
    }
    call->wait_ms = ms;
    return true;
}

json_t *object_body(struct call *call)
{
    struct problems problems;
    problems_init(&problems);
    json_t *tree = NULL;
    if (call->body.len == 0) {
        problems_add(&problems, ERR_SYNTAX, "", "the body is empty: a JSON object is needed");
    } else {
        tree = model_json_parse(buf_str(&call->body), &problems);
    }
    if (tree == NULL) {
        answer_problems(call, &problems);
    }
    problems_fini(&problems);
    return tree;
}

static bool read_record(struct call *call, struct store_record *record)
{
    int err = store_get(call->admin->store, call->noun, str_from_c(call->key), record);
    if (err == ERR_NOT_FOUND) {
        answer_status(call, 404, "%.*s \"%s\" does not exist", STR_ARG(noun_name(call->noun)),
                      call->key);
    } else if (err != 0) {
        answer_err(call, err);
    }
    return err == 0;
}

json_t *object_load(struct call *call, uint64_t *revision)
{
    struct store_record record;
    if (!read_record(call, &record)) {
        return NULL;
    }
    *revision = record.revision;
    json_t *tree = json_loadb(record.value.p, record.value.len, 0, NULL);
    if (tree == NULL) {
        answer_err(call, ERR_MEMORY);
    }
    return tree;
}

void call_object_get(struct call *call)
{
    struct store_record record;
    if (!object_key(call) || !read_record(call, &record)) {
        return;
    }
    bool any = false;
    call->etag = record.revision;
    char *live = call->noun == NOUN_CERTIFICATE
                     ? certificates_live_value(call->admin, record.key, record.value)
                     : NULL;
    if (live == NULL && call->if_none_match.len > 0 &&
        text_etag_matches(call->if_none_match, record.revision, &any)) {
        answer_send(call, 304, NULL, STR_NULL);
        return;
    }
    answer_json(call, 200, live != NULL ? str_from_c(live) : record.value);
    free(live);
}

// What the record's revision is now; 0: there is none.
static uint64_t current_revision(struct call *call)
{
    struct store_record record;
    int err = store_get(call->admin->store, call->noun, str_from_c(call->key), &record);
    return err == 0 ? record.revision : 0;
}

bool object_condition(struct call *call, struct store_change *change)
{
    bool any = false;
    if (call->if_match.len > 0) {
        uint64_t now = current_revision(call);
        call->is_conditional = true;
        if (!text_etag_matches(call->if_match, now, &any) || now == 0) {
            answer_status(call, 412, "If-Match: the current ETag is %s%llu%s", now == 0 ? "" : "\"",
                          (unsigned long long)now, now == 0 ? " (none)" : "\"");
            return false;
        }
        change->if_match_any = any;
        change->if_match = any ? 0 : now;
    }
    if (call->if_none_match.len > 0) {
        uint64_t now = current_revision(call);
        bool is_match = text_etag_matches(call->if_none_match, now, &any);
        if (now != 0 && is_match) {
            answer_status(call, 412, "If-None-Match: it exists, its ETag is \"%llu\"",
                          (unsigned long long)now);
            return false;
        }
        change->if_none_match = any;
        call->is_conditional = call->is_conditional || any;
    }
    return true;
}

void object_submit(struct call *call, struct store_change *change,
                   void (*on_done)(struct store_request *request))
{
    struct store_request *request = store_request_new(1);
    if (request == NULL) {
        store_change_fini(change);
        answer_err(call, ERR_MEMORY);
        return;
    }
    request->changes[0] = *change;
    *change = (struct store_change){.noun = change->noun};
    request->wants_fleet = call->wait == WAIT_FLEET;
    request->loop = call->admin->loop;
    request->on_done = on_done;
    request->context = call;
    call_hold(call);
    submit_when_named(call, &request);
}

static void answer_unavailable(struct call *call)
{
    struct store_status status;
    (void)admin_store_state(call->admin, &status);
    answer_status(call, 503, "the store cannot write%s%s", status.detail[0] == '\0' ? "" : ": ",
                  status.detail);
}

// What became of a request that the store did not answer for, into the answer to come.
static void put_outcome(struct call *call, const struct store_request *request)
{
    if (request->err != ERR_UNAVAILABLE || request->outcome == STORE_NOT_WRITTEN) {
        return;
    }
    call->outcome = request->outcome == STORE_WRITTEN ? "written" : "unknown";
    call->revision = request->outcome == STORE_WRITTEN ? request->revision : 0;
    str_copy(call->request_id, sizeof call->request_id, str_from_c(request->id));
}

bool object_finish(struct call *call, const struct store_request *request)
{
    if (call->stream == NULL) {
        return false;
    }
    const struct store_change *change = &request->changes[0];
    if (request->err == 0) {
        call->revision = request->revision;
        return true;
    }
    bool is_conflict = request->err == ERR_PRECONDITION;
    if (is_conflict && !call->is_conditional && ++call->attempts < ADMIN_RETRY_MAX) {
        call->row->run(call);
        return false;
    }
    put_outcome(call, request);
    if (is_conflict && !call->is_conditional) {
        answer_status(call, 409, "others change it all the time: try again");
    } else if (change->problems.count > 0) {
        answer_problems(call, &change->problems);
    } else if (request->err == ERR_UNAVAILABLE) {
        answer_unavailable(call);
    } else if (request->err == ERR_NOT_FOUND) {
        answer_status(call, 404, "%.*s \"%s\" does not exist", STR_ARG(noun_name(call->noun)),
                      call->key);
    } else {
        answer_err(call, request->err);
    }
    return false;
}

static void on_put_done(struct store_request *request)
{
    struct call *call = request->context;
    if (object_finish(call, request)) {
        const struct store_change *change = &request->changes[0];
        unsigned status = change->was_new ? 201 : 200;
        call->etag = change->revision;
        answer_done(call, status, change->value, !change->was_same);
    }
    store_request_free(&request);
    call_drop(call);
}

// Takes the reference to `value`.
static void put_value(struct call *call, json_t *value, uint64_t if_match)
{
    struct problems problems;
    problems_init(&problems);
    struct store_change change;
    int err = change_build(call->admin, call->noun, call->key, value, &change, &problems);
    if (call->noun == NOUN_CERTIFICATE) {
        secret_wipe_json(value);
    }
    json_decref(value);
    if (err != 0) {
        answer_problems(call, &problems);
    } else if (!object_condition(call, &change)) {
        store_change_fini(&change);
    } else {
        if (change.if_match == 0) {
            change.if_match = if_match;
        }
        object_submit(call, &change, on_put_done);
    }
    problems_fini(&problems);
}

void call_object_put(struct call *call)
{
    if (!object_key(call) || !object_wait(call)) {
        return;
    }
    json_t *value = object_body(call);
    if (value != NULL) {
        put_value(call, value, 0);
    }
}

// What is stored with the patch in it, or NULL: answered.
static json_t *merge(struct call *call, json_t *stored, json_t *patch)
{
    if (call->noun == NOUN_CERTIFICATE) {
        return secret_merge(call, stored, patch);
    }
    json_t *merged = json_merge_patch(stored, patch);
    if (merged == NULL) {
        answer_err(call, ERR_MEMORY);
    }
    return merged;
}

void call_object_patch(struct call *call)
{
    if (!object_key(call) || !object_wait(call)) {
        return;
    }
    json_t *patch = object_body(call);
    if (patch == NULL) {
        return;
    }
    if (!json_is_object(patch)) {
        json_decref(patch);
        answer_status(call, 422, "a merge patch of an object is an object");
        return;
    }
    uint64_t revision = 0;
    json_t *value = object_load(call, &revision);
    if (value != NULL) {
        json_t *merged = merge(call, value, patch);
        json_decref(value);
        if (merged != NULL) {
            put_value(call, merged, revision);
        }
    }
    json_decref(patch);
}

static void on_delete_done(struct store_request *request)
{
    struct call *call = request->context;
    if (object_finish(call, request)) {
        answer_done(call, 204, NULL, false);
    }
    store_request_free(&request);
    call_drop(call);
}

void call_object_delete(struct call *call)
{
    struct store_change change;
    if (!object_key(call) || !object_wait(call)) {
        return;
    }
    if (change_build_delete(call->noun, call->key, &change) != 0) {
        answer_err(call, ERR_MEMORY);
        return;
    }
    if (!object_condition(call, &change)) {
        store_change_fini(&change);
        return;
    }
    object_submit(call, &change, on_delete_done);
}
