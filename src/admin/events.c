// SPDX-License-Identifier: MIT
// Server-sent events (WHATWG HTML 9.2): one ring for all readers, each with a place of its own in it.
//
//   feed ─► ring of rendered frames ─► reader 1 (slow: falls behind the ring, is cut)
//                                   └► reader 2
//
// `id` stands only at the last event of a revision, so that who resumes after it has seen all of it.
#include "admin/admin_int.h"

enum {
    EVENTS_KEPT = 10000, // what ?since= may go back to
    EVENTS_RING = 20000, // how far a connected reader may be behind
    EVENTS_PING_MS = 15000,
};

struct event {
    uint64_t revision;
    char *frame;
    size_t len;
};

struct admin_events {
    struct admin *admin;
    struct publish_listener listener;
    struct publish_certificate_listener certificate_listener;
    struct publish_health_listener health_listener;
    struct loop_timer ping;
    struct list readers; // call->link
    unsigned reader_count;
    uint64_t next;           // number of the next event; the first is 0
    uint64_t floor_revision; // all after it is kept
    uint64_t open_revision;  // some of its events have come, the last has not; 0: none
    struct event ring[EVENTS_RING];
};

struct reader {
    uint64_t at; // number of the next event for it
    bool is_greeted;
    bool is_reset; // first tells that ?since= is too old
    bool is_pinged;
};

static uint64_t oldest(const struct admin_events *events, uint64_t span)
{
    return events->next < span ? 0 : events->next - span;
}

static void add_event(struct admin_events *events, const char *type, uint64_t revision,
                      bool is_last, struct str data)
{
    struct event *event = &events->ring[events->next % EVENTS_RING];
    struct buf frame;
    buf_init(&frame, 0);
    buf_printf(&frame, "event: %s\n", type);
    if (is_last) {
        buf_printf(&frame, "id: %llu\n", (unsigned long long)revision);
    }
    buf_put(&frame, STR("data: "));
    buf_put(&frame, data);
    buf_put(&frame, STR("\n\n"));
    free(event->frame);
    // Out of memory: an empty frame, and whoever resumes is sent back to the list.
    char *exact = frame.failed ? NULL : realloc(frame.p, frame.len);
    *event = (struct event){.revision = revision, .frame = exact, .len = frame.len};
    if (exact == NULL) {
        event->len = 0;
        events->floor_revision = revision;
        buf_fini(&frame);
    }
    events->next++;
    if (events->next > EVENTS_KEPT) {
        uint64_t dropped = events->ring[(events->next - EVENTS_KEPT - 1) % EVENTS_RING].revision;
        if (dropped > events->floor_revision) {
            events->floor_revision = dropped;
        }
    }
    LIST_FOR_EACH (node, &events->readers) {
        call_kick(CONTAINER_OF(node, struct call, link));
    }
}

static void on_applied(struct publish_listener *listener, uint64_t revision,
                       const struct store_record *records, unsigned count, bool is_last)
{
    struct admin_events *events = CONTAINER_OF(listener, struct admin_events, listener);
    struct buf data;
    buf_init(&data, 0);
    is_last = is_last && (count == 0 || !records[count - 1].is_part);
    events->open_revision = is_last ? 0 : revision;
    while (count > 0 && records[count - 1].noun == NOUN_TICKETS) {
        count--; // internal; the last of the others closes the revision
    }
    for (unsigned i = 0; i < count; i++) {
        const struct store_record *record = &records[i];
        if (record->noun == NOUN_TICKETS) {
            continue;
        }
        buf_clear(&data);
        buf_printf(&data, "{\"op\":\"%s\",\"kind\":\"%.*s\",\"key\":",
                   record->value.len == 0 ? "delete" : "put", STR_ARG(noun_name(record->noun)));
        buf_put_json(&data, record->key);
        buf_printf(&data, ",\"revision\":%llu}", (unsigned long long)revision);
        add_event(events, "change", revision, is_last && i + 1 == count, buf_str(&data));
    }
    buf_fini(&data);
}

static void on_certificate(struct publish_certificate_listener *listener,
                           const struct publish_certificate_event *event)
{
    events_add_certificate(CONTAINER_OF(listener, struct admin_events, certificate_listener),
                           event);
}

static void on_health(struct publish_health_listener *listener,
                      const struct publish_health_event *event)
{
    events_add_health(CONTAINER_OF(listener, struct admin_events, health_listener), event);
}

static void on_ping(struct loop *loop, struct loop_timer *timer)
{
    struct admin_events *events = CONTAINER_OF(timer, struct admin_events, ping);
    LIST_FOR_EACH (node, &events->readers) {
        struct call *call = CONTAINER_OF(node, struct call, link);
        struct reader *reader = call->state;
        reader->is_pinged = true;
        call_kick(call);
    }
    loop_timer_set(loop, timer, EVENTS_PING_MS);
}

