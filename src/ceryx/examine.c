// SPDX-License-Identifier: MIT
// Hosts as Redis has them at one moment, and the request that makes routes of them. Whatever has changed
// between the two is found by the guards: then nothing is written, and it is read anew.
#include "ceryx/watch_int.h"
#include <stdlib.h>

// What the script says of a host: a row of these.
enum field {
    FIELD_TARGET, // [text]: why it cannot be read: no string, or too long
    FIELD_ENFORCE_HTTPS,
    FIELD_MODE,
    FIELD_CERTIFICATE,
    FIELD_KEY,
    FIELD_MARK,
    FIELD_ROUTE, // the stored record, or a number: is there one?
    FIELD_HAS_POOL,
    FIELD_HAS_CERTIFICATE,
};

enum { HASH_LEN = 16, HOST_ARGS = 3 };

static const char script[] =
    "local out, prefix, whole, most = {}, ARGV[1], ARGV[2] == '1', 4096\n"
    "for i = 3, #ARGV, 3 do\n"
    "  local host, key, name = ARGV[i], ARGV[i + 1], ARGV[i + 2]\n"
    "  local target = redis.pcall('GET', prefix .. ':routes:' .. host)\n"
    "  if type(target) == 'table' then target = {target.err} end\n"
    "  local s = redis.pcall('HMGET', prefix .. ':settings:' .. host,\n"
    "    'enforce_https', 'mode', 'certificate_path', 'key_path')\n"
    "  if s.err then s = {false, false, false, false} end\n"
    "  if type(target) == 'string' and #target > most then\n"
    "    target = {'its target is too long'}\n"
    "  end\n"
    "  for j = 1, 4 do\n"
    "    if s[j] and #s[j] > most then s[j] = false target = {'its settings are too long'} end\n"
    "  end\n"
    "  local route\n"
    "  if whole or not target then route = redis.call('HGET', KEYS[2], key)\n"
    "  else route = redis.call('HEXISTS', KEYS[2], key) end\n"
    "  out[#out + 1] = {target, s[1], s[2], s[3], s[4], redis.call('HGET', KEYS[1], host), route,\n"
    "    redis.call('HEXISTS', KEYS[3], name), redis.call('HEXISTS', KEYS[4], name)}\n"
    "end\n"
    "return out\n";

// The route key of a host: '' where there is none, which the script does not find.
static char *key_of(const char *host)
{
    struct problems problems;
    problems_init(&problems);
    char *key = NULL;
    if (ceryx_key(str_from_c(host), &key, &problems) != 0) {
        key = str_dup(STR(""));
    }
    problems_fini(&problems);
    return key;
}

bool examine_send(struct ceryx_watch *watch, const char *const *hosts, unsigned count,
                  bool with_values, redis_on_reply *on_reply, void *context)
{
    enum { FIXED = 9 };
    size_t argc = FIXED + (size_t)count * HOST_ARGS;
    struct str *argv = calloc(argc, sizeof *argv);
    char(*names)[CERYX_NAME_MAX + 1] = calloc(count, sizeof *names);
    char **keys = calloc(count, sizeof *keys);
    bool is_sent = argv != NULL && names != NULL && keys != NULL;
    for (unsigned i = 0; i < count && is_sent; i++) {
        keys[i] = key_of(hosts[i]);
        is_sent = keys[i] != NULL;
        if (is_sent) {
            ceryx_name(str_from_c(keys[i]), names[i]);
            struct str *to = &argv[FIXED + (size_t)i * HOST_ARGS];
            to[0] = str_from_c(hosts[i]);
            to[1] = str_from_c(keys[i]);
            to[2] = str_from_c(names[i]);
        }
    }
    if (is_sent) {
        const struct str fixed[FIXED] = {
            STR("EVAL"),
            str_make(script, sizeof script - 1),
            STR("4"),
            str_from_c(watch->mark_key),
            str_from_c(watch->routes_key),
            str_from_c(watch->pools_key),
            str_from_c(watch->certificates_key),
            str_from_c(watch->config.prefix),
            with_values ? STR("1") : STR("0"),
        };
        memcpy(argv, fixed, sizeof fixed);
        is_sent = redis_command(watch->redis, (unsigned)argc, argv, on_reply, context);
    }
    for (unsigned i = 0; keys != NULL && i < count; i++) {
        free(keys[i]);
    }
    free(keys);
    free(names);
    free(argv);
    return is_sent;
}

// ---- a row ----

enum { DIGEST_LEN = 16 };

