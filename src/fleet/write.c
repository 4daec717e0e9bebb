// SPDX-License-Identifier: MIT
// Requests into Redis: the connection `write`, who may send on it, and when.
//
//     connected ──► fence.lua: our session is the newest ──► write.lua, write.lua, … (WAIT) ──► replies
//
// Between commands a PING asks every WRITE_PING_MS whether Redis is there: silence is noticed before a request
// is sent into it. While Redis refuses writes (full, read-only) the fence's probe asks instead.
#include "base/log.h"
#include "fleet/write_int.h"

#define NO_KEY "a secret in Redis needs store.encryption_key_file"

static uint64_t now_of(const struct write *write)
{
    return write->fleet->loop.now_ms;
}

// ---- may it be written? ----

static bool is_catching_up(const struct fleet *fleet)
{
    // Away without a reason: at the start, when the connection is just being made.
    return fleet->state == FLEET_VERIFYING || fleet->state == FLEET_RESYNC ||
           (fleet->state == FLEET_AWAY && fleet->said[0] == '\0');
}

// The connection is being made for the first time, or has not said yet who may write: what comes waits.
static bool is_connecting(const struct write *write)
{
    return redis_is_ready(write->redis) ? !write->is_connected && write->trouble[0] == '\0'
                                        : write->away[0] == '\0';
}

// Why nothing can be sent now, and will not be soon; NULL: it can, or is about to.
static const char *why_not(struct write *write, char *to, size_t size)
{
    const struct fleet *fleet = write->fleet;
    if (!redis_is_ready(write->redis) && !is_connecting(write)) {
        snprintf(to, size, "Redis is away: %s", write->away);
        return to;
    }
    if (write->is_silent) {
        uint64_t silent_ms = now_of(write) - write->answer_ms;
        snprintf(to, size, "Redis has not answered for %llu.%llu s",
                 (unsigned long long)(silent_ms / 1000),
                 (unsigned long long)(silent_ms / 100 % 10));
        return to;
    }
    if (!write->is_connected && !is_connecting(write)) {
        snprintf(to, size, "Redis: %s", write->trouble);
        return to;
    }
    // What Redis takes must become live here: with a full disk it would not.
    if (fleet->replica_fault[0] != '\0') {
        snprintf(to, size, "the local replica cannot be written: %s", fleet->replica_fault);
        return to;
    }
    switch (fleet->state) {
    case FLEET_EMPTY:
        return fleet->is_key_gone ? fleet->said : FLEET_EMPTY_DETAIL;
    case FLEET_AWAY:
        return is_catching_up(fleet) ? NULL : "Redis is away: its changes cannot be followed";
    case FLEET_VERIFYING:
    case FLEET_RESYNC:
    case FLEET_FOLLOWING:
        break;
    }
    return NULL;
}

// Why it waits for follow: the state's reason, if there is one.
static const char *why_behind(const struct fleet *fleet, char *to, size_t size)
{
    snprintf(to, size, "%s%s%s", FLEET_BEHIND_DETAIL, fleet->said[0] == '\0' ? "" : ": ",
             fleet->said);
    return to;
}

static void tell_state(struct write *write)
{
    char text[300];
    const char *why = why_not(write, text, sizeof text);
    if (why == NULL && is_connecting(write)) {
        why = "Redis: the connection is being made";
    }
    if (why == NULL && is_catching_up(write->fleet)) {
        why = why_behind(write->fleet, text, sizeof text);
    }
    if (why == NULL && write->trouble[0] != '\0') {
        snprintf(text, sizeof text, "Redis: %s", write->trouble);
        why = text;
    }
    bool is_writable = why == NULL;
    if (is_writable && write->has_told && write->told_writable) {
        return;
    }
    write->has_told = true;
    write->told_writable = is_writable;
    fleet_tell_writable(write->fleet, is_writable, is_writable ? "" : why);
}

