// SPDX-License-Identifier: MIT
// How a noun's codec is written: a table of members per object, each with one function that reads it
// from JSON into the struct and one that writes it back. All that is wrong is collected, not only the
// first; a reader goes on after a problem with what the member was before (its default).
#pragma once
#include "model/declaration.h"
#include "model/value.h"

// The way from the root to a value, linked on the stack: it costs nothing until something is wrong.
struct at {
    const struct at *up;
    const char *name; // NULL: element `index` of an array
    unsigned index;
};

struct reader {
    struct problems *problems;
    enum decode_mode mode;
    unsigned unknown;
    bool failed;  // something is wrong; `problems` says what
    void *blocks; // memory taken so far, newest first
    char *free;
    size_t free_len;
};

struct member {
    struct str name;
    void (*read)(struct reader *r, const struct at *at, json_t *value, void *to,
                 const struct member *member);
    // The value to write; *skip when it is the default (NULL then means nothing). NULL: no memory.
    json_t *(*write)(const void *from, const struct member *member, bool *skip);
    size_t offset;    // of the C member in the object's struct
    const void *rule; // what the functions need to know
};

struct member_table {
    const struct member *members;
    unsigned count;
    const char *what; // "a route"
};

#define MEMBER_COUNT(array) (unsigned)(sizeof(array) / sizeof(array)[0])

struct range {
    uint64_t min;
    uint64_t max;
    uint64_t none; // the default: not written
};

struct word {
    struct str text;
    unsigned value;
};

struct words {
    const struct word *words;
    unsigned count;
    unsigned none;
};

struct text_rule {
    size_t max;
    bool (*is_valid)(struct str text); // or NULL
    const char *must;                  // "must be …"
};

// Room that lives as long as the declaration, cleared. NULL (and a problem) when memory is out.
void *reader_alloc(struct reader *r, size_t size);
// A terminated copy; empty when memory is out.
struct str reader_copy(struct reader *r, struct str text);
// `is_secret`: cleared before.
void reader_free_memory(void *blocks, bool is_secret);

