// SPDX-License-Identifier: MIT
// Routers become routes: each host and path prefix of a rule is one. Several routers may say the same place, one
// for http and one for https; then a redirect to https becomes `https: require` of the other.
#include "base/array.h"
#include "cli/import_traefik_int.h"
#include <strings.h>

struct router {
    struct tree_node node;
    char *name;
    const char *service;
    json_t *fields;
    uint64_t priority;
    bool is_tls;
    bool redirects;
    bool is_useful; // something of it is served
    unsigned redirect_status;
    struct str strip[16];
    unsigned strip_count;
};

// A place of a router.
struct place {
    char *key; // of the route, canonical
    struct router *router;
};

struct routers {
    struct tree *tree;
    struct router *items;
    size_t count;
    size_t size;
    struct place *places; // sorted by key
    size_t place_count;
    size_t place_size;
};

static void leave_out(struct routers *all, const struct tree_node *node, const char *why)
{
    import_tell(all->tree->import, IMPORT_LEFT_OUT, node_key(node), "%s", why);
    node_use(node);
}

// ---- reading ----

static bool is_public(const struct args *args, struct str name)
{
    static const struct str known[] = {{"web", 3}, {"websecure", 9}, {"http", 4}, {"https", 5}};
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (str_eq_case(name, known[i])) {
            return true;
        }
    }
    unsigned index = 0;
    const char *given;
    while ((given = args_next_flag(args, "entry-point", &index)) != NULL) {
        if (str_eq_case(name, str_from_c(given))) {
            return true;
        }
    }
    return false;
}

// All entry points are all listeners here: one that is for insiders must not become everybody's.
static bool check_entry_points(struct routers *all, const struct tree_node *node)
{
    struct str names[64];
    int count = node_list(node, "entryPoints", names, 64);
    for (int i = 0; i < count; i++) {
        if (is_public(all->tree->import->args, names[i])) {
            return true;
        }
    }
    if (count == 0) {
        return true;
    }
    import_tell(all->tree->import, IMPORT_LEFT_OUT, node_key(node),
                "its entry point is not known to be for everybody: --entry-point %.*s takes it",
                count < 0 ? 4 : (int)names[0].len, count < 0 ? "NAME" : names[0].p);
    node_use(node);
    return false;
}

// What stands under tls of a router. False: left out.
static bool read_tls(struct routers *all, const struct tree_node *node, struct router *router)
{
    router->is_tls = node_has(node, "tls");
    struct tree_node tls = node_at(node, STR("tls"));
    const char *options = node_value(&tls, "options");
    if (options != NULL && strcasecmp(options, "default") != 0) {
        struct str own;
        struct tree_node known = tree_find(all->tree, "tls/options");
        struct tree_node option =
            traefik_own_name(options, &own) ? node_at(&known, own) : (struct tree_node){0};
        struct tree_node auth = node_at(&option, STR("clientAuth"));
        if (node_is_empty(&option) || !node_is_empty(&auth)) {
            leave_out(all, node,
                      "its tls/options asks for client certificates, or is not known: "
                      "declare client_auth");
            return false;
        }
        import_tell(all->tree->import, IMPORT_CHANGED, node_key(&tls),
                    "options %.100s are left out: tls.profile of the node counts", options);
    }
    const char *resolver = node_value(&tls, "certResolver");
    if (resolver != NULL) {
        import_tell(all->tree->import, IMPORT_CHANGED, node_key(&tls),
                    "certResolver %.100s is left out: its certificate must be put", resolver);
    }
    struct tree_node domains = node_at(&tls, STR("domains"));
    node_use(&domains); // what the resolver is asked for
    return true;
}

