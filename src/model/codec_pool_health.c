// SPDX-License-Identifier: MIT
// Active checks of a pool's targets.
#include "http/uri.h"
#include "model/codec_int.h"

enum {
    CHECK_PATH_MAX = 2048,
    CHECK_BODY_MAX = 1024,
    TIMEOUT_DEFAULT_MS = 2000,
    HOUR_MS = 3600 * 1000,
};

static const struct status_range good_range = {200, 399};

static bool check_path_is_valid(struct str text)
{
    struct uri_target target;
    return str_starts(text, STR("/")) && uri_split_target(text, false, &target) == 0;
}

static bool text_is_something(struct str text)
{
    return text.len > 0;
}

static const struct words type_words = {
    (const struct word[]){{{"http", 4}, HEALTH_HTTP}, {{"tcp", 3}, HEALTH_TCP}}, 2, HEALTH_HTTP};
static const struct words scheme_words = {
    (const struct word[]){{{"target", 6}, HEALTH_SCHEME_TARGET},
                          {{"http", 4}, HEALTH_SCHEME_HTTP},
                          {{"https", 5}, HEALTH_SCHEME_HTTPS}},
    3, HEALTH_SCHEME_TARGET};
static const struct text_rule path_rule = {
    CHECK_PATH_MAX, check_path_is_valid,
    "a path that begins with '/', with escapes, and a query if need be"};
static const struct text_rule body_rule = {CHECK_BODY_MAX, text_is_something,
                                           "text that is not empty"};
static const struct range port_range = {1, 65535, 0};
static const struct range interval_range = {100, HOUR_MS, 5000};
static const struct range timeout_range = {10, HOUR_MS, 0};
static const struct range rise_range = {1, 100, 2};
static const struct range fall_range = {1, 100, 3};

static json_t *write_check_path(const void *from, const struct member *member, bool *skip)
{
    if (str_eq(*(const struct str *)from, STR("/"))) {
        *skip = true;
        return NULL;
    }
    return write_text(from, member, skip);
}

static void read_check_host(struct reader *r, const struct at *at, json_t *value, void *to,
                            const struct member *member)
{
    (void)member;
    struct str text;
    char host[VALUE_HOST_PORT_MAX + 1];
    size_t len;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    const char *wrong = host_port_canonicalise(text, host, &len);
    if (wrong != NULL) {
        reader_problem(r, at, "%s", wrong);
        return;
    }
    *(struct str *)to = reader_copy(r, str_make(host, len));
}

// An interval that is shorter than the default timeout shortens that.
static unsigned default_timeout(const struct health_decl *health)
{
    return health->interval_ms < TIMEOUT_DEFAULT_MS ? health->interval_ms : TIMEOUT_DEFAULT_MS;
}

static json_t *write_check_timeout(const void *from, const struct member *member, bool *skip)
{
    const struct health_decl *health = from;
    if (health->timeout_ms == default_timeout(health)) {
        *skip = true;
        return NULL;
    }
    return write_duration(&health->timeout_ms, member, skip);
}

static void read_check_timeout(struct reader *r, const struct at *at, json_t *value, void *to,
                               const struct member *member)
{
    read_duration(r, at, value, &((struct health_decl *)to)->timeout_ms, member);
}

static void read_check_tls(struct reader *r, const struct at *at, json_t *value, void *to,
                           const struct member *member)
{
    (void)member;
    struct health_decl *health = to;
    health->tls.verify = true;
    health->has_tls = reader_read_object(r, at, value, &health->tls, &pool_tls_members);
}

static json_t *write_check_tls(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct health_decl *health = from;
    *skip = !health->has_tls;
    return *skip ? NULL : write_object(&health->tls, &pool_tls_members);
}

#define CHECK(name, member, type, rule)                                                           \
    {                                                                                             \
        {name, sizeof name - 1}, read_##type, write_##type, offsetof(struct health_decl, member), \
            rule                                                                                  \
    }

static const struct member health_members[] = {
    CHECK("type", type, word, &type_words),
    {{"path", 4}, read_text, write_check_path, offsetof(struct health_decl, path), &path_rule},
    {{"host", 4}, read_check_host, write_text, offsetof(struct health_decl, host), NULL},
    CHECK("port", port, unsigned, &port_range),
    CHECK("scheme", scheme, word, &scheme_words),
    CHECK("interval", interval_ms, duration, &interval_range),
    // This and tls look at more than one member of the struct: they get the whole.
    {{"timeout", 7}, read_check_timeout, write_check_timeout, 0, &timeout_range},
    CHECK("rise", rise, unsigned, &rise_range),
    CHECK("fall", fall, unsigned, &fall_range),
    CHECK("status", statuses, statuses, &good_range),
    CHECK("body", body, text, &body_rule),
    {{"tls", 3}, read_check_tls, write_check_tls, 0, NULL},
};
static const struct member_table health_table = {health_members, MEMBER_COUNT(health_members),
                                                 "health"};

// What only a check with a request can have.
static void refuse_request(struct reader *r, const struct at *at, json_t *value)
{
    static const char *const names[] = {"path", "host", "status", "body"};
    for (unsigned i = 0; i < MEMBER_COUNT(names); i++) {
        if (json_object_get(value, names[i]) != NULL) {
            const struct at here = {at, names[i], 0};
            reader_problem(r, &here, "needs \"type\": \"http\"; a check by tcp sends no request");
        }
    }
}

static void fill_request(struct reader *r, struct health_decl *health)
{
    if (health->path.len == 0) {
        health->path = STR("/");
    }
    if (health->statuses == NULL) {
        struct status_range *range = reader_alloc(r, sizeof *range);
        if (range != NULL) {
            *range = good_range;
        }
        health->statuses = range;
        health->status_count = range != NULL;
    }
}

void read_health(struct reader *r, const struct at *at, json_t *value, void *to,
                 const struct member *member)
{
    (void)member;
    struct health_decl *health = to;
    health->type = HEALTH_HTTP;
    health->interval_ms = (unsigned)interval_range.none;
    health->rise = (unsigned)rise_range.none;
    health->fall = (unsigned)fall_range.none;
    reader_read_object(r, at, value, health, &health_table);
    if (health->type == HEALTH_TCP) {
        refuse_request(r, at, value);
    } else {
        fill_request(r, health);
    }
    const struct at timeout = {at, "timeout", 0};
    const struct at tls = {at, "tls", 0};
    if (health->timeout_ms == 0) {
        health->timeout_ms = default_timeout(health);
    } else if (health->timeout_ms > health->interval_ms) {
        char text[VALUE_TEXT_MAX];
        duration_format(health->interval_ms, text);
        reader_problem(r, &timeout, "must not be longer than the interval, %s", text);
    }
    if (health->has_tls && health->scheme == HEALTH_SCHEME_HTTP) {
        reader_problem(r, &tls, "contradicts \"scheme\": \"http\"");
    }
}

json_t *write_health(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    *skip = ((const struct health_decl *)from)->type == HEALTH_OFF;
    return *skip ? NULL : write_object(from, &health_table);
}

void pool_check_health(struct reader *r, const struct pool_decl *pool)
{
    const struct at health = {NULL, "health", 0};
    const struct at port = {&health, "port", 0};
    for (unsigned i = 0; i < pool->target_count && pool->health.port != 0; i++) {
        const struct target_address *address = &pool->targets[i].address;
        if (address->is_unix) {
            reader_problem(r, &port, "cannot be declared: the target %.*s has no ports",
                           STR_ARG(address->text));
            return;
        }
    }
}