// What waits in line is refused when nothing will be sent soon.
static void look(struct write *write)
{
    char text[300];
    const char *why = why_not(write, text, sizeof text);
    if (why != NULL && write->line_count > 0) {
        pending_refuse_line(write, why);
    }
    tell_state(write);
}

static void note_answer(struct write *write)
{
    write->answer_ms = now_of(write);
    write->is_silent = false;
}

// ---- the fence ----

static void on_fence(void *context, struct redis *redis, const struct redis_reply *reply);

// So that the first writes of a connection are not sent twice: those that come meanwhile would overtake them. A
// server that does not allow it has them sent with the text.
static void load_script(struct write *write)
{
    const struct str argv[] = {STR("SCRIPT"), STR("LOAD"), str_from_c(fleet_script_write.text)};
    if (!redis_command(write->redis, 3, argv, NULL, NULL)) {
        log_debug("the script of writes is not loaded ahead");
    }
}

static void send_fence(struct write *write, bool is_probe)
{
    struct fleet *fleet = write->fleet;
    char session[24];
    snprintf(session, sizeof session, "%llu", (unsigned long long)write->session);
    const struct str argv[] = {
        str_from_c(fleet->keys.texts[FLEET_FENCE]), str_from_c(fleet->keys.texts[FLEET_META]),
        str_from_c(fleet->node_id), str_from_c(session), is_probe ? STR("1") : STR("0")};
    if (!is_probe) {
        load_script(write);
    }
    write->is_fencing = fleet_script_call(write->redis, &fleet_script_fence, 2,
                                          sizeof argv / sizeof argv[0], argv, on_fence, write);
    write->asked_ms = now_of(write);
}

static void note_place(struct write *write, const struct redis_reply *reply)
{
    int64_t revision = 0;
    if (!redis_reply_number(redis_reply_item(reply, 2), &revision) || revision < 0) {
        revision = 0;
    }
    str_copy(write->settle_epoch, sizeof write->settle_epoch, redis_reply_item(reply, 1)->text);
    write->settle_revision = (uint64_t)revision;
}

static void on_fence_refused(struct write *write, const struct redis_reply *reply)
{
    bool is_error = reply->type == REDIS_ERROR;
    struct str text = is_error ? str_sub(reply->text, 0, str_find(reply->text, STR(" script: ")))
                               : STR("another process with this node's id writes to it");
    str_copy(write->trouble, sizeof write->trouble, text);
    // A replica: where the name leads may be another server by now.
    write->read_only = redis_reply_is_error(reply, "READONLY") ? write->read_only + 1 : 0;
    if (!is_error || write->read_only >= WRITE_READ_ONLY_MAX) {
        write->read_only = 0;
        redis_drop(write->redis, is_error ? "it is a replica" : "a newer session of this node");
    }
}

static void on_fence(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct write *write = context;
    write->is_fencing = false;
    if (reply == NULL) {
        return;
    }
    note_answer(write);
    int64_t session;
    if (!redis_reply_number(redis_reply_item(reply, 0), &session) || session <= 0) {
        on_fence_refused(write, reply);
        look(write);
        return;
    }
    note_place(write, reply);
    write->trouble[0] = '\0';
    write->read_only = 0;
    if (!write->is_connected) {
        write->session = (uint64_t)session;
        write->generation++;
        write->is_unsettled = write->sent_count + write->orphan_count > 0;
        write->is_connected = true;
    }
    look(write);
    pending_advance(write);
    write_flush(write);
}

// ---- the connection ----

static void on_state(void *context, struct redis *redis, bool is_ready, const char *detail)
{
    (void)redis;
    struct write *write = context;
    write->is_connected = false;
    write->is_waiting = false;
    write->is_fencing = false;
    write->is_silent = false;
    write->texts = 0;
    write->answer_ms = now_of(write);
    if (is_ready) {
        write->trouble[0] = '\0';
        send_fence(write, false);
    } else {
        str_copy(write->away, sizeof write->away, str_from_c(detail));
    }
    look(write);
}

