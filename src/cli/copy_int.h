// SPDX-License-Identifier: MIT
// The parts of `store copy`. Main thread.
#pragma once
#include "cert/seal.h"
#include "fleet/script.h"
#include "store/store.h"

enum {
    COPY_ROUTES_PER_FILE = 10000,
    COPY_FILE_BYTES = 8 << 20, // half of what a node reads: routes are not all alike
};

struct copy {
    const char *from; // URLs, as they were given
    const char *to;
    const char *from_prefix; // of keys in Redis
    const char *to_prefix;
    const char *password_file; // of Redis; NULL: none
    const char *ca_file;       // "": the system's
    const struct seal *seal;
    bool with_secrets;
    bool is_merge;
    bool is_replace;
    uint64_t revision; // that FROM has, or the highest that nodes on TO are known to have had
    // What is copied: puts; secrets are plain text until they are written.
    struct store_change *changes;
    unsigned count;
    unsigned size;
    // What has become of it.
    char **left_keys; // certificates, without --secrets
    unsigned left_out;
    unsigned counts[NOUN_COUNT];
    unsigned created;
    unsigned updated;
    unsigned same;
    unsigned deleted;
    unsigned files;
};

// The path behind a scheme ("sqlite:", "file:"), or NULL: another one, or none.
const char *copy_path(const char *url, const char *scheme);
// A zeroed change, or NULL: out of memory, printed.
struct store_change *copy_add(struct copy *copy);
// What is copied becomes a request, `more` zeroed changes behind it; copy->changes is empty then. NULL: out
// of memory, printed.
struct store_request *copy_take(struct copy *copy, unsigned more);
// The change is left out, but not what TO has of its key. False: out of memory, printed.
bool copy_leave_out(struct copy *copy, struct store_change *change);
void copy_fini(struct copy *copy);
// By noun and key.
int copy_compare(const void *a, const void *b);
void copy_sort(struct copy *copy);
// Is it copied? The changes are sorted.
bool copy_has(const struct copy *copy, const struct store_change *change);
// FROM has it, but it is not copied: what TO has stays.
bool copy_is_left_out(const struct copy *copy, const struct store_change *change);
// False, printed: TO holds declarations, and neither --merge nor --replace was given.
bool copy_may_write(const struct copy *copy, const char *to, uint64_t routes, uint64_t pools,
                    uint64_t certificates);
// Seals all secrets. False: printed.
bool copy_seal(struct copy *copy);
// Counts what has become of a request's changes.
void copy_count(struct copy *copy, const struct store_request *answer);
// Prints why a request was refused.
void copy_print_refusal(const struct store_request *answer);
void copy_print_problems(const char *url, const struct problems *problems);

// copy_source.c. Exit status; faults are printed.
int copy_read_sqlite(struct copy *copy);
int copy_read_folder(struct copy *copy);
// Adds a declaration as a store has it, with what it refers to. False: printed.
bool copy_add_record(struct copy *copy, enum noun noun, struct str key, struct str value);
// Of the certificates, which are all there is so far: opens their secrets (sealed until then), leaves out
// those that are not to be copied. False: printed.
bool copy_open_secrets(struct copy *copy);
// copy_target.c
int copy_write_sqlite(struct copy *copy);

// copy_redis.c: a Redis that is copied from, or into.
struct copy_redis {
    struct redis_url url;
    struct redis_tls tls;
    struct redis_sync *sync;
    struct fleet_keys keys;
    bool is_there; // it has been a store before
    char epoch[FLEET_EPOCH_LEN + 1];
    uint64_t revision;
};
// Exit status; copy_redis_close() in any case.
int copy_redis_open(struct copy_redis *redis, const struct copy *copy, const char *url,
                    const char *prefix);
void copy_redis_close(struct copy_redis *redis);
// NULL: lost, or Redis has refused it; printed. Lives until the next call.
const struct redis_reply *copy_redis_command(struct copy_redis *redis, unsigned argc,
                                             const struct str *argv);
// The reply to what was sent; as above.
const struct redis_reply *copy_redis_receive(struct copy_redis *redis);
// Reads which history it has, and how far. False: printed.
bool copy_redis_look(struct copy_redis *redis);
// Visits all fields of a hash; some may come twice. False: printed, or what `visit` returned. With
// `is_ahead` the next page is asked for meanwhile, and `visit` sends nothing; `on_page` (or NULL) comes
// after each page.
bool copy_redis_scan(struct copy_redis *redis, const char *key, bool is_ahead,
                     bool (*visit)(void *context, struct str field, struct str value),
                     bool (*on_page)(void *context), void *context);
// copy_redis_source.c, copy_redis_target.c. Exit status; faults are printed.
int copy_read_redis(struct copy *copy);
int copy_write_redis(struct copy *copy);
// copy_folder.c
int copy_write_folder(struct copy *copy);
