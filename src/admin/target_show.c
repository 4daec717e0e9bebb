// SPDX-License-Identifier: MIT
// Targets as they are now: what is declared, with what is known of each.
//
//   stored pool ── declared targets ─┐
//                                    ├─► by address ─► answer
//   publisher ── live members ───────┘      (several members: the addresses of a name)
#include "base/array.h"
#include "admin/target_int.h"
#include "upstream/target.h"

// All members of one declared address.
struct shown {
    char address[POOL_MEMBER_TEXT_MAX + 1];
    char reason[HEALTH_REASON_MAX];
    const char *health; // the best of them; NULL: no member but those that leave
    uint64_t since_unix_ms;
    uint64_t requests;
    uint64_t connections;
    unsigned weight;
    bool is_declared;  // shown already
    json_t *addresses; // of a name; else NULL
};

struct view {
    struct str only; // this address alone; empty: all
    struct shown *items;
    size_t count;
    size_t size;
    json_t *places; // address → place in items
    bool is_out_of_memory;
};

static unsigned rank_health(const char *health)
{
    static const char *const ranks[] = {"down", "ejected", "unknown", "none", "up"};
    for (unsigned i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
        if (health != NULL && strcmp(health, ranks[i]) == 0) {
            return i + 1;
        }
    }
    return 0;
}

static struct shown *find_shown(const struct view *view, const char *address)
{
    const json_t *place = json_object_get(view->places, address);
    return place == NULL ? NULL : &view->items[json_integer_value(place)];
}

static struct shown *make_shown(struct view *view, const char *address)
{
    if (!ARRAY_ROOM(view->items, view->count, view->size, 16)) {
        return NULL;
    }
    struct shown *shown = &view->items[view->count];
    *shown = (struct shown){0};
    str_copy(shown->address, sizeof shown->address, str_from_c(address));
    if (json_object_set_new(view->places, address, json_integer((json_int_t)view->count)) != 0) {
        return NULL;
    }
    view->count++;
    return shown;
}

static void add_address(struct view *view, struct shown *shown, const struct publish_target *target)
{
    if (shown->addresses == NULL) {
        shown->addresses = json_array();
    }
    json_t *item = json_pack("{s:s%,s:I}", "address", target->resolved.p, target->resolved.len,
                             "requests", (json_int_t)target->requests);
    if (item != NULL && target->is_leaving) {
        json_object_set_new(item, "state", json_string("leaving"));
    } else if (item != NULL) {
        json_object_set_new(item, "health", json_string(target->health));
        json_object_set_new(item, "reason", json_string(target->reason));
    }
    view->is_out_of_memory |= json_array_append_new(shown->addresses, item) != 0;
}

static void note_target(void *context, const struct publish_target *target)
{
    struct view *view = context;
    if (view->only.len > 0 && !str_eq(view->only, target->address)) {
        return;
    }
    char address[POOL_MEMBER_TEXT_MAX + 1];
    str_copy(address, sizeof address, target->address);
    struct shown *shown = find_shown(view, address);
    if (shown == NULL && (shown = make_shown(view, address)) == NULL) {
        view->is_out_of_memory = true;
        return;
    }
    shown->requests += target->requests;
    shown->connections += target->connections;
    if (target->resolved.len > 0) {
        add_address(view, shown, target);
    }
    if (!target->is_leaving && rank_health(target->health) > rank_health(shown->health)) {
        shown->health = target->health;
        shown->since_unix_ms = target->since_unix_ms;
        shown->weight = target->weight;
        str_copy(shown->reason, sizeof shown->reason, str_from_c(target->reason));
    }
}

static void free_view(struct view *view)
{
    for (size_t i = 0; i < view->count; i++) {
        json_decref(view->items[i].addresses);
    }
    free(view->items);
    json_decref(view->places);
}

// False: out of memory, answered.
static bool read_view(struct call *call, struct str only, struct view *view)
{
    *view = (struct view){.only = only, .places = json_object()};
    if (view->places != NULL) {
        publisher_pool_targets(call->admin->publisher, str_from_c(call->key), note_target, view);
    }
    if (view->places == NULL || view->is_out_of_memory) {
        free_view(view);
        answer_err(call, ERR_MEMORY);
        return false;
    }
    return true;
}

static bool is_name(const char *text)
{
    struct target_address address = {0};
    char *memory = NULL;
    struct problems ignored;
    problems_init(&ignored);
    bool is = target_address_parse(str_from_c(text), &address, &memory, "", &ignored) == 0 &&
              address.is_name;
    free(memory);
    problems_fini(&ignored);
    return is;
}

