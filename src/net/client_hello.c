// SPDX-License-Identifier: MIT
#include "net/client_hello.h"
#include <string.h>

enum {
    RECORD_HEADER = 5,
    RECORD_MAX = 16384,
    TYPE_HANDSHAKE = 22,
    HANDSHAKE_CLIENT_HELLO = 1,
    EXTENSION_SNI = 0,
    EXTENSION_ALPN = 16,
    EXTENSION_VERSIONS = 43,
    RANDOM_LEN = 32,
    SESSION_ID_MAX = 32,
    HOST_MAX = 253,
};

// Bytes of the handshake message, with the heads of records taken out.
struct reader {
    const uint8_t *p;
    size_t len;
    bool failed;
};

static unsigned read_number(struct reader *r, unsigned bytes)
{
    unsigned value = 0;
    if (r->len < bytes) {
        r->failed = true;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | r->p[i];
    }
    r->p += bytes;
    r->len -= bytes;
    return value;
}

// The next `len` bytes as a reader of their own.
static struct reader read_part(struct reader *r, size_t len)
{
    struct reader part = {r->p, len, false};
    if (r->failed || r->len < len) {
        r->failed = true;
        return (struct reader){NULL, 0, true};
    }
    r->p += len;
    r->len -= len;
    return part;
}

// Host names as RFC 6066 3 has them, and underscores, which are in use. What no host can be called (an
// address, "host:443", UTF-8) is no name: whoever asks for that gets what those get who ask for nothing.
static void take_name(struct reader name, char *to, size_t *len)
{
    bool is_address = true;
    if (name.len > 0 && name.p[name.len - 1] == '.') {
        name.len--;
    }
    *len = 0;
    to[0] = '\0';
    if (name.len == 0 || name.len > HOST_MAX) {
        return;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = ascii_lower((char)name.p[i]);
        bool is_digit = ascii_is_digit(c);
        if (!is_digit && !(c >= 'a' && c <= 'z') && c != '-' && c != '_' && c != '.') {
            to[0] = '\0';
            return;
        }
        is_address = is_address && (is_digit || c == '.');
        to[i] = c;
    }
    *len = is_address ? 0 : name.len;
    to[*len] = '\0';
}

int client_hello_sni(struct str bytes, char to[CLIENT_HELLO_SNI_LEN], size_t *len)
{
    struct reader body = {(const uint8_t *)bytes.p, bytes.len, false};
    struct reader list = read_part(&body, read_number(&body, 2));
    unsigned kind = read_number(&list, 1);
    struct reader name = read_part(&list, read_number(&list, 2));
    // One name of the one kind there is.
    if (list.failed || body.failed || body.len > 0 || list.len > 0 || kind != 0 || name.len == 0) {
        return ERR_SYNTAX;
    }
    take_name(name, to, len);
    return 0;
}

static int read_alpn(struct reader body, struct client_hello *out)
{
    struct reader list = read_part(&body, read_number(&body, 2));
    while (!list.failed && list.len > 0) {
        struct reader name = read_part(&list, read_number(&list, 1));
        if (!list.failed && name.len == 2 && memcmp(name.p, "h2", 2) == 0) {
            out->offers_h2 = true;
        }
    }
    return list.failed || body.failed || body.len > 0 ? ERR_SYNTAX : 0;
}

static int read_versions(struct reader body, struct client_hello *out)
{
    struct reader list = read_part(&body, read_number(&body, 1));
    while (!list.failed && list.len > 0) {
        out->offers_tls13 = read_number(&list, 2) == 0x0304 || out->offers_tls13;
    }
    return list.failed || body.failed || body.len > 0 ? ERR_SYNTAX : 0;
}

static int read_extensions(struct reader all, struct client_hello *out)
{
    bool has_sni = false;
    while (all.len > 0) {
        unsigned type = read_number(&all, 2);
        struct reader body = read_part(&all, read_number(&all, 2));
        int err = all.failed ? ERR_SYNTAX : 0;
        if (err == 0 && type == EXTENSION_SNI) {
            err = has_sni ? ERR_SYNTAX
                          : client_hello_sni(str_make((const char *)body.p, body.len), out->sni,
                                             &out->sni_len);
            has_sni = true;
        } else if (err == 0 && type == EXTENSION_ALPN) {
            err = read_alpn(body, out);
        } else if (err == 0 && type == EXTENSION_VERSIONS) {
            err = read_versions(body, out);
        }
        if (err != 0) {
            return err;
        }
    }
    return 0;
}

static int read_message(struct reader r, struct client_hello *out)
{
    (void)read_number(&r, 2); // legacy_version
    (void)read_part(&r, RANDOM_LEN);
    unsigned session_len = read_number(&r, 1);
    (void)read_part(&r, session_len);
    unsigned ciphers_len = read_number(&r, 2);
    (void)read_part(&r, ciphers_len);
    unsigned methods_len = read_number(&r, 1);
    (void)read_part(&r, methods_len);
    if (r.failed || session_len > SESSION_ID_MAX || ciphers_len < 2 || ciphers_len % 2 != 0 ||
        methods_len == 0) {
        return ERR_SYNTAX;
    }
    if (r.len == 0) {
        return 0; // no extensions
    }
    struct reader extensions = read_part(&r, read_number(&r, 2));
    return r.failed || r.len > 0 ? ERR_SYNTAX : read_extensions(extensions, out);
}

// One record's body; 0 when it is not complete. *body may be a part of it. Negative: this is no TLS.
static int read_record(struct reader *wire, struct reader *body)
{
    static const int16_t fixed[] = {TYPE_HANDSHAKE, 3, -1};
    for (size_t i = 0; i < 3 && i < wire->len; i++) {
        if (fixed[i] >= 0 && wire->p[i] != fixed[i]) {
            return ERR_SYNTAX;
        }
    }
    if (wire->len < RECORD_HEADER) {
        return 0;
    }
    size_t len = (size_t)wire->p[3] << 8 | wire->p[4];
    if (wire->p[2] > 3 || len == 0 || len > RECORD_MAX) {
        return ERR_SYNTAX;
    }
    bool is_whole = wire->len - RECORD_HEADER >= len;
    *body =
        (struct reader){wire->p + RECORD_HEADER, is_whole ? len : wire->len - RECORD_HEADER, false};
    wire->p += RECORD_HEADER + body->len;
    wire->len -= RECORD_HEADER + body->len;
    return is_whole ? 1 : 0;
}

int client_hello_parse(struct str bytes, struct client_hello *out)
{
    uint8_t message[CLIENT_HELLO_MAX];
    size_t have = 0;
    size_t want = 4; // the message's own head
    struct reader wire = {(const uint8_t *)bytes.p, bytes.len, false};
    *out = (struct client_hello){.sni_len = 0};
    while (have < want) {
        struct reader body = {NULL, 0, false};
        int whole = read_record(&wire, &body);
        if (whole < 0) {
            return whole;
        }
        size_t part = body.len < CLIENT_HELLO_MAX - have ? body.len : CLIENT_HELLO_MAX - have;
        if (part > 0) {
            memcpy(message + have, body.p, part);
        }
        have += part;
        if (have >= 1 && message[0] != HANDSHAKE_CLIENT_HELLO) {
            return ERR_SYNTAX;
        }
        if (have >= 4 && want == 4) {
            want = 4 + ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
            if (want > CLIENT_HELLO_MAX) {
                return ERR_LIMIT;
            }
        }
        if (whole == 0 && have < want) {
            return 0;
        }
    }
    int err = read_message((struct reader){message + 4, want - 4, false}, out);
    return err == 0 ? 1 : err;
}
