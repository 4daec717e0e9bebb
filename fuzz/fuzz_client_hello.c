// SPDX-License-Identifier: MIT
// More bytes never change what fewer have told, a name that is accepted is canonical, and the same message
// in other records reads as the same.
#include "base/invariant.h"
#include "net/client_hello.h"
#include <stdlib.h>

enum { RECORD_HEADER = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct client_hello *a, const struct client_hello *b)
{
    INVARIANT(a->sni_len == b->sni_len && memcmp(a->sni, b->sni, a->sni_len + 1) == 0);
    INVARIANT(a->offers_h2 == b->offers_h2 && a->offers_tls13 == b->offers_tls13);
}

static void check_name(const struct client_hello *hello)
{
    INVARIANT(hello->sni_len < sizeof hello->sni && hello->sni[hello->sni_len] == '\0');
    for (size_t i = 0; i < hello->sni_len; i++) {
        char c = hello->sni[i];
        INVARIANT((c >= 'a' && c <= 'z') || ascii_is_digit(c) || c == '-' || c == '_' || c == '.');
    }
}

// The bodies of its records, each byte in a record of its own.
static void check_small_records(const uint8_t *data, size_t size, const struct client_hello *hello)
{
    size_t len = 0;
    uint8_t *wire = malloc(size * (RECORD_HEADER + 1));
    INVARIANT(wire != NULL);
    for (size_t at = 0; at + RECORD_HEADER <= size;) {
        size_t body_len = (size_t)data[at + 3] << 8 | data[at + 4];
        const uint8_t *header = data + at;
        at += RECORD_HEADER;
        if (header[0] != 0x16 || header[1] != 3 || header[2] > 3) {
            break; // behind the message
        }
        for (size_t i = 0; i < body_len && at < size; i++, at++) {
            const uint8_t small[] = {0x16, 3, 1, 0, 1, data[at]};
            memcpy(wire + len, small, sizeof small);
            len += sizeof small;
        }
    }
    struct client_hello again;
    INVARIANT(client_hello_parse(str_make((const char *)wire, len), &again) == 1);
    check_same(hello, &again);
    free(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client_hello hello;
    struct client_hello part;
    struct str bytes = str_make((const char *)data, size);
    int result = client_hello_parse(bytes, &hello);
    int before = 0;
    for (size_t len = 0; len <= size; len += 1 + size / 16) {
        int step = client_hello_parse(str_sub(bytes, 0, len), &part);
        INVARIANT(before == 0 || step == before);
        before = step;
        if (step == 1) {
            INVARIANT(result == 1);
            check_same(&hello, &part);
        }
    }
    INVARIANT(before == 0 || before == result);
    if (result == 1) {
        check_name(&hello);
        check_small_records(data, size, &hello);
    }
    return 0;
}
