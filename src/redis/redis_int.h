// SPDX-License-Identifier: MIT
// Inside of the client:
//
//   conn.c      struct redis: when to connect, what is said first, who is told
//   link.c      one socket: TLS, commands in line, their replies; never connects by itself
//   command.c   how a command is written, and the line of those that wait for a reply
//   reply.c     bytes to replies, by hiredis' reader
//   name.c      names of hosts to addresses
//   sentinel.c  asks the Sentinels, listens to one
//   sync.c      the waiting client
//   url.c       where it is
//
// All: the loop's thread.
#pragma once
#include "base/arena.h"
#include "net/outq.h"
#include "redis/redis.h"
#include <sys/socket.h>

struct redisReader;
struct resolver;
struct resolver_name;
struct tls;
struct tls_context;
struct tls_identity;

enum {
    REDIS_WHY_MAX = 200,
    REDIS_PEER_MAX = 280, // "[name]:port", a path
    REDIS_NAME_ADDRESS_MAX = 16,
};

// ---- reply.c ----

struct redis_reader {
    struct redisReader *parser;
    struct arena_pool blocks;
    struct arena arena; // of the reply under way
};

// 0, or ERR_MEMORY.
int redis_reader_init(struct redis_reader *reader) WARN_UNUSED;
// Of one that was cleared or initialised.
void redis_reader_fini(struct redis_reader *reader);
// Begins anew, whatever was half there. 0, or ERR_MEMORY.
int redis_reader_reset(struct redis_reader *reader) WARN_UNUSED;
// False: out of memory.
bool redis_reader_feed(struct redis_reader *reader, struct str bytes);
// STEP_DONE: *reply is the next one, until the next call of any of these; STEP_AGAIN: it needs more bytes;
// ERR_PROTOCOL with *why (static text, or until the next call).
int redis_reader_next(struct redis_reader *reader, const struct redis_reply **reply,
                      const char **why);

// ---- command.c ----

enum redis_expects { REDIS_EXPECTS_REPLY, REDIS_EXPECTS_CONFIRMATIONS };

struct redis_waiting {
    redis_on_reply *on_reply; // NULL: thrown away
    void *context;
    uint64_t since_ms;
    uint32_t confirmations; // that are to come, of SUBSCRIBE and the like; 0: one reply
};

// Those without a reply, in order: a ring.
struct redis_line {
    struct redis_waiting *items;
    unsigned size; // a power of 2
    unsigned first;
    unsigned count;
};

// Room for one more. False: over REDIS_PENDING_MAX, or memory is out.
bool redis_line_reserve(struct redis_line *line);
void redis_line_append(struct redis_line *line, const struct redis_waiting *waiting);
struct redis_waiting *redis_line_first(struct redis_line *line); // NULL: it is empty
struct redis_waiting redis_line_take(struct redis_line *line);
void redis_line_fini(struct redis_line *line);
// Appends a command to an output. False: too long, or the output has failed.
bool redis_command_put(struct loop *loop, struct outq *out, unsigned argc, const struct str *argv);
// What of a command's replies are confirmations; 0: it has a reply.
uint32_t redis_command_confirmations(unsigned argc, const struct str *argv);
// Does the message come without a command, or confirm SUBSCRIBE or the like?
bool redis_is_message(const struct redis_reply *reply, bool *is_confirmation);

// ---- link.c ----

enum redis_phase {
    REDIS_CLOSED,
    REDIS_CONNECTING,
    REDIS_SHAKING, // TLS
    REDIS_OPEN,
};

struct redis_link;

struct redis_link_ops {
    // Connected, with TLS: commands may be put.
    void (*on_open)(struct redis_link *link);
    // It is closed, for a reason that is the peer's or the network's; commands are not answered yet
    // (redis_link_answer_all). `why` lives as long as the link, until it is opened again.
    void (*on_lost)(struct redis_link *link, const char *why);
    void (*on_message)(struct redis_link *link, const struct redis_reply *message);
};

struct redis_link {
    struct loop *loop;
    const struct redis_link_ops *ops;
    struct redis *redis; // whose it is; passed to callbacks of replies
    struct loop_io io;
    struct outq out;
    struct tls *tls; // NULL: plain
    struct loop_task again;
    struct redis_reader reader;
    struct redis_line line;
    enum redis_phase phase;
    uint32_t opened;   // counts: it is another connection than before
    uint64_t heard_ms; // loop time, when bytes came last
    bool has_reader;
    bool is_readable;   // the socket may have more
    bool is_fin;        // or broken; behind what is still to be read
    bool is_subscribed; // messages may come
    bool is_held;       // no replies until redis_link_go_on()
    char why[REDIS_WHY_MAX];
};

void redis_link_init(struct redis_link *link, struct redis *redis, struct loop *loop,
                     const struct redis_link_ops *ops);
// Closes. Pending commands are forgotten.
void redis_link_fini(struct redis_link *link);
// Begins to connect; a closed one, from a task or a timer alone (events of its last socket may be on their
// way elsewhere). False: it failed at once, link->why says how; ops are not called. `tls` NULL: plain;
// `name` is what its certificate must be for.
bool redis_link_open(struct redis_link *link, const struct sockaddr_storage *address,
                     socklen_t address_len, struct tls_context *tls, struct str name);