// What grows while rows are read, and the row of the moment.
struct draft {
    struct ceryx_watch *watch;
    struct rows *rows;
    struct store_change *changes;
    unsigned change_count;
    struct store_extra *extras;
    struct store_extra **last_extra;
    const char *host;
    struct ceryx_source source; // views into the reply
    struct ceryx_present present;
    struct str mark;   // p NULL: it was never adopted
    bool has_field;    // of the mark, whatever it says
    bool is_unread;    // its keys hold what is not read at all
    struct str stored; // the route's value; p NULL: there is none, or it was not read
    uint64_t revision; // its; 0: not known
    char *key;
    char name[CERYX_NAME_MAX + 1];
};

static struct str text_of(const struct redis_reply *row, unsigned at)
{
    const struct redis_reply *item = redis_reply_item(row, at);
    return item->type == REDIS_STRING ? item->text : STR_NULL;
}

static bool flag_of(const struct redis_reply *row, unsigned at)
{
    int64_t number;
    return redis_reply_number(redis_reply_item(row, at), &number) && number > 0;
}

// Of "REVISION REFS\nVALUE".
static struct str value_of(struct str record)
{
    struct str head;
    struct str value;
    return record.p != NULL && str_split(record, '\n', &head, &value) ? value : STR_NULL;
}

static uint64_t revision_of(struct str record)
{
    uint64_t revision;
    return str_to_u64(str_sub(record, 0, str_find_char(record, ' ')), &revision) == 0 ? revision
                                                                                      : 0;
}

static void read_row(struct draft *draft, const struct redis_reply *row, const char *host)
{
    draft->host = host;
    draft->source = (struct ceryx_source){
        .host = str_from_c(host),
        .target = text_of(row, FIELD_TARGET),
        .enforce_https = text_of(row, FIELD_ENFORCE_HTTPS),
        .mode = text_of(row, FIELD_MODE),
        .certificate_path = text_of(row, FIELD_CERTIFICATE),
        .key_path = text_of(row, FIELD_KEY),
    };
    draft->is_unread = redis_reply_item(row, FIELD_TARGET)->type == REDIS_ARRAY;
    draft->mark = text_of(row, FIELD_MARK);
    draft->has_field = draft->mark.p != NULL;
    if (draft->mark.len != CERYX_DIGESTS_LEN || draft->mark.p[DIGEST_LEN] != ':') {
        draft->mark = STR_NULL;
    }
    draft->stored = value_of(text_of(row, FIELD_ROUTE));
    draft->revision = revision_of(text_of(row, FIELD_ROUTE));
    draft->present = (struct ceryx_present){
        .has_route = draft->stored.p != NULL || flag_of(row, FIELD_ROUTE),
        .has_pool = flag_of(row, FIELD_HAS_POOL),
        .has_certificate = flag_of(row, FIELD_HAS_CERTIFICATE),
    };
}

// Is what is stored still what was adopted?
static bool is_ours(const struct draft *draft)
{
    char digests[CERYX_DIGESTS_LEN + 1];
    if (draft->mark.p == NULL || draft->stored.p == NULL) {
        return false;
    }
    ceryx_digests(&draft->source, draft->stored, digests);
    return str_eq(str_from(draft->mark, DIGEST_LEN), str_from(str_from_c(digests), DIGEST_LEN));
}

// Is the source what was looked at last?
static bool is_same(const struct draft *draft)
{
    char digests[CERYX_DIGESTS_LEN + 1];
    ceryx_digests(&draft->source, STR_NULL, digests);
    return draft->mark.p != NULL &&
           str_eq(str_sub(draft->mark, 0, DIGEST_LEN), str_make(digests, DIGEST_LEN));
}

// Was anything adopted, or is it marked as refused?
static bool has_adopted(const struct draft *draft)
{
    char nothing[CERYX_DIGESTS_LEN + 1];
    ceryx_digests(&draft->source, STR_NULL, nothing);
    return draft->mark.p != NULL &&
           !str_eq(str_from(draft->mark, DIGEST_LEN), str_from_c(nothing + DIGEST_LEN));
}

// The source as it is now, and the route as it was adopted last: not looked at again until the source changes.
static void make_refused_mark(const struct draft *draft, bool keeps_route, char *to)
{
    ceryx_digests(&draft->source, STR_NULL, to);
    if (keeps_route && draft->mark.p != NULL) {
        memcpy(to + DIGEST_LEN, draft->mark.p + DIGEST_LEN, CERYX_DIGESTS_LEN - DIGEST_LEN);
    }
}

// ---- what the request gets ----

static void splice_extras(struct draft *draft, struct store_extra *extras)
{
    *draft->last_extra = extras;
    while (*draft->last_extra != NULL) {
        draft->last_extra = &(*draft->last_extra)->next;
    }
}

