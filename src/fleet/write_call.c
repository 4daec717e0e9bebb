// SPDX-License-Identifier: MIT
// A request as a call of write.lua, and what that has answered. The order of arguments is told there.
#include "base/log.h"
#include "fleet/fleet_int.h"

// ---- arguments ----

void fleet_call_init(struct fleet_call *call)
{
    *call = (struct fleet_call){.argc = 0};
    buf_init(&call->text, 0);
}

void fleet_call_fini(struct fleet_call *call)
{
    free(call->argv);
    buf_fini(&call->text);
    *call = (struct fleet_call){.argc = 0};
}

static void add(struct fleet_call *call, struct str argument)
{
    if (call->argc == call->size) {
        unsigned size = call->size == 0 ? 64 : call->size * 2;
        struct str *argv = realloc(call->argv, size * sizeof *argv);
        if (argv == NULL) {
            call->failed = true;
            return;
        }
        call->argv = argv;
        call->size = size;
    }
    call->argv[call->argc++] = argument.p == NULL ? STR("") : argument;
}

static void add_c(struct fleet_call *call, const char *text)
{
    add(call, str_from_c(text));
}

// What was put into the text since `from`. It may move still: place_texts() says where it is.
static void add_text(struct fleet_call *call, size_t from)
{
    add(call, STR(""));
    if (!call->failed && call->text.len > from) {
        call->argv[call->argc - 1] = (struct str){NULL, call->text.len - from};
    }
}

static void add_number(struct fleet_call *call, uint64_t number)
{
    size_t from = call->text.len;
    buf_printf(&call->text, "%llu", (unsigned long long)number);
    add_text(call, from);
}

static void place_texts(struct fleet_call *call)
{
    size_t at = 0;
    for (unsigned i = 0; i < call->argc; i++) {
        if (call->argv[i].p == NULL) {
            call->argv[i].p = call->text.p + at;
            at += call->argv[i].len;
        }
    }
}

// ---- the parts of a request ----

static void add_condition(struct fleet_call *call, const struct store_change *change)
{
    // Nobody asks for two of them at once.
    if (change->if_none_match) {
        add(call, STR("!"));
    } else if (change->if_match != 0) {
        add_number(call, change->if_match);
    } else {
        add(call, change->if_match_any ? STR("*") : STR(""));
    }
}

static void add_change(struct fleet_call *call, const struct store_change *change)
{
    bool is_put = change->value != NULL && !change->reseal;
    add(call, noun_name(change->noun));
    add_c(call, change->key);
    add(call, change->reseal ? STR("reseal") : is_put ? STR("put") : STR("del"));
    add_c(call, is_put ? change->value : "");
    add_c(call, is_put || change->reseal ? change->secret : "");
    add(call, change->secret != NULL ? STR("set")
              : change->keep_secret  ? STR("keep")
                                     : STR("none"));
    add_condition(call, change);
    size_t from = call->text.len;
    for (unsigned i = 0; is_put && i < change->reference_count; i++) {
        const struct store_reference *reference = &change->references[i];
        if (i > 0) {
            buf_put_char(&call->text, '\t');
        }
        buf_put(&call->text, noun_name(reference->noun));
        buf_put_char(&call->text, ':');
        buf_put(&call->text, str_from_c(reference->key));
    }
    add_text(call, from);
}

static unsigned count_extras(const struct store_request *request, bool is_guard)
{
    unsigned count = 0;
    for (const struct store_extra *extra = request->extras; extra != NULL; extra = extra->next) {
        count += extra->is_guard == is_guard;
    }
    return count;
}

static void add_extras(struct fleet_call *call, const struct store_request *request, bool is_guard)
{
    for (const struct store_extra *extra = request->extras; extra != NULL; extra = extra->next) {
        if (extra->is_guard != is_guard) {
            continue;
        }
        add_number(call, extra->argc);
        for (unsigned i = 0; i < extra->argc; i++) {
            add_c(call, extra->argv[i]);
        }
        if (is_guard) {
            add(call, str_make(extra->expected, extra->expected_len));
        }
    }
}

