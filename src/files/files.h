// SPDX-License-Identifier: MIT
// The file: store: a folder of YAML and JSON files whose declarations go into the node's own store.
//
//     folder ── inotify, looks ──► thread: read what changed ─► difference to the replica ─► store_submit
//                                    │ faults: log, status                                      │ feed
//                                    └──► control: on_report                control: tables ◄──┘
//
// The replica is an ordinary store: the node starts with it, whatever the folder is like, and nothing but
// this thread changes declarations in it. What is refused changes nothing: a file that cannot be read keeps
// the declarations it had, and so does a declaration that refers to something that no file declares.
#pragma once
#include "base/buf.h"
#include "cert/seal.h"
#include "store/store.h"

enum {
    FILES_MAX = 10000,          // files of a folder
    FILES_BYTES_MAX = 64 << 20, // of all of them together
    FILES_FILE_MAX = 16 << 20,  // bytes of one
    FILES_FAULTS_SHOWN = 100,   // faults that are logged of one round; the others are counted
    FILES_QUIET_MS = 100,       // so long nothing must happen before the folder is read
    FILES_BURST_MS = 500,       // but a burst is read after so long at the latest
    FILES_LOOK_MS = 500,        // between looks at the folder itself
    FILES_FULL_LOOK_MS = 5000,  // between looks at all files, where the kernel tells of changes
    FILES_OPEN_MS = 5000,       // so long a file that is being written is waited for
};

// ---- one reading (pointsman check, pointsman store copy) ----

// Faults as text, a line each: "folder/file:line:column: message".
struct files_faults {
    struct buf text;
    unsigned count;
};

void files_faults_init(struct files_faults *faults);
void files_faults_fini(struct files_faults *faults);

// Reads a folder once. 0 and *request with a put for each declaration, references checked (not submitted;
// the caller frees it); or a negative err with faults, and no request. `seal` NULL: secrets stay as they
// are. Any thread.
int files_read(const char *folder, const struct seal *seal, struct store_request **request,
               struct files_faults *faults) WARN_UNUSED;

// ---- the store ----

struct files;

struct files_config {
    const char *folder; // copied
    bool accept_empty;  // a folder without files deletes all declarations
    struct store *store;
    const struct seal *seal;
    // On the control loop, after a round whose faults are others than before.
    void (*on_report)(void *context);
    void *context;
};

struct files_status {
    char folder[256];
    bool is_folder_there; // and was read the last time
    unsigned files;
    unsigned broken;       // files that are refused
    unsigned refused;      // declarations of good files that are
    uint64_t declarations; // that are declared now
    uint64_t rounds;       // that changed something
    uint64_t read_sec;     // Unix time of the last reading
    char detail[512];      // the first fault; empty: none
};

// Before store_start() and after the replica has been loaded. 0; ERR_NOT_FOUND with a problem: there is no
// such folder and nothing is held that could be served; ERR_UNAVAILABLE, ERR_SYSTEM, ERR_MEMORY.
int files_new(struct files **files, const struct files_config *config,
              struct problems *problems) WARN_UNUSED;
// After store_start(). 0, or ERR_SYSTEM.
int files_start(struct files *files, struct loop *control) WARN_UNUSED;
// Ends the thread; before store_stop(). NULL is allowed.
void files_stop(struct files *files);
// After store_stop() and the turns that take the store's last answers; before store_close().
void files_free(struct files **files);
// Any thread.
void files_get_status(struct files *files, struct files_status *status);
// Is there something to serve: the replica's content, or what a first reading has brought? Any thread.
bool files_is_ready(struct files *files);