static bool read_parts(struct routers *all, const struct tree_node *node, struct router *router)
{
    const char *rule = node_value(node, "rule");
    const char *priority = node_value(node, "priority");
    node_value(node, "ruleSyntax"); // what is understood means the same in both
    router->service = node_value(node, "service");
    struct traefik_effects effects = {.fields = router->fields};
    traefik_apply_middlewares(node, &effects);
    router->redirects = effects.redirects;
    router->redirect_status = effects.redirect_status;
    memcpy(router->strip, effects.strip, sizeof router->strip);
    router->strip_count = effects.strip_count;
    if (effects.reason[0] != '\0') {
        leave_out(all, node, effects.reason);
        return false;
    }
    if (rule == NULL || (router->service == NULL && !router->redirects)) {
        leave_out(all, node, rule == NULL ? "it has no rule" : "it has no service");
        return false;
    }
    if (priority == NULL || str_to_u64(str_from_c(priority), &router->priority) != 0 ||
        router->priority == 0) {
        router->priority = strlen(rule);
    }
    return true;
}

static bool add_place(struct routers *all, struct router *router, const struct rule_term *term)
{
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, term->host.len > 0 ? term->host : STR("*"));
    buf_put(&text, term->path);
    struct problems problems;
    problems_init(&problems);
    char *key = NULL;
    bool is_good =
        !text.failed && declaration_key(NOUN_ROUTE, buf_str(&text), &key, &problems) == 0;
    buf_fini(&text);
    if (!is_good) {
        leave_out(all, &router->node, problems.count > 0 ? problems.items[0].detail : "no memory");
        problems_fini(&problems);
        return false;
    }
    if (!ARRAY_ROOM(all->places, all->place_count, all->place_size, 256)) {
        free(key);
        import_fail(all->tree->import, "out of memory");
        return false;
    }
    all->places[all->place_count++] = (struct place){key, router};
    return true;
}

static void read_rule(struct routers *all, struct router *router)
{
    static struct rule rule; // too large for the stack of a loop
    char reason[RULE_REASON_MAX];
    const char *text = node_value(&router->node, "rule");
    if (rule_parse(str_from_c(text), &rule, reason) != 0) {
        leave_out(all, &router->node, reason);
        return;
    }
    if (rule.count == 0) {
        leave_out(all, &router->node, "no request can fit its rule");
        return;
    }
    size_t before = all->place_count;
    bool has_wildcard = false;
    for (unsigned i = 0; i < rule.count; i++) {
        if (!add_place(all, router, &rule.terms[i])) {
            while (all->place_count > before) {
                free(all->places[--all->place_count].key);
            }
            return;
        }
        has_wildcard = has_wildcard || str_starts(rule.terms[i].host, STR("*."));
    }
    if (has_wildcard) {
        import_tell(all->tree->import, IMPORT_CHANGED, node_key(&router->node),
                    "a wildcard is for names of any depth here");
    }
}

static void read_router(struct routers *all, struct router *router, const struct tree_node *node,
                        struct str name)
{
    *router = (struct router){.node = *node, .name = str_dup(name), .fields = json_object()};
    if (router->name == NULL || router->fields == NULL) {
        import_fail(all->tree->import, "out of memory");
        return;
    }
    if (!check_entry_points(all, node) || !read_parts(all, node, router) ||
        !read_tls(all, node, router)) {
        return;
    }
    struct tree_node observability = node_at(node, STR("observability"));
    node_use(&observability);
    node_tell_rest(node);
    read_rule(all, router);
}

static void read_routers(struct routers *all)
{
    struct tree_node routers = tree_find(all->tree, "http/routers");
    struct str name;
    struct tree_node node;
    size_t count = 0;
    for (size_t at = routers.from; node_next(&routers, &at, &name, &node);) {
        count++;
    }
    all->items = count == 0 ? NULL : calloc(count, sizeof *all->items); // places point into it
    if (count > 0 && all->items == NULL) {
        import_fail(all->tree->import, "out of memory");
        return;
    }
    for (size_t at = routers.from;
         !all->tree->import->has_failed && node_next(&routers, &at, &name, &node);) {
        read_router(all, &all->items[all->count++], &node, name);
    }
}

// ---- who goes first ----

static int compare_places(const void *a, const void *b)
{
    const struct place *one = a;
    const struct place *other = b;
    int order = strcmp(one->key, other->key);
    if (order != 0) {
        return order;
    }
    // The first of a place is the one that is taken.
    if (one->router->redirects != other->router->redirects) {
        return one->router->redirects ? 1 : -1;
    }
    if (one->router->is_tls != other->router->is_tls) {
        return one->router->is_tls ? -1 : 1;
    }
    if (one->router->priority != other->router->priority) {
        return one->router->priority > other->router->priority ? -1 : 1;
    }
    return strcmp(one->router->name, other->router->name);
}

