// SPDX-License-Identifier: MIT
// Middlewares. What decides who is served, and cannot be said here, takes the router with it; the rest is told.
#include "cli/import_traefik_int.h"
#include <strings.h>

enum meaning {
    MEANS_FIELDS, // has fields here
    MEANS_MORE,   // what is missing without it is comfort: told
    MEANS_WHO,    // it decides who gets what: the router is left out
};

static void refuse(struct traefik_effects *effects, const char *why, struct str about)
{
    if (effects->reason[0] == '\0') {
        snprintf(effects->reason, sizeof effects->reason, "middleware %.*s: %s", STR_ARG(about),
                 why);
    }
}

static json_t *member(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    if (value == NULL) {
        value = json_object();
        json_object_set_new(object, name, value);
    }
    return value;
}

// ---- headers ----

static void put_header(json_t *fields, const char *rules, struct str name, const char *value)
{
    json_t *rule = member(fields, rules);
    if (value[0] == '\0') { // an empty one is taken away
        json_t *names = json_object_get(rule, "remove");
        if (names == NULL) {
            names = json_array();
            json_object_set_new(rule, "remove", names);
        }
        json_array_append_new(names, json_stringn(name.p, name.len));
        return;
    }
    json_object_setn_new(member(rule, "set"), name.p, name.len, json_string(value));
}

static void put_headers_of(const struct tree_node *node, const char *folder, json_t *fields,
                           const char *rules)
{
    struct tree_node headers = node_at(node, str_from_c(folder));
    for (size_t i = headers.from; i < headers.to; i++) {
        struct tree_item *item = &headers.tree->items[i];
        struct str name = str_from_c(item->key + headers.depth);
        if (str_find_char(name, '/') == SIZE_MAX) {
            item->is_used = true;
            put_header(fields, rules, name, item->value);
        }
    }
}

static const struct {
    const char *flag;
    const char *name;
    const char *value; // NULL: that of the flag
} secure_headers[] = {
    {"frameDeny", "X-Frame-Options", "DENY"},
    {"contentTypeNosniff", "X-Content-Type-Options", "nosniff"},
    {"browserXssFilter", "X-XSS-Protection", "1; mode=block"},
    {"customFrameOptionsValue", "X-Frame-Options", NULL},
    {"customBrowserXSSValue", "X-XSS-Protection", NULL},
    {"contentSecurityPolicy", "Content-Security-Policy", NULL},
    {"contentSecurityPolicyReportOnly", "Content-Security-Policy-Report-Only", NULL},
    {"referrerPolicy", "Referrer-Policy", NULL},
    {"permissionsPolicy", "Permissions-Policy", NULL},
};

static void apply_headers(const struct tree_node *node, struct traefik_effects *effects)
{
    put_headers_of(node, "customRequestHeaders", effects->fields, "request_headers");
    put_headers_of(node, "customResponseHeaders", effects->fields, "response_headers");
    for (size_t i = 0; i < sizeof secure_headers / sizeof secure_headers[0]; i++) {
        const char *given = node_value(node, secure_headers[i].flag);
        const char *fixed = secure_headers[i].value;
        if (given != NULL && (fixed == NULL || strcasecmp(given, "true") == 0)) {
            put_header(effects->fields, "response_headers", str_from_c(secure_headers[i].name),
                       fixed != NULL ? fixed : given);
        }
    }
    const char *seconds = node_value(node, "stsSeconds");
    if (seconds != NULL && strcmp(seconds, "0") != 0) {
        char text[32];
        snprintf(text, sizeof text, "%.20ss", seconds);
        json_object_set_new(effects->fields, "hsts", json_string(text));
    }
    if (node_is_true(node, "sslRedirect")) {
        json_object_set_new(effects->fields, "https", json_string("require"));
    }
    struct tree_node hosts = node_at(node, STR("allowedHosts"));
    if (!node_is_empty(&hosts)) {
        refuse(effects, "allowedHosts is not understood", STR("headers"));
    }
}

// ---- the others that have fields ----

