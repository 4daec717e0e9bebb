// SPDX-License-Identifier: MIT
// The thread: waits until the folder is quiet, reads what has changed, submits the difference, says what is
// wrong.
#include "base/clock.h"
#include "base/log.h"
#include "files/files_int.h"
#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { RETRY_MS = 1000 }; // after a store that could not write

static uint64_t now_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

static bool is_stopping(struct files *files)
{
    pthread_mutex_lock(&files->mutex);
    bool result = files->is_stopping;
    pthread_mutex_unlock(&files->mutex);
    return result;
}

// ---- what is told ----

void files_on_message(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct files *files = CONTAINER_OF(message, struct files, message);
    pthread_mutex_lock(&files->mutex);
    files->is_message_posted = false;
    pthread_mutex_unlock(&files->mutex);
    if (files->config.on_report != NULL) {
        files->config.on_report(files->config.context);
    }
}

static void log_new_faults(struct files *files, const struct files_faults *faults)
{
    struct str rest = buf_str(&faults->text);
    while (rest.len > 0) {
        struct str line;
        str_split(rest, '\n', &line, &rest);
        if (line.len > 0 && str_find(buf_str(&files->reported), line) == SIZE_MAX) {
            log_error("%.*s", STR_ARG(line));
        }
    }
    if (faults->count > FILES_FAULTS_SHOWN &&
        !str_eq(buf_str(&files->reported), buf_str(&faults->text))) {
        log_error("%s: %u more faults", files->folder, faults->count - FILES_FAULTS_SHOWN);
    }
    if (faults->count == 0 && files->reported.len > 0) {
        log_info("%s: all declarations are fine again", files->folder);
    }
}

// Takes the faults.
static void tell(struct files *files, const struct files_status *now, struct files_faults *faults)
{
    bool is_other = !str_eq(buf_str(&files->reported), buf_str(&faults->text));
    struct str first;
    struct str rest;
    str_split(buf_str(&faults->text), '\n', &first, &rest);
    log_new_faults(files, faults);
    pthread_mutex_lock(&files->mutex);
    struct files_status *status = &files->status;
    is_other |= status->is_folder_there != now->is_folder_there || status->broken != now->broken ||
                status->refused != now->refused;
    status->is_folder_there = now->is_folder_there;
    status->files = now->files;
    status->broken = now->broken;
    status->refused = now->refused;
    status->declarations = now->declarations;
    status->rounds = now->rounds;
    if (now->is_folder_there) {
        status->read_sec = clock_real_ns() / NS_PER_SEC;
    }
    str_copy(status->detail, sizeof status->detail, first);
    bool is_posting = is_other && !files->is_message_posted;
    files->is_message_posted |= is_posting;
    pthread_mutex_unlock(&files->mutex);
    buf_fini(&files->reported);
    files->reported = faults->text;
    buf_init(&faults->text, 0);
    if (is_posting) {
        loop_post(files->control, &files->message);
    }
}

// ---- a round ----

static bool is_held(void *context, const char *name)
{
    struct files *files = context;
    return watch_is_open(&files->watch, name);
}

uint64_t files_held(struct store *store)
{
    return store_count(store, NOUN_ROUTE) + store_count(store, NOUN_POOL) +
           store_count(store, NOUN_CERTIFICATE);
}

// What has been declared by files that say nothing now cannot be told from what is to go.
static bool must_keep_all(struct files *files, const struct folder_list *list,
                          struct files_faults *faults)
{
    for (size_t i = 0; i < files->table.count; i++) {
        if (!files->table.items[i].is_known) {
            return true;
        }
    }
    if (list->count > 0 || files->config.accept_empty || files_held(files->config.store) == 0) {
        return false;
    }
    files_fault(faults, files->folder,
                "holds no file of declarations; what was declared stays (store.accept_empty: true "
                "deletes it)");
    return true;
}

// 0, or a negative err: the folder could not be read as a whole.
static int read_folder(struct files *files, struct folder_list *list, struct files_status *now,
                       struct files_faults *faults)
{
    int err = folder_list_read(files->folder, list, faults);
    now->is_folder_there = err == 0;
    if (err != 0) {
        return err;
    }
    files->list_sign = list->sign;
    err = file_table_update(&files->table, files->folder, list, files->config.seal, true, is_held,
                            files);
    now->files = (unsigned)files->table.count;
    now->broken = 0;
    for (size_t i = 0; i < files->table.count && err == 0; i++) {
        const struct file *file = &files->table.items[i];
        now->broken += file->is_broken;
        if (faults->count < FILES_FAULTS_SHOWN) {
            buf_put(&faults->text, buf_str(&file->faults));
        }
        faults->count += file->fault_count;
    }
    return err;
}

