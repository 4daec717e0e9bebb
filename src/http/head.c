// SPDX-License-Identifier: MIT
#include "http/head.h"

const struct http_field *http_head_find(const struct http_head *head, enum field_id id)
{
    if ((head->seen & FIELD_BIT(id)) == 0) {
        return NULL;
    }
    for (unsigned i = 0; i < head->field_count; i++) {
        if (head->fields[i].id == id) {
            return &head->fields[i];
        }
    }
    return NULL;
}

struct str http_head_value(const struct http_head *head, enum field_id id)
{
    const struct http_field *field = http_head_find(head, id);
    return field == NULL ? STR_NULL : field->value;
}

const struct http_field *http_head_find_name(const struct http_head *head, struct str name)
{
    enum field_id id = field_find(name);
    if (id != FIELD_OTHER) {
        return http_head_find(head, id);
    }
    for (unsigned i = 0; i < head->field_count; i++) {
        if (head->fields[i].id == FIELD_OTHER && str_eq_case(head->fields[i].name, name)) {
            return &head->fields[i];
        }
    }
    return NULL;
}

bool http_head_has_token(const struct http_head *head, enum field_id id, struct str token)
{
    if ((head->seen & FIELD_BIT(id)) == 0) {
        return false;
    }
    for (unsigned i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != id) {
            continue;
        }
        struct str rest = head->fields[i].value;
        struct str element;
        while (str_next_element(&rest, &element)) {
            if (str_eq_case(element, token)) {
                return true;
            }
        }
    }
    return false;
}

static const struct str method_names[] = {[METHOD_OTHER] = {"", 0},
#define X(id, name) [id] = {name, sizeof(name) - 1},
                                          METHOD_TABLE(X)
#undef X
};

enum { METHOD_COUNT = sizeof(method_names) / sizeof(method_names[0]) };

enum http_method http_method_find(struct str name)
{
    for (unsigned i = METHOD_OTHER + 1; i < METHOD_COUNT; i++) {
        // The first byte is compared here: most methods are told apart by it without a call.
        if (name.len == method_names[i].len && name.p[0] == method_names[i].p[0] &&
            memcmp(name.p, method_names[i].p, name.len) == 0) {
            return (enum http_method)i;
        }
    }
    return METHOD_OTHER;
}

bool http_method_is_idempotent(enum http_method method)
{
    switch (method) {
    case METHOD_GET:
    case METHOD_HEAD:
    case METHOD_OPTIONS:
    case METHOD_TRACE:
    case METHOD_PUT:
    case METHOD_DELETE:
        return true;
    case METHOD_POST:
    case METHOD_PATCH:
    case METHOD_CONNECT:
    case METHOD_OTHER:
        return false;
    }
    return false;
}

// X(status, reason): RFC 9110 15 and the registry of status codes.
#define REASON_TABLE(X)                       \
    X(100, "Continue")                        \
    X(101, "Switching Protocols")             \
    X(102, "Processing")                      \
    X(103, "Early Hints")                     \
    X(200, "OK")                              \
    X(201, "Created")                         \
    X(202, "Accepted")                        \
    X(203, "Non-Authoritative Information")   \
    X(204, "No Content")                      \
    X(205, "Reset Content")                   \
    X(206, "Partial Content")                 \
    X(207, "Multi-Status")                    \
    X(208, "Already Reported")                \
    X(226, "IM Used")                         \
    X(300, "Multiple Choices")                \
    X(301, "Moved Permanently")               \
    X(302, "Found")                           \
    X(303, "See Other")                       \
    X(304, "Not Modified")                    \
    X(305, "Use Proxy")                       \
    X(307, "Temporary Redirect")              \
    X(308, "Permanent Redirect")              \
    X(400, "Bad Request")                     \
    X(401, "Unauthorized")                    \
    X(402, "Payment Required")                \
    X(403, "Forbidden")                       \
    X(404, "Not Found")                       \
    X(405, "Method Not Allowed")              \
    X(406, "Not Acceptable")                  \
    X(407, "Proxy Authentication Required")   \
    X(408, "Request Timeout")                 \
    X(409, "Conflict")                        \
    X(410, "Gone")                            \
    X(411, "Length Required")                 \
    X(412, "Precondition Failed")             \
    X(413, "Content Too Large")               \
    X(414, "URI Too Long")                    \
    X(415, "Unsupported Media Type")          \
    X(416, "Range Not Satisfiable")           \
    X(417, "Expectation Failed")              \
    X(421, "Misdirected Request")             \
    X(422, "Unprocessable Content")           \
    X(423, "Locked")                          \
    X(424, "Failed Dependency")               \
    X(425, "Too Early")                       \
    X(426, "Upgrade Required")                \
    X(428, "Precondition Required")           \
    X(429, "Too Many Requests")               \
    X(431, "Request Header Fields Too Large") \
    X(451, "Unavailable For Legal Reasons")   \
    X(499, "Client Closed Request")           \
    X(500, "Internal Server Error")           \
    X(501, "Not Implemented")                 \
    X(502, "Bad Gateway")                     \
    X(503, "Service Unavailable")             \
    X(504, "Gateway Timeout")                 \
    X(505, "HTTP Version Not Supported")      \
    X(506, "Variant Also Negotiates")         \
    X(507, "Insufficient Storage")            \
    X(508, "Loop Detected")                   \
    X(511, "Network Authentication Required")

struct str http_reason(unsigned status)
{
    switch (status) {
#define X(code, reason) \
    case code:          \
        return STR(reason);
        REASON_TABLE(X)
#undef X
    default:
        return STR("");
    }
}
