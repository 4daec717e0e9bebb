// SPDX-License-Identifier: MIT
// Certificates in files: looked at every second, a part of them if they are many. Renames and swapped
// symbolic links change what stat() says of the path, whoever does them. A pair is judged when it has been
// the same for two looks, since chain and key are not replaced in one moment.
#include "base/buf.h"
#include "base/log.h"
#include "cert/check.h"
#include "cert/facts.h"
#include "cert/table_int.h"
#include "base/hash.h"
#include <sys/stat.h>

enum { LOOK_MAX = 500 }; // certificates in one turn

void cert_watch_add(struct cert_table *table, struct cert_version *version)
{
    if (version->chain_file.len == 0) {
        return;
    }
    pthread_mutex_lock(&table->mutex);
    list_append(&table->watched, &version->watch.node);
    table->watched_count++;
    version->is_watched = true;
    pthread_cond_signal(&table->wake);
    pthread_mutex_unlock(&table->mutex);
}

void cert_watch_remove(struct cert_table *table, struct cert_version *version)
{
    if (version->chain_file.len == 0) {
        return;
    }
    pthread_mutex_lock(&table->mutex);
    if (version->is_watched) {
        list_remove(&version->watch.node);
        table->watched_count--;
        version->is_watched = false;
    }
    pthread_mutex_unlock(&table->mutex);
}

void cert_table_on_files(struct cert_table *table, cert_on_files on_files, void *context)
{
    pthread_mutex_lock(&table->mutex);
    table->on_files = on_files;
    table->on_files_context = context;
    while (table->is_telling) {
        pthread_cond_wait(&table->told, &table->mutex);
    }
    pthread_mutex_unlock(&table->mutex);
}

static void tell(struct cert_table *table, const struct cert_version *version,
                 struct declaration **declaration, const char *detail)
{
    pthread_mutex_lock(&table->mutex);
    cert_on_files on_files = table->on_files;
    void *context = table->on_files_context;
    table->is_telling = on_files != NULL;
    pthread_mutex_unlock(&table->mutex);
    if (on_files == NULL) {
        declaration_free(declaration);
        return;
    }
    on_files(context, cert_slot_name(version->slot), version->number, *declaration, detail);
    *declaration = NULL;
    pthread_mutex_lock(&table->mutex);
    table->is_telling = false;
    pthread_cond_broadcast(&table->told);
    pthread_mutex_unlock(&table->mutex);
}

// Of what the path leads to now; 0: nothing.
static uint64_t sign(const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0) {
        return 0;
    }
    uint64_t parts[] = {about.st_dev,
                        about.st_ino,
                        (uint64_t)about.st_size,
                        (uint64_t)about.st_mtim.tv_sec,
                        (uint64_t)about.st_mtim.tv_nsec,
                        (uint64_t)about.st_ctim.tv_sec,
                        (uint64_t)about.st_ctim.tv_nsec};
    return hash_bytes(parts, sizeof parts);
}

// The declaration of a version, to be checked like a new one. NULL: out of memory.
static struct declaration *declare(const struct cert_version *version, struct problems *problems)
{
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("{\"chain_file\":"));
    buf_put_json(&text, version->chain_file);
    buf_put(&text, STR(",\"key_file\":"));
    buf_put_json(&text, version->key_file);
    for (unsigned i = 0; version->has_hosts && i < version->name_count; i++) {
        buf_put(&text, i == 0 ? STR(",\"hosts\":[") : STR(","));
        buf_put_json(&text, version->names[i]);
    }
    buf_put(&text, version->has_hosts ? STR("]}") : STR("}"));
    json_t *value = text.failed ? NULL : model_json_parse(buf_str(&text), problems);
    buf_fini(&text);
    struct declaration *declaration = NULL;
    if (value != NULL) {
        int err = declaration_decode(NOUN_CERTIFICATE, cert_slot_name(version->slot), value,
                                     DECODE_STRICT, &declaration, NULL, problems);
        if (err != 0) {
            declaration = NULL;
        }
    }
    json_decref(value);
    return declaration;
}

static void report_broken(struct cert_table *table, const struct cert_version *version,
                          const struct problems *problems, int err)
{
    struct declaration *none = NULL;
    const char *detail = problems->count > 0 ? problems->items[0].detail : err_text(err);
    log_error("certificate %.*s: its files were changed, but are not used: %s",
              STR_ARG(cert_slot_name(version->slot)), detail);
    cert_count(&table->counts.load_failures, 1);
    tell(table, version, &none, detail);
}

static void judge(struct cert_table *table, struct cert_version *version)
{
    struct problems problems;
    problems_init(&problems);
    struct declaration *declaration = declare(version, &problems);
    int err = declaration == NULL ? ERR_MEMORY : cert_check(declaration, &problems);
    bool is_same =
        err == 0 && str_eq(declaration->certificate.facts.content, version->facts.content);
    if (err != 0) {
        report_broken(table, version, &problems, err);
    } else if (!is_same) {
        log_info("certificate %.*s: its files were changed",
                 STR_ARG(cert_slot_name(version->slot)));
        tell(table, version, &declaration, "");
    }
    declaration_free(&declaration);
    problems_fini(&problems);
}

static void look(struct cert_table *table, struct cert_version *version)
{
    uint64_t chain = sign(version->chain_file.p); // both are terminated
    uint64_t key = sign(version->key_file.p);
    bool is_new = !version->watch.is_known || chain != version->watch.seen[0] ||
                  key != version->watch.seen[1];
    version->watch.seen[0] = chain;
    version->watch.seen[1] = key;
    version->watch.is_known = true;
    if (is_new) {
        version->watch.is_changed = true; // the first time too: they may differ from what is stored
    } else if (version->watch.is_changed) {
        version->watch.is_changed = false;
        judge(table, version);
    }
}

// The one that was looked at longest ago, referenced.
static struct cert_version *take(struct cert_table *table)
{
    struct cert_version *version = NULL;
    pthread_mutex_lock(&table->mutex);
    if (!list_is_empty(&table->watched)) {
        version = LIST_FIRST(&table->watched, struct cert_version, watch.node);
        list_remove(&version->watch.node);
        list_append(&table->watched, &version->watch.node);
        // While it is watched its slot refers to it.
        atomic_fetch_add_explicit(&version->version.refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&table->mutex);
    return version;
}

void cert_watch_turn(struct cert_table *table)
{
    pthread_mutex_lock(&table->mutex);
    unsigned count = table->watched_count < LOOK_MAX ? table->watched_count : LOOK_MAX;
    pthread_mutex_unlock(&table->mutex);
    struct cert_version *version;
    for (; count > 0 && (version = take(table)) != NULL; count--) {
        look(table, version);
        version_unref(&version->version);
        pthread_mutex_lock(&table->mutex);
        bool is_wanted = table->queue != NULL || table->is_stopping;
        pthread_mutex_unlock(&table->mutex);
        if (is_wanted) {
            return; // handshakes wait; the rest is looked at next time
        }
    }
}
