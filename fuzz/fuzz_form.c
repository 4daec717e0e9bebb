// SPDX-License-Identifier: MIT
// A field of a form is found, or not, with the same value, whether the form comes whole or byte by byte. The first
// line is the Content-Type, the field is "user".
#include "base/invariant.h"
#include "proxy/form_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void begin(struct form_scan *scan, struct str type)
{
    struct str boundary = STR_NULL;
    enum form_kind kind = form_kind_of(type, &boundary);
    form_scan_init(scan, kind, STR("user"), boundary);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str type;
    struct str form;
    struct form_scan whole;
    struct form_scan bytes;
    str_split(str_make((const char *)data, size), '\n', &type, &form);
    begin(&whole, type);
    begin(&bytes, type);
    form_scan_put(&whole, form);
    for (size_t i = 0; i < form.len; i++) {
        form_scan_put(&bytes, str_sub(form, i, 1));
    }
    enum form_state state = form_scan_end(&whole);
    INVARIANT(state != FORM_WANTS_MORE && form_scan_end(&bytes) == state);
    INVARIANT(state != FORM_FOUND || form_scan_hash(&whole) == form_scan_hash(&bytes));
    return 0;
}
