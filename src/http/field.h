// SPDX-License-Identifier: MIT
// Header fields. A field's name is kept as the peer wrote it; `id` says which of the fields that the
// proxy itself treats it is, so that nobody compares names on the request path.
#pragma once
#include "base/str.h"

// X(id, name, flags)
//   HOP       hop-by-hop: ends here (RFC 9110 7.6.1)
//   SECURITY  a Connection header cannot name it away (routing, framing, identity)
//   FORWARD   says who the client is: rewritten here, and refused in its underscore form
#define FIELD_TABLE(X)                                                                    \
    X(FIELD_HOST, "Host", FIELD_SECURITY)                                                 \
    X(FIELD_CONNECTION, "Connection", FIELD_HOP)                                          \
    X(FIELD_KEEP_ALIVE, "Keep-Alive", FIELD_HOP)                                          \
    X(FIELD_PROXY, "Proxy", FIELD_HOP) /* CGI would make HTTP_PROXY of it */              \
    X(FIELD_PROXY_CONNECTION, "Proxy-Connection", FIELD_HOP)                              \
    X(FIELD_PROXY_AUTHENTICATE, "Proxy-Authenticate", 0)                                  \
    X(FIELD_PROXY_AUTHORIZATION, "Proxy-Authorization", FIELD_HOP)                        \
    X(FIELD_PROXY_STATUS, "Proxy-Status", 0)                                              \
    X(FIELD_TE, "TE", FIELD_HOP)                                                          \
    X(FIELD_TRAILER, "Trailer", 0)                                                        \
    X(FIELD_TRANSFER_ENCODING, "Transfer-Encoding", FIELD_HOP | FIELD_SECURITY)           \
    X(FIELD_CONTENT_LENGTH, "Content-Length", FIELD_SECURITY)                             \
    X(FIELD_UPGRADE, "Upgrade", FIELD_HOP)                                                \
    X(FIELD_HTTP2_SETTINGS, "HTTP2-Settings", FIELD_HOP)                                  \
    X(FIELD_EXPECT, "Expect", 0)                                                          \
    X(FIELD_DATE, "Date", 0)                                                              \
    X(FIELD_SERVER, "Server", 0)                                                          \
    X(FIELD_VIA, "Via", FIELD_SECURITY)                                                   \
    X(FIELD_FORWARDED, "Forwarded", FIELD_SECURITY | FIELD_FORWARD)                       \
    X(FIELD_X_FORWARDED_FOR, "X-Forwarded-For", FIELD_SECURITY | FIELD_FORWARD)           \
    X(FIELD_X_FORWARDED_PROTO, "X-Forwarded-Proto", FIELD_SECURITY | FIELD_FORWARD)       \
    X(FIELD_X_FORWARDED_HOST, "X-Forwarded-Host", FIELD_SECURITY | FIELD_FORWARD)         \
    X(FIELD_X_FORWARDED_PORT, "X-Forwarded-Port", FIELD_SECURITY | FIELD_FORWARD)         \
    X(FIELD_X_REAL_IP, "X-Real-IP", FIELD_SECURITY | FIELD_FORWARD)                       \
    X(FIELD_X_REQUEST_ID, "X-Request-Id", FIELD_SECURITY)                                 \
    X(FIELD_TRACEPARENT, "traceparent", FIELD_SECURITY)                                   \
    X(FIELD_AUTHORIZATION, "Authorization", FIELD_SECURITY)                               \
    X(FIELD_COOKIE, "Cookie", FIELD_SECURITY)                                             \
    X(FIELD_SET_COOKIE, "Set-Cookie", FIELD_SECURITY)                                     \
    X(FIELD_LOCATION, "Location", 0)                                                      \
    X(FIELD_CONTENT_LOCATION, "Content-Location", 0)                                      \
    X(FIELD_REFRESH, "Refresh", 0)                                                        \
    X(FIELD_CONTENT_TYPE, "Content-Type", 0)                                              \
    X(FIELD_CONTENT_ENCODING, "Content-Encoding", 0)                                      \
    X(FIELD_CACHE_CONTROL, "Cache-Control", 0)                                            \
    X(FIELD_ACCEPT, "Accept", 0)                                                          \
    X(FIELD_USER_AGENT, "User-Agent", 0)                                                  \
    X(FIELD_REFERER, "Referer", 0)                                                        \
    X(FIELD_ORIGIN, "Origin", 0)                                                          \
    X(FIELD_RETRY_AFTER, "Retry-After", 0)                                                \
    X(FIELD_ETAG, "ETag", 0)                                                              \
    X(FIELD_IF_MATCH, "If-Match", 0)                                                      \
    X(FIELD_IF_NONE_MATCH, "If-None-Match", 0)                                            \
    X(FIELD_LAST_EVENT_ID, "Last-Event-ID", 0)                                            \
    X(FIELD_SEC_WEBSOCKET_KEY, "Sec-WebSocket-Key", FIELD_SECURITY)                       \
    X(FIELD_SEC_WEBSOCKET_ACCEPT, "Sec-WebSocket-Accept", 0)                              \
    X(FIELD_CLIENT_CERT, "Client-Cert", FIELD_SECURITY | FIELD_FORWARD)                   \
    X(FIELD_CLIENT_CERT_SUBJECT, "X-Client-Cert-Subject", FIELD_SECURITY | FIELD_FORWARD) \
    X(FIELD_CLIENT_CERT_SHA256, "X-Client-Cert-SHA256", FIELD_SECURITY | FIELD_FORWARD)   \
    X(FIELD_CLIENT_VERIFY, "X-Client-Verify", FIELD_SECURITY | FIELD_FORWARD)

enum field_flag { FIELD_HOP = 1, FIELD_SECURITY = 2, FIELD_FORWARD = 4 };

enum field_id {
    FIELD_OTHER = 0,
#define X(id, name, flags) id,
    FIELD_TABLE(X)
#undef X
        FIELD_ID_COUNT
};

_Static_assert(FIELD_ID_COUNT <= 64, "http_head.seen has a bit per known field");
#define FIELD_BIT(id) (1ull << (id))

struct http_field {
    struct str name;
    struct str value; // without surrounding white space
    enum field_id id;
};

// Which field a name (any case) is; FIELD_OTHER if none that the proxy treats. Fast. Any thread.
enum field_id field_find(struct str name);
// The canonical name ("Content-Length"); the empty view for FIELD_OTHER.
struct str field_name(enum field_id id);
// Flags of enum field_flag; 0 for FIELD_OTHER.
unsigned field_flags(enum field_id id);
// True for a name that some origins (CGI, WSGI) read as a framing or forwarding field though it is
// not one: "X_Forwarded_For", "content_length", "Transfer_Encoding". Such fields are dropped.
bool field_is_disguised(struct str name);
// RFC 9110 5.6.2 token, at least one byte.
bool field_name_is_valid(struct str name);
// RFC 9110 5.5: no control bytes but HTAB, no surrounding white space needed.
bool field_value_is_valid(struct str value);
// May it end a message? Fields that frame, route, authenticate or describe one may not (RFC 9110 6.5.1).
bool field_may_trail(struct str name, enum field_id id);
