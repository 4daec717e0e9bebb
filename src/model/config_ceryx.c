// SPDX-License-Identifier: MIT
// The environment of Ceryx as settings of ours, for those who change nothing but the program.
#include "base/buf.h"
#include "base/log.h"
#include "model/config_int.h"

enum variable {
    REDIS_HOST,
    REDIS_PORT,
    REDIS_PASSWORD,
    REDIS_PREFIX,
    REDIS_TIMEOUT,
    API_HOST,
    API_PORT,
    BODY_SIZE,
    CERTIFICATE,
    KEY,
    OLD_CERTIFICATE,
    OLD_KEY,
    RESOLVER,
    DEBUG,
    LOG_LEVEL,
    VARIABLE_COUNT,
};

static const struct str names[VARIABLE_COUNT] = {
    [REDIS_HOST] = {"CERYX_REDIS_HOST", 16},
    [REDIS_PORT] = {"CERYX_REDIS_PORT", 16},
    [REDIS_PASSWORD] = {"CERYX_REDIS_PASSWORD", 20},
    [REDIS_PREFIX] = {"CERYX_REDIS_PREFIX", 18},
    [REDIS_TIMEOUT] = {"CERYX_REDIS_TIMEOUT", 19},
    [API_HOST] = {"CERYX_API_HOST", 14},
    [API_PORT] = {"CERYX_API_PORT", 14},
    [BODY_SIZE] = {"CERYX_MAX_REQUEST_BODY_SIZE", 27},
    [CERTIFICATE] = {"CERYX_SSL_DEFAULT_CERTIFICATE", 29},
    [KEY] = {"CERYX_SSL_DEFAULT_KEY", 21},
    [OLD_CERTIFICATE] = {"CERYX_SSL_CERT", 14},
    [OLD_KEY] = {"CERYX_SSL_CERT_KEY", 18},
    [RESOLVER] = {"CERYX_DNS_RESOLVER", 18},
    [DEBUG] = {"CERYX_DEBUG", 11},
    [LOG_LEVEL] = {"CERYX_LOG_LEVEL", 15},
};

// The levels of nginx, which Ceryx was made of.
static const struct {
    struct str theirs;
    struct str ours;
} levels[] = {
    {{"debug", 5}, {"debug", 5}},  {{"info", 4}, {"info", 4}},   {{"notice", 6}, {"info", 4}},
    {{"warn", 4}, {"warning", 7}}, {{"error", 5}, {"error", 5}}, {{"crit", 4}, {"error", 5}},
    {{"alert", 5}, {"error", 5}},  {{"emerg", 5}, {"error", 5}},
};

struct source {
    struct config *config;
    struct problems *problems;
    struct str values[VARIABLE_COUNT]; // p NULL: not set, or empty
    bool has_certificate;              // POINTSMAN_… names one
    int err;
};

static void set(struct source *source, const char *path, struct str value, enum variable from)
{
    int err =
        config_set(source->config, str_from_c(path), value, false, names[from].p, source->problems);
    source->err = source->err != 0 ? source->err : err;
}

static void refuse(struct source *source, enum variable from, const char *must)
{
    int err = problems_add(source->problems, ERR_INVALID, names[from].p, "must be %s", must);
    source->err = source->err != 0 ? source->err : err;
}

static void set_text(struct source *source, const char *path, const struct buf *text,
                     enum variable from)
{
    if (text->failed) {
        source->err = problems_add(source->problems, ERR_MEMORY, names[from].p, "out of memory");
    } else {
        set(source, path, buf_str(text), from);
    }
}

static struct str value_or(const struct source *source, enum variable variable, struct str other)
{
    return source->values[variable].p != NULL ? source->values[variable] : other;
}

static bool is_address_v6(struct str host)
{
    return str_find_char(host, ':') != SIZE_MAX && !str_starts(host, STR("["));
}

// "HOST:PORT", with brackets where they are needed.
static void put_address(struct buf *to, struct str host, struct str port)
{
    bool is_v6 = is_address_v6(host);
    buf_put(to, is_v6 ? STR("[") : STR(""));
    buf_put(to, host);
    buf_put(to, is_v6 ? STR("]:") : STR(":"));
    buf_put(to, port);
}

static void put_escaped(struct buf *to, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        bool is_plain = ascii_is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
                        c == '-' || c == '.' || c == '_' || c == '~';
        if (is_plain) {
            buf_put_char(to, c);
        } else {
            buf_printf(to, "%%%02X", (unsigned char)c);
        }
    }
}

static bool is_port(struct str text)
{
    uint64_t port;
    return text.len <= 5 && str_to_u64(text, &port) == 0 && port > 0 && port <= UINT16_MAX;
}

static void take_redis(struct source *source)
{
    if (source->values[REDIS_HOST].p == NULL && source->values[REDIS_PORT].p == NULL &&
        source->values[REDIS_PASSWORD].p == NULL) {
        return;
    }
    struct str port = value_or(source, REDIS_PORT, STR("6379"));
    if (!is_port(port)) {
        refuse(source, REDIS_PORT, "a port, 1 to 65535");
        return;
    }
    struct buf url;
    buf_init(&url, 0);
    buf_put(&url, STR("redis://"));
    if (source->values[REDIS_PASSWORD].p != NULL) {
        buf_put_char(&url, ':');
        put_escaped(&url, source->values[REDIS_PASSWORD]);
        buf_put_char(&url, '@');
    }
    put_address(&url, value_or(source, REDIS_HOST, STR("127.0.0.1")), port);
    buf_put(&url, STR("/0"));
    set_text(source, "store.url", &url, REDIS_HOST);
    if (url.p != NULL) {
        explicit_bzero(url.p, url.len);
    }
    buf_fini(&url);
}

