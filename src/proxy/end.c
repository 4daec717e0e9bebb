// SPDX-License-Identifier: MIT
#include "proxy/end.h"

static const struct end_info infos[END_COUNT] = {
#define X(name, token, status, proxy_error, text) [name] = {token, status, proxy_error, text},
    END_TABLE(X)
#undef X
};

const struct end_info *end_info(enum end_reason reason)
{
    return &infos[reason];
}