// Guards, and the mark (an empty value: refused) or its end.
static int add_extras(struct draft *draft, bool is_marked, struct str value)
{
    const struct ceryx_watch_config *config = &draft->watch->config;
    struct store_extra *extras = NULL;
    // What was not read cannot be compared: if it is something else by then, the mark shows it.
    int err = draft->is_unread ? 0 : ceryx_guard(config->prefix, &draft->source, &extras);
    if (err == 0) {
        err = is_marked ? ceryx_mark(config->store_prefix, &draft->source, value, &extras)
                        : ceryx_unmark(config->store_prefix, draft->source.host, &extras);
    }
    splice_extras(draft, extras);
    return err;
}

// 0, or an err; `changes` are the draft's then, or gone.
static int add_changes(struct draft *draft, const struct ceryx_parts *parts,
                       struct problems *problems)
{
    struct store_change *changes = &draft->changes[draft->change_count];
    struct ceryx_present present =
        draft->rows->for_lookup ? (struct ceryx_present){0} : draft->present;
    present.has_pool = present.has_pool && !draft->rows->keeps_parts;
    present.has_certificate = present.has_certificate && !draft->rows->keeps_parts;
    unsigned count = 0;
    int err =
        ceryx_build(draft->watch->config.seal, parts, &present, true, changes, &count, problems);
    if (err != 0 && err != ERR_MEMORY && problems->count > 0 &&
        str_starts(str_from_c(problems->items[0].pointer), STR("/settings"))) {
        // Its files cannot be read here: what is served without them is better than nothing.
        watch_refused(draft->watch, draft->host, problems->items[0].detail, true);
        problems_fini(problems);
        problems_init(problems);
        present.has_certificate = false; // an older one stays
        err = ceryx_build(draft->watch->config.seal, parts, &present, false, changes, &count,
                          problems);
    }
    draft->change_count += err == 0 ? count : 0;
    return err;
}

static struct store_change *find_route(struct draft *draft, unsigned from)
{
    for (unsigned i = from; i < draft->change_count; i++) {
        if (draft->changes[i].noun == NOUN_ROUTE) {
            return &draft->changes[i];
        }
    }
    return NULL;
}

// ---- what becomes of a row ----

// The one that was adopted, and none that somebody puts in its place meanwhile.
static int delete_route(struct draft *draft, struct problems *problems)
{
    const struct ceryx_parts parts = {.key = draft->key, .name = draft->name};
    unsigned from = draft->change_count;
    int err = add_changes(draft, &parts, problems);
    struct store_change *route = err == 0 ? find_route(draft, from) : NULL;
    if (route != NULL) {
        route->if_match = draft->revision;
    }
    return err;
}

static int on_gone(struct draft *draft, struct problems *problems, enum row_kind *kind)
{
    *kind = draft->has_field ? ROW_UNMARK : ROW_ABSENT;
    if (draft->rows->for_lookup || *kind == ROW_ABSENT || !is_ours(draft)) {
        return 0;
    }
    *kind = ROW_DELETED;
    int err = delete_route(draft, problems);
    return err == 0 ? add_extras(draft, false, STR_NULL) : err;
}

// It cannot be translated: it has no route.
static int on_bad(struct draft *draft, const char *why, struct problems *problems,
                  enum row_kind *kind)
{
    *kind = ROW_REFUSED;
    make_refused_mark(draft, false, draft->rows->refused_mark);
    bool may_have_route = !draft->rows->for_lookup && has_adopted(draft);
    if (may_have_route && draft->present.has_route && !draft->rows->has_values) {
        *kind = ROW_UNCLEAR;
        return 0;
    }
    draft->rows->refused++;
    if (draft->rows->for_lookup && is_same(draft)) {
        return 0; // a scan has said so already
    }
    watch_refused(draft->watch, draft->host, why, false);
    if (draft->rows->for_lookup) {
        return 0;
    }
    if (!may_have_route || !is_ours(draft)) {
        watch_mark(draft->watch, draft->host, draft->rows->refused_mark);
        return 0;
    }
    *kind = ROW_DELETED;
    int err = delete_route(draft, problems);
    return err == 0 ? add_extras(draft, true, STR_NULL) : err;
}

static int on_good(struct draft *draft, const struct ceryx_parts *parts, struct problems *problems,
                   enum row_kind *kind)
{
    *kind = ROW_CHANGED;
    unsigned from = draft->change_count;
    int err = add_changes(draft, parts, problems);
    if (err != 0) {
        return err;
    }
    struct store_change *route = find_route(draft, from);
    if (route != NULL) {
        // What another node has made meanwhile is on its way here: the refusal comes when it is live.
        route->if_none_match = draft->rows->for_lookup;
    }
    make_refused_mark(draft, true, draft->rows->refused_mark);
    return add_extras(draft, true, route == NULL ? STR_NULL : str_from_c(route->value));
}