void reader_problem(struct reader *r, const struct at *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// "must be a string, not a number"
void reader_wrong_type(struct reader *r, const struct at *at, const char *must, json_t *value);

// Reads the members that `value` has, in any order. False when it is no object.
bool reader_read_object(struct reader *r, const struct at *at, json_t *value, void *to,
                        const struct member_table *table);
// A problem when an object does not have this member.
void reader_require_member(struct reader *r, const struct at *at, json_t *object, const char *name);
// Writes what is not default. NULL: no memory.
json_t *write_object(const void *from, const struct member_table *table);
// The same of a member that is an object: *skip when all in it is default.
json_t *write_part(const void *from, const struct member_table *table, bool *skip);

// An array of at most `max` elements; *count is 0 when it is none. The elements, cleared, or NULL.
void *reader_read_array(struct reader *r, const struct at *at, json_t *value, size_t element_size,
                        unsigned max, unsigned *count);

// A string, as a view into the tree. False (and a problem) when it is none.
bool reader_view(struct reader *r, const struct at *at, json_t *value, struct str *text);

// A problem for each of `count` texts (struct str, `stride` bytes apart; at most READER_TEXTS_MAX) that
// was there before. Empty ones are passed over.
enum { READER_TEXTS_MAX = 1000 };
void reader_check_repeated(struct reader *r, const struct at *at, const void *first, size_t stride,
                           unsigned count, const char *what);

// Member functions for plain types. `rule` is the type in brackets, and may be shared.
void read_bool(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member); // rule: NULL is default false, else true
json_t *write_bool(const void *from, const struct member *member, bool *skip);
void read_unsigned(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member); // unsigned, [struct range]
json_t *write_unsigned(const void *from, const struct member *member, bool *skip);
void read_duration(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member); // unsigned ms, [struct range]
json_t *write_duration(const void *from, const struct member *member, bool *skip);
void read_seconds(struct reader *r, const struct at *at, json_t *value, void *to,
                  const struct member *member); // unsigned s, [struct range, in ms]
json_t *write_seconds(const void *from, const struct member *member, bool *skip);
void read_size(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member); // uint64_t bytes, [struct range]
json_t *write_size(const void *from, const struct member *member, bool *skip);
void read_word(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member); // an enum (unsigned), [struct words]
json_t *write_word(const void *from, const struct member *member, bool *skip);
void read_text(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member); // struct str, [struct text_rule]; empty is default
json_t *write_text(const void *from, const struct member *member, bool *skip);
void read_timeouts(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member); // struct timeouts_decl
json_t *write_timeouts(const void *from, const struct member *member, bool *skip);
// struct target_decl list and count, next to each other: { struct target_decl *p; unsigned count; }
void read_targets(struct reader *r, const struct at *at, json_t *value, void *to,
                  const struct member *member); // [struct range] of the count
json_t *write_targets(const void *from, const struct member *member, bool *skip);

// "200-399", "200,204,300-399": struct status_range list and count, next to each other
// [struct status_range that is the default; NULL: none]
void read_statuses(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member);
json_t *write_statuses(const void *from, const struct member *member, bool *skip);

json_t *write_str(struct str text);

// One word or its value; SIZE_MAX-like `words->count` is never returned as a value.
bool word_find(const struct words *words, struct str text, unsigned *value);

extern const struct text_rule rule_name; // of a pool, tenant or certificate
extern const struct text_rule rule_ca; // certificates as PEM; what is in them is checked elsewhere
bool text_is_pem(struct str text);

// The nouns.
extern const struct member_table route_table_members;
extern const struct member_table pool_table_members;
extern const struct member_table certificate_table_members;
void route_defaults(struct route_decl *route);
// Host and path from the canonical key, or the other way round; rules between members. `value` is the
// object that was read.
void route_finish(struct reader *r, struct str key, json_t *value, struct route_decl *route);
void pool_finish(struct reader *r, json_t *value, struct pool_decl *pool);
void certificate_finish(struct reader *r, json_t *value);
// What a route says of TLS: does it go together, and with its path?
void route_check_tls(struct reader *r, const struct route_decl *route);
// "host/path" or "host" from malloc; NULL: no memory.
char *route_key(const struct route_decl *route);

// Parts of a pool.
extern const struct member_table pool_tls_members; // struct pool_tls_decl
extern const struct passive_decl pool_passive_default;
void pool_default_eject(struct pool_decl *pool);
// Is it the text of one of the ways to balance?
bool balance_is_known(json_t *value);
void pool_check_hash(struct reader *r, json_t *value, const struct pool_decl *pool);
void pool_check_health(struct reader *r, const struct pool_decl *pool);

// 301, 302, 303, 307, 308
bool redirect_status_is_valid(json_int_t status);

// Where a reader puts redirect, respond, …; rules are NULL.
#define DECLARE_PART(name)                                                           \
    void read_##name(struct reader *r, const struct at *at, json_t *value, void *to, \
                     const struct member *member);                                   \
    json_t *write_##name(const void *from, const struct member *member, bool *skip);
DECLARE_PART(split)
DECLARE_PART(redirect)
DECLARE_PART(respond)
DECLARE_PART(unavailable)
DECLARE_PART(header_rules)
DECLARE_PART(cidrs)
DECLARE_PART(retry_on)
DECLARE_PART(body_limit)
DECLARE_PART(host_header)
DECLARE_PART(target_path)
extern const struct range hsts_range; // seconds
DECLARE_PART(client_auth)
DECLARE_PART(hash)
DECLARE_PART(sticky)
DECLARE_PART(health)
DECLARE_PART(passive)
DECLARE_PART(eject)
#undef DECLARE_PART

// An address in a buffer of the caller: *target views text[TARGET_TEXT_MAX]. NULL, or what is wrong.
enum { TARGET_TEXT_MAX = 272 }; // "https://", a host, ":65535"
const char *target_parse(struct str text, char *out, struct target_address *target);
// Moves the views of an address whose text was copied to `to`.
void target_rebase(struct target_address *target, const char *to);