static void on_pong(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct write *write = context;
    if (reply != NULL) {
        note_answer(write);
        look(write);
    }
}

static void ask(struct write *write)
{
    bool is_foreign = write->is_unsettled && write->fleet->state == FLEET_FOLLOWING &&
                      strcmp(write->settle_epoch, write->fleet->place.epoch) != 0;
    if (!write->is_connected) {
        send_fence(write, false);
    } else if (write->trouble[0] != '\0' || is_foreign) {
        send_fence(write, true);
    } else {
        const struct str ping[] = {STR("PING")};
        write->asked_ms = now_of(write);
        if (!redis_command(write->redis, 1, ping, on_pong, write)) {
            redis_drop(write->redis, "nothing can be sent");
        }
    }
}

// A server that answers nobody; WAIT holds back what is behind it.
static void look_for_silence(struct write *write)
{
    uint64_t bound_ms = FLEET_SILENCE_MS + (write->is_waiting ? FLEET_WAIT_REPLICAS_MS : 0);
    uint64_t silent_ms = redis_pending(write->redis) == 0 ? 0 : now_of(write) - write->answer_ms;
    if (silent_ms >= bound_ms && !write->is_silent) {
        write->is_silent = true;
        const struct fleet_event event = {.type = "store",
                                          .state = "silent",
                                          .detail = "Redis does not answer: writes are refused",
                                          .id = "",
                                          .outcome = "",
                                          .node = ""};
        fleet_tell(write->fleet, &event);
        log_warning("%s does not answer: writes are refused", write->fleet->config.url->shown);
    }
    if (silent_ms >= WRITE_DROP_MS) {
        redis_drop(write->redis, "it does not answer");
    }
}

static void on_tick(struct loop *loop, struct loop_timer *timer)
{
    struct write *write = CONTAINER_OF(timer, struct write, timer);
    loop_timer_set(loop, timer, WRITE_TICK_MS);
    if (redis_is_ready(write->redis)) {
        look_for_silence(write);
    }
    if (redis_is_ready(write->redis) && !write->is_fencing && redis_pending(write->redis) == 0 &&
        now_of(write) - write->asked_ms >= WRITE_PING_MS) {
        ask(write);
    }
    look(write);
    bool is_behind = is_catching_up(write->fleet) || is_connecting(write);
    char text[300];
    pending_expire(write, is_behind ? why_behind(write->fleet, text, sizeof text) : NULL);
    pending_advance(write);
    write_flush(write);
}

// ---- sending ----

static void on_replicas(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct write *write = context;
    write->is_waiting = false;
    int64_t count = 0;
    if (reply != NULL) {
        note_answer(write);
        if (!redis_reply_number(reply, &count)) {
            count = 0;
        }
    }
    LIST_FOR_EACH (node, &write->sent) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        if (pending->generation == write->generation && pending->replicas < 0 &&
            !pending->is_replying) {
            pending->replicas = count;
        }
    }
    if (reply != NULL) {
        pending_advance(write);
        write_flush(write);
    }
}

// Behind a burst: how many replicas have it. Nothing goes behind it, for that would have to wait too.
static void wait_for_replicas(struct write *write)
{
    char count[12];
    char timeout[12];
    snprintf(count, sizeof count, "%u", write->fleet->config.wait_replicas);
    snprintf(timeout, sizeof timeout, "%d", (int)FLEET_WAIT_REPLICAS_MS);
    const struct str argv[] = {STR("WAIT"), str_from_c(count), str_from_c(timeout)};
    write->is_waiting = redis_command(write->redis, 3, argv, on_replicas, write);
    if (!write->is_waiting) {
        redis_drop(write->redis, "nothing can be sent");
    }
}

