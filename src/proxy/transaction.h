// SPDX-License-Identifier: MIT
// One request on its way: from a client's stream to a target's and back. Included in this folder only.
//
//   client stream ──events──► transaction ──ops──► origin stream
//                 ◄──ops──── (table of steps) ◄──events──
//
// Worker thread. A transaction lives from on_request to its client's on_sent or on_reset; what it
// points to lives in its arena, in the live tables (pinned) or in the streams.
#pragma once
#include "base/arena.h"
#include "http/uri.h"
#include "loop/rcu.h"
#include "proxy/body_keep.h"
#include "proxy/end.h"
#include "proxy/miss.h"
#include "proxy/proxy.h"
#include "upstream/queue.h"
#include "upstream/target.h"

// The steps of a request's way, in order.
enum step {
    STEP_ROUTE,   // host and path → route; answers that need no target
    STEP_ADMIT,   // address rules, body bound, the body that is to be complete first
    STEP_BALANCE, // a target, and a connection to it
    STEP_SEND,    // the request head, then the body as it comes
    STEP_RECEIVE, // the response head; the last moment for a retry
    STEP_DELIVER, // the response body to the client, or a tunnel
    STEP_RESPOND, // an answer of our own
    STEP_FINISH,  // one record, counters, everything given back
    STEP_COUNT
};

// What a transaction waits for, and so which time bounds it (timer.c).
enum wait {
    WAIT_HOST,     // a look-up of a host that is not known
    WAIT_BODY,     // the request body, or a form field of it
    WAIT_QUEUE,    // a target that takes another request
    WAIT_CONNECT,  // the connection to the target
    WAIT_RESPONSE, // the response head
    WAIT_END,      // the end of the response, or of the tunnel
    WAIT_SENT,     // the client to take the rest
};

// What a step says. STEP_JUMP: txn->step was set; STEP_GONE: the transaction was freed.
enum step_result { STEP_NEXT, STEP_WAIT, STEP_JUMP, STEP_GONE };

enum {
    TXN_ARENA_MAX = 1 << 20, // bytes of one transaction's arena
    TXN_KEEP_MAX = 65536,    // bytes of a body kept for sending again
    TXN_INFO_MAX = 1000,     // 1xx heads of one exchange: an origin that sends more never answers
    TXN_HOST_MAX = 256,
    TXN_REQUEST_ID_LEN = 32,
    TXN_TRACEPARENT_LEN = 55, // W3C Trace Context, version 00
};

struct txn {
    struct list node; // in proxy->txns
    struct proxy *proxy;
    struct http_stream *client; // NULL: gone
    struct http_stream *origin; // NULL: none now
    struct arena arena;
    struct http_head request;          // in the arena
    const struct http_field *trailers; // of the request, in the arena
    unsigned trailer_count;

    enum step step;
    enum wait wait;
    enum end_reason end;
    unsigned status; // sent to the client; 0: nothing yet
    bool request_ended;
    bool said_continue;    // 100 was answered here: the expectation is met and not passed on
    bool origin_ready;     // connected, the request may be sent
    bool request_sent;     // the request was sent whole
    bool response_started; // a response head went to the client
    bool response_ended;   // send_end was called on the client
    bool is_tunnel;
    bool keep_overflow; // the kept body is not complete
    bool client_full;   // nothing more is taken for it: a new origin is paused, too
    bool client_paused;
    bool origin_paused;
    bool force_fresh; // a kept connection was stale: no other one
    bool is_trusted;  // the peer is a trusted proxy
    bool is_https;
    bool has_client_auth;   // the host asks for client certificates
    bool lacks_certificate; // it must have one, and came without TLS

    char host[TXN_HOST_MAX]; // canonical
    size_t host_len;
    struct str path; // normalised
    struct str client_ip;
    struct in6_addr client_address;
    const char *tls_version; // "1.3"; NULL: none
    char request_id[TXN_REQUEST_ID_LEN];
    struct str request_id_text;
    char traceparent[TXN_TRACEPARENT_LEN];
    struct str traceparent_text;

