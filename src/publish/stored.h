// SPDX-License-Identifier: MIT
// Stored certificates, read without a tree: a start with a hundred thousand of them does little else.
#pragma once
#include "model/declaration.h"

enum { STORED_NAME_MAX = 32 };

struct stored_certificate {
    struct certificate_decl decl; // views of the value and of the arrays
    struct str hosts[STORED_NAME_MAX];
    struct str names[STORED_NAME_MAX];
};

// A value as declaration_encode() writes it, in its usual form: compact, ASCII without escapes, few names.
// False: anything else, which says nothing of it; declaration_decode() is for that. *stored must not be
// moved. Pure; any thread.
bool stored_certificate_read(struct str value, struct stored_certificate *stored);
