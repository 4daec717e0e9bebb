// SPDX-License-Identifier: MIT
// The parts of the admin API among themselves. Control thread.
#pragma once
#include "admin/admin.h"
#include "base/buf.h"
#include "http/server.h"
#include <jansson.h>

enum {
    ADMIN_SLICE_NS = 2000000,      // a task gives the thread back after this
    ADMIN_SLICE_LEN = 32768,       // bytes a task produces at most (and one item more)
    ADMIN_BODY_MAX = 1 << 20,      // bytes of a single object
    ADMIN_LIST_DEFAULT = 100,      // objects of a page
    ADMIN_LIST_MAX = 1000,         // the same, at most
    ADMIN_CONN_MAX = 1000,         // connections to the admin address
    ADMIN_LISTENER_MAX = 16,       // listening descriptors
    ADMIN_RETRY_MAX = 64,          // PATCH: attempts when somebody else was faster
    ADMIN_PARAM_MAX = 16,          // parameters of a query
    ADMIN_BATCH_MAX = 8,           // batches under way
    ADMIN_READER_MAX = 100,        // readers of /v1/events
    ADMIN_DRAIN_MAX = 1000,        // targets being drained by DELETE
    ADMIN_DRAIN_MAX_MS = 86400000, // the longest ?drain=
    ADMIN_SWITCH_MAX = 100,        // switches that wait for their targets
    ADMIN_SWITCH_MAX_MS = 600000,  // the longest wait_healthy
    ADMIN_SWITCH_DEFAULT_MS = 30000,
    ADMIN_TARGETS_MAX = 1000,   // targets of a switch, as of a pool
    ADMIN_SERIES_MAX = 10000,   // targets with series of their own in /metrics
    ADMIN_NAMES_WAIT_MS = 1000, // for the first answers of names, after a change
    ADMIN_NAMES_POLL_MS = 5,
    ADMIN_WAIT_DEFAULT_MS = 5000, // ?wait=fleet without a timeout
    ADMIN_WAIT_MAX_MS = 3600000,  // the longest ?timeout=
};

struct call;
struct admin_events;

// What a step of a long answer says.
enum flow {
    FLOW_MORE, // has more: called again when there is room
    FLOW_WAIT, // nothing now: call_kick() when there is
    FLOW_END,  // the answer is complete
    FLOW_CUT,  // it cannot be completed: the client must see that
};

// What a call does beyond "collect the body, answer once". Slots may be NULL.
struct call_ops {
    // Body bytes as they come, and their end; NULL: collected in call->body, then row->run.
    void (*on_data)(struct call *call, struct str data);
    void (*on_end)(struct call *call);
    // Appends the next piece of the answer to *out.
    enum flow (*step)(struct call *call, struct buf *out);
    // The client is gone; the call lives on while it is held.
    void (*on_gone)(struct call *call);
    // Frees call->state.
    void (*free_state)(struct call *call);
};

enum call_body {
    CALL_COLLECT, // the handler runs when the body is there
    CALL_STREAM,  // the handler runs at the head and gets on_data
};

struct call_row {
    enum http_method method; // METHOD_OTHER: any
    const char *pattern;     // "{}" is a segment, "{*}" the rest of the path
    void (*run)(struct call *call);
    uint8_t body;  // enum call_body
    bool is_open;  // needs neither token nor Host
    bool is_local; // for callers on this machine alone
    bool is_ceryx; // is there with ceryx.enabled alone
    uint8_t noun;  // enum noun, for rows of objects
};

struct call_param {
    struct str name;
    struct str value;
};

enum call_wait { WAIT_NODE, WAIT_FLEET, WAIT_NONE };

// One exchange. Lives from the request's head until its stream has ended and nobody holds it.
struct call {
    struct list node; // admin->calls
    struct admin *admin;
    struct http_stream *stream; // NULL: the client is gone, or has its answer
    const struct call_row *row;
    const struct call_ops *ops; // NULL: none of it
    void *state;                // of ops
    unsigned holds;             // answers of the store, timers that point here
    struct loop_task task;
    struct loop_timer timer; // for the handler
    struct list link;        // for the handler
    struct loop_deferred deferred;

    enum http_method method; // HEAD reads GET; is_head tells
    uint8_t version;
    bool is_head;
    bool is_pretty;
    bool is_body_done;
    bool is_answered; // the head is sent
    bool is_over;     // the whole answer is
    bool is_freed;
    bool is_ceryx;         // below /api/: errors are {"detail": …}
    bool is_ceryx_address; // came by the listener that is for /api/ alone

