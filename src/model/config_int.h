// SPDX-License-Identifier: MIT
#pragma once
#include "model/config.h"
#include "model/value.h"

enum config_kind {
    KIND_TEXT,
    KIND_PATH,
    KIND_ADDRESS,
    KIND_BOOL,
    KIND_UINT,
    KIND_WORKERS,
    KIND_SIZE,
    KIND_DURATION,
    KIND_WORD,
    KIND_STORE,
    KIND_ADDRESSES,
    KIND_CIDRS,
    KIND_SERVERS,
};

struct config_words {
    const char *texts[5]; // the index is the enum's value; ends with NULL
};

struct config_row {
    struct str path;
    enum config_kind kind;
    size_t offset;       // of the member in struct config
    size_t count_offset; // lists: of their count
    const char *initial;
    uint64_t min;
    uint64_t max;
    const struct config_words *words;
    const char *help;
};

enum { CONFIG_CIDRS_MAX = 1000 };

extern const struct config_row config_rows[];
extern const unsigned config_row_count;

// The row of a path; config_row_count if there is none.
unsigned config_find(struct str path);
bool config_kind_is_list(enum config_kind kind);
const char *config_kind_name(enum config_kind kind);
// "1k to 1m" into `to`; "" when there is no range to tell.
void config_format_range(const struct config_row *row, char *to, size_t size);
// Takes one value, or one element of a list (added to it). `pointer` is named in problems.
// 0, or a negative err.
int config_take_value(struct config *config, const struct config_row *row, struct str text,
                      const char *pointer, struct problems *problems) WARN_UNUSED;
void config_clear_list(struct config *config, const struct config_row *row);
// "there is no setting …; did you mean …?"
int config_add_unknown(struct problems *problems, const char *pointer, struct str path);
