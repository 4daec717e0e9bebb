// SPDX-License-Identifier: MIT
// Runs test/corpus/*.yaml through the parsers as a receiver would: head, path, body, trailers; whole
// and in two pieces cut at every byte.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <yaml.h>
#include "http/h1/h1_parse.h"
#include "http/uri.h"

enum {
    TEXT_MAX = 65536,
    SPLIT_ALL_MAX = 1024, // longer texts are cut at fewer places
    SPLIT_STEP = 331,
};

static const struct h1_limits limits = {.head_max = 32768, .target_max = 16384, .field_max = 100};

struct entry {
    struct str name;
    struct str bytes;
    struct str method;
    struct str body;
    yaml_node_t *sent;
    uint64_t status;
    bool expand;
};

struct corpus {
    yaml_document_t document;
    yaml_node_t *root;
};

struct message {
    bool response;
    enum http_method method;
    struct http_field fields[H1_FIELD_MAX];
    struct http_head head;
    char path[TEXT_MAX];
    size_t path_len;
    char body[TEXT_MAX];
    size_t body_len;
};

static struct message message;
static char text[TEXT_MAX];

static void open_corpus(struct corpus *corpus, const char *path)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    yaml_parser_t parser;
    assert_int_equal(yaml_parser_initialize(&parser), 1);
    yaml_parser_set_input_file(&parser, file);
    if (!yaml_parser_load(&parser, &corpus->document)) {
        fail_msg("%s:%zu: %s", path, parser.problem_mark.line + 1, parser.problem);
    }
    yaml_parser_delete(&parser);
    fclose(file);
    corpus->root = yaml_document_get_root_node(&corpus->document);
    assert_non_null(corpus->root);
    assert_int_equal(corpus->root->type, YAML_SEQUENCE_NODE);
}

static struct str scalar(const yaml_node_t *node)
{
    assert_non_null(node);
    assert_int_equal(node->type, YAML_SCALAR_NODE);
    return str_make((const char *)node->data.scalar.value, node->data.scalar.length);
}

// The value with this key, or NULL.
static yaml_node_t *member(struct corpus *corpus, const yaml_node_t *map, const char *key)
{
    assert_int_equal(map->type, YAML_MAPPING_NODE);
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top;
         pair++) {
        struct str name = scalar(yaml_document_get_node(&corpus->document, pair->key));
        if (str_eq(name, str_from_c(key))) {
            return yaml_document_get_node(&corpus->document, pair->value);
        }
    }
    return NULL;
}

static struct str member_text(struct corpus *corpus, const yaml_node_t *map, const char *key)
{
    yaml_node_t *node = member(corpus, map, key);
    return node == NULL ? STR_NULL : scalar(node);
}

static size_t corpus_len(const struct corpus *corpus)
{
    return (size_t)(corpus->root->data.sequence.items.top -
                    corpus->root->data.sequence.items.start);
}

static struct entry read_entry(struct corpus *corpus, size_t at)
{
    yaml_node_t *map =
        yaml_document_get_node(&corpus->document, corpus->root->data.sequence.items.start[at]);
    struct entry entry = {.name = member_text(corpus, map, "name"),
                          .bytes = member_text(corpus, map, "bytes"),
                          .method = member_text(corpus, map, "method"),
                          .body = member_text(corpus, map, "body"),
                          .sent = member(corpus, map, "sent"),
                          .expand = member(corpus, map, "expand") != NULL};
    assert_true(entry.name.len > 0 && entry.bytes.len > 0);
    assert_int_equal(str_to_u64(member_text(corpus, map, "status"), &entry.status), 0);
    return entry;
}

// Characters to bytes: two bytes of UTF-8 are one.
static size_t put_latin1(struct str utf8, char *out, size_t size)
{
    size_t len = 0;
    for (size_t i = 0; i < utf8.len; i++) {
        unsigned char c = (unsigned char)utf8.p[i];
        assert_true(len < size && c <= 0xc3);
        if (c >= 0xc2) {
            i++;
            c = (unsigned char)(c << 6 | ((unsigned char)utf8.p[i] & 0x3f));
        }
        out[len++] = (char)c;
    }
    return len;
}

// The bytes of an entry, with "@{TEXT*N}" written out.
static struct str entry_bytes(const struct entry *entry)
{
    struct str rest = entry->bytes;
    size_t len = 0;
    size_t at;
    while (entry->expand && (at = str_find(rest, STR("@{"))) != SIZE_MAX) {
        len += put_latin1(str_sub(rest, 0, at), text + len, sizeof(text) - len);
        rest = str_from(rest, at + 2);
        size_t end = str_find_char(rest, '}');
        struct str inner = str_sub(rest, 0, end);
        size_t star = str_rfind_char(inner, '*');
        uint64_t count;
        assert_true(end != SIZE_MAX && star != SIZE_MAX);
        assert_int_equal(str_to_u64(str_from(inner, star + 1), &count), 0);
        while (count-- > 0) {
            len += put_latin1(str_sub(inner, 0, star), text + len, sizeof(text) - len);
        }
        rest = str_from(rest, end + 1);
    }
    len += put_latin1(rest, text + len, sizeof(text) - len);
    return str_make(text, len);
}

// Input that comes in two pieces: the second is asked for when the first is not enough.
struct input {
    struct str all;
    size_t have;
};

