// SPDX-License-Identifier: MIT
// The members of a pool that tie requests to targets: hash and sticky.
#include "http/field.h"
#include "model/codec_int.h"

enum { HASH_NAME_MAX = 200, COOKIE_MAX = 100 };

// --- hash

// A form that is followed by ":NAME", or a whole one.
static const struct hash_form {
    struct str text;
    enum hash_by by;
    bool is_named;
} hash_forms[] = {
    {{"client_ip", 9}, HASH_CLIENT_IP, false},
    {{"path", 4}, HASH_PATH, false},
    {{"header", 6}, HASH_HEADER, true},
    {{"cookie", 6}, HASH_COOKIE, true},
    {{"query", 5}, HASH_QUERY, true},
    {{"form", 4}, HASH_FORM, true},
    {{"key", 3}, HASH_KEY, false},
};

static const struct hash_form *find_form(struct str text)
{
    for (unsigned i = 0; i < MEMBER_COUNT(hash_forms); i++) {
        if (str_eq(hash_forms[i].text, text)) {
            return &hash_forms[i];
        }
    }
    return NULL;
}

static bool has_control(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

// What is wrong with NAME of "header:NAME"? NULL: nothing.
static const char *judge_name(enum hash_by by, struct str name)
{
    if (name.len > HASH_NAME_MAX) {
        return "the name has more than 200 bytes";
    }
    if ((by == HASH_HEADER || by == HASH_COOKIE) && !field_name_is_valid(name)) {
        return "the name of a header or cookie is of letters, digits and any of "
               "! # $ % & ' * + - . ^ _ ` | ~";
    }
    return has_control(name) ? "the name holds a control byte" : NULL;
}

// Headers are found without case: in lower case.
static struct str copy_name(struct reader *r, enum hash_by by, struct str name)
{
    char lower[HASH_NAME_MAX + 1];
    size_t len = str_copy(lower, sizeof lower, name);
    for (size_t i = 0; i < len && by == HASH_HEADER; i++) {
        lower[i] = ascii_lower(lower[i]);
    }
    return reader_copy(r, str_make(lower, len));
}

void read_hash(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member)
{
    (void)member;
    struct hash_decl *hash = to;
    struct str text;
    struct str kind;
    struct str name;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    bool has_name = str_split(text, ':', &kind, &name);
    const struct hash_form *form = find_form(kind);
    if (form == NULL || (has_name && !form->is_named)) {
        reader_problem(r, at,
                       "must be one of \"client_ip\", \"path\", \"key\", \"header:NAME\", "
                       "\"cookie:NAME\", \"query:NAME\", \"form:NAME\"");
        return;
    }
    if (form->is_named && name.len == 0) {
        reader_problem(r, at, "needs a name, as in \"%.*s:NAME\"", STR_ARG(kind));
        return;
    }
    const char *wrong = judge_name(form->by, name);
    if (wrong != NULL) {
        reader_problem(r, at, "%s", wrong);
        return;
    }
    hash->by = form->by;
    if (form->is_named) {
        hash->name = copy_name(r, form->by, name);
    }
}

json_t *write_hash(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct hash_decl *hash = from;
    for (unsigned i = 0; i < MEMBER_COUNT(hash_forms); i++) {
        const struct hash_form *form = &hash_forms[i];
        if (form->by == hash->by) {
            return form->is_named
                       ? json_sprintf("%.*s:%.*s", STR_ARG(form->text), STR_ARG(hash->name))
                       : write_str(form->text);
        }
    }
    *skip = true;
    return NULL;
}

void pool_check_hash(struct reader *r, json_t *value, const struct pool_decl *pool)
{
    if (!json_is_object(value)) {
        return;
    }
    const struct at at = {NULL, "hash", 0};
    json_t *balance = json_object_get(value, "balance");
    bool has_hash = json_object_get(value, "hash") != NULL;
    if (pool->balance == BALANCE_HASH && !has_hash) {
        reader_problem(r, &at,
                       "is missing; it says what requests are hashed by, such as \"client_ip\"");
    } else if (pool->balance != BALANCE_HASH && pool->hash.by != HASH_NONE &&
               (balance == NULL || balance_is_known(balance))) {
        reader_problem(r, &at, "needs \"balance\": \"hash\"");
    }
}

// --- sticky

// Browsers keep no cookie for longer than 400 days.
static const struct range sticky_ttl_range = {0, 400ull * 24 * 3600 * 1000, 24 * 3600 * 1000};
static const struct text_rule cookie_rule = {
    COOKIE_MAX, field_name_is_valid,
    "the name of a cookie: letters, digits and any of ! # $ % & ' * + - . ^ _ ` | ~"};

static void read_draining(struct reader *r, const struct at *at, json_t *value, void *to,
                          const struct member *member)
{
    (void)member;
    struct str text;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    if (!str_eq(text, STR("move")) && !str_eq(text, STR("stay"))) {
        reader_problem(r, at, "must be one of \"move\", \"stay\"");
        return;
    }
    *(bool *)to = str_eq(text, STR("stay"));
}

static json_t *write_draining(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    *skip = !*(const bool *)from;
    return *skip ? NULL : json_string("stay");
}

static const struct member sticky_members[] = {
    {{"cookie", 6}, read_text, write_text, offsetof(struct sticky_decl, cookie), &cookie_rule},
    {{"ttl", 3},
     read_seconds,
     write_seconds,
     offsetof(struct sticky_decl, ttl_sec),
     &sticky_ttl_range},
    {{"draining", 8}, read_draining, write_draining, offsetof(struct sticky_decl, stays), NULL},
};
static const struct member_table sticky_table = {sticky_members, MEMBER_COUNT(sticky_members),
                                                 "sticky"};

void read_sticky(struct reader *r, const struct at *at, json_t *value, void *to,
                 const struct member *member)
{
    (void)member;
    struct sticky_decl *sticky = to;
    sticky->ttl_sec = sticky_ttl_range.none / 1000;
    reader_read_object(r, at, value, sticky, &sticky_table);
    reader_require_member(r, at, value, "cookie");
}

json_t *write_sticky(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    *skip = ((const struct sticky_decl *)from)->cookie.len == 0;
    return *skip ? NULL : write_object(from, &sticky_table);
}
