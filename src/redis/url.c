// SPDX-License-Identifier: MIT
// The parts of a URL. What does not fit is never quoted in a problem: in a URL whose password was not
// encoded, any part may be a piece of the password.
#include "net/address.h"
#include "redis/redis.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

enum {
    URL_MAX = 4096,
    NAME_MAX_LEN = 253, // of a host name, RFC 1035 2.3.4
    REDIS_PORT = 6379,
    SENTINEL_PORT = 26379,
    DB_MAX = 0x7fffffff,
};

struct scheme {
    struct str text; // with "://"
    enum redis_scheme scheme;
    bool is_tls;
};

static const struct scheme schemes[] = {
    {{"redis://", 8}, REDIS_TCP, false},
    {{"rediss://", 9}, REDIS_TCP, true},
    {{"redis+sentinel://", 17}, REDIS_SENTINEL, false},
    {{"rediss+sentinel://", 18}, REDIS_SENTINEL, true},
    {{"redis+unix://", 13}, REDIS_UNIX, false},
    {{"unix://", 7}, REDIS_UNIX, false},
};

static const struct scheme *find_scheme(struct str text)
{
    for (unsigned i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (str_starts_case(text, schemes[i].text)) {
            return &schemes[i];
        }
    }
    return NULL;
}

bool redis_url_is(struct str text)
{
    return find_scheme(text) != NULL;
}

// What the functions below share: where to say what is wrong.
struct parse {
    struct redis_url *url;
    struct problems *problems;
    bool has_db;
};

static int refuse(struct parse *parse, const char *what)
{
    return problems_add(parse->problems, ERR_INVALID, "", "%s", what);
}

