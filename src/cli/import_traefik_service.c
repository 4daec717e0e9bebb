// SPDX-License-Identifier: MIT
// Services: load balancers are pools, weighted ones are splits; of mirrors and failovers the main service is taken.
#include "cli/import_traefik_int.h"
#include <strings.h>

enum { HOPS_MAX = 8 }; // mirroring of a failover of …

static void refuse(struct traefik_service *service, const char *why, const char *about)
{
    if (service->reason[0] == '\0') {
        snprintf(service->reason, sizeof service->reason, "service %s: %s", about, why);
    }
}

bool traefik_own_name(const char *text, struct str *name)
{
    struct str provider;
    return !str_split(str_from_c(text), '@', name, &provider) ||
           str_eq_case(provider, STR("redis"));
}

int64_t traefik_duration(const char *text)
{
    static const struct {
        struct str name;
        int64_t ms;
    } units[] = {{{"ms", 2}, 1}, {{"h", 1}, 3600000}, {{"m", 1}, 60000}, {{"s", 1}, 1000}};
    struct str rest = str_from_c(text);
    int64_t sum = 0;
    uint64_t number;
    if (str_to_u64(rest, &number) == 0) {
        return number > 1000000 ? -1 : (int64_t)number * 1000;
    }
    while (rest.len > 0) {
        size_t digits = 0;
        while (digits < rest.len && ascii_is_digit(rest.p[digits])) {
            digits++;
        }
        if (digits > 9 || str_to_u64(str_sub(rest, 0, digits), &number) != 0) {
            return -1;
        }
        rest = str_from(rest, digits);
        size_t unit = 0;
        while (unit < 4 && !str_starts(rest, units[unit].name)) {
            unit++;
        }
        if (unit == 4) {
            return -1;
        }
        rest = str_from(rest, units[unit].name.len);
        sum += (int64_t)number * units[unit].ms;
    }
    return text[0] == '\0' ? -1 : sum;
}

// A duration as it is written here, when it is there and not 0.
static void put_duration(json_t *object, const char *member, const char *text)
{
    int64_t ms = text == NULL ? 0 : traefik_duration(text);
    if (ms > 0) {
        char value[32];
        snprintf(value, sizeof value, "%lldms", (long long)ms);
        json_object_set_new(object, member, json_string(value));
    }
}

// ---- servers ----

struct reading {
    struct tree *tree;
    struct traefik_service *service;
    const char *name;
    json_t *pool;
};

static bool split_url(const char *url, struct str *address, struct str *path)
{
    struct str text = str_from_c(url);
    size_t scheme = str_find(text, STR("://"));
    if (scheme == SIZE_MAX) {
        return false;
    }
    struct str rest = str_from(text, scheme + 3);
    size_t len = 0;
    while (len < rest.len && memchr("/?#", rest.p[len], 3) == NULL) {
        len++;
    }
    *address = str_sub(text, 0, scheme + 3 + len);
    *path = str_from(rest, len);
    return len > 0;
}

static void read_server(struct reading *r, const struct tree_node *server, json_t *targets)
{
    const char *url = node_value(server, "url");
    const char *weight = node_value(server, "weight");
    bool keeps_path = node_is_true(server, "preservePath");
    struct str address;
    struct str path;
    uint64_t number = 1;
    if (url == NULL || !split_url(url, &address, &path)) {
        refuse(r->service, "a server has no URL that is understood", r->name);
        return;
    }
    if (weight != NULL && str_to_u64(str_from_c(weight), &number) != 0) {
        refuse(r->service, "the weight of a server is not understood", r->name);
    }
    bool has_path = path.len > 0 && !str_eq(path, STR("/"));
    if (has_path && !keeps_path) {
        import_tell(r->tree->import, IMPORT_CHANGED, node_key(server),
                    "the path of its URL is left out, as it was not sent on");
    }
    struct str wanted = has_path && keeps_path ? path : STR_NULL;
    if (json_array_size(targets) == 0 && wanted.len > 0) {
        r->service->target_path = str_dup(wanted);
    } else if (!str_eq(wanted, str_from_c(r->service->target_path))) {
        refuse(r->service, "servers with different paths are not understood", r->name);
    }
    json_array_append_new(targets, json_pack("{s:s%,s:I}", "address", address.p, address.len,
                                             "weight", (json_int_t)number));
}

static void read_servers(struct reading *r, const struct tree_node *balancer)
{
    struct tree_node servers = node_at(balancer, STR("servers"));
    json_t *targets = json_array();
    struct str name;
    struct tree_node server;
    for (size_t at = servers.from; node_next(&servers, &at, &name, &server);) {
        read_server(r, &server, targets);
    }
    json_object_set_new(r->pool, "targets", targets);
}

