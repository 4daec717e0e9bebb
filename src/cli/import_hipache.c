// SPDX-License-Identifier: MIT
// Hipache: a list "frontend:HOST" whose first element says who it belongs to, the others are URLs of backends,
// of which one is taken at random; "dead:HOST" are backends that did not answer. A host that is not there is
// looked for as "*.DOMAIN", then as "*". Of a URL the host and the port are used, nothing else.
#include "cli/import_int.h"

enum { BACKENDS_MAX = 1000, ADDRESS_MAX = 300 };

static bool is_frontend(const struct import *import, struct str key, struct str *host)
{
    *host = str_from(key, import->prefix.len);
    if (!str_starts(*host, STR("frontend:"))) {
        return false;
    }
    *host = str_from(*host, sizeof "frontend:" - 1);
    return true;
}

static bool wants(struct import *import, struct str key)
{
    struct str host;
    if (is_frontend(import, key, &host)) {
        return true;
    }
    struct str rest = str_from(key, import->prefix.len);
    if (str_starts(rest, STR("dead:"))) {
        import_tell(import, IMPORT_IGNORED, key,
                    "which targets answer is found out by requests and checks");
    } else if (str_eq(rest, STR("hchecker_ping"))) {
        import_tell(import, IMPORT_IGNORED, key,
                    "a heartbeat of hipache-hchecker: pools have checks of their own");
    } else {
        import->others++;
    }
    return false;
}

static unsigned command(struct str words[4])
{
    words[0] = STR("LRANGE");
    words[2] = STR("0");
    words[3] = STR("1001"); // the name, as many backends as a route has, and one more
    return 4;
}

bool hipache_backend(struct str url, char *to, size_t size, bool *has_path)
{
    struct str rest = url;
    bool is_tls = str_starts_case(url, STR("https://"));
    if (is_tls || str_starts_case(url, STR("http://"))) {
        rest = str_from(url, str_find(url, STR("://")) + 3);
    } else if (str_find(url, STR("://")) != SIZE_MAX || str_starts_case(url, STR("unix:"))) {
        return false;
    }
    size_t len = 0;
    while (len < rest.len && memchr("/?#", rest.p[len], 3) == NULL) {
        len++;
    }
    struct str path = str_from(rest, len);
    *has_path = path.len > 0 && !str_eq(path, STR("/"));
    struct str host = str_sub(rest, 0, len);
    size_t at = str_rfind_char(host, '@'); // credentials were not sent on either
    host = at == SIZE_MAX ? host : str_from(host, at + 1);
    if (host.len == 0 || host.p[0] == ':') {
        return false;
    }
    int used = snprintf(to, size, "%s%.*s", is_tls ? "https://" : "", STR_ARG(host));
    struct problems problems;
    problems_init(&problems);
    struct target_address address;
    char *memory = NULL;
    bool is_good =
        used > 0 && (size_t)used < size &&
        target_address_parse(str_make(to, (size_t)used), &address, &memory, "", &problems) == 0;
    if (is_good) {
        str_copy(to, size, address.text); // one way to write each
    }
    free(memory);
    problems_fini(&problems);
    return is_good;
}

// The same backend twice was taken twice as often.
static bool raise_weight(json_t *targets, const char *address)
{
    size_t i;
    json_t *target;
    json_array_foreach(targets, i, target)
    {
        if (strcmp(json_string_value(json_object_get(target, "address")), address) == 0) {
            json_int_t weight = json_integer_value(json_object_get(target, "weight"));
            json_object_set_new(target, "weight", json_integer(weight + 1));
            return true;
        }
    }
    return false;
}

static json_t *read_backends(struct import *import, struct str key, const struct redis_reply *list)
{
    json_t *targets = json_array();
    unsigned https = 0;
    unsigned paths = 0;
    for (unsigned i = 1; i < list->count; i++) {
        struct str url = redis_reply_item(list, i)->text;
        char address[ADDRESS_MAX];
        bool has_path = false;
        if (!hipache_backend(url, address, sizeof address, &has_path)) {
            import_tell(import, IMPORT_CHANGED, key, "backend \"%.*s\" is left out: no address",
                        (int)(url.len < 200 ? url.len : 200), url.p);
            continue;
        }
        https += str_starts(str_from_c(address), STR("https://"));
        paths += has_path;
        if (!raise_weight(targets, address)) {
            json_array_append_new(targets, json_pack("{s:s,s:i}", "address", address, "weight", 1));
        }
    }
    if (https > 0) {
        import_tell(import, IMPORT_CHANGED, key,
                    "%u https backends get TLS, with their certificates verified: Hipache spoke "
                    "plain HTTP to them",
                    https);
    }
    if (paths > 0) {
        import_tell(import, IMPORT_CHANGED, key,
                    "the paths of %u backends are left out, as Hipache did not send them: "
                    "target_path puts one in front",
                    paths);
    }
    return targets;
}

// It is a label in statistics and logs, as it was there.
static void set_tenant(struct import *import, struct str key, json_t *route, struct str name)
{
    struct problems problems;
    problems_init(&problems);
    char *good = NULL;
    if (declaration_key(NOUN_POOL, name, &good, &problems) == 0) { // names are alike
        json_object_set_new(route, "tenant", json_string(good));
    } else if (name.len > 0) {
        import_tell(import, IMPORT_CHANGED, key,
                    "the identifier \"%.*s\" is left out: no name here",
                    (int)(name.len < 200 ? name.len : 200), name.p);
    }
    free(good);
    problems_fini(&problems);
}

static void take(struct import *import, void *context, struct str key,
                 const struct redis_reply *list)
{
    (void)context;
    struct str host;
    if (!is_frontend(import, key, &host)) {
        return;
    }
    if (list->count > BACKENDS_MAX + 1) {
        import_tell(import, IMPORT_LEFT_OUT, key, "it has more than %d backends", BACKENDS_MAX);
        return;
    }
    if (list->type != REDIS_ARRAY || list->count == 0) {
        return; // gone meanwhile
    }
    json_t *targets = read_backends(import, key, list);
    json_t *route = json_object();
    set_tenant(import, key, route, redis_reply_item(list, 0)->text);
    if (json_array_size(targets) > 0) {
        json_object_set(route, "targets", targets);
    } else {
        // Without a route its requests would go to a wildcard: to somebody else.
        import_tell(import, IMPORT_CHANGED, key, "it has no backend: requests get 502, as there");
        json_object_set_new(route, "respond", json_pack("{s:i}", "status", 502));
    }
    json_decref(targets);
    import_put(import, key, NOUN_ROUTE, host, route);
}

void import_hipache(struct import *import)
{
    const struct import_source source = {.wants = wants, .command = command, .take = take};
    import_read(import, import->prefix, &source);
}
