// SPDX-License-Identifier: MIT
// Ceryx' API: POST, PUT and DELETE. A host is one request: its route, the pool of an https target, the
// certificate that its settings name, and with a Redis store both of Ceryx' keys.
#include "admin/ceryx_api.h"

// What a call is about to write.
struct plan {
    struct ceryx_parts parts;
    struct ceryx_present present;
    struct store_change changes[CERYX_CHANGE_MAX];
    unsigned count;
    struct store_extra *extras;
};

static bool has_record(struct call *call, enum noun noun, const char *key)
{
    struct store_record record;
    return store_get(call->admin->store, noun, str_from_c(key), &record) == 0;
}

static bool has_redis(const struct call *call)
{
    return config_store_is_redis(call->admin->deps.config);
}

// What is there under the host's names.
static void look_around(struct call *call, const char *name, struct ceryx_present *present)
{
    *present = (struct ceryx_present){
        .has_route = has_record(call, NOUN_ROUTE, call->key),
        .has_pool = has_record(call, NOUN_POOL, name),
        .has_certificate = has_record(call, NOUN_CERTIFICATE, name),
    };
}

static void free_plan(struct plan *plan)
{
    ceryx_parts_fini(&plan->parts);
    for (unsigned i = 0; i < plan->count; i++) {
        store_change_fini(&plan->changes[i]);
    }
    // A request knows how to free them.
    struct store_request *request = plan->extras == NULL ? NULL : store_request_new(1);
    if (request != NULL) {
        request->extras = plan->extras;
        store_request_free(&request);
    }
    *plan = (struct plan){0};
}

// Empties the plan.
static void submit(struct call *call, struct plan *plan,
                   void (*on_done)(struct store_request *request))
{
    struct store_request *request = store_request_new(plan->count);
    if (request == NULL) {
        answer_err(call, ERR_MEMORY);
        return;
    }
    for (unsigned i = 0; i < plan->count; i++) {
        request->changes[i] = plan->changes[i];
    }
    plan->count = 0;
    request->extras = plan->extras;
    plan->extras = NULL;
    request->loop = call->admin->loop;
    request->on_done = on_done;
    request->context = call;
    call_hold(call);
    submit_when_named(call, &request);
}

// Invalid input is 400 here, whatever is wrong with it.
static void answer_invalid(struct call *call, const struct problems *problems)
{
    if (problems->err == ERR_MEMORY) {
        answer_err(call, ERR_MEMORY);
    } else if (problems->count > 0) {
        answer_status(call, 400, "%s", problems->items[0].detail);
    } else {
        answer_status(call, 400, "%s", err_text(problems->err));
    }
}

// Why the store has refused it; NULL: it does not say.
static const char *refusal_of(const struct store_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        if (request->changes[i].problems.count > 0) {
            return request->changes[i].problems.items[0].detail;
        }
    }
    return NULL;
}

static void answer_refused(struct call *call, const struct store_request *request)
{
    const char *why = refusal_of(request);
    why = why == NULL ? err_text(request->err) : why;
    if (request->err == ERR_UNAVAILABLE && request->outcome != STORE_NOT_WRITTEN) {
        answer_status(call, 503, "%s (the outcome is %s, request %s)", why,
                      request->outcome == STORE_UNKNOWN ? "unknown" : "written", request->id);
    } else if (request->err == ERR_UNAVAILABLE) {
        answer_status(call, 503, "the store cannot write: %s", why);
    } else {
        answer_status(call, request->err == ERR_INVALID ? 400 : (unsigned)err_status(request->err),
                      "%s", why);
    }
}

// True: it is written. False: answered, begun again, or nobody listens.
static bool finish(struct call *call, const struct store_request *request)
{
    if (call->stream == NULL) {
        return false;
    }
    call->revision = request->err == 0 ? request->revision : 0;
    // Somebody has made or deleted what was there when the request was made: it is made anew.
    bool was_overtaken = request->err == ERR_PRECONDITION || request->err == ERR_NOT_FOUND;
    if (was_overtaken && ++call->attempts < ADMIN_RETRY_MAX) {
        call->row->run(call);
    } else if (was_overtaken) {
        answer_status(call, 409, "others change it all the time: try again");
    } else if (request->err != 0) {
        answer_refused(call, request);
    }
    return request->err == 0;
}

// ---- POST and PUT ----