static int out_of_memory(struct parse *parse)
{
    return problems_add(parse->problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
}

// Percent-decoding into fresh memory. ERR_SYNTAX: not two digits, or a NUL; ERR_MEMORY.
static int decode(struct str text, char **to)
{
    char *copy = malloc(text.len + 1);
    if (copy == NULL) {
        return ERR_MEMORY;
    }
    size_t len = 0;
    int err = 0;
    for (size_t i = 0; i < text.len && err == 0; i++) {
        char c = text.p[i];
        if (c == '%') {
            int high = i + 2 < text.len ? ascii_hex(text.p[i + 1]) : -1;
            int low = i + 2 < text.len ? ascii_hex(text.p[i + 2]) : -1;
            c = (char)(high < 0 || low < 0 ? 0 : high * 16 + low);
            err = c == 0 ? ERR_SYNTAX : 0;
            i += 2;
        }
        copy[len++] = c;
    }
    copy[len] = 0;
    if (err != 0) {
        explicit_bzero(copy, len);
        free(copy);
        return err;
    }
    *to = copy;
    return 0;
}

// The same for a field of the URL, which replaces what is there.
static int set_text(struct parse *parse, char **field, struct str text, const char *what)
{
    char *copy = NULL;
    int err = decode(text, &copy);
    if (err == ERR_MEMORY) {
        return out_of_memory(parse);
    }
    if (err != 0) {
        return refuse(parse, what);
    }
    free(*field);
    *field = copy;
    return 0;
}

// ---- user and password ----

static int parse_login(struct parse *parse, struct str login)
{
    struct str user;
    struct str password;
    static const char bad[] = "user and password: % is followed by two hexadecimal digits, not 00";
    if (!str_split(login, ':', &user, &password)) {
        return refuse(parse, "a user has a password: USER:PASSWORD@, or :PASSWORD@");
    }
    int err = set_text(parse, &parse->url->user, user, bad);
    return err != 0 ? err : set_text(parse, &parse->url->password, password, bad);
}

// ---- hosts ----

static bool is_name(struct str host)
{
    if (host.len == 0 || host.len > NAME_MAX_LEN || host.p[0] == '.' || host.p[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        char c = ascii_lower(host.p[i]);
        if (!(c >= 'a' && c <= 'z') && !ascii_is_digit(c) && c != '-' && c != '.' && c != '_') {
            return false;
        }
    }
    return str_find(host, STR("..")) == SIZE_MAX;
}

// A name whose last label is a number can only be an IPv4 address.
static bool is_address_or_name(struct str host)
{
    struct in6_addr address;
    if (net_parse_in6(host, &address) == 0) {
        return true;
    }
    size_t dot = str_rfind_char(host, '.');
    uint64_t number;
    struct str last = dot == SIZE_MAX ? host : str_from(host, dot + 1);
    return is_name(host) && str_to_u64(last, &number) != 0;
}

// Takes host and port apart. False: not an address or a name.
static bool split_host(struct str text, struct str *host, bool *has_port, struct str *port)
{
    *has_port = false;
    if (text.len > 0 && text.p[0] == '[') {
        size_t end = str_find_char(text, ']');
        struct in6_addr address;
        if (end == SIZE_MAX) {
            return false;
        }
        *host = str_sub(text, 1, end - 1);
        struct str rest = str_from(text, end + 1);
        if (rest.len > 0) {
            if (rest.p[0] != ':') {
                return false;
            }
            *port = str_from(rest, 1);
            *has_port = true;
        }
        return str_find_char(*host, ':') != SIZE_MAX && net_parse_in6(*host, &address) == 0;
    }
    *has_port = str_split(text, ':', host, port);
    return is_address_or_name(*host);
}

static int add_host(struct parse *parse, struct str text)
{
    struct redis_url *url = parse->url;
    struct str host;
    struct str port_text;
    bool has_port;
    if (url->host_count == REDIS_HOST_MAX) {
        return refuse(parse, "more than 16 hosts");
    }
    if (text.len == 0 || text.p[0] == ':') {
        return refuse(parse, "there is no host (in user and password, / ? # and @ are written "
                             "%2F %3F %23 and %40)");
    }
    if (!split_host(text, &host, &has_port, &port_text)) {
        return refuse(parse, "the host is not a name, an IPv4 address, or an IPv6 address in []");
    }
    uint64_t port = url->scheme == REDIS_SENTINEL ? SENTINEL_PORT : REDIS_PORT;
    if (has_port && (str_to_u64(port_text, &port) != 0 || port == 0 || port > 65535)) {
        return refuse(parse, "the port is not a number from 1 to 65535");
    }
    char *copy = str_dup(host);
    if (copy == NULL) {
        return out_of_memory(parse);
    }
    url->hosts[url->host_count++] = (struct redis_host){.name = copy, .port = (uint16_t)port};
    return 0;
}

static int parse_hosts(struct parse *parse, struct str text)
{
    if (parse->url->scheme != REDIS_SENTINEL) {
        return str_find_char(text, ',') != SIZE_MAX
                   ? refuse(parse, "several hosts are for redis+sentinel:// alone")
                   : add_host(parse, text);
    }
    bool has_more = true;
    int err = 0;
    while (has_more && err == 0) {
        struct str host;
        has_more = str_split(text, ',', &host, &text);
        err = add_host(parse, host);
    }
    return err;
}

// ---- path and query ----

static int set_db(struct parse *parse, struct str text)
{
    uint64_t db;
    if (parse->has_db) {
        return refuse(parse, "the database is given twice");
    }
    if (str_to_u64(text, &db) != 0 || db > DB_MAX) {
        return refuse(parse, "the database is not a number, as in redis://HOST:6379/0");
    }
    parse->url->db = (unsigned)db;
    parse->has_db = true;
    return 0;
}

// "/db"; of Sentinels "/master[/db]"; of a socket its path.
static int parse_path(struct parse *parse, struct str path)
{
    struct redis_url *url = parse->url;
    if (url->scheme == REDIS_UNIX) {
        int err = set_text(parse, &url->path, path, "the path of the socket: bad %-encoding");
        size_t len = err == 0 ? strlen(url->path) : 0;
        if (err == 0 && (len < 2 || len >= sizeof((struct sockaddr_un *)NULL)->sun_path)) {
            return refuse(parse, "the path of the socket has 2 to 107 bytes");
        }
        return err;
    }
    struct str rest = str_from(path, 1);
    if (url->scheme == REDIS_SENTINEL) {
        struct str master;
        str_split(rest, '/', &master, &rest);
        if (master.len == 0) {
            return refuse(parse, "the name of the primary is missing: "
                                 "redis+sentinel://HOST,HOST/NAME");
        }
        int err = set_text(parse, &url->master, master, "the primary's name: bad %-encoding");
        if (err != 0) {
            return err;
        }
    }
    return rest.len == 0 ? 0 : set_db(parse, rest);
}

static int set_query(struct parse *parse, struct str name, struct str value)
{
    struct redis_url *url = parse->url;
    bool is_user = str_eq(name, STR("sentinel_user"));
    if (str_eq(name, STR("db"))) {
        return set_db(parse, value);
    }
    if (!is_user && !str_eq(name, STR("sentinel_password"))) {
        return refuse(parse, "an unknown field after \"?\": there are db, sentinel_user and "
                             "sentinel_password");
    }
    if (url->scheme != REDIS_SENTINEL) {
        return refuse(parse, "sentinel_user and sentinel_password are for redis+sentinel:// alone");
    }
    char **field = is_user ? &url->sentinel_user : &url->sentinel_password;
    if (*field != NULL) {
        return refuse(parse, "a field after \"?\" is given twice");
    }
    return set_text(parse, field, value, "a field after \"?\": bad %-encoding");
}

static int parse_query(struct parse *parse, struct str query)
{
    int err = 0;
    while (query.len > 0 && err == 0) {
        struct str field;
        struct str name;
        struct str value;
        str_split(query, '&', &field, &query);
        if (field.len > 0) {
            str_split(field, '=', &name, &value);
            err = set_query(parse, name, value);
        }
    }
    return err;
}

// ---- the whole ----

static void show(struct redis_url *url, struct str scheme)
{
    size_t len = 0;
    size_t size = sizeof url->shown;
#define SHOW(...)                                                                        \
    do {                                                                                 \
        int more = snprintf(url->shown + len, size - len, __VA_ARGS__);                  \
        len += more < 0 ? 0 : (size_t)more < size - len ? (size_t)more : size - len - 1; \
    } while (0)
    SHOW("%.*s", STR_ARG(scheme));
    if (url->user != NULL && url->user[0] != 0 && url->scheme != REDIS_UNIX) {
        SHOW("%s@", url->user);
    }
    for (unsigned i = 0; i < url->host_count; i++) {
        bool is_v6 = strchr(url->hosts[i].name, ':') != NULL;
        SHOW("%s%s%s%s:%u", i == 0 ? "" : ",", is_v6 ? "[" : "", url->hosts[i].name,
             is_v6 ? "]" : "", url->hosts[i].port);
    }
    if (url->scheme == REDIS_UNIX) {
        SHOW("%s", url->path);
    }
    if (url->scheme == REDIS_SENTINEL) {
        SHOW("/%s", url->master);
    }
    if (url->db != 0) {
        SHOW(url->scheme == REDIS_UNIX ? "?db=%u" : "/%u", url->db);
    }
#undef SHOW
    for (size_t i = 0; i < len; i++) { // decoded, a name may hold anything
        if ((unsigned char)url->shown[i] < 0x20 || (unsigned char)url->shown[i] > 0x7e) {
            url->shown[i] = '?';
        }
    }
}

// The optional texts are "" when they are not given.
static int fill_up(struct parse *parse)
{
    char **const fields[] = {&parse->url->path,
                             &parse->url->user,
                             &parse->url->password,
                             &parse->url->sentinel_user,
                             &parse->url->sentinel_password,
                             &parse->url->master};
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (*fields[i] == NULL) {
            *fields[i] = str_dup(STR(""));
            if (*fields[i] == NULL) {
                return out_of_memory(parse);
            }
        }
    }
    return 0;
}

static int check_bytes(struct parse *parse, struct str text)
{
    if (text.len > URL_MAX) {
        return refuse(parse, "longer than 4096 bytes");
    }
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.p[i] <= 0x20 || text.p[i] == 0x7f) {
            return refuse(parse, "holds a space or a control byte");
        }
    }
    return str_find_char(text, '#') != SIZE_MAX ? refuse(parse, "a # is written %23") : 0;
}

