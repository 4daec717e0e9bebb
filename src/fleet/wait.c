// SPDX-License-Identifier: MIT
// Calls that wait until all live nodes serve a revision:
//
//     control: fleet_wait() ─► mailbox ─► list of waits, a look every few ms ─► mailbox ─► control: on_done
//
// A record that somebody waits for makes every node beat at once when it is live there; the looks here read that.
// While Redis is silent nothing is known: it may be back before the time is up.
#include "base/clock.h"
#include "fleet/nodes_int.h"
#include <stdlib.h>

enum { LAGGING_MAX = 1024 };

struct fleet_wait {
    struct loop_message message; // one way, then the other
    struct list node;            // waits->list
    struct fleet *fleet;
    uint64_t revision;
    uint64_t until_ns; // monotonic
    uint64_t look;     // an answer to a question with a higher number counts
    char epoch[FLEET_EPOCH_LEN + 1];
    atomic_bool is_given_up; // by who waits: is looked at now and then
    // The control thread's; NULL: given up.
    void (*on_done)(void *context, const char *lagging);
    void *context;
    char lagging[LAGGING_MAX];
};

struct waits {
    struct fleet *fleet;
    struct list list;
    struct loop_timer timer;
    atomic_uint count; // begun and not over: written by the control thread
};

// ---- the end of one ----

static void on_over(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct fleet_wait *wait = CONTAINER_OF(message, struct fleet_wait, message);
    atomic_fetch_sub_explicit(&wait->fleet->waits->count, 1, memory_order_relaxed);
    if (wait->on_done != NULL) {
        wait->on_done(wait->context, wait->lagging);
    }
    free(wait);
}

static void end(struct fleet_wait *wait)
{
    list_remove(&wait->node);
    wait->message.run = on_over;
    loop_post(wait->fleet->control, &wait->message);
}

static bool serves(const struct fleet *fleet, const struct fleet_wait *wait,
                   const struct fleet_node *node)
{
    const char *epoch = node->is_self ? fleet->place.epoch : node->epoch;
    uint64_t revision = node->is_self ? fleet->place.revision : node->revision;
    return revision >= wait->revision && strcmp(epoch, wait->epoch) == 0;
}

static int by_text(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;
    return strcmp(*left, *right);
}

// Names those that are not known to serve it. With `all`: nobody else is, for what they said is too old.
static void name_lagging(struct fleet_wait *wait, bool all)
{
    const struct fleet *fleet = wait->fleet;
    const struct node_list *list = &fleet->nodes->list;
    const char *names[FLEET_NODE_MAX];
    unsigned count = 0;
    for (unsigned i = 0; i < list->count; i++) {
        const struct fleet_node *node = &list->items[i].node;
        bool is_behind = (all && !node->is_self) || !serves(fleet, wait, node);
        if (node->is_live && is_behind) {
            names[count++] = node->name;
        }
    }
    qsort(names, count, sizeof *names, by_text);
    size_t len = 0;
    unsigned more = 0;
    for (unsigned i = 0; i < count; i++) {
        // Room is left for the number of those that are not named.
        if (len + strlen(names[i]) + 40 > sizeof wait->lagging) {
            more++;
            continue;
        }
        len += (size_t)snprintf(wait->lagging + len, sizeof wait->lagging - len, "%s%s",
                                len == 0 ? "" : ", ", names[i]);
    }
    if (more > 0) {
        snprintf(wait->lagging + len, sizeof wait->lagging - len, " and %u more", more);
    }
    if (len == 0 && all) {
        str_copy(wait->lagging, sizeof wait->lagging, STR("all other nodes"));
    }
}

// ---- looking ----

static bool is_everywhere(const struct fleet *fleet, const struct fleet_wait *wait)
{
    const struct node_list *list = &fleet->nodes->list;
    if (fleet->nodes->answered <= wait->look || fleet->place.revision < wait->revision ||
        strcmp(fleet->place.epoch, wait->epoch) != 0) {
        return false;
    }
    for (unsigned i = 0; i < list->count; i++) {
        if (list->items[i].node.is_live && !serves(fleet, wait, &list->items[i].node)) {
            return false;
        }
    }
    return true;
}