static void add_head(struct fleet_call *call, const struct fleet_writer *writer,
                     const struct store_request *request, const char *id)
{
    static const enum fleet_key keys[] = {FLEET_META, FLEET_STREAM, FLEET_REFS, FLEET_SECRETS,
                                          FLEET_FENCE};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        add_c(call, writer->keys->texts[keys[i]]);
    }
    for (unsigned i = 0; i < NOUN_COUNT; i++) {
        add_c(call, writer->keys->nouns[i]);
    }
    add(call, writer->epoch);
    add(call, writer->node);
    add_number(call, writer->session);
    add_c(call, id);
    add(call, request->wants_fleet ? STR("w") : STR(""));
    add_number(call, writer->stream_entries);
    add_number(call, writer->stream_bytes);
    size_t from = call->text.len;
    for (unsigned i = 0; i < NOUN_COUNT; i++) {
        buf_put(&call->text, noun_name((enum noun)i));
        buf_put_char(&call->text, ' ');
    }
    add_text(call, from);
    add_number(call, request->count);
    add_number(call, count_extras(request, true));
    add_number(call, count_extras(request, false));
    add_number(call, writer->seen);
}

int fleet_call_format(struct fleet_call *call, const struct fleet_writer *writer,
                      const struct store_request *request, const char *id, bool with_text)
{
    call->argc = 0;
    call->failed = false;
    buf_clear(&call->text);
    if (request->count > FLEET_CALL_CHANGES_MAX) {
        return ERR_LIMIT;
    }
    const struct fleet_script *script = &fleet_script_write;
    add(call, with_text ? STR("EVAL") : STR("EVALSHA"));
    add_c(call, with_text ? script->text : script->sha);
    add_number(call, 5 + NOUN_COUNT);
    add_head(call, writer, request, id);
    for (unsigned i = 0; i < request->count; i++) {
        add_change(call, &request->changes[i]);
    }
    add_extras(call, request, true);
    add_extras(call, request, false);
    if (call->failed || call->text.failed) {
        buf_fini(&call->text); // `failed` stays until then
        buf_init(&call->text, 0);
        return ERR_MEMORY;
    }
    place_texts(call);
    return 0;
}

static size_t len_of(const char *text)
{
    return text == NULL ? 0 : strlen(text);
}

size_t fleet_call_size(const struct store_request *request)
{
    size_t size = 1000;
    for (unsigned i = 0; i < request->count; i++) {
        const struct store_change *change = &request->changes[i];
        size += 100 + len_of(change->key) + len_of(change->value) + len_of(change->secret);
        for (unsigned j = 0; j < change->reference_count; j++) {
            size += 16 + len_of(change->references[j].key);
        }
    }
    for (const struct store_extra *extra = request->extras; extra != NULL; extra = extra->next) {
        for (unsigned i = 0; i < extra->argc; i++) {
            size += 16 + len_of(extra->argv[i]);
        }
        size += extra->expected_len;
    }
    return size;
}

// ---- what uses it ----

// Names of what refers to a record, as it would be with the request: from the replica, but for what the
// request itself says.
struct users {
    const struct store_request *request;
    struct store_change *change;
    unsigned count;
    struct {
        enum noun noun;
        char *key;
    } items[STORE_REFERRER_MAX];
};

static const struct store_change *last_change_of(const struct store_request *request,
                                                 enum noun noun, struct str key)
{
    for (unsigned i = request->count; i-- > 0;) {
        const struct store_change *change = &request->changes[i];
        if (!change->reseal && change->noun == noun && str_eq(str_from_c(change->key), key)) {
            return change;
        }
    }
    return NULL;
}