// Closes the socket. Nobody is told.
void redis_link_close(struct redis_link *link);
// Callbacks of pending commands get NULL. Of a closed one.
void redis_link_answer_all(struct redis_link *link);
// As redis_command(), of an open one.
bool redis_link_command(struct redis_link *link, unsigned argc, const struct str *argv,
                        redis_on_reply *on_reply, void *context) WARN_UNUSED;
// Inside of a callback of a reply: that reply stays, and no other comes, until redis_link_go_on().
void redis_link_hold(struct redis_link *link);
void redis_link_go_on(struct redis_link *link);
// How long the oldest command has waited.
uint64_t redis_link_waiting_ms(const struct redis_link *link);
// The same, since the last byte came: over a slow network a long reply takes its time.
uint64_t redis_link_silent_ms(const struct redis_link *link);
// Copies an error of a server as one line of printable ASCII, without the arguments that it repeats.
void redis_copy_printable(char *to, size_t size, struct str text);

// ---- name.c ----

struct redis_names;

struct redis_name {
    struct redis_names *names;
    struct resolver_name *watch;
    char *host;
    struct sockaddr_storage addresses[REDIS_NAME_ADDRESS_MAX];
    unsigned count; // of the last good answer
    unsigned at;    // the next to try
    bool has_answer;
    char why[64];
};

struct redis_names {
    struct loop *loop;
    struct resolver *resolver;                   // made with the first name
    struct redis_name items[REDIS_HOST_MAX + 1]; // the last one: whatever a Sentinel says
    // An answer to what gave STEP_AGAIN may be here.
    void (*on_answer)(struct redis_names *names);
};

void redis_names_init(struct redis_names *names, struct loop *loop,
                      void (*on_answer)(struct redis_names *names));
void redis_names_fini(struct redis_names *names);
// The address to try, of item `at`, whose host may have changed. STEP_DONE with *address, *len, and *left:
// how many others there are; STEP_AGAIN: ask again after on_answer(); ERR_UNAVAILABLE, ERR_MEMORY with *why.
int redis_names_find(struct redis_names *names, unsigned at, const char *host, uint16_t port,
                     struct sockaddr_storage *address, socklen_t *len, unsigned *left,
                     const char **why);
// That address did not work: another one is next.
void redis_names_failed(struct redis_names *names, unsigned at);

// ---- sentinel.c ----

struct redis_sentinel {
    struct redis *redis;
    struct redis_link link;
    struct loop_timer timer;
    unsigned at;     // of the hosts
    unsigned failed; // in a row, since one has answered or the primary was asked for
    bool is_asked;   // conn.c waits for the primary
    bool is_doubted; // what it said was wrong
    bool is_named;   // a host's address is being asked for
    bool is_listening;
    char why[REDIS_WHY_MAX];
};

void redis_sentinel_init(struct redis_sentinel *sentinel, struct redis *redis);
void redis_sentinel_fini(struct redis_sentinel *sentinel);
// Asks for the primary: redis_on_primary() or redis_on_no_primary() follows, later. From a timer or task.
void redis_sentinel_ask(struct redis_sentinel *sentinel);
// What it said was wrong: the next one is asked first.
void redis_sentinel_doubt(struct redis_sentinel *sentinel);
void redis_sentinel_on_answer(struct redis_sentinel *sentinel);

// ---- conn.c ----

enum redis_step {
    REDIS_IDLE,     // not started
    REDIS_PAUSING,  // the timer ends it
    REDIS_ASKING,   // a Sentinel
    REDIS_NAMING,   // DNS
    REDIS_LINKING,  // connecting, TLS
    REDIS_GREETING, // AUTH, SELECT, …
    REDIS_READY,
};

struct redis {
    struct redis_config config;
    struct loop *loop;
    struct redis_link link;
    struct redis_names names;
    struct redis_sentinel sentinel;
    struct tls_context *tls;
    struct tls_identity *identity;
    struct loop_timer timer; // until the next attempt, or the end of this one
    struct loop_task again;  // goes on with the attempt
    struct loop_deferred deferred;
    enum redis_step step;
    unsigned failures; // in a row
    uint64_t began_ms; // the attempt
    uint64_t ready_ms; // since when it is, or was
    uint64_t random;
    bool was_told;             // on_state has been called
    bool was_ready;            // the last time it was
    char why[REDIS_WHY_MAX];   // the last time it was
    char host[REDIS_PEER_MAX]; // the primary, by a Sentinel, or the URL's host
    uint16_t port;
    unsigned tries; // addresses that did not work, in this attempt
    unsigned left;  // others that the host has
    char peer[REDIS_PEER_MAX];
};

void redis_on_primary(struct redis *redis, struct str host, uint16_t port);
void redis_on_no_primary(struct redis *redis, const char *why);
// Adds "AUTH user password" to what is sent first, if there is any. False: as of redis_link_command().
bool redis_put_auth(struct redis_link *link, const char *user, const char *password,
                    redis_on_reply *on_reply, void *context) WARN_UNUSED;