static void apply_allow(const struct tree_node *node, struct traefik_effects *effects)
{
    struct str *ranges = calloc(TRAEFIK_LIST_MAX, sizeof *ranges);
    int count = ranges == NULL ? -1 : node_list(node, "sourceRange", ranges, TRAEFIK_LIST_MAX);
    struct tree_node strategy = node_at(node, STR("ipStrategy"));
    if (count <= 0) {
        refuse(effects, "no sourceRange, or too many", STR("ipAllowList"));
    } else if (!node_is_empty(&strategy)) {
        refuse(effects, "ipStrategy is not understood: trusted_proxies says whose word counts",
               STR("ipAllowList"));
    } else if (json_object_get(effects->fields, "allow") != NULL) {
        refuse(effects, "a second one is not understood", STR("ipAllowList"));
    } else {
        json_t *allow = json_array();
        for (int i = 0; i < count; i++) {
            json_array_append_new(allow, json_stringn(ranges[i].p, ranges[i].len));
        }
        json_object_set_new(effects->fields, "allow", allow);
    }
    free(ranges);
}

static void apply_redirect_scheme(const struct tree_node *node, struct traefik_effects *effects)
{
    const char *scheme = node_value(node, "scheme");
    const char *port = node_value(node, "port");
    bool is_permanent = node_is_true(node, "permanent");
    if (scheme == NULL || strcasecmp(scheme, "https") != 0) {
        refuse(effects, "redirects to https only are understood", STR("redirectScheme"));
    } else if (port != NULL && port[0] != '\0' && strcmp(port, "443") != 0) {
        refuse(effects, "https_port says where all redirects to https lead", STR("redirectScheme"));
    } else {
        effects->redirects = true;
        effects->redirect_status = is_permanent ? 301 : 302;
    }
}

static void apply_strip(const struct tree_node *node, struct traefik_effects *effects)
{
    unsigned max = sizeof effects->strip / sizeof effects->strip[0];
    int count = node_list(node, "prefixes", effects->strip, max);
    node_value(node, "forceSlash"); // what is left of a path begins with '/' here in any case
    if (count <= 0 || effects->strip_count > 0) {
        refuse(effects, "no prefixes, or too many", STR("stripPrefix"));
        return;
    }
    effects->strip_count = (unsigned)count;
}

static void apply_add_prefix(const struct tree_node *node, struct traefik_effects *effects)
{
    const char *prefix = node_value(node, "prefix");
    if (prefix == NULL || json_object_get(effects->fields, "target_path") != NULL) {
        refuse(effects, "no prefix, or more than one", STR("addPrefix"));
        return;
    }
    json_object_set_new(effects->fields, "target_path", json_string(prefix));
}

static void apply_retry(const struct tree_node *node, struct traefik_effects *effects)
{
    const char *attempts = node_value(node, "attempts");
    uint64_t count;
    if (attempts != NULL && str_to_u64(str_from_c(attempts), &count) == 0 && count > 0) {
        json_object_set_new(effects->fields, "retries",
                            json_integer((json_int_t)(count > 11 ? 10 : count - 1)));
    }
}

static void apply_buffering(const struct tree_node *node, struct traefik_effects *effects)
{
    const char *bytes = node_value(node, "maxRequestBodyBytes");
    uint64_t count;
    if (bytes != NULL && str_to_u64(str_from_c(bytes), &count) == 0 && count > 0) {
        char text[32];
        snprintf(text, sizeof text, "%llu", (unsigned long long)count);
        json_object_set_new(member(effects->fields, "limits"), "body", json_string(text));
    }
}

