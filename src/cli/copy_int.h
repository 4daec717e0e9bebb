// SPDX-License-Identifier: MIT
// The parts of `store copy`. Main thread.
#pragma once
#include "cert/seal.h"
#include "store/store.h"

enum {
    COPY_ROUTES_PER_FILE = 10000,
    COPY_FILE_BYTES = 8 << 20, // half of what a node reads: routes are not all alike
};

struct copy {
    const char *from; // URLs, as they were given
    const char *to;
    const struct seal *seal;
    bool with_secrets;
    bool is_merge;
    bool is_replace;
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

// copy_source.c. Exit status; faults are printed.
int copy_read_sqlite(struct copy *copy);
int copy_read_folder(struct copy *copy);
// copy_target.c
int copy_write_sqlite(struct copy *copy);
// copy_folder.c
int copy_write_folder(struct copy *copy);
