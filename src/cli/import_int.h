// SPDX-License-Identifier: MIT
// The parts of `import`. Main thread.
//
//   Redis ─► import_read.c ─► import_hipache.c, import_auto_ssl.c, import_traefik*.c ─► import_put()
//            (SCAN, pipelines)   what it means here; what has no meaning is told      │ checked
//                                                                     import_send.c ◄─┘ ─► POST /v1/batch
#pragma once
#include "cli/client.h"
#include "model/declaration.h"
#include "redis/redis.h"

enum {
    IMPORT_BATCH_LINES = 1000,
    IMPORT_BATCH_BYTES = 8 << 20,
    IMPORT_ROUNDS_MAX = 20,        // times that a batch is sent without what was refused
    IMPORT_PAUSE_MS = 500,         // before it is sent again to a node that could not write
    IMPORT_PIPELINE = 100,         // values that are asked for at once
    IMPORT_VALUE_MAX = 1 << 20,    // bytes of a value in Redis
    IMPORT_REASON_MAX = 600,       // bytes of a reason
    IMPORT_TIMEOUT_MS = 10000,     // of one answer of Redis
    IMPORT_TREE_BYTES = 256 << 20, // of all keys and values that are needed together (traefik)
};

enum import_level {
    IMPORT_LEFT_OUT, // it is not served here
    IMPORT_CHANGED,  // it is, but not all of it is as it was
    IMPORT_IGNORED,  // it has no meaning here, and needs none
    IMPORT_LEVELS
};

struct import_op {
    char *source; // its key in Redis
    char *line;   // of the batch; wiped, as it may hold a private key
    size_t len;
    bool is_answered;
};

// 64-bit hashes of texts.
struct import_seen {
    uint64_t *slots; // 0: free
    size_t count;
    size_t size;
};

struct import {
    const char *subject;  // "hipache"
    struct redis_url url; // these outlive the connection
    struct redis_tls tls;
    struct str prefix;
    bool is_dry_run;
    bool is_json;
    const struct args *args;
    struct redis_sync *redis;
    struct client *client; // NULL with --dry-run
    FILE *report;
    struct import_op *ops; // IMPORT_BATCH_LINES
    unsigned op_count;
    size_t op_bytes;
    struct import_seen keys;         // read
    struct import_seen declarations; // taken
    uint64_t taken[NOUN_COUNT];
    uint64_t created, updated, unchanged, refused;
    uint64_t told[IMPORT_LEVELS];
    uint64_t others; // keys that are not of this kind
    bool is_busy;    // the node could not write
    bool has_failed; // printed; nothing more is done
};

// ---- import.c ----

// A line of the report. `source`: the key in Redis.
void import_tell(struct import *import, enum import_level level, struct str source,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
// Prints it, and nothing more is done.
void import_fail(struct import *import, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// Was the text there before? It is from now on.
bool import_seen(struct import *import, struct import_seen *seen, struct str text);

// ---- import_send.c ----

// A declaration, checked as the node does it; takes the reference of `value` and wipes chain and key in it.
// False: it was left out and told, or import->has_failed.
bool import_put(struct import *import, struct str source, enum noun noun, struct str key,
                json_t *value);
// What is left is sent.
void import_flush(struct import *import);
void import_free_ops(struct import *import);

// ---- import_read.c ----

struct import_source {
    // Of which keys are values wanted? The others are counted in import->others, or told.
    bool (*wants)(struct import *import, struct str key);
    // The command that reads one: words[1] is the key already. Returns how many words it has.
    unsigned (*command)(struct str words[4]);
    // Its answer; not for errors, which are told.
    void (*take)(struct import *import, void *context, struct str key,
                 const struct redis_reply *reply);
    void *context;
};
// All keys that begin with `prefix`, each once, in no order.
void import_read(struct import *import, struct str prefix, const struct import_source *source);

// ---- one for each kind ----

void import_hipache(struct import *import);
void import_auto_ssl(struct import *import);
void import_traefik(struct import *import);

// The pure parts, for tests.
// A backend of Hipache: the target's address into to[size] ("10.0.0.5:80"). False: it is none. *has_path: it
// names a path, which Hipache does not send on.
bool hipache_backend(struct str url, char *to, size_t size, bool *has_path);
// What a certificate of lua-resty-auto-ssl declares: a new reference, or NULL with a reason that lives for ever.
json_t *auto_ssl_certificate(struct str domain, struct str text, const char **why);
