// SPDX-License-Identifier: MIT
// Chain and key of a certificate, opened where they are needed again (PATCH, export; publish/declare.c seals
// them on their way into the store). The only place of the API that sees a key after the request's body.
#include "admin/admin_int.h"
#include "base/log.h"
#include "publish/sealed.h"

void secret_wipe_buf(struct buf *buf)
{
    if (buf->p != NULL) {
        explicit_bzero(buf->p, buf->size);
    }
}

void secret_wipe_json(json_t *value)
{
    json_t *key = json_object_get(value, "key");
    if (json_is_string(key)) {
        explicit_bzero((char *)(uintptr_t)json_string_value(key), json_string_length(key));
    }
}

// Sets a member that `value` has not.
static int add_member(json_t *value, const char *name, const char *text)
{
    if (json_object_get(value, name) != NULL) {
        return 0;
    }
    return json_object_set_new(value, name, json_string(text)) == 0 ? 0 : ERR_MEMORY;
}

int secret_reveal(const struct admin *admin, const struct store_record *record, json_t *value)
{
    if (record->secret.len == 0) {
        return 0; // in files
    }
    struct buf text;
    buf_init(&text, 0);
    char *chain = NULL;
    char *key = NULL;
    int err = sealed_open(admin->deps.seal, record->key, record->secret, &text);
    if (err == 0) {
        err = certificate_decode_secret(buf_str(&text), &chain, &key);
    }
    if (err == 0) {
        err = add_member(value, "chain", chain);
    }
    if (err == 0) {
        err = add_member(value, "key", key);
    }
    sealed_wipe(chain);
    sealed_wipe(key);
    secret_wipe_buf(&text);
    buf_fini(&text);
    if (err != 0) {
        log_error("certificate %.*s: its stored key cannot be read: %s", STR_ARG(record->key),
                  err == ERR_NOT_FOUND ? "what sealed it is not in store.encryption_key_file"
                                       : err_text(err));
    }
    return err;
}

// The members that say where chain and key are: a patch that gives the one kind means the other to go.
static void drop_other_kind(json_t *stored, const json_t *patch)
{
    bool gives_text = json_is_string(json_object_get(patch, "chain")) ||
                      json_is_string(json_object_get(patch, "key"));
    static const char *const files[] = {"chain_file", "key_file"};
    for (unsigned i = 0; gives_text && i < 2; i++) {
        if (json_object_get(patch, files[i]) == NULL) {
            json_object_del(stored, files[i]);
        }
    }
}

// Does the certificate need what is stored? Not with files, nor when the patch takes it away.
static bool wants_stored(const json_t *merged, const json_t *patch)
{
    return json_object_get(merged, "chain_file") == NULL &&
           json_object_get(merged, "key_file") == NULL &&
           !json_is_null(json_object_get(patch, "chain")) &&
           !json_is_null(json_object_get(patch, "key"));
}

json_t *secret_merge(struct call *call, json_t *stored, json_t *patch)
{
    drop_other_kind(stored, patch);
    json_t *merged = json_merge_patch(stored, patch);
    if (merged == NULL) {
        answer_err(call, ERR_MEMORY);
        return NULL;
    }
    bool is_whole =
        json_object_get(merged, "chain") != NULL && json_object_get(merged, "key") != NULL;
    if (is_whole || !wants_stored(merged, patch)) {
        return merged;
    }
    struct store_record record;
    int err =
        store_get_secret(call->admin->store, NOUN_CERTIFICATE, str_from_c(call->key), &record);
    if (err == 0) {
        err = secret_reveal(call->admin, &record, merged);
    }
    if (err == 0) {
        return merged;
    }
    secret_wipe_json(merged);
    json_decref(merged);
    if (err == ERR_NOT_FOUND || err == ERR_INVALID) {
        answer_status(call, 500,
                      "the stored chain and key cannot be read: send both (is the key that sealed "
                      "them in store.encryption_key_file?)");
    } else {
        answer_err(call, err);
    }
    return NULL;
}