    struct route_version *route;
    struct pin *route_pin;
    struct pin *newer_pin;  // of the version that named the pool, if it is not `route`
    struct pool_slot *pool; // named pool in use, or NULL
    struct pool_member *member;
    struct str target_text; // of the last member, when the access log wants it
    struct pool_member *tried[POOL_TRIED_MAX];
    unsigned tried_count;
    unsigned retries;              // attempts after the first
    unsigned info_count;           // 1xx heads that came
    struct timeouts_decl timeouts; // resolved: route over pool over config
    uint64_t roll;                 // of this attempt: which pool of a split, where to begin in it
    // What the pool's settings said at the pick; they are not held themselves.
    bool watches_status;      // passive.status
    bool times_answers;       // random_two
    struct str sticky_cookie; // its name, in the arena; empty: not sticky
    unsigned sticky_ttl_sec;
    uint64_t sticky_id;     // what the client brought; 0: nothing
    struct form_scan *form; // in the arena; NULL: the key is not in the body

    // While it waits for a look-up of its host (miss.c).
    struct list miss_node;
    bool is_missing; // it does
    bool was_missed; // it did, or there was no room: not again

    // While it waits for a target (waiting.c).
    struct pool_waiter *waiter; // its place
    struct pool_waiter *turn;   // the place, while its turn is being used
    bool saw_all;               // when all was full: nobody else would have got a target
    bool is_shut_out;           // when all was full: other workers had all the connections
    struct pool_queue *queue;   // of the two; lives as long as the versions that are held
    uint64_t queued_at_ns;
    uint64_t queue_ns; // of all waits
    uint64_t queue_due_ms;
    unsigned retry_after_sec; // of the answer when there was no room

    // The connection to another address of the member's name (second.c).
    struct http_stream *second;
    struct pool_member *second_member;
    uint64_t second_due_ms; // when to open it; 0: not
    uint64_t body_limit;
    uint64_t body_received;
    struct body_keep keep;

    struct loop_timer timer;
    uint64_t request_due_ms; // of timeouts.request; 0: no bound
    uint64_t started_ns;
    uint64_t connect_started_ns;
    uint64_t connect_ns;
    uint64_t sent_ns; // when the request head was sent
    uint64_t origin_ns;
    uint64_t progress_ms; // last byte either way
    uint64_t client_bytes_in;
    uint64_t client_bytes_out;
};

struct proxy {
    struct loop *loop;
    struct proxy_shared *shared;
    unsigned index;
    struct http_server_config server_config;
    struct http_server server;
    struct upstream upstream;
    struct arena_pool arenas;
    struct slab txn_slab;
    struct slab keep_slab;
    struct list txns;
    struct list raws; // what is passed through (passthrough.c)
    struct slab raw_slab;
    struct tls_context *tls; // of clients; NULL: none
    struct pin_table pins;
    struct misses misses;
    struct worker_stats *stats;
    struct listener *listeners;
    unsigned listener_count;
    struct loop_timer drain_timer;
    bool draining;
    bool stopping; // clients that are still here do not leave, they are sent away
    uint64_t started_ms;
    uint64_t random[4]; // xoshiro256** state
};

// Runs steps until one waits. May free the transaction.
void txn_run(struct txn *txn);
// Sets what STEP_RESPOND answers with; the caller returns STEP_JUMP.
enum step_result txn_answer(struct txn *txn, enum end_reason reason);
// The step functions (steps.c has the table).
enum step_result txn_step_route(struct txn *txn);
enum step_result txn_step_admit(struct txn *txn);
enum step_result txn_step_balance(struct txn *txn);
enum step_result txn_step_send(struct txn *txn);
enum step_result txn_step_receive(struct txn *txn);
enum step_result txn_step_deliver(struct txn *txn);
enum step_result txn_step_respond(struct txn *txn);
enum step_result txn_step_finish(struct txn *txn);

// transaction.c: begins one for a request. Sets the stream's events.
void txn_begin(struct proxy *proxy, struct http_stream *stream, const struct http_head *head);
// Ends one from outside (cut, stop).
void txn_abort(struct txn *txn, enum end_reason reason);
// Gives up the origin stream and the count on its member.
void txn_drop_origin(struct txn *txn);
// The exchange with the origin is over in good order.
void txn_release_origin(struct txn *txn);
void txn_pause_client(struct txn *txn);
void txn_resume_client(struct txn *txn);
void txn_pause_origin(struct txn *txn);

// timer.c: one timer for all that a transaction waits for. Fires in `after_ms`, or when the whole request
// is due.
void txn_init_timer(struct txn *txn);
void txn_arm(struct txn *txn, uint64_t after_ms);
// Only when the whole request is due, if it ever is.
void txn_arm_due(struct txn *txn);

