// SPDX-License-Identifier: MIT
// The nouns as they are declared: C structs from JSON and back. One codec per noun serves the API, the
// CLI, the files and every store. A decoded declaration owns all its memory in one block
// (declaration_free). Pure functions; any thread, one object by one thread at a time.
#pragma once
#include "model/problem.h"
#include <jansson.h>
#include <netinet/in.h>

// NOUN_TICKETS is internal: the session ticket keys, one record "current", which travels with the feed so
// that all workers (and nodes) have the same; no API, no export.
enum noun {
    NOUN_ROUTE,
    NOUN_POOL,
    NOUN_CERTIFICATE,
    NOUN_TENANT,
    NOUN_KEY,
    NOUN_TICKETS,
    NOUN_COUNT
};

// "route", "routes"; noun_find takes either, or -1. Text that lives forever.
struct str noun_name(enum noun noun);
struct str noun_plural(enum noun noun);
int noun_find(struct str name);
// Can this version decode it? The others are names that are known.
bool noun_is_supported(enum noun noun);

// DECODE_STRICT (API, CLI) refuses unknown fields and names the nearest known one; DECODE_FEED ignores
// them and counts them in *unknown (a newer node wrote the record).
enum decode_mode { DECODE_STRICT, DECODE_FEED };

enum target_state { TARGET_UP, TARGET_DRAIN, TARGET_DOWN };

enum target_scheme { TARGET_HTTP, TARGET_HTTPS, TARGET_H2C };

// "10.0.0.5:8080", "[::1]:80", "app.internal:3000", "unix:/run/x.sock", with an optional "http://",
// "https://" (default port 443) or "h2c://". The default port is 80.
struct target_address {
    struct str
        text; // canonical, as shown: without "http://" (the other schemes are kept), host lower
              // case, port always there; terminated
    enum target_scheme scheme;
    struct str host; // name or address without port and brackets; the path for unix:
    uint16_t port;   // 0 for unix:
    bool is_unix;
    bool is_name; // host must be resolved
    // Filled for literal addresses (AF_INET, AF_INET6), and for unix: family AF_UNIX only.
    struct sockaddr_storage sockaddr;
    socklen_t sockaddr_len;
};

struct target_decl {
    struct target_address address;
    unsigned weight; // 0 to 65535, default 1
    enum target_state state;
    struct str zone;
    bool backup;              // used only when no other target can be
    unsigned max_connections; // open to it from this node at a time; 0: no bound
};

struct split_decl {
    struct str pool;
    unsigned weight; // 0 to 65535; not all 0
};

struct header_decl {
    struct str name;
    struct str value; // unused in `remove`
};

// `remove` is done first, then `set` (which replaces what is there). Names are as declared, unique
// without case, and never those that belong to the proxy (hop-by-hop, framing, Host).
struct header_rules {
    struct header_decl *set;
    unsigned set_count;
    struct header_decl *remove;
    unsigned remove_count;
};

// Network prefix of allow and deny: IPv4 as ::ffff:a.b.c.d.
struct cidr {
    struct in6_addr address;
    uint8_t bits; // of 128
};

// Each in ms; 0: not declared, the next level's value holds (route over pool over config).
struct timeouts_decl {
    unsigned connect_ms;
    unsigned response_ms;
    unsigned idle_ms; // between bytes of a body
    unsigned tunnel_idle_ms;
    unsigned request_ms; // the whole exchange with all its attempts, but tunnels; 0: no bound
};

enum route_action { ROUTE_POOL, ROUTE_SPLIT, ROUTE_TARGETS, ROUTE_REDIRECT, ROUTE_RESPOND };
enum host_header { HOST_KEEP, HOST_TARGET, HOST_LITERAL };
enum retry_on {
    RETRY_CONNECT = 1, // could not connect
    RETRY_RESET = 2,   // closed before the first byte of a response
    RETRY_502 = 4,
    RETRY_503 = 8,
    RETRY_504 = 16,
    RETRY_TIMEOUT = 32, // no response head in time
};

