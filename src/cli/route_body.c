// SPDX-License-Identifier: MIT
#include "cli/route_body.h"
#include "cli/input.h"
#include "model/declaration.h"

const struct flag route_put_flags[] = {
    {"pool", "NAME", "send requests to this pool"},
    {"split", "POOL=WEIGHT", "send a share of the requests to this pool; repeated for each"},
    {"redirect", "URL", "answer with a redirect to an absolute URL or path"},
    {"redirect-status", "N", "301, 302, 303, 307 or 308 (default)"},
    {"keep-path", NULL, "redirect: append the path and query of the request"},
    {"respond", "STATUS", "answer with this status"},
    {"body", "TEXT", "respond: the page"},
    {"https", "MODE", "require: redirect plain HTTP to HTTPS; allow (default)"},
    {"hsts", "TIME", "tell browsers to use HTTPS only, for this time, like 365d"},
    {"client-ca", "FILE", "ask clients of the host for a certificate of these CAs (PEM)"},
    {"client-auth", "MODE", "client certificates: require (default) or optional"},
    {"passthrough", NULL, "pass TLS for the host on as it is, chosen by its name"},
    {"tenant", "ID", "whose route this is"},
    {"strip-path", NULL, "take the route's path off before the request is sent on"},
    {"target-path", "PATH", "put this in front of the path that is sent on"},
    {"host-header", "VALUE", "keep (default), target, or a literal host"},
    {"request-header", "NAME: VALUE", "set on requests; may be repeated"},
    {"response-header", "NAME: VALUE", "set on responses; may be repeated"},
    {"allow", "CIDR", "only these clients; may be repeated"},
    {"deny", "CIDR", "not these clients; may be repeated"},
    {"body-limit", "SIZE", "the longest request body, like 100m"},
    {"buffer-request", "SIZE", "read bodies up to this size before a target is chosen"},
    {"connect-timeout", "TIME", "until a target has accepted, like 1s"},
    {"response-timeout", "TIME", "until a target answers"},
    {"request-timeout", "TIME", "the whole exchange with all its attempts"},
    {"retries", "N", "how often a request may be sent again"},
    {"no-access-log", NULL, "keep its requests out of the access log"},
    {"set-json", "JSON", "more fields, as an object that is merged"},
    {"file", "FILE", "begin with the fields in this JSON or YAML file; - is standard input"},
    {0},
};

const struct flag pool_put_flags[] = {
    {"balance", "NAME", "least_requests (default), round_robin, random_two or hash"},
    {"hash", "WHAT",
     "balance hash: client_ip, path, key, header:NAME, cookie:NAME, query:NAME or form:NAME"},
    {"sticky", "COOKIE", "keep a client at its target by a cookie of this name"},
    {"health", "PATH", "check the targets by requests for this path"},
    {"health-type", "TYPE", "http (default), or tcp: check that they accept connections"},
    {"health-interval", "TIME", "between two checks of a target (default 5s)"},
    {"health-timeout", "TIME", "until a check has failed (default 2s)"},
    {"health-status", "STATUSES", "what a good check answers (default 200-399)"},
    {"max-fails", "N", "failed requests in 10s that eject a target (default 3; 0: never)"},
    {"slow-start", "TIME", "how long a new or recovered target gets less than its weight"},
    {"requests-per-target", "N", "at most so many requests at a time to a target (0: no bound)"},
    {"queue", "N", "so many requests wait when all targets are at that bound"},
    {"queue-timeout", "TIME", "how long each of them waits (default 1s)"},
    {"retry-budget", "PERCENT", "of the requests may be sent again (default 20; 100: no bound)"},
    {"protocol", "NAME", "to targets: auto (default), http1, h2 or h2c"},
    {"send-proxy", "VERSION", "send targets a PROXY header: off (default), v1 or v2"},
    {"tls-ca", "FILE", "https:// targets: the CAs to trust (PEM) instead of the system's"},
    {"tls-server-name", "NAME", "https:// targets: the name to ask for and to verify"},
    {"tls-client-certificate", "NAME", "https:// targets: the certificate to show them"},
    {"no-verify", NULL, "https:// targets: take any certificate"},
    {"keepalive", "N", "idle connections kept to each target"},
    {"connect-timeout", "TIME", "until a target has accepted, like 1s"},
    {"response-timeout", "TIME", "until a target answers"},
    {"request-timeout", "TIME", "the whole exchange with all its attempts"},
    {"set-json", "JSON", "more fields, as an object that is merged"},
    {"file", "FILE", "begin with the fields in this JSON or YAML file; - is standard input"},
    {0},
};

enum field_type {
    FIELD_TEXT,
    FIELD_FILE, // the text of a file
    FIELD_NUMBER,
    FIELD_TRUE,
    FIELD_FALSE,
    FIELD_LIST,   // appends a string
    FIELD_HEADER, // "Name: value" as a member of an object
    FIELD_SPLIT,  // "pool=weight" as an object of a list
};