static void on_reply(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct pending *pending = context;
    struct write *write = pending->write;
    if (reply != NULL) {
        note_answer(write);
    }
    pending_reply(write, pending, reply);
    if (reply != NULL) {
        pending_advance(write);
        write_flush(write);
    }
}

static bool may_send(const struct write *write, const struct pending *pending)
{
    const struct fleet *fleet = write->fleet;
    if (!write->is_connected || write->is_waiting || write->is_silent ||
        fleet->state != FLEET_FOLLOWING) {
        return false;
    }
    // Redis has said that its epoch is another; follow finds out which.
    if (pending->is_again && !pending->is_unknown_script &&
        strcmp(pending->epoch, fleet->place.epoch) == 0) {
        return false;
    }
    return write->sent_count == 0 || (write->sent_count < WRITE_SENT_MAX &&
                                      write->sent_bytes + pending->size <= WRITE_SENT_BYTES);
}

// False: it stays where it is, for there is no room.
static bool send_one(struct write *write, struct pending *pending)
{
    struct fleet *fleet = write->fleet;
    const struct fleet_writer writer = {.keys = &fleet->keys,
                                        .epoch = str_from_c(fleet->place.epoch),
                                        .seen = fleet->place.revision,
                                        .node = str_from_c(fleet->node_id),
                                        .session = write->session,
                                        .stream_entries = fleet->config.stream_entries,
                                        .stream_bytes = fleet->config.stream_bytes};
    bool with_text = pending->is_unknown_script && write->texts == 0;
    int err = fleet_call_format(&write->call, &writer, pending->request, pending->id, with_text);
    if (err != 0) {
        pending_refuse(write, pending,
                       err == ERR_LIMIT ? "too many changes for one write" : "out of memory");
        return true;
    }
    if (!redis_command(write->redis, write->call.argc, write->call.argv, on_reply, pending)) {
        if (redis_pending(write->redis) > 0) {
            return false;
        }
        pending_refuse(write, pending, "it is too large for one write");
        return true;
    }
    memcpy(pending->epoch, fleet->place.epoch, sizeof pending->epoch);
    pending->generation = write->generation;
    pending->is_replying = true;
    pending->has_text = with_text;
    pending->is_unknown_script = false;
    pending->replicas = -1;
    write->texts += with_text;
    write->asked_ms = now_of(write);
    pending_send(write, pending);
    return true;
}

void write_flush(struct write *write)
{
    unsigned before = write->sent_count;
    bool has_sent = false;
    while (write->line_count > 0) {
        struct pending *pending = LIST_FIRST(&write->line, struct pending, node);
        if (!may_send(write, pending) || !send_one(write, pending)) {
            break;
        }
        has_sent |= write->sent_count > before;
        before = write->sent_count;
    }
    if (has_sent && write->fleet->config.wait_replicas > 0) {
        wait_for_replicas(write);
    }
}

// ---- requests ----

// Without the key the nodes cannot share them: each has its own, in its own file.
static bool is_local(const struct fleet *fleet, const struct store_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        if (request->changes[i].noun != NOUN_TICKETS) {
            return false;
        }
    }
    return request->count > 0 && !seal_has_key(fleet->config.seal);
}

static void write_here(struct fleet *fleet, struct store_request *request)
{
    uint64_t revision = store_revision(fleet->config.store);
    request->way = STORE_FORCE;
    request->revision = 0; // no other than the store has
    for (unsigned i = 0; i < request->count; i++) {
        request->changes[i].revision = revision == 0 ? 1 : revision;
    }
    store_submit(fleet->config.store, &request);
}

// A secret that would lie in Redis as it is: refused.
static bool has_open_secret(const struct fleet *fleet, struct store_request *request)
{
    if (seal_has_key(fleet->config.seal)) {
        return false;
    }
    for (unsigned i = request->count; i-- > 0;) {
        struct store_change *change = &request->changes[i];
        if (change->secret != NULL) {
            change->err = ERR_INVALID;
            request->err = ERR_INVALID;
            (void)problems_add(&change->problems, ERR_INVALID, "", NO_KEY);
        }
    }
    return request->err != 0;
}

