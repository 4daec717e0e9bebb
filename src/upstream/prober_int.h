// SPDX-License-Identifier: MIT
// Inside the prober: what its thread knows. One check at a time of each probe.
#pragma once
#include "upstream/prober.h"

struct check;

// A spec of the prober's own: one block of memory, with the text it points to.
struct spec {
    struct probe_spec is;
    // Of a search for is.body: how much of its beginning is found again where a byte does not fit.
    const uint16_t *fallback;
};

// NULL: out of memory.
struct spec *spec_new(const struct probe_spec *from);
// Any thread. NULL is allowed.
void spec_free(struct spec **spec);

// What a check needs of its thread.
struct checker {
    struct http_client_pool clients;
    struct http_client_owner owner;
    struct sockaddr_storage forbidden; // AF_UNSPEC: none
};
void checker_init(struct checker *checker, struct loop *loop);
// No check is under way.
void checker_fini(struct checker *checker);

// A check under way; embedded in its probe.
struct check {
    struct checker *checker;
    const struct spec *spec;
    struct http_stream *stream; // NULL: none is under way
    struct loop_timer timer;    // of the whole
    uint64_t began_ns;
    // The verdict is there; the rest of the answer is read all the same.
    bool has_verdict;
    bool is_ready;    // connected
    bool is_fault;    // of our own: it says nothing about the target
    size_t body_len;  // that came
    size_t body_seen; // bytes of spec->is.body that the last bytes match
    struct probe_result result;
    // Once, perhaps within check_begin(); the check may begin again after it.
    void (*on_end)(struct check *check);
};

void check_init(struct check *check, struct checker *checker, void (*on_end)(struct check *check));
static inline bool check_is_under_way(const struct check *check)
{
    return check->stream != NULL;
}
// `spec` lives until the end.
void check_begin(struct check *check, const struct spec *spec);
// Gives it up: on_end does not come.
void check_cancel(struct check *check);
