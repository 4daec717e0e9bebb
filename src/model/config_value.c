// SPDX-License-Identifier: MIT
// One value of the configuration: from text into the struct.
#include "model/config_int.h"
#include "net/address.h"
#include <arpa/inet.h>
#include <inttypes.h>

static int wrong(struct problems *problems, const char *pointer, const struct config_row *row,
                 const char *must, struct str text)
{
    return problems_add(problems, ERR_INVALID, pointer, "%.*s must be %s, not \"%.100s\"",
                        STR_ARG(row->path), must,
                        text.len == 0 ? "" : text.p /* terminated by its owners */);
}

const char *config_kind_name(enum config_kind kind)
{
    switch (kind) {
    case KIND_TEXT:
        return "text";
    case KIND_PATH:
        return "path";
    case KIND_ADDRESS:
        return "address";
    case KIND_BOOL:
        return "true or false";
    case KIND_UINT:
        return "number";
    case KIND_WORKERS:
        return "number or auto";
    case KIND_SIZE:
        return "size";
    case KIND_DURATION:
        return "duration";
    case KIND_WORD:
        return "word";
    case KIND_STORE:
        return "URL";
    case KIND_ADDRESSES:
        return "list of addresses";
    case KIND_CIDRS:
        return "list of networks";
    case KIND_SERVERS:
        return "list of addresses";
    }
    return "";
}

bool config_kind_is_list(enum config_kind kind)
{
    return kind == KIND_ADDRESSES || kind == KIND_CIDRS || kind == KIND_SERVERS;
}

static void format_words(const struct config_words *words, char *to, size_t size)
{
    size_t len = 0;
    to[0] = '\0';
    for (unsigned i = 0; words->texts[i] != NULL && len < size - 1; i++) {
        len += (size_t)snprintf(to + len, size - len, "%s%s", i == 0 ? "" : ", ", words->texts[i]);
    }
}

void config_format_range(const struct config_row *row, char *to, size_t size)
{
    char min[VALUE_TEXT_MAX];
    char max[VALUE_TEXT_MAX];
    to[0] = '\0';
    if (row->kind == KIND_WORD) {
        format_words(row->words, to, size);
        return;
    }
    if (row->kind == KIND_SIZE && row->max < INT64_MAX) {
        size_format(row->min, min);
        size_format(row->max, max);
    } else if (row->kind == KIND_DURATION) {
        duration_format(row->min, min);
        duration_format(row->max, max);
    } else if (row->kind == KIND_UINT || row->kind == KIND_WORKERS) {
        snprintf(min, sizeof min, "%" PRIu64, row->min);
        snprintf(max, sizeof max, "%" PRIu64, row->max);
    } else {
        return;
    }
    snprintf(to, size, "%s to %s", min, max);
}

static int put_text(char **to, struct str text, const char *pointer, struct problems *problems)
{
    char *copy = str_dup(text);
    if (copy == NULL) {
        return problems_add(problems, ERR_MEMORY, pointer, "%s", err_text(ERR_MEMORY));
    }
    free(*to);
    *to = copy;
    return 0;
}

static bool address_is_valid(struct str text)
{
    struct sockaddr_storage address;
    socklen_t len;
    return text.len < CONFIG_ADDRESS_MAX && net_parse_listen(text, &address, &len) == 0;
}

static const char address_must[] =
    "an address such as \"127.0.0.1:8080\", \"[::1]:8080\", \":8080\" or \"unix:/run/x.sock\"";

static bool port_is_valid(struct str text)
{
    uint64_t port;
    return text.len <= 5 && str_to_u64(text, &port) == 0 && port > 0 && port <= UINT16_MAX;
}

static bool ip_is_valid(int family, struct str text)
{
    struct in6_addr address; // large enough for both
    char host[INET6_ADDRSTRLEN];
    if (text.len >= sizeof host) {
        return false;
    }
    str_copy(host, sizeof host, text);
    return inet_pton(family, host, &address) == 1;
}

// "10.0.0.2", "10.0.0.2:5353", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:5353"
static bool server_is_valid(struct str text)
{
    struct str host;
    struct str port;
    if (str_starts(text, STR("["))) {
        return str_split(str_from(text, 1), ']', &host, &port) && ip_is_valid(AF_INET6, host) &&
               (port.len == 0 || (port.p[0] == ':' && port_is_valid(str_from(port, 1))));
    }
    bool has_port = str_split(text, ':', &host, &port);
    if (has_port && str_find_char(port, ':') != SIZE_MAX) {
        return ip_is_valid(AF_INET6, text);
    }
    return ip_is_valid(AF_INET, host) && (!has_port || port_is_valid(port));
}

