// SPDX-License-Identifier: MIT
// hiredis takes the bytes apart; what it finds is built here, in an arena a reply. Nothing is believed of a
// length before its bytes are there: an array grows with its items, and a string that would be too long
// ends the connection with its header.
#include "redis/redis_int.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>

enum {
    BLOCKS_KEPT = 16,
    DEPTH_MAX = 8,        // arrays in arrays
    ITEMS_FIRST = 4096,   // room that an array has at first, at most
    LINE_MAX_LEN = 65536, // an error, a status, a number, the header of what follows
};

// Builds what a text of RESP2 says. The real array has room for more than `count`.
struct built {
    struct redis_reply reply;
    unsigned room;
};

static struct redis_reply nil = {.type = REDIS_NIL};

bool redis_reply_is_error(const struct redis_reply *reply, const char *code)
{
    struct str expected = str_from_c(code);
    return reply != NULL && reply->type == REDIS_ERROR && str_starts(reply->text, expected) &&
           (reply->text.len == expected.len || reply->text.p[expected.len] == ' ');
}

const struct redis_reply *redis_reply_item(const struct redis_reply *reply, unsigned at)
{
    bool is_there = reply != NULL && reply->type == REDIS_ARRAY && at < reply->count;
    return is_there ? reply->items[at] : &nil;
}

bool redis_reply_number(const struct redis_reply *reply, int64_t *number)
{
    if (reply == NULL) {
        return false;
    }
    if (reply->type == REDIS_INTEGER) {
        *number = reply->integer;
        return true;
    }
    if (reply->type != REDIS_STRING && reply->type != REDIS_STATUS) {
        return false;
    }
    bool is_negative = reply->text.len > 0 && reply->text.p[0] == '-';
    uint64_t value;
    if (str_to_u64(str_from(reply->text, is_negative), &value) != 0 || value > INT64_MAX) {
        return false;
    }
    *number = is_negative ? -(int64_t)value : (int64_t)value;
    return true;
}

// ---- building ----

static bool grow(struct arena *arena, struct built *array)
{
    unsigned room = array->room * 2;
    struct redis_reply **items = arena_alloc(arena, room * sizeof(struct redis_reply *));
    if (items == NULL) {
        return false;
    }
    memcpy(items, array->reply.items, array->reply.count * sizeof(struct redis_reply *));
    array->reply.items = items;
    array->room = room;
    return true;
}

// Puts it into the array that it is an item of. NULL: out of memory.
static void *attach(const redisReadTask *task, struct redis_reply *reply)
{
    if (reply == NULL || task->parent == NULL) {
        return reply;
    }
    struct redis_reader *reader = task->privdata;
    struct built *array = task->parent->obj;
    if (array->reply.count == array->room && !grow(&reader->arena, array)) {
        return NULL;
    }
    array->reply.items[array->reply.count++] = reply;
    return reply;
}

static enum redis_type type_of(int type)
{
    switch (type) {
    case REDIS_REPLY_STATUS:
        return REDIS_STATUS;
    case REDIS_REPLY_ERROR:
        return REDIS_ERROR;
    case REDIS_REPLY_STRING:
        return REDIS_STRING;
    default:
        return REDIS_NIL; // of RESP3, which was not asked for
    }
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis_reader *reader = task->privdata;
    enum redis_type type = type_of(task->type);
    struct redis_reply *reply = arena_alloc(&reader->arena, sizeof *reply);
    if (reply == NULL || type == REDIS_NIL) {
        return NULL;
    }
    *reply = (struct redis_reply){.type = type};
    reply->text = arena_str(&reader->arena, str_make(text, len));
    return reply->text.p == NULL ? NULL : attach(task, reply);
}

static unsigned depth_of(const redisReadTask *task)
{
    unsigned depth = 0;
    while (task->parent != NULL) {
        depth++;
        task = task->parent;
    }
    return depth;
}

static void *create_items(const redisReadTask *task, size_t count)
{
    struct redis_reader *reader = task->privdata;
    struct built *array = arena_alloc(&reader->arena, sizeof *array);
    if (array == NULL || task->type != REDIS_REPLY_ARRAY || depth_of(task) >= DEPTH_MAX) {
        return NULL;
    }
    size_t room = count < ITEMS_FIRST ? count : ITEMS_FIRST;
    room = room == 0 ? 1 : room;
    *array = (struct built){.reply.type = REDIS_ARRAY, .room = (unsigned)room};
    array->reply.items = arena_alloc(&reader->arena, room * sizeof(struct redis_reply *));
    return array->reply.items == NULL ? NULL : attach(task, &array->reply);
}