struct route_decl {
    struct str host; // canonical: lower case A-labels, no port, no trailing dot; "*.x" or "*"
    struct str path; // canonical: normalised, "/" or without a final "/"
    enum route_action action;
    struct str pool;
    struct split_decl *split;
    unsigned split_count;
    struct target_decl *targets;
    unsigned target_count;
    struct {
        struct str to;   // absolute http(s) URL or absolute path; no query or fragment if keep_path
        unsigned status; // 301, 302, 303, 307, 308 (default)
        bool keep_path;  // default true: the path (with strip_path what follows the route's) and
                         // the query are appended
    } redirect;
    struct {
        unsigned status; // 200 to 599, default 200
        struct str body;
        struct str content_type; // guessed from the body when not declared; empty without a body
    } respond;
    struct str tenant; // empty: none
    bool https_required;
    unsigned redirect_status; // of the https redirect, default 308
    unsigned hsts_sec;        // 0: none; else Strict-Transport-Security: max-age, on https
    struct {
        struct str ca; // PEM; empty: not declared
        bool is_required;
    } client_auth;    // for the whole host; path "/" only
    bool passthrough; // raw TLS by SNI; path "/" only, with pool, split or targets
    // Empty: none. Else "/" or a canonical path without a final '/': goes in front of the path that is
    // sent on (with strip_path: of what follows the route's path), with one '/' between.
    struct str target_path;
    bool strip_path;
    enum host_header host_header;
    struct str host_literal; // canonical host with its port if declared
    struct header_rules request_headers;
    struct header_rules response_headers;
    struct cidr *allow;
    unsigned allow_count;
    struct cidr *deny;
    unsigned deny_count;
    uint64_t buffer_request; // bytes; 0: none
    bool has_body_limit;
    uint64_t body_limit; // bytes; 0: no bound
    struct timeouts_decl timeouts;
    unsigned retries;  // default 1, at most 10
    unsigned retry_on; // bits of enum retry_on, default RETRY_CONNECT | RETRY_RESET
    struct {
        bool is_set;
        unsigned status; // default 503
        struct str body;
        struct str content_type;  // as in respond
        unsigned retry_after_sec; // 0: none
    } unavailable;
    bool access_log; // default true
};

enum balance { BALANCE_LEAST_REQUESTS, BALANCE_ROUND_ROBIN, BALANCE_RANDOM_TWO, BALANCE_HASH };

// What a request is hashed by. HASH_KEY: the API key that it shows (X-Api-Key, else the credentials of
// Authorization, else the query field api_key).
enum hash_by {
    HASH_NONE,
    HASH_CLIENT_IP,
    HASH_PATH,
    HASH_HEADER,
    HASH_COOKIE,
    HASH_QUERY,
    HASH_FORM,
    HASH_KEY
};

struct hash_decl {
    enum hash_by by;
    struct str name; // of the header, cookie, query or form field; headers in lower case
};

struct sticky_decl {
    struct str cookie; // empty: off
    unsigned ttl_sec;  // Max-Age; 0: for the browser's session
    bool stays;        // "draining": "stay": sticky requests still go to a target that drains
};

struct status_range {
    uint16_t from, to;
};

enum health_type { HEALTH_OFF, HEALTH_HTTP, HEALTH_TCP };
enum health_scheme { HEALTH_SCHEME_TARGET, HEALTH_SCHEME_HTTP, HEALTH_SCHEME_HTTPS };
enum pool_protocol { POOL_AUTO, POOL_HTTP1, POOL_H2, POOL_H2C };
enum send_proxy { SEND_PROXY_OFF, SEND_PROXY_V1, SEND_PROXY_V2 };

// TLS to targets with https://.
struct pool_tls_decl {
    bool verify;                   // default true
    struct str server_name;        // SNI and the name verified; empty: the Host that is sent
    struct str ca;                 // PEM; empty: the system's
    struct str client_certificate; // name of a certificate; empty: none
};

// Active checks. Defaults stand in docs/health.md; HEALTH_OFF: not declared, all else is unset.
struct health_decl {
    enum health_type type;
    struct str path; // with query; "/" by default
    struct str host; // Host of the check; empty: the target's address
    unsigned port;   // 0: the target's
    enum health_scheme scheme;
    unsigned interval_ms;
    unsigned timeout_ms;
    unsigned rise;
    unsigned fall;
    struct status_range *statuses; // expected; 200-399 by default
    unsigned status_count;
    struct str body;          // must stand in the first 64 KiB of the answer; empty: any
    bool has_tls;             // tls is declared: else that of the pool
    struct pool_tls_decl tls; // of checks over https
};

// Failures of requests. max_fails 0: off.
struct passive_decl {
    unsigned max_fails;            // default 3
    unsigned fail_timeout_ms;      // within which; default 10 s
    struct status_range *statuses; // answers that count as failures; none by default
    unsigned status_count;
};

struct pool_decl {
    struct target_decl *targets;
    unsigned target_count;
    enum balance balance;
    struct hash_decl hash;
    struct sticky_decl sticky;
    enum pool_protocol protocol;
    enum send_proxy send_proxy;
    struct health_decl health;
    struct passive_decl passive;
    struct {
        unsigned
            max_percent; // of the pool's targets, at most; default 50. Of two or more at least 1
        unsigned base_time_ms; // default 10 s; doubled by each ejection in a row
        unsigned max_time_ms;  // default 300 s
    } eject;
    unsigned panic_percent; // default 50: with fewer usable targets ejections are ignored; 0: never
    struct pool_tls_decl tls;
    struct {
        unsigned requests_per_target; // under way from this node at a time; 0: no bound
        unsigned queue;               // requests that wait for one of these; 0: none waits
        unsigned queue_timeout_ms;    // default 1 s
    } limits;
    unsigned retry_budget;  // percent of requests that may be sent again; default 20; 100: no bound
    unsigned slow_start_ms; // default 0
    struct {
        unsigned idle;       // connections kept per target over all workers, default 64
        unsigned timeout_ms; // default 60 s
    } keepalive;
    struct timeouts_decl timeouts;
};

