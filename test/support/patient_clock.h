// SPDX-License-Identifier: MIT
// The clock of a loop that a test turns by hand: it passes only while the loop is turned, and a turn that
// takes longer than it should counts as one that took PATIENT_TURN_MS more than it was to wait. So a machine
// that is busy, or stands still, makes no timer of the program under test late, and what the loop's clock
// has measured may be compared with what is promised.
#pragma once
#include "base/clock.h"
#include "loop/loop.h"

enum { PATIENT_TURN_MS = 10 };

// Once, before the loop's clock is used.
static inline void patient_begin(struct loop *loop)
{
    loop_read_clock(loop);
    loop->is_simulated = true;
}

static inline void patient_turn(struct loop *loop, int wait_ms)
{
    uint64_t began_ns = clock_monotonic_ns();
    loop_turn(loop, wait_ms);
    uint64_t passed_ns = clock_monotonic_ns() - began_ns;
    uint64_t most_ns = (uint64_t)(wait_ms + PATIENT_TURN_MS) * NS_PER_MS;
    passed_ns = passed_ns < most_ns ? passed_ns : most_ns;
    loop->now_ns += passed_ns;
    loop->now_ms = loop->now_ns / NS_PER_MS;
    loop->real_ns += passed_ns;
}
