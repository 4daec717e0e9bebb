// SPDX-License-Identifier: MIT
// Every error the program knows, in one table: name, text for people, HTTP status when a client gets
// it, whether trying again elsewhere can help, and whose fault it is.
#pragma once
#include <stdbool.h>

enum err_fault { FAULT_CLIENT, FAULT_ORIGIN, FAULT_HERE, FAULT_NETWORK };

// X(name, status, retry, fault, text)
#define ERR_TABLE(X)                                                                          \
    X(ERR_MEMORY, 500, false, FAULT_HERE, "out of memory")                                    \
    X(ERR_LIMIT, 503, false, FAULT_HERE, "a limit was reached")                               \
    X(ERR_SYSTEM, 500, false, FAULT_HERE, "a system call failed")                             \
    X(ERR_CLOSED, 502, true, FAULT_NETWORK, "the connection was closed")                      \
    X(ERR_TIMEOUT, 504, true, FAULT_NETWORK, "the time was up")                               \
    X(ERR_SYNTAX, 400, false, FAULT_CLIENT, "malformed")                                      \
    X(ERR_START_LINE, 400, false, FAULT_CLIENT, "malformed request or status line")           \
    X(ERR_METHOD, 400, false, FAULT_CLIENT, "malformed method")                               \
    X(ERR_METHOD_REFUSED, 405, false, FAULT_CLIENT, "CONNECT and TRACE are refused")          \
    X(ERR_VERSION, 505, false, FAULT_CLIENT, "HTTP version not supported")                    \
    X(ERR_TARGET, 400, false, FAULT_CLIENT, "invalid request target")                         \
    X(ERR_TARGET_TOO_LONG, 414, false, FAULT_CLIENT, "request target too long")               \
    X(ERR_HOST, 400, false, FAULT_CLIENT, "invalid Host")                                     \
    X(ERR_HOST_MISSING, 400, false, FAULT_CLIENT, "Host is missing")                          \
    X(ERR_HOST_REPEATED, 400, false, FAULT_CLIENT, "more than one Host")                      \
    X(ERR_LINE_END, 400, false, FAULT_CLIENT, "bare CR or LF")                                \
    X(ERR_CONTROL_BYTE, 400, false, FAULT_CLIENT, "control byte in the head")                 \
    X(ERR_FIELD_NAME, 400, false, FAULT_CLIENT, "invalid field name")                         \
    X(ERR_FIELD_SPACE, 400, false, FAULT_CLIENT, "white space before the colon of a field")   \
    X(ERR_FIELD_FOLDED, 400, false, FAULT_CLIENT, "folded field line")                        \
    X(ERR_HEAD_TOO_LARGE, 431, false, FAULT_CLIENT, "header section too large")               \
    X(ERR_TOO_MANY_FIELDS, 431, false, FAULT_CLIENT, "too many header fields")                \
    X(ERR_LENGTH, 400, false, FAULT_CLIENT, "malformed Content-Length")                       \
    X(ERR_LENGTH_DIFFERS, 400, false, FAULT_CLIENT, "differing Content-Length values")        \
    X(ERR_LENGTH_AND_CODING, 400, false, FAULT_CLIENT,                                        \
      "Content-Length together with Transfer-Encoding")                                       \
    X(ERR_CODING, 501, false, FAULT_CLIENT, "transfer coding not supported")                  \
    X(ERR_CODING_ORDER, 400, false, FAULT_CLIENT, "chunked is not the final transfer coding") \
    X(ERR_CODING_VERSION, 400, false, FAULT_CLIENT, "Transfer-Encoding in HTTP/1.0")          \
    X(ERR_CHUNK_SIZE, 400, false, FAULT_CLIENT, "malformed chunk size")                       \
    X(ERR_CHUNK_EXTENSION, 400, false, FAULT_CLIENT, "chunk extension malformed or too long") \
    X(ERR_CHUNK_END, 400, false, FAULT_CLIENT, "chunk data does not end with CRLF")           \
    X(ERR_TRAILER, 400, false, FAULT_CLIENT, "malformed trailer section")                     \
    X(ERR_TLS, 502, true, FAULT_NETWORK, "the TLS connection failed")                         \
    X(ERR_TLS_VERIFY, 502, true, FAULT_NETWORK, "the certificate was not accepted")           \
    X(ERR_PROTOCOL, 400, false, FAULT_CLIENT, "the protocol was broken")                      \
    X(ERR_ABUSE, 429, false, FAULT_CLIENT, "too much work for nothing")                       \
    X(ERR_MISDIRECTED, 421, false, FAULT_CLIENT, "this connection is for another host")       \
    X(ERR_STATUS, 400, false, FAULT_ORIGIN, "malformed status code")                          \
    X(ERR_UPGRADE, 400, false, FAULT_CLIENT, "malformed upgrade")                             \
    X(ERR_REQUEST_TIMEOUT, 408, false, FAULT_CLIENT, "the request took too long")             \
    X(ERR_BODY_TOO_LARGE, 413, false, FAULT_CLIENT, "body too large")                         \
    X(ERR_INVALID, 422, false, FAULT_CLIENT, "invalid declaration")                           \
    X(ERR_NOT_FOUND, 404, false, FAULT_CLIENT, "not found")                                   \
    X(ERR_IN_USE, 409, false, FAULT_CLIENT, "still used")                                     \
    X(ERR_CONFLICT, 409, false, FAULT_CLIENT, "contradicts what is declared")                 \
    X(ERR_PRECONDITION, 412, false, FAULT_CLIENT, "somebody else was faster")                 \
    X(ERR_UNAVAILABLE, 503, true, FAULT_HERE, "not available now")                            \
    X(ERR_LOCKED, 503, false, FAULT_HERE, "another process holds the lock")

enum err {
    ERR_NONE = 0,
    ERR_FIRST_ = -1000,
#define X(name, status, retry, fault, text) name,
    ERR_TABLE(X)
#undef X
        ERR_END_
};

// Progress of something that may need more input or time.
enum { STEP_AGAIN = 0, STEP_DONE = 1 };

#define WARN_UNUSED __attribute__((warn_unused_result))

// For any value of enum err; unknown values read "unknown error", 500. Any thread.
const char *err_text(int err);
// "chunk_size" for ERR_CHUNK_SIZE: for logs and counters.
const char *err_token(int err);
int err_status(int err);
bool err_is_retryable(int err);
enum err_fault err_fault(int err);