static void add_user(struct users *users, enum noun noun, struct str key)
{
    char *copy = users->count < STORE_REFERRER_MAX ? str_dup(key) : NULL;
    if (copy == NULL) {
        return;
    }
    unsigned at = users->count++;
    while (at > 0 && (users->items[at - 1].noun > noun ||
                      (users->items[at - 1].noun == noun &&
                       str_cmp(str_from_c(users->items[at - 1].key), key) > 0))) {
        users->items[at] = users->items[at - 1];
        at--;
    }
    users->items[at].noun = noun;
    users->items[at].key = copy;
}

static void on_user(void *context, enum noun noun, struct str key)
{
    struct users *users = context;
    if (last_change_of(users->request, noun, key) == NULL) {
        add_user(users, noun, key);
    }
}

static bool refers_to(const struct store_change *change, const struct store_change *target)
{
    for (unsigned i = 0; i < change->reference_count; i++) {
        const struct store_reference *reference = &change->references[i];
        if (reference->noun == target->noun && strcmp(reference->key, target->key) == 0) {
            return true;
        }
    }
    return false;
}

static void add_own_users(struct users *users)
{
    const struct store_request *request = users->request;
    for (unsigned i = 0; i < request->count && users->count < STORE_REFERRER_MAX; i++) {
        const struct store_change *change = &request->changes[i];
        if (change->value != NULL && refers_to(change, users->change) &&
            last_change_of(request, change->noun, str_from_c(change->key)) == change) {
            add_user(users, change->noun, str_from_c(change->key));
        }
    }
}

static void refuse_used(struct store_request *request, struct store_change *change, uint64_t count,
                        struct store_reader *reader)
{
    struct users users = {.request = request, .change = change};
    int err = reader == NULL ? 0
                             : store_reader_referrers(reader, change->noun, str_from_c(change->key),
                                                      on_user, &users);
    if (err != 0) {
        log_warning("who uses what is to be deleted cannot be read: %s", err_text(err));
    }
    add_own_users(&users);
    for (unsigned i = 0; i < users.count; i++) {
        store_refuse_used(request, change, users.items[i].noun, str_from_c(users.items[i].key));
        free(users.items[i].key);
    }
    if (users.count == 0) { // the replica is behind: it is used by what is not here yet
        change->err = ERR_IN_USE;
        request->err = ERR_IN_USE;
        (void)problems_add(&change->problems, ERR_IN_USE, "", "%s \"%.100s\" is used",
                           noun_name(change->noun).p, change->key);
    } else if (count > users.count) {
        store_refuse_used(request, change, change->noun, STR(""));
    }
}

// ---- answers ----

static bool take_number(struct str *rest, uint64_t *number)
{
    struct str word;
    str_split(*rest, ' ', &word, rest);
    return str_to_u64(word, number) == 0;
}

// "n5 u5 s3 d5 r3"
static bool read_changes(struct store_request *request, struct str list)
{
    for (unsigned i = 0; i < request->count; i++) {
        struct store_change *change = &request->changes[i];
        struct str word;
        str_split(list, ' ', &word, &list);
        if (word.len < 2 || str_to_u64(str_from(word, 1), &change->revision) != 0) {
            return false;
        }
        change->was_new = word.p[0] == 'n';
        change->was_same = word.p[0] == 's' || word.p[0] == 'r';
        change->is_changed = !change->was_same;
    }
    return list.len == 0;
}

