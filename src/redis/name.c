// SPDX-License-Identifier: MIT
// Names of hosts are asked for on the loop, again by their TTL, as long as they may be needed. The last
// good answer is kept: a name server that is away breaks no connection.
#include "net/address.h"
#include "net/resolver.h"
#include "redis/redis_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 1000, TTL_MIN_MS = 1000, TTL_MAX_MS = 30000 };

void redis_names_init(struct redis_names *names, struct loop *loop,
                      void (*on_answer)(struct redis_names *names))
{
    *names = (struct redis_names){.loop = loop, .on_answer = on_answer};
}

static void forget(struct redis_name *name)
{
    resolver_unwatch(&name->watch);
    free(name->host);
    *name = (struct redis_name){.names = name->names};
}

void redis_names_fini(struct redis_names *names)
{
    for (unsigned i = 0; i <= REDIS_HOST_MAX; i++) {
        forget(&names->items[i]);
    }
    resolver_free(&names->resolver);
}

static void on_answer(void *context, const struct resolver_result *result)
{
    struct redis_name *name = context;
    name->has_answer = true;
    if (result->count == 0) {
        str_copy(name->why, sizeof name->why, str_from_c(result->error));
    } else {
        name->count =
            result->count < REDIS_NAME_ADDRESS_MAX ? result->count : REDIS_NAME_ADDRESS_MAX;
        name->at %= name->count;
        memcpy(name->addresses, result->addresses, name->count * sizeof name->addresses[0]);
    }
    name->names->on_answer(name->names);
}

static int start_resolver(struct redis_names *names)
{
    static const struct resolver_config config = {
        .timeout_ms = TIMEOUT_MS, .min_ttl_ms = TTL_MIN_MS, .max_ttl_ms = TTL_MAX_MS};
    int err = names->resolver == NULL ? resolver_new(&names->resolver, &config) : 0;
    if (err != 0) {
        return err;
    }
    err = resolver_start(names->resolver, names->loop, names->loop);
    if (err != 0) {
        resolver_free(&names->resolver);
    }
    return err;
}

static int watch(struct redis_names *names, struct redis_name *name, const char *host)
{
    int err = names->resolver == NULL ? start_resolver(names) : 0;
    forget(name);
    name->names = names;
    name->host = err == 0 ? str_dup(str_from_c(host)) : NULL;
    if (err == 0 && name->host == NULL) {
        err = ERR_MEMORY;
    }
    if (err == 0) {
        err = resolver_watch(names->resolver, str_from_c(host), on_answer, name, &name->watch);
    }
    if (err != 0) {
        forget(name);
    }
    return err;
}

// "10.0.0.7" and "::1" need no asking.
static bool make_literal(const char *host, uint16_t port, struct sockaddr_storage *address,
                         socklen_t *len)
{
    char text[REDIS_PEER_MAX];
    bool is_v6 = strchr(host, ':') != NULL;
    struct in6_addr unused;
    if (net_parse_in6(str_from_c(host), &unused) != 0) {
        return false;
    }
    int written = snprintf(text, sizeof text, is_v6 ? "[%s]:%u" : "%s:%u", host, port);
    return net_parse_listen(str_make(text, (size_t)written), address, len) == 0;
}

int redis_names_find(struct redis_names *names, unsigned at, const char *host, uint16_t port,
                     struct sockaddr_storage *address, socklen_t *len, unsigned *left,
                     const char **why)
{
    struct redis_name *name = &names->items[at];
    *left = 0;
    if (make_literal(host, port, address, len)) {
        return STEP_DONE;
    }
    if (name->host == NULL || strcmp(name->host, host) != 0) {
        int err = watch(names, name, host);
        if (err != 0) {
            *why = err_text(err);
            return err == ERR_MEMORY ? err : ERR_UNAVAILABLE;
        }
    }
    if (name->count > 0) {
        *address = name->addresses[name->at];
        *len = address->ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                             : sizeof(struct sockaddr_in6);
        net_set_port(address, port);
        *left = name->count - 1;
        return STEP_DONE;
    }
    *why = name->why;
    return name->has_answer ? ERR_UNAVAILABLE : STEP_AGAIN;
}

void redis_names_failed(struct redis_names *names, unsigned at)
{
    struct redis_name *name = &names->items[at];
    if (name->count > 1) {
        name->at = (name->at + 1) % name->count;
    }
}
