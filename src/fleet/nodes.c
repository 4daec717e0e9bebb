// SPDX-License-Identifier: MIT
// The heartbeat of this node and the list of all, over a connection of its own:
//
//     timer, nodes_beat_now(), a wait ─► beat.lua ─► list ─► events, waits
//                                                └► epoch, revision, tag ─► follow_compare()
//
// One question at a time; what is wanted meanwhile is asked once when the answer is there.
#include "base/clock.h"
#include "base/log.h"
#include "fleet/nodes_int.h"
#include <stdlib.h>

// ---- answers ----

static void take_place(struct nodes *nodes, const struct redis_reply *reply)
{
    struct fleet_place place = {.revision = 0};
    int64_t revision = 0;
    struct str epoch = redis_reply_item(reply, 0)->text;
    struct str tag = redis_reply_item(reply, 2)->text;
    if (redis_reply_number(redis_reply_item(reply, 1), &revision) && revision >= 0 &&
        epoch.len == FLEET_EPOCH_LEN) {
        str_copy(place.epoch, sizeof place.epoch, epoch);
        str_copy(place.tag, sizeof place.tag, tag);
        place.revision = (uint64_t)revision;
    }
    struct fleet_status *status = fleet_status_lock(nodes->fleet);
    status->redis_revision = place.revision;
    fleet_status_unlock(nodes->fleet);
    follow_compare(nodes->fleet, &place);
}

static void keep_in_grace(struct nodes *nodes)
{
    nodes->grace_ms = nodes->fleet->loop.now_ms + FLEET_LIVE_MS;
}

// Somebody sets Redis' clock: what the others said before seems to be old, until they have said more.
static void look_at_clock(struct nodes *nodes, uint64_t redis_ms)
{
    uint64_t now_ms = nodes->fleet->loop.now_ms;
    uint64_t due_ms = nodes->redis_ms + (now_ms - nodes->redis_at);
    if (nodes->redis_ms != 0 && redis_ms > due_ms + FLEET_LIVE_MS / 2) {
        log_warning("the clock of %s went ahead by %llu ms", nodes->fleet->config.url->shown,
                    (unsigned long long)(redis_ms - due_ms));
        keep_in_grace(nodes);
    }
    nodes->redis_ms = redis_ms;
    nodes->redis_at = now_ms;
}

// A second process with this node's id: its entry stands where ours was.
static void look_for_twin(struct nodes *nodes, struct str before)
{
    char boot[FLEET_EPOCH_LEN + 1];
    uint64_t now = nodes->fleet->loop.now_ms;
    if (nodes->has_beaten && node_read_boot(before, boot) && strcmp(boot, nodes->boot) != 0) {
        if (nodes->twice_ms == 0) {
            const char *detail =
                "another process beats with the id of this node: was its local file copied?";
            log_error("node %s: %s", nodes->fleet->config.node_name, detail);
            const struct fleet_event event = {.type = "node",
                                              .state = "twice",
                                              .detail = detail,
                                              .id = "",
                                              .outcome = "",
                                              .node = nodes->fleet->config.node_name};
            fleet_tell(nodes->fleet, &event);
        }
        nodes->twice_ms = now;
    } else if (nodes->twice_ms != 0 && now - nodes->twice_ms > NODES_TWICE_MS) {
        nodes->twice_ms = 0;
    }
}

static void take_beat(struct nodes *nodes, struct str fault, struct str before)
{
    if (fault.len > 0) {
        if (!nodes->is_refused) {
            log_warning("%s refuses this node's heartbeat: %.*s", nodes->fleet->config.url->shown,
                        STR_ARG(str_sub(fault, 0, 200)));
        }
        nodes->is_refused = true;
        keep_in_grace(nodes); // the others' is refused as well
        return;
    }
    nodes->is_refused = false;
    if (nodes->has_beaten && before.len == 0) {
        keep_in_grace(nodes); // the list was lost, or it comes from an older copy
    }
    look_for_twin(nodes, before);
    nodes->has_beaten = true;
}

static void take_answer(struct nodes *nodes, const struct redis_reply *reply)
{
    struct fleet *fleet = nodes->fleet;
    int64_t now_ms = 0;
    if (reply->type != REDIS_ARRAY || !redis_reply_number(redis_reply_item(reply, 0), &now_ms) ||
        now_ms <= 0) {
        if (!nodes->is_refused) {
            log_warning("%s cannot say which nodes there are: %.*s", fleet->config.url->shown,
                        STR_ARG(str_sub(reply->text, 0, 200)));
        }
        nodes->is_refused = true;
        keep_in_grace(nodes);
        return;
    }
    if (nodes->is_beat) {
        take_beat(nodes, redis_reply_item(reply, 1)->text, redis_reply_item(reply, 2)->text);
    }
    look_at_clock(nodes, (uint64_t)now_ms);
    struct node_list list;
    if (node_list_read(&list, redis_reply_item(reply, 4), (uint64_t)now_ms,
                       str_from_c(fleet->node_id)) != 0 ||
        node_list_take(nodes, &list) != 0) {
        log_error("the list of nodes is not kept: out of memory");
        return;
    }
    nodes->answered = nodes->asked;
    take_place(nodes, redis_reply_item(reply, 3));
    waits_look(fleet);
}