    // The request, in `text`.
    char *text;
    struct str path;
    struct str rest[2]; // what {} and {*} matched, as in the URL
    struct call_param params[ADMIN_PARAM_MAX];
    unsigned param_count;
    struct str authority;
    struct str origin;
    struct str authorization;
    struct str content_type;
    struct str if_match;
    struct str if_none_match;
    struct str last_event_id;
    struct buf body;

    // Of objects.
    enum noun noun;
    char *key; // canonical; owned
    enum call_wait wait;
    uint64_t wait_ms; // of ?wait=fleet
    unsigned attempts;
    bool is_conditional; // the client's If-Match: no attempt after the first

    // A write that waits for the names that it declares (named.c).
    struct publish_names *names; // asked for until the call ends
    struct store_request *early; // owned, with a hold of the call; NULL: none waits
    struct loop_timer early_timer;
    uint64_t names_until_ms; // loop time, for this and the answer below; 0: nothing has waited
    bool has_no_new_names;   // all that are declared are live: a drain waits for nothing

    // An answer that waits (named.c).
    char *late_text; // owned
    unsigned late_status;

    // What is written, while all nodes are waited for (done.c); holds the call.
    struct fleet_wait *fleet_wait;
    char *written_text; // owned; NULL: none is sent
    unsigned written_status;
    bool written_with_names;

    // Members of a problem; "" or NULL: none.
    const char *outcome; // "unknown", "written"
    const char *lagging; // nodes
    char request_id[STORE_ID_LEN + 1];

    // The answer's fields; 0 or NULL: not sent.
    uint64_t etag;
    uint64_t revision;
    const char *allow;
    unsigned retry_after_sec;
    struct buf out;
};

struct admin_listener {
    struct loop_io io;
    struct admin *admin;
    struct http_server *server;
    bool is_resting; // out of the loop for a moment: no descriptor is left for a connection
    int resting_fd;
};

struct admin {
    struct admin_deps deps;
    struct loop *loop;
    struct store *store;
    struct publisher *publisher;
    struct http_server_config server_config;
    struct tls_context *tls; // NULL: none
    struct http_server server;
    struct http_server_config ceryx_config;
    struct http_server ceryx_server; // of ceryx.api_address: without TLS, /api/ alone
    struct admin_listener listeners[ADMIN_LISTENER_MAX];
    unsigned listener_count;
    struct loop_timer rest_timer;
    bool is_wildcard; // listens on all addresses: any IP literal may stand in Host
    struct list calls;
    struct admin_events *events;
    unsigned batch_count;
    size_t batch_spooled; // bytes of answers of batches that wait for their clients
    unsigned drain_count;
    unsigned switch_count;
};

// call.c: the life of a call.
// Takes the exchange of `stream`, whose head is `head`, from the peer with this address.
void call_begin(struct admin *admin, struct http_stream *stream, const struct http_head *head,
                const struct in6_addr *peer);
// The same from the listener that is for /api/ alone.
void call_begin_ceryx(struct admin *admin, struct http_stream *stream, const struct http_head *head,
                      const struct in6_addr *peer);
void call_hold(struct call *call);
// The call may be gone at the end of the turn.
void call_drop(struct call *call);
// Gives the exchange up so that the client sees it.
void call_cut(struct call *call);
// Runs ops->step as soon as there is room.
void call_kick(struct call *call);
// The decoded value of a query parameter; false: not there.
bool call_param(const struct call *call, struct str name, struct str *value);
// Is a switch like ?pretty or ?pretty=true on?
bool call_switch(const struct call *call, struct str name);

// calls.c: the table of calls.
// The row of a path and method, with rest[] filled; NULL and *allow (methods as text, constant for
// the process; NULL: no such path).
const struct call_row *calls_find(struct str path, enum http_method method, struct str rest[2],
                                  const char **allow);

// guard.c: who may call. 0, or the HTTP status to refuse with and *detail.
unsigned guard_check(const struct admin *admin, const struct call *call,
                     const struct in6_addr *peer, const char **detail);
// Is this a content type that a body may have?
bool guard_type_is_known(struct str content_type);