int events_new(struct admin_events **out, struct admin *admin)
{
    struct admin_events *events = calloc(1, sizeof *events);
    if (events == NULL) {
        return ERR_MEMORY;
    }
    events->admin = admin;
    events->floor_revision = publisher_revision(admin->publisher);
    list_init(&events->readers);
    list_init(&events->listener.node);
    events->listener.on_applied = on_applied;
    publisher_listen(admin->publisher, &events->listener);
    list_init(&events->certificate_listener.node);
    events->certificate_listener.on_event = on_certificate;
    publisher_listen_certificates(admin->publisher, &events->certificate_listener);
    list_init(&events->health_listener.node);
    events->health_listener.on_event = on_health;
    publisher_listen_health(admin->publisher, &events->health_listener);
    loop_timer_init(&events->ping, on_ping);
    loop_timer_set(admin->loop, &events->ping, EVENTS_PING_MS);
    *out = events;
    return 0;
}

void events_free(struct admin_events **events_ref)
{
    struct admin_events *events = *events_ref;
    if (events == NULL) {
        return;
    }
    *events_ref = NULL;
    list_remove(&events->listener.node);
    list_remove(&events->certificate_listener.node);
    list_remove(&events->health_listener.node);
    loop_timer_cancel(events->admin->loop, &events->ping);
    for (size_t i = 0; i < EVENTS_RING; i++) {
        free(events->ring[i].frame);
    }
    free(events);
}

static void put_greeting(const struct call *call, struct reader *reader, struct buf *out)
{
    uint64_t revision = publisher_revision(call->admin->publisher);
    buf_put(out, STR("retry: 1000\n: connected\n\n"));
    if (reader->is_reset) {
        buf_printf(out, "event: reset\nid: %llu\ndata: {\"revision\":%llu}\n\n",
                   (unsigned long long)revision, (unsigned long long)revision);
    }
    reader->is_greeted = true;
}

static enum flow step_reader(struct call *call, struct buf *out)
{
    const struct admin_events *events = call->admin->events;
    struct reader *reader = call->state;
    if (!reader->is_greeted) {
        put_greeting(call, reader, out);
    }
    if (reader->at < oldest(events, EVENTS_RING)) {
        return FLOW_CUT;
    }
    if (reader->is_pinged && reader->at == events->next) {
        buf_put(out, STR(": ping\n\n"));
    }
    reader->is_pinged = false;
    while (reader->at < events->next && out->len < ADMIN_SLICE_LEN) {
        const struct event *event = &events->ring[reader->at % EVENTS_RING];
        buf_put(out, str_make(event->frame, event->len));
        reader->at++;
    }
    return reader->at < events->next ? FLOW_MORE : FLOW_WAIT;
}

static void on_reader_gone(struct call *call)
{
    list_remove(&call->link);
    call->admin->events->reader_count--;
}

static void free_reader(struct call *call)
{
    free(call->state);
}

static const struct call_ops reader_ops = {
    .step = step_reader,
    .on_gone = on_reader_gone,
    .free_state = free_reader,
};

// The first event after a revision, among those that are kept: revisions only grow.
static uint64_t find_after(const struct admin_events *events, uint64_t revision)
{
    uint64_t low = oldest(events, EVENTS_KEPT);
    uint64_t high = events->next;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (events->ring[middle % EVENTS_RING].revision > revision) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

// Where the reader begins. False: the revision is not a number.
static bool place_reader(const struct call *call, struct reader *reader)
{
    const struct admin_events *events = call->admin->events;
    struct str since = call->last_event_id;
    reader->at = events->next;
    if (since.len == 0 && !call_param(call, STR("since"), &since)) {
        return true;
    }
    uint64_t revision = 0;
    if (str_to_u64(since, &revision) != 0) {
        return false;
    }
    // Newer than all: it comes from another store.
    if (revision < events->floor_revision ||
        revision > publisher_revision(call->admin->publisher)) {
        reader->is_reset = true;
    } else if (revision != 0 && revision == events->open_revision) {
        // More of it comes, and what the reader has seen of it is not known: all of it once more.
        reader->is_reset = revision == events->floor_revision;
        reader->at = reader->is_reset ? events->next : find_after(events, revision - 1);
    } else {
        reader->at = find_after(events, revision);
    }
    return true;
}

void call_events(struct call *call)
{
    struct admin_events *events = call->admin->events;
    if (events->reader_count >= ADMIN_READER_MAX) {
        answer_status(call, 503, "%u readers of events are connected already", ADMIN_READER_MAX);
        return;
    }
    struct reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        answer_err(call, ERR_MEMORY);
        return;
    }
    if (!place_reader(call, reader)) {
        free(reader);
        answer_status(call, 400, "since and Last-Event-ID are revisions");
        return;
    }
    call->state = reader;
    call->ops = &reader_ops;
    list_append(&events->readers, &call->link);
    events->reader_count++;
    call->revision = publisher_revision(call->admin->publisher);
    answer_begin(call, 200, "text/event-stream");
}

