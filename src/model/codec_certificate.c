// SPDX-License-Identifier: MIT
// A certificate. What a client declares is a pair (chain and key, or the files of both) and hosts; what
// is stored is all of it but chain and key, with the facts that were found in the chain. A client may
// send the facts back as it got them: they are found again.
#include "base/buf.h"
#include "http/chars.h"
#include "model/codec_int.h"
#include <time.h>

enum {
    PEM_MAX = 64 << 10,
    FILE_PATH_MAX = 4000,
    FACT_MAX = 16 << 10, // bytes of a subject
    HOSTS_MAX = 1000,
    NAMES_MAX = 65535, // SANs that fit into a chain
    TIME_LEN = 20,     // "2026-01-31T12:00:00Z"
};

bool text_is_pem(struct str text)
{
    return str_find(text, STR("-----BEGIN ")) != SIZE_MAX;
}

static bool path_is_absolute(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f) {
            return false;
        }
    }
    return text.len > 0 && text.p[0] == '/';
}

static const struct text_rule pem_rule = {PEM_MAX, text_is_pem,
                                          "PEM text, with its \"-----BEGIN\" line"};
static const struct text_rule path_rule = {FILE_PATH_MAX, path_is_absolute,
                                           "an absolute path of a file"};
static const struct text_rule fact_rule = {FACT_MAX, NULL, ""};

// --- hosts and names

struct text_list {
    struct str *texts;
    unsigned count;
};

_Static_assert(offsetof(struct certificate_decl, host_count) -
                           offsetof(struct certificate_decl, hosts) ==
                       offsetof(struct text_list, count) &&
                   offsetof(struct certificate_decl, name_count) -
                           offsetof(struct certificate_decl, names) ==
                       offsetof(struct text_list, count),
               "pointer and count are neighbours");

static void read_host_list(struct reader *r, const struct at *at, json_t *value, void *to,
                           unsigned max)
{
    struct text_list *list = to;
    list->texts = reader_read_array(r, at, value, sizeof *list->texts, max, &list->count);
    for (unsigned i = 0; i < list->count; i++) {
        const struct at here = {at, NULL, i};
        struct str text;
        char host[VALUE_HOST_MAX + 1];
        size_t len;
        if (!reader_view(r, &here, json_array_get(value, i), &text)) {
            continue;
        }
        const char *wrong = host_canonicalise(text, true, host, &len);
        if (wrong != NULL) {
            reader_problem(r, &here, "%s", wrong);
        } else {
            list->texts[i] = reader_copy(r, str_make(host, len));
        }
    }
}

static void read_hosts(struct reader *r, const struct at *at, json_t *value, void *to,
                       const struct member *member)
{
    (void)member;
    struct text_list *list = to;
    read_host_list(r, at, value, list, HOSTS_MAX);
    reader_check_repeated(r, at, list->texts, sizeof *list->texts, list->count, "host");
}

