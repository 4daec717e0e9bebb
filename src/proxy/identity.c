// SPDX-License-Identifier: MIT
// Who asks: the client's address and scheme, request and trace ids. What a client says of itself is
// believed only when the connection comes from a trusted proxy.
#include "net/address.h"
#include "proxy/transaction.h"

bool proxy_is_trusted(const struct proxy *proxy, const struct in6_addr *address)
{
    const struct config *config = proxy->shared->config;
    for (unsigned i = 0; i < config->trusted_proxy_count; i++) {
        const struct cidr *network = &config->trusted_proxies[i];
        if (net_in6_matches(address, &network->address, network->bits)) {
            return true;
        }
    }
    return false;
}

// "1.2.3.4", "1.2.3.4:5678", "[2001:db8::1]:80" as they stand in X-Forwarded-For.
static struct str strip_port(struct str element)
{
    if (element.len > 0 && element.p[0] == '[') {
        size_t end = str_find_char(element, ']');
        return end == SIZE_MAX ? element : str_sub(element, 1, end - 1);
    }
    size_t colon = str_find_char(element, ':');
    if (colon != SIZE_MAX && str_find_char(str_from(element, colon + 1), ':') == SIZE_MAX) {
        return str_sub(element, 0, colon);
    }
    return element;
}

// Goes from the right, past the trusted proxies, to the first address that is none.
static void read_forwarded_for(struct txn *txn)
{
    const struct http_head *request = &txn->request;
    for (unsigned i = request->field_count; i-- > 0;) {
        if (request->fields[i].id != FIELD_X_FORWARDED_FOR) {
            continue;
        }
        struct str rest = request->fields[i].value;
        while (rest.len > 0) {
            size_t comma = str_rfind_char(rest, ',');
            struct str element = comma == SIZE_MAX ? rest : str_from(rest, comma + 1);
            rest = comma == SIZE_MAX ? STR_NULL : str_sub(rest, 0, comma);
            struct in6_addr address;
            element = strip_port(str_trim(element));
            if (net_parse_in6(element, &address) != 0) {
                return; // what stands left of it cannot be believed either
            }
            txn->client_address = address;
            txn->client_ip = element;
            if (!proxy_is_trusted(txn->proxy, &address)) {
                return;
            }
        }
    }
}

uint64_t proxy_random(struct proxy *proxy)
{
    // xoshiro256** (Blackman, Vigna): for ids and spreading, not for secrets.
    uint64_t *s = proxy->random;
    uint64_t result = s[1] * 5;
    result = (result << 7 | result >> 57) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

static void put_hex64(char *to, uint64_t value)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--) {
        to[i] = digits[value & 15];
        value >>= 4;
    }
}

enum { REQUEST_ID_MAX = 128 };

static bool is_id(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] <= ' ' || text.p[i] > '~' || text.p[i] == '"' || text.p[i] == '\\') {
            return false;
        }
    }
    return text.len > 0 && text.len <= REQUEST_ID_MAX;
}

static void read_request_id(struct txn *txn)
{
    struct str given = http_head_value(&txn->request, FIELD_X_REQUEST_ID);
    if (txn->is_trusted && is_id(given)) {
        txn->request_id_text = given;
        return;
    }
    put_hex64(txn->request_id, proxy_random(txn->proxy));
    put_hex64(txn->request_id + 16, proxy_random(txn->proxy));
    txn->request_id_text = str_make(txn->request_id, TXN_REQUEST_ID_LEN);
}

static bool is_lower_hex(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (!ascii_is_digit(c) && !(c >= 'a' && c <= 'f')) {
            return false;
        }
    }
    return true;
}

static bool is_trace_id(struct str text)
{
    bool any = false; // all zeros is not an id
    for (size_t i = 0; i < text.len; i++) {
        any = any || text.p[i] != '0';
    }
    return any && is_lower_hex(text);
}

// version "-" trace-id "-" parent-id "-" flags (W3C Trace Context 3.2)
static bool is_traceparent(struct str text)
{
    if (text.len < TXN_TRACEPARENT_LEN || text.p[2] != '-' || text.p[35] != '-' ||
        text.p[52] != '-') {
        return false;
    }
    if (text.len > TXN_TRACEPARENT_LEN && (str_starts(text, STR("00")) || text.p[55] != '-')) {
        return false;
    }
    return !str_starts(text, STR("ff")) && is_lower_hex(str_sub(text, 0, 2)) &&
           is_trace_id(str_sub(text, 3, 32)) && is_trace_id(str_sub(text, 36, 16)) &&
           is_lower_hex(str_sub(text, 53, 2));
}

static void read_traceparent(struct txn *txn)
{
    struct str given = http_head_value(&txn->request, FIELD_TRACEPARENT);
    if (is_traceparent(given)) {
        txn->traceparent_text = given;
        return;
    }
    memcpy(txn->traceparent, "00-", 3);
    put_hex64(txn->traceparent + 3, proxy_random(txn->proxy));
    put_hex64(txn->traceparent + 19, proxy_random(txn->proxy) | 1);
    txn->traceparent[35] = '-';
    put_hex64(txn->traceparent + 36, proxy_random(txn->proxy) | 1);
    memcpy(txn->traceparent + 52, "-00", 3);
    txn->traceparent_text = str_make(txn->traceparent, TXN_TRACEPARENT_LEN);
}

// What the connection itself says: TLS here, or before the proxy that sent a PROXY header.
static void read_security(struct txn *txn)
{
    const struct tls *tls = http_stream_tls(txn->client);
    const struct http_proxied *proxied = http_stream_proxied(txn->client);
    txn->is_https = tls != NULL || (proxied != NULL && proxied->is_tls);
    if (tls != NULL) {
        txn->tls_version = str_eq(tls_version(tls), STR("1.2")) ? "1.2" : "1.3";
    }
}

void txn_identify(struct txn *txn)
{
    txn->client_address = *http_stream_peer(txn->client);
    txn->client_ip = http_stream_peer_text(txn->client);
    txn->is_trusted = proxy_is_trusted(txn->proxy, &txn->client_address);
    read_security(txn);
    if (txn->is_trusted) {
        read_forwarded_for(txn);
        struct str proto = http_head_value(&txn->request, FIELD_X_FORWARDED_PROTO);
        txn->is_https = txn->is_https || str_eq_case(proto, STR("https"));
    }
    read_request_id(txn);
    read_traceparent(txn);
}
