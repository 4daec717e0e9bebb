// SPDX-License-Identifier: MIT
// The members of a route that are objects: split, redirect, respond, unavailable, limits.
#include "http/field.h"
#include "http/uri.h"
#include "model/codec_int.h"

enum {
    SPLIT_MAX = 64,
    URL_MAX = 2048,
    PAGE_MAX = 64 << 10, // bytes of a page's body
    CONTENT_TYPE_MAX = 200,
};

#define MEMBER(name, at, type, rule)                                 \
    {                                                                \
        {name, sizeof name - 1}, read_##type, write_##type, at, rule \
    }

// --- split

static const struct range split_weight = {0, 65535, UINT64_MAX}; // always written
static const struct member split_members[] = {
    MEMBER("pool", offsetof(struct split_decl, pool), text, &rule_name),
    MEMBER("weight", offsetof(struct split_decl, weight), unsigned, &split_weight),
};
static const struct member_table split_table = {split_members, MEMBER_COUNT(split_members),
                                                "a part of a split"};

struct split_list {
    struct split_decl *parts;
    unsigned count;
};

_Static_assert(offsetof(struct route_decl, split_count) - offsetof(struct route_decl, split) ==
                   offsetof(struct split_list, count),
               "pointer and count are neighbours");

static void check_split(struct reader *r, const struct at *at, const struct split_list *list)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < list->count; i++) {
        sum += list->parts[i].weight;
        for (unsigned j = 0; j < i; j++) {
            if (list->parts[i].pool.len > 0 && str_eq(list->parts[i].pool, list->parts[j].pool)) {
                const struct at part = {at, NULL, i};
                const struct at here = {&part, "pool", 0};
                reader_problem(r, &here, "is the same pool as element %u", j);
                break;
            }
        }
    }
    if (list->count > 0 && sum == 0) {
        reader_problem(r, at, "has no weight above 0");
    }
}

void read_split(struct reader *r, const struct at *at, json_t *value, void *to,
                const struct member *member)
{
    (void)member;
    struct split_list *list = to;
    list->parts = reader_read_array(r, at, value, sizeof *list->parts, SPLIT_MAX, &list->count);
    if (json_is_array(value) && json_array_size(value) == 0) {
        reader_problem(r, at, "must have at least one pool");
    }
    for (unsigned i = 0; i < list->count; i++) {
        const struct at here = {at, NULL, i};
        json_t *item = json_array_get(value, i);
        list->parts[i].weight = 1;
        reader_read_object(r, &here, item, &list->parts[i], &split_table);
        reader_require_member(r, &here, item, "pool");
    }
    check_split(r, at, list);
}