// Submits what differs. False: the node stops.
static bool bring(struct files *files, bool keep_all, struct files_status *now,
                  struct files_faults *faults)
{
    struct round_result result;
    files->answer_detail[0] = '\0'; // of an earlier request; none is under way
    int err = round_build(files->folder, &files->table, files->reader, keep_all, &result, faults);
    if (err == 0 && result.request != NULL) {
        unsigned count = result.request->count;
        if (!files_submit(files, result.request, &err)) {
            return false;
        }
        if (err == 0) {
            now->rounds++;
            log_info("%s: %u declarations changed", files->folder, count);
        }
    }
    if (err == 0) {
        now->refused = result.refused;
        now->declarations = result.declarations;
        return true;
    }
    files_faultf(faults, files->folder, "the changes could not be stored: %s",
                 files->answer_detail[0] != '\0' ? files->answer_detail : err_text(err));
    files->due_ms = now_ms() + RETRY_MS;
    return true;
}

static void run_round(struct files *files)
{
    struct files_faults faults;
    struct folder_list list;
    files_faults_init(&faults);
    pthread_mutex_lock(&files->mutex);
    struct files_status now = files->status;
    pthread_mutex_unlock(&files->mutex);
    files->due_ms = 0;
    files->burst_ms = 0;
    int err = read_folder(files, &list, &now, &faults);
    bool goes_on = true;
    if (err == 0) {
        bool keep_all = must_keep_all(files, &list, &faults);
        goes_on = bring(files, keep_all, &now, &faults);
    }
    if (goes_on) {
        tell(files, &now, &faults);
        pthread_mutex_lock(&files->mutex);
        files->is_first_done |= err == 0 && files->due_ms == 0; // else it could not be stored yet
        pthread_mutex_unlock(&files->mutex);
    }
    folder_list_fini(&list);
    files_faults_fini(&faults);
}

// ---- when ----

// Something has happened: read when it has been quiet for a moment, but not much later.
static void note_change(struct files *files, uint64_t now)
{
    if (files->burst_ms == 0) {
        files->burst_ms = now;
    }
    uint64_t quiet = now + FILES_QUIET_MS;
    uint64_t latest = files->burst_ms + FILES_BURST_MS;
    files->due_ms = quiet < latest ? quiet : latest;
}

static bool has_broken(const struct files *files)
{
    for (size_t i = 0; i < files->table.count; i++) {
        if (files->table.items[i].is_broken) {
            return true;
        }
    }
    return false;
}

// For what nobody tells: all that stat() says of the files.
static void look_at_all(struct files *files, uint64_t now)
{
    struct folder_list list;
    struct files_faults faults;
    files_faults_init(&faults);
    int err = folder_list_read(files->folder, &list, &faults);
    pthread_mutex_lock(&files->mutex);
    bool was_there = files->status.is_folder_there;
    pthread_mutex_unlock(&files->mutex);
    if ((err == 0) != was_there || (err == 0 && list.sign != files->list_sign)) {
        files->list_sign = list.sign;
        note_change(files, now);
    } else if (now >= files->retry_ms && files->due_ms == 0 && has_broken(files)) {
        files->retry_ms = now + FILES_FULL_LOOK_MS;
        files->due_ms = now; // it may be broken for a reason elsewhere: a certificate's own file
    }
    folder_list_fini(&list);
    files_faults_fini(&faults);
}

static void wait_for(struct files *files)
{
    uint64_t now = now_ms();
    uint64_t next = files->look_ms;
    if (files->due_ms != 0 && files->due_ms < next) {
        next = files->due_ms;
    }
    struct pollfd fds[] = {{.fd = files->wake_fd, .events = POLLIN},
                           {.fd = files->watch.fd, .events = POLLIN}};
    (void)poll(fds, files->watch.fd >= 0 ? 2 : 1, next <= now ? 0 : (int)(next - now));
    uint64_t value;
    if ((fds[0].revents & POLLIN) != 0 && read(files->wake_fd, &value, sizeof value) < 0) {
        errno = 0;
    }
}

static void look(struct files *files, uint64_t now)
{
    if (watch_read(&files->watch, now)) {
        note_change(files, now);
    }
    if (watch_expire(&files->watch, now) && files->due_ms == 0) {
        files->due_ms = now; // it has been waited for long enough
    }
    if (now < files->look_ms) {
        return;
    }
    files->look_ms = now + FILES_LOOK_MS;
    if (watch_renew(&files->watch)) {
        note_change(files, now);
    }
    if (files->watch.wd < 0 || now >= files->full_look_ms) {
        files->full_look_ms = now + FILES_FULL_LOOK_MS;
        look_at_all(files, now);
    }
}

void *files_main(void *argument)
{
    struct files *files = argument;
    watch_renew(&files->watch);
    files->full_look_ms = now_ms() + FILES_FULL_LOOK_MS;
    run_round(files);
    while (!is_stopping(files)) {
        wait_for(files);
        uint64_t now = now_ms();
        look(files, now);
        if (files->due_ms != 0 && now >= files->due_ms) {
            run_round(files);
        }
    }
    return NULL;
}
