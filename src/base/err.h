// SPDX-License-Identifier: MIT
// Every error the program knows, in one table: name, text for people, HTTP status when a client gets
// it.
#pragma once

// X(name, status, text)
#define ERR_TABLE(X)                                                                \
    X(ERR_MEMORY, 500, "out of memory")                                             \
    X(ERR_LIMIT, 503, "a limit was reached")                                        \
    X(ERR_SYSTEM, 500, "a system call failed")                                      \
    X(ERR_CLOSED, 502, "the connection was closed")                                 \
    X(ERR_TIMEOUT, 504, "the time was up")                                          \
    X(ERR_SYNTAX, 400, "malformed")                                                 \
    X(ERR_START_LINE, 400, "malformed request or status line")                      \
    X(ERR_METHOD, 400, "malformed method")                                          \
    X(ERR_METHOD_REFUSED, 405, "CONNECT and TRACE are refused")                     \
    X(ERR_VERSION, 505, "HTTP version not supported")                               \
    X(ERR_TARGET, 400, "invalid request target")                                    \
    X(ERR_TARGET_TOO_LONG, 414, "request target too long")                          \
    X(ERR_HOST, 400, "invalid Host")                                                \
    X(ERR_HOST_MISSING, 400, "Host is missing")                                     \
    X(ERR_HOST_REPEATED, 400, "more than one Host")                                 \
    X(ERR_LINE_END, 400, "bare CR or LF")                                           \
    X(ERR_CONTROL_BYTE, 400, "control byte in the head")                            \
    X(ERR_FIELD_NAME, 400, "invalid field name")                                    \
    X(ERR_FIELD_SPACE, 400, "white space before the colon of a field")              \
    X(ERR_FIELD_FOLDED, 400, "folded field line")                                   \
    X(ERR_HEAD_TOO_LARGE, 431, "header section too large")                          \
    X(ERR_TOO_MANY_FIELDS, 431, "too many header fields")                           \
    X(ERR_LENGTH, 400, "malformed Content-Length")                                  \
    X(ERR_LENGTH_DIFFERS, 400, "differing Content-Length values")                   \
    X(ERR_LENGTH_AND_CODING, 400, "Content-Length together with Transfer-Encoding") \
    X(ERR_CODING, 501, "transfer coding not supported")                             \
    X(ERR_CODING_ORDER, 400, "chunked is not the final transfer coding")            \
    X(ERR_CODING_VERSION, 400, "Transfer-Encoding in HTTP/1.0")                     \
    X(ERR_CHUNK_SIZE, 400, "malformed chunk size")                                  \
    X(ERR_CHUNK_EXTENSION, 400, "chunk extension malformed or too long")            \
    X(ERR_CHUNK_END, 400, "chunk data does not end with CRLF")                      \
    X(ERR_TRAILER, 400, "malformed trailer section")                                \
    X(ERR_TLS, 502, "the TLS connection failed")                                    \
    X(ERR_TLS_VERIFY, 502, "the certificate was not accepted")                      \
    X(ERR_PROTOCOL, 400, "the protocol was broken")                                 \
    X(ERR_ABUSE, 429, "too much work for nothing")                                  \
    X(ERR_STATUS, 400, "malformed status code")                                     \
    X(ERR_UPGRADE, 400, "malformed upgrade")                                        \
    X(ERR_REQUEST_TIMEOUT, 408, "the request took too long")                        \
    X(ERR_BODY_TOO_LARGE, 413, "body too large")                                    \
    X(ERR_INVALID, 422, "invalid declaration")                                      \
    X(ERR_NOT_FOUND, 404, "not found")                                              \
    X(ERR_IN_USE, 409, "still used")                                                \
    X(ERR_CONFLICT, 409, "contradicts what is declared")                            \
    X(ERR_PRECONDITION, 412, "somebody else was faster")                            \
    X(ERR_UNAVAILABLE, 503, "not available now")                                    \
    X(ERR_LOCKED, 503, "another process holds the lock")

enum err {
    ERR_NONE = 0,
    ERR_FIRST_ = -1000,
#define X(name, status, text) name,
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
