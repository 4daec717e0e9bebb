// SPDX-License-Identifier: MIT
// Calls of scripts: by digest, or with the text.
#include "fleet/fleet_int.h"

enum { ARGUMENTS_HERE = 64 };

bool fleet_script_call(struct redis *redis, struct fleet_script *script, unsigned keys,
                       unsigned argc, const struct str *argv, bool with_text,
                       redis_on_reply *on_reply, void *context)
{
    struct str here[ARGUMENTS_HERE];
    char number[12];
    bool is_long = with_text || script->sha[0] == '\0';
    struct str *all = here;
    if (argc + 3 > ARGUMENTS_HERE) {
        all = calloc((size_t)argc + 3, sizeof *all);
        if (all == NULL) {
            return false;
        }
    }
    snprintf(number, sizeof number, "%u", keys);
    all[0] = is_long ? STR("EVAL") : STR("EVALSHA");
    all[1] = str_from_c(is_long ? script->text : script->sha);
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
