// SPDX-License-Identifier: MIT
// Inside the publisher. All of it belongs to the control thread; what crosses to the reclaim thread is
// one flag of a retirement.
#pragma once
#include "cert/handshake.h"
#include "loop/loop.h"
#include "loop/rcu.h"
#include "net/resolver.h"
#include "publish/health_state.h"
#include "publish/names.h"
#include "publish/publish.h"
#include "route/table.h"
#include "upstream/pool_build.h"

// A pool by its name, made when it is declared or first mentioned; or the pool of a route's own list, which
// no name finds (slot.is_hidden). Workers see `slot` only, through the versions of routes (slot.refs of
// them).
struct named_pool {
    struct name_node node;
    struct pool_slot slot;
    struct list node_of_all;      // of publisher.all_pools
    struct pool_member **members; // all that live: of any version, or leaving
    unsigned member_count;
    unsigned member_size;
    unsigned named_count;  // of them those of names
    unsigned newest_count; // and of these those in the newest set of their name (name_use.set)
    unsigned holds;        // changes under way, versions and views retired
    struct pending_version *pending; // waits for its names (pending.c), or NULL
    bool is_ended;                   // hidden: its route has another list, or none, or is gone
    uint64_t changes;                // of what is known of its members: a view made before is old
    struct list dirty;               // of publisher.dirty: memory was out for its view
    struct retirement *last;         // hidden: for the version that goes with the last route
    struct pool_health health;
    char name[];
};

struct named_tenant {
    struct name_node node;
    struct tenant_slot slot;
    char id[];
};

// A DNS name that targets have.
struct watched_name {
    struct name_node node;
    struct publisher *publisher;
    struct resolver_name *question;     // NULL: localhost, which nobody is asked for
    struct list users;                  // name_use.list: those that know the newest answer
    struct list stale;                  // those that are still to hear of it
    struct list waiting;                // of publisher.answered, while there are such
    struct sockaddr_storage *addresses; // the last good answer
    unsigned address_count;             // 0: none yet
    uint64_t since_ms;                  // loop time since when it is asked for
    bool is_failing;                    // the newest one was none
    bool is_untold; // it came when no pool had the name yet: the first one's event is still to come
    char error[64];
    unsigned refs; // uses, askers
    char host[];
};

// Has nobody ever answered for it, and somebody said that there is nothing?
static inline bool name_has_failed(const struct watched_name *watched)
{
    return watched->address_count == 0 && watched->is_failing;
}

// A name in one pool, by scheme, name and port.
struct name_use {
    struct name_node node; // of publisher.uses
    struct list list;      // of watched->users or stale
    struct watched_name *watched;
    struct named_pool *pool;
    struct name_set *set; // of the newest answer; NULL: none yet
    unsigned refs;        // parts of versions
    unsigned max_connections;
    enum target_scheme scheme;
    uint16_t port;
    bool is_told_failed;
    struct str text; // as declared
    char key[];      // the pool's address, text
};

// The members of one answer. Shared by versions; each holds one reference of each member.
struct name_set {
    unsigned refs;
    unsigned count;
    struct pool_member *members[];
};

// A view that was replaced, and the sets that the new one has no more.
struct old_view {
    void *view;
    unsigned set_count;
    struct name_set *sets[];
};

enum retired_kind { RETIRED_ROUTE, RETIRED_POOL, RETIRED_VIEW, RETIRED_CERTIFICATE, RETIRED_SLOT };

// Something that no look-up finds any more, from its unlinking to its free:
// a grace period, then (versions) the last pin.
struct retirement {
    struct list node; // fresh or held
    enum retired_kind kind;
    atomic_bool is_past; // the grace period is; set by the reclaim thread
    uint64_t at_ms;
    union {
        struct route_version *route;
        struct pool_own_version *pool;
        struct old_view *view;
        struct cert_version *certificate;
        struct route_slot *slot;
    } object;
    struct named_pool *named; // of a pool version or view
    struct rcu_retired *rcu;
};

// A member that is in no version: its last request, then a grace period. Of targets it is theirs.
struct leaving {
    struct list node;
    struct pool_member *member;
    struct named_pool *named; // NULL: bare
    bool is_waiting;          // for the grace period
    atomic_bool is_past;
};

