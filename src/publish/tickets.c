// SPDX-License-Identifier: MIT
#include "publish/tickets.h"
#include "base/log.h"
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
    KEY_LEN = sizeof(struct tls_ticket_key) - 16, // AES and HMAC
    SECRET_MAX = 8192,
};

#define CONTEXT STR("tickets/current")

struct dated_key {
    struct tls_ticket_key key;
    uint64_t created;
};
struct dated_keys {
    unsigned count;
    struct dated_key keys[TLS_TICKET_KEY_MAX]; // newest first
};

static_assert(offsetof(struct tls_ticket_key, hmac) == 48 && sizeof(struct tls_ticket_key) == 80,
              "name, AES key and HMAC key follow each other");

static void wipe(struct buf *buf)
{
    if (buf->p != NULL) {
        explicit_bzero(buf->p, buf->size);
    }
    buf_fini(buf);
}

// ---- reading ----

static bool read_hex(json_t *from, uint8_t *to, size_t len)
{
    const char *text = json_string_value(from);
    if (text == NULL || json_string_length(from) != 2 * len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        int high = ascii_hex(text[2 * i]);
        int low = ascii_hex(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static int read_keys(json_t *value, struct dated_keys *keys)
{
    json_t *list = json_object_get(value, "keys");
    size_t count = json_array_size(list);
    if (count == 0 || count > TLS_TICKET_KEY_MAX) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        struct dated_key *key = &keys->keys[i];
        json_int_t created = json_integer_value(json_object_get(item, "created"));
        if (!read_hex(json_object_get(item, "name"), key->key.name, sizeof key->key.name) ||
            !read_hex(json_object_get(item, "key"), key->key.aes, KEY_LEN) || created < 0) {
            return ERR_INVALID;
        }
        key->created = (uint64_t)created;
    }
    keys->count = (unsigned)count;
    return 0;
}

// *keys is to be wiped in any case.
static int open_secret(const struct seal *seal, struct str secret, struct dated_keys *keys)
{
    struct buf plain;
    json_error_t error;
    buf_init(&plain, SECRET_MAX);
    (void)buf_reserve(&plain, SECRET_MAX);
    int err = seal_open(seal, CONTEXT, secret, &plain);
    json_t *value =
        err == 0 ? json_loadb(plain.len == 0 ? "" : plain.p, plain.len, 0, &error) : NULL;
    if (err == 0) {
        err = value == NULL ? ERR_INVALID : read_keys(value, keys);
    }
    json_decref(value);
    wipe(&plain);
    return err;
}

int tickets_open(const struct seal *seal, struct str secret, struct tls_ticket_keys **out)
{
    struct dated_keys keys = {0};
    int err = open_secret(seal, secret, &keys);
    struct tls_ticket_keys *ring = err == 0 ? calloc(1, sizeof *ring) : NULL;
    if (err == 0 && ring == NULL) {
        err = ERR_MEMORY;
    }
    if (err == 0) {
        ring->count = keys.count;
        for (unsigned i = 0; i < keys.count; i++) {
            ring->keys[i] = keys.keys[i].key;
        }
        *out = ring;
    }
    explicit_bzero(&keys, sizeof keys);
    return err;
}

void tickets_free(void *keys)
{
    if (keys != NULL) {
        explicit_bzero(keys, sizeof(struct tls_ticket_keys));
    }
    free(keys);
}

// ---- turning ----

static bool is_due(const struct dated_keys *keys, uint64_t now_sec)
{
    if (keys->count == 0) {
        return true;
    }
    uint64_t created = keys->keys[0].created;
    // One from the future is of a node whose clock was wrong: it would seal for ever.
    return created > now_sec + TICKETS_ROTATE_SEC || created + TICKETS_ROTATE_SEC <= now_sec;
}

static bool turn(struct dated_keys *keys, uint64_t now_sec)
{
    struct dated_keys turned = {.count = 1};
    ssize_t len = sizeof turned.keys[0].key;
    bool is_made = getrandom(&turned.keys[0].key, (size_t)len, 0) == len;
    turned.keys[0].created = now_sec;
    for (unsigned i = 0; i < keys->count && turned.count < TLS_TICKET_KEY_MAX; i++) {
        if (keys->keys[i].created + TICKETS_KEEP_SEC > now_sec) {
            turned.keys[turned.count++] = keys->keys[i];
        }
    }
    *keys = turned;
    explicit_bzero(&turned, sizeof turned);
    return is_made;
}

static void put_hex(struct buf *to, const uint8_t *from, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        buf_printf(to, "%02x", from[i]);
    }
}

static void write_keys(struct buf *to, const struct dated_keys *keys, bool has_secret)
{
    buf_put(to, STR("{\"keys\":["));
    for (unsigned i = 0; i < keys->count; i++) {
        const struct dated_key *key = &keys->keys[i];
        buf_put(to, i == 0 ? STR("{\"name\":\"") : STR(",{\"name\":\""));
        put_hex(to, key->key.name, sizeof key->key.name);
        if (has_secret) {
            buf_put(to, STR("\",\"key\":\""));
            put_hex(to, key->key.aes, sizeof key->key.aes);
            put_hex(to, key->key.hmac, sizeof key->key.hmac);
        }
        buf_printf(to, "\",\"created\":%llu}", (unsigned long long)key->created);
    }
    buf_put(to, STR("]}"));
}

static int fill(struct store_change *change, const struct seal *seal, const struct dated_keys *keys)
{
    struct buf plain;
    struct buf value;
    struct buf secret;
    buf_init(&plain, SECRET_MAX);
    buf_init(&value, 0);
    buf_init(&secret, 0);
    (void)buf_reserve(&plain, SECRET_MAX);
    write_keys(&plain, keys, true);
    write_keys(&value, keys, false);
    int err = plain.failed ? ERR_MEMORY : seal_close(seal, CONTEXT, buf_str(&plain), &secret);
    change->noun = NOUN_TICKETS;
    change->key = str_dup(STR("current"));
    change->value = value.failed ? NULL : str_dup(buf_str(&value));
    change->secret = err != 0 ? NULL : str_dup(buf_str(&secret));
    if (err == 0 && (change->key == NULL || change->value == NULL || change->secret == NULL)) {
        err = ERR_MEMORY;
    }
    wipe(&plain);
    wipe(&secret);
    buf_fini(&value);
    return err;
}

int tickets_rotate(struct store *store, const struct seal *seal, uint64_t now_sec,
                   struct store_request **out)
{
    *out = NULL;
    struct store_record record = {0};
    struct dated_keys keys = {0};
    int err = store_get_secret(store, NOUN_TICKETS, STR("current"), &record);
    if (err != 0 && err != ERR_NOT_FOUND) {
        return err;
    }
    uint64_t revision = err == 0 ? record.revision : 0;
    if (err == 0 && open_secret(seal, record.secret, &keys) != 0) {
        log_warning("the session ticket keys cannot be read: new ones are made");
        keys.count = 0;
    }
    if (!is_due(&keys, now_sec)) {
        explicit_bzero(&keys, sizeof keys);
        return 0;
    }
    struct store_request *request = turn(&keys, now_sec) ? store_request_new(1) : NULL;
    err = request == NULL ? ERR_MEMORY : fill(&request->changes[0], seal, &keys);
    explicit_bzero(&keys, sizeof keys);
    if (err != 0) {
        if (request != NULL) {
            store_request_free(&request);
        }
        return err;
    }
    request->changes[0].if_match = revision;
    request->changes[0].if_none_match = revision == 0;
    *out = request;
    return 0;
}
