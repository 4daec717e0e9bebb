// SPDX-License-Identifier: MIT
// A client for Redis on an event loop: one connection, commands in order, their replies by callback. When
// it is lost it is made again, to the primary that the Sentinels name now, if they are asked.
//
//     redis_command ─► outq ─► (TLS) ─► socket        socket ─► (TLS) ─► hiredis' reader ─► on_reply
//
// All of it belongs to the loop's thread, unless it says otherwise. Nothing here waits but redis_sync_….
#pragma once
#include "base/str.h"
#include "loop/loop.h"
#include "model/problem.h"

// ---- where it is ----

enum { REDIS_HOST_MAX = 16, REDIS_SHOWN_MAX = 256 };

enum redis_scheme { REDIS_TCP, REDIS_UNIX, REDIS_SENTINEL };

struct redis_host {
    char *name; // a host name, an IPv4 address, or an IPv6 address without brackets
    uint16_t port;
};

// redis://[[user]:password@]host[:6379][/db]          rediss:// is the same over TLS
// redis+sentinel://[[user]:password@]host[:26379][,host[:port]…]/master[/db]     rediss+sentinel:// too
// redis+unix:///path/of/socket[?db=0]                 unix:// is the same
// Query fields: db, sentinel_user, sentinel_password. Percent-encoding is decoded once.
struct redis_url {
    enum redis_scheme scheme;
    bool is_tls;
    struct redis_host hosts[REDIS_HOST_MAX]; // the server, or the Sentinels
    unsigned host_count;
    char *path;     // of a unix socket
    char *user;     // "": none
    char *password; // "": none; wiped by redis_url_fini()
    char *sentinel_user, *sentinel_password;
    char *master; // its name, of a Sentinel
    unsigned db;
    char shown[REDIS_SHOWN_MAX]; // without passwords, for logs and status
};

// Is it one of the schemes above?
bool redis_url_is(struct str text);
// 0; ERR_INVALID with a problem (pointer "") that never shows a password; ERR_MEMORY. redis_url_fini() in any
// case. Any thread.
int redis_url_parse(struct redis_url *url, struct str text, struct problems *problems) WARN_UNUSED;
void redis_url_fini(struct redis_url *url);

// Of rediss://. Files are PEM; "" or NULL: the system's CAs, no client certificate.
struct redis_tls {
    const char *ca_file;
    const char *certificate_file;
    const char *key_file;
    bool no_verify;
};

// ---- replies ----

enum redis_type {
    REDIS_NIL,
    REDIS_STATUS, // "OK"
    REDIS_ERROR,  // "WRONGPASS invalid username-password pair"
    REDIS_INTEGER,
    REDIS_STRING,
    REDIS_ARRAY,
};

struct redis_reply {
    enum redis_type type;
    struct str text; // STATUS, ERROR, STRING: terminated as well (text.p[text.len] is 0)
    int64_t integer;
    unsigned count;
    struct redis_reply **items; // of an ARRAY; none is NULL
};

// Does an ERROR begin with that code ("NOSCRIPT", "READONLY")? False for other types and NULL.
bool redis_reply_is_error(const struct redis_reply *reply, const char *code);
// An item of an array, or a reply of type NIL that lives for ever: wrong type, out of range.
const struct redis_reply *redis_reply_item(const struct redis_reply *reply, unsigned at);
// The number that an INTEGER is or a STRING holds. False: neither.
bool redis_reply_number(const struct redis_reply *reply, int64_t *number);

// ---- a connection ----

struct redis;

enum {
    REDIS_PENDING_MAX = 100000,  // commands without a reply, of one connection
    REDIS_OUTPUT_MAX = 64 << 20, // bytes that wait to be sent
    REDIS_REPLY_MAX = 512 << 20, // bytes of one reply, as Redis itself has it
    REDIS_CONNECT_MS = 1000,     // for connecting, TLS, AUTH and SELECT together
    REDIS_RETRY_MIN_MS = 20,     // pause before it is made again: doubles up to
    REDIS_RETRY_MAX_MS = 500,    // this (with jitter of a fifth)
    REDIS_SENTINEL_MS = 500,     // so long one Sentinel may take
};