// Who may connect, by CA and mode: shared by all routes that say the same.
struct named_auth {
    struct name_node node;
    struct route_client_auth auth; // what workers see, through the versions of routes
    unsigned refs;
    char digest[65];
};

// How pools connect to targets with TLS: shared by all that say the same.
struct named_tls {
    struct name_node node;
    struct tls_context *context;
    unsigned refs;
    char digest[65];
};

// A certificate that is shown to targets, by name. Made when a pool first names it, never freed: contexts
// that refer to it may live as long as a connection.
struct named_client {
    struct name_node node;
    struct cert_client client;
    char name[];
};

enum { EXPIRY_DAYS = 32 };

// When certificates end, as of the last whole look.
struct expiry {
    struct loop_timer timer;
    uint64_t position; // of a look under way
    bool is_looking;
    bool is_stale; // something has changed since it began
    struct expiry_sum {
        uint64_t
            by_days[EXPIRY_DAYS]; // those that end in that many whole days; the last one: later
        uint64_t expired;
        uint64_t next; // Unix seconds, 0: none
        char next_name[256];
    } sum, building;
};

struct file_bridge;
struct applying;

struct publisher {
    struct route_table *routes;
    struct cert_table *certs;        // or NULL
    struct tls_ticket_ring *tickets; // or NULL
    const struct seal *seal;
    struct name_map pools;
    struct name_map tenants;
    struct name_map names; // watched_name
    struct name_map uses;  // name_use
    struct name_map auths;
    struct name_map tls;
    struct name_map clients;
    struct resolver *resolver;
    struct loop *resolver_loop; // NULL: control
    char *zone;                 // of this node; NULL: none
    struct list all_pools;
    struct list dirty;    // pools whose view is to be made again
    struct list answered; // watched_name.waiting
    struct loop_task answers;
    struct loop_timer retry;           // after memory was out
    struct pool_candidate *candidates; // room for a view's
    unsigned candidate_size;
    bool is_ending;
    struct list fresh;    // retirements, oldest first
    struct list held;     // past their grace period, pinned; oldest first
    struct list *held_at; // where the next look goes on
    struct list leaving;
    struct list *leaving_at;
    uint64_t retired_count; // versions in fresh and held
    struct list listeners;
    struct list certificate_listeners;
    struct expiry expiry;
    struct health health;
    struct file_bridge *files; // what the certificate thread knows of us
    struct loop *control;
    struct loop_timer timer;
    uint64_t revision;
    uint64_t pool_count;
    uint64_t skipped;
    uint64_t logged_ms;        // when the last skipped record was logged
    struct applying *applying; // a large revision on its way, or NULL
    bool is_hurried;           // nothing is done in slices any more
    void (*on_live)(void *context);
    void *on_live_context;
};

// The pool of a route's own list, as the route's change makes it.
struct own_list {
    struct named_pool *pool; // held
    struct pool_own_version *version;
    struct pending_version *pending; // for a version that is to wait, or NULL
};

// One record on its way: prepared, published, finished.
struct change {
    const struct store_record *record;
    bool is_batch;                       // others are prepared before it is published
    bool is_skipped;                     // it failed: only to be finished
    bool is_swapped;                     // the pool, or the list: its checks are to follow
    struct route_slot *slot;             // routes; NULL: nothing to do
    struct named_pool *pool;             // pools; NULL: nothing to do
    struct cert_slot *cert;              // certificates; NULL: nothing to do
    struct tls_ticket_keys *tickets;     // ticket keys; NULL: nothing to do
    struct rcu_retired *tickets_retired; // for the keys before
    struct route_version *route_version; // NULL: delete
    struct pool_own_version *pool_version;
    struct pending_version *pending; // for a pool's version that is to wait, or NULL
    struct own_list list;            // of the route
    struct named_pool *ended;        // held: the list that the route has no more
    struct cert_version *cert_version;
    struct retirement *retired;      // for the version before
    struct retirement *list_retired; // the same of the list
    struct retirement *unlinked[2];
};

// apply.c
// All of them together; changes[count] is room for it.
void apply_records(struct publisher *publisher, struct change *changes,
                   const struct store_record *records, unsigned count);

// publish.c
// Sets the reaper's timer if there is something to free. `is_more`: there may be now.
void arm_reaper(struct publisher *publisher, bool is_more);

