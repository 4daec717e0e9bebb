// SPDX-License-Identifier: MIT
// Errors of our own as gRPC clients read them: an HTTP status of 200 with "grpc-status" in a response that
// is a head alone (gRPC over HTTP/2, "Trailers-Only").
#include "proxy/transaction.h"

// Codes of gRPC's status.proto.
enum {
    GRPC_UNKNOWN = 2,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_UNAUTHENTICATED = 16,
};

// "application/grpc", "application/grpc+proto"; not "application/grpc-web", which has no trailers.
bool txn_is_grpc(const struct txn *txn)
{
    const struct str prefix = STR("application/grpc");
    struct str type = http_head_value(&txn->request, FIELD_CONTENT_TYPE);
    if (txn->request.version != 20 || !str_starts_case(type, prefix)) {
        return false;
    }
    char next = type.len == prefix.len ? '+' : type.p[prefix.len];
    return next == '+' || next == ';' || next == ' ' || next == '\t';
}

static unsigned code_of(unsigned http_status)
{
    switch (http_status) {
    case 400:
    case 500:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 413:
    case 431:
        return GRPC_RESOURCE_EXHAUSTED;
    case 421: // another connection may do
    case 429:
    case 502:
    case 503:
        return GRPC_UNAVAILABLE;
    case 408:
    case 504:
        return GRPC_DEADLINE_EXCEEDED;
    default:
        return GRPC_UNKNOWN;
    }
}

struct str txn_grpc_status(struct txn *txn, unsigned http_status)
{
    return arena_printf(&txn->arena, "%u", code_of(http_status));
}

// All but printable ASCII is percent-encoded, and '%' itself.
struct str txn_grpc_message(struct txn *txn, struct str text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *start = arena_alloc(&txn->arena, text.len * 3 + 1);
    if (start == NULL) {
        return STR_NULL;
    }
    char *to = start;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c >= ' ' && c <= '~' && c != '%') {
            *to++ = (char)c;
            continue;
        }
        *to++ = '%';
        *to++ = digits[c >> 4];
        *to++ = digits[c & 15];
    }
    return str_make(start, (size_t)(to - start));
}
