// SPDX-License-Identifier: MIT
// What is under way, in its order, and what has no outcome yet.
#include "base/hash.h"
#include "base/invariant.h"
#include "base/log.h"
#include "fleet/write_int.h"

#define STOPPING "the node is stopping"
#define UNKNOWN_DETAIL                                                                             \
    "Redis has not answered in time: whether it was written is not known yet; an event with this " \
    "id tells later"

// ---- lists ----

static struct list *bucket_of(struct write *write, struct str id)
{
    return &write->buckets[hash_str(id) % WRITE_BUCKETS];
}

static struct pending *find(struct write *write, struct str id)
{
    LIST_FOR_EACH (node, bucket_of(write, id)) {
        struct pending *pending = CONTAINER_OF(node, struct pending, by_id);
        if (str_eq(str_make(pending->id, STORE_ID_LEN), id)) {
            return pending;
        }
    }
    return NULL;
}

static void tell_counts(struct write *write)
{
    struct fleet_status *status = fleet_status_lock(write->fleet);
    status->pending = write->line_count + write->sent_count;
    status->orphans = write->orphan_count;
    fleet_status_unlock(write->fleet);
}

// Takes it out of the list of its place.
static void leave(struct write *write, struct pending *pending)
{
    list_remove(&pending->node);
    switch (pending->place) {
    case PENDING_LINE:
        write->line_count--;
        write->line_changes -= pending->count;
        break;
    case PENDING_SENT:
        write->sent_count--;
        write->sent_bytes -= pending->size;
        break;
    case PENDING_ORPHAN:
        write->orphan_count--;
        break;
    case PENDING_DEAD:
        break;
    }
}

// Nobody asks for it any more; it stays until its reply has come.
static void let_go(struct write *write, struct pending *pending)
{
    INVARIANT(pending->request == NULL);
    leave(write, pending);
    list_remove(&pending->by_id);
    if (pending->is_replying) {
        pending->place = PENDING_DEAD;
        list_append(&write->dead, &pending->node);
    } else {
        free(pending);
    }
    tell_counts(write);
}

void pending_line(struct write *write, struct pending *pending)
{
    if (pending->place == PENDING_SENT) {
        leave(write, pending);
        list_remove(&pending->by_id);
    }
    pending->place = PENDING_LINE;
    write->line_count++;
    write->line_changes += pending->count;
    if (!pending->is_again) {
        list_append(&write->line, &pending->node);
        return;
    }
    struct list *next = write->line.next;
    while (next != &write->line && CONTAINER_OF(next, struct pending, node)->is_again) {
        next = next->next;
    }
    list_insert_between(&pending->node, next->prev, next);
}

void pending_send(struct write *write, struct pending *pending)
{
    leave(write, pending);
    pending->place = PENDING_SENT;
    write->sent_count++;
    write->sent_bytes += pending->size;
    list_append(&write->sent, &pending->node);
    list_append(bucket_of(write, str_from_c(pending->id)), &pending->by_id);
}

// ---- outcomes of what was answered already ----

static void tell_outcome(struct write *write, struct pending *pending, const char *outcome,
                         uint64_t revision)
{
    const struct fleet_event event = {.type = "store",
                                      .state = "outcome",
                                      .detail = "",
                                      .id = pending->id,
                                      .outcome = outcome,
                                      .node = "",
                                      .revision = revision};
    fleet_tell(write->fleet, &event);
    uint64_t second = write->fleet->loop.now_ms / 1000;
    write->logged = second == write->logged_at ? write->logged + 1 : 1;
    write->logged_at = second;
    if (write->logged <= WRITE_LOG_MAX) {
        log_info("write %s: %s", pending->id, outcome);
    }
    let_go(write, pending);
}

static void make_orphan(struct write *write, struct pending *pending)
{
    leave(write, pending);
    pending->place = PENDING_ORPHAN;
    list_append(&write->orphans, &pending->node);
    write->orphan_count++;
    if (write->orphan_count > WRITE_ORPHAN_MAX) {
        tell_outcome(write, LIST_FIRST(&write->orphans, struct pending, node), "unknown", 0);
    }
}

// ---- answers ----

static void count_answer(struct write *write, const struct store_request *request)
{
    struct fleet_status *status = fleet_status_lock(write->fleet);
    status->writes++;
    status->unknown += request->outcome == STORE_UNKNOWN;
    status->refused += request->err == ERR_UNAVAILABLE && request->outcome == STORE_NOT_WRITTEN;
    fleet_status_unlock(write->fleet);
}

static void answer(struct write *write, struct pending *pending)
{
    struct store_request *request = pending->request;
    pending->request = NULL;
    count_answer(write, request);
    store_answer(&request);
}

