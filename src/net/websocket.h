// SPDX-License-Identifier: MIT
// The answer to a WebSocket's key (RFC 6455 4.2.2). Pure; any thread.
#pragma once
#include "base/err.h"
#include "base/str.h"

enum { NET_WEBSOCKET_ACCEPT_LEN = 28 };

// 0, or ERR_SYSTEM: the key is too long, or there is no SHA-1.
int net_websocket_accept(struct str key, char accept[NET_WEBSOCKET_ACCEPT_LEN]) WARN_UNUSED;