struct redis_config {
    const struct redis_url *url; // outlives the connection, as all of this does
    const struct redis_tls *tls; // NULL: defaults
    const char *name;            // CLIENT SETNAME (an error of it is ignored); NULL: none
    struct loop *loop;           // has its outq pool, and with TLS its wire buffers
    // Connected, authenticated, the database selected, and (Sentinel) a primary by its ROLE. Or not any more:
    // `detail` says why ("connect: refused", "WRONGPASS …", "closed by the server"); all pending commands
    // have been answered with NULL before. Comes for failed attempts as well, when the reason is another.
    // May call any function of this header but redis_free().
    void (*on_state)(void *context, struct redis *redis, bool is_ready, const char *detail);
    // What comes without a command: messages of SUBSCRIBE and PSUBSCRIBE (of which the confirmations come here
    // too). NULL: such a message ends the connection.
    void (*on_message)(void *context, const struct redis_reply *message);
    void *context;
};

// `reply` lives until the callback returns. NULL: the connection was lost before it came; what became of the
// command is not known. May call any function but redis_free().
typedef void redis_on_reply(void *context, struct redis *redis, const struct redis_reply *reply);

// 0; ERR_MEMORY; ERR_INVALID, ERR_SYSTEM (a certificate file) with a problem.
int redis_new(struct redis **redis, const struct redis_config *config,
              struct problems *problems) WARN_UNUSED;
// Begins to connect, and from then on whenever it is lost.
void redis_start(struct redis *redis);
// Closes; callbacks of pending commands do not come any more. From outside of its callbacks. NULL is allowed.
void redis_free(struct redis **redis);

bool redis_is_ready(const struct redis *redis);
// Puts a command in line. The texts are copied. False: not ready, or over a bound, or memory is out: nothing
// is executed then, and `on_reply` never comes. on_reply NULL: the reply is thrown away. SUBSCRIBE and the
// like have none: confirmations, or an error instead of them, are messages. Sent after the loop's event.
bool redis_command(struct redis *redis, unsigned argc, const struct str *argv,
                   redis_on_reply *on_reply, void *context) WARN_UNUSED;
// Closes the connection as if it had been lost, and makes it anew at once (after the usual pause, if it is
// younger than 100 ms). `why` is the detail of on_state. Nothing, while it waits for its next attempt.
void redis_drop(struct redis *redis, const char *why);

// For how long nothing has come while a command waits for its reply; 0: none does. A reply of which parts come
// is not silence, however long it takes.
uint64_t redis_silent_ms(const struct redis *redis);
unsigned redis_pending(const struct redis *redis);
// Who it is connected to, or was last: "10.0.0.7:6379". Lives as long as the connection, changes with it.
const char *redis_peer(const struct redis *redis);

// ---- the same, waiting: for commands of the command line ----

struct redis_sync;

// Connects on a loop of its own. 0; ERR_UNAVAILABLE and others with a problem that names the URL (shown).
// Any thread that is not in a loop. `url` and `tls` outlive it.
int redis_sync_open(struct redis_sync **sync, const struct redis_url *url,
                    const struct redis_tls *tls, unsigned timeout_ms,
                    struct problems *problems) WARN_UNUSED;
void redis_sync_close(struct redis_sync **sync);
// Sends a command (copied; goes out with the next redis_sync_receive() at the latest). False: it is lost.
bool redis_sync_send(struct redis_sync *sync, unsigned argc, const struct str *argv) WARN_UNUSED;
// The next reply, in order of the commands; lives until the next call. NULL: lost, or timeout_ms without it;
// both for good: it is not made again. Also NULL, and nothing lost: no command is without a reply.
const struct redis_reply *redis_sync_receive(struct redis_sync *sync);
// Both.
const struct redis_reply *redis_sync_command(struct redis_sync *sync, unsigned argc,
                                             const struct str *argv);
// Why the last call failed. Lives until the next one.
const char *redis_sync_error(const struct redis_sync *sync);
