// SPDX-License-Identifier: MIT
// Traefik's provider for Redis: its configuration as a tree of keys, "traefik/http/routers/NAME/rule". All is read
// before anything is written, as routers refer to the rest.
#include "cli/import_traefik_int.h"
#include "cli/input.h"

static bool wants(struct import *import, struct str key)
{
    struct str rest = str_from(key, import->prefix.len + 1);
    if (rest.len == 0 || memchr(rest.p, '\0', rest.len) != NULL) {
        import_tell(import, IMPORT_LEFT_OUT, key, "no key of Traefik");
        return false;
    }
    return true;
}

static unsigned command(struct str words[4])
{
    words[0] = STR("GETRANGE");
    words[2] = STR("0");
    words[3] = STR("1048576");
    return 4;
}

static void take(struct import *import, void *context, struct str key,
                 const struct redis_reply *reply)
{
    struct tree *tree = context;
    if (reply->text.len > IMPORT_VALUE_MAX ||
        (reply->text.len > 0 && memchr(reply->text.p, '\0', reply->text.len) != NULL)) {
        import_tell(import, IMPORT_LEFT_OUT, key, "longer than 1 MiB, or no text");
        return;
    }
    tree_add(tree, str_from(key, import->prefix.len + 1), reply->text);
}

// ---- certificates ----

static void put_certificate(struct tree *tree, const struct tree_node *node, struct str name)
{
    const char *chain = node_value(node, "certFile");
    const char *key = node_value(node, "keyFile");
    struct str source = node_key(node);
    if (chain == NULL || key == NULL) {
        import_tell(tree->import, IMPORT_LEFT_OUT, source,
                    "certFile and keyFile are not both there");
        node_use(node);
        return;
    }
    bool has_text = str_starts(str_from_c(chain), STR("-----BEGIN"));
    if (!has_text && (chain[0] != '/' || key[0] != '/')) {
        import_tell(tree->import, IMPORT_LEFT_OUT, source,
                    "neither PEM texts nor absolute paths of files");
        node_use(node);
        return;
    }
    struct buf label;
    buf_init(&label, 0);
    buf_printf(&label, "%.*s-%.*s", STR_ARG(tree->import->prefix), STR_ARG(name));
    json_t *value = json_pack("{s:s,s:s}", has_text ? "chain" : "chain_file", chain,
                              has_text ? "key" : "key_file", key);
    import_put(tree->import, source, NOUN_CERTIFICATE, buf_str(&label), value);
    buf_fini(&label);
    struct tree_node stores = node_at(node, STR("stores"));
    node_use(&stores); // there is one
    node_tell_rest(node);
}

static void put_certificates(struct tree *tree)
{
    struct tree_node all = tree_find(tree, "tls/certificates");
    struct str name;
    struct tree_node node;
    for (size_t at = all.from; node_next(&all, &at, &name, &node);) {
        put_certificate(tree, &node, name);
    }
    struct tree_node standard = tree_find(tree, "tls/stores/default/defaultCertificate");
    if (!node_is_empty(&standard)) {
        import_tell(tree->import, IMPORT_CHANGED, node_key(&standard),
                    "taken for the names in it: hosts [\"*\"] makes it the default");
        put_certificate(tree, &standard, STR("default"));
    }
}

// ---- what is left ----

static void tell_children(struct tree *tree, const char *path, enum import_level level,
                          const char *reason)
{
    struct tree_node all = tree_find(tree, path);
    struct str name;
    struct tree_node node;
    for (size_t at = all.from; node_next(&all, &at, &name, &node);) {
        bool is_used = false;
        for (size_t i = node.from; i < node.to; i++) {
            is_used = is_used || tree->items[i].is_used;
        }
        if (!is_used) {
            import_tell(tree->import, level, node_key(&node), "%s", reason);
            node_use(&node);
        }
    }
}

static void tell_rest(struct tree *tree)
{
    static const char unused[] = "no router that is taken uses it";
    static const char streams[] = "TCP and UDP are not proxied: `passthrough` is for TLS";
    tell_children(tree, "http/services", IMPORT_IGNORED, unused);
    tell_children(tree, "http/middlewares", IMPORT_IGNORED, unused);
    tell_children(tree, "http/serversTransports", IMPORT_IGNORED, unused);
    tell_children(tree, "tls/options", IMPORT_CHANGED, "left out: tls.profile of the node counts");
    tell_children(tree, "tcp/routers", IMPORT_LEFT_OUT, streams);
    tell_children(tree, "udp/routers", IMPORT_LEFT_OUT, streams);
    tell_children(tree, "tcp", IMPORT_IGNORED, streams);
    tell_children(tree, "udp", IMPORT_IGNORED, streams);
    struct tree_node all = {.tree = tree, .to = tree->count};
    node_tell_rest(&all);
}

void import_traefik(struct import *import)
{
    struct tree tree = {.import = import};
    const struct import_source source = {
        .wants = wants, .command = command, .take = take, .context = &tree};
    struct buf prefix;
    buf_init(&prefix, 0);
    buf_put(&prefix, import->prefix);
    buf_put_char(&prefix, '/');
    if (prefix.failed) {
        import_fail(import, "out of memory");
    } else {
        import_read(import, buf_str(&prefix), &source);
    }
    buf_fini(&prefix);
    tree_sort(&tree);
    if (!import->has_failed) {
        put_certificates(&tree);
        traefik_put_routers(&tree);
    }
    if (!import->has_failed) {
        tell_rest(&tree);
    }
    traefik_free_services(&tree);
    tree_fini(&tree);
}