static const char server_must[] =
    "an IP address with or without a port, such as \"10.0.0.2\", \"127.0.0.1:5353\" or "
    "\"[2001:db8::1]:53\"";

static int take_number(const struct config_row *row, void *to, struct str text, const char *pointer,
                       struct problems *problems)
{
    uint64_t value = 0;
    int err = row->kind == KIND_SIZE       ? size_parse(text, &value)
              : row->kind == KIND_DURATION ? duration_parse(text, &value)
                                           : str_to_u64(text, &value);
    char range[2 * VALUE_TEXT_MAX];
    char must[3 * VALUE_TEXT_MAX];
    config_format_range(row, range, sizeof range);
    if (err != 0) {
        snprintf(must, sizeof must, "a %s%s", config_kind_name(row->kind),
                 row->kind == KIND_SIZE       ? " such as \"64k\" or \"100m\""
                 : row->kind == KIND_DURATION ? " such as \"500ms\", \"5s\" or \"1h\""
                                              : "");
        return wrong(problems, pointer, row, must, text);
    }
    if (value < row->min || value > row->max) {
        return wrong(problems, pointer, row, range[0] == '\0' ? "smaller" : range, text);
    }
    if (row->kind == KIND_SIZE) {
        *(uint64_t *)to = value;
    } else {
        *(unsigned *)to = (unsigned)value;
    }
    return 0;
}

static int take_word(const struct config_row *row, void *to, struct str text, const char *pointer,
                     struct problems *problems)
{
    for (unsigned i = 0; row->words->texts[i] != NULL; i++) {
        if (str_eq(text, str_from_c(row->words->texts[i]))) {
            *(unsigned *)to = i;
            return 0;
        }
    }
    char must[VALUE_TEXT_MAX * 2];
    size_t len = str_copy(must, sizeof must, STR("one of "));
    format_words(row->words, must + len, sizeof must - len);
    return wrong(problems, pointer, row, must, text);
}

// What follows is read by redis/redis_url.c, which is below.
static bool is_redis(struct str text)
{
    static const char *const schemes[] = {"redis://",          "rediss://",
                                          "redis+sentinel://", "rediss+sentinel://",
                                          "redis+unix://",     "unix://"};
    for (unsigned i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (str_starts(text, str_from_c(schemes[i]))) {
            return true;
        }
    }
    return false;
}

bool config_store_is_redis(const struct config *config)
{
    return is_redis(str_from_c(config->store.url));
}

static int take_store(char **to, const struct config_row *row, struct str text, const char *pointer,
                      struct problems *problems)
{
    // The address is not quoted: a store's URL may hold a password.
    bool is_sqlite = str_starts(text, STR("sqlite:")) && text.len > STR("sqlite:").len;
    bool is_files = str_starts(text, STR("file:")) && text.len > STR("file:").len;
    if ((!is_sqlite && !is_files && !is_redis(text)) || text.len > row->max) {
        return problems_add(problems, ERR_INVALID, pointer,
                            "%.*s must be \"sqlite:FILE\", \"file:FOLDER\", \"redis://HOST\" "
                            "(rediss: with TLS) or \"redis+sentinel://HOST/NAME\"",
                            STR_ARG(row->path));
    }
    return put_text(to, text, pointer, problems);
}

const char *config_store_folder(const struct config *config)
{
    const char *url = config->store.url;
    return strncmp(url, "file:", 5) == 0 ? url + 5 : NULL;
}

// store.local follows store.url. 0, or ERR_MEMORY.
static int follow_store(struct config *config)
{
    if (config->store.local_is_set) {
        return 0;
    }
    // Else the file is a replica.
    bool is_own = config_store_folder(config) == NULL && !config_store_is_redis(config);
    char *local = str_dup(is_own ? str_from(str_from_c(config->store.url), sizeof "sqlite:" - 1)
                                 : STR("pointsman.db"));
    if (local == NULL) {
        return ERR_MEMORY;
    }
    free(config->store.local);
    config->store.local = local;
    return 0;
}

// The default addresses are one set: the first address that is given, for HTTP or HTTPS, replaces all
// of it. (The set itself is made through here, too, one list after the other.)
static void clear_listeners(struct config *config)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        if (config_rows[i].kind == KIND_ADDRESSES) {
            config_clear_list(config, &config_rows[i]);
        }
    }
    config->listen.is_declared = true;
}