static void take_timeout(struct source *source)
{
    uint64_t ms;
    if (source->values[REDIS_TIMEOUT].p == NULL) {
        return;
    }
    if (str_to_u64(source->values[REDIS_TIMEOUT], &ms) != 0 || ms == 0) {
        refuse(source, REDIS_TIMEOUT, "a number of milliseconds");
        return;
    }
    struct buf text;
    buf_init(&text, 0);
    buf_printf(&text, "%llums", (unsigned long long)ms);
    set_text(source, "ceryx.miss_timeout", &text, REDIS_TIMEOUT);
    buf_fini(&text);
}

static void take_api(struct source *source)
{
    if (source->values[API_HOST].p == NULL && source->values[API_PORT].p == NULL) {
        return;
    }
    struct str port = value_or(source, API_PORT, STR("5555"));
    if (!is_port(port)) {
        refuse(source, API_PORT, "a port, 1 to 65535");
        return;
    }
    struct buf text;
    buf_init(&text, 0);
    put_address(&text, value_or(source, API_HOST, STR("127.0.0.1")), port);
    set_text(source, "ceryx.api_address", &text, API_HOST);
    buf_fini(&text);
}

// Certificate and key come together: half a pair of one source and half of another would not fit.
static void take_certificate(struct source *source)
{
    enum variable of = source->values[CERTIFICATE].p != NULL ? CERTIFICATE : OLD_CERTIFICATE;
    enum variable key = source->values[KEY].p != NULL ? KEY : OLD_KEY;
    if (source->values[of].p != NULL && !source->has_certificate) {
        set(source, "tls.default_certificate", source->values[of], of);
        set(source, "tls.default_key", value_or(source, key, STR("")), key);
    }
}

// "10.0.0.10 10.0.0.11 valid=30s": what has a '=' is a parameter of nginx.
static void take_resolver(struct source *source)
{
    struct str rest = source->values[RESOLVER];
    struct buf list;
    buf_init(&list, 0);
    while (rest.len > 0) {
        size_t end = 0;
        while (end < rest.len && rest.p[end] != ' ' && rest.p[end] != ',') {
            end++;
        }
        struct str word = str_sub(rest, 0, end);
        rest = str_from(rest, end + 1);
        if (word.len > 0 && str_find_char(word, '=') == SIZE_MAX) {
            buf_put(&list, list.len == 0 ? STR("") : STR(","));
            buf_put(&list, word);
        }
    }
    if (list.len > 0) {
        set_text(source, "dns.servers", &list, RESOLVER);
    }
    buf_fini(&list);
}

static void take_level(struct source *source)
{
    struct str given = source->values[LOG_LEVEL];
    bool is_known = given.p == NULL;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0] && !is_known; i++) {
        is_known = str_eq_case(given, levels[i].theirs);
        if (is_known) {
            set(source, "log.level", levels[i].ours, LOG_LEVEL);
        }
    }
    if (!is_known) {
        refuse(source, LOG_LEVEL, "one of debug, info, notice, warn, error, crit, alert, emerg");
    }
    struct str debug = source->values[DEBUG];
    if (str_eq_case(debug, STR("true")) || str_eq_case(debug, STR("yes")) ||
        str_eq(debug, STR("1"))) {
        set(source, "log.level", STR("debug"), DEBUG);
    }
}

// One line for all that is not known; others of an orchestrator (CERYX_API_SERVICE_HOST) are not ours to judge.
static void tell_unknown(const struct buf *unknown)
{
    if (unknown->len > 0 && !unknown->failed) {
        log_info("variables of Ceryx that count for nothing here:%.*s", STR_ARG(buf_str(unknown)));
    }
}

static void collect(struct source *source, char **environment)
{
    enum { SHOWN_MAX = 1000 };
    struct buf unknown;
    buf_init(&unknown, SHOWN_MAX);
    for (unsigned i = 0; environment[i] != NULL; i++) {
        struct str name;
        struct str value;
        bool is_pair = str_split(str_from_c(environment[i]), '=', &name, &value);
        source->has_certificate =
            source->has_certificate || str_eq(name, STR("POINTSMAN_TLS_DEFAULT_CERTIFICATE"));
        if (!is_pair || !str_starts(name, STR("CERYX_"))) {
            continue;
        }
        unsigned at = 0;
        while (at < VARIABLE_COUNT && !str_eq(name, names[at])) {
            at++;
        }
        // An orchestrator sets CERYX_REDIS_PORT to this for a service that is called ceryx-redis.
        bool is_service = str_starts(value, STR("tcp://"));
        if (at < VARIABLE_COUNT && value.len > 0 && !is_service) {
            source->values[at] = value;
        } else if (at == VARIABLE_COUNT && !is_service) {
            buf_put_char(&unknown, ' ');
            buf_put(&unknown, name);
        }
    }
    tell_unknown(&unknown);
    buf_fini(&unknown);
}

int config_read_ceryx(struct config *config, char **environment, struct problems *problems)
{
    struct source source = {.config = config, .problems = problems};
    collect(&source, environment);
    take_redis(&source);
    if (source.values[REDIS_PREFIX].p != NULL) {
        set(&source, "ceryx.prefix", source.values[REDIS_PREFIX], REDIS_PREFIX);
    }
    take_timeout(&source);
    take_api(&source);
    if (source.values[BODY_SIZE].p != NULL) {
        set(&source, "limits.body", source.values[BODY_SIZE], BODY_SIZE);
    }
    take_certificate(&source);
    take_resolver(&source);
    take_level(&source);
    return source.err;
}