// ---- what a load balancer has besides ----

static void read_health(struct reading *r, const struct tree_node *balancer)
{
    struct tree_node check = node_at(balancer, STR("healthCheck"));
    if (node_is_empty(&check)) {
        return;
    }
    const char *mode = node_value(&check, "mode");
    const char *method = node_value(&check, "method");
    if ((mode != NULL && strcasecmp(mode, "http") != 0) ||
        (method != NULL && strcasecmp(method, "GET") != 0)) {
        import_tell(r->tree->import, IMPORT_CHANGED, node_key(&check),
                    "checks other than by GET are left out: the pool has none");
        node_use(&check);
        return;
    }
    json_t *health = json_object();
    const char *path = node_value(&check, "path");
    const char *interval = node_value(&check, "interval");
    const char *timeout = node_value(&check, "timeout");
    int64_t interval_ms = interval == NULL ? 30000 : traefik_duration(interval);
    json_object_set_new(health, "path", json_string(path != NULL ? path : "/"));
    put_duration(health, "interval", interval != NULL ? interval : "30s");
    put_duration(health, "timeout",
                 timeout != NULL      ? timeout
                 : interval_ms < 5000 ? interval
                                      : "5s");
    static const char *const texts[][2] = {
        {"hostname", "host"}, {"scheme", "scheme"}, {"status", "status"}};
    for (unsigned i = 0; i < 3; i++) {
        const char *value = node_value(&check, texts[i][0]);
        if (value != NULL && strcmp(value, "0") != 0) {
            json_object_set_new(health, texts[i][1], json_string(value));
        }
    }
    const char *port = node_value(&check, "port");
    uint64_t number;
    if (port != NULL && str_to_u64(str_from_c(port), &number) == 0 && number > 0) {
        json_object_set_new(health, "port", json_integer((json_int_t)number));
    }
    node_value(&check, "followRedirects"); // a redirect is an answer of 200-399
    json_object_set_new(r->pool, "health", health);
    node_tell_rest(&check);
}

static void read_sticky(struct reading *r, const struct tree_node *balancer)
{
    if (!node_has(balancer, "sticky")) {
        return;
    }
    struct tree_node sticky = node_at(balancer, STR("sticky"));
    bool is_on = node_is_true(&sticky, "cookie");
    struct tree_node cookie = node_at(&sticky, STR("cookie"));
    if (node_is_empty(&cookie) && !is_on) {
        return;
    }
    const char *name = node_value(&cookie, "name");
    const char *age = node_value(&cookie, "maxAge");
    uint64_t seconds = 0;
    if (age != NULL && str_to_u64(str_from_c(age), &seconds) != 0) {
        seconds = 0;
    }
    char ttl[32];
    snprintf(ttl, sizeof ttl, "%llus", (unsigned long long)seconds);
    json_object_set_new(
        r->pool, "sticky",
        json_pack("{s:s,s:s}", "cookie", name != NULL ? name : "pm_target", "ttl", ttl));
    node_value(&cookie, "httpOnly"); // as it is here
    node_tell_rest(&cookie);
}

static void read_transport(struct reading *r, const char *name)
{
    struct str own;
    struct tree_node all = tree_find(r->tree, "http/serversTransports");
    struct tree_node node = {0};
    if (traefik_own_name(name, &own)) {
        node = node_at(&all, own);
    }
    if (node_is_empty(&node)) {
        refuse(r->service, "its serversTransport is not in this Redis", r->name);
        return;
    }
    json_t *tls = json_object();
    json_t *timeouts = json_object();
    json_t *keepalive = json_object();
    if (node_is_true(&node, "insecureSkipVerify")) {
        json_object_set_new(tls, "verify", json_false());
    }
    const char *server_name = node_value(&node, "serverName");
    if (server_name != NULL) {
        json_object_set_new(tls, "server_name", json_string(server_name));
    }
    struct str cas[16];
    int ca_count = node_list(&node, "rootCAs", cas, 16);
    if (ca_count < 0 || ca_count > 1 || (ca_count == 1 && !str_starts(cas[0], STR("-----BEGIN")))) {
        refuse(r->service, "rootCAs is understood if it is one PEM text: declare tls.ca", r->name);
    } else if (ca_count == 1) {
        json_object_set_new(tls, "ca", json_stringn(cas[0].p, cas[0].len));
    }
    struct tree_node client = node_at(&node, STR("certificates"));
    struct tree_node spiffe = node_at(&node, STR("spiffe"));
    if (!node_is_empty(&client) || !node_is_empty(&spiffe)) {
        refuse(r->service, "client certificates are not taken: declare tls.client_certificate",
               r->name);
    }
    struct tree_node given = node_at(&node, STR("forwardingTimeouts"));
    put_duration(timeouts, "connect", node_value(&given, "dialTimeout"));
    put_duration(timeouts, "response", node_value(&given, "responseHeaderTimeout"));
    put_duration(keepalive, "timeout", node_value(&given, "idleConnTimeout"));
    if (node_is_true(&node, "disableHTTP2")) {
        json_object_set_new(r->pool, "protocol", json_string("http1"));
    }
    json_object_set_new(r->pool, "tls", tls);
    json_object_set_new(r->pool, "timeouts", timeouts);
    json_object_set_new(r->pool, "keepalive", keepalive);
    node_tell_rest(&node);
}

