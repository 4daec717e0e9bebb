// SPDX-License-Identifier: MIT
// From declarations to what Ceryx' API shows of a host.
#include "ceryx/translate.h"
#include "model/value.h"
#include <stdlib.h>

struct decoded {
    struct declaration *route;
    struct declaration *pool;
    struct declaration *certificate;
};

// NULL: there is none, or it cannot be decoded.
static struct declaration *decode(enum noun noun, struct str key, struct str text)
{
    json_t *value = text.len == 0 ? NULL : json_loadb(text.p, text.len, 0, NULL);
    struct problems ignored;
    struct declaration *declaration = NULL;
    unsigned unknown = 0;
    problems_init(&ignored);
    if (value != NULL &&
        declaration_decode(noun, key, value, DECODE_FEED, &declaration, &unknown, &ignored) != 0) {
        declaration = NULL;
    }
    problems_fini(&ignored);
    json_decref(value);
    return declaration;
}

static bool is_absolute(struct str url)
{
    return str_starts_case(url, STR("http://")) || str_starts_case(url, STR("https://"));
}

// The one target that the route sends to; NULL: another kind of route.
static const struct target_address *only_target(const struct decoded *decoded, struct str name)
{
    const struct route_decl *route = &decoded->route->route;
    const struct target_decl *targets = NULL;
    unsigned count = 0;
    if (route->action == ROUTE_TARGETS) {
        targets = route->targets;
        count = route->target_count;
    } else if (route->action == ROUTE_POOL && decoded->pool != NULL && str_eq(route->pool, name)) {
        targets = decoded->pool->pool.targets;
        count = decoded->pool->pool.target_count;
    }
    if (count != 1 || targets[0].address.is_unix || targets[0].address.scheme == TARGET_H2C ||
        route->passthrough) {
        return NULL;
    }
    return &targets[0].address;
}

// "http://app:8000/base"; the port that the scheme implies is left out.
static void put_url(struct buf *out, const struct target_address *address, struct str path)
{
    bool is_https = address->scheme == TARGET_HTTPS;
    struct str text = address->text;
    struct str implied = is_https ? STR(":443") : STR(":80");
    buf_put(out, is_https ? STR("") : STR("http://"));
    buf_put(out, str_ends(text, implied) ? str_sub(text, 0, text.len - implied.len) : text);
    buf_put(out, path);
}

// Appends the target. False: it cannot be shown.
static bool put_target(struct buf *out, const struct decoded *decoded, struct str name)
{
    const struct route_decl *route = &decoded->route->route;
    if (route->action == ROUTE_REDIRECT) {
        buf_put(out, route->redirect.to);
        return is_absolute(route->redirect.to) && route->redirect.keep_path;
    }
    const struct target_address *address = only_target(decoded, name);
    if (address == NULL) {
        return false;
    }
    put_url(out, address, route->target_path);
    return true;
}

// The texts lie one after the other in the block that the caller gets.
static int fill(struct str key, const struct decoded *decoded, struct str name,
                struct ceryx_source *source, char **memory)
{
    const struct route_decl *route = &decoded->route->route;
    const struct certificate_decl *files =
        decoded->certificate == NULL ? NULL : &decoded->certificate->certificate;
    struct buf out;
    buf_init(&out, 0);
    bool is_shown = put_target(&out, decoded, name);
    size_t target_len = out.len;
    size_t chain_len = files == NULL ? 0 : files->chain_file.len;
    size_t key_len = files == NULL ? 0 : files->key_file.len;
    if (chain_len > 0 && key_len > 0) {
        buf_put(&out, files->chain_file);
        buf_put(&out, files->key_file);
    }
    if (!is_shown || out.failed) {
        int err = out.failed ? ERR_MEMORY : ERR_NOT_FOUND;
        buf_fini(&out);
        return err;
    }
    *source = (struct ceryx_source){
        .host = ceryx_host(key),
        .target = str_make(out.p, target_len),
        .enforce_https = route->https_required ? STR("1") : STR("0"),
        .mode = route->action == ROUTE_REDIRECT ? STR("redirect") : STR("proxy"),
    };
    if (chain_len > 0 && key_len > 0) {
        source->certificate_path = str_make(out.p + target_len, chain_len);
        source->key_path = str_make(out.p + target_len + chain_len, key_len);
    }
    *memory = out.p;
    return 0;
}

int ceryx_show(struct str key, struct str route, struct str pool, struct str certificate,
               struct ceryx_source *source, char **memory)
{
    char name[CERYX_NAME_MAX + 1];
    *memory = NULL;
    if (ceryx_host(key).p == NULL) {
        return ERR_NOT_FOUND;
    }
    ceryx_name(key, name);
    struct decoded decoded = {
        .route = decode(NOUN_ROUTE, key, route),
        .pool = decode(NOUN_POOL, str_from_c(name), pool),
        .certificate = decode(NOUN_CERTIFICATE, str_from_c(name), certificate),
    };
    int err = decoded.route == NULL ? ERR_NOT_FOUND
                                    : fill(key, &decoded, str_from_c(name), source, memory);
    declaration_free(&decoded.route);
    declaration_free(&decoded.pool);
    declaration_free(&decoded.certificate);
    return err;
}