// change.c: the steps of a change.
int change_decode(const struct store_record *record, struct declaration **out,
                  struct problems *problems) WARN_UNUSED;
// 0, or a negative err: nothing of it stays, but perhaps an empty slot that change_finish() removes.
int change_prepare(struct publisher *publisher, struct change *change,
                   struct problems *problems) WARN_UNUSED;
// Cannot fail.
void change_publish(struct publisher *publisher, struct change *change);
// Checks follow what was published; removes what is empty and frees what was not needed; also after a failed
// prepare.
void change_finish(struct publisher *publisher, struct change *change);

// `after` becomes the pool's live version, that before is retired; NULL: the pool is deleted.
void version_swap(struct publisher *publisher, struct named_pool *pool,
                  struct pool_own_version *after, struct retirement **retired);
// What is checked and picked follows what was published. Not with version_swap(): many pools that are
// published together would hold the thread.
void version_follow(struct publisher *publisher, struct named_pool *pool);

// pending.c: versions that wait for their names.
// Room for one, if this may have to wait; else, or without memory, NULL.
struct pending_version *pending_new(const struct publisher *publisher,
                                    const struct pool_own_version *version);
void pending_free(struct pending_version **pending);
// Instead of version_swap(), which comes later; takes all three, and the place of the one that waits already. False:
// it need not wait, and nothing was done.
bool pending_begin(struct publisher *publisher, struct pending_version **pending,
                   struct named_pool *pool, struct pool_own_version *version,
                   struct retirement **retired);
// After an answer: if the pool's pending version need not wait any more it is published and followed, and true.
bool pending_look(struct named_pool *pool);
// Another version takes its place, or none. The pool may be freed, unless it is held.
void pending_drop(struct named_pool *pool);
void pendings_drop(struct publisher *publisher);
// What was declared last: the pending version, else the live one; NULL: none.
const struct pool_own_version *newest_version(const struct named_pool *pool);

// build.c: versions from declarations.
// Takes *decl (also when it fails). 0 and *version, or a negative err. *list is filled when the route has a
// list of its own; what is in it is the caller's, also when it fails.
int build_route(struct publisher *publisher, struct route_slot *slot, struct declaration **decl,
                struct route_version **version, struct own_list *list) WARN_UNUSED;
int build_pool(struct publisher *publisher, struct named_pool *pool, const struct pool_decl *decl,
               struct pool_own_version **version) WARN_UNUSED;
// The pool of the route's own list, or NULL.
struct named_pool *hidden_pool_of(const struct route_version *route);

// drop.c
// Frees a version that no worker can see, and what it alone held. ERR_MEMORY: nothing was done, again
// later (a bare member leaves with a record). `is_unseen`: nobody ever saw it, or nobody is left: members
// go at once, and it never fails.
int drop_route(struct publisher *publisher, struct route_version *version,
               bool is_unseen) WARN_UNUSED;
void drop_pool(struct publisher *publisher, struct named_pool *pool,
               struct pool_own_version *version, bool is_unseen);
// Gives a reference back; with the last one the member leaves.
void member_unref(struct publisher *publisher, struct named_pool *pool, struct pool_member *member,
                  bool is_unseen);

// pools.c
// Found or made. NULL: out of memory.
struct named_pool *pool_by_name(struct publisher *publisher, struct str name, bool is_made);
// Frees it if nothing needs it any more.
void pool_sweep(struct publisher *publisher, struct named_pool *pool);
struct named_tenant *tenant_by_id(struct publisher *publisher, struct str id);
static inline struct named_pool *pool_of_slot(struct pool_slot *slot)
{
    return CONTAINER_OF(slot, struct named_pool, slot);
}
static inline struct pool_own_version *live_version(const struct named_pool *pool)
{
    return CONTAINER_OF(pool->slot.current, struct pool_own_version, pool);
}
// The pool of the route's own list: that of its live version, or a new one. NULL: out of memory.
struct named_pool *pool_of_route(struct publisher *publisher, const struct route_slot *slot);
// A hold is given back.
void pool_unhold(struct publisher *publisher, struct named_pool *pool);
// At the end: all named pools.
void pools_clear(struct publisher *publisher);
// A new member of the pool, without references. NULL: out of memory.
struct pool_member *pool_make_member(struct named_pool *pool, const struct target_address *address,
                                     const struct sockaddr *resolved, unsigned max_connections);
