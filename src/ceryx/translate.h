// SPDX-License-Identifier: MIT
// Between what Ceryx keeps of a host (a target URL and a few settings) and declarations: a route, for an https
// target its pool, and a certificate when the settings name its files. Both ways, for the API and for the keys
// in Redis. Pure functions but for ceryx_build(), which reads the files of a certificate; any thread.
//
//     target "http://app:8000"      route {"targets": ["app:8000"], …}
//     target "https://app/base"     pool "ceryx-HOST", whose targets are not verified (they never were), and a
//                                   route to it with "target_path"
//     mode "redirect"               route {"redirect": {"to": target, "status": 301}, …}
//     enforce_https "1"             "https": "require", "redirect_status": 301
//     certificate_path, key_path    certificate "ceryx-HOST" with chain_file and key_file, for this host
#pragma once
#include "cert/seal.h"
#include "store/store.h"

enum {
    CERYX_TARGET_MAX = 2048, // bytes of a target
    CERYX_PATH_MAX = 4000,   // bytes of a path of a certificate
    CERYX_CHANGE_MAX = 3,    // changes that a host needs at most
    CERYX_DIGESTS_LEN = 33,  // "SOURCEHASH:VALUEHASH"
    CERYX_NAME_MAX = 200,    // bytes of the name of a host's pool and certificate
};
#define CERYX_WILDCARD "$wildcard"

// What Ceryx keeps of a host, as it stands in Redis. Views; p NULL: not there.
struct ceryx_source {
    struct str host;   // as in the key, or "$wildcard"
    struct str target; // a URL; without a scheme it is http
    struct str enforce_https;
    struct str mode;
    struct str certificate_path;
    struct str key_path;
};

// The same as declarations: canonical JSON texts, malloc'ed.
struct ceryx_parts {
    char *key;         // of the route: the canonical host, "*" of "$wildcard"
    char *name;        // of pool and certificate, whether there are any
    char *route;       // NULL: none
    char *pool;        // NULL: none is needed
    char *certificate; // NULL: none; {"chain_file", "key_file", "hosts"}
};

// The canonical route key of a host of Ceryx: lower case A-labels, "*" of "$wildcard". Wildcards like "*.x" are
// none. 0 and *key (malloc); ERR_INVALID with a problem, ERR_MEMORY.
int ceryx_key(struct str host, char **key, struct problems *problems) WARN_UNUSED;
// The other way: the host as Ceryx names it, a view; p NULL: no host of Ceryx's ("*.x", "host/path").
struct str ceryx_host(struct str key);
// The name of the pool and the certificate of a route key, terminated.
void ceryx_name(struct str key, char to[CERYX_NAME_MAX + 1]);

// 0 and *parts (ceryx_parts_fini()), or with problems whose pointers name what is wrong ("/target", "/source"):
// ERR_INVALID (a target that is no URL, a host that is none), ERR_MEMORY. A source without a target is ERR_NOT_FOUND
// and says nothing. Fields and modes that are not known count for nothing.
int ceryx_translate(const struct ceryx_source *source, struct ceryx_parts *parts,
                    struct problems *problems) WARN_UNUSED;
void ceryx_parts_fini(struct ceryx_parts *parts);

// What is there already under a host's names, as the caller's store (or reader) says.
struct ceryx_present {
    bool has_route;
    bool has_pool;        // ceryx_name(), a pool
    bool has_certificate; // ceryx_name(), a certificate
};
// The changes that make *parts of what is there: in an order that a request may have, pool and certificate that
// are not needed any more deleted behind. `parts->route` NULL: all that is there is deleted. Without
// `with_certificate` the certificate is left out (its files cannot be read here). *count 0: nothing to do. 0; or
// with problems (a certificate's pointers begin with "/settings"), all changes empty: ERR_INVALID, ERR_MEMORY.
int ceryx_build(const struct seal *seal, const struct ceryx_parts *parts,
                const struct ceryx_present *present, bool with_certificate,
                struct store_change changes[CERYX_CHANGE_MAX], unsigned *count,
                struct problems *problems) WARN_UNUSED;

// The other way: what the API shows of a route. `pool` and `certificate` are the stored values of ceryx_name(),
// empty: there is none. Only a route with one http or https target (of its own, or of its ceryx_name() pool) or
// with an absolute redirect can be shown, on path "/". The texts are in `memory` (malloc, the caller frees it).
// 0; ERR_NOT_FOUND: it cannot be shown; ERR_MEMORY.
int ceryx_show(struct str key, struct str route, struct str pool, struct str certificate,
               struct ceryx_source *source, char **memory) WARN_UNUSED;

// ---- what is done in Redis together with a write (struct store_extra) ----

// 16 hexadecimal digits of all fields of the source, ':', the same of the route's stored value (canonical JSON);
// terminated. The same on all nodes and versions.
void ceryx_digests(const struct ceryx_source *source, struct str route_value,
                   char to[CERYX_DIGESTS_LEN + 1]);

// Each appends to *extras (a list; what is there stays first). 0, or ERR_MEMORY with the list as it was. `prefix` is
// Ceryx' (ceryx.prefix), `store_prefix` that of the store (store.prefix). Hosts stand in keys as in source->host.

// Guards: both keys of the host still hold just what the source says.
int ceryx_guard(const char *prefix, const struct ceryx_source *source,
                struct store_extra **extras) WARN_UNUSED;
// Companion: it is adopted with these digests (field source->host of "STORE_PREFIX:ceryx").
int ceryx_mark(const char *store_prefix, const struct ceryx_source *source, struct str route_value,
               struct store_extra **extras) WARN_UNUSED;
// Companion: it is not adopted any more.
int ceryx_unmark(const char *store_prefix, struct str host,
                 struct store_extra **extras) WARN_UNUSED;
// Companions: both keys are written as Ceryx writes them. Absent settings are left out.
int ceryx_write(const char *prefix, const struct ceryx_source *source,
                struct store_extra **extras) WARN_UNUSED;
// Companion: both keys are deleted.
int ceryx_erase(const char *prefix, struct str host, struct store_extra **extras) WARN_UNUSED;
