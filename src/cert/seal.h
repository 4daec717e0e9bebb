// SPDX-License-Identifier: MIT
// Secrets at rest: AES-256-GCM under the keys of store.encryption_key_file.
//
//   sealed = "pm1:" key id (8 hex) ":" base64(nonce 12 | ciphertext | tag 16); the record's noun and key
//   are authenticated with it, so that a secret cannot be moved to another record.
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "model/problem.h"

struct seal;

// The file: one key a line, 64 hexadecimal digits or base64 of 32 bytes; the first one seals, all open;
// '#' begins a comment. Others than the owner must not be able to read it. path "": no keys, secrets are
// stored as they are. 0, or ERR_INVALID, ERR_SYSTEM with a problem that names file and line.
int seal_open_file(struct seal **seal, const char *path, struct problems *problems) WARN_UNUSED;
void seal_free(struct seal **seal);
bool seal_has_key(const struct seal *seal);

// Any thread. `context` is authenticated ("certificates/shop"). Appends to *to. 0, or ERR_MEMORY,
// ERR_SYSTEM.
int seal_close(const struct seal *seal, struct str context, struct str plain,
               struct buf *to) WARN_UNUSED;
// What seal_close gave, or plain text that was stored before there was a key. 0, or ERR_INVALID (damaged,
// another context), ERR_NOT_FOUND (its key is not in the file), ERR_MEMORY.
int seal_open(const struct seal *seal, struct str context, struct str sealed,
              struct buf *to) WARN_UNUSED;
// Was it sealed with the first key of the file? (No key: is it plain?) Else it should be sealed anew.
bool seal_is_current(const struct seal *seal, struct str sealed);