static void read_balancer(struct reading *r, const struct tree_node *node)
{
    struct tree_node balancer = node_at(node, STR("loadBalancer"));
    const char *strategy = node_value(&balancer, "strategy");
    if (strategy == NULL || strcasecmp(strategy, "wrr") == 0) {
        json_object_set_new(r->pool, "balance", json_string("round_robin"));
    } else if (strcasecmp(strategy, "p2c") == 0) {
        json_object_set_new(r->pool, "balance", json_string("random_two"));
    } else if (strcasecmp(strategy, "hrw") == 0) {
        json_object_set_new(r->pool, "balance", json_string("hash"));
        json_object_set_new(r->pool, "hash", json_string("client_ip"));
    } else {
        import_tell(r->tree->import, IMPORT_CHANGED, node_key(&balancer),
                    "strategy %.100s is left out: least_requests is taken", strategy);
    }
    read_servers(r, &balancer);
    read_health(r, &balancer);
    read_sticky(r, &balancer);
    const char *passes = node_value(&balancer, "passHostHeader");
    r->service->host_target = passes != NULL && strcasecmp(passes, "false") == 0;
    const char *transport = node_value(&balancer, "serversTransport");
    if (transport != NULL) {
        read_transport(r, transport);
    }
    struct tree_node forwarding = node_at(&balancer, STR("responseForwarding"));
    node_use(&forwarding); // everything is passed on as it comes
    node_tell_rest(&balancer);
}

// ---- services ----

static const char out_of_memory[] = "out of memory";

// A load balancer becomes a pool of its name.
static void put_pool(struct tree *tree, const char *name, const struct tree_node *node,
                     struct traefik_service *service)
{
    struct reading reading = {tree, service, name, json_object()};
    struct str own;
    traefik_own_name(name, &own);
    service->pool = str_dup(own);
    read_balancer(&reading, node);
    struct str source = node_key(node);
    if (service->reason[0] == '\0' &&
        !import_put(tree->import, source, NOUN_POOL, own, json_incref(reading.pool))) {
        refuse(service, "it cannot be a pool", name);
    }
    json_decref(reading.pool);
}

// The folder of a service; empty: there is none.
static struct tree_node find_service(struct tree *tree, const char *name)
{
    struct str own;
    struct tree_node all = tree_find(tree, "http/services");
    return traefik_own_name(name, &own) ? node_at(&all, own) : (struct tree_node){.tree = tree};
}

// What is known of the service in a folder, or a new one, which is still to be read (*is_new).
static struct traefik_service *remember(struct tree *tree, const struct tree_node *node,
                                        bool *is_new)
{
    static struct traefik_service none;
    *is_new = false;
    if (tree->services == NULL) {
        tree->services = calloc(tree->count, sizeof(struct traefik_service *));
    }
    struct traefik_service **slot = tree->services == NULL ? NULL : &tree->services[node->from];
    if (slot != NULL && *slot == NULL) {
        *slot = calloc(1, sizeof **slot);
        *is_new = *slot != NULL;
    }
    if (slot == NULL || *slot == NULL) {
        import_fail(tree->import, out_of_memory);
        refuse(&none, out_of_memory, "");
        return &none;
    }
    return *slot;
}

// The pool of a load balancer that is a part of something else.
static const struct traefik_service *part(struct tree *tree, const char *name,
                                          struct traefik_service *whole)
{
    struct tree_node node = find_service(tree, name);
    struct tree_node balancer = node_at(&node, STR("loadBalancer"));
    if (node_is_empty(&balancer)) {
        refuse(whole, "it is no load balancer in this Redis", name);
        return NULL;
    }
    bool is_new;
    struct traefik_service *service = remember(tree, &node, &is_new);
    if (is_new) {
        put_pool(tree, name, &node, service);
    }
    if (service->reason[0] != '\0') {
        str_copy(whole->reason, sizeof whole->reason, str_from_c(service->reason));
        return NULL;
    }
    return service;
}