static json_t *write_hosts(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct text_list *list = from;
    *skip = list->count == 0;
    json_t *array = *skip ? NULL : json_array();
    for (unsigned i = 0; i < list->count && array != NULL; i++) {
        if (json_array_append_new(array, write_str(list->texts[i])) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

// --- facts: of a record only

static void read_names(struct reader *r, const struct at *at, json_t *value, void *to,
                       const struct member *member)
{
    (void)member;
    if (r->mode == DECODE_FEED) {
        read_host_list(r, at, value, to, NAMES_MAX);
    }
}

static void read_fact(struct reader *r, const struct at *at, json_t *value, void *to,
                      const struct member *member)
{
    if (r->mode == DECODE_FEED) {
        read_text(r, at, value, to, member);
    }
}

// Decimal digits at `at`, which end before the byte `end`.
static bool take_digits(struct str text, size_t at, size_t count, char end, int *number)
{
    *number = 0;
    for (size_t i = at; i < at + count; i++) {
        if (!ascii_is_digit(text.p[i])) {
            return false;
        }
        *number = *number * 10 + (text.p[i] - '0');
    }
    return text.p[at + count] == end;
}

// RFC 3339, UTC, whole seconds: the one form that is written.
static bool parse_time(struct str text, uint64_t *seconds)
{
    struct tm tm = {0};
    if (text.len != TIME_LEN || !take_digits(text, 0, 4, '-', &tm.tm_year) ||
        !take_digits(text, 5, 2, '-', &tm.tm_mon) || !take_digits(text, 8, 2, 'T', &tm.tm_mday) ||
        !take_digits(text, 11, 2, ':', &tm.tm_hour) || !take_digits(text, 14, 2, ':', &tm.tm_min) ||
        !take_digits(text, 17, 2, 'Z', &tm.tm_sec)) {
        return false;
    }
    if (tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
        tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59) {
        return false;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *seconds = (uint64_t)timegm(&tm);
    return true;
}

static void read_time(struct reader *r, const struct at *at, json_t *value, void *to,
                      const struct member *member)
{
    (void)member;
    struct str text;
    if (r->mode != DECODE_FEED || !reader_view(r, at, value, &text)) {
        return;
    }
    if (!parse_time(text, to)) {
        reader_problem(r, at, "must be a time such as \"2026-01-31T12:00:00Z\"");
    }
}

static json_t *write_time(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const uint64_t last = 253402300799; // the year 9999 ends
    uint64_t seconds = *(const uint64_t *)from;
    *skip = seconds == 0;
    if (*skip) {
        return NULL;
    }
    time_t time = (time_t)(seconds < last ? seconds : last);
    struct tm tm;
    char text[TIME_LEN + 1];
    gmtime_r(&time, &tm);
    return json_stringn(text, strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm));
}

// --- the table

#define READ_ONLY_TEXT(name)                                          \
    {                                                                 \
        {#name, sizeof #name - 1}, read_fact, write_text,             \
            offsetof(struct certificate_decl, facts.name), &fact_rule \
    }
#define AT(member) offsetof(struct certificate_decl, member)

// Chain and key have no writer: they are never part of a value.
static const struct member certificate_members[] = {
    {{"chain", 5}, read_text, NULL, AT(chain), &pem_rule},
    {{"key", 3}, read_text, NULL, AT(key), &pem_rule},
    {{"chain_file", 10}, read_text, write_text, AT(chain_file), &path_rule},
    {{"key_file", 8}, read_text, write_text, AT(key_file), &path_rule},
    {{"hosts", 5}, read_hosts, write_hosts, AT(hosts), NULL},
    {{"names", 5}, read_names, write_hosts, AT(names), NULL},
    {{"not_before", 10}, read_time, write_time, AT(facts.not_before), NULL},
    {{"not_after", 9}, read_time, write_time, AT(facts.not_after), NULL},
    READ_ONLY_TEXT(subject),
    READ_ONLY_TEXT(issuer),
    READ_ONLY_TEXT(serial),
    READ_ONLY_TEXT(fingerprint),
    READ_ONLY_TEXT(key_type),
    READ_ONLY_TEXT(content),
};

const struct member_table certificate_table_members = {
    certificate_members, MEMBER_COUNT(certificate_members), "a certificate"};

static bool has(json_t *value, const char *name)
{
    return json_object_get(value, name) != NULL;
}

static void check_pair(struct reader *r, json_t *value, const char *chain, const char *key)
{
    bool has_chain = has(value, chain);
    if (has_chain != has(value, key)) {
        const struct at at = {NULL, has_chain ? key : chain, 0};
        reader_problem(r, &at, "is missing; \"%s\" and \"%s\" go together", chain, key);
    }
}

void certificate_finish(struct reader *r, json_t *value)
{
    if (!json_is_object(value)) {
        return; // a problem already
    }
    bool is_text = has(value, "chain") || has(value, "key");
    bool is_file = has(value, "chain_file") || has(value, "key_file");
    if (is_text && is_file) {
        const struct at at = {NULL, has(value, "chain_file") ? "chain_file" : "key_file", 0};
        reader_problem(r, &at, "cannot be declared together with chain and key");
        return;
    }
    check_pair(r, value, "chain", "key");
    check_pair(r, value, "chain_file", "key_file");
    // A record's chain and key are kept apart from it.
    if (!is_text && !is_file && r->mode == DECODE_STRICT) {
        const struct at at = {NULL, "chain", 0};
        reader_problem(r, &at,
                       "is missing: chain and key, or chain_file and key_file, must be declared "
                       "(neither chain nor key are shown; they have to be given again)");
    }
}

// --- what is found in the chain, and what is kept apart

int certificate_set_facts(struct declaration *declaration, const struct certificate_facts *facts,
                          const struct str *names, unsigned name_count)
{
    struct problems problems;
    problems_init(&problems);
    struct reader r = {.problems = &problems, .blocks = declaration->memory};
    struct certificate_decl *decl = &declaration->certificate;
    struct certificate_facts copy = *facts;
    struct str *const texts[] = {&copy.subject,     &copy.issuer,  &copy.serial,
                                 &copy.fingerprint, &copy.content, &copy.key_type};
    for (unsigned i = 0; i < MEMBER_COUNT(texts); i++) {
        *texts[i] = reader_copy(&r, *texts[i]);
    }
    struct str *list = name_count == 0 ? NULL : reader_alloc(&r, name_count * sizeof *list);
    for (unsigned i = 0; i < name_count && list != NULL; i++) {
        list[i] = reader_copy(&r, names[i]);
    }
    declaration->memory = r.blocks; // owned either way
    problems_fini(&problems);
    if (r.failed) {
        return ERR_MEMORY;
    }
    decl->facts = copy;
    decl->names = list;
    decl->name_count = name_count;
    return 0;
}

char *certificate_encode_secret(const struct declaration *declaration, int *err)
{
    const struct certificate_decl *decl = &declaration->certificate;
    *err = 0;
    if (decl->chain.len == 0 && decl->key.len == 0) {
        return NULL;
    }
    struct buf text;
    buf_init(&text, 0);
    // All the room at once, as much as escapes can take: a buffer that grew would leave a copy of the key
    // behind.
    (void)buf_reserve(&text, 6 * (decl->chain.len + decl->key.len) + 64);
    buf_put(&text, STR("{\"chain\":"));
    buf_put_json(&text, decl->chain);
    buf_put(&text, STR(",\"key\":"));
    buf_put_json(&text, decl->key);
    buf_put_char(&text, '}');
    char *copy = text.failed ? NULL : str_dup(buf_str(&text));
    if (text.p != NULL) {
        explicit_bzero(text.p, text.len);
    }
    buf_fini(&text);
    *err = copy == NULL ? ERR_MEMORY : 0;
    return copy;
}

// The tree is ours alone: nobody else sees that a constant text is cleared.
static void wipe(json_t *text)
{
    if (text != NULL) {
        explicit_bzero((void *)(uintptr_t)json_string_value(text), json_string_length(text));
    }
}

int certificate_decode_secret(struct str text, char **chain, char **key)
{
    *chain = NULL;
    *key = NULL;
    json_error_t error;
    json_t *value = json_loadb(text.len == 0 ? "" : text.p, text.len, 0, &error);
    if (value == NULL) {
        return json_error_code(&error) == json_error_out_of_memory ? ERR_MEMORY : ERR_INVALID;
    }
    json_t *chain_text = json_object_get(value, "chain");
    json_t *key_text = json_object_get(value, "key");
    int err = ERR_INVALID;
    if (json_is_string(chain_text) && json_is_string(key_text)) {
        *chain = str_dup(str_make(json_string_value(chain_text), json_string_length(chain_text)));
        *key = str_dup(str_make(json_string_value(key_text), json_string_length(key_text)));
        err = *chain == NULL || *key == NULL ? ERR_MEMORY : 0;
        wipe(key_text);
    }
    json_decref(value);
    if (err != 0) {
        free(*chain);
        if (*key != NULL) {
            explicit_bzero(*key, strlen(*key));
        }
        free(*key);
        *chain = NULL;
        *key = NULL;
    }
    return err;
}