// Which flag sets which member; `outer` is the object that it lies in, or NULL.
static const struct field {
    const char *flag;
    const char *outer;
    const char *name;
    enum field_type type;
} fields[] = {
    {"pool", NULL, "pool", FIELD_TEXT},
    {"split", NULL, "split", FIELD_SPLIT},
    {"redirect", "redirect", "to", FIELD_TEXT},
    {"redirect-status", "redirect", "status", FIELD_NUMBER},
    {"keep-path", "redirect", "keep_path", FIELD_TRUE},
    {"respond", "respond", "status", FIELD_NUMBER},
    {"body", "respond", "body", FIELD_TEXT},
    {"https", NULL, "https", FIELD_TEXT},
    {"hsts", NULL, "hsts", FIELD_TEXT},
    {"client-ca", "client_auth", "ca", FIELD_FILE},
    {"client-auth", "client_auth", "mode", FIELD_TEXT},
    {"passthrough", NULL, "passthrough", FIELD_TRUE},
    {"tenant", NULL, "tenant", FIELD_TEXT},
    {"strip-path", NULL, "strip_path", FIELD_TRUE},
    {"target-path", NULL, "target_path", FIELD_TEXT},
    {"host-header", NULL, "host_header", FIELD_TEXT},
    {"request-header", "request_headers", "set", FIELD_HEADER},
    {"response-header", "response_headers", "set", FIELD_HEADER},
    {"allow", NULL, "allow", FIELD_LIST},
    {"deny", NULL, "deny", FIELD_LIST},
    {"body-limit", "limits", "body", FIELD_TEXT},
    {"buffer-request", NULL, "buffer_request", FIELD_TEXT},
    {"connect-timeout", "timeouts", "connect", FIELD_TEXT},
    {"response-timeout", "timeouts", "response", FIELD_TEXT},
    {"request-timeout", "timeouts", "request", FIELD_TEXT},
    {"retries", NULL, "retries", FIELD_NUMBER},
    {"no-access-log", NULL, "access_log", FIELD_FALSE},
    {"balance", NULL, "balance", FIELD_TEXT},
    {"hash", NULL, "hash", FIELD_TEXT},
    {"sticky", "sticky", "cookie", FIELD_TEXT},
    {"health", "health", "path", FIELD_TEXT},
    {"health-type", "health", "type", FIELD_TEXT},
    {"health-interval", "health", "interval", FIELD_TEXT},
    {"health-timeout", "health", "timeout", FIELD_TEXT},
    {"health-status", "health", "status", FIELD_TEXT},
    {"max-fails", "passive", "max_fails", FIELD_NUMBER},
    {"slow-start", NULL, "slow_start", FIELD_TEXT},
    {"requests-per-target", "limits", "requests_per_target", FIELD_NUMBER},
    {"queue", "limits", "queue", FIELD_NUMBER},
    {"queue-timeout", "limits", "queue_timeout", FIELD_TEXT},
    {"retry-budget", NULL, "retry_budget", FIELD_NUMBER},
    {"protocol", NULL, "protocol", FIELD_TEXT},
    {"send-proxy", NULL, "send_proxy", FIELD_TEXT},
    {"tls-ca", "tls", "ca", FIELD_FILE},
    {"tls-server-name", "tls", "server_name", FIELD_TEXT},
    {"tls-client-certificate", "tls", "client_certificate", FIELD_TEXT},
    {"no-verify", "tls", "verify", FIELD_FALSE},
    {"keepalive", "keepalive", "idle", FIELD_NUMBER},
};

enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

// The member `name`, made by `make` when it is missing. Borrowed.
static json_t *open_member(json_t *object, const char *name, json_t *(*make)(void))
{
    json_t *member = json_object_get(object, name);
    if (member == NULL) {
        json_object_set_new(object, name, make());
        member = json_object_get(object, name);
    }
    return member;
}

static int refuse_value(const struct arg *arg, const char *expected)
{
    fprintf(stderr, "pointsman: --%s \"%s\": must be %s\n", arg->flag->name, arg->value, expected);
    return -1;
}

static int set_number(json_t *object, const char *name, const struct arg *arg)
{
    uint64_t value;
    if (str_to_u64(str_from_c(arg->value), &value) != 0 || value > UINT32_MAX) {
        return refuse_value(arg, "a number");
    }
    return json_object_set_new(object, name, json_integer((json_int_t)value));
}

static int set_header(json_t *object, const char *name, const struct arg *arg)
{
    struct str header;
    struct str value;
    if (!str_split(str_from_c(arg->value), ':', &header, &value) || header.len == 0) {
        return refuse_value(arg, "\"Name: value\"");
    }
    value = str_trim(value);
    return json_object_setn_new(open_member(object, name, json_object), header.p, header.len,
                                json_stringn(value.p, value.len));
}

static int add_split(json_t *object, const char *name, const struct arg *arg)
{
    struct str text = str_from_c(arg->value);
    size_t at = str_rfind_char(text, '=');
    uint64_t weight;
    if (at == SIZE_MAX || at == 0 || str_to_u64(str_from(text, at + 1), &weight) != 0 ||
        weight > UINT32_MAX) {
        return refuse_value(arg, "POOL=WEIGHT");
    }
    json_t *part = json_pack("{s:s%,s:I}", "pool", text.p, at, "weight", (json_int_t)weight);
    return json_array_append_new(open_member(object, name, json_array), part);
}