static int parse_rest(struct parse *parse, struct str rest)
{
    struct str query;
    struct str login = STR_NULL;
    bool has_query = str_split(rest, '?', &rest, &query);
    size_t slash = str_find_char(rest, '/');
    struct str authority = str_sub(rest, 0, slash);
    struct str path = str_from(rest, authority.len);
    size_t at = str_rfind_char(authority, '@');
    if (at != SIZE_MAX) {
        login = str_sub(authority, 0, at);
        authority = str_from(authority, at + 1);
    }
    int err = 0;
    if (parse->url->scheme == REDIS_UNIX) {
        if (at != SIZE_MAX || authority.len > 0) {
            return refuse(parse, "a unix socket has neither user nor host: redis+unix:///PATH");
        }
    } else {
        err = parse_hosts(parse, authority);
        err = err == 0 && at != SIZE_MAX ? parse_login(parse, login) : err;
    }
    err = err == 0 ? parse_path(parse, path) : err;
    return err == 0 && has_query ? parse_query(parse, query) : err;
}

int redis_url_parse(struct redis_url *url, struct str text, struct problems *problems)
{
    *url = (struct redis_url){0};
    struct parse parse = {.url = url, .problems = problems};
    const struct scheme *scheme = find_scheme(text);
    if (scheme == NULL) {
        return refuse(&parse, "not redis://, rediss://, redis+sentinel://, rediss+sentinel://, "
                              "redis+unix:// or unix://");
    }
    url->scheme = scheme->scheme;
    url->is_tls = scheme->is_tls;
    int err = check_bytes(&parse, text);
    err = err == 0 ? parse_rest(&parse, str_from(text, scheme->text.len)) : err;
    err = err == 0 ? fill_up(&parse) : err;
    if (err == 0) {
        show(url, scheme->text);
    }
    return err;
}

static void wipe(char **text)
{
    if (*text != NULL) {
        explicit_bzero(*text, strlen(*text));
        free(*text);
        *text = NULL;
    }
}

void redis_url_fini(struct redis_url *url)
{
    for (unsigned i = 0; i < url->host_count; i++) {
        free(url->hosts[i].name);
    }
    wipe(&url->password);
    wipe(&url->sentinel_password);
    wipe(&url->user);
    wipe(&url->sentinel_user);
    free(url->path);
    free(url->master);
    *url = (struct redis_url){0};
}
