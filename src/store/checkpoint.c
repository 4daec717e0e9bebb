// SPDX-License-Identifier: MIT
// Moving the log into the file. A commit only appends to the log; a thread of its own copies what has
// gathered (PASSIVE: beside the writer, which does not wait for it). When all is copied, the next
// commit starts the log over by itself. Under writes that never pause the copy never quite catches up:
// then, when the log has grown over its bound, the store thread copies the short rest between two
// groups. Readers that are still on the old log only put that off.
#include "base/log.h"
#include "store/store_int.h"

// Pages in the log, and how many of them are in the file now.
static bool copy_log(sqlite3 *db, unsigned *pages, unsigned *done)
{
    int in_log = 0;
    int copied = 0;
    int code = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_log, &copied);
    *pages = in_log < 0 ? 0 : (unsigned)in_log;
    *done = copied < 0 ? 0 : (unsigned)copied;
    return code == SQLITE_OK || code == SQLITE_BUSY; // busy: the other one is at it
}

static void *checkpoint_main(void *argument)
{
    struct store *store = argument;
    bool was_good = true;
    pthread_mutex_lock(&store->mutex);
    while (!store->is_checkpoint_stopping) {
        if (!store->is_checkpoint_wanted) {
            pthread_cond_wait(&store->wake_checkpoint, &store->mutex);
            continue;
        }
        store->is_checkpoint_wanted = false;
        store->is_checkpoint_running = true;
        pthread_mutex_unlock(&store->mutex);
        unsigned pages;
        unsigned done;
        bool is_good = copy_log(store->checkpoint_db, &pages, &done);
        if (!is_good && was_good) {
            char detail[STORE_DETAIL_LEN];
            store_db_describe(store->checkpoint_db, detail, sizeof detail);
            log_warning("%s: checkpoint: %s", store->path, detail);
        }
        was_good = is_good;
        pthread_mutex_lock(&store->mutex);
        store->is_checkpoint_running = false;
        if (is_good) {
            store->checkpoint_done = done;
        }
    }
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}

void store_checkpoint_consider(struct store *store)
{
    const unsigned max = STORE_WAL_MAX / STORE_PAGE_LEN;
    struct store_writer *writer = &store->writer;
    bool is_new_log = writer->wal_pages < writer->wal_asked;
    if (is_new_log) {
        writer->wal_asked = 0;
        writer->wal_copied = 0;
    }
    bool is_over = writer->wal_pages >= max;
    // Over the bound the helper comes more often, until it leaves only a short rest.
    bool is_due = writer->wal_pages - writer->wal_asked >=
                  (is_over ? STORE_CHECKPOINT_REST : STORE_CHECKPOINT_PAGES);
    if (!is_new_log && !is_due && !is_over) {
        return;
    }
    pthread_mutex_lock(&store->mutex);
    if (is_new_log) {
        store->checkpoint_done = 0;
    }
    bool is_busy = store->is_checkpoint_running || store->is_checkpoint_wanted;
    // All of the log only if the helper never gets there.
    bool is_mine = is_over && !is_busy &&
                   (writer->wal_pages - store->checkpoint_done <= STORE_CHECKPOINT_REST ||
                    writer->wal_pages >= 2 * max) &&
                   writer->wal_pages - writer->wal_copied >= STORE_CHECKPOINT_REST;
    if (is_due && !is_busy && !is_mine) {
        writer->wal_asked = writer->wal_pages;
        store->is_checkpoint_wanted = true;
        pthread_cond_signal(&store->wake_checkpoint);
    }
    pthread_mutex_unlock(&store->mutex);
    if (is_mine) {
        unsigned pages;
        unsigned done;
        (void)copy_log(writer->db, &pages, &done); // the helper reports what is wrong with the file
        writer->wal_copied = writer->wal_pages;
    }
}

int store_checkpoint_start(struct store *store)
{
    if (pthread_create(&store->checkpoint_thread, NULL, checkpoint_main, store) != 0) {
        return ERR_SYSTEM;
    }
    store->has_checkpoint_thread = true;
    pthread_setname_np(store->checkpoint_thread, "checkpoint");
    return 0;
}

void store_checkpoint_stop(struct store *store)
{
    if (!store->has_checkpoint_thread) {
        return;
    }
    pthread_mutex_lock(&store->mutex);
    store->is_checkpoint_stopping = true;
    pthread_cond_signal(&store->wake_checkpoint);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->checkpoint_thread, NULL);
    store->has_checkpoint_thread = false;
}