static void on_reply(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct nodes *nodes = context;
    if (reply == NULL || nodes->is_stopped) {
        return; // on_state comes, or nothing more
    }
    nodes->is_asked = false;
    take_answer(nodes, reply);
    if (nodes->wants_beat) {
        nodes_beat_now(nodes->fleet);
    } else if (nodes->wants_look) {
        nodes_look(nodes);
    }
}

// ---- questions ----

static void ask(struct nodes *nodes)
{
    struct fleet *fleet = nodes->fleet;
    struct buf own;
    char forget[24];
    char most[24];
    buf_init(&own, NODES_JSON_MAX);
    if (nodes->is_beat) {
        node_put_own(nodes, &own);
    }
    snprintf(forget, sizeof forget, "%d", FLEET_FORGET_MS);
    snprintf(most, sizeof most, "%d", FLEET_NODE_MAX);
    const struct str argv[] = {
        str_from_c(fleet->keys.texts[FLEET_NODES]),
        str_from_c(fleet->keys.texts[FLEET_META]),
        str_from_c(fleet->node_id),
        own.failed ? STR("") : buf_str(&own),
        str_from_c(forget),
        str_from_c(most),
    };
    nodes->is_asked = fleet_script_call(nodes->redis, &fleet_script_beat, 2,
                                        sizeof argv / sizeof *argv, argv, on_reply, nodes);
    nodes->asked += nodes->is_asked;
    nodes->asked_ms = fleet->loop.now_ms;
    buf_fini(&own);
}

void nodes_beat_now(struct fleet *fleet)
{
    struct nodes *nodes = fleet->nodes;
    if (nodes->is_stopped) {
        return;
    }
    nodes->wants_beat = nodes->is_asked;
    if (!nodes->is_asked && redis_is_ready(nodes->redis)) {
        nodes->is_beat = true;
        nodes->wants_look = false;
        ask(nodes);
    }
}

void nodes_look(struct nodes *nodes)
{
    if (nodes->is_stopped) {
        return;
    }
    nodes->wants_look = nodes->is_asked;
    if (!nodes->is_asked && redis_is_ready(nodes->redis)) {
        nodes->is_beat = false;
        ask(nodes);
    }
}

bool nodes_is_away(const struct nodes *nodes)
{
    return nodes->lost_ms == 0 ? redis_silent_ms(nodes->redis) > FLEET_SILENCE_MS
                               : nodes->fleet->loop.now_ms - nodes->lost_ms > FLEET_SILENCE_MS;
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct nodes *nodes = CONTAINER_OF(timer, struct nodes, timer);
    if (redis_is_ready(nodes->redis) && redis_silent_ms(nodes->redis) > NODES_SILENT_MS) {
        redis_drop(nodes->redis, "no answer to the heartbeat for 2 s");
    } else if (!nodes->is_asked) {
        nodes_beat_now(nodes->fleet);
    }
    // The more there are, the rarer each one: all read the list of all.
    uint64_t factor = 1 + nodes->list.count / 250;
    loop_timer_set(loop, timer, FLEET_BEAT_MS * (factor > 4 ? 4 : factor));
}

static void on_state(void *context, struct redis *redis, bool is_ready, const char *detail)
{
    (void)redis;
    (void)detail; // the connection of follow says the same
    struct nodes *nodes = context;
    if (!is_ready && nodes->lost_ms == 0) {
        // One that was dropped for its silence was away before.
        nodes->lost_ms = nodes->is_asked ? nodes->asked_ms : nodes->fleet->loop.now_ms;
    }
    nodes->is_asked = false;
    nodes->wants_beat = false;
    nodes->wants_look = false;
    if (is_ready) {
        nodes->lost_ms = 0;
        nodes->redis_ms = 0; // it may be another server
        keep_in_grace(nodes);
        nodes_beat_now(nodes->fleet);
    }
}

// ---- from start to end ----