// The first place of that key, or NULL.
static const struct place *find_place(const struct routers *all, struct str key)
{
    size_t from = 0;
    size_t to = all->place_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (str_cmp(str_from_c(all->places[middle].key), key) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    bool is_there = from < all->place_count && str_eq(str_from_c(all->places[from].key), key);
    return is_there ? &all->places[from] : NULL;
}

// What is known of the places that hold a place as well.
struct around {
    const struct router *first; // goes before it in Traefik, for all its requests
    struct router *redirector;  // sends its plain http to https
};

static void look_at(const struct routers *all, const struct place *place, struct str key,
                    struct around *around)
{
    const struct place *wider = find_place(all, key);
    const struct place *end = all->places + all->place_count;
    for (; wider != NULL && wider < end && str_eq(str_from_c(wider->key), key); wider++) {
        struct router *other = wider->router;
        if (other == place->router) {
            continue;
        }
        if (other->redirects) {
            around->redirector = other;
        } else if (strcmp(wider->key, place->key) != 0 && other->is_tls == place->router->is_tls &&
                   other->priority > place->router->priority) {
            around->first = other;
        }
    }
}

// All paths above the place's, for one host.
static void look_at_host(const struct routers *all, const struct place *place, struct str host,
                         struct str path, struct around *around)
{
    struct buf key;
    buf_init(&key, 0);
    for (;;) {
        buf_clear(&key);
        buf_put(&key, host);
        buf_put(&key, path);
        if (key.failed) {
            break;
        }
        look_at(all, place, buf_str(&key), around);
        if (path.len == 0) {
            break;
        }
        path = str_sub(path, 0, str_rfind_char(path, '/'));
    }
    buf_fini(&key);
}

static void look_around(const struct routers *all, const struct place *place, struct around *around)
{
    struct str key = str_from_c(place->key);
    size_t slash = str_find_char(key, '/');
    struct str host = slash == SIZE_MAX ? key : str_sub(key, 0, slash);
    struct str path = slash == SIZE_MAX ? STR_NULL : str_from(key, slash);
    look_at_host(all, place, host, path, around);
    struct str rest = str_starts(host, STR("*.")) ? str_from(host, 2) : host;
    while (!str_eq(host, STR("*"))) {
        size_t dot = str_find_char(rest, '.');
        if (dot == SIZE_MAX) {
            look_at_host(all, place, STR("*"), path, around);
            break;
        }
        rest = str_from(rest, dot + 1);
        char wildcard[300];
        int len = snprintf(wildcard, sizeof wildcard, "*.%.*s", STR_ARG(rest));
        if (len > 0 && (size_t)len < sizeof wildcard) {
            look_at_host(all, place, str_make(wildcard, (size_t)len), path, around);
        }
    }
}

// ---- writing ----

static bool is_same(const struct router *a, const struct router *b)
{
    return a->service != NULL && b->service != NULL && strcmp(a->service, b->service) == 0 &&
           json_equal(a->fields, b->fields) != 0 && a->strip_count == b->strip_count;
}

// Strips the route's own path, or nothing.
static bool put_strip(const struct place *place, json_t *route)
{
    struct str key = str_from_c(place->key);
    size_t slash = str_find_char(key, '/');
    struct str path = slash == SIZE_MAX ? STR("/") : str_from(key, slash);
    for (unsigned i = 0; i < place->router->strip_count; i++) {
        struct str prefix = place->router->strip[i];
        while (prefix.len > 1 && prefix.p[prefix.len - 1] == '/') {
            prefix.len--;
        }
        if (str_eq(prefix, path)) {
            json_object_set_new(route, "strip_path", json_true());
            return true;
        }
    }
    return place->router->strip_count == 0;
}

static bool put_service(struct routers *all, const struct place *place, json_t *route)
{
    const struct traefik_service *service = traefik_find_service(all->tree, place->router->service);
    const char *why = service->reason;
    bool has_path = json_object_get(route, "target_path") != NULL;
    if (why[0] == '\0' && has_path && service->target_path != NULL) {
        why = "addPrefix with a path of its servers is not understood";
    }
    if (why[0] != '\0') {
        leave_out(all, &place->router->node, why);
        return false;
    }
    if (service->split != NULL) {
        json_object_set(route, "split", service->split);
    } else {
        json_object_set_new(route, "pool", json_string(service->pool));
    }
    if (service->host_target) {
        json_object_set_new(route, "host_header", json_string("target"));
    }
    if (service->target_path != NULL) {
        json_object_set_new(route, "target_path", json_string(service->target_path));
    }
    return true;
}

static void put_place(struct routers *all, const struct place *place, struct around *around,
                      bool is_for_both)
{
    struct router *router = place->router;
    json_t *route = json_copy(router->fields);
    if (route == NULL) {
        import_fail(all->tree->import, "out of memory");
        return;
    }
    if (!put_strip(place, route)) {
        import_tell(all->tree->import, IMPORT_LEFT_OUT, node_key(&router->node),
                    "stripPrefix of something else than its path %s is not understood", place->key);
        json_decref(route);
        return;
    }
    if (!put_service(all, place, route)) {
        json_decref(route);
        return;
    }
    if (around->redirector != NULL) {
        around->redirector->is_useful = true;
        json_object_set_new(route, "https", json_string("require"));
        json_object_set_new(route, "redirect_status",
                            json_integer(around->redirector->redirect_status));
    } else if (router->is_tls && !is_for_both) {
        json_object_set_new(route, "https", json_string("require"));
    }
    router->is_useful = true;
    import_put(all->tree->import, node_key(&router->node), NOUN_ROUTE, str_from_c(place->key),
               route);
}

// places[from, to) are the same place.
static void put_group(struct routers *all, size_t from, size_t to)
{
    struct place *first = &all->places[from];
    if (first->router->redirects) {
        return; // nobody to redirect to
    }
    struct around around = {0};
    look_around(all, first, &around);
    bool is_for_both = false;
    for (size_t i = from + 1; i < to; i++) {
        struct router *other = all->places[i].router;
        if (other == first->router || other->redirects) {
            continue;
        }
        if (is_same(first->router, other)) {
            is_for_both = is_for_both || !other->is_tls;
            other->is_useful = true;
            continue;
        }
        import_tell(all->tree->import, IMPORT_LEFT_OUT, node_key(&other->node),
                    "router %s has the same place %s", first->router->name, first->key);
    }
    if (around.first != NULL) {
        import_tell(all->tree->import, IMPORT_LEFT_OUT, node_key(&first->router->node),
                    "%s: requests never come to it, router %s goes first", first->key,
                    around.first->name);
        return;
    }
    put_place(all, first, &around, is_for_both);
}

static void put_places(struct routers *all)
{
    if (all->place_count > 0) {
        qsort(all->places, all->place_count, sizeof *all->places, compare_places);
    }
    for (size_t from = 0; from < all->place_count && !all->tree->import->has_failed;) {
        size_t to = from + 1;
        while (to < all->place_count && strcmp(all->places[to].key, all->places[from].key) == 0) {
            to++;
        }
        put_group(all, from, to);
        from = to;
    }
    for (size_t i = 0; i < all->place_count && !all->tree->import->has_failed; i++) {
        struct router *router = all->places[i].router;
        if (router->redirects && !router->is_useful) {
            router->is_useful = true; // told once
            leave_out(all, &router->node, "it redirects to https, where no router is taken");
        }
    }
}

void traefik_put_routers(struct tree *tree)
{
    struct routers all = {.tree = tree};
    read_routers(&all);
    put_places(&all);
    for (size_t i = 0; i < all.place_count; i++) {
        free(all.places[i].key);
    }
    for (size_t i = 0; i < all.count; i++) {
        free(all.items[i].name);
        json_decref(all.items[i].fields);
    }
    free(all.places);
    free(all.items);
}