// answer.c: one answer a call; a call that has no stream any more drops it.
// `body` is borrowed until the end of the event; it may be call->out. content_type NULL: no body.
void answer_send(struct call *call, unsigned status, const char *content_type, struct str body);
// JSON text, indented when ?pretty; a line feed is added. `text` must not be in call->out.
void answer_json(struct call *call, unsigned status, struct str text);
// Takes the reference.
void answer_json_tree(struct call *call, unsigned status, json_t *tree);
// application/problem+json with this status.
void answer_status(struct call *call, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The same for an err.
void answer_err(struct call *call, int err);
void answer_problems(struct call *call, const struct problems *problems);
// Takes the reference: an array of {"pointer": …, "detail": …}, or NULL.
void answer_errors(struct call *call, unsigned status, struct str detail, json_t *errors);
// Begins an answer of unknown length, which ops->step then gives.
void answer_begin(struct call *call, unsigned status, const char *content_type);
// {"pointer": …, "detail": …} of all problems as a JSON array.
void answer_put_errors(struct buf *to, const struct problems *problems);
// A JSON text as the client wants it.
void answer_put_value(const struct call *call, struct buf *to, struct str text);

// text.c: small readers.
// "30s", "500ms", "2m", "1h", "0": 0 and *ms, or ERR_SYNTAX.
int text_duration_ms(struct str text, uint64_t *ms) WARN_UNUSED;
// Does an entity tag list (RFC 9110 13.1) name this revision? *any: it is "*".
bool text_etag_matches(struct str list, uint64_t revision, bool *any);
bool text_is_true(struct str value);
// Unix seconds as "2026-12-31T23:59:59Z" (RFC 3339) in `to`; "" beyond the year 9999.
enum { TEXT_TIME_LEN = 32 };
struct str text_time(char to[TEXT_TIME_LEN], uint64_t seconds);
// Unix milliseconds as "2026-12-31T23:59:59.123Z".
struct str text_time_ms(char to[TEXT_TIME_LEN], uint64_t unix_ms);

// change.c: from a JSON value to what the store takes.
// Decodes, checks and encodes. 0 and *change (store_change_fini), or the negative err of `problems`.
int change_build(struct admin *admin, enum noun noun, const char *key, json_t *value,
                 struct store_change *change, struct problems *problems) WARN_UNUSED;
int change_build_delete(enum noun noun, const char *key, struct store_change *change) WARN_UNUSED;

// secret.c: chain and key of certificates. The only place that sees a stored key.
// Adds chain and key of a record (with its secret) to its value, where they are not there yet; nothing for one
// in files. 0, or a negative err, logged: ERR_NOT_FOUND (sealed with a key that is not there),
// ERR_INVALID, ERR_MEMORY.
int secret_reveal(const struct admin *admin, const struct store_record *record,
                  json_t *value) WARN_UNUSED;
// A merge patch of a stored certificate: what the patch does not say of chain and key stays. A new
// reference; NULL: answered. `stored` may lose members.
json_t *secret_merge(struct call *call, json_t *stored, json_t *patch);
// Overwrites what a buffer holds, and the member "key" of an object (NULL is fine).
void secret_wipe_buf(struct buf *buf);
void secret_wipe_json(json_t *value);

// admin_tls.c: TLS of the admin API.
// Makes admin->tls, if there are certificates. 0, or a negative err.
int admin_tls_open(struct admin *admin) WARN_UNUSED;
void admin_tls_close(struct admin *admin);
// Of http_server_ops.
bool admin_tls_may_be_plain(struct http_server *server, const struct in6_addr *peer);
void admin_tls_on_handshake(struct http_server *server, struct tls *tls, int err);

// certificates.c: what is known of certificates and TLS for status and metrics.
void certificates_put_metrics(const struct admin *admin, struct buf *out);
// New members "certificates" and "tls" of the status.
void certificates_put_status(const struct admin *admin, json_t *status);
// A certificate's value as it is live, if that is not what is stored: its files were changed since. JSON text
// (malloc); NULL: it is the stored one.
char *certificates_live_value(const struct admin *admin, struct str name, struct str stored);

// targets_metrics.c: what is known of targets and names, for status and metrics.
// The sums, and what the series said (queue_len, left_out).
void targets_put_metrics(const struct admin *admin, uint64_t queue_len, uint64_t left_out,
                         struct buf *out);
// A new member "health" of the status.
void targets_put_status(const struct admin *admin, json_t *status);
// Series of single targets: two families, one after the other. All zero is the beginning.
struct target_series {
    unsigned family;
    bool is_open;       // the family's head is written
    uint64_t position;  // of publisher_each_pool
    uint64_t count;     // targets of the family so far
    uint64_t left_out;  // beyond ADMIN_SERIES_MAX; final after the first family
    uint64_t queue_len; // requests that wait in the queues of all pools; the same
};
// Appends the next of them. False: there are no more.
bool targets_put_series(const struct admin *admin, struct target_series *series, struct buf *out);

// named.c: writes and answers that wait for names.
// Submits the request, whose on_done drops a hold of the call. Names of its pools and routes that there is no
// answer of yet are waited for before, ADMIN_NAMES_WAIT_MS at most: what is replaced serves until then. Not with
// ?wait=none, and not when the client leaves.
void submit_when_named(struct call *call, struct store_request **request);
// As answer_json(), but when the pool or route of call->key has names that no DNS answer has come for yet it
// is sent when the first answers are there, after ADMIN_NAMES_WAIT_MS (with the wait before) at the latest. Not
// with ?wait=none.
// Uses the call's timer. `text` is copied.
void answer_when_named(struct call *call, unsigned status, struct str text);

// done.c: what is written and live here.
// The answer: `text` (JSON, copied), or with NULL a head alone; 202 with ?wait=none; with ?wait=fleet when all
// nodes serve it, else 504. `with_names`: as answer_when_named() does.
void answer_done(struct call *call, unsigned status, const char *text, bool with_names);
// Calls on_done (with the call) when all nodes serve call->revision or the time is up, as fleet_wait() does; it is
// to clear call->fleet_wait and to drop the call. False: nobody is waited for (no ?wait=fleet, no fleet, no
// revision, no client), or there are too many waits.
bool call_wait_fleet(struct call *call, void (*on_done)(void *context, const char *lagging));
// The client is gone.
void call_wait_end(struct call *call);

// fleet.c: what is known of the fleet.
// The store as a writer sees it. Returns whether it can be written.
bool admin_store_state(const struct admin *admin, struct store_status *store);
// Up to which revision all is live here.
uint64_t fleet_live_revision(const struct admin *admin);
// A new member "fleet" of the status' "store"; nothing without a fleet.
void fleet_put_status(const struct admin *admin, json_t *store);
void fleet_put_metrics(const struct admin *admin, struct buf *out);

// ceryx_metrics.c: what became of Ceryx' keys; nothing where they are not looked at. A member "ceryx" of the status.
void ceryx_put_status(const struct admin *admin, json_t *status);
void ceryx_put_metrics(const struct admin *admin, struct buf *out);

// stats.c: a metric's text.
void metric_put_family(struct buf *out, const char *name, const char *help, const char *type);
void metric_put_gauge(struct buf *out, const char *name, const char *help, uint64_t value);
void metric_put_total(struct buf *out, const char *name, const char *help, uint64_t value);

// objects.c: one object.
// The key in the URL, decoded once and made canonical into call->key; answers when it is wrong.
bool object_key(struct call *call);
// The stored value: the record's tree (a new reference) and its revision in *revision; NULL: answered.
json_t *object_load(struct call *call, uint64_t *revision);
// If-Match and If-None-Match of the request into the change; false: answered (412).
bool object_condition(struct call *call, struct store_change *change);
// ?wait= and ?timeout=; false: answered.
bool object_wait(struct call *call);
// Submits one change (moved in) and calls on_done with it when the store has answered; the call is
// held meanwhile and may have lost its client.
void object_submit(struct call *call, struct store_change *change,
                   void (*on_done)(struct store_request *request));
// After the store's answer: true when the change is done and the answer is up to the caller; false:
// answered, or run again (CAS), or the client is gone.
bool object_finish(struct call *call, const struct store_request *request);
// The body as JSON (a new reference), or NULL: answered.
json_t *object_body(struct call *call);

// events.c
int events_new(struct admin_events **events, struct admin *admin) WARN_UNUSED;
void events_free(struct admin_events **events);
void events_add_certificate(struct admin_events *events,
                            const struct publish_certificate_event *event);
void events_add_health(struct admin_events *events, const struct publish_health_event *event);

// Handlers of calls.c.
void call_object_get(struct call *call);
void call_object_put(struct call *call);
void call_object_patch(struct call *call);
void call_object_delete(struct call *call);
void call_list(struct call *call);
void call_export(struct call *call);
void call_targets_get(struct call *call);
void call_target_get(struct call *call);
void call_target_put(struct call *call);
void call_target_delete(struct call *call);
void call_pool_switch(struct call *call);
void call_set_backends(struct call *call);
void call_batch(struct call *call);
void call_events(struct call *call);
void call_status(struct call *call);
void call_nodes(struct call *call);
void call_stats(struct call *call);
void call_metrics(struct call *call);
void call_health(struct call *call);
void call_ready(struct call *call);
void call_ceryx_list(struct call *call);
void call_ceryx_post(struct call *call);
void call_ceryx_get(struct call *call);
void call_ceryx_put(struct call *call);
void call_ceryx_delete(struct call *call);