void waits_look(struct fleet *fleet)
{
    LIST_FOR_EACH_SAFE (node, &fleet->waits->list) {
        struct fleet_wait *wait = CONTAINER_OF(node, struct fleet_wait, node);
        if (is_everywhere(fleet, wait)) {
            end(wait);
        }
    }
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct waits *waits = CONTAINER_OF(timer, struct waits, timer);
    struct fleet *fleet = waits->fleet;
    LIST_FOR_EACH_SAFE (node, &waits->list) {
        struct fleet_wait *wait = CONTAINER_OF(node, struct fleet_wait, node);
        if (atomic_load_explicit(&wait->is_given_up, memory_order_relaxed)) {
            end(wait);
        } else if (loop->now_ns >= wait->until_ns) {
            name_lagging(wait, nodes_is_away(fleet->nodes));
            if (wait->lagging[0] == '\0' && !is_everywhere(fleet, wait)) {
                str_copy(wait->lagging, sizeof wait->lagging, STR("all other nodes"));
            }
            end(wait);
        }
    }
    if (!list_is_empty(&waits->list)) {
        nodes_look(fleet->nodes);
        // Where there are many, the list is long.
        loop_timer_set(loop, timer, NODES_LOOK_MS + fleet->nodes->list.count / 10);
    }
}

static void on_begin(struct loop *loop, struct loop_message *message)
{
    struct fleet_wait *wait = CONTAINER_OF(message, struct fleet_wait, message);
    struct fleet *fleet = wait->fleet;
    struct waits *waits = fleet->waits;
    wait->look = fleet->nodes->asked;
    str_copy(wait->epoch, sizeof wait->epoch, str_from_c(fleet->place.epoch));
    list_append(&waits->list, &wait->node);
    if (atomic_load_explicit(&fleet->is_stopping, memory_order_acquire)) {
        name_lagging(wait, true);
        end(wait);
        return;
    }
    nodes_look(fleet->nodes);
    if (!loop_timer_is_set(&waits->timer)) {
        loop_timer_set(loop, &waits->timer, NODES_LOOK_MS);
    }
}

// ---- the control thread ----

int fleet_wait(struct fleet *fleet, uint64_t revision, uint64_t timeout_ms,
               void (*on_done)(void *context, const char *lagging), void *context,
               struct fleet_wait **out)
{
    struct waits *waits = fleet->waits;
    *out = NULL;
    if (atomic_load_explicit(&waits->count, memory_order_relaxed) >= FLEET_WAIT_MAX) {
        return ERR_LIMIT;
    }
    struct fleet_wait *wait = calloc(1, sizeof *wait);
    if (wait == NULL) {
        return ERR_MEMORY;
    }
    wait->fleet = fleet;
    wait->revision = revision;
    wait->until_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
    wait->on_done = on_done;
    wait->context = context;
    list_init(&wait->node);
    atomic_fetch_add_explicit(&waits->count, 1, memory_order_relaxed);
    *out = wait;
    if (atomic_load_explicit(&fleet->is_stopping, memory_order_acquire)) {
        // Its thread has ended: its lists are this one's.
        name_lagging(wait, true);
        end(wait);
        return 0;
    }
    wait->message.run = on_begin;
    loop_post(&fleet->loop, &wait->message);
    return 0;
}

void fleet_wait_end(struct fleet_wait **out)
{
    struct fleet_wait *wait = *out;
    *out = NULL;
    if (wait != NULL) {
        wait->on_done = NULL;
        atomic_store_explicit(&wait->is_given_up, true, memory_order_relaxed);
    }
}

// ---- from start to end ----

int waits_new(struct fleet *fleet)
{
    struct waits *waits = calloc(1, sizeof *waits);
    if (waits == NULL) {
        return ERR_MEMORY;
    }
    fleet->waits = waits;
    waits->fleet = fleet;
    list_init(&waits->list);
    loop_timer_init(&waits->timer, on_timer);
    return 0;
}

void waits_stop(struct fleet *fleet)
{
    struct waits *waits = fleet->waits;
    if (waits == NULL) {
        return;
    }
    loop_timer_cancel(&fleet->loop, &waits->timer);
    LIST_FOR_EACH_SAFE (node, &waits->list) {
        struct fleet_wait *wait = CONTAINER_OF(node, struct fleet_wait, node);
        name_lagging(wait, true);
        end(wait);
    }
}

void waits_free(struct fleet *fleet)
{
    free(fleet->waits);
    fleet->waits = NULL;
}