static const struct {
    const char *name;
    enum meaning meaning;
    void (*apply)(const struct tree_node *node, struct traefik_effects *effects);
} kinds[] = {
    {"headers", MEANS_FIELDS, apply_headers},
    {"ipAllowList", MEANS_FIELDS, apply_allow},
    {"ipWhiteList", MEANS_FIELDS, apply_allow},
    {"redirectScheme", MEANS_FIELDS, apply_redirect_scheme},
    {"stripPrefix", MEANS_FIELDS, apply_strip},
    {"addPrefix", MEANS_FIELDS, apply_add_prefix},
    {"retry", MEANS_FIELDS, apply_retry},
    {"buffering", MEANS_FIELDS, apply_buffering},
    {"circuitBreaker", MEANS_MORE, NULL},
    {"compress", MEANS_MORE, NULL},
    {"contentType", MEANS_MORE, NULL},
    {"errors", MEANS_MORE, NULL},
    {"inFlightReq", MEANS_MORE, NULL},
    {"rateLimit", MEANS_MORE, NULL},
    {"grpcWeb", MEANS_WHO, NULL},
    {"basicAuth", MEANS_WHO, NULL},
    {"digestAuth", MEANS_WHO, NULL},
    {"forwardAuth", MEANS_WHO, NULL},
    {"passTLSClientCert", MEANS_WHO, NULL},
    {"plugin", MEANS_WHO, NULL},
    {"redirectRegex", MEANS_WHO, NULL},
    {"replacePath", MEANS_WHO, NULL},
    {"replacePathRegex", MEANS_WHO, NULL},
    {"stripPrefixRegex", MEANS_WHO, NULL},
};

// ---- one after the other ----

// The names of a chain in place of it. False: too many.
static bool put_front(struct str *names, unsigned *count, const struct str *chain, unsigned more)
{
    if (*count + more > TRAEFIK_CHAIN_MAX) {
        return false;
    }
    memmove(names + more, names, *count * sizeof *names);
    memcpy(names, chain, more * sizeof *chain);
    *count += more;
    return true;
}

static void apply_kind(const struct tree_node *middleware, struct str name,
                       struct traefik_effects *effects)
{
    size_t at = middleware->from;
    struct str kind;
    struct tree_node node;
    bool is_known = false;
    if (!node_next(middleware, &at, &kind, &node)) {
        // "compress" = "true" has no folder.
        kind = str_from_c(middleware->tree->items[middleware->from].key + middleware->depth);
        node = (struct tree_node){.tree = middleware->tree};
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !is_known; i++) {
        if (!str_eq_case(kind, str_from_c(kinds[i].name))) {
            continue;
        }
        is_known = true;
        if (kinds[i].meaning == MEANS_WHO) {
            refuse(effects, "it has no equivalent here, and decides who gets what", name);
        } else if (kinds[i].meaning == MEANS_MORE) {
            if (middleware->tree->items[middleware->from].is_used) {
                continue; // told for another router
            }
            import_tell(middleware->tree->import, IMPORT_CHANGED, node_key(middleware),
                        "%s is left out: routers that use it are taken without it", kinds[i].name);
            node_use(middleware);
        } else {
            kinds[i].apply(&node, effects);
            node_tell_rest(&node);
        }
    }
    if (!is_known) {
        refuse(effects, "its kind is not known", name);
    }
}

void traefik_apply_middlewares(const struct tree_node *router, struct traefik_effects *effects)
{
    struct str names[TRAEFIK_CHAIN_MAX];
    int given = node_list(router, "middlewares", names, TRAEFIK_CHAIN_MAX);
    unsigned count = given < 0 ? 0 : (unsigned)given;
    unsigned done = 0;
    if (given < 0) {
        refuse(effects, "too many", STR("list"));
    }
    struct tree_node all = tree_find(router->tree, "http/middlewares");
    while (count > 0 && effects->reason[0] == '\0' && !effects->redirects) {
        char first[300];
        struct str name = names[0];
        memmove(names, names + 1, --count * sizeof *names);
        struct str own;
        str_copy(first, sizeof first, name);
        struct tree_node middleware = {0};
        if (traefik_own_name(first, &own)) {
            middleware = node_at(&all, own);
        }
        if (node_is_empty(&middleware)) {
            refuse(effects, "it is not in this Redis", name);
            break;
        }
        struct tree_node chain = node_at(&middleware, STR("chain"));
        struct str inner[TRAEFIK_CHAIN_MAX];
        int more =
            node_is_empty(&chain) ? -1 : node_list(&chain, "middlewares", inner, TRAEFIK_CHAIN_MAX);
        if (++done > TRAEFIK_CHAIN_MAX) {
            refuse(effects, "chains of chains without an end", name);
        } else if (more < 0) {
            apply_kind(&middleware, name, effects);
        } else if (!put_front(names, &count, inner, (unsigned)more)) {
            refuse(effects, "its chain is too long", name);
        }
    }
}