static ptrdiff_t read_head(struct input *in, size_t from)
{
    for (;;) {
        const char *p = in->all.p + from;
        size_t len = in->have - from;
        ptrdiff_t result =
            message.response
                ? h1_parse_response(p, len, message.method, &limits, message.fields, &message.head)
                : h1_parse_request(p, len, &limits, message.fields, &message.head);
        if (result != 0 || in->have == in->all.len) {
            return result;
        }
        in->have = in->all.len;
    }
}

static int read_trailers(struct input *in, size_t from)
{
    for (;;) {
        unsigned count;
        ptrdiff_t result = h1_parse_trailers(in->all.p + from, in->have - from, limits.field_max,
                                             message.fields, &count);
        if (result != 0 || in->have == in->all.len) {
            return result > 0 ? 1 : (int)result;
        }
        in->have = in->all.len;
    }
}

static void put_body(struct str data)
{
    assert_true(message.body_len + data.len <= sizeof(message.body));
    memcpy(message.body + message.body_len, data.p, data.len);
    message.body_len += data.len;
}

static int read_chunked(struct input *in, size_t at)
{
    struct h1_chunked chunked;
    h1_chunked_init(&chunked);
    for (;;) {
        size_t used;
        struct str data;
        int event = h1_chunked_next(&chunked, in->all.p + at, in->have - at, &used, &data);
        if (event < 0) {
            return event;
        }
        at += used;
        if (event == H1_CHUNKED_DATA) {
            put_body(data);
        } else if (event == H1_CHUNKED_TRAILERS) {
            return read_trailers(in, at);
        } else if (in->have == in->all.len) {
            return 0;
        } else {
            in->have = in->all.len;
        }
    }
}

// 1 when the message is whole, 0 when it is cut, or a negative ERR_….
static int receive(struct str all, size_t first)
{
    struct input in = {all, first};
    size_t at = 0;
    message.body_len = 0;
    do {
        ptrdiff_t head = read_head(&in, at);
        if (head <= 0) {
            return (int)head;
        }
        at += (size_t)head;
    } while (message.response && message.head.status < 200 && message.head.status != 101);
    if (!message.response) {
        int err = uri_normalise(message.head.path, false, message.path, &message.path_len);
        if (err != 0) {
            return err;
        }
    }
    switch (message.head.body) {
    case BODY_NONE:
        return 1;
    case BODY_LENGTH:
        put_body(str_sub(all, at, (size_t)message.head.body_len));
        return message.body_len == message.head.body_len;
    case BODY_UNTIL_CLOSE:
        put_body(str_from(all, at));
        return 1;
    case BODY_CHUNKED:
        return read_chunked(&in, at);
    }
    return 0;
}

static void check_sent(struct corpus *corpus, const struct entry *entry)
{
    char target[TEXT_MAX];
    size_t len = str_copy(target, sizeof(target), str_make(message.path, message.path_len));
    len += str_copy(target + len, sizeof(target) - len, message.head.query);
    const yaml_node_t *sent = entry->sent;
    assert_true(str_eq(message.head.method_text, member_text(corpus, sent, "method")));
    assert_true(str_eq(message.head.authority, member_text(corpus, sent, "host")));
    assert_true(str_eq(str_make(target, len), member_text(corpus, sent, "target")));
    assert_true(
        str_eq(str_make(message.body, message.body_len), member_text(corpus, sent, "body")));
}

static void check_split(struct corpus *corpus, const struct entry *entry, struct str all,
                        size_t first)
{
    int result = receive(all, first);
    uint64_t status = 0;
    if (message.response) {
        status = result < 0 ? 502 : result == 0 ? 0 : message.head.status;
    } else {
        status = result < 0 ? (uint64_t)err_status(result) : result == 0 ? 0 : 200;
    }
    if (status != entry->status) {
        fail_msg("%.*s, cut at %zu: %d (%s), not %d", STR_ARG(entry->name), first, (int)status,
                 result < 0 ? err_token(result) : "no error", (int)entry->status);
    }
    if (result > 0 && message.response) {
        assert_true(str_eq(str_make(message.body, message.body_len), entry->body));
    } else if (result > 0) {
        check_sent(corpus, entry);
    }
}

static void run(const char *path, bool response, size_t at_least)
{
    struct corpus corpus;
    open_corpus(&corpus, path);
    assert_true(corpus_len(&corpus) >= at_least);
    message.response = response;
    for (size_t i = 0; i < corpus_len(&corpus); i++) {
        struct entry entry = read_entry(&corpus, i);
        struct str all = entry_bytes(&entry);
        message.method = entry.method.len == 0 ? METHOD_GET : http_method_find(entry.method);
        for (size_t first = all.len;;) {
            check_split(&corpus, &entry, all, first);
            size_t step = all.len <= SPLIT_ALL_MAX ? 1 : SPLIT_STEP;
            if (first < step) {
                break;
            }
            first -= step;
        }
    }
    yaml_document_delete(&corpus.document);
}

static void test_requests(void **state)
{
    (void)state;
    run(CORPUS_FOLDER "/requests.yaml", false, 400);
}

static void test_responses(void **state)
{
    (void)state;
    run(CORPUS_FOLDER "/responses.yaml", true, 130);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_responses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
