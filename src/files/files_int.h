// SPDX-License-Identifier: MIT
// Inside of the folder.
//
//     folder.c   what is in the folder, and its bytes
//     table.c    the files and what they declared the last time they were good
//     round.c    all declarations together: which hold, and the difference to what is stored
//     watch.c    when to look: inotify, and looks for what it does not tell
//     files.c    from start to end; requests, status
//     turn.c     the thread: when a reading is due, and what is told of it
//     once.c     one reading without a thread
#pragma once
#include "files/files.h"
#include <pthread.h>

// ---- folder.c ----

struct folder_entry {
    char *name;
    uint64_t sign; // of what stat() says: changes when the file does
    uint64_t size;
};

struct folder_list {
    struct folder_entry *items; // by name
    size_t count;
    size_t size;
    uint64_t sign; // of all
};

// Is the name one of a file of declarations: *.yaml, *.yml, *.json, not hidden, no editor's backup?
bool folder_name_is_file(const char *name);
// 0; ERR_NOT_FOUND: no such folder, or it cannot be read; ERR_LIMIT: too many files or bytes; ERR_MEMORY.
// With a fault. folder_list_fini() in any case.
int folder_list_read(const char *folder, struct folder_list *list,
                     struct files_faults *faults) WARN_UNUSED;
void folder_list_fini(struct folder_list *list);
// "folder/name", malloc; NULL: out of memory.
char *folder_path(const char *folder, const char *name);
// Appends a file's bytes. 0, or ERR_UNAVAILABLE, ERR_LIMIT with a fault.
int folder_read_file(const char *folder, const char *name, struct buf *text,
                     struct files_faults *faults) WARN_UNUSED;

// A documents_on_fault of a struct files_faults.
void files_fault(void *context, const char *place, const char *detail);
void files_faultf(struct files_faults *faults, const char *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// ---- table.c ----

// One declaration of a file: `change` is without a request, its problems unused.
struct file_item {
    struct store_change change;
    unsigned line;
    unsigned column;
};

struct file {
    char *name;
    uint64_t sign;     // as it was read last; 0: not yet
    bool is_broken;    // what was read last is not what `items` are
    bool is_known;     // it has been good once, and `items` are what it declared
    struct buf faults; // of the last reading
    unsigned fault_count;
    struct file_item *items;
    size_t count;
};

struct file_table {
    struct file *items; // by name
    size_t count;
    bool is_unread; // none has been read, but what is stored is of some: an empty one had it
};

void file_table_fini(struct file_table *table);
// Reads what is new or changed (and, with `retry`, what was broken); forgets what is gone. is_held() names
// files that are being written: they stay as they are. 0, or ERR_MEMORY.
int file_table_update(struct file_table *table, const char *folder, const struct folder_list *list,
                      const struct seal *seal, bool retry,
                      bool (*is_held)(void *context, const char *name), void *context) WARN_UNUSED;

// ---- round.c ----

struct round_result {
    struct store_request *request; // NULL: nothing to change
    unsigned refused;              // declarations
    uint64_t declarations;
};

// The difference between what the table declares and what is stored (`reader` NULL: nothing is). keep_all:
// nothing is deleted. The request's loop and on_done are the caller's. 0, or ERR_MEMORY, ERR_UNAVAILABLE.
int round_build(const char *folder, const struct file_table *table, struct store_reader *reader,
                bool keep_all, struct round_result *result,
                struct files_faults *faults) WARN_UNUSED;

// ---- watch.c ----

struct watch_name {
    char *name;
    uint64_t since_ms; // of the last write to it
};

struct watch {
    const char *folder;
    int fd;                   // inotify; -1: not available
    int wd;                   // -1: the folder is not watched
    uint64_t sign;            // of the folder that is watched: another may have taken its place
    struct watch_name *names; // files that were written to and not closed yet
    size_t count;
    size_t size;
};

void watch_init(struct watch *watch, const char *folder);
void watch_fini(struct watch *watch);
// Watches the folder that has the name now. True: it is another than before, or has come or gone.
bool watch_renew(struct watch *watch);
// Takes what the kernel has to tell. True: something has changed.
bool watch_read(struct watch *watch, uint64_t now_ms);
// Is it waited for?
bool watch_is_open(const struct watch *watch, const char *name);
// Waits no longer for files that nobody has written to for long enough. True: there were some.
bool watch_expire(struct watch *watch, uint64_t now_ms);

// ---- files.c ----

struct files {
    struct files_config config;
    char *folder;
    struct loop *control;
    struct store_reader *reader;
    struct loop_message message; // on_report
    pthread_t thread;
    bool has_thread;
    int wake_fd; // stop, or an answer

    // The thread's.
    struct watch watch;
    struct file_table table;
    struct buf reported; // the faults that were logged
    uint64_t list_sign;  // of the folder as it was seen last
    uint64_t due_ms;     // when to read; 0: nothing to do
    uint64_t burst_ms;   // when what is to be read began; 0: nothing
    uint64_t look_ms;    // next looks
    uint64_t full_look_ms;
    uint64_t retry_ms; // when broken files are read again

    pthread_mutex_t mutex; // what follows
    struct files_status status;
    bool is_first_done; // the folder has been read once
    bool had_content;   // the replica, at the start
    bool is_stopping;
    bool is_message_posted;
    struct store_request *answered; // freed by the thread: it may hold a million changes

    char answer_detail[300]; // the thread's: why the last request was refused
};

// Submits, and waits for the answer in *err. False: the node stops. The files' thread.
bool files_submit(struct files *files, struct store_request *request, int *err) WARN_UNUSED;

// ---- turn.c ----

// All declarations that are stored.
uint64_t files_held(struct store *store);
// A loop_message: the control loop is told of a report.
void files_on_message(struct loop *loop, struct loop_message *message);
// The thread.
void *files_main(void *argument);
