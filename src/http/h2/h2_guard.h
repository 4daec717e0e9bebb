// SPDX-License-Identifier: MIT
// What a peer may do to us for nothing: budgets that refill with time and with honest work. When one is
// used up the connection ends with GOAWAY ENHANCE_YOUR_CALM and its counter. The frames are counted
// from their headers alone, before nghttp2 sees them. Pure; the connection's thread.
#pragma once
#include "base/str.h"

// X(id, name, budget, refill a second)
#define H2_ABUSE_TABLE(X)                                                                        \
    X(ABUSE_RAPID_RESET, "rapid_reset", 100, 50) /* streams reset before their response ended */ \
    X(ABUSE_CONTINUATION, "continuation", 0, 0)  /* bound by block: h2_guard.continuation_max */ \
    X(ABUSE_CONTROL, "control_flood", 2000, 200)                                                 \
    X(ABUSE_EMPTY, "empty_frames", 100, 10)                                                      \
    X(ABUSE_HEADER_BOMB, "header_bomb", 10, 1)                                                   \
    X(ABUSE_STALLED, "stalled", 0, 0) /* ends the stream alone */                                \
    X(ABUSE_PROTOCOL, "protocol_errors", 0, 0)

enum h2_abuse {
#define X(id, name, budget, refill) id,
    H2_ABUSE_TABLE(X)
#undef X
        ABUSE_COUNT,
    ABUSE_NONE = ABUSE_COUNT,
};

enum {
    H2_PREFACE_LEN = 24,
    H2_FRAME_HEADER_LEN = 9,
    H2_CONTINUATION_MIN = 8, // CONTINUATION frames that any header block may have
    H2_EARN_LEN = 512,       // bytes sent to the peer that allow it another control frame
    H2_EARN_REQUEST = 8,     // control frames that go with an honest request
    H2_EARN_ANSWERS = 4,     // whole answers that allow another early reset
};

struct h2_guard {
    uint64_t since_ms[ABUSE_COUNT]; // of the last refill
    uint32_t left[ABUSE_COUNT];
    unsigned continuation_max; // frames of a header block
    unsigned continuations;    // of the block under way
    uint32_t payload_left;     // bytes of the frame under way
    uint32_t block_count;      // header blocks begun
    uint32_t earned;           // bytes sent, not yet worth a frame
    uint32_t answered;         // whole answers
    uint8_t preface_left;
    uint8_t have; // bytes of the frame's header
    uint8_t header[H2_FRAME_HEADER_LEN];
    bool in_block;    // the header block under way is not complete
    bool ends_block;  // this frame has END_HEADERS
    bool has_preface; // all of it came, and one frame behind it
};

void h2_guard_init(struct h2_guard *guard, uint64_t now_ms, size_t head_max);
// Looks at the bytes that came. ABUSE_NONE, or what they are too much of.
enum h2_abuse h2_guard_scan(struct h2_guard *guard, uint64_t now_ms, struct str bytes);
// One more of that kind: true: it was in the budget.
bool h2_guard_spend(struct h2_guard *guard, uint64_t now_ms, enum h2_abuse kind);
// Work that went well gives some back.
void h2_guard_earn_request(struct h2_guard *guard);
void h2_guard_earn_sent(struct h2_guard *guard, size_t len);
// "rapid_reset"
const char *h2_abuse_name(enum h2_abuse kind);