// What a certificate says; found by cert_check(), stored with it, not declared.
struct certificate_facts {
    uint64_t not_before; // Unix seconds
    uint64_t not_after;
    struct str subject; // RFC 2253
    struct str issuer;
    struct str serial;      // hexadecimal
    struct str fingerprint; // SHA-256 of the leaf, 64 lower case hexadecimal digits
    struct str content;     // SHA-256 over the whole chain: tells a renewed chain from the same one
    struct str key_type;    // "ec-p256", "ec-p384", "rsa-2048", "ed25519" …
};

struct certificate_decl {
    struct str
        chain; // PEM, leaf first. Secret part: chain and key are not in the stored value, but in
    struct str key;        // store_change.secret
    struct str chain_file; // instead of both; absolute paths
    struct str key_file;
    struct str *hosts; // declared, canonical; none: from the SANs
    unsigned host_count;
    // Of the stored value: read from a feed; ignored in what a client declares, then cert_check().
    struct str *names; // what it is chosen by: hosts, or the SANs
    unsigned name_count;
    struct certificate_facts facts;
};

// A decoded declaration of any noun.
struct declaration {
    enum noun noun;
    char *key; // canonical key: "host" or "host/path" (routes), the name (others); owned
    union {
        struct route_decl route;
        struct pool_decl pool;
        struct certificate_decl certificate;
    };
    void *memory; // all that the struct points to; owned
};

// Decodes and checks `value` (an object). `key` is the canonical key when the caller has one (from
// declaration_key), or empty: then it is made from the value (routes only). What only other
// declarations can tell (does the pool exist) is not checked here.
// `unknown` may be NULL. Every problem is reported, with the JSON pointer of what is wrong.
// 0 and *out (free with declaration_free), or the negative err that problems->err holds.
int declaration_decode(enum noun noun, struct str key, json_t *value, enum decode_mode mode,
                       struct declaration **out, unsigned *unknown,
                       struct problems *problems) WARN_UNUSED;
void declaration_free(struct declaration **declaration);

// What a pool is that declares nothing: the defaults of docs/pools.md, no targets. Owns nothing.
void declaration_default_pool(struct pool_decl *pool);

// The canonical JSON value: declared fields only, in the order of the tables in the docs, host and path
// included for routes. A new reference, or NULL when out of memory. Equal declarations give equal text
// (json_dumps with JSON_COMPACT).
json_t *declaration_encode(const struct declaration *declaration);

// Certificates: what cert_check() found, copied into the declaration's memory. 0, or ERR_MEMORY.
int certificate_set_facts(struct declaration *declaration, const struct certificate_facts *facts,
                          const struct str *names, unsigned name_count) WARN_UNUSED;
// The secret part as JSON text ({"chain": …, "key": …}; malloc), NULL: none (files), or no memory (*err).
char *certificate_encode_secret(const struct declaration *declaration, int *err);
// The other way: chain and key (malloc, the caller frees both). 0, or ERR_INVALID, ERR_MEMORY.
int certificate_decode_secret(struct str text, char **chain, char **key) WARN_UNUSED;

// The canonical key from one as it stands in a URL, already percent-decoded: for routes
// "Shop.Example.com./api/" gives "shop.example.com/api", "h/" gives "h"; IDNs become A-labels.
// Names of the other nouns: see name_is_valid() in value.h; they stay as they are.
// 0 and *key (malloc), or ERR_INVALID with a problem.
int declaration_key(enum noun noun, struct str text, char **key,
                    struct problems *problems) WARN_UNUSED;

// What a declaration refers to: calls `visit` for each (noun, key), e.g. (NOUN_POOL, "shop-web").
void declaration_references(const struct declaration *declaration,
                            void (*visit)(void *context, enum noun noun, struct str key),
                            void *context);

// The JSON pointer of the reference that was visited as number `index` (from 0): "/pool",
// "/split/1/pool". Terminated; returns the length.
size_t declaration_reference_pointer(const struct declaration *declaration, unsigned index,
                                     char *to, size_t size);

// JSON text to a tree: any JSON value, no repeated keys, no NUL in strings, nesting bounded. A new
// reference, or NULL with a problem (ERR_SYNTAX, line and column in the detail; or ERR_MEMORY).
json_t *model_json_parse(struct str text, struct problems *problems);

// RFC 7386: a new reference, or NULL when out of memory. Neither argument is changed.
json_t *json_merge_patch(json_t *target, json_t *patch);

// 0, or ERR_INVALID with a problem at `pointer`. Views in *out live in `memory` (a malloc block that
// the caller frees).
int target_address_parse(struct str text, struct target_address *out, char **memory,
                         const char *pointer, struct problems *problems) WARN_UNUSED;