static bool are_alike(const struct traefik_service *a, const struct traefik_service *b)
{
    return a->host_target == b->host_target &&
           str_eq(str_from_c(a->target_path), str_from_c(b->target_path));
}

static void read_weighted(struct tree *tree, const char *name, const struct tree_node *weighted,
                          struct traefik_service *service)
{
    struct tree_node parts = node_at(weighted, STR("services"));
    const struct traefik_service *first = NULL;
    json_t *split = json_array();
    struct str number;
    struct tree_node child;
    for (size_t at = parts.from; node_next(&parts, &at, &number, &child);) {
        const char *part_name = node_value(&child, "name");
        const char *weight = node_value(&child, "weight");
        uint64_t share = 1;
        if (part_name == NULL || (weight != NULL && str_to_u64(str_from_c(weight), &share) != 0)) {
            refuse(service, "a part has no name, or no weight", name);
            break;
        }
        const struct traefik_service *found = part(tree, part_name, service);
        if (found == NULL) {
            break;
        }
        first = first == NULL ? found : first;
        if (!are_alike(first, found)) {
            refuse(service, "its parts differ in passHostHeader or paths", name);
        }
        json_array_append_new(
            split, json_pack("{s:s,s:I}", "pool", found->pool, "weight", (json_int_t)share));
    }
    if (first == NULL) {
        refuse(service, "it has no parts", name);
    } else {
        service->host_target = first->host_target;
        service->target_path =
            first->target_path == NULL ? NULL : str_dup(str_from_c(first->target_path));
    }
    service->split = split;
    node_tell_rest(weighted);
}

// The main service of a mirror or a failover; NULL: it is neither.
static const char *main_service(const struct tree_node *node)
{
    static const char *const kinds[] = {"mirroring", "failover"};
    for (unsigned i = 0; i < 2; i++) {
        struct tree_node folder = node_at(node, str_from_c(kinds[i]));
        const char *name = node_is_empty(&folder) ? NULL : node_value(&folder, "service");
        if (name != NULL) {
            import_tell(node->tree->import, IMPORT_CHANGED, node_key(&folder),
                        "%s is left out: its service %.200s is taken alone", kinds[i], name);
            node_use(&folder);
            return name;
        }
    }
    return NULL;
}

static void read_service(struct tree *tree, const char *name, struct tree_node node,
                         struct traefik_service *service)
{
    const char *main = NULL;
    for (unsigned hop = 0; hop < HOPS_MAX && (main = main_service(&node)) != NULL; hop++) {
        name = main;
        node = find_service(tree, name);
    }
    struct tree_node balancer = node_at(&node, STR("loadBalancer"));
    struct tree_node weighted = node_at(&node, STR("weighted"));
    if (!node_is_empty(&weighted)) {
        read_weighted(tree, name, &weighted, service);
    } else if (!node_is_empty(&balancer)) {
        bool is_new = false;
        struct traefik_service *known = remember(tree, &node, &is_new);
        if (known == service || is_new) {
            put_pool(tree, name, &node, known);
        }
        if (known != service) {
            str_copy(service->reason, sizeof service->reason, str_from_c(known->reason));
            service->pool = str_dup(str_from_c(known->pool));
            service->host_target = known->host_target;
            service->target_path =
                known->target_path == NULL ? NULL : str_dup(str_from_c(known->target_path));
        }
    } else {
        refuse(service, "its kind is not known, or it is not in this Redis", name);
    }
}

const struct traefik_service *traefik_find_service(struct tree *tree, const char *name)
{
    static struct traefik_service missing;
    struct tree_node node = find_service(tree, name);
    if (node_is_empty(&node)) {
        missing.reason[0] = '\0';
        refuse(&missing, "it is not in this Redis", name);
        return &missing;
    }
    bool is_new;
    struct traefik_service *service = remember(tree, &node, &is_new);
    if (is_new) {
        read_service(tree, name, node, service);
    }
    return service;
}

void traefik_free_services(struct tree *tree)
{
    for (size_t i = 0; tree->services != NULL && i < tree->count; i++) {
        if (tree->services[i] != NULL) {
            json_decref(tree->services[i]->split);
            free(tree->services[i]->pool);
            free(tree->services[i]->target_path);
            free(tree->services[i]);
        }
    }
    free(tree->services);
    tree->services = NULL;
}