static int set_field(json_t *body, const struct field *field, const struct arg *arg)
{
    json_t *object = field->outer == NULL ? body : open_member(body, field->outer, json_object);
    int err = 0;
    switch (field->type) {
    case FIELD_TEXT:
        err = json_object_set_new(object, field->name, json_string(arg->value));
        break;
    case FIELD_FILE: {
        json_t *text = text_file_read(arg->value);
        if (text == NULL) {
            return -1;
        }
        err = json_object_set_new(object, field->name, text);
        break;
    }
    case FIELD_NUMBER:
        return set_number(object, field->name, arg);
    case FIELD_TRUE:
        err = json_object_set_new(object, field->name, json_true());
        break;
    case FIELD_FALSE:
        err = json_object_set_new(object, field->name, json_false());
        break;
    case FIELD_LIST:
        err = json_array_append_new(open_member(object, field->name, json_array),
                                    json_string(arg->value));
        break;
    case FIELD_HEADER:
        return set_header(object, field->name, arg);
    case FIELD_SPLIT:
        return add_split(object, field->name, arg);
    }
    return err == 0 ? 0 : refuse_value(arg, "UTF-8");
}

static int set_fields(json_t *body, const struct args *args)
{
    for (unsigned i = 0; i < args->flag_count; i++) {
        const struct arg *arg = &args->flags[i];
        for (unsigned k = 0; k < FIELD_COUNT; k++) {
            if (strcmp(fields[k].flag, arg->flag->name) == 0 &&
                set_field(body, &fields[k], arg) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

// The object that --file gives, or an empty one.
static json_t *read_base(const struct args *args)
{
    const char *file = args_flag(args, "file");
    if (file == NULL) {
        return json_object();
    }
    struct documents documents;
    documents_init(&documents, documents_print_fault, NULL);
    json_t *base = NULL;
    if (documents_read(&documents, file) == 0) {
        if (documents.count == 1 && json_is_object(documents.items[0].root)) {
            base = json_deep_copy(documents.items[0].root);
        } else {
            fprintf(stderr, "pointsman: %s: must hold one object\n", file);
        }
    }
    documents_fini(&documents);
    return base;
}

// The base with every --set-json merged into it; takes the reference, returns a new one or NULL.
static json_t *merge_json(json_t *body, const struct args *args)
{
    const char *text;
    unsigned index = 0;
    while (body != NULL && (text = args_next_flag(args, "set-json", &index)) != NULL) {
        json_error_t error;
        json_t *patch = json_loads(text, JSON_REJECT_DUPLICATES, &error);
        json_t *merged = NULL;
        if (json_is_object(patch)) {
            merged = json_merge_patch(body, patch);
        } else {
            fprintf(stderr, "pointsman: --set-json: %s\n",
                    patch == NULL ? error.text : "must be an object");
        }
        json_decref(patch);
        json_decref(body);
        body = merged;
    }
    return body;
}

static json_t *build_body(const struct args *args)
{
    json_t *body = merge_json(read_base(args), args);
    if (body != NULL && set_fields(body, args) != 0) {
        json_decref(body);
        return NULL;
    }
    return body;
}

json_t *route_body(const struct args *args)
{
    json_t *body = build_body(args);
    if (body != NULL && args->word_count > 1) {
        json_t *targets = json_array();
        for (unsigned i = 1; i < args->word_count; i++) {
            json_array_append_new(targets, json_string(args->words[i]));
        }
        json_object_set_new(body, "targets", targets);
    }
    return body;
}

// "10.0.0.5:8080=3": a number behind the last '=' is the weight.
static json_t *target_entry(struct str text)
{
    size_t at = str_rfind_char(text, '=');
    uint64_t weight;
    if (at == SIZE_MAX || str_to_u64(str_from(text, at + 1), &weight) != 0 || weight > UINT32_MAX) {
        return json_pack("{s:s%}", "address", text.p, text.len);
    }
    return json_pack("{s:s%,s:I}", "address", text.p, at, "weight", (json_int_t)weight);
}

json_t *pool_body(const struct args *args)
{
    json_t *body = build_body(args);
    if (body == NULL) {
        return NULL;
    }
    json_object_del(body, "name"); // as in the files of apply
    json_object_del(body, "kind");
    if (args->word_count > 1) {
        json_t *targets = json_array();
        for (unsigned i = 1; i < args->word_count; i++) {
            json_array_append_new(targets, target_entry(str_from_c(args->words[i])));
        }
        json_object_set_new(body, "targets", targets);
    }
    return body;
}

json_t *switch_targets(const struct args *args)
{
    json_t *targets = json_array();
    unsigned index = 0;
    const char *text;
    while ((text = args_next_flag(args, "to", &index)) != NULL) {
        struct str rest = str_from_c(text);
        struct str element;
        while (str_next_element(&rest, &element)) {
            json_array_append_new(targets, target_entry(element));
        }
    }
    return targets;
}