void pending_end(struct write *write, struct pending *pending)
{
    answer(write, pending);
    let_go(write, pending);
}

void pending_refuse(struct write *write, struct pending *pending, const char *detail)
{
    store_request_fail(pending->request, ERR_UNAVAILABLE, detail);
    pending->request->outcome = STORE_NOT_WRITTEN;
    pending_end(write, pending);
}

void pending_refuse_line(struct write *write, const char *detail)
{
    LIST_FOR_EACH_SAFE (node, &write->line) {
        pending_refuse(write, CONTAINER_OF(node, struct pending, node), detail);
    }
}

static void end_written(struct write *write, struct pending *pending, const char *detail)
{
    uint64_t revision = pending->revision;
    store_request_fail(pending->request, ERR_UNAVAILABLE, detail);
    pending->request->revision = revision;
    pending->request->outcome = STORE_WRITTEN;
    pending_end(write, pending);
}

// What became of it is told later, unless it is clear that it never will be known.
static void end_unknown(struct write *write, struct pending *pending, const char *detail)
{
    store_request_fail(pending->request, ERR_UNAVAILABLE, detail);
    pending->request->outcome = STORE_UNKNOWN;
    answer(write, pending);
    make_orphan(write, pending);
    tell_counts(write);
}

static bool is_reseal(const struct store_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        if (!request->changes[i].reseal) {
            return false;
        }
    }
    return request->count > 0;
}

// Redis has it; now the replica, which answers. Others keep theirs: no entry tells of it.
static void reseal_here(struct write *write, struct pending *pending)
{
    struct store_request *request = pending->request;
    request->way = STORE_REPLAY;
    request->revision = 0; // no other than the store has
    pending->request = NULL;
    count_answer(write, request);
    let_go(write, pending);
    store_submit(write->fleet->config.store, &request);
}

// ---- is it here? ----

static bool is_live(const struct write *write, uint64_t revision)
{
    return write->fleet->place.revision >= revision;
}

// The replica has come to its revision without its entry: all or nothing, so one of its records tells.
static bool is_in_replica(struct write *write, const struct pending *pending)
{
    const struct store_request *request = pending->request;
    unsigned i = request->count;
    while (i > 0 && !request->changes[i - 1].is_changed) {
        i--;
    }
    if (i == 0 || write->reader == NULL) {
        return false;
    }
    const struct store_change *change = &request->changes[i - 1];
    struct buf value;
    uint64_t revision = 0;
    buf_init(&value, 0);
    int err =
        store_reader_get(write->reader, change->noun, str_from_c(change->key), &value, &revision);
    bool is_there = change->value == NULL ? err == ERR_NOT_FOUND
                                          : err == 0 && revision == pending->revision &&
                                                str_eq(buf_str(&value), str_from_c(change->value));
    buf_fini(&value);
    return is_there;
}

// Its reply was lost, but its entry was not: what of it was new is not known then.
static void fill_from_entry(struct pending *pending)
{
    struct store_request *request = pending->request;
    request->revision = pending->revision;
    for (unsigned i = 0; i < request->count; i++) {
        struct store_change *change = &request->changes[i];
        change->revision = pending->revision;
        change->was_new = change->if_none_match;
    }
}

static void end_live(struct write *write, struct pending *pending)
{
    unsigned wanted = write->fleet->config.wait_replicas;
    bool is_certain = pending->is_seen && !pending->is_blurred &&
                      strcmp(pending->epoch, write->fleet->place.epoch) == 0;
    if (!is_certain && !(pending->has_answer && is_in_replica(write, pending))) {
        end_unknown(
            write, pending,
            "it was written, but this node has not seen it since: it may have been lost, or "
            "replaced");
        tell_outcome(write, pending, "unknown", 0); // nothing will tell more
        return;
    }
    if (wanted > 0 && pending->replicas < (int64_t)wanted) {
        char detail[100];
        snprintf(detail, sizeof detail, "it is written, but only %lld of %u replicas have it",
                 pending->replicas < 0 ? 0ll : (long long)pending->replicas, wanted);
        end_written(write, pending, detail);
        return;
    }
    if (!pending->has_answer) {
        fill_from_entry(pending);
    }
    pending_end(write, pending);
}

