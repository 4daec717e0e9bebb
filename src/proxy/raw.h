// SPDX-License-Identifier: MIT
// A connection that is passed through, as its two files see it. Included by these alone. Worker thread.
//
//   passthrough.c: the client's side, begin and end      passthrough_target.c: a target, the queue, its events
#pragma once
#include "proxy/transaction.h"

struct raw {
    struct list node; // in proxy->raws
    struct proxy *proxy;
    struct http_stream *client; // NULL: gone
    struct http_stream *target; // NULL: none now
    bool is_open;               // both are tunnels
    bool is_refused;            // the client was told so; what it still sends is dropped
    bool client_ended;          // FIN
    bool client_full;
    bool client_paused;
    bool target_paused;
    enum end_reason end; // until it is open: why the last target failed

    struct pin *route_pin;
    struct route_version *route;
    struct pin *pool_pin; // of the version that the newest member is of, if it is not `route`
    struct pool_slot *pool;
    struct pool_member *member;
    struct pool_member *tried[POOL_TRIED_MAX];
    unsigned tried_count;
    unsigned tunnel_idle_ms;
    unsigned connect_ms;

    // While all targets are at their limit.
    struct pool_waiter *waiter; // its place in the queue
    struct pool_waiter *turn;   // the place, while its turn is being used
    struct pool_queue *queue;   // of the two
    bool saw_all;               // no other would have got a target either, when it last was full
    uint64_t queued_at_ns;
    uint64_t queue_ns;
    uint64_t queue_due_ms;

    struct body_keep keep;
    struct loop_task keep_task; // frees what is kept when it was sent

    struct loop_timer timer;
    uint64_t progress_ms; // last byte either way
    uint64_t started_ns;
    uint64_t connect_started_ns;
    uint64_t connect_ns;
    uint64_t bytes_in;
    uint64_t bytes_out;
    size_t sni_len;
    char sni[TLS_SNI_MAX + 1];
    char peer[46];
    size_t peer_len;
    char target_text[POOL_MEMBER_TEXT_MAX];
};

void raw_put_member(struct raw *raw);
// Ends it now, from this side. It is freed.
void raw_cut(struct raw *raw, enum end_reason end);
// Nothing was sent yet: the client gets an alert that says so, and FIN.
void raw_refuse(struct raw *raw, enum end_reason end);
void raw_pause_client(struct raw *raw);
void raw_resume_client(struct raw *raw);

// A target from the tables as they are now, or a place in the queue, or the refusal.
void raw_try_target(struct raw *raw);
void raw_leave_queue(struct raw *raw);
// It has waited too long.
void raw_queue_timeout(struct raw *raw);
