// SPDX-License-Identifier: MIT
// From a JSON value to what the store takes, with the seal of this node.
#include "admin/admin_int.h"
#include "publish/declare.h"

int admin_check_declaration(struct declaration *declaration, struct problems *problems)
{
    return declare_check(declaration, problems);
}

int change_build(struct admin *admin, enum noun noun, const char *key, json_t *value,
                 struct store_change *change, struct problems *problems)
{
    return declare_change(admin->deps.seal, noun, key, value, change, problems);
}

int change_build_delete(enum noun noun, const char *key, struct store_change *change)
{
    *change = (struct store_change){.noun = noun, .key = str_dup(str_from_c(key))};
    return change->key == NULL ? ERR_MEMORY : 0;
}
