// SPDX-License-Identifier: MIT
#include "publish/sealed.h"
#include <stdlib.h>

// What the seal authenticates: a secret cannot be moved to another certificate.
static void put_context(struct buf *context, struct str name)
{
    buf_init(context, 0);
    buf_put(context, noun_plural(NOUN_CERTIFICATE));
    buf_put_char(context, '/');
    buf_put(context, name);
}

void sealed_wipe(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
    }
    free(text);
}

int sealed_close(const struct seal *seal, const char *name, char *text, char **sealed)
{
    if (seal == NULL) {
        *sealed = text;
        return 0;
    }
    struct buf context;
    struct buf to;
    put_context(&context, str_from_c(name));
    buf_init(&to, 0);
    int err =
        context.failed ? ERR_MEMORY : seal_close(seal, buf_str(&context), str_from_c(text), &to);
    buf_fini(&context);
    sealed_wipe(text);
    buf_put_char(&to, '\0');
    if (err == 0 && to.failed) {
        err = ERR_MEMORY;
    }
    if (err != 0) {
        buf_fini(&to);
        return err;
    }
    *sealed = to.p;
    return 0;
}

int sealed_open(const struct seal *seal, struct str name, struct str secret, struct buf *text)
{
    if (seal == NULL) {
        buf_put(text, secret);
        return text->failed ? ERR_MEMORY : 0;
    }
    struct buf context;
    put_context(&context, name);
    int err = context.failed ? ERR_MEMORY : seal_open(seal, buf_str(&context), secret, text);
    buf_fini(&context);
    return err;
}
