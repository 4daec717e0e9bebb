// SPDX-License-Identifier: MIT
// Calls of scripts.
#include "fleet/fleet_int.h"

enum { ARGUMENTS_HERE = 64 };

bool fleet_script_call(struct redis *redis, const struct fleet_script *script, unsigned keys,
                       unsigned argc, const struct str *argv, redis_on_reply *on_reply,
                       void *context)
{
    struct str here[ARGUMENTS_HERE];
    char number[12];
    struct str *all = here;
    if (argc + 3 > ARGUMENTS_HERE) {
        all = calloc((size_t)argc + 3, sizeof *all);
        if (all == NULL) {
            return false;
        }
    }
    snprintf(number, sizeof number, "%u", keys);
    all[0] = STR("EVAL");
    all[1] = str_from_c(script->text);
    all[2] = str_from_c(number);
    for (unsigned i = 0; i < argc; i++) {
        all[3 + i] = argv[i];
    }
    bool is_sent = redis_command(redis, argc + 3, all, on_reply, context);
    if (all != here) {
        free(all);
    }
    return is_sent;
}
