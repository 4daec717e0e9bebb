// SPDX-License-Identifier: MIT
// What stands in Redis and how it is written, for the fleet and for commands that talk to the same Redis.
//
//     struct store_request ──► fleet_call_format(): EVALSHA write.lua … ──► Redis ──► fleet_call_read(): its answers
#pragma once
#include "base/buf.h"
#include "redis/redis.h"
#include "store/store.h"

enum {
    FLEET_PREFIX_MAX = 100,
    FLEET_EPOCH_LEN = 16,
    FLEET_CALL_CHANGES_MAX = 100000, // Redis takes a million arguments
};

// ---- keys ----

// The keys of a store: "PREFIX:meta", …
enum fleet_key {
    FLEET_META,
    FLEET_STREAM,
    FLEET_REFS,
    FLEET_SECRETS,
    FLEET_NODES,
    FLEET_FENCE,
    FLEET_CERYX,
    FLEET_KEY_COUNT,
};
struct fleet_keys {
    char texts[FLEET_KEY_COUNT][FLEET_PREFIX_MAX + 20];
    char nouns[NOUN_COUNT][FLEET_PREFIX_MAX + 20]; // "PREFIX:routes"
};
void fleet_keys_init(struct fleet_keys *keys, const char *prefix);

// A random id: 32 (or 16) hexadecimal digits, terminated. Any thread.
void fleet_make_id(char *to, size_t digits);

// "REVISION REFS\nVALUE" of a noun's hash. 0 or ERR_SYNTAX. *refs may be NULL. Any thread.
int fleet_record_read(struct str text, uint64_t *revision, struct str *refs,
                      struct str *value) WARN_UNUSED;

// ---- scripts ----

// A Lua script, with its digest. tools/embed-lua makes `fleet_script_NAME` of common.lua and NAME.lua.
struct fleet_script {
    const char *text;
    char sha[41];
};
extern const struct fleet_script fleet_script_write;
extern const struct fleet_script fleet_script_fence;
extern const struct fleet_script fleet_script_adopt;

// As redis_command(), with the first `keys` of the `argc` texts being keys. The text goes along each time (Redis
// compiles it once): so whatever Redis has forgotten, no caller has to ask twice.
bool fleet_script_call(struct redis *redis, const struct fleet_script *script, unsigned keys,
                       unsigned argc, const struct str *argv, redis_on_reply *on_reply,
                       void *context) WARN_UNUSED;
// A write goes by its digest (fleet_call_format()). Of its reply: nothing was done, it is sent again with the text.
static inline bool fleet_script_is_unknown(const struct redis_reply *reply)
{
    return redis_reply_is_error(reply, "NOSCRIPT");
}

// ---- a write ----

// Whose write it is, and into which store.
struct fleet_writer {
    const struct fleet_keys *keys;
    struct str epoch; // that the store must have, else FLEET_CALL_EPOCH
    uint64_t seen;    // and a revision that is not lower, else the same
    struct str node;
    uint64_t session; // of fence.lua; 0 when no other connection of the node writes
    uint64_t stream_entries;
    uint64_t stream_bytes;
};

// The arguments of one command; kept and used again. Views into the request, or into `text`.
struct fleet_call {
    struct str *argv;
    unsigned argc;
    unsigned size;
    bool failed;
    struct buf text;
};
void fleet_call_init(struct fleet_call *call);
void fleet_call_fini(struct fleet_call *call);
// The whole command that makes the request. `id` has STORE_ID_LEN digits. 0; ERR_MEMORY; ERR_LIMIT: more than
// FLEET_CALL_CHANGES_MAX changes. Any thread.
int fleet_call_format(struct fleet_call *call, const struct fleet_writer *writer,
                      const struct store_request *request, const char *id,
                      bool with_text) WARN_UNUSED;
// How many bytes its texts have, about.
size_t fleet_call_size(const struct store_request *request);

enum fleet_call_result {
    FLEET_CALL_WRITTEN, // done: its changes' answers are filled in
    FLEET_CALL_SAME, // the same, but nothing has changed: no revision of its own, no entry in the stream
    FLEET_CALL_REFUSED, // nothing was written; its changes say why
    FLEET_CALL_EPOCH,   // nothing was written: the store has another epoch, or went back in it
    FLEET_CALL_FENCED,  // nothing was written: a newer session of this node is there
    FLEET_CALL_EMPTY,   // nothing was written: the store was never made, or was emptied
    FLEET_CALL_UNKNOWN, // nothing was written: to be sent again with its text (NOSCRIPT)
    FLEET_CALL_FAILED,  // nothing was written: an error of Redis, `detail`
    FLEET_CALL_BROKEN,  // a reply that is none of this: what became of it is not known
};
struct fleet_call_answer {
    enum fleet_call_result result;
    uint64_t revision; // WRITTEN: the request's. SAME, REFUSED: the store's when that was so
    char detail[200];  // of FAILED, BROKEN: Redis' text
};
// Reads the reply and fills the request's answers (NULL: it has gone; WRITTEN stands for SAME then too).
// `reader` (or NULL) names what uses that which was to be deleted. Its thread.
void fleet_call_read(struct fleet_call_answer *answer, struct store_request *request,
                     const struct redis_reply *reply, struct store_reader *reader);