// What is known of a declared target, onto what is declared of it.
static void put_known(json_t *item, const char *address, const struct shown *shown, bool is_limited)
{
    char since[TEXT_TIME_LEN];
    bool is_live = shown != NULL && shown->health != NULL;
    bool is_unresolved = !is_live && is_name(address);
    json_object_set_new(item, "requests",
                        json_integer(shown == NULL ? 0 : (json_int_t)shown->requests));
    if (is_limited) {
        json_object_set_new(item, "connections",
                            json_integer(shown == NULL ? 0 : (json_int_t)shown->connections));
    }
    json_object_set_new(item, "health", json_string(is_live ? shown->health : "unknown"));
    const char *reason = is_unresolved ? "the name has no address yet" : "not live";
    json_object_set_new(item, "reason", json_string(is_live ? shown->reason : reason));
    if (is_live && shown->since_unix_ms != 0) {
        text_time_ms(since, shown->since_unix_ms);
        json_object_set_new(item, "since", json_string(since));
    }
    if (is_live) {
        json_object_set_new(item, "weight_now", json_integer((json_int_t)shown->weight));
    }
    if (shown != NULL && shown->addresses != NULL) {
        json_object_set(item, "addresses", shown->addresses);
    } else if (is_unresolved) {
        json_object_set_new(item, "addresses", json_array());
    }
}

// A new reference; NULL: out of memory.
static json_t *encode_declared(struct view *view, const json_t *target)
{
    static const char *const copied[] = {"zone", "backup", "max_connections"};
    const char *address = target_text(target).p;
    json_t *weight = json_object_get(target, "weight");
    const char *state = json_string_value(json_object_get(target, "state"));
    json_t *item = json_pack("{s:s,s:I,s:s}", "address", address, "weight",
                             weight == NULL ? (json_int_t)1 : json_integer_value(weight), "state",
                             state == NULL ? "up" : state);
    if (item == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof copied / sizeof copied[0]; i++) {
        json_t *value = json_object_get(target, copied[i]);
        if (value != NULL) {
            json_object_set(item, copied[i], value);
        }
    }
    struct shown *shown = find_shown(view, address);
    if (shown != NULL) {
        shown->is_declared = true;
    }
    put_known(item, address, shown,
              json_integer_value(json_object_get(target, "max_connections")) > 0);
    return item;
}

// No longer declared, but requests are under way.
static json_t *encode_leaving(const struct shown *shown)
{
    json_t *item = json_pack("{s:s,s:s,s:I}", "address", shown->address, "state", "leaving",
                             "requests", (json_int_t)shown->requests);
    if (item != NULL && shown->addresses != NULL) {
        json_object_set(item, "addresses", shown->addresses);
    }
    return item;
}

void call_targets_get(struct call *call)
{
    uint64_t revision = 0;
    json_t *pool = object_key(call) ? object_load(call, &revision) : NULL;
    struct view view;
    if (pool == NULL) {
        return;
    }
    if (!read_view(call, STR_NULL, &view)) {
        json_decref(pool);
        return;
    }
    json_t *answer = json_array();
    bool is_whole = true;
    size_t index;
    json_t *target;
    json_array_foreach(json_object_get(pool, "targets"), index, target)
    {
        is_whole &= json_array_append_new(answer, encode_declared(&view, target)) == 0;
    }
    for (size_t i = 0; i < view.count; i++) {
        if (!view.items[i].is_declared) {
            is_whole &= json_array_append_new(answer, encode_leaving(&view.items[i])) == 0;
        }
    }
    call->etag = revision;
    free_view(&view);
    json_decref(pool);
    if (!is_whole) {
        json_decref(answer);
        answer = NULL;
    }
    answer_json_tree(call, 200, answer);
}

void call_target_get(struct call *call)
{
    uint64_t revision = 0;
    json_t *pool = target_read(call) ? object_load(call, &revision) : NULL;
    const struct target_call *state = call->state;
    struct view view;
    if (pool == NULL) {
        return;
    }
    if (!read_view(call, str_from_c(state->address), &view)) {
        json_decref(pool);
        return;
    }
    json_t *targets = json_object_get(pool, "targets");
    const json_t *target = json_array_get(targets, target_find(targets, state->address));
    if (target == NULL && view.count == 0) {
        answer_status(call, 404, "pool %s has no target %s", call->key, state->address);
    } else {
        call->etag = revision;
        answer_json_tree(call, 200,
                         target == NULL ? encode_leaving(&view.items[0])
                                        : encode_declared(&view, target));
    }
    free_view(&view);
    json_decref(pool);
}