// "INDEX KIND NUMBER INDEX KIND NUMBER "
static bool read_refusals(struct store_request *request, struct str list,
                          struct store_reader *reader)
{
    static const struct {
        struct str name;
        enum store_refusal why;
    } kinds[] = {{{"absent", 6}, STORE_ABSENT},
                 {{"exists", 6}, STORE_EXISTS},
                 {{"none", 4}, STORE_NONE},
                 {{"revision", 8}, STORE_REVISION},
                 {{"dangling", 8}, STORE_DANGLING}};
    while (list.len > 0) {
        uint64_t index;
        uint64_t number;
        struct str kind;
        if (!take_number(&list, &index) || !str_split(list, ' ', &kind, &list) ||
            !take_number(&list, &number) || index >= request->count) {
            return false;
        }
        struct store_change *change = &request->changes[index];
        if (str_eq(kind, STR("used"))) {
            refuse_used(request, change, number, reader);
            continue;
        }
        size_t at = 0;
        while (at < sizeof kinds / sizeof kinds[0] && !str_eq(kinds[at].name, kind)) {
            at++;
        }
        if (at == sizeof kinds / sizeof kinds[0] ||
            (kinds[at].why == STORE_DANGLING && number >= change->reference_count)) {
            return false;
        }
        store_refuse(request, change, kinds[at].why, number);
    }
    store_request_refuse(request);
    return request->err != 0;
}

static void read_error(struct fleet_call_answer *answer, const struct redis_reply *reply)
{
    answer->result = fleet_script_is_unknown(reply) ? FLEET_CALL_UNKNOWN : FLEET_CALL_FAILED;
    // Redis says where in the script it was, which tells nobody anything.
    size_t end = str_find(reply->text, STR(" script: "));
    struct str text = str_sub(reply->text, 0, end);
    str_copy(answer->detail, sizeof answer->detail, text);
}

// The three answers that name a revision. False: it is none of them, or malformed.
static bool read_result(struct fleet_call_answer *answer, struct store_request *request,
                        const struct redis_reply *reply, struct store_reader *reader)
{
    struct str name = redis_reply_item(reply, 0)->text;
    const struct redis_reply *list = redis_reply_item(reply, 2);
    int64_t revision;
    if (!redis_reply_number(redis_reply_item(reply, 1), &revision) || revision < 0 ||
        list->type != REDIS_STRING) {
        return false;
    }
    answer->revision = (uint64_t)revision;
    if (request == NULL) {
        bool is_ok = str_eq(name, STR("ok"));
        answer->result = is_ok ? FLEET_CALL_WRITTEN : FLEET_CALL_REFUSED;
        return is_ok || str_eq(name, STR("refused"));
    }
    if (str_eq(name, STR("refused"))) {
        answer->result = FLEET_CALL_REFUSED;
        return read_refusals(request, list->text, reader);
    }
    bool has_changed = false;
    bool is_read = str_eq(name, STR("ok")) && read_changes(request, list->text);
    for (unsigned i = 0; i < request->count; i++) {
        has_changed |= request->changes[i].is_changed;
    }
    request->revision = answer->revision;
    answer->result = has_changed ? FLEET_CALL_WRITTEN : FLEET_CALL_SAME;
    return is_read;
}

void fleet_call_read(struct fleet_call_answer *answer, struct store_request *request,
                     const struct redis_reply *reply, struct store_reader *reader)
{
    *answer = (struct fleet_call_answer){.result = FLEET_CALL_BROKEN};
    str_copy(answer->detail, sizeof answer->detail, STR("a reply that cannot be understood"));
    if (reply->type == REDIS_ERROR) {
        read_error(answer, reply);
        return;
    }
    const struct redis_reply *first = redis_reply_item(reply, 0);
    if (reply->type != REDIS_ARRAY || first->type != REDIS_STRING) {
        return;
    }
    if (str_eq(first->text, STR("epoch"))) {
        answer->result = FLEET_CALL_EPOCH;
    } else if (str_eq(first->text, STR("fenced"))) {
        answer->result = FLEET_CALL_FENCED;
    } else if (str_eq(first->text, STR("empty"))) {
        answer->result = FLEET_CALL_EMPTY;
    } else if (str_eq(first->text, STR("guard"))) {
        answer->result = FLEET_CALL_REFUSED;
        if (request != NULL) {
            store_request_fail(request, ERR_PRECONDITION,
                               "what it was made of has changed in Redis");
        }
    } else if (!read_result(answer, request, reply, reader)) {
        answer->result = FLEET_CALL_BROKEN;
    }
}