static int add_element(struct config *config, const struct config_row *row, struct str text,
                       const char *pointer, struct problems *problems)
{
    void *to = (char *)config + row->offset;
    unsigned *count = (unsigned *)(void *)((char *)config + row->count_offset);
    unsigned max = row->kind == KIND_CIDRS ? (unsigned)CONFIG_CIDRS_MAX : CONFIG_LISTEN_MAX;
    if (*count == max) {
        return problems_add(problems, ERR_INVALID, pointer, "%.*s has more than %u elements",
                            STR_ARG(row->path), max);
    }
    if (row->kind == KIND_CIDRS) {
        struct cidr cidr;
        if (cidr_parse(text, &cidr) != 0) {
            return wrong(problems, pointer, row, "networks such as \"10.0.0.0/8\"", text);
        }
        struct cidr **list = to;
        struct cidr *grown = realloc(*list, (*count + 1) * sizeof *grown);
        if (grown == NULL) {
            return problems_add(problems, ERR_MEMORY, pointer, "%s", err_text(ERR_MEMORY));
        }
        grown[(*count)++] = cidr;
        *list = grown;
        return 0;
    }
    bool is_listener = row->kind == KIND_ADDRESSES;
    if (is_listener ? !address_is_valid(text) : !server_is_valid(text)) {
        return wrong(problems, pointer, row, is_listener ? address_must : server_must, text);
    }
    if (is_listener && !config->listen.is_declared) {
        clear_listeners(config);
    }
    char **list = to;
    list[*count] = NULL;
    int err = put_text(&list[*count], text, pointer, problems);
    *count += err == 0;
    return err;
}

void config_clear_list(struct config *config, const struct config_row *row)
{
    void *to = (char *)config + row->offset;
    unsigned *count = (unsigned *)(void *)((char *)config + row->count_offset);
    if (row->kind == KIND_CIDRS) {
        struct cidr **list = to;
        free(*list);
        *list = NULL;
    } else {
        char **list = to;
        for (unsigned i = 0; i < *count; i++) {
            free(list[i]);
            list[i] = NULL;
        }
    }
    *count = 0;
}

static int take_path(struct config *config, const struct config_row *row, char **to,
                     struct str text, const char *pointer, struct problems *problems)
{
    if (text.len < row->min || text.len > row->max) {
        char must[VALUE_TEXT_MAX];
        snprintf(must, sizeof must, "%" PRIu64 " to %" PRIu64 " bytes long", row->min, row->max);
        return wrong(problems, pointer, row, must, text);
    }
    int err = put_text(to, text, pointer, problems);
    if (err == 0 && to == &config->store.local) {
        config->store.local_is_set = text.len > 0;
        err = follow_store(config);
    }
    return err;
}

int config_take_value(struct config *config, const struct config_row *row, struct str text,
                      const char *pointer, struct problems *problems)
{
    // What follows, and its messages, take the text as terminated.
    char copy[8192];
    if (text.len >= sizeof copy || (text.len > 0 && memchr(text.p, '\0', text.len) != NULL)) {
        return problems_add(problems, ERR_INVALID, pointer, "%.*s is too long or holds a NUL byte",
                            STR_ARG(row->path));
    }
    str_copy(copy, sizeof copy, text);
    text = str_make(copy, text.len);
    void *to = (char *)config + row->offset;
    int err = 0;
    switch (row->kind) {
    case KIND_TEXT:
    case KIND_PATH:
        return take_path(config, row, to, text, pointer, problems);
    case KIND_ADDRESS:
        if ((text.len == 0 && row->initial[0] == '\0') || address_is_valid(text)) {
            return put_text(to, text, pointer, problems);
        }
        return wrong(problems, pointer, row, address_must, text);
    case KIND_BOOL:
        if (!str_eq(text, STR("true")) && !str_eq(text, STR("false"))) {
            return wrong(problems, pointer, row, "true or false", text);
        }
        *(bool *)to = text.p[0] == 't';
        return 0;
    case KIND_WORKERS:
        if (str_eq(text, STR("auto"))) {
            *(unsigned *)to = 0;
            return 0;
        }
        return take_number(row, to, text, pointer, problems);
    case KIND_UINT:
    case KIND_SIZE:
    case KIND_DURATION:
        return take_number(row, to, text, pointer, problems);
    case KIND_WORD:
        return take_word(row, to, text, pointer, problems);
    case KIND_STORE:
        err = take_store(to, row, text, pointer, problems);
        return err != 0 ? err : follow_store(config);
    case KIND_ADDRESSES:
    case KIND_CIDRS:
    case KIND_SERVERS:
        return add_element(config, row, text, pointer, problems);
    }
    return err;
}
