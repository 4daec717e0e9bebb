// SPDX-License-Identifier: MIT
// Traefik's router rules, as far as routes can say the same: hosts and path prefixes, joined by && and ||.
// Pure; any thread.
#pragma once
#include "base/str.h"

enum {
    RULE_TEXT_MAX = 16384, // bytes of a rule
    RULE_TERM_MAX = 256,   // routes of a rule
    RULE_DEPTH_MAX = 64,   // parentheses and operators that are open
    RULE_REASON_MAX = 256,
};

// Requests for a host that begin with a path. Views into the rule's text, as they stand there.
struct rule_term {
    struct str host; // "": any
    struct str path; // "": any
};

struct rule {
    struct rule_term terms[RULE_TERM_MAX]; // a request that fits one of them fits the rule
    unsigned count;                        // 0: no request can fit
};

// 0; or -1 with *reason (terminated): malformed, or it says what a route cannot.
int rule_parse(struct str text, struct rule *rule, char reason[RULE_REASON_MAX]);
