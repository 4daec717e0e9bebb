// SPDX-License-Identifier: MIT
// A cookie that keeps a client at one target: 16 hexadecimal digits of the target's id, which is the same
// after a restart and on all nodes.
#include "proxy/transaction.h"

enum { ID_DIGITS = 16 };

// 0: it is none.
static uint64_t read_id(struct str text)
{
    uint64_t id = 0;
    if (text.len != ID_DIGITS) {
        return 0;
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : 16;
        if (digit == 16) {
            return 0;
        }
        id = id << 4 | digit;
    }
    return id;
}

void txn_read_sticky(struct txn *txn, const struct pool_settings *settings,
                     struct pool_choice *choice)
{
    const struct sticky_decl *sticky = &settings->sticky;
    txn->sticky_cookie.len = 0;
    if (sticky->cookie.len == 0) {
        return;
    }
    // A copy: the settings may be gone when the response comes.
    txn->sticky_cookie = arena_str(&txn->arena, sticky->cookie);
    txn->sticky_ttl_sec = sticky->ttl_sec;
    txn->sticky_id = 0;
    struct str rest = STR_NULL;
    unsigned next = 0;
    struct str value;
    while (txn->sticky_id == 0 &&
           (value = txn_cookie(txn, sticky->cookie, &rest, &next)).p != NULL) {
        txn->sticky_id = read_id(value);
    }
    choice->sticky = txn->sticky_id;
}

// The route's path, so that routes of one host do not overwrite each other's. A ';' would end it.
static struct str cookie_path(const struct txn *txn)
{
    struct str path = route_slot_path(txn->route->slot);
    return str_find_char(path, ';') == SIZE_MAX ? path : STR("/");
}

struct str txn_sticky_cookie(struct txn *txn)
{
    if (txn->sticky_cookie.len == 0 || txn->member == NULL || txn->member->is_bare) {
        return STR_NULL;
    }
    uint64_t id = pool_target_of(txn->member)->id;
    if (id == txn->sticky_id) {
        return STR_NULL;
    }
    if (txn->sticky_id != 0) {
        stat_count(txn->proxy->stats, sticky_moved_total);
    }
    struct str age = STR("");
    if (txn->sticky_ttl_sec > 0) {
        age = arena_printf(&txn->arena, "; Max-Age=%u", txn->sticky_ttl_sec);
    }
    return arena_printf(&txn->arena, "%.*s=%016llx%.*s; Path=%.*s; HttpOnly; SameSite=Lax%s",
                        STR_ARG(txn->sticky_cookie), (unsigned long long)id, STR_ARG(age),
                        STR_ARG(cookie_path(txn)), txn->is_https ? "; Secure" : "");
}