static struct str value_of(const struct store_request *request, enum noun noun)
{
    for (unsigned i = 0; i < request->count; i++) {
        if (request->changes[i].noun == noun && request->changes[i].value != NULL) {
            return str_from_c(request->changes[i].value);
        }
    }
    return STR_NULL;
}

// The names to wait for are those of the pool, if the host has one of its own.
static void wait_for_pool(struct call *call, const struct store_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        const struct store_change *change = &request->changes[i];
        char *key = change->noun == NOUN_POOL && change->value != NULL
                        ? str_dup(str_from_c(change->key))
                        : NULL;
        if (key != NULL) {
            free(call->key);
            call->key = key;
            call->noun = NOUN_POOL;
        }
    }
}

static void answer_written(struct call *call, const struct store_request *request)
{
    struct str key = str_from_c(call->key);
    char name[CERYX_NAME_MAX + 1];
    ceryx_name(key, name);
    char *certificate = ceryx_load(call->admin, NOUN_CERTIFICATE, str_from_c(name));
    struct ceryx_source source;
    char *memory = NULL;
    struct buf out;
    buf_init(&out, 0);
    int err = ceryx_show(key, value_of(request, NOUN_ROUTE), value_of(request, NOUN_POOL),
                         str_from_c(certificate), &source, &memory);
    if (err == 0) {
        ceryx_put_source(&out, &source);
        err = out.failed ? ERR_MEMORY : 0;
    }
    if (err != 0) {
        answer_err(call, err);
    } else {
        wait_for_pool(call, request);
        answer_when_named(call, call->method == METHOD_POST ? 201 : 200, buf_str(&out));
    }
    free(memory);
    free(certificate);
    buf_fini(&out);
}

static void on_written(struct store_request *request)
{
    struct call *call = request->context;
    if (finish(call, request)) {
        answer_written(call, request);
    }
    store_request_free(&request);
    call_drop(call);
}

// A body that says nothing of the paths leaves the certificate alone. *kept holds what the source then
// points to (malloc).
static void keep_certificate(struct call *call, const char *name, struct ceryx_source *source,
                             char **kept)
{
    char *text = ceryx_load(call->admin, NOUN_CERTIFICATE, str_from_c(name));
    json_t *value = text == NULL ? NULL : json_loads(text, 0, NULL);
    struct str chain = str_from_c(json_string_value(json_object_get(value, "chain_file")));
    struct str key = str_from_c(json_string_value(json_object_get(value, "key_file")));
    if (chain.len > 0 && key.len > 0) {
        *kept = malloc(chain.len + key.len);
    }
    if (*kept != NULL) {
        memcpy(*kept, chain.p, chain.len);
        memcpy(*kept + chain.len, key.p, key.len);
        source->certificate_path = str_make(*kept, chain.len);
        source->key_path = str_make(*kept + chain.len, key.len);
    }
    json_decref(value);
    free(text);
}

// Both keys as Ceryx would have written them, and that nobody needs to adopt them.
static int add_extras(struct call *call, const struct ceryx_source *source, struct plan *plan)
{
    const struct config *config = call->admin->deps.config;
    if (!has_redis(call)) {
        return 0;
    }
    struct buf target;
    buf_init(&target, 0);
    bool has_scheme = str_find(source->target, STR("://")) != SIZE_MAX;
    buf_put(&target, has_scheme ? STR("") : STR("http://"));
    buf_put(&target, source->target);
    struct ceryx_source written = *source;
    written.host = ceryx_host(str_from_c(call->key));
    written.target = buf_str(&target);
    int err =
        target.failed ? ERR_MEMORY : ceryx_write(config->ceryx.prefix, &written, &plan->extras);
    if (err == 0) {
        err = ceryx_mark(config->store.prefix, &written, str_from_c(plan->parts.route),
                         &plan->extras);
    }
    buf_fini(&target);
    return err;
}

