// SPDX-License-Identifier: MIT
// Why a transaction ended: exactly one reason each. The token goes into the access log, the error
// token into Proxy-Status (RFC 9209 2.3), the status to the client if it can still get one.
#pragma once
#include <stdbool.h>

// X(name, token, status, proxy_error, text)
#define END_TABLE(X)                                                                               \
    X(END_DONE, "done", 0, "", "")                                                                 \
    X(END_REDIRECT, "redirect", 0, "", "")                                                         \
    X(END_MAX_FORWARDS, "max_forwards", 0, "", "")                                                 \
    X(END_RESPOND, "respond", 0, "", "")                                                           \
    X(END_TUNNEL, "tunnel_closed", 0, "", "")                                                      \
    X(END_TUNNEL_IDLE, "tunnel_idle", 0, "", "")                                                   \
    X(END_CUT, "cut", 503, "destination_unavailable", "The target was taken out of service.")      \
    X(END_STOP, "stopped", 503, "destination_unavailable", "This server is stopping.")             \
    X(END_REFUSED, "bad_request", 400, "http_request_error", "The request is malformed.")          \
    X(END_BAD_TARGET, "bad_target", 400, "http_request_error",                                     \
      "The address in the request is not valid.")                                                  \
    X(END_DENIED, "denied", 403, "http_request_denied",                                            \
      "Access from your address is not allowed.")                                                  \
    X(END_MISDIRECTED, "misdirected", 421, "http_request_error",                                   \
      "This connection is for another host.")                                                      \
    X(END_NO_ROUTE, "no_route", 404, "destination_not_found", "There is nothing at this address.") \
    X(END_BODY_TOO_LARGE, "body_too_large", 413, "http_request_error",                             \
      "The request is larger than allowed.")                                                       \
    X(END_CLIENT_LEFT, "client_left", 499, "", "The client closed the connection.")                \
    X(END_CLIENT_SLOW, "client_timeout", 408, "", "The request took too long to arrive.")          \
    X(END_NO_POOL, "no_pool", 503, "destination_unavailable",                                      \
      "The service behind this address is not available.")                                         \
    X(END_NO_TARGET, "no_target", 503, "destination_unavailable",                                  \
      "The service behind this address is not available.")                                         \
    X(END_QUEUE_FULL, "queue_full", 503, "connection_limit_reached",                               \
      "The service behind this address is busy.")                                                  \
    X(END_QUEUE_TIMEOUT, "queue_timeout", 503, "connection_limit_reached",                         \
      "The service behind this address is busy.")                                                  \
    X(END_CONNECT_REFUSED, "connect_failed", 502, "connection_refused",                            \
      "The service behind this address cannot be reached.")                                        \
    X(END_CONNECT_TIMEOUT, "connect_timeout", 504, "connection_timeout",                           \
      "The service behind this address did not answer in time.")                                   \
    X(END_TLS_FAILED, "tls_failed", 502, "tls_protocol_error",                                     \
      "The service behind this address cannot be reached.")                                        \
    X(END_TLS_VERIFY, "tls_certificate", 502, "tls_certificate_error",                             \
      "The service behind this address cannot be reached.")                                        \
    X(END_ORIGIN_CLOSED, "origin_closed", 502, "connection_terminated",                            \
      "The service behind this address closed the connection.")                                    \
    X(END_ORIGIN_BAD, "origin_bad_response", 502, "http_protocol_error",                           \
      "The service behind this address gave an answer that is not valid.")                         \
    X(END_ORIGIN_SLOW, "origin_timeout", 504, "http_response_timeout",                             \
      "The service behind this address did not answer in time.")                                   \
    X(END_DEADLINE, "request_timeout", 504, "http_response_timeout",                               \
      "The service behind this address did not answer in time.")                                   \
    X(END_TRUNCATED, "origin_truncated", 502, "http_response_incomplete", "The answer broke off.") \
    X(END_NO_MEMORY, "no_memory", 500, "proxy_internal_error",                                     \
      "The server has no memory left for this request.")                                           \
    X(END_HEAD_TOO_LARGE, "head_too_large", 431, "http_request_error",                             \
      "The header of the request is larger than allowed.")                                         \
    X(END_UPGRADE_FAILED, "upgrade_failed", 502, "http_upgrade_failed",                            \
      "The protocol could not be switched.")

enum end_reason {
#define X(name, token, status, proxy_error, text) name,
    END_TABLE(X)
#undef X
        END_COUNT
};

struct end_info {
    const char *token;
    unsigned status;         // 0: the response's own
    const char *proxy_error; // "": no Proxy-Status
    const char *text;
};

const struct end_info *end_info(enum end_reason reason);