// Answers one that was sent, if that can be done now.
static bool try_end(struct write *write, struct pending *pending)
{
    bool is_known = pending->has_answer || (pending->is_seen && !pending->is_replying);
    if (!is_known || !is_live(write, pending->revision)) {
        return false;
    }
    if (pending->has_answer && pending->result == FLEET_CALL_SAME && is_reseal(pending->request)) {
        reseal_here(write, pending);
        return true;
    }
    if (pending->has_answer && pending->result != FLEET_CALL_WRITTEN) {
        pending_end(write, pending);
        return true;
    }
    bool is_confirming = write->fleet->config.wait_replicas > 0 && pending->replicas < 0 &&
                         pending->has_answer && pending->generation == write->generation;
    if (is_confirming) {
        return false;
    }
    end_live(write, pending);
    return true;
}

// ---- what older sessions have sent ----

static bool is_old(const struct write *write, const struct pending *pending)
{
    return pending->generation != write->generation && !pending->has_answer && !pending->is_seen;
}

static void settle(struct write *write)
{
    const struct fleet *fleet = write->fleet;
    if (!write->is_unsettled || !write->is_connected || fleet->state != FLEET_FOLLOWING ||
        strcmp(fleet->place.epoch, write->settle_epoch) != 0 ||
        !is_live(write, write->settle_revision)) {
        return;
    }
    write->is_unsettled = false;
    LIST_FOR_EACH_SAFE (sent, &write->sent) {
        struct pending *pending = CONTAINER_OF(sent, struct pending, node);
        if (!is_old(write, pending)) {
            continue;
        }
        if (pending->is_blurred) {
            end_unknown(write, pending, UNKNOWN_DETAIL);
        } else {
            pending_refuse(write, pending,
                           "the connection to Redis was lost before it was written");
        }
    }
    LIST_FOR_EACH_SAFE (orphan, &write->orphans) {
        struct pending *pending = CONTAINER_OF(orphan, struct pending, node);
        if (pending->generation != write->generation) {
            tell_outcome(write, pending, pending->is_blurred ? "unknown" : "not_applied", 0);
        }
    }
}

void pending_advance(struct write *write)
{
    LIST_FOR_EACH_SAFE (node, &write->sent) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        // Replies come in order, and so do revisions; only what older connections left is out of it.
        if (!try_end(write, pending) && pending->generation == write->generation) {
            break;
        }
    }
    settle(write);
}

void pending_blur(struct write *write)
{
    LIST_FOR_EACH (sent, &write->sent) {
        CONTAINER_OF(sent, struct pending, node)->is_blurred = true;
    }
    LIST_FOR_EACH (orphan, &write->orphans) {
        CONTAINER_OF(orphan, struct pending, node)->is_blurred = true;
    }
}

// ---- replies ----

static void again(struct write *write, struct pending *pending)
{
    pending->is_again = true;
    pending_line(write, pending);
}

static void on_orphan_reply(struct write *write, struct pending *pending,
                            const struct fleet_call_answer *said)
{
    switch (said->result) {
    case FLEET_CALL_WRITTEN:
    case FLEET_CALL_SAME:
        tell_outcome(write, pending, "applied", said->revision);
        break;
    case FLEET_CALL_REFUSED:
    case FLEET_CALL_EPOCH:
    case FLEET_CALL_FENCED:
    case FLEET_CALL_EMPTY:
    case FLEET_CALL_UNKNOWN:
    case FLEET_CALL_FAILED:
        tell_outcome(write, pending, "not_applied", 0);
        break;
    case FLEET_CALL_BROKEN:
        tell_outcome(write, pending, "unknown", 0);
        break;
    }
}

// Errors after which the next write would fail as well.
static void note_trouble(struct write *write, const char *detail)
{
    static const char *const codes[] = {"OOM",    "READONLY", "MISCONF",  "NOREPLICAS",
                                        "NOPERM", "BROKEN",   "WRONGTYPE"};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (str_starts(str_from_c(detail), str_from_c(codes[i]))) {
            str_copy(write->trouble, sizeof write->trouble, str_from_c(detail));
        }
    }
    if (str_starts(str_from_c(detail), STR("READONLY"))) {
        redis_drop(write->redis, "it is a replica now");
    }
}

static void on_failed(struct write *write, struct pending *pending, const char *detail)
{
    char text[256];
    snprintf(text, sizeof text, "Redis: %s", detail);
    pending_refuse(write, pending, text);
    note_trouble(write, detail);
}