static int make_plan(struct call *call, struct ceryx_body *body, struct plan *plan,
                     struct problems *problems)
{
    struct ceryx_source *source = &body->source;
    char *kept = NULL;
    char name[CERYX_NAME_MAX + 1];
    ceryx_name(str_from_c(call->key), name);
    look_around(call, name, &plan->present);
    if (!body->names_certificate && plan->present.has_certificate) {
        keep_certificate(call, name, source, &kept);
    }
    source->host = ceryx_host(str_from_c(call->key));
    int err = ceryx_translate(source, &plan->parts, problems);
    if (err == 0 && kept != NULL) {
        free(plan->parts.certificate); // it stays as it is
        plan->parts.certificate = NULL;
        plan->present.has_certificate = false;
    }
    if (err == 0) {
        err = ceryx_build(call->admin->deps.seal, &plan->parts, &plan->present, true, plan->changes,
                          &plan->count, problems);
    }
    if (err == 0 && add_extras(call, source, plan) != 0) {
        err = problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    free(kept);
    return err;
}

static void run_write(struct call *call, bool with_source)
{
    struct ceryx_body body = {0};
    struct plan plan = {0};
    struct problems problems;
    problems_init(&problems);
    int err = 0;
    if (!with_source && !ceryx_read_key(call, &problems)) {
        err = problems.err;
    }
    if (err == 0) {
        err = ceryx_read_body(call, with_source, &body, &problems);
    }
    if (err == 0 && with_source) {
        free(call->key);
        err = ceryx_key(body.source.host, &call->key, &problems);
    }
    if (err == 0) {
        err = make_plan(call, &body, &plan, &problems);
    }
    if (err != 0) {
        answer_invalid(call, &problems);
    } else {
        submit(call, &plan, on_written);
    }
    free_plan(&plan);
    ceryx_body_fini(&body);
    problems_fini(&problems);
}

void call_ceryx_post(struct call *call)
{
    run_write(call, true);
}

void call_ceryx_put(struct call *call)
{
    run_write(call, false);
}

// ---- DELETE ----

static void on_deleted(struct store_request *request)
{
    struct call *call = request->context;
    if (finish(call, request)) {
        answer_send(call, 204, NULL, STR_NULL);
    }
    store_request_free(&request);
    call_drop(call);
}

// Ceryx' keys may be there without a route (nobody has adopted them yet, or nobody can): what deletes them
// needs a request, so it makes a route and deletes it.
static int make_pretext(struct call *call, struct plan *plan, struct problems *problems)
{
    json_t *value = json_pack("{s:{s:i}}", "respond", "status", 503);
    int err = value == NULL ? problems_add(problems, ERR_MEMORY, "", "out of memory")
                            : change_build(call->admin, NOUN_ROUTE, call->key, value,
                                           &plan->changes[0], problems);
    json_decref(value);
    if (err != 0) {
        return err;
    }
    plan->changes[0].if_none_match = true;
    plan->count = 2;
    err = change_build_delete(NOUN_ROUTE, call->key, &plan->changes[1]);
    return err == 0 ? 0 : problems_add(problems, err, "", "out of memory");
}

static int plan_delete(struct call *call, struct plan *plan, struct problems *problems)
{
    const struct config *config = call->admin->deps.config;
    char name[CERYX_NAME_MAX + 1];
    struct str host = ceryx_host(str_from_c(call->key));
    ceryx_name(str_from_c(call->key), name);
    look_around(call, name, &plan->present);
    plan->parts.key = str_dup(str_from_c(call->key));
    plan->parts.name = str_dup(str_from_c(name));
    if (plan->parts.key == NULL || plan->parts.name == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    int err = ceryx_build(call->admin->deps.seal, &plan->parts, &plan->present, true, plan->changes,
                          &plan->count, problems);
    if (err != 0 || !has_redis(call)) {
        return err;
    }
    if (plan->count == 0) {
        err = make_pretext(call, plan, problems);
    }
    if (err == 0 && (ceryx_erase(config->ceryx.prefix, host, &plan->extras) != 0 ||
                     ceryx_unmark(config->store.prefix, host, &plan->extras) != 0)) {
        err = problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    return err;
}

void call_ceryx_delete(struct call *call)
{
    struct plan plan = {0};
    struct problems problems;
    problems_init(&problems);
    bool is_host = ceryx_read_key(call, &problems);
    int err = problems.err == ERR_MEMORY ? ERR_MEMORY : 0;
    if (is_host) {
        err = plan_delete(call, &plan, &problems);
    }
    if (err != 0) {
        answer_invalid(call, &problems);
    } else if (plan.count == 0) {
        answer_send(call, 204, NULL, STR_NULL); // there is none, or no host is called that
    } else {
        submit(call, &plan, on_deleted);
    }
    free_plan(&plan);
    problems_fini(&problems);
}
