// SPDX-License-Identifier: MIT
// Ceryx' API: its routes are ordinary declarations (ceryx/translate.h), written like all others.
#pragma once
#include "admin/admin_int.h"
#include "ceryx/translate.h"

// The host in the URL, decoded, into call->key as a route key. False: it is none, and nothing was answered
// (`problems`), or memory is out.
bool ceryx_read_key(struct call *call, struct problems *problems);
// {"source", "target", "settings"} appended to *out.
void ceryx_put_source(struct buf *out, const struct ceryx_source *source);
// The stored value of `name`, malloc'ed; NULL: there is none (or it cannot be read).
char *ceryx_load(struct admin *admin, enum noun noun, struct str name);

// What a body says. Views into `tree`, or constants.
struct ceryx_body {
    json_t *tree; // owned
    struct ceryx_source source;
    bool names_certificate; // it says something of the paths, if only null
};
// Reads call->body. `with_source`: it must name the host. 0, or a negative err with a problem.
int ceryx_read_body(struct call *call, bool with_source, struct ceryx_body *body,
                    struct problems *problems) WARN_UNUSED;
void ceryx_body_fini(struct ceryx_body *body);