// An event that is no change takes the newest revision, and its id unless more of that revision comes: ids
// only grow, and who resumes after one has seen all of it.
static void add_aside(struct admin_events *events, const char *type, const struct buf *data)
{
    uint64_t open = events->open_revision;
    uint64_t revision = open != 0 ? open : publisher_revision(events->admin->publisher);
    add_event(events, type, revision, open == 0, buf_str(data));
}

void admin_store_changed(struct admin *admin, bool is_writable, struct str detail)
{
    struct buf data;
    buf_init(&data, 0);
    buf_printf(&data, "{\"writable\":%s", is_writable ? "true" : "false");
    if (detail.len > 0) {
        buf_put(&data, STR(",\"detail\":"));
        buf_put_json(&data, detail);
    }
    buf_put_char(&data, '}');
    add_aside(admin->events, "store", &data);
    buf_fini(&data);
}

void admin_files_changed(struct admin *admin)
{
    struct files_status files;
    struct store_status store;
    files_get_status(admin->deps.files, &files);
    store_get_status(admin->store, &store);
    struct buf data;
    buf_init(&data, 0);
    buf_printf(&data, "{\"writable\":%s,\"folder\":%s,\"files\":%u,\"broken\":%u,\"refused\":%u",
               store.is_writable ? "true" : "false", files.is_folder_there ? "true" : "false",
               files.files, files.broken, files.refused);
    if (files.detail[0] != '\0') {
        buf_put(&data, STR(",\"detail\":"));
        buf_put_json(&data, str_from_c(files.detail));
    }
    buf_put_char(&data, '}');
    add_aside(admin->events, "store", &data);
    buf_fini(&data);
}

void admin_node_changed(struct admin *admin, const char *state)
{
    struct buf data;
    buf_init(&data, 0);
    buf_put(&data, STR("{\"state\":"));
    buf_put_json(&data, str_from_c(state));
    buf_put_char(&data, '}');
    add_aside(admin->events, "node", &data);
    buf_fini(&data);
}

static void put_member(struct buf *to, const char *name, const char *text)
{
    if (text[0] != '\0') {
        buf_printf(to, ",\"%s\":", name);
        buf_put_json(to, str_from_c(text));
    }
}

static void put_count(struct buf *to, const char *name, uint64_t count)
{
    if (count > 0) {
        buf_printf(to, ",\"%s\":%llu", name, (unsigned long long)count);
    }
}

void admin_fleet_event(struct admin *admin, const struct fleet_event *event)
{
    struct buf data;
    buf_init(&data, 0);
    buf_put(&data, STR("{\"state\":"));
    buf_put_json(&data, str_from_c(event->state));
    put_member(&data, "node", event->node);
    put_member(&data, "id", event->id);
    put_member(&data, "outcome", event->outcome);
    put_count(&data, "revision", event->revision);
    if (strcmp(event->state, "resynced") == 0) {
        buf_printf(&data, ",\"changed\":%llu,\"deleted\":%llu", (unsigned long long)event->changed,
                   (unsigned long long)event->deleted);
    }
    put_member(&data, "detail", event->detail);
    buf_put_char(&data, '}');
    add_aside(admin->events, event->type, &data);
    buf_fini(&data);
}

void events_add_certificate(struct admin_events *events,
                            const struct publish_certificate_event *event)
{
    struct buf data;
    buf_init(&data, 0);
    buf_put(&data, STR("{\"name\":"));
    buf_put_json(&data, event->name);
    buf_put(&data, STR(",\"state\":"));
    buf_put_json(&data, str_from_c(event->state));
    if (event->not_after != 0) {
        char text[TEXT_TIME_LEN];
        buf_put(&data, STR(",\"not_after\":"));
        buf_put_json(&data, text_time(text, event->not_after));
        buf_printf(&data, ",\"days_left\":%llu", (unsigned long long)event->days_left);
    }
    if (event->detail[0] != '\0') {
        buf_put(&data, STR(",\"detail\":"));
        buf_put_json(&data, str_from_c(event->detail));
    }
    buf_put_char(&data, '}');
    add_aside(events, "certificate", &data);
    buf_fini(&data);
}

void events_add_health(struct admin_events *events, const struct publish_health_event *event)
{
    char time[TEXT_TIME_LEN];
    struct buf data;
    buf_init(&data, 0);
    buf_put(&data, STR("{\"pool\":"));
    buf_put_json(&data, event->pool);
    if (event->target.len > 0) {
        buf_put(&data, STR(",\"target\":"));
        buf_put_json(&data, event->target);
    }
    buf_put(&data, STR(",\"state\":"));
    buf_put_json(&data, str_from_c(event->state));
    buf_put(&data, STR(",\"reason\":"));
    buf_put_json(&data, str_from_c(event->reason));
    buf_put(&data, STR(",\"time\":"));
    buf_put_json(&data, text_time_ms(time, event->unix_ms));
    buf_put_char(&data, '}');
    add_aside(events, "health", &data);
    buf_fini(&data);
}
