// SPDX-License-Identifier: MIT
#include "http/h2/h2_guard.h"

// Frames and flags (RFC 9113 6). What is not here is a control frame.
enum {
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_CONTINUATION = 9,
    FLAG_END_STREAM = 1,
    FLAG_END_HEADERS = 4,
    USUAL_FRAME_LEN = 16384,
};

struct row {
    const char *name;
    uint32_t budget;
    uint32_t refill;
};

static const struct row rows[ABUSE_COUNT] = {
#define X(id, name, budget, refill) [id] = {name, budget, refill},
    H2_ABUSE_TABLE(X)
#undef X
};

const char *h2_abuse_name(enum h2_abuse kind)
{
    return kind < ABUSE_COUNT ? rows[kind].name : "";
}

void h2_guard_init(struct h2_guard *guard, uint64_t now_ms, size_t head_max)
{
    *guard = (struct h2_guard){.preface_left = H2_PREFACE_LEN};
    for (unsigned i = 0; i < ABUSE_COUNT; i++) {
        guard->since_ms[i] = now_ms;
        guard->left[i] = rows[i].budget;
    }
    guard->continuation_max = H2_CONTINUATION_MIN + (unsigned)(2 * head_max / USUAL_FRAME_LEN);
}

static void earn(struct h2_guard *guard, enum h2_abuse kind, uint64_t count)
{
    uint64_t left = guard->left[kind] + count;
    guard->left[kind] = left < rows[kind].budget ? (uint32_t)left : rows[kind].budget;
}

bool h2_guard_spend(struct h2_guard *guard, uint64_t now_ms, enum h2_abuse kind)
{
    if (guard->left[kind] == 0) {
        uint64_t refill = (now_ms - guard->since_ms[kind]) * rows[kind].refill / 1000;
        if (refill == 0) {
            return false;
        }
        earn(guard, kind, refill);
        guard->since_ms[kind] = now_ms;
    }
    guard->left[kind]--;
    return true;
}

void h2_guard_earn_request(struct h2_guard *guard)
{
    // Not one for one: an answer of our own costs the client next to nothing.
    if (++guard->answered % H2_EARN_ANSWERS == 0) {
        earn(guard, ABUSE_RAPID_RESET, 1);
    }
    earn(guard, ABUSE_CONTROL, H2_EARN_REQUEST);
}

void h2_guard_earn_sent(struct h2_guard *guard, size_t len)
{
    // By bytes, not by frames: windows of one byte each must not pay for themselves.
    uint64_t earned = guard->earned + (uint64_t)len;
    earn(guard, ABUSE_CONTROL, earned / H2_EARN_LEN);
    guard->earned = (uint32_t)(earned % H2_EARN_LEN);
}

static enum h2_abuse judge(struct h2_guard *guard, uint64_t now_ms)
{
    unsigned type = guard->header[3];
    unsigned flags = guard->header[4];
    bool is_empty = guard->payload_left == 0;
    enum h2_abuse kind = ABUSE_NONE;
    switch (type) {
    case FRAME_DATA:
        kind = is_empty && (flags & FLAG_END_STREAM) == 0 ? ABUSE_EMPTY : ABUSE_NONE;
        break;
    case FRAME_HEADERS:
        kind = is_empty ? ABUSE_EMPTY : ABUSE_NONE;
        guard->in_block = true;
        guard->continuations = 0;
        guard->block_count++;
        break;
    case FRAME_CONTINUATION:
        if (++guard->continuations > guard->continuation_max) {
            return ABUSE_CONTINUATION;
        }
        kind = is_empty ? ABUSE_EMPTY : ABUSE_NONE;
        break;
    default:
        kind = ABUSE_CONTROL;
        break;
    }
    guard->ends_block =
        (flags & FLAG_END_HEADERS) != 0 && (type == FRAME_HEADERS || type == FRAME_CONTINUATION);
    if (kind != ABUSE_NONE && !h2_guard_spend(guard, now_ms, kind)) {
        return kind;
    }
    return ABUSE_NONE;
}

static void end_frame(struct h2_guard *guard)
{
    guard->have = 0;
    guard->has_preface = true;
    if (guard->ends_block) {
        guard->in_block = false;
        guard->ends_block = false;
    }
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

enum h2_abuse h2_guard_scan(struct h2_guard *guard, uint64_t now_ms, struct str bytes)
{
    size_t skipped = smaller(bytes.len, guard->preface_left);
    guard->preface_left = (uint8_t)(guard->preface_left - skipped);
    bytes = str_from(bytes, skipped);
    while (bytes.len > 0) {
        if (guard->have < H2_FRAME_HEADER_LEN) {
            size_t part = smaller(bytes.len, H2_FRAME_HEADER_LEN - guard->have);
            memcpy(guard->header + guard->have, bytes.p, part);
            guard->have = (uint8_t)(guard->have + part);
            bytes = str_from(bytes, part);
            if (guard->have < H2_FRAME_HEADER_LEN) {
                break;
            }
            guard->payload_left = (uint32_t)guard->header[0] << 16 |
                                  (uint32_t)guard->header[1] << 8 | guard->header[2];
            enum h2_abuse kind = judge(guard, now_ms);
            if (kind != ABUSE_NONE) {
                return kind;
            }
        } else {
            size_t part = smaller(bytes.len, guard->payload_left);
            guard->payload_left -= (uint32_t)part;
            bytes = str_from(bytes, part);
        }
        if (guard->payload_left == 0) {
            end_frame(guard);
        }
    }
    return ABUSE_NONE;
}