static int judge(struct draft *draft, const struct redis_reply *row, struct problems *problems,
                 enum row_kind *kind)
{
    const struct redis_reply *target = redis_reply_item(row, FIELD_TARGET);
    draft->rows->has_route = draft->present.has_route;
    int err = ceryx_key(draft->source.host, &draft->key, problems);
    if (err == ERR_MEMORY) {
        return err;
    }
    if (err == 0 && !str_eq(ceryx_host(str_from_c(draft->key)), draft->source.host)) {
        err = ERR_INVALID; // no request would have found it
    }
    if (err == 0) {
        ceryx_name(str_from_c(draft->key), draft->name);
    }
    if (target->type == REDIS_NIL) {
        *kind = draft->has_field ? ROW_UNMARK : ROW_ABSENT;
        return err == 0 ? on_gone(draft, problems, kind) : 0;
    }
    if (!draft->rows->for_lookup && is_same(draft)) {
        *kind = ROW_SAME;
        return 0;
    }
    if (err != 0 || draft->is_unread) {
        char why[200];
        str_copy(why, sizeof why,
                 err == 0 ? redis_reply_item(target, 0)->text
                          : STR("its key is no host name in lower case"));
        return on_bad(draft, why, problems, kind);
    }
    struct ceryx_parts parts = {.key = NULL};
    err = ceryx_translate(&draft->source, &parts, problems);
    if (err == 0) {
        err = on_good(draft, &parts, problems, kind);
    }
    ceryx_parts_fini(&parts);
    if (err != 0 && err != ERR_MEMORY) {
        char why[512];
        str_copy(why, sizeof why,
                 str_from_c(problems->count > 0 ? problems->items[0].detail : err_text(err)));
        problems_fini(problems);
        problems_init(problems);
        return on_bad(draft, why, problems, kind);
    }
    return err;
}

static int judge_one(struct draft *draft, const struct redis_reply *row, unsigned at)
{
    struct problems problems;
    problems_init(&problems);
    read_row(draft, row, draft->rows->hosts[at]);
    int err = judge(draft, row, &problems, &draft->rows->kinds[at]);
    if (err != 0 && err != ERR_MEMORY) {
        watch_refused(draft->watch, draft->host,
                      problems.count > 0 ? problems.items[0].detail : err_text(err), false);
        draft->rows->kinds[at] = ROW_REFUSED;
        err = 0;
    }
    problems_fini(&problems);
    free(draft->key);
    draft->key = NULL;
    return err;
}

static int make_request(struct draft *draft)
{
    if (draft->change_count == 0) {
        return 0;
    }
    struct store_request *request = store_request_new(draft->change_count);
    if (request == NULL) {
        return ERR_MEMORY;
    }
    memcpy(request->changes, draft->changes, draft->change_count * sizeof *draft->changes);
    draft->change_count = 0; // the request's
    request->extras = draft->extras;
    draft->extras = NULL;
    request->loop = draft->watch->config.loop;
    draft->rows->request = request;
    return 0;
}

static void free_draft(struct draft *draft)
{
    for (unsigned i = 0; i < draft->change_count; i++) {
        store_change_fini(&draft->changes[i]);
    }
    free(draft->changes);
    while (draft->extras != NULL) {
        struct store_extra *extra = draft->extras;
        draft->extras = extra->next;
        for (unsigned i = 0; i < extra->argc; i++) {
            free(extra->argv[i]);
        }
        free(extra->argv);
        free(extra->expected);
        free(extra);
    }
}

int examine_read(struct ceryx_watch *watch, const struct redis_reply *reply, struct rows *rows)
{
    if (reply == NULL || reply->type != REDIS_ARRAY || reply->count != rows->count) {
        return ERR_UNAVAILABLE;
    }
    struct draft draft = {.watch = watch, .rows = rows};
    draft.last_extra = &draft.extras;
    draft.changes = calloc((size_t)rows->count * CERYX_CHANGE_MAX, sizeof *draft.changes);
    rows->kinds = calloc(rows->count, sizeof *rows->kinds);
    int err = draft.changes == NULL || rows->kinds == NULL ? ERR_MEMORY : 0;
    for (unsigned i = 0; i < rows->count && err == 0; i++) {
        err = judge_one(&draft, reply->items[i], i);
    }
    if (err == 0) {
        err = make_request(&draft);
    }
    free_draft(&draft);
    return err;
}

void rows_fini(struct rows *rows)
{
    store_request_free(&rows->request);
    free(rows->kinds);
    *rows = (struct rows){.count = 0};
}