#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t count)
{
    return create_items(task, count);
}

// RESP3 alone has them.
static void *create_double(const redisReadTask *task, double value, char *text, size_t len)
{
    (void)task;
    (void)value;
    (void)text;
    (void)len;
    return NULL;
}

static void *create_bool(const redisReadTask *task, int value)
{
    (void)task;
    (void)value;
    return NULL;
}
#else
static void *create_array(const redisReadTask *task, int count)
{
    return count < 0 ? NULL : create_items(task, (size_t)count);
}
#endif

static void *create_integer(const redisReadTask *task, long long value)
{
    struct redis_reader *reader = task->privdata;
    struct redis_reply *reply = arena_alloc(&reader->arena, sizeof *reply);
    if (reply == NULL) {
        return NULL;
    }
    *reply = (struct redis_reply){.type = REDIS_INTEGER, .integer = value};
    return attach(task, reply);
}

static void *create_nil(const redisReadTask *task)
{
    return attach(task, &nil);
}

static void free_nothing(void *object)
{
    (void)object; // the arena's
}

static redisReplyObjectFunctions functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
#if HIREDIS_MAJOR >= 1
    .createDouble = create_double,
    .createBool = create_bool,
#endif
    .createNil = create_nil,
    .freeObject = free_nothing,
};

// ---- the reader ----

static int make_parser(struct redis_reader *reader)
{
    reader->parser = redisReaderCreateWithFunctions(&functions);
    if (reader->parser == NULL) {
        return ERR_MEMORY;
    }
    reader->parser->privdata = reader;
    return 0;
}

int redis_reader_init(struct redis_reader *reader)
{
    arena_pool_init(&reader->blocks, BLOCKS_KEPT);
    // Some more than its bytes is what a reply takes here.
    arena_init(&reader->arena, &reader->blocks, (size_t)REDIS_REPLY_MAX * 2);
    return make_parser(reader);
}

static void drop_parser(struct redis_reader *reader)
{
    if (reader->parser != NULL) {
        redisReaderFree(reader->parser);
        reader->parser = NULL;
    }
}

void redis_reader_fini(struct redis_reader *reader)
{
    drop_parser(reader);
    arena_reset(&reader->arena);
    arena_pool_fini(&reader->blocks);
}

int redis_reader_reset(struct redis_reader *reader)
{
    drop_parser(reader);
    arena_reset(&reader->arena);
    return make_parser(reader);
}

bool redis_reader_feed(struct redis_reader *reader, struct str bytes)
{
    return redisReaderFeed(reader->parser, bytes.p, bytes.len) == REDIS_OK;
}

// What the parser holds unread begins with a line, which has come whole only if a long string follows.
static const char *find_excess(const struct redis_reader *reader)
{
    static const char too_long[] = "a reply of more than 512 MiB";
    const redisReader *parser = reader->parser;
    struct str left = str_make(parser->buf + parser->pos, parser->len - parser->pos);
    size_t end = str_find(str_sub(left, 0, LINE_MAX_LEN), STR("\r\n"));
    if (end == SIZE_MAX) {
        return left.len > LINE_MAX_LEN ? "a line without an end" : NULL;
    }
    struct str number = str_sub(left, 0, end);
    uint64_t len;
    if (number.len > 0 && number.p[0] == '$') {
        number = str_from(number, 1);
    }
    bool is_excess = str_to_u64(number, &len) == 0 && len > REDIS_REPLY_MAX;
    return is_excess || left.len > (size_t)REDIS_REPLY_MAX + LINE_MAX_LEN ? too_long : NULL;
}

int redis_reader_next(struct redis_reader *reader, const struct redis_reply **reply,
                      const char **why)
{
    void *object = NULL;
    if (reader->parser->reply == NULL) { // not in the middle of one
        arena_reset(&reader->arena);
    }
    if (redisReaderGetReply(reader->parser, &object) != REDIS_OK) {
        *why = reader->arena.overflow ? "a reply over the bounds" : reader->parser->errstr;
        return ERR_PROTOCOL;
    }
    if (object != NULL) {
        *reply = object;
        return STEP_DONE;
    }
    *why = find_excess(reader);
    return *why == NULL ? STEP_AGAIN : ERR_PROTOCOL;
}