int nodes_new(struct fleet *fleet, struct problems *problems)
{
    struct nodes *nodes = calloc(1, sizeof *nodes);
    if (nodes == NULL) {
        return ERR_MEMORY;
    }
    fleet->nodes = nodes;
    nodes->fleet = fleet;
    fleet_make_id(nodes->boot, FLEET_EPOCH_LEN);
    loop_timer_init(&nodes->timer, on_timer);
    const struct redis_config config = {
        .url = fleet->config.url,
        .tls = fleet->config.tls,
        .name = "pointsman-beat",
        .loop = &fleet->loop,
        .on_state = on_state,
        .context = nodes,
    };
    return redis_new(&nodes->redis, &config, problems);
}

void nodes_start(struct fleet *fleet)
{
    struct nodes *nodes = fleet->nodes;
    nodes->lost_ms = fleet->loop.now_ms;
    redis_start(nodes->redis);
    loop_timer_set(&fleet->loop, &nodes->timer, FLEET_BEAT_MS);
}

static void on_left(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    (void)reply;
    ((struct nodes *)context)->has_left = true;
}

// The thread has ended; its loop turns here for a moment.
void nodes_stop(struct fleet *fleet)
{
    struct nodes *nodes = fleet->nodes;
    if (nodes == NULL || nodes->is_stopped) {
        return;
    }
    nodes->is_stopped = true;
    loop_timer_cancel(&fleet->loop, &nodes->timer);
    const struct str argv[] = {STR("HDEL"), str_from_c(fleet->keys.texts[FLEET_NODES]),
                               str_from_c(fleet->node_id)};
    if (nodes->has_beaten && nodes->redis != NULL && redis_is_ready(nodes->redis) &&
        redis_command(nodes->redis, 3, argv, on_left, nodes)) {
        uint64_t until = clock_monotonic_ns() + NODES_LEAVE_MS * NS_PER_MS;
        while (!nodes->has_left && clock_monotonic_ns() < until) {
            loop_turn(&fleet->loop, 20);
        }
    }
    redis_free(&nodes->redis);
}

void nodes_free(struct fleet *fleet)
{
    struct nodes *nodes = fleet->nodes;
    if (nodes == NULL) {
        return;
    }
    fleet->nodes = NULL;
    loop_timer_cancel(&fleet->loop, &nodes->timer);
    redis_free(&nodes->redis);
    node_list_fini(&nodes->list);
    free(nodes);
}

// ---- what others ask ----

uint64_t nodes_highest(struct fleet *fleet)
{
    uint64_t own = fleet->place.revision;
    return fleet->nodes->highest > own ? fleet->nodes->highest : own;
}

// This node as it is now, over what it said last.
static void fill_own(struct fleet *fleet, const struct fleet_status *status, struct fleet_node *own)
{
    const struct fleet_config *config = &fleet->config;
    struct fleet_load now = {0};
    config->load(config->context, &now);
    str_copy(own->id, sizeof own->id, str_from_c(fleet->node_id));
    str_copy(own->name, sizeof own->name, str_from_c(config->node_name));
    str_copy(own->zone, sizeof own->zone, str_from_c(config->node_zone));
    str_copy(own->address, sizeof own->address, str_from_c(config->address));
    str_copy(own->version, sizeof own->version, str_from_c(config->version));
    str_copy(own->epoch, sizeof own->epoch, str_from_c(status->epoch));
    own->revision = status->revision;
    own->connections = now.connections;
    own->requests = now.requests;
    own->workers = now.workers;
    own->is_draining = now.is_draining;
    own->is_live = true;
    own->is_self = true;
    if (own->seen_ms == 0) {
        own->seen_ms = clock_real_ns() / NS_PER_MS; // Redis' clock is not known yet
    }
}

static int by_name(const void *a, const void *b)
{
    const struct fleet_node *left = a;
    const struct fleet_node *right = b;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : strcmp(left->id, right->id);
}

unsigned fleet_list_nodes(struct fleet *fleet, struct fleet_node **out)
{
    struct nodes *nodes = fleet->nodes;
    struct fleet_status status;
    fleet_get_status(fleet, &status);
    (void)fleet_status_lock(fleet);
    unsigned count = nodes->list.count;
    struct fleet_node *list = calloc((size_t)count + 1, sizeof *list);
    uint64_t passed = nodes->list_ns == 0 ? 0 : (clock_monotonic_ns() - nodes->list_ns) / NS_PER_MS;
    struct fleet_node *own = NULL;
    for (unsigned i = 0; i < count && list != NULL; i++) {
        list[i] = nodes->list.items[i].node;
        list[i].age_ms += passed;
        list[i].is_live = list[i].is_live && passed <= FLEET_LIVE_MS;
        own = list[i].is_self ? &list[i] : own;
    }
    fleet_status_unlock(fleet);
    *out = list;
    if (list == NULL) {
        return 0;
    }
    fill_own(fleet, &status, own != NULL ? own : &list[count++]);
    qsort(list, count, sizeof *list, by_name);
    return count;
}
