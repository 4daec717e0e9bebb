// SPDX-License-Identifier: MIT
#include "model/value.h"
#include "http/chars.h"
#include <arpa/inet.h>

enum { NEAREST_MAX = 64, IPV4_BITS = 32, IPV6_BITS = 128, MAPPED_BITS = 96 };

struct unit {
    struct str name;
    uint64_t factor;
};

// Smallest first.
static const struct unit duration_units[] = {
    {{"ms", 2}, 1}, {{"s", 1}, 1000}, {{"m", 1}, 60000}, {{"h", 1}, 3600000}, {{"d", 1}, 86400000},
};
static const struct unit size_units[] = {
    {{"", 0}, 1}, {{"k", 1}, 1ull << 10}, {{"m", 1}, 1ull << 20}, {{"g", 1}, 1ull << 30}};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static int parse_with_unit(struct str text, const struct unit *units, size_t count, uint64_t *value)
{
    size_t digits = 0;
    while (digits < text.len && ascii_is_digit(text.p[digits])) {
        digits++;
    }
    uint64_t number;
    if (str_to_u64(str_sub(text, 0, digits), &number) != 0) {
        return ERR_SYNTAX;
    }
    struct str name = str_from(text, digits);
    for (size_t i = 0; i < count; i++) {
        if (str_eq_case(name, units[i].name)) {
            return __builtin_mul_overflow(number, units[i].factor, value) ? ERR_SYNTAX : 0;
        }
    }
    *value = 0;
    return name.len == 0 && number == 0 ? 0 : ERR_SYNTAX;
}

static size_t format_with_unit(uint64_t value, const struct unit *units, size_t count, char *to)
{
    size_t i = count - 1;
    while (i > 0 && (value == 0 || value % units[i].factor != 0)) {
        i--;
    }
    int len = snprintf(to, VALUE_TEXT_MAX, "%llu%.*s",
                       (unsigned long long)(value / units[i].factor), STR_ARG(units[i].name));
    return (size_t)len;
}

int duration_parse(struct str text, uint64_t *ms)
{
    return parse_with_unit(text, duration_units, COUNT(duration_units), ms);
}

size_t duration_format(uint64_t ms, char to[VALUE_TEXT_MAX])
{
    if (ms == 0) {
        return str_copy(to, VALUE_TEXT_MAX, STR("0s"));
    }
    return format_with_unit(ms, duration_units, COUNT(duration_units), to);
}

int size_parse(struct str text, uint64_t *bytes)
{
    return parse_with_unit(text, size_units, COUNT(size_units), bytes);
}

size_t size_format(uint64_t bytes, char to[VALUE_TEXT_MAX])
{
    return format_with_unit(bytes, size_units, COUNT(size_units), to);
}

static bool is_mapped(const struct in6_addr *address)
{
    return IN6_IS_ADDR_V4MAPPED(address);
}

int cidr_parse(struct str text, struct cidr *cidr)
{
    struct str address;
    struct str bits_text;
    bool has_bits = str_split(text, '/', &address, &bits_text);
    char host[INET6_ADDRSTRLEN];
    if (address.len >= sizeof host || memchr(address.p, '\0', address.len) != NULL) {
        return ERR_SYNTAX;
    }
    str_copy(host, sizeof host, address);
    unsigned base = 0;
    memset(cidr, 0, sizeof *cidr);
    if (inet_pton(AF_INET, host, &cidr->address.s6_addr[12]) == 1) {
        cidr->address.s6_addr[10] = 0xff;
        cidr->address.s6_addr[11] = 0xff;
        base = MAPPED_BITS;
    } else if (inet_pton(AF_INET6, host, &cidr->address) != 1) {
        return ERR_SYNTAX;
    }
    uint64_t bits = IPV6_BITS - base;
    if (has_bits &&
        (bits_text.len > 3 || str_to_u64(bits_text, &bits) != 0 || bits > IPV6_BITS - base)) {
        return ERR_SYNTAX;
    }
    cidr->bits = (uint8_t)(base + bits);
    for (unsigned i = cidr->bits; i < IPV6_BITS; i++) {
        cidr->address.s6_addr[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
    }
    return 0;
}

size_t cidr_format(const struct cidr *cidr, char to[VALUE_TEXT_MAX])
{
    bool v4 = cidr->bits >= MAPPED_BITS && is_mapped(&cidr->address);
    char host[INET6_ADDRSTRLEN];
    if (v4) {
        inet_ntop(AF_INET, &cidr->address.s6_addr[12], host, sizeof host);
    } else {
        inet_ntop(AF_INET6, &cidr->address, host, sizeof host);
    }
    int len = cidr->bits == IPV6_BITS
                  ? snprintf(to, VALUE_TEXT_MAX, "%s", host)
                  : snprintf(to, VALUE_TEXT_MAX, "%s/%u", host,
                             v4 ? (unsigned)cidr->bits - MAPPED_BITS : (unsigned)cidr->bits);
    return (size_t)len;
}

bool name_is_valid(struct str name)
{
    if (name.len == 0 || name.len > VALUE_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];
        bool is_word = char_is(c, CHAR_ALNUM) || c == '_';
        if (!is_word && (i == 0 || (c != '.' && c != ':' && c != '@' && c != '-'))) {
            return false;
        }
    }
    return true;
}

// Insert, delete, replace and swap of neighbours cost 1 each (optimal string alignment).
static unsigned edit_distance(struct str a, struct str b)
{
    unsigned rows[3][NEAREST_MAX + 1];
    unsigned *before = rows[0];
    unsigned *last = rows[1];
    unsigned *now = rows[2];
    for (unsigned j = 0; j <= b.len; j++) {
        last[j] = j;
    }
    for (unsigned i = 1; i <= a.len; i++) {
        now[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            char x = ascii_lower(a.p[i - 1]);
            char y = ascii_lower(b.p[j - 1]);
            unsigned cost = last[j - 1] + (x != y);
            cost = last[j] + 1 < cost ? last[j] + 1 : cost;
            cost = now[j - 1] + 1 < cost ? now[j - 1] + 1 : cost;
            if (i > 1 && j > 1 && x == ascii_lower(b.p[j - 2]) && y == ascii_lower(a.p[i - 2]) &&
                before[j - 2] + 1 < cost) {
                cost = before[j - 2] + 1;
            }
            now[j] = cost;
        }
        unsigned *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[b.len];
}

unsigned name_nearest(struct str text, const struct str *names, unsigned count)
{
    unsigned found = count;
    if (text.len == 0 || text.len > NEAREST_MAX) {
        return found;
    }
    unsigned best = text.len < 6 ? 2 : (unsigned)text.len / 3 + 1; // found only below this
    for (unsigned i = 0; i < count; i++) {
        unsigned distance =
            names[i].len > NEAREST_MAX ? NEAREST_MAX : edit_distance(text, names[i]);
        if (distance < best) {
            best = distance;
            found = i;
        }
    }
    return found;
}
