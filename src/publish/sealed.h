// SPDX-License-Identifier: MIT
// The secret part of a certificate, sealed on its way into a store and opened on its way out. Any thread.
#pragma once
#include "cert/seal.h"
#include "model/declaration.h"

// Takes `text` (malloc, terminated; wiped). 0 and *sealed (malloc, terminated), or ERR_MEMORY, ERR_SYSTEM.
// `seal` NULL: it is stored as it is.
int sealed_close(const struct seal *seal, const char *name, char *text, char **sealed) WARN_UNUSED;
// Appends the plain text, which the caller wipes. 0; ERR_INVALID, ERR_NOT_FOUND (seal_open), ERR_MEMORY.
int sealed_open(const struct seal *seal, struct str name, struct str secret,
                struct buf *text) WARN_UNUSED;
// Overwrites and frees. NULL is allowed.
void sealed_wipe(char *text);
