// SPDX-License-Identifier: MIT
// From start to end, and the requests of the thread: one is under way at a time, so that what is compared
// with is what was answered.
#include "base/log.h"
#include "files/files_int.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void wake(struct files *files)
{
    uint64_t one = 1;
    if (write(files->wake_fd, &one, sizeof one) != (ssize_t)sizeof one) {
        errno = 0; // it is awake already
    }
}

// ---- the request ----

static void on_done(struct store_request *request)
{
    struct files *files = request->context;
    pthread_mutex_lock(&files->mutex);
    files->answered = request;
    pthread_mutex_unlock(&files->mutex);
    wake(files);
}

static int take_answer(struct files *files, struct store_request *request)
{
    int err = request->err;
    files->answer_detail[0] = '\0';
    for (unsigned i = 0; i < request->count && files->answer_detail[0] == '\0'; i++) {
        if (request->changes[i].problems.count > 0) {
            str_copy(files->answer_detail, sizeof files->answer_detail,
                     str_from_c(request->changes[i].problems.items[0].detail));
        }
    }
    store_request_free(&request);
    return err;
}

bool files_submit(struct files *files, struct store_request *request, int *err)
{
    request->loop = files->control;
    request->on_done = on_done;
    request->context = files;
    store_submit(files->config.store, &request);
    for (;;) {
        // Looked at before waiting: who was woken to stop may have come here with that.
        pthread_mutex_lock(&files->mutex);
        struct store_request *answered = files->answered;
        files->answered = NULL;
        bool stops = files->is_stopping;
        pthread_mutex_unlock(&files->mutex);
        if (answered != NULL) {
            *err = take_answer(files, answered);
            return true;
        }
        if (stops) {
            return false;
        }
        struct pollfd fd = {.fd = files->wake_fd, .events = POLLIN};
        (void)poll(&fd, 1, -1);
        uint64_t count;
        if (read(files->wake_fd, &count, sizeof count) < 0) {
            errno = 0;
        }
    }
}

// ---- from outside ----

static int look_first(struct files *files, struct problems *problems)
{
    struct folder_list list;
    struct files_faults faults;
    files_faults_init(&faults);
    int err = folder_list_read(files->folder, &list, &faults);
    files->had_content = files_held(files->config.store) > 0;
    files->table.is_unread = files->had_content;
    bool is_gone = err == ERR_NOT_FOUND;
    if (is_gone && !files->had_content) {
        struct str text = buf_str(&faults.text);
        err = problems_add(problems, ERR_NOT_FOUND, "store.url", "%.*s",
                           (int)(text.len > 0 ? text.len - 1 : 0), text.p == NULL ? "" : text.p);
    } else {
        err = 0; // the thread says what is wrong, and goes on looking
    }
    files->status.is_folder_there = !is_gone;
    if (is_gone && err == 0) {
        log_warning("%s: the folder is gone; this node serves what it holds", files->folder);
    }
    folder_list_fini(&list);
    files_faults_fini(&faults);
    return err;
}

int files_new(struct files **out, const struct files_config *config, struct problems *problems)
{
    struct files *files = calloc(1, sizeof *files);
    *out = files;
    if (files == NULL) {
        return problems_add(problems, ERR_MEMORY, "store.url", "out of memory");
    }
    files->config = *config;
    files->message.run = files_on_message;
    files->wake_fd = -1;
    pthread_mutex_init(&files->mutex, NULL);
    buf_init(&files->reported, 0);
    files->folder = str_dup(str_from_c(config->folder));
    if (files->folder == NULL) {
        return problems_add(problems, ERR_MEMORY, "store.url", "out of memory");
    }
    files->config.folder = files->folder;
    str_copy(files->status.folder, sizeof files->status.folder, str_from_c(files->folder));
    watch_init(&files->watch, files->folder);
    files->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err = files->wake_fd < 0 ? ERR_SYSTEM : store_reader_open(config->store, &files->reader);
    if (err != 0) {
        return problems_add(problems, err, "store.url", "%s", err_text(err));
    }
    return look_first(files, problems);
}

int files_start(struct files *files, struct loop *control)
{
    files->control = control;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&files->thread, NULL, files_main, files) == 0 ? 0 : ERR_SYSTEM;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0) {
        files->has_thread = true;
        pthread_setname_np(files->thread, "files");
    }
    return err;
}

void files_stop(struct files *files)
{
    if (files == NULL || !files->has_thread) {
        return;
    }
    pthread_mutex_lock(&files->mutex);
    files->is_stopping = true;
    pthread_mutex_unlock(&files->mutex);
    wake(files);
    pthread_join(files->thread, NULL);
    files->has_thread = false;
}

void files_free(struct files **place)
{
    struct files *files = *place;
    *place = NULL;
    if (files == NULL) {
        return;
    }
    files_stop(files);
    if (files->folder != NULL) {
        watch_fini(&files->watch);
    }
    store_reader_close(&files->reader);
    store_request_free(&files->answered); // came while it stopped
    file_table_fini(&files->table);
    buf_fini(&files->reported);
    if (files->wake_fd >= 0) {
        close(files->wake_fd);
    }
    pthread_mutex_destroy(&files->mutex);
    free(files->folder);
    free(files);
}

void files_get_status(struct files *files, struct files_status *status)
{
    pthread_mutex_lock(&files->mutex);
    *status = files->status;
    pthread_mutex_unlock(&files->mutex);
}

bool files_is_ready(struct files *files)
{
    pthread_mutex_lock(&files->mutex);
    bool result = files->had_content || files->is_first_done;
    pthread_mutex_unlock(&files->mutex);
    return result;
}