// choose.c: the version of the pool that the request goes to now, held for as long as the transaction
// points to its slot (txn->pool). NULL with the reason in *end.
const struct pool_version *txn_find_pool(struct txn *txn, enum end_reason *end);
// Resolves the timeouts: route over pool over configuration. `settings` NULL: of no pool.
void txn_settle_timeouts(struct txn *txn, const struct pool_settings *settings);
// The same before the pool is chosen for good.
void txn_peek_timeouts(struct txn *txn);
// Picks a member and gets a connection to it: POOL_PICKED with txn->member and txn->origin set; or with a
// member and no origin: the connection failed at once. `choice` is changed.
enum pool_result txn_take_target(struct txn *txn, const struct pool_version *pool,
                                 struct pool_choice *choice);
// Who is not to be picked: those that were tried, then those that have no connection to spare.
struct excluded {
    struct pool_member *members[POOL_TRIED_MAX];
    unsigned tried;
    unsigned count;    // with them
    unsigned unlisted; // without a connection to spare, for whom there was no place
    bool saw_less;     // somebody else may find what was not found
};
void excluded_init(struct excluded *excluded, struct pool_member *const *tried, unsigned count);
// The picked member is at its limit of connections: it is given back. False: enough were looked at.
bool excluded_add_full(struct excluded *excluded, struct pool_member *member,
                       struct pool_choice *choice);

// connect.c: a stream to the picked member. NULL when it failed at once; ERR_LIMIT: the target has all the
// connections that it may have.
struct http_stream *txn_connect(struct txn *txn, struct pool_member *member,
                                const struct pool_settings *settings,
                                const struct http_stream_events *events, int *err);

// The target's bound of connections, and who waits for one to end. `slot` is the pool's; may be NULL.
void proxy_settle_limit(struct pool_member *member, const struct pool_slot *slot,
                        struct upstream_request *request);

// hash_key.c: what the pool is balanced by. False: a part of the body must come first.
bool txn_read_key(struct txn *txn, const struct pool_settings *settings,
                  struct pool_choice *choice);

// The next value of this cookie, or the null view. *rest and *next keep the place: the null view and 0 at first.
struct str txn_cookie(const struct txn *txn, struct str name, struct str *rest, unsigned *next);

// sticky.c: the target that the client's cookie names.
void txn_read_sticky(struct txn *txn, const struct pool_settings *settings,
                     struct pool_choice *choice);
// The value of Set-Cookie for the response that comes now, or the null view: none is needed.
struct str txn_sticky_cookie(struct txn *txn);

// miss.c: the host is not known. True: it waits for a look-up, and goes through `route` again. False: it is
// unknown.
bool txn_wait_for_host(struct txn *txn);
// Waits no more, for it ends.
void txn_leave_miss(struct txn *txn);
// It has waited long enough. May free the transaction.
void txn_miss_timeout(struct txn *txn);

// waiting.c: the queue in front of the pool. Must it wait behind others?
bool txn_must_wait(const struct txn *txn, const struct pool_settings *settings);
// Waits behind all others. STEP_WAIT; or STEP_JUMP: a target, or the answer that there is no room.
enum step_result txn_wait_for_turn(struct txn *txn, const struct pool_version *pool,
                                   struct pool_choice *choice);
// Nothing could be picked in its turn: it waits on. False: this was no turn in the queue of its pool.
bool txn_wait_again(struct txn *txn);
// It waits no more: a target was picked.
void txn_use_turn(struct txn *txn);
// The same without one; a turn that it had goes to the next.
void txn_leave_queue(struct txn *txn);
enum step_result txn_queue_timeout(struct txn *txn);
// There may be room that nobody in the queue was told of: then the oldest is.
void proxy_wake_queue(struct pool_slot *slot, uint64_t random, uint64_t now_ms);
// NULL: it has none. `slot` may be NULL.
struct pool_queue *proxy_queue_of(const struct pool_slot *slot);

// second.c: its stream's events, until it is the only one.
extern const struct http_stream_events txn_second_events;
// The connection to the picked member is being opened. Plans when a second one is.
void txn_plan_second(struct txn *txn);
// It is time for it. May free the transaction.
void txn_begin_second(struct txn *txn);
// The first connection failed: the second one takes its place. False: there is none.
bool txn_promote_second(struct txn *txn);
void txn_drop_second(struct txn *txn);