// Takes a member out of its pool (NULL: bare) and frees it.
void drop_member(struct publisher *publisher, struct named_pool *pool, struct pool_member *member);
// The member can have a bound of connections from now on; it has none yet. False: out of memory.
bool prepare_limit(struct pool_member *member, unsigned max_connections) WARN_UNUSED;
// 0: no bound.
void set_limit(struct pool_member *member, unsigned max_connections);

// refresh.c: views.
// The members of a version's view with their parts.
void version_visit(const struct pool_own_version *version,
                   void (*visit)(void *context, struct pool_member *member,
                                 const struct pool_part *part),
                   void *context);
// A view of what is declared and known now; version->facts with it. NULL: out of memory.
struct pool_view *make_view(struct publisher *publisher,
                            struct pool_own_version *version) WARN_UNUSED;
// A version that no worker has seen yet: its view becomes one of what is known now. Without memory it stays, and is
// made when the version is followed.
void version_renew(struct publisher *publisher, struct named_pool *pool,
                   struct pool_own_version *version);
void old_view_free(struct publisher *publisher, struct named_pool *pool, struct old_view *old);
// After what workers pick from has changed: requests in the pool's queue look again.
void wake_waiters(struct named_pool *pool);
// Something could not be done since memory was out: it is tried again soon.
void retry_later(struct publisher *publisher);
// Pools whose view could not be made.
void refresh_dirty(struct publisher *publisher);

// answers.c: names.
// The name with one more reference; it is asked for from the first one on, to the last. NULL: out of memory.
struct watched_name *name_watch(struct publisher *publisher, struct str host) WARN_UNUSED;
void name_unwatch(struct publisher *publisher, struct watched_name *watched);
// A name of the pool, with its members as of now and one more reference. NULL: out of memory.
struct name_use *name_use_get(struct publisher *publisher, struct named_pool *pool,
                              const struct target_decl *target) WARN_UNUSED;
void name_use_put(struct publisher *publisher, struct name_use *use, bool is_unseen);
// NULL is allowed.
void set_unref(struct publisher *publisher, struct named_pool *pool, struct name_set *set,
               bool is_unseen);
// Goes on with telling pools of answers.
void answers_on_task(struct loop *loop, struct loop_task *task);
void answers_soon(struct publisher *publisher);

// reap.c
// NULL: out of memory.
struct retirement *retirement_new(void);
void retirement_free(struct retirement **retirement);
// Takes *retirement, with kind and object set. The reaper looks at it soon.
void retire(struct publisher *publisher, struct retirement **retirement);
// A member's record, filled, as its last version goes.
void leave(struct publisher *publisher, struct leaving *leaving);
// Looks at up to `budget` retirements and members of each kind. True: there may be more to do now.
bool reap(struct publisher *publisher, unsigned budget);
// At the end: workers are gone, all is freed.
void reap_all(struct publisher *publisher);

// certs.c
int prepare_certificate(struct publisher *publisher, struct change *change,
                        struct problems *problems) WARN_UNUSED;
void publish_certificate(struct publisher *publisher, struct change *change);
// Files that change are published from now on, or not any more.
int watch_files(struct publisher *publisher) WARN_UNUSED;
void unwatch_files(struct publisher *publisher);

// expiry.c
void expiry_start(struct publisher *publisher);
void expiry_stop(struct publisher *publisher);
// A certificate was published: a look soon.
void expiry_changed(struct publisher *publisher);
void tell_certificate(struct publisher *publisher, const struct publish_certificate_event *event);

// shared.c
// Found or made, with a reference. 0, or ERR_MEMORY, ERR_INVALID.
int auth_get(struct publisher *publisher, const struct route_decl *decl,
             struct route_client_auth **auth) WARN_UNUSED;
void auth_put(struct publisher *publisher, struct route_client_auth *auth);
int tls_get(struct publisher *publisher, const struct pool_tls_decl *decl,
            struct named_tls **tls) WARN_UNUSED;
void tls_put(struct publisher *publisher, struct named_tls *tls);
// At the end.
void shared_clear(struct publisher *publisher);
