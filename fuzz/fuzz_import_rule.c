// SPDX-License-Identifier: MIT
// A rule of Traefik: hosts and paths of the result are parts of the text, or it says why there is none.
#include "base/invariant.h"
#include "cli/import_rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_inside(struct str part, struct str text)
{
    return part.len == 0 || (part.p >= text.p && part.p + part.len <= text.p + text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rule rule;
    char reason[RULE_REASON_MAX];
    struct str text = str_make((const char *)data, size);
    int err = rule_parse(text, &rule, reason);
    INVARIANT(err == 0 || (rule.count == 0 && reason[0] != '\0'));
    INVARIANT(rule.count <= RULE_TERM_MAX);
    for (unsigned i = 0; i < rule.count; i++) {
        INVARIANT(is_inside(rule.terms[i].host, text) && is_inside(rule.terms[i].path, text));
        INVARIANT(rule.terms[i].path.len == 0 || rule.terms[i].path.p[0] == '/');
    }
    return 0;
}
