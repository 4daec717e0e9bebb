// SPDX-License-Identifier: MIT
// The members of a route that are lists, and texts with rules of their own: headers, networks, retry_on,
// target_path, host_header.
#include "http/field.h"
#include "http/uri.h"
#include "model/codec_int.h"

enum { HEADERS_MAX = 64, HEADER_NAME_MAX = 256, HEADER_VALUE_MAX = 4096, CIDRS_MAX = 1000 };

// --- headers

// Framing, connections and the choice of a route belong to the proxy: a rule that changed one of these
// would make messages that two peers read in two ways.
static bool is_own_field(struct str name)
{
    enum field_id id = field_find(name);
    return (field_flags(id) & FIELD_HOP) != 0 || id == FIELD_HOST || id == FIELD_CONTENT_LENGTH ||
           id == FIELD_TRAILER || id == FIELD_EXPECT;
}

static bool check_header_name(struct reader *r, const struct at *at, struct str name)
{
    if (name.len > HEADER_NAME_MAX || !field_name_is_valid(name)) {
        reader_problem(r, at, "is not a valid header name");
    } else if (is_own_field(name)) {
        reader_problem(r, at, "\"%.*s\" belongs to the proxy and cannot be changed by a route",
                       STR_ARG(name));
    } else if (field_is_disguised(name)) {
        reader_problem(r, at, "\"%.*s\" is read as another header by some servers", STR_ARG(name));
    } else {
        return true;
    }
    return false;
}

static void check_repeated(struct reader *r, const struct at *at, const struct header_decl *headers,
                           unsigned i)
{
    for (unsigned j = 0; j < i; j++) {
        if (headers[i].name.len > 0 && str_eq_case(headers[i].name, headers[j].name)) {
            reader_problem(r, at, "\"%.*s\" is named twice (names have no case)",
                           STR_ARG(headers[i].name));
            return;
        }
    }
}

static void read_set_value(struct reader *r, const struct at *at, json_t *value,
                           struct header_decl *header)
{
    struct str text;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    if (text.len > HEADER_VALUE_MAX) {
        reader_problem(r, at, "has %zu bytes; at most %d are allowed", text.len, HEADER_VALUE_MAX);
    } else if (!field_value_is_valid(text)) {
        reader_problem(r, at, "holds a byte that a header's value must not have");
    } else {
        header->value = reader_copy(r, str_trim(text));
    }
}

struct header_list {
    struct header_decl *headers;
    unsigned count;
};

_Static_assert(offsetof(struct header_rules, set_count) - offsetof(struct header_rules, set) ==
                       offsetof(struct header_list, count) &&
                   offsetof(struct header_rules, remove_count) -
                           offsetof(struct header_rules, remove) ==
                       offsetof(struct header_list, count),
               "pointer and count are neighbours");

static void read_set(struct reader *r, const struct at *at, json_t *value, void *to,
                     const struct member *member)
{
    (void)member;
    struct header_list *list = to;
    if (!json_is_object(value)) {
        reader_wrong_type(r, at, "an object of header names and values", value);
        return;
    }
    size_t count = json_object_size(value);
    if (count > HEADERS_MAX) {
        reader_problem(r, at, "has %zu headers; at most %d are allowed", count, HEADERS_MAX);
        return;
    }
    if (count > 0) {
        list->headers = reader_alloc(r, count * sizeof *list->headers);
    }
    if (list->headers == NULL) {
        return;
    }
    const char *name;
    json_t *item;
    json_object_foreach(value, name, item)
    {
        const struct at here = {at, name, 0};
        struct header_decl *header = &list->headers[list->count];
        if (check_header_name(r, &here, str_from_c(name))) {
            header->name = reader_copy(r, str_from_c(name));
        }
        read_set_value(r, &here, item, header);
        check_repeated(r, &here, list->headers, list->count);
        list->count++;
    }
}