static const char *why_not_taken(struct write *write, const struct store_request *request,
                                 char *text, size_t size)
{
    if (atomic_load_explicit(&write->fleet->is_stopping, memory_order_acquire)) {
        return "the node is stopping";
    }
    if (write->line_count >= STORE_PENDING_MAX ||
        (write->line_count > 0 &&
         write->line_changes + request->count > STORE_PENDING_CHANGES_MAX)) {
        return "too many changes wait to be written";
    }
    return why_not(write, text, size);
}

void write_take(struct fleet *fleet, struct store_request *request)
{
    struct write *write = fleet->write;
    if (is_local(fleet, request)) {
        write_here(fleet, request);
        return;
    }
    fleet_make_id(request->id, STORE_ID_LEN);
    if (has_open_secret(fleet, request)) {
        store_answer(&request);
        return;
    }
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL) {
        store_request_fail(request, ERR_MEMORY, "out of memory");
        store_answer(&request);
        return;
    }
    list_init(&pending->node);
    list_init(&pending->by_id);
    pending->write = write;
    pending->request = request;
    pending->replicas = -1;
    pending->taken_ms = now_of(write);
    pending->count = request->count;
    pending->size = fleet_call_size(request);
    memcpy(pending->id, request->id, sizeof pending->id);
    char text[300];
    const char *why = why_not_taken(write, request, text, sizeof text);
    pending_line(write, pending);
    if (why != NULL) {
        pending_refuse(write, pending, why);
        return;
    }
    write_flush(write);
}

// ---- follow ----

void write_follow_changed(struct fleet *fleet)
{
    struct write *write = fleet->write;
    if (write == NULL) {
        return;
    }
    if (fleet->state == FLEET_RESYNC) {
        pending_blur(write);
    }
    look(write);
    pending_advance(write);
    write_flush(write);
}

void write_settle(struct fleet *fleet, bool is_whole)
{
    if (!is_whole) {
        pending_blur(fleet->write);
    }
    pending_advance(fleet->write);
}

// ---- from start to end ----

int write_new(struct fleet *fleet, struct problems *problems)
{
    struct write *write = calloc(1, sizeof *write);
    if (write == NULL) {
        return ERR_MEMORY;
    }
    fleet->write = write;
    write->fleet = fleet;
    fleet_call_init(&write->call);
    list_init(&write->line);
    list_init(&write->sent);
    list_init(&write->orphans);
    list_init(&write->dead);
    for (unsigned i = 0; i < WRITE_BUCKETS; i++) {
        list_init(&write->buckets[i]);
    }
    loop_timer_init(&write->timer, on_tick);
    const struct redis_config config = {.url = fleet->config.url,
                                        .tls = fleet->config.tls,
                                        .name = "pointsman-write",
                                        .loop = &fleet->loop,
                                        .on_state = on_state,
                                        .context = write};
    int err = store_reader_open(fleet->config.store, &write->reader);
    return err != 0 ? err : redis_new(&write->redis, &config, problems);
}

void write_start(struct fleet *fleet)
{
    struct write *write = fleet->write;
    loop_timer_set(&fleet->loop, &write->timer, WRITE_TICK_MS);
    redis_start(write->redis);
}

void write_stop(struct fleet *fleet)
{
    if (fleet->write != NULL) {
        pending_stop(fleet->write);
    }
}

void write_free(struct fleet *fleet)
{
    struct write *write = fleet->write;
    if (write == NULL) {
        return;
    }
    fleet->write = NULL;
    if (fleet->loop.epoll_fd >= 0) {
        loop_timer_cancel(&fleet->loop, &write->timer);
    }
    redis_free(&write->redis);
    pending_free_all(write);
    store_reader_close(&write->reader);
    fleet_call_fini(&write->call);
    free(write);
}
