// SPDX-License-Identifier: MIT
// How commands are written (RESP2: arrays of strings), and the ring of those without a reply.
#include "redis/redis_int.h"
#include <stdlib.h>

enum {
    LINE_FIRST = 64,
    LINE_KEPT = 4096, // items that an empty line keeps
    DIGITS_MAX = 20,  // of 64 bits
    HEADER_MAX = 24,  // "$" or "*", a number, CRLF
    ARGUMENT_MAX = 1 << 20,
};

// ---- the line ----

bool redis_line_reserve(struct redis_line *line)
{
    if (line->count >= REDIS_PENDING_MAX) {
        return false;
    }
    if (line->count < line->size) {
        return true;
    }
    unsigned size = line->size == 0 ? LINE_FIRST : line->size * 2;
    struct redis_waiting *items = malloc(size * sizeof *items);
    if (items == NULL) {
        return false;
    }
    for (unsigned i = 0; i < line->count; i++) {
        items[i] = line->items[(line->first + i) & (line->size - 1)];
    }
    free(line->items);
    line->items = items;
    line->size = size;
    line->first = 0;
    return true;
}

void redis_line_append(struct redis_line *line, const struct redis_waiting *waiting)
{
    line->items[(line->first + line->count) & (line->size - 1)] = *waiting;
    line->count++;
}

struct redis_waiting *redis_line_first(struct redis_line *line)
{
    return line->count == 0 ? NULL : &line->items[line->first];
}

struct redis_waiting redis_line_take(struct redis_line *line)
{
    struct redis_waiting waiting = line->items[line->first];
    line->first = (line->first + 1) & (line->size - 1);
    line->count--;
    if (line->count == 0 && line->size > LINE_KEPT) {
        redis_line_fini(line);
    }
    return waiting;
}

void redis_line_fini(struct redis_line *line)
{
    free(line->items);
    *line = (struct redis_line){0};
}

// ---- writing ----

// "$123\r\n"; returns its length.
static size_t write_header(char *to, char sign, size_t number)
{
    char digits[DIGITS_MAX];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0 && count < DIGITS_MAX);
    char *at = to;
    *at++ = sign;
    while (count > 0) {
        *at++ = digits[--count];
    }
    *at++ = '\r';
    *at++ = '\n';
    return (size_t)(at - to);
}

static void put_small(struct loop *loop, struct outq *out, unsigned argc, const struct str *argv,
                      size_t most)
{
    char *to = outq_reserve(loop, out, most);
    if (to == NULL) {
        return;
    }
    char *at = to;
    at += write_header(at, '*', argc);
    for (unsigned i = 0; i < argc; i++) {
        at += write_header(at, '$', argv[i].len);
        if (argv[i].len > 0) {
            memcpy(at, argv[i].p, argv[i].len);
        }
        at += argv[i].len;
        *at++ = '\r';
        *at++ = '\n';
    }
    outq_commit(out, (size_t)(at - to));
}

static void put_large(struct loop *loop, struct outq *out, unsigned argc, const struct str *argv)
{
    char header[HEADER_MAX];
    outq_put_copy(loop, out, str_make(header, write_header(header, '*', argc)));
    for (unsigned i = 0; i < argc; i++) {
        outq_put_copy(loop, out, str_make(header, write_header(header, '$', argv[i].len)));
        outq_put_copy(loop, out, argv[i]);
        outq_put_copy(loop, out, STR("\r\n"));
    }
}

bool redis_command_put(struct loop *loop, struct outq *out, unsigned argc, const struct str *argv)
{
    size_t most = HEADER_MAX;
    if (argc == 0 || argc > ARGUMENT_MAX) {
        return false;
    }
    for (unsigned i = 0; i < argc; i++) {
        if (argv[i].len > REDIS_OUTPUT_MAX) {
            return false;
        }
        most += argv[i].len + HEADER_MAX + 2;
    }
    if (out->failed || most + out->queued > REDIS_OUTPUT_MAX) {
        return false;
    }
    if (most <= OUTQ_SCRATCH_LEN) {
        put_small(loop, out, argc, argv, most);
    } else {
        put_large(loop, out, argc, argv);
    }
    return !out->failed;
}

// ---- messages ----

static const struct {
    struct str command; // upper case
    struct str confirmation;
} kinds[] = {
    {{"SUBSCRIBE", 9}, {"subscribe", 9}},
    {{"PSUBSCRIBE", 10}, {"psubscribe", 10}},
    {{"UNSUBSCRIBE", 11}, {"unsubscribe", 11}},
    {{"PUNSUBSCRIBE", 12}, {"punsubscribe", 12}},
};

uint32_t redis_command_confirmations(unsigned argc, const struct str *argv)
{
    char last = argv[0].len == 0 ? 0 : ascii_lower(argv[0].p[argv[0].len - 1]);
    if (last != 'e') {
        return 0; // most of them, soon
    }
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (str_eq_case(argv[0], kinds[i].command)) {
            return argc < 2 ? 1 : argc - 1;
        }
    }
    return 0;
}

bool redis_is_message(const struct redis_reply *reply, bool *is_confirmation)
{
    *is_confirmation = false;
    if (reply->type != REDIS_ARRAY || reply->count < 3 || reply->items[0]->type != REDIS_STRING) {
        return false;
    }
    struct str kind = reply->items[0]->text;
    if (str_eq(kind, STR("message")) || str_eq(kind, STR("pmessage"))) {
        return true;
    }
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (str_eq(kind, kinds[i].confirmation)) {
            *is_confirmation = true;
            return true;
        }
    }
    return false;
}