// balance.c: a member was picked (txn_take_target). STEP_WAIT, or STEP_JUMP to what comes next.
enum step_result txn_go_on(struct txn *txn);

// origin.c: the events of the target's stream.
extern const struct http_stream_events txn_origin_events;
// The connection stands: the request goes out. May free the transaction.
void txn_origin_is_ready(struct txn *txn, struct http_stream *stream);

// retry.c: the attempt failed: another one if retry_on has one of `retry_bits`, the request can be sent
// again (is_unsent: nothing of it reached the target), and attempts and the budget are left; else the
// answer. The step is set.
enum step_result txn_next_attempt(struct txn *txn, enum end_reason reason, unsigned retry_bits,
                                  bool is_unsent);
// The same from an event, and runs on. May free the transaction.
void txn_attempt_failed(struct txn *txn, enum end_reason reason, unsigned retry_bits,
                        bool is_unsent);
// Is this answer one that another target may better, and may the request be sent again? Then another attempt
// has begun: the transaction may be gone.
bool txn_retry_status(struct txn *txn, unsigned status);
// The request goes out again as if it had not yet: no attempt of its own. May free the transaction.
void txn_send_anew(struct txn *txn);

// passive.c: a request on the member failed. ERR_LIMIT, ERR_MEMORY and ERR_SYSTEM are not its fault.
void proxy_member_failed(struct proxy *proxy, struct pool_member *member, int err);
// An answer with this status came, `ns` after the request was sent.
void txn_note_answer(struct txn *txn, unsigned status, uint64_t ns);
enum end_reason proxy_connect_failure(const struct pool_member *member, int err);

// forward.c: heads that are sent on. 0, or ERR_MEMORY / ERR_HEAD_TOO_LARGE.
int txn_build_request(struct txn *txn, struct http_head *out) WARN_UNUSED;
int txn_build_response(struct txn *txn, const struct http_head *in,
                       struct http_head *out) WARN_UNUSED;
// The value of Strict-Transport-Security on responses of this route, or the null view: none.
struct str txn_hsts(struct txn *txn);
#define HSTS_NAME STR("Strict-Transport-Security")
// grpc.c: a gRPC client reads the outcome from fields of its own, not from the status.
bool txn_is_grpc(const struct txn *txn);
struct str txn_grpc_status(struct txn *txn, unsigned http_status);
struct str txn_grpc_message(struct txn *txn, struct str text);
// identity.c: who asks (client address, scheme, ids), from the connection and trusted fields.
void txn_identify(struct txn *txn);
// location.c: a Location of the origin as the client must see it; the same view if it stays.
struct str txn_rewrite_location(struct txn *txn, struct str location);

// A connection whose TLS is not terminated here (passthrough.c): from http_server_ops.on_raw.
void raw_begin(struct http_server *server, struct http_stream *stream, struct str sni);
// Ends those whose member is marked (pool_member.cut).
void raw_cut_all(struct proxy *proxy);
size_t raw_len(void); // of struct raw

// Do the route's allow and deny keep this client out?
bool proxy_denies(const struct route_decl *rules, const struct in6_addr *address);
bool proxy_is_trusted(const struct proxy *proxy, const struct in6_addr *address);
uint64_t proxy_random(struct proxy *proxy);
// finish.c: a request that never became a transaction.
void proxy_log_refused(struct proxy *proxy, struct http_stream *stream, int err);
bool txn_is_logged(const struct txn *txn);
// admit.c: a client that waits for 100 (Continue) may go on.
void txn_ask_for_body(struct txn *txn);
// Little room is left for kept bodies: what there is is for requests that wait for their connection.
bool proxy_keeps_too_much(const struct proxy *proxy);
// The Max-Forwards field of an OPTIONS request, or NULL (RFC 9110 7.6.2).
const struct http_field *txn_max_forwards(const struct txn *txn);

static inline const struct route_decl *txn_rules(const struct txn *txn)
{
    return txn->route == NULL ? NULL : txn->route->rules;
}

// An upgrade is a request without content: what follows it belongs to the tunnel.
static inline bool txn_asks_upgrade(const struct txn *txn)
{
    return txn->request.upgrade &&
           (txn->request.body == BODY_NONE ||
            (txn->request.body == BODY_LENGTH && txn->request.body_len == 0));
}

static inline struct str txn_host(const struct txn *txn)
{
    return str_make(txn->host, txn->host_len);
}
