// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "base/str.h"

struct row {
    const char *name;
    int status;
    const char *text;
};

static const struct row rows[] = {
#define X(name, status, text) {#name, status, text},
    ERR_TABLE(X)
#undef X
};

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

// The tokens: names without "ERR_", lower case; filled before threads start.
static char tokens[ROW_COUNT][32];

__attribute__((constructor)) static void fill_tokens(void)
{
    for (int i = 0; i < ROW_COUNT; i++) {
        const char *name = rows[i].name + 4;
        for (size_t k = 0; name[k] != '\0' && k + 1 < sizeof tokens[i]; k++) {
            tokens[i][k] = ascii_lower(name[k]);
        }
    }
}

static int row_index(int err)
{
    return err > ERR_FIRST_ && err < ERR_END_ ? err - ERR_FIRST_ - 1 : -1;
}

const char *err_text(int err)
{
    int i = row_index(err);
    return i < 0 ? "unknown error" : rows[i].text;
}

const char *err_token(int err)
{
    int i = row_index(err);
    return i < 0 ? "unknown" : tokens[i];
}

int err_status(int err)
{
    int i = row_index(err);
    return i < 0 ? 500 : rows[i].status;
}