static json_t *write_set(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct header_list *list = from;
    *skip = list->count == 0;
    json_t *object = *skip ? NULL : json_object();
    for (unsigned i = 0; i < list->count && object != NULL; i++) {
        const struct header_decl *header = &list->headers[i];
        if (json_object_setn_new(object, header->name.p, header->name.len,
                                 write_str(header->value)) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static void read_remove(struct reader *r, const struct at *at, json_t *value, void *to,
                        const struct member *member)
{
    (void)member;
    struct header_list *list = to;
    list->headers =
        reader_read_array(r, at, value, sizeof *list->headers, HEADERS_MAX, &list->count);
    for (unsigned i = 0; i < list->count; i++) {
        const struct at here = {at, NULL, i};
        struct str name;
        if (reader_view(r, &here, json_array_get(value, i), &name) &&
            check_header_name(r, &here, name)) {
            list->headers[i].name = reader_copy(r, name);
            check_repeated(r, &here, list->headers, i);
        }
    }
}

static json_t *write_remove(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct header_list *list = from;
    *skip = list->count == 0;
    json_t *array = *skip ? NULL : json_array();
    for (unsigned i = 0; i < list->count && array != NULL; i++) {
        if (json_array_append_new(array, write_str(list->headers[i].name)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static const struct member header_members[] = {
    {{"set", 3}, read_set, write_set, offsetof(struct header_rules, set), NULL},
    {{"remove", 6}, read_remove, write_remove, offsetof(struct header_rules, remove), NULL},
};
static const struct member_table header_table = {header_members, MEMBER_COUNT(header_members),
                                                 "header rules"};

void read_header_rules(struct reader *r, const struct at *at, json_t *value, void *to,
                       const struct member *member)
{
    (void)member;
    reader_read_object(r, at, value, to, &header_table);
}

json_t *write_header_rules(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct header_rules *rules = from;
    *skip = rules->set_count == 0 && rules->remove_count == 0;
    return *skip ? NULL : write_object(from, &header_table);
}

// --- networks

struct cidr_list {
    struct cidr *cidrs;
    unsigned count;
};

_Static_assert(offsetof(struct route_decl, allow_count) - offsetof(struct route_decl, allow) ==
                       offsetof(struct cidr_list, count) &&
                   offsetof(struct route_decl, deny_count) - offsetof(struct route_decl, deny) ==
                       offsetof(struct cidr_list, count),
               "pointer and count are neighbours");

void read_cidrs(struct reader *r, const struct at *at, json_t *value, void *to,
                const struct member *member)
{
    (void)member;
    struct cidr_list *list = to;
    list->cidrs = reader_read_array(r, at, value, sizeof *list->cidrs, CIDRS_MAX, &list->count);
    for (unsigned i = 0; i < list->count; i++) {
        const struct at here = {at, NULL, i};
        struct str text;
        if (reader_view(r, &here, json_array_get(value, i), &text) &&
            cidr_parse(text, &list->cidrs[i]) != 0) {
            reader_problem(r, &here, "must be an IP address or a network such as \"10.0.0.0/8\"");
        }
    }
}

json_t *write_cidrs(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct cidr_list *list = from;
    *skip = list->count == 0;
    json_t *array = *skip ? NULL : json_array();
    for (unsigned i = 0; i < list->count && array != NULL; i++) {
        char text[VALUE_TEXT_MAX];
        size_t len = cidr_format(&list->cidrs[i], text);
        if (json_array_append_new(array, json_stringn(text, len)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

// --- retry_on

static const struct words retry_words = {(const struct word[]){{{"connect", 7}, RETRY_CONNECT},
                                                               {{"reset", 5}, RETRY_RESET},
                                                               {{"502", 3}, RETRY_502},
                                                               {{"503", 3}, RETRY_503},
                                                               {{"504", 3}, RETRY_504},
                                                               {{"timeout", 7}, RETRY_TIMEOUT}},
                                         6, RETRY_CONNECT | RETRY_RESET};

void read_retry_on(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member)
{
    (void)member;
    if (!json_is_array(value)) {
        reader_wrong_type(r, at, "a list", value);
        return;
    }
    unsigned bits = 0;
    for (unsigned i = 0; i < json_array_size(value); i++) {
        const struct at here = {at, NULL, i};
        struct str text;
        unsigned bit;
        if (!reader_view(r, &here, json_array_get(value, i), &text)) {
            continue;
        }
        if (!word_find(&retry_words, text, &bit)) {
            reader_problem(r, &here,
                           "must be one of \"connect\", \"reset\", \"502\", \"503\", \"504\", "
                           "\"timeout\"");
        } else if ((bits & bit) != 0) {
            reader_problem(r, &here, "is named twice");
        } else {
            bits |= bit;
        }
    }
    *(unsigned *)to = bits;
}

json_t *write_retry_on(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    unsigned bits = *(const unsigned *)from;
    *skip = bits == retry_words.none;
    json_t *array = *skip ? NULL : json_array();
    for (unsigned i = 0; i < retry_words.count && array != NULL; i++) {
        if ((bits & retry_words.words[i].value) != 0 &&
            json_array_append_new(array, write_str(retry_words.words[i].text)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

// --- target_path, host_header

void read_target_path(struct reader *r, const struct at *at, json_t *value, void *to,
                      const struct member *member)
{
    (void)member;
    struct str text;
    char path[VALUE_PATH_MAX + 1];
    size_t len;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    const char *wrong = path_canonicalise(text, path, &len);
    if (wrong != NULL) {
        reader_problem(r, at, "%s", wrong);
        return;
    }
    *(struct str *)to = reader_copy(r, str_make(path, len));
}

json_t *write_target_path(const void *from, const struct member *member, bool *skip)
{
    return write_text(from, member, skip);
}

static void read_host_literal(struct reader *r, const struct at *at, struct str text,
                              struct route_decl *route)
{
    char literal[VALUE_HOST_PORT_MAX + 1];
    size_t len = 0;
    const char *wrong = host_port_canonicalise(text, literal, &len);
    if (wrong != NULL) {
        reader_problem(r, at, "must be \"keep\", \"target\" or a host: %s", wrong);
        return;
    }
    route->host_header = HOST_LITERAL;
    route->host_literal = reader_copy(r, str_make(literal, len));
}

void read_host_header(struct reader *r, const struct at *at, json_t *value, void *to,
                      const struct member *member)
{
    (void)member;
    struct route_decl *route = to; // host_header and host_literal
    struct str text;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    if (str_eq(text, STR("keep"))) {
        route->host_header = HOST_KEEP;
    } else if (str_eq(text, STR("target"))) {
        route->host_header = HOST_TARGET;
    } else {
        read_host_literal(r, at, text, route);
    }
}

json_t *write_host_header(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct route_decl *route = from;
    switch (route->host_header) {
    case HOST_KEEP:
        *skip = true;
        return NULL;
    case HOST_TARGET:
        return json_string("target");
    case HOST_LITERAL:
        return write_str(route->host_literal);
    }
    return NULL;
}
