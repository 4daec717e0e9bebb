// SPDX-License-Identifier: MIT
#include "http/field.h"
#include "http/chars.h"

enum {
    NAME_MAX_LEN = 21, // the longest name of the table: X-Client-Cert-Subject
    NAME_SIZE = 24,
};

// Padded, so that a name is compared with a few loads of eight bytes.
struct known {
    char name[NAME_SIZE];
    uint8_t len;
    uint8_t flags;
};

static const struct known knowns[FIELD_ID_COUNT] = {
#define X(id, name, flags) [id] = {name, sizeof(name) - 1, flags},
    FIELD_TABLE(X)
#undef X
};

#define X(id, name, flags) _Static_assert(sizeof(name) - 1 <= NAME_MAX_LEN, name);
FIELD_TABLE(X)
#undef X

static inline uint64_t load8(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

// Zero when both words are the same but for the case of `known`'s letters. Known names are made of
// letters, '-' and digits; only letters have the bit 0x40, and half of it is the bit of their case.
static inline uint64_t differ(uint64_t name, uint64_t known)
{
    uint64_t case_bits = (known >> 1) & 0x2020202020202020ull;
    return (name ^ known) & ~case_bits;
}

// `name` has the known name's length.
static inline bool is_known(struct str name, enum field_id id)
{
    const char *known = knowns[id].name;
    if (name.len >= 8) {
        uint64_t diff = differ(load8(name.p), load8(known)) |
                        differ(load8(name.p + name.len - 8), load8(known + name.len - 8));
        if (name.len > 16) {
            diff |= differ(load8(name.p + 8), load8(known + 8));
        }
        return diff == 0;
    }
    uint64_t word = 0;
    memcpy(&word, name.p, name.len);
    return differ(word, load8(known)) == 0;
}

// The only known field with this length and this letter at the place that tells them apart.
static inline enum field_id guess_short(struct str name)
{
    const char *p = name.p;
    switch (name.len) {
    case 2:
        return FIELD_TE;
    case 3:
        return FIELD_VIA;
    case 4:
        switch (p[0] | 0x20) {
        case 'h':
            return FIELD_HOST;
        case 'd':
            return FIELD_DATE;
        case 'e':
            return FIELD_ETAG;
        }
        return FIELD_OTHER;
    case 5:
        return FIELD_PROXY;
    case 6:
        switch (p[0] | 0x20) {
        case 'e':
            return FIELD_EXPECT;
        case 's':
            return FIELD_SERVER;
        case 'a':
            return FIELD_ACCEPT;
        case 'c':
            return FIELD_COOKIE;
        case 'o':
            return FIELD_ORIGIN;
        }
        return FIELD_OTHER;
    case 7:
        switch (p[3] | 0x20) {
        case 'i':
            return FIELD_TRAILER;
        case 'r':
            return (p[0] | 0x20) == 'u' ? FIELD_UPGRADE : FIELD_REFRESH;
        case 'e':
            return FIELD_REFERER;
        }
        return FIELD_OTHER;
    case 8:
        return (p[0] | 0x20) == 'l' ? FIELD_LOCATION : FIELD_IF_MATCH;
    case 9:
        return (p[0] | 0x20) == 'f' ? FIELD_FORWARDED : FIELD_X_REAL_IP;
    case 10:
        switch (p[0] | 0x20) {
        case 'c':
            return FIELD_CONNECTION;
        case 'k':
            return FIELD_KEEP_ALIVE;
        case 's':
            return FIELD_SET_COOKIE;
        case 'u':
            return FIELD_USER_AGENT;
        }
        return FIELD_OTHER;
    }
    return FIELD_OTHER;
}

static inline enum field_id guess_long(struct str name)
{
    const char *p = name.p;
    switch (name.len) {
    case 11:
        switch (p[0] | 0x20) {
        case 'r':
            return FIELD_RETRY_AFTER;
        case 'c':
            return FIELD_CLIENT_CERT;
        }
        return FIELD_TRACEPARENT;
    case 12:
        switch (p[0] | 0x20) {
        case 'p':
            return FIELD_PROXY_STATUS;
        case 'x':
            return FIELD_X_REQUEST_ID;
        case 'c':
            return FIELD_CONTENT_TYPE;
        }
        return FIELD_OTHER;
    case 13:
        switch (p[0] | 0x20) {
        case 'a':
            return FIELD_AUTHORIZATION;
        case 'i':
            return FIELD_IF_NONE_MATCH;
        case 'l':
            return FIELD_LAST_EVENT_ID;
        case 'c':
            return FIELD_CACHE_CONTROL;
        }
        return FIELD_OTHER;
    case 14:
        return (p[0] | 0x20) == 'c' ? FIELD_CONTENT_LENGTH : FIELD_HTTP2_SETTINGS;
    case 15:
        return (p[2] | 0x20) == 'c' ? FIELD_CLIENT_VERIFY : FIELD_X_FORWARDED_FOR;
    case 16:
        switch (p[12] | 0x20) {
        case 't':
            return (p[0] | 0x20) == 'p' ? FIELD_PROXY_CONNECTION : FIELD_CONTENT_LOCATION;
        case 'h':
            return FIELD_X_FORWARDED_HOST;
        case 'p':
            return FIELD_X_FORWARDED_PORT;
        case 'd':
            return FIELD_CONTENT_ENCODING;
        }
        return FIELD_OTHER;
    case 17:
        switch (p[0] | 0x20) {
        case 't':
            return FIELD_TRANSFER_ENCODING;
        case 'x':
            return FIELD_X_FORWARDED_PROTO;
        case 's':
            return FIELD_SEC_WEBSOCKET_KEY;
        }
        return FIELD_OTHER;
    case 18:
        return FIELD_PROXY_AUTHENTICATE;
    case 19:
        return FIELD_PROXY_AUTHORIZATION;
    case 20:
        return (p[0] | 0x20) == 's' ? FIELD_SEC_WEBSOCKET_ACCEPT : FIELD_CLIENT_CERT_SHA256;
    case 21:
        return FIELD_CLIENT_CERT_SUBJECT;
    }
    return FIELD_OTHER;
}

enum field_id field_find(struct str name)
{
    if (name.len < 2 || name.len > NAME_MAX_LEN) {
        return FIELD_OTHER;
    }
    enum field_id id = name.len <= 10 ? guess_short(name) : guess_long(name);
    return id != FIELD_OTHER && is_known(name, id) ? id : FIELD_OTHER;
}

struct str field_name(enum field_id id)
{
    if ((unsigned)id >= FIELD_ID_COUNT) {
        return str_make("", 0);
    }
    return str_make(knowns[id].name, knowns[id].len);
}

unsigned field_flags(enum field_id id)
{
    return (unsigned)id < FIELD_ID_COUNT ? knowns[id].flags : 0;
}

bool field_is_disguised(struct str name)
{
    if (name.len > NAME_MAX_LEN) {
        return false;
    }
    // Gateways make HTTP_X_FORWARDED_FOR of this; some map every byte that is not a letter or a
    // digit to '_', not only '-'.
    char plain[NAME_MAX_LEN];
    bool changed = false;
    for (size_t i = 0; i < name.len; i++) {
        bool kept = name.p[i] == '-' || char_is(name.p[i], CHAR_ALNUM);
        plain[i] = kept ? name.p[i] : '-';
        changed |= !kept;
    }
    return changed &&
           (field_flags(field_find(str_make(plain, name.len))) & (FIELD_HOP | FIELD_SECURITY)) != 0;
}

bool field_name_is_valid(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (!char_is(name.p[i], CHAR_TOKEN)) {
            return false;
        }
    }
    return name.len > 0;
}

bool field_value_is_valid(struct str value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (!char_is(value.p[i], CHAR_VALUE)) {
            return false;
        }
    }
    return true;
}

bool field_may_trail(struct str name, enum field_id id)
{
    // All else that the proxy knows comes too late in trailers.
    const uint64_t allowed =
        FIELD_BIT(FIELD_OTHER) | FIELD_BIT(FIELD_ETAG) | FIELD_BIT(FIELD_PROXY_STATUS);
    static const struct str refused[] = {{"Range", 5},
                                         {"Content-Range", 13},
                                         {"Max-Forwards", 12},
                                         {"Age", 3},
                                         {"Expires", 7},
                                         {"Vary", 4},
                                         {"Warning", 7},
                                         {"Pragma", 6},
                                         {"WWW-Authenticate", 16},
                                         {"If-Range", 8},
                                         {"If-Modified-Since", 17},
                                         {"If-Unmodified-Since", 19},
                                         {"Set-Cookie2", 11}};
    bool may = (FIELD_BIT(id) & allowed) != 0;
    for (size_t i = 0; may && i < sizeof refused / sizeof refused[0]; i++) {
        may = !str_eq_case(name, refused[i]);
    }
    return may;
}