static void on_request_reply(struct write *write, struct pending *pending,
                             const struct fleet_call_answer *said)
{
    struct fleet *fleet = write->fleet;
    switch (said->result) {
    case FLEET_CALL_WRITTEN:
    case FLEET_CALL_SAME:
    case FLEET_CALL_REFUSED:
        write->trouble[0] = '\0';
        pending->has_answer = true;
        pending->result = said->result;
        pending->revision = said->revision;
        break;
    case FLEET_CALL_EPOCH:
        again(write, pending);
        follow_check(fleet);
        break;
    case FLEET_CALL_UNKNOWN:
        pending->is_unknown_script = true;
        again(write, pending);
        break;
    case FLEET_CALL_FENCED:
        pending_refuse(write, pending,
                       "another process with this node's id writes to Redis (is its local file a "
                       "copy?)");
        redis_drop(write->redis, "another process has this node's id");
        break;
    case FLEET_CALL_EMPTY:
        pending_refuse(write, pending, FLEET_EMPTY_DETAIL);
        follow_check(fleet);
        break;
    case FLEET_CALL_FAILED:
        on_failed(write, pending, said->detail);
        break;
    case FLEET_CALL_BROKEN:
        end_unknown(write, pending, said->detail);
        tell_outcome(write, pending, "unknown", 0);
        break;
    }
}

void pending_reply(struct write *write, struct pending *pending, const struct redis_reply *reply)
{
    pending->is_replying = false;
    if (pending->has_text && write->texts > 0) {
        write->texts--;
    }
    if (pending->place == PENDING_DEAD) {
        list_remove(&pending->node);
        free(pending);
        return;
    }
    if (reply == NULL) {
        return; // the stream or the fence tells
    }
    struct fleet_call_answer said;
    fleet_call_read(&said, pending->request, reply, write->reader);
    if (pending->place == PENDING_ORPHAN) {
        on_orphan_reply(write, pending, &said);
    } else {
        on_request_reply(write, pending, &said);
    }
}

// ---- the stream ----

void write_seen(struct fleet *fleet, struct str tag, uint64_t revision)
{
    struct pending *pending = find(fleet->write, tag);
    if (pending == NULL || pending->place == PENDING_DEAD) {
        return;
    }
    if (pending->place == PENDING_ORPHAN) {
        tell_outcome(fleet->write, pending, "applied", revision);
        return;
    }
    pending->is_seen = true;
    pending->is_blurred = false;
    if (!pending->has_answer) {
        pending->revision = revision;
    }
}

void write_live(struct fleet *fleet, uint64_t revision)
{
    (void)revision; // fleet->place has it
    pending_advance(fleet->write);
    write_flush(fleet->write);
}

// ---- time ----

static void expire_sent(struct write *write, struct pending *pending)
{
    if (pending->has_answer && pending->result == FLEET_CALL_REFUSED) {
        pending_end(write, pending); // nothing was written: there is no more to wait for
    } else if (pending->has_answer || pending->is_seen) {
        end_written(write, pending,
                    is_live(write, pending->revision)
                        ? "it is written, but the replicas have not confirmed it in time"
                        : "it is written, but this node does not serve it yet: it is behind");
    } else {
        end_unknown(write, pending, UNKNOWN_DETAIL);
    }
}

void pending_expire(struct write *write, const char *why_behind)
{
    bool is_catching_up = why_behind != NULL;
    uint64_t now_ms = write->fleet->loop.now_ms;
    LIST_FOR_EACH_SAFE (node, &write->line) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        uint64_t bound_ms = is_catching_up && !pending->is_again ? FLEET_SILENCE_MS
                                                                 : FLEET_UNKNOWN_MS - WRITE_LATE_MS;
        if (now_ms - pending->taken_ms < bound_ms) {
            break;
        }
        pending_refuse(write, pending,
                       is_catching_up      ? why_behind
                       : pending->is_again ? "Redis has another history than this node follows"
                                           : "too many writes wait for Redis");
    }
    LIST_FOR_EACH_SAFE (sent, &write->sent) {
        struct pending *pending = CONTAINER_OF(sent, struct pending, node);
        // Of one that Redis has, only the replica is waited for: so much longer as it is larger.
        bool is_written = pending->has_answer || pending->is_seen;
        uint64_t more_ms = is_written ? pending->count / WRITE_LIVE_PER_MS : 0;
        if (now_ms - pending->taken_ms >= FLEET_UNKNOWN_MS + more_ms) {
            expire_sent(write, pending);
        }
    }
}

// ---- the end ----

void pending_stop(struct write *write)
{
    pending_refuse_line(write, STOPPING);
    LIST_FOR_EACH_SAFE (node, &write->sent) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        if (!try_end(write, pending)) {
            expire_sent(write, pending);
        }
    }
}

static void free_list(struct list *list)
{
    LIST_FOR_EACH_SAFE (node, list) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        list_remove(&pending->node);
        list_remove(&pending->by_id);
        store_request_free(&pending->request);
        free(pending);
    }
}

void pending_free_all(struct write *write)
{
    free_list(&write->line);
    free_list(&write->sent);
    free_list(&write->orphans);
    free_list(&write->dead);
}