json_t *write_split(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct split_list *list = from;
    *skip = list->count == 0;
    json_t *array = *skip ? NULL : json_array();
    for (unsigned i = 0; i < list->count && array != NULL; i++) {
        if (json_array_append_new(array, write_object(&list->parts[i], &split_table)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

// --- redirect

typedef __typeof__(((struct route_decl *)0)->redirect) redirect_decl;
typedef __typeof__(((struct route_decl *)0)->respond) respond_decl;
typedef __typeof__(((struct route_decl *)0)->unavailable) unavailable_decl;

bool redirect_status_is_valid(json_int_t status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool url_is_valid(struct str url)
{
    size_t hash = str_find_char(url, '#');
    struct str before = str_sub(url, 0, hash);
    // What may stand in a query may stand in a fragment (RFC 3986 3.5): the same check reads it.
    struct uri_target target;
    char fragment[URL_MAX + 3] = "/?";
    if (hash != SIZE_MAX) {
        size_t len = 2 + str_copy(fragment + 2, sizeof fragment - 2, str_from(url, hash + 1));
        if (uri_split_target(str_make(fragment, len), false, &target) != 0) {
            return false;
        }
    }
    // "//host" would be a URL without a scheme.
    return !str_starts(before, STR("//")) && uri_split_target(before, false, &target) == 0;
}

static const struct text_rule url_rule = {
    URL_MAX, url_is_valid, "an absolute URL (http or https) or an absolute path, with escapes"};
static const struct range redirect_status_range = {301, 308, 308};

static const struct member redirect_members[] = {
    MEMBER("to", offsetof(redirect_decl, to), text, &url_rule),
    MEMBER("status", offsetof(redirect_decl, status), unsigned, &redirect_status_range),
    MEMBER("keep_path", offsetof(redirect_decl, keep_path), bool, "true"),
};
static const struct member_table redirect_table = {redirect_members, MEMBER_COUNT(redirect_members),
                                                   "a redirect"};

void read_redirect(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member)
{
    (void)member;
    redirect_decl *redirect = to;
    redirect->status = (unsigned)redirect_status_range.none;
    redirect->keep_path = true;
    reader_read_object(r, at, value, redirect, &redirect_table);
    reader_require_member(r, at, value, "to");
    if (!redirect_status_is_valid(redirect->status)) {
        const struct at here = {at, "status", 0};
        reader_problem(r, &here, "must be one of 301, 302, 303, 307, 308");
    }
    if (redirect->keep_path && (str_find_char(redirect->to, '?') != SIZE_MAX ||
                                str_find_char(redirect->to, '#') != SIZE_MAX)) {
        const struct at here = {at, "keep_path", 0};
        reader_problem(r, &here, "must be false: nothing can be appended to a URL with '?' or '#'");
    }
}

json_t *write_redirect(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    *skip = ((const redirect_decl *)from)->to.len == 0;
    return *skip ? NULL : write_object(from, &redirect_table);
}

// --- pages

static bool content_type_is_valid(struct str text)
{
    return field_value_is_valid(text) && str_find_char(text, '/') != SIZE_MAX &&
           str_trim(text).len == text.len;
}

static const struct text_rule body_rule = {PAGE_MAX, NULL, ""};
static const struct text_rule content_type_rule = {CONTENT_TYPE_MAX, content_type_is_valid,
                                                   "a media type such as \"text/html\""};
static const struct range respond_status_range = {200, 599, 200};
static const struct range unavailable_status_range = {400, 599, 503};
static const struct range retry_after_range = {0, VALUE_DURATION_MAX_MS, 0};

// What a page is that does not say it.
static struct str guess_content_type(struct str body)
{
    size_t i = 0;
    while (i < body.len && (body.p[i] == ' ' || (body.p[i] >= '\t' && body.p[i] <= '\r'))) {
        i++;
    }
    if (body.len == 0) {
        return STR_NULL;
    }
    char first = i < body.len ? body.p[i] : ' ';
    return first == '<'                   ? STR("text/html; charset=utf-8")
           : first == '{' || first == '[' ? STR("application/json")
                                          : STR("text/plain; charset=utf-8");
}

static const struct member respond_members[] = {
    MEMBER("status", offsetof(respond_decl, status), unsigned, &respond_status_range),
    MEMBER("body", offsetof(respond_decl, body), text, &body_rule),
    MEMBER("content_type", offsetof(respond_decl, content_type), text, &content_type_rule),
};
static const struct member_table respond_table = {respond_members, MEMBER_COUNT(respond_members),
                                                  "a response"};

void read_respond(struct reader *r, const struct at *at, json_t *value, void *to,
                  const struct member *member)
{
    (void)member;
    respond_decl *respond = to;
    respond->status = (unsigned)respond_status_range.none;
    reader_read_object(r, at, value, respond, &respond_table);
    // RFC 9110 15.3.5, 15.3.6, 15.4.5: these have no content.
    bool has_none = respond->status == 204 || respond->status == 205 || respond->status == 304;
    if (has_none && respond->body.len > 0) {
        const struct at here = {at, "body", 0};
        reader_problem(r, &here, "must be empty with status %u", respond->status);
    }
    if (respond->content_type.len == 0) {
        respond->content_type = guess_content_type(respond->body);
    }
}

json_t *write_respond(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    respond_decl respond = *(const respond_decl *)from;
    *skip = respond.status == 0;
    if (str_eq(respond.content_type, guess_content_type(respond.body))) {
        respond.content_type = STR_NULL;
    }
    return *skip ? NULL : write_object(&respond, &respond_table);
}

static const struct member unavailable_members[] = {
    MEMBER("status", offsetof(unavailable_decl, status), unsigned, &unavailable_status_range),
    MEMBER("body", offsetof(unavailable_decl, body), text, &body_rule),
    MEMBER("content_type", offsetof(unavailable_decl, content_type), text, &content_type_rule),
    MEMBER("retry_after", offsetof(unavailable_decl, retry_after_sec), seconds, &retry_after_range),
};
static const struct member_table unavailable_table = {
    unavailable_members, MEMBER_COUNT(unavailable_members), "an unavailable page"};

void read_unavailable(struct reader *r, const struct at *at, json_t *value, void *to,
                      const struct member *member)
{
    (void)member;
    unavailable_decl *page = to;
    page->is_set = true;
    page->status = (unsigned)unavailable_status_range.none;
    reader_read_object(r, at, value, page, &unavailable_table);
    if (page->content_type.len == 0) {
        page->content_type = guess_content_type(page->body);
    }
}

json_t *write_unavailable(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    unavailable_decl page = *(const unavailable_decl *)from;
    *skip = !page.is_set;
    if (str_eq(page.content_type, guess_content_type(page.body))) {
        page.content_type = STR_NULL;
    }
    return *skip ? NULL : write_object(&page, &unavailable_table);
}

// --- limits

static const struct range body_limit_range = {0, INT64_MAX, UINT64_MAX}; // written when declared

static const struct member limits_members[] = {
    MEMBER("body", offsetof(struct route_decl, body_limit), size, &body_limit_range),
};
static const struct member_table limits_table = {limits_members, MEMBER_COUNT(limits_members),
                                                 "limits"};

void read_body_limit(struct reader *r, const struct at *at, json_t *value, void *to,
                     const struct member *member)
{
    (void)member;
    struct route_decl *route = to; // has_body_limit and body_limit
    if (reader_read_object(r, at, value, route, &limits_table)) {
        route->has_body_limit = json_object_get(value, "body") != NULL;
    }
}

json_t *write_body_limit(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    *skip = !((const struct route_decl *)from)->has_body_limit;
    return *skip ? NULL : write_object(from, &limits_table);
}
