// SPDX-License-Identifier: MIT
// Redis as a configuration names it: its URL with the password of store.password_file, and its TLS.
#pragma once
#include "model/config.h"
#include "redis/redis.h"

// Reads store.url and store.password_file; redis_url_fini() in any case. Any thread. 0, or with problems that
// name the setting and show no password: ERR_INVALID, ERR_SYSTEM (the file cannot be read), ERR_MEMORY.
int store_url_read(struct redis_url *url, const struct config *config,
                   struct problems *problems) WARN_UNUSED;
// TLS as store.* say; its texts are the configuration's.
struct redis_tls store_url_tls(const struct config *config);
// Are the files that a Redis store names there, and is its URL one? Stores of another kind: 0. Else as
// store_url_read().
int store_url_check(const struct config *config, struct problems *problems) WARN_UNUSED;
